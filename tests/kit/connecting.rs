//! Outbound connections, seen by the one who has asked for them.

use std::{io::ErrorKind, time::Duration};

use echoloop::{
    CloseReason, Config, ConnectionId, Context, Input, Origin, Peer, Protocol,
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
        write!(cx, "connected to {}\n", upstream.address);
        cx.relay(upstream.id);
    }

    fn on_connect_failed(&mut self, _: u64, reason: &CloseReason, cx: &mut Context<'_>) {
        write!(cx, "{reason}\n");
        cx.finish();
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
}

fn proxy(config: Config) -> Loop<Proxied> {
    Loop::with_config(config, |peer| {
        Some(if peer.requested_by.is_some() { Proxied::Upstream } else { Proxied::Client })
    })
}

fn begin(net: &Loop<Proxied>) -> (Client<Proxied>, Outbound<Proxied>) {
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
