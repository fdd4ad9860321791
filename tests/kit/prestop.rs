//! What comes before a drain: protocols are told, and clients are still accepted.

use std::time::Duration;

use echoloop::{CloseReason, Config, Context, Input, Protocol, testing::Loop};

/// Echoes, and says what it is told.
struct Told;

impl Protocol for Told {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
        if cx.is_stopping() {
            cx.write(b" (stopping)");
        }
    }

    fn on_prestop(&mut self, cx: &mut Context<'_>) {
        cx.write(b"leave when you can");
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) {
        cx.write(b"leave now");
        cx.finish();
    }
}

const GRACE: Duration = Duration::from_secs(5);

fn with_grace() -> Config {
    let mut config = Config::default();
    config.grace = Some(GRACE);
    config
}

#[test]
fn a_drain_with_a_grace_tells_first_and_accepts_until_it_begins() {
    let net = Loop::with_config(with_grace(), |_| Some(Told));
    let early = net.connect();
    early.send("hello");
    assert_eq!(early.received_text(), "hello");
    assert!(net.handle().is_ready());
    net.handle().drain();
    assert!(!net.handle().is_ready(), "at the first instant");
    net.run();
    assert_eq!(early.received_text(), "leave when you can");
    net.advance(GRACE - Duration::from_millis(1));
    let late = net.connect();
    late.send("hello");
    assert_eq!(late.received_text(), "hello (stopping)");
    assert_eq!(early.received_text(), "", "it is told once");
    net.advance(Duration::from_millis(1));
    assert!(!net.connect().is_open(), "the drain has begun");
    net.advance(Duration::from_secs(1));
    for client in [&early, &late] {
        assert_eq!(client.received_text(), "leave now");
        client.end();
        assert_eq!(client.close_reason(), Some(CloseReason::Drained));
    }
    assert!(net.is_finished());
}

#[test]
fn a_drain_without_a_grace_only_drains() {
    let net = Loop::new(|_| Some(Told));
    let client = net.connect();
    net.drain();
    net.advance(Duration::from_secs(1));
    assert_eq!(client.received_text(), "leave now");
}

#[test]
fn an_announcement_can_be_taken_back_and_made_again() {
    let net = Loop::new(|_| Some(Told));
    let client = net.connect();
    let handle = net.handle();
    for _ in 0..2 {
        handle.prestop();
        net.run();
        assert!(!handle.is_ready());
        assert_eq!(client.received_text(), "leave when you can");
        client.send("hello");
        assert_eq!(client.received_text(), "hello (stopping)");
        handle.cancel_prestop();
        net.run();
        assert!(handle.is_ready());
        client.send("hello");
        assert_eq!(client.received_text(), "hello");
    }
    handle.prestop();
    handle.drain();
    handle.cancel_prestop();
    assert!(!handle.is_ready(), "a drain stays one");
}
