//! How connections end, and who is told.

use std::time::Duration;

use echoloop::{Cause, CloseReason, ConnectionId, Context, EndedBy, Flow, Input, Protocol, testing::Loop};

/// Tells the others that it is gone.
struct Mourned;

impl Protocol for Mourned {
    type Message = String;

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, String>) {
        match input.take() {
            b"abort" => cx.abort(),
            b"because" => cx.abort_because("tired of it"),
            b"other" => cx.abort_because(Cause::new("bored")),
            b"finish, because" => {
                cx.finish();
                cx.abort_because("tired of it");
            }
            said => panic!("{said:?}"),
        }
    }

    fn on_message(&mut self, news: String, cx: &mut Context<'_, String>) {
        writeln!(cx, "{news}");
    }

    fn on_close(&mut self, reason: &CloseReason, cx: &mut Context<'_, String>) {
        assert_eq!(cx.write(b"too late"), Flow::Closed);
        cx.set_timer(0, Duration::ZERO);
        cx.pause_reading();
        cx.finish();
        cx.send_all(format!("{}: {reason}", cx.id())).expect("there is room");
    }
}

#[test]
fn whoever_ends_tells_the_others_without_a_handle() {
    let net = Loop::new(|_| Some(Mourned));
    let (stays, goes) = (net.connect(), net.connect());
    let name = goes.id().expect("it is accepted");
    goes.end();
    assert_eq!(stays.received_text(), format!("{name}: peer\n"));
    for (said, reason) in
        [("abort", "aborted"), ("because", "tired of it"), ("finish, because", "tired of it")]
    {
        let goes = net.connect();
        let name = goes.id().expect("it is accepted");
        goes.send(said);
        assert!(goes.was_reset() && goes.received().is_empty());
        assert_eq!(stays.received_text(), format!("{name}: {reason}\n"));
    }
    net.abort();
    assert_eq!(stays.close_reason(), Some(CloseReason::ServerAborted));
}

#[test]
fn causes_of_protocols_are_counted_each_under_its_name() {
    let net = Loop::new(|_| Some(Mourned));
    for said in ["because", "other", "because", "abort"] {
        net.connect().send(said);
    }
    let reason = CloseReason::AbortedBecause("tired of it".into());
    assert_eq!((net.stats().closed(reason), net.stats().closed_total()), (2, 4));
    assert_eq!((reason.ended_by(), reason.is_complete()), (EndedBy::Protocol, false));
    let summary = net.stats().to_string();
    assert!(summary.contains("; aborted 1, ") && summary.contains("tired of it 2"), "{summary}");
    let mut sum = net.stats();
    sum += &net.stats();
    assert_eq!(sum.closed(CloseReason::AbortedBecause("bored".into())), 2);
    assert_eq!(sum.close_reasons().map(|(_, count)| count).sum::<u64>(), 8);
}

/// Ends when it is told of the end of another, and so on.
struct Chain(Option<ConnectionId>);

impl Protocol for Chain {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        input.take();
        cx.abort();
    }

    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        cx.abort();
    }

    fn on_close(&mut self, _: &CloseReason, cx: &mut Context<'_>) {
        if let Some(next) = self.0 {
            let _ = cx.send(next, ());
        }
    }
}

#[test]
fn ends_follow_from_ends() {
    let last = std::cell::Cell::new(None);
    let net = Loop::new(move |peer| Some(Chain(last.replace(Some(peer.id)))));
    let clients: Vec<_> = (0..100).map(|_| net.connect()).collect();
    clients[99].send("!");
    assert!(clients.iter().all(|client| client.was_reset()));
    assert_eq!(net.stats().messages_undeliverable, 0);
}
