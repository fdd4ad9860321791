//! What comes before the first byte: who is told what, and who costs whom what.

use std::{
    io::{Read, Write},
    net::Shutdown,
    sync::{Arc, Mutex},
    time::Duration,
};

use echoloop::{CloseReason, Config, Context, Echo, Input, Peer, Protocol, TlsInfo};
use rustls::{ServerConfig, server::WebPkiClientVerifier};

use crate::{
    peer::{Client, Identity, Running, VERSIONS, Version},
    util::{connect, eventually, ping},
};

#[test]
fn the_factory_sees_what_was_agreed_on() {
    for version in VERSIONS {
        let identity = Identity::new("localhost");
        let mut tls = identity.server();
        tls.alpn_protocols = vec![b"shout".to_vec(), b"echo".to_vec()];
        let seen = Arc::new(Mutex::new(Vec::<TlsInfo>::new()));
        let sees = Arc::clone(&seen);
        let server = Running::start(Config::default(), Arc::new(tls), move |peer: &Peer<'_>| {
            sees.lock().unwrap().push(peer.tls().expect("it speaks TLS"));
            assert!(peer.local_addr().is_ok() && peer.address.to_string().starts_with("127.0.0.1:"));
            Some(Echo)
        });
        let mut config = identity.client(version);
        config.alpn_protocols = vec![b"echo".to_vec()];
        for round in 0..2 {
            let mut client = Client::new(server.address, config.clone());
            client.handshake().unwrap();
            client.send(b"hello").unwrap();
            assert_eq!(client.receive(5).unwrap(), b"hello");
            client.close_notify();
            assert_eq!(client.read_to_end().unwrap(), b"");
            let info = seen.lock().unwrap().pop().unwrap();
            assert_eq!(info.server_name.as_deref(), Some("localhost"));
            assert_eq!(info.alpn.as_deref(), Some(&b"echo"[..]));
            assert_eq!(info.version, if version == Version::Tls12 { "TLS 1.2" } else { "TLS 1.3" });
            assert!(info.peer_certificates.is_empty());
            assert_eq!(info.is_resumed, round == 1, "{version:?}");
        }
        server.drain();
    }
}

#[test]
fn clients_show_certificates_where_that_is_asked_for() {
    for version in VERSIONS {
        let (identity, own, other) = (Identity::new("localhost"), Identity::new("me"), Identity::new("me"));
        let verifier = WebPkiClientVerifier::builder(Arc::new(own.roots())).build().unwrap();
        let tls = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain(), identity.key())
            .unwrap();
        let expected = own.chain()[0].to_vec();
        let server = Running::start(Config::default(), Arc::new(tls), move |peer: &Peer<'_>| {
            assert_eq!(peer.tls().unwrap().peer_certificates, [&expected[..]]);
            Some(Echo)
        });
        let mut accepted = Client::new(server.address, identity.client_with(version, &own));
        accepted.handshake().unwrap();
        accepted.send(b"hello").unwrap();
        assert_eq!(accepted.receive(5).unwrap(), b"hello");
        accepted.close_notify();
        assert_eq!(accepted.read_to_end().unwrap(), b"");
        for config in [identity.client(version), identity.client_with(version, &other)] {
            let mut refused = Client::new(server.address, config);
            // With TLS 1.3 a client learns it from what it reads.
            let error = refused.handshake().and_then(|()| refused.read_to_end()).unwrap_err();
            let alerts =
                ["CertificateRequired", "UnknownCA", "HandshakeFailure", "DecryptError", "BadCertificate"];
            assert!(alerts.iter().any(|alert| error.to_string().contains(alert)), "{version:?}: {error}");
        }
        eventually("both are counted", || server.handle.stats().closed(CloseReason::HandshakeFailed) == 2);
        assert_eq!(server.drain().panics, 0);
    }
}

