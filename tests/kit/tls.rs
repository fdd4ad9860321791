//! TLS without cryptography.

use std::time::Duration;

use echoloop::{
    CloseReason, Config, Context, Echo, Input, Protocol, TlsInfo,
    testing::{Client, Loop, ToyTls},
};

/// An echo over TLS, with these limits.
fn echo_with(config: Config) -> (Loop<'static, Echo>, usize) {
    let net = Loop::with_config(config, |_| Some(Echo));
    let position = net.listen_tls(ToyTls::new());
    (net, position)
}

fn echo() -> (Loop<'static, Echo>, usize) {
    echo_with(Config::default())
}

fn connect(net: &Loop<'static, Echo>, position: usize) -> Client<'static, Echo> {
    net.client().listener(position).tls("echo.example").connect()
}

#[test]
fn what_is_sent_before_both_have_agreed_comes_behind_the_handshake() {
    let mut config = Config::default();
    config.max_connections = Some(1);
    let (net, position) = echo_with(config);
    let first = connect(&net, position);
    let second = connect(&net, position);
    second.send(b"early");
    assert!(!second.is_open() && second.received().is_empty());
    first.end();
    assert_eq!(second.received(), b"early");
}

#[test]
fn everything_is_echoed_however_it_is_cut_into_records_and_pieces() {
    for record_bytes in [1, 2, 5, 100, 16_384] {
        let net = Loop::new(|_| Some(Echo));
        let position = net.listen_tls(ToyTls::new().record_bytes(record_bytes));
        for piece in [1, 3, 7, 1000] {
            let toy = ToyTls::new().record_bytes(record_bytes);
            let client = net.client().listener(position).tls(toy).buffer_bytes(50).connect();
            let said: Vec<u8> = (0..=255).cycle().take(500).collect();
            for bytes in client.seal(&said).chunks(piece) {
                client.send_raw(bytes);
            }
            client.end();
            assert_eq!(client.received(), said, "{record_bytes}, {piece}");
            assert!(client.has_close_notify());
            assert_eq!(client.close_reason(), Some(CloseReason::Peer));
        }
    }
}

#[test]
fn a_handshake_can_come_in_single_bytes() {
    let (net, position) = echo();
    let (before, hello) = {
        let client = net.client().listener(position).connect();
        (client, toy_hello())
    };
    for byte in hello {
        assert_eq!(before.received(), b"");
        before.send_raw([byte]);
    }
    assert!(!before.received().is_empty(), "the server's hello");
}

/// A client's hello, without a name.
fn toy_hello() -> Vec<u8> {
    let net = Loop::new(|_| Some(Listen::default()));
    let client = net.client().tls(ToyTls::new()).connect();
    client.protocol(|listen| listen.0.clone()).expect("it is there")
}

/// Keeps what comes.
#[derive(Default)]
struct Listen(Vec<u8>);

impl Protocol for Listen {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        self.0.extend_from_slice(input.take());
    }
}

#[test]
fn both_see_what_they_have_agreed_on() {
    let seen = std::cell::RefCell::new(None);
    let net = Loop::new(|peer| {
        *seen.borrow_mut() = peer.tls();
        Some(Echo)
    });
    let position = net.listen_tls(ToyTls::new().alpn(["h2", "echo"]).certificate("the server's"));
    let toy = ToyTls::from("echo.example").alpn(["echo", "h3"]).certificate("the client's");
    let client = net.client().listener(position).tls(toy).connect();
    let of_server = seen.borrow().clone().expect("the factory was asked");
    assert_eq!(of_server.server_name.as_deref(), Some("echo.example"));
    assert_eq!(of_server.alpn.as_deref(), Some(&b"echo"[..]));
    assert_eq!(of_server.peer_certificates, [b"the client's".to_vec()]);
    let of_client = client.tls().expect("both have agreed");
    assert_eq!(of_client.alpn, of_server.alpn);
    assert_eq!(of_client.peer_certificates, [b"the server's".to_vec()]);
}

#[test]
fn a_handshake_has_its_time() {
    let mut config = Config::default();
    config.handshake_timeout = Some(Duration::from_secs(3));
    let (net, position) = echo_with(config);
    let client = net.client().listener(position).connect();
    for byte in toy_hello() {
        client.send_raw([byte]);
        net.advance(Duration::from_millis(200));
        if client.close_reason().is_some() {
            break;
        }
    }
    net.advance(Duration::from_secs(3));
    assert_eq!(client.close_reason(), Some(CloseReason::HandshakeTimeout));
    assert!(client.was_reset());
}

#[test]
fn who_only_connects_has_abandoned_its_handshake() {
    let (net, position) = echo();
    for leave in [Client::end, Client::reset, Client::close] {
        let client = net.client().listener(position).connect();
        leave(&client);
        assert_eq!(client.close_reason(), Some(CloseReason::HandshakeAbandoned));
    }
}

#[test]
fn who_speaks_no_tls_is_told_so_and_not_reset() {
    let (net, position) = echo();
    let client = net.client().listener(position).connect();
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    assert!(!client.received().is_empty() && client.has_fin());
    client.end();
    assert!(!client.was_reset());
    assert_eq!(client.close_reason(), Some(CloseReason::HandshakeFailed));
}

/// Begins TLS when it is asked to, and notes what happens.
#[derive(Default)]
struct Upgrade {
    happened: Vec<&'static str>,
}

