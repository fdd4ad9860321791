//! Whatever begins a connection: it is a header of a proxy, or none, or the rest is still to come; never a panic. More bytes change
//! nothing of an answer, and what was understood means the same when we write it.

#![no_main]

use echoloop::ProxyHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = ProxyHeader::parse(bytes);
    for cut in 0..bytes.len().min(300) {
        match ProxyHeader::parse(&bytes[..cut]) {
            Ok(None) => {}
            early => assert_eq!(early, whole),
        }
    }
    let Ok(Some((header, length))) = whole else { return };
    assert!(length <= bytes.len());
    if let Some(said) = header.addresses {
        let written = ProxyHeader::encode(&said.source, &said.destination);
        let (again, length) = ProxyHeader::parse(&written).expect("it is ours").expect("it is whole");
        assert_eq!((again.addresses.as_ref(), length), (Some(&said), written.len()));
    }
});
