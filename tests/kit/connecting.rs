//! Outbound connections, seen by the one who has asked for them.

use std::{io::ErrorKind, time::Duration};

use echoloop::{
    Address, CloseReason, Config, ConnectionId, Context, Input, Origin, Peer, Protocol,
    testing::{Client, Loop, Outbound},
};

const LABEL: u64 = 5;

/// A proxy that says what it does: both sides of it.
#[derive(Debug)]
enum Proxied {
    Client,
    Upstream,
}

impl Protocol for Proxied {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if matches!(self, Self::Client) {
            cx.connect("192.0.2.9:80".parse().expect("an address"), LABEL).expect("there is room");
        }
    }

    fn on_connected(&mut self, label: u64, upstream: &Peer<'_>, cx: &mut Context<'_>) {
        assert_eq!((label, upstream.origin), (LABEL, Origin::Connect(LABEL)));
        assert_eq!(upstream.requested_by, Some(cx.id()));
        writeln!(cx, "connected to {}", upstream.address);
        cx.relay(upstream.id);
    }

    fn on_connect_failed(&mut self, _: u64, reason: &CloseReason, cx: &mut Context<'_>) {
        writeln!(cx, "{reason}");
        cx.finish();
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
}

fn proxy(config: Config) -> Loop<'static, Proxied> {
    Loop::with_config(config, |peer| {
        Some(if peer.requested_by.is_some() { Proxied::Upstream } else { Proxied::Client })
    })
}

fn begin<'f>(net: &Loop<'f, Proxied>) -> (Client<'f, Proxied>, Outbound<'f, Proxied>) {
    let client = net.connect();
    let attempt = net.next_connect().expect("it connects");
    (client, attempt)
}

const REPLY: &str = "connected to 192.0.2.9:80\n";

#[test]
fn a_reply_and_then_a_relay_in_one_callback() {
    let net = proxy(Config::default());
    let (client, attempt) = begin(&net);
    assert_eq!(client.received(), b"");
    let upstream = attempt.accept();
    upstream.send("hello");
    client.send("you");
    assert_eq!(client.received_text(), format!("{REPLY}hello"));
    assert_eq!(upstream.received(), b"you");
}

#[test]
fn what_a_client_sends_before_is_kept_and_so_is_its_end() {
    let net = proxy(Config::default());
    let (client, attempt) = begin(&net);
    client.send_bytewise("early");
    client.end();
    assert!(client.is_open());
    let upstream = attempt.accept();
    assert_eq!(upstream.received(), b"early");
    assert!(upstream.has_fin());
    upstream.send("answer");
    upstream.end();
    assert_eq!(client.received_text(), format!("{REPLY}answer"));
    assert_eq!(client.close_reason(), Some(CloseReason::Peer));
}

#[test]
fn however_much_a_client_sends_before_it_waits_and_arrives() {
    let mut config = Config::default();
    config.input_limit_bytes = 100;
    let net = proxy(config);
    let (client, attempt) = begin(&net);
    let sent: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    client.send(&sent);
    assert_eq!(client.unread(), 9900);
    client.end();
    let upstream = attempt.accept();
    assert!(upstream.received() == sent && upstream.has_fin());
    assert_eq!(client.received_text(), REPLY);
}

#[test]
fn a_client_that_resets_meanwhile_is_noticed_at_once() {
    let net = proxy(Config::default());
    let (client, attempt) = begin(&net);
    client.send("early");
    client.reset();
    assert_eq!(client.close_reason(), Some(CloseReason::Reset));
    assert!(!attempt.is_pending());
    assert_eq!(net.stats().closed(CloseReason::Cancelled), 1);
}

#[test]
fn a_connection_that_fails_is_told_in_every_way() {
    let net = proxy(Config::default());
    let (client, attempt) = begin(&net);
    attempt.refuse(ErrorKind::ConnectionRefused);
    assert_eq!(client.received_text(), "connect failed: connection refused\n");
    let (client, _attempt) = begin(&net);
    net.advance(Duration::from_secs(10));
    assert_eq!(client.received_text(), "connect timeout\n");
    assert!(client.has_fin());
}

#[test]
fn an_upstream_that_is_reset_at_once_resets_the_client_after_the_reply() {
    let net = proxy(Config::default());
    let (client, attempt) = begin(&net);
    attempt.accept().reset();
    assert_eq!(client.close_reason(), Some(CloseReason::RelayBroken));
}

