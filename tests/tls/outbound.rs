//! Outbound connections over TLS.

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    sync::{Arc, mpsc},
};

use echoloop::{CloseReason, Config, Context, Echo, Input, Origin, Peer, Protocol, TlsConnector};

use crate::{
    peer::{Identity, Running, VERSIONS, Version},
    util::{self, DEADLINE, connect, pattern, serve_with},
};

/// A plain client's connection, passed on to a server over TLS.
struct Proxied {
    upstream: Option<(echoloop::Address, TlsConnector)>,
    failures: mpsc::Sender<CloseReason>,
}

impl Protocol for Proxied {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if let Some((address, tls)) = &self.upstream {
            cx.connect_tls(address.clone(), 0, tls.clone()).unwrap();
        }
    }

    fn on_connected(&mut self, _: u64, upstream: &Peer<'_>, cx: &mut Context<'_>) {
        assert!(upstream.tls().is_some_and(|tls| tls.peer_certificates.len() == 1));
        cx.relay(upstream.id);
    }

    fn on_connect_failed(&mut self, _: u64, reason: &CloseReason, cx: &mut Context<'_>) {
        self.failures.send(*reason).unwrap();
        cx.abort();
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
}

fn proxy(
    upstream: impl Into<echoloop::Address>,
    tls: TlsConnector,
) -> (util::Running<Proxied>, mpsc::Receiver<CloseReason>) {
    let (failures, told) = mpsc::channel();
    let upstream = upstream.into();
    let server = util::Running::start(Config::default(), &["127.0.0.1:0"], move |peer| {
        let is_client = matches!(peer.origin, Origin::Listener(_));
        let upstream = is_client.then(|| (upstream.clone(), tls.clone()));
        Some(Proxied { upstream, failures: failures.clone() })
    });
    (server, told)
}

#[test]
fn a_proxy_speaks_tls_to_its_upstream_and_passes_ends_on() {
    for version in VERSIONS {
        let identity = Identity::new("localhost");
        let upstream = Running::start(Config::default(), Arc::new(identity.server()), |_| Some(Echo));
        let tls = TlsConnector::new(Arc::new(identity.client(version)), "localhost").unwrap();
        let (proxy, _) = proxy(upstream.address, tls);
        for size in [0, 14, 8 << 20] {
            let client = connect(proxy.address());
            let sent = pattern(size as u64, size);
            let reader = client.try_clone().unwrap();
            let received = std::thread::scope(|scope| {
                scope.spawn(|| {
                    (&client).write_all(&sent).unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                });
                util::read_to_end(&reader)
            });
            assert!(received == sent, "{version:?}: {} of {size}", received.len());
        }
        let stats = proxy.drain();
        assert_eq!((stats.bytes_undelivered, stats.closed(CloseReason::Truncated)), (0, 0), "{stats}");
        let stats = upstream.drain();
        assert_eq!((stats.closed(CloseReason::Peer), stats.bytes_undelivered), (3, 0), "{stats}");
    }
}

#[test]
fn a_server_that_is_not_trusted_is_not_spoken_to() {
    let (identity, other) = (Identity::new("localhost"), Identity::new("localhost"));
    let upstream = Running::start(Config::default(), Arc::new(identity.server()), |_| Some(Echo));
    let wrong_name = TlsConnector::new(Arc::new(identity.client(Version::Tls13)), "example.org").unwrap();
    let unknown = TlsConnector::new(Arc::new(other.client(Version::Tls13)), "localhost").unwrap();
    for tls in [wrong_name, unknown] {
        let (proxy, failures) = proxy(upstream.address, tls);
        let client = connect(proxy.address());
        let reason = failures.recv_timeout(DEADLINE).unwrap();
        assert_eq!(reason, CloseReason::ConnectFailed(ErrorKind::InvalidData));
        assert_eq!(util::read_to_reset(&client), b"");
        proxy.drain();
    }
    let stats = upstream.drain();
    assert_eq!(stats.closed(CloseReason::HandshakeFailed), 2, "they were told why: {stats}");
}

#[test]
fn a_server_that_speaks_no_tls_fails_the_connection() {
    let identity = Identity::new("localhost");
    let plain = serve_with(|mut socket| {
        socket.write_all(b"220 welcome\r\n")?;
        socket.read_to_end(&mut Vec::new()).map(drop)
    });
    let tls = TlsConnector::new(Arc::new(identity.client(Version::Tls13)), "localhost").unwrap();
    let (proxy, failures) = proxy(plain.parse::<echoloop::Address>().unwrap(), tls);
    let _client = connect(proxy.address());
    let reason = failures.recv_timeout(DEADLINE).unwrap();
    assert_eq!(reason, CloseReason::ConnectFailed(ErrorKind::InvalidData));
    proxy.drain();
}