#[test]
fn who_speaks_something_else_is_told_so_and_ends_cleanly() {
    let identity = Identity::new("localhost");
    let server = Running::start(Config::default(), Arc::new(identity.server()), |_| Some(Echo));
    let long = [b'x'; 100_000];
    for (n, garbage) in
        [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", &long].iter().enumerate()
    {
        let mut socket = connect(server.address);
        // The server may have said its last word by then.
        let _ = socket.write_all(garbage);
        if n == 1 {
            let _ = socket.write_all(&[0; 70_000]);
        }
        let _ = socket.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{n}: {error}"));
        // An alert, fatal: RFC 8446, section 6.
        assert!(answer.len() == 7 && answer[0] == 21 && answer[5] == 2, "{n}: {answer:?}");
    }
    eventually("they are counted", || server.handle.stats().closed(CloseReason::HandshakeFailed) == 3);
    server.drain();
}

#[test]
fn who_only_looks_whether_somebody_listens_is_counted_apart() {
    let identity = Identity::new("localhost");
    let server = Running::start(Config::default(), Arc::new(identity.server()), |_| Some(Echo));
    drop(connect(server.address));
    let ended = connect(server.address);
    ended.shutdown(Shutdown::Write).unwrap();
    let mut begun = connect(server.address);
    begun.write_all(b"\x16\x03\x01").unwrap();
    drop(begun);
    eventually("they are counted", || server.handle.stats().closed(CloseReason::HandshakeAbandoned) == 3);
    assert_eq!(server.drain().accepted, 3);
}

#[test]
fn a_handshake_has_a_deadline_and_holds_nobody_up() {
    let identity = Identity::new("localhost");
    let mut config = Config::default();
    config.handshake_timeout = Some(Duration::from_millis(300));
    let server = Running::start(config, Arc::new(identity.server()), |_| Some(Echo));
    let mut silent: Vec<_> = (0..20).map(|_| connect(server.address)).collect();
    for socket in &mut silent {
        socket.write_all(b"\x16").unwrap();
    }
    let mut client = Client::new(server.address, identity.client(Version::Tls13));
    client.handshake().unwrap();
    eventually("their time is up", || server.handle.stats().closed(CloseReason::HandshakeTimeout) == 20);
    client.send(b"hello").unwrap();
    assert_eq!(client.receive(5).unwrap(), b"hello");
    server.handle.drain();
    assert_eq!(client.read_to_end().unwrap(), b"");
    drop(client);
    server.drain();
}

#[test]
fn a_client_that_has_connected_before_a_drain_is_served() {
    let identity = Identity::new("localhost");
    let server = Running::start(Config::default(), Arc::new(identity.server()), |_| Some(Echo));
    let mut client = Client::new(server.address, identity.client(Version::Tls13));
    eventually("it is accepted", || server.handle.stats().accepted == 1);
    server.handle.drain();
    client.handshake().unwrap();
    client.send(b"hello").unwrap();
    assert_eq!(client.read_to_end().unwrap(), b"hello");
    drop(client);
    let stats = server.drain();
    assert_eq!(stats.closed(CloseReason::Drained), 1, "{stats}");
}

#[test]
fn whom_the_factory_refuses_is_reset_and_counted_as_refused() {
    let identity = Identity::new("localhost");
    let server = Running::start(Config::default(), Arc::new(identity.server()), |_| None::<Echo>);
    let mut client = Client::new(server.address, identity.client(Version::Tls13));
    client.handshake().unwrap();
    assert!(client.read_to_end().is_err() && !client.has_close_notify());
    let stats = server.drain();
    assert_eq!((stats.accepted, stats.refused, stats.closed_total()), (1, 1, 0));
}

/// Answers "STARTTLS" with "go", and then speaks TLS; says what was agreed on, and echoes.
struct Upgrade(echoloop::TlsAcceptor);

impl Protocol for Upgrade {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        match input.bytes() {
            b"STARTTLS\n" => {
                input.take();
                cx.write(b"go\n");
                cx.start_tls(self.0.clone());
            }
            bytes if bytes.starts_with(b"STARTTLS\n") => {
                input.consume(9);
                cx.write(b"go\n");
                cx.start_tls(self.0.clone());
            }
            _ => drop(cx.forward(input)),
        }
    }

    fn on_tls(&mut self, tls: &TlsInfo, cx: &mut Context<'_>) {
        assert_eq!(cx.tls().as_ref(), Some(tls));
        writeln!(cx, "welcome to {}", tls.server_name.as_deref().unwrap());
    }
}

fn upgrade(identity: &Identity) -> crate::util::Running<Upgrade> {
    let acceptor = echoloop::TlsAcceptor::from(Arc::new(identity.server()));
    crate::util::Running::start(Config::default(), &["127.0.0.1:0"], move |_| Some(Upgrade(acceptor.clone())))
}

#[test]
fn tls_can_begin_in_the_middle() {
    for version in VERSIONS {
        let identity = Identity::new("localhost");
        let server = upgrade(&identity);
        let mut socket = connect(server.address());
        ping(&socket, b"in plain");
        socket.write_all(b"STARTTLS\n").unwrap();
        let mut answer = [0; 3];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"go\n");
        let mut client = Client::on(socket, identity.client(version));
        client.handshake().unwrap();
        assert_eq!(client.receive(21).unwrap(), b"welcome to localhost\n");
        client.send(b"in secret").unwrap();
        assert_eq!(client.receive(9).unwrap(), b"in secret");
        client.close_notify();
        assert_eq!(client.read_to_end().unwrap(), b"");
        drop(client);
        let stats = server.drain();
        assert_eq!(stats.closed(CloseReason::Peer), 1, "{stats}");
    }
}

/// CVE-2011-0411: it would be taken for what was said in secret.
#[test]
fn what_comes_behind_the_request_for_tls_in_plain_ends_it() {
    let identity = Identity::new("localhost");
    let server = upgrade(&identity);
    let mut socket = connect(server.address());
    socket.write_all(b"STARTTLS\nforged command\n").unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert!(b"go\n".starts_with(&answer), "{answer:?}");
    eventually("it is counted", || server.handle.stats().closed(CloseReason::HandshakeFailed) == 1);
    server.drain();
}
