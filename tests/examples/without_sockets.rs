//! The protocols of the examples on the test kit, without sockets.

use std::{io::ErrorKind, sync::Mutex, time::Duration};

use echoloop::{Address, CloseReason, Config, testing::Loop};

#[path = "../../examples/proxy.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is not used here")]
mod proxy;

#[path = "../../examples/rfc.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is not used here")]
mod rfc;

#[path = "../../examples/resp/main.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is not used here")]
mod resp;

fn proxy() -> Loop<proxy::Side> {
    let upstream: Address = "192.0.2.1:7".parse().expect("an address");
    Loop::new(move |peer| Some(proxy::Side::of(peer, &upstream)))
}

#[test]
fn the_proxy_passes_on_what_came_before_there_was_an_upstream_and_its_end() {
    let net = proxy();
    let client = net.connect();
    client.send_bytewise("request");
    client.end();
    let outbound = net.next_connect().expect("an upstream is wanted");
    assert_eq!(outbound.address().to_string(), "192.0.2.1:7");
    let upstream = outbound.accept();
    assert_eq!(upstream.received_text(), "request");
    assert!(upstream.has_fin());
    upstream.send("answer");
    upstream.end();
    assert_eq!(client.received_text(), "answer");
    assert!(client.has_fin());
    assert_eq!(client.close_reason(), Some(CloseReason::Peer));
    assert_eq!(upstream.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn the_proxy_resets_a_client_whose_upstream_refuses_or_never_answers() {
    let net = proxy();
    let (refused, unanswered) = (net.connect(), net.connect());
    net.next_connect().expect("an upstream is wanted").refuse(ErrorKind::ConnectionRefused);
    assert!(refused.was_reset() && !refused.has_fin());
    let _pending = net.next_connect().expect("another one is wanted");
    net.advance(Config::default().connect_timeout.expect("there is one"));
    assert!(unanswered.was_reset() && !unanswered.has_fin());
}

#[test]
fn the_proxy_reads_no_faster_than_the_other_side_receives() {
    let net = proxy();
    let client = net.connect();
    let upstream = net.next_connect().expect("an upstream is wanted").buffer_bytes(1000).stopped().accept();
    client.send(vec![7; 1 << 20]);
    assert!(upstream.queued() <= Config::default().high_water_bytes);
    assert!(client.unread() > 900_000);
    upstream.resume_reading();
    assert_eq!(upstream.received().len(), 1 << 20);
}

#[test]
fn the_proxy_passes_a_reset_on_and_a_drain_waits_for_both() {
    let net = proxy();
    let (one, other) = (net.connect(), net.connect());
    let upstreams = || net.next_connect().expect("an upstream is wanted").accept();
    let (upstream_of_one, upstream_of_other) = (upstreams(), upstreams());
    upstream_of_one.reset();
    assert!(one.was_reset());
    net.drain();
    net.advance(Duration::from_secs(1));
    other.send("still there");
    assert_eq!(upstream_of_other.received_text(), "still there");
    other.end();
    upstream_of_other.end();
    assert!(net.is_finished());
    assert_eq!(net.stats().closed(CloseReason::DrainTimeout), 0);
}

#[test]
fn chargen_follows_the_ring_for_as_long_as_its_client_reads() {
    let service = rfc::Service::ALL[4];
    let net = Loop::new(move |_| Some(service));
    let client = net.client().buffer_bytes(74 * 95).stopped().connect();
    let lines = String::from_utf8(client.read(74 * 95)).expect("text");
    let lines: Vec<&str> = lines.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 95);
    assert!(lines.iter().all(|line| line.len() == 72));
    assert!(lines.windows(2).all(|pair| pair[0][1..] == pair[1][..71]));
    assert!(client.queued() <= Config::default().high_water_bytes + 74);
    client.end();
    while !client.read(1 << 20).is_empty() {}
    assert_eq!(client.close_reason(), Some(CloseReason::Peer));
}

fn resp() -> Loop<resp::Session<'static>> {
    let store: &'static _ = Box::leak(Box::new(Mutex::new(resp::store::Store::new(1 << 20))));
    Loop::new(move |_| Some(resp::Session::new(store)))
}

#[test]
fn resp_answers_commands_in_any_pieces_in_order() {
    let net = resp();
    let (one, other) = (net.connect(), net.connect());
    let commands = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\nGET k\r\nINCR n\r\nINCR n\r\n";
    one.send_bytewise(commands);
    assert_eq!(one.received_text(), "+OK\r\n$5\r\nvalue\r\n:1\r\n:2\r\n");
    other.send("GET k\r\n*1\r\n$-7\r\n");
    let answers = other.received_text();
    assert!(answers.starts_with("$5\r\nvalue\r\n-ERR Protocol error: "), "{answers}");
    assert!(other.has_fin() && one.is_open());
}

#[test]
fn resp_does_no_more_than_its_client_takes() {
    let net = resp();
    net.connect().send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10000\r\n{}\r\n", "v".repeat(10_000)));
    let client = net.client().buffer_bytes(1000).stopped().connect();
    client.send("GET k\r\n".repeat(500));
    assert!(client.queued() < Config::default().high_water_bytes + 11_000, "{}", client.queued());
    client.resume_reading();
    assert_eq!(client.received().len(), 500 * 10_010);
    client.end();
    assert_eq!(client.close_reason(), Some(CloseReason::Peer));
}
