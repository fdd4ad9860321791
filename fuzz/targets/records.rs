//! Whatever is sent to a listener with TLS, before or after the handshake, and however it is cut: what was sealed before comes
//! back, nothing else does, and the loop comes to rest. The first byte says how it is cut, and whether both have agreed.

#![no_main]

use echoloop::{
    Echo,
    testing::{Loop, ToyTls},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [how, bytes @ ..] = bytes else { return };
    let net = Loop::new(|_| Some(Echo));
    let position = net.listen_tls(ToyTls::new().record_bytes(3));
    let connector = net.client().listener(position);
    let has_agreed = how & 1 == 1;
    let client = if has_agreed { connector.tls("fuzz.example").connect() } else { connector.connect() };
    if has_agreed {
        client.send("good");
    }
    for piece in bytes.chunks(usize::from(how >> 1).max(1)) {
        client.send_raw(piece);
    }
    let received = client.received();
    if has_agreed && !client.was_reset() {
        assert!(received.starts_with(b"good"));
    }
    client.truncate();
    assert!(!client.is_open());
});
