//! Clients that come through a proxy, which says first for whom.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use echoloop::{
    Address, CloseReason, Config, Context, Input, Peer, Protocol, ProxyHeader,
    testing::{Client, Loop, ToyTls},
};

/// Says whom it takes its client for, and echoes.
struct Named(String);

impl Named {
    #[expect(clippy::unnecessary_wraps, reason = "a factory")]
    fn new(peer: &Peer<'_>) -> Option<Self> {
        let by = peer.proxied().map(|proxied| proxied.by.to_string()).unwrap_or_default();
        Some(Self(format!("{} by {by}\n", peer.address)))
    }
}

impl Protocol for Named {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        let who = std::mem::take(&mut self.0);
        cx.write(who.as_bytes());
        assert!(who.starts_with(&format!("{} by", cx.peer_addr().unwrap())));
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }
}

fn behind_proxies() -> Config {
    let mut config = Config::default();
    config.proxy_protocol = vec!["198.51.100.0/24".parse().unwrap()];
    config
}

fn net() -> Loop<'static, Named> {
    Loop::with_config(behind_proxies(), Named::new)
}

fn proxy<'f>(net: &Loop<'f, Named>) -> Client<'f, Named> {
    net.client().address("198.51.100.9:40000".parse().unwrap()).connect()
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 203.0.113.1 49152 443\r\n";

fn v2() -> Vec<u8> {
    let parse = |text: &str| text.parse::<Address>().unwrap();
    ProxyHeader::encode(&parse("192.0.2.7:49152"), &parse("203.0.113.1:443"))
}

#[test]
fn however_a_header_comes_the_client_is_known_and_nothing_behind_it_is_lost() {
    for header in [V1.to_vec(), v2()] {
        let message = [&header[..], b"hello"].concat();
        for cut in 0..=message.len() {
            let net = net();
            let client = proxy(&net);
            client.send(&message[..cut]);
            let mut received = client.received_text();
            assert_eq!(received.is_empty(), cut < header.len(), "cut at {cut}");
            client.send(&message[cut..]);
            client.send(" again");
            received += &client.received_text();
            assert_eq!(received, "192.0.2.7:49152 by 198.51.100.9:40000\nhello again", "cut at {cut}");
            client.end();
            assert_eq!(client.close_reason(), Some(CloseReason::Peer));
        }
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_is_the_client() {
    let local = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], b"check"].concat();
    for header in [&local[..], b"PROXY UNKNOWN\r\ncheck"] {
        let net = net();
        let client = proxy(&net);
        client.send(header);
        assert_eq!(client.received_text(), "198.51.100.9:40000 by 198.51.100.9:40000\ncheck");
    }
}

#[test]
fn who_is_no_proxy_or_says_something_else_is_reset_and_counted() {
    let net = net();
    let stranger = net.client().address("192.0.2.7:49152".parse().unwrap()).connect();
    assert!(stranger.was_reset());
    let wrong = proxy(&net);
    wrong.send("GET / HTTP/1.1\r\n\r\n");
    assert!(wrong.was_reset());
    let cut = proxy(&net);
    cut.send(b"PROXY TCP4 192.0.2.7 203.0.113.1 49152");
    cut.send("\n");
    assert!(cut.was_reset());
    let left = proxy(&net);
    left.send(b"PROXY");
    left.end();
    let stats = net.stats();
    assert_eq!((stats.accepted, stats.open), (4, 0));
    assert_eq!(
        (stats.closed(CloseReason::ProxyRefused), stats.closed(CloseReason::HandshakeAbandoned)),
        (3, 1)
    );
}

#[test]
fn a_header_has_a_deadline_that_ends_with_it() {
    let net = net();
    let (late, known) = (proxy(&net), proxy(&net));
    known.send(V1);
    net.advance(Duration::from_millis(9_999));
    assert!(late.is_open());
    net.advance(Duration::from_millis(1));
    assert_eq!(late.close_reason(), Some(CloseReason::HandshakeTimeout));
    net.advance(Duration::from_secs(60));
    assert!(known.is_open());
}

/// Also where a handshake may take as long as it likes.
#[test]
fn header_and_handshake_behind_it_have_a_time_each() {
    for handshake_timeout in [None, Some(Duration::from_secs(4))] {
        let mut config = behind_proxies();
        config.handshake_timeout = handshake_timeout;
        let net = Loop::with_config(config, Named::new);
        let position = net.listen_tls(ToyTls::new());
        let proxy =
            || net.client().listener(position).address("198.51.100.9:40000".parse().unwrap()).connect();
        let (silent, known) = (proxy(), proxy());
        net.advance(Duration::from_millis(9_999));
        known.send(V1);
        net.advance(Duration::from_millis(1));
        assert_eq!(silent.close_reason(), Some(CloseReason::HandshakeTimeout));
        net.advance(Duration::from_millis(3_998));
        assert!(known.is_open());
        net.advance(Duration::from_millis(1));
        assert_eq!(known.is_open(), handshake_timeout.is_none());
    }
}

#[test]
fn connections_count_for_the_client_not_for_the_proxy() {
    let mut config = behind_proxies();
    config.max_connections_per_ip = Some(1);
    let net = Loop::with_config(config, Named::new);
    let (first, second, other) = (proxy(&net), proxy(&net), proxy(&net));
    first.send(V1);
    second.send(V1);
    other.send(b"PROXY TCP4 192.0.2.8 203.0.113.1 49152 443\r\n");
    assert!(first.is_open() && second.was_reset() && other.is_open());
    assert_eq!(net.stats().over_ip_limit, 1);
    first.end();
    let again = proxy(&net);
    again.send(V1);
    assert!(again.is_open());
}