/// Asks for a connection, and deals with what it has been sent meanwhile only afterwards.
struct Later {
    is_connected: bool,
    other: Option<ConnectionId>,
}

impl Protocol for Later {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        if self.other.is_some() {
            // It is the other one, and takes what comes.
            input.take();
        } else if self.is_connected {
            cx.write(input.take());
        } else if input.bytes() == b"connect" {
            cx.connect("192.0.2.9:80".parse().expect("an address"), LABEL).expect("there is room");
        }
    }

    fn on_connected(&mut self, _: u64, _: &Peer<'_>, cx: &mut Context<'_>) {
        self.is_connected = true;
        cx.resume_reading();
    }
}

#[test]
fn what_was_left_is_handed_over_again_on_request_though_reading_was_not_paused() {
    let net = Loop::new(|peer| Some(Later { is_connected: false, other: peer.requested_by }));
    let client = net.connect();
    client.send("connect");
    client.send(" and more");
    let _upstream = net.next_connect().expect("it connects").accept();
    assert_eq!(client.received_text(), "connect and more");
}

#[test]
fn who_leaves_its_limit_and_waits_for_nothing_is_aborted_as_ever() {
    let mut config = Config::default();
    config.input_limit_bytes = 10;
    let net = Loop::with_config(config, |peer| Some(Later { is_connected: false, other: peer.requested_by }));
    let client = net.connect();
    client.send("connect");
    client.send(" and much more");
    assert!(client.is_open());
    // What it could not keep is not lost: the answer makes it go on.
    let upstream = net.next_connect().expect("it connects").accept();
    assert_eq!(client.received_text(), "connect and much more");
    upstream.close();
    let other = net.connect();
    other.send("something else");
    assert_eq!(other.close_reason(), Some(CloseReason::InputLimit));
}

/// Asks for a connection, and takes nothing else.
struct Leaves;

impl Protocol for Leaves {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        if input.bytes() == b"connect" {
            input.take();
            cx.connect("192.0.2.9:80".parse().expect("an address"), LABEL).expect("there is room");
        }
    }
}

#[test]
fn who_leaves_its_limit_when_the_answer_has_come_is_aborted_too() {
    let mut config = Config::default();
    config.input_limit_bytes = 10;
    let net = Loop::with_config(config, |_| Some(Leaves));
    let client = net.connect();
    client.send("connect");
    let upstream = net.next_connect().expect("it connects").accept();
    client.send("something else");
    assert_eq!(client.close_reason(), Some(CloseReason::InputLimit));
    // Nor does the one that was made wait for anything any more.
    upstream.send("something else");
    assert_eq!(net.stats().closed(CloseReason::InputLimit), 2);
}

/// Connects to a name, and says what comes of it.
struct ByName;

impl Protocol for ByName {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        let name = std::str::from_utf8(input.take()).expect("it is text").parse().expect("it is an address");
        if cx.connect(name, LABEL).is_err() {
            cx.write(b"busy\n");
        }
    }

    fn on_connected(&mut self, _: u64, upstream: &Peer<'_>, cx: &mut Context<'_>) {
        writeln!(cx, "{}", upstream.address);
    }

    fn on_connect_failed(&mut self, _: u64, reason: &CloseReason, cx: &mut Context<'_>) {
        writeln!(cx, "{reason}");
    }
}

fn addresses(texts: &[&str]) -> Vec<Address> {
    texts.iter().map(|text| text.parse().expect("it is an address")).collect()
}

fn by_name(addresses: &[&str]) -> (Loop<'static, ByName>, Client<'static, ByName>) {
    let net = Loop::new(|_| Some(ByName));
    let client = net.connect();
    client.send("host.example:80");
    let lookup = net.next_lookup().expect("it is looked up");
    assert_eq!(lookup.name().to_string(), "host.example:80");
    lookup.answer(self::addresses(addresses));
    (net, client)
}