impl Protocol for Upgrade {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        if input.bytes().starts_with(b"TLS") {
            input.consume(3);
            cx.write(b"ok");
            cx.start_tls(ToyTls::new().acceptor());
            self.happened.push("asked");
        } else {
            self.happened.push("data");
            cx.forward(input);
        }
    }

    fn on_tls(&mut self, _: &TlsInfo, _: &mut Context<'_>) {
        self.happened.push("tls");
    }
}

#[test]
fn plaintext_behind_the_wish_for_tls_is_not_taken_for_a_secret() {
    let net = Loop::new(|_| Some(Upgrade::default()));
    let client = net.connect();
    client.send(b"TLSevil");
    assert_eq!(client.close_reason(), Some(CloseReason::HandshakeFailed));
    assert!(client.was_reset());
}

#[test]
fn a_record_that_comes_slowly_is_no_silence() {
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_secs(3));
    config.linger_silence_timeout = Some(Duration::from_secs(3));
    let (net, position) = echo_with(config);
    let client = connect(&net, position);
    let (first, second) = (client.seal(b"hello, server"), client.seal(b"and more"));
    for byte in first {
        net.advance(Duration::from_secs(2));
        client.send_raw([byte]);
    }
    assert_eq!(client.received(), b"hello, server");
    net.advance(Duration::from_secs(3));
    assert!(client.has_fin(), "now it was idle");
    for byte in second {
        net.advance(Duration::from_secs(2));
        client.send_raw([byte]);
    }
    assert!(client.is_open());
    client.end();
    assert_eq!(client.close_reason(), Some(CloseReason::Idle));
}

#[test]
fn a_peer_that_acknowledges_records_slowly_is_not_stalled_by_what_they_weigh() {
    let mut config = Config::default();
    config.write_timeout = Some(Duration::from_secs(8));
    config.idle_timeout = None;
    let (net, position) = echo_with(config);
    let client = connect(&net, position);
    client.stop_acknowledging();
    // An echo of one byte is a record of five.
    for _ in 0..40 {
        client.send("x");
        client.acknowledge(3);
        net.advance(Duration::from_secs(1));
    }
    assert_eq!(client.close_reason(), None);
    net.advance(Duration::from_secs(9));
    assert_eq!(client.close_reason(), Some(CloseReason::WriteStall));
}

/// Says something before it wants TLS, right behind, and while both agree.
struct Secretive;

impl Protocol for Secretive {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        input.take();
        cx.write(b"open, ");
        cx.write_shared(&b"shared"[..]);
        cx.start_tls(ToyTls::new().acceptor());
        cx.write(b"secret, ");
        cx.write_shared(&b"shared"[..]);
    }

    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        cx.write(b", more");
    }

    fn on_tls(&mut self, _: &TlsInfo, cx: &mut Context<'_>) {
        cx.write(b", agreed");
    }
}

#[test]
fn what_is_written_behind_the_wish_for_tls_is_not_for_everyone_to_see() {
    let net = Loop::new(|_| Some(Secretive));
    let client = net.connect();
    client.send("?");
    assert_eq!(client.received_text(), "open, shared");
    assert!(client.message(()));
    assert_eq!((client.received_text().as_str(), client.queued()), ("", 20));
    client.start_tls("echo.example");
    assert_eq!(client.received_text(), "secret, shared, more, agreed");
    client.end();
    assert_eq!(client.close_reason(), Some(CloseReason::Peer));
}

#[test]
fn what_waits_for_tls_is_counted_when_nothing_comes_of_it() {
    let net = Loop::new(|_| Some(Secretive));
    let client = net.connect();
    client.send("?");
    client.send_raw("no TLS at all");
    assert_eq!(client.close_reason(), Some(CloseReason::HandshakeFailed));
    assert_eq!(net.stats().bytes_undelivered, 14);
}

#[test]
fn a_record_that_the_system_begins_to_take_is_no_stall() {
    let mut config = Config::default();
    config.write_timeout = Some(Duration::from_secs(8));
    config.idle_timeout = None;
    let (net, position) = echo_with(config);
    let client = net.client().listener(position).tls("echo.example").buffer_bytes(100).connect();
    client.stop_reading();
    client.stop_acknowledging();
    // The first takes the room, of the second nothing is taken.
    client.send([b'x'; 96]);
    client.acknowledge(100);
    client.send([b'y'; 50]);
    net.advance(Duration::from_secs(7));
    assert_eq!(client.read(1).len(), 0, "the header of the first");
    net.advance(Duration::from_secs(7));
    assert!(client.is_open(), "a byte of the second was taken");
    net.advance(Duration::from_secs(2));
    assert_eq!(client.close_reason(), Some(CloseReason::WriteStall));
}

#[test]
fn a_message_for_one_whose_handshake_has_failed_is_not_delivered() {
    let (net, position) = echo();
    let client = net.client().listener(position).connect();
    client.send("no TLS at all");
    assert!(client.is_open());
    let _ = net.handle().send(client.id().expect("it has a name"), ());
    net.run();
    assert_eq!(net.stats().messages_undeliverable, 1);
}

#[test]
fn what_the_handshake_has_sent_is_owed_too() {
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_secs(3));
    let net = Loop::with_config(config, |_| Some(Upgrade::default()));
    let client = net.connect();
    client.send("TLS");
    net.advance(Duration::from_secs(2));
    client.stop_acknowledging();
    client.start_tls("echo.example");
    for _ in 0..10 {
        net.advance(Duration::from_secs(2));
        assert!(!client.has_fin(), "{} bytes are on their way, and acknowledged", client.unacknowledged());
        client.acknowledge(1);
    }
}