#[test]
fn the_addresses_of_a_name_are_tried_in_turn_until_one_answers() {
    let (net, client) = by_name(&["[2001:db8::1]:80", "[2001:db8::2]:80", "192.0.2.1:80"]);
    let next = || net.next_connect().expect("it tries the next");
    let first = next();
    assert_eq!(first.address().to_string(), "[2001:db8::1]:80");
    first.refuse(ErrorKind::NetworkUnreachable);
    let second = next();
    assert_eq!(second.address().to_string(), "192.0.2.1:80");
    assert_eq!(client.received(), b"");
    let _upstream = second.accept();
    assert_eq!(client.received_text(), "192.0.2.1:80\n");
    assert!(net.next_connect().is_none());
}

#[test]
fn all_addresses_share_the_connect_timeout() {
    let (net, client) = by_name(&["192.0.2.1:80", "192.0.2.2:80"]);
    let first = net.next_connect().expect("it tries");
    net.advance(Duration::from_secs(5));
    assert!(!first.is_pending(), "half of the time is for the other");
    let second = net.next_connect().expect("it tries the other");
    net.advance(Duration::from_secs(4));
    assert!(second.is_pending() && client.received().is_empty());
    net.advance(Duration::from_secs(1));
    assert_eq!(client.received_text(), "connect timeout\n");
}

#[test]
fn a_name_without_an_address_and_one_that_nobody_looks_up_fail() {
    let (net, client) = by_name(&[]);
    assert_eq!(client.received_text(), "connect failed: entity not found\n");
    // Every interface is a place to listen.
    client.send(":80");
    assert!(net.next_lookup().is_none());
    assert_eq!(client.received_text(), "connect failed: entity not found\n");
    client.send("host.example:80");
    net.next_lookup().expect("it is looked up").fail();
    assert_eq!(client.received_text(), "connect failed: entity not found\n");
    client.send("host.example:80");
    drop(net.next_lookup());
    assert_eq!(client.received_text(), "connect failed: entity not found\n");
    client.send("host.example:80");
    let late = net.next_lookup().expect("it is looked up");
    net.advance(Duration::from_secs(10));
    assert_eq!(client.received_text(), "connect timeout\n");
    late.answer(addresses(&["192.0.2.1:80"]));
    assert!(net.next_connect().is_none() && client.received().is_empty());
}

#[test]
fn nobody_connects_for_one_who_has_ended_while_the_name_was_looked_up() {
    let net = Loop::new(|_| Some(ByName));
    let client = net.connect();
    client.send("host.example:80");
    let lookup = net.next_lookup().expect("it is looked up");
    client.reset();
    lookup.answer(addresses(&["192.0.2.1:80"]));
    assert!(net.next_connect().is_none());
    assert_eq!(net.stats().connects, 0);
}

#[test]
fn a_drain_waits_for_no_name_that_another_thread_has_asked_for() {
    let net = Loop::new(|_| Some(ByName));
    net.handle().connect("host.example:80".parse().expect("an address"), 1).expect("there is room");
    net.run();
    let _lookup = net.next_lookup().expect("it is looked up");
    net.drain();
    assert!(net.is_finished());
    assert_eq!(net.stats().closed(CloseReason::ServerAborted), 1);
}

#[test]
fn work_is_bounded_and_its_end_comes_once() {
    let mut config = Config::default();
    config.blocking_jobs_max = 2;
    let net = Loop::with_config(config, |_| Some(Worker));
    let client = net.connect();
    client.send("1");
    client.send("2");
    client.send("3");
    assert_eq!(client.received_text(), "busy\n");
    let first = net.next_job().expect("it works");
    client.send("4");
    assert_eq!(client.received_text(), "busy\n");
    first.finish();
    assert_eq!(client.received_text(), "1\n");
    client.send("5");
    net.next_job().expect("it works").finish();
    client.reset();
    net.next_job().expect("it works").finish();
    assert!(net.next_job().is_none());
    assert_eq!(net.stats().messages_undeliverable, 1);

    let client = net.connect();
    client.send("6");
    drop(net.next_job());
    assert_eq!(client.close_reason(), Some(CloseReason::Panicked));
}

/// Gives its input to somebody else to read.
struct Worker;

impl Protocol for Worker {
    type Message = Vec<u8>;

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Vec<u8>>) {
        let said = input.take().to_vec();
        if cx.spawn_blocking(move || said).is_err() {
            cx.write(b"busy\n");
        }
    }

    fn on_message(&mut self, said: Vec<u8>, cx: &mut Context<'_, Vec<u8>>) {
        writeln!(cx, "{}", String::from_utf8_lossy(&said));
    }
}
