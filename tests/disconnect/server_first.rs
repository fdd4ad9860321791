//! The server ends first, while the client still sends.

use std::{
    io::Write,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use echoloop::{CloseReason, Config, Context, Input, Protocol, Timeout};

use crate::{
    KIB, MIB, ReplyAndFinish, connect, expect_and_end,
    sending::{Sending, Then},
    util::{DEADLINE, Running, pattern},
};

/// Ten clients send 8 MiB each, whatever the server does, and read late.
fn reply_reaches_those_who_still_send(then: Then) {
    let reply = Arc::new(pattern(1, 2 * MIB));
    let request = Arc::new(pattern(2, 8 * MIB));
    let replying = Arc::clone(&reply);
    let server = Running::start(Config::default(), &["127.0.0.1:0"], move |_| {
        Some(ReplyAndFinish(Arc::clone(&replying)))
    });
    let clients: Vec<_> = (0..10).map(|_| connect(&server.addresses[0])).collect();
    let sending: Vec<_> = clients.iter().map(|client| Sending::start(client, &request, then)).collect();
    // Nobody reads, and yet the server takes all that they send.
    sending.into_iter().for_each(Sending::join);
    for client in &clients {
        expect_and_end(client, &reply);
        assert!(client.take_error().unwrap().is_none());
    }
    drop(clients);
    let stats = server.last_stats();
    assert_eq!(stats.closed(CloseReason::Finished), 10, "{stats}");
    assert_eq!(stats.closed_total(), 10, "{stats}");
    assert_eq!(stats.bytes_received, 10 * request.len() as u64, "everything was taken");
    assert_eq!(stats.bytes_sent, 10 * reply.len() as u64, "{stats}");
    assert_eq!(stats.bytes_undelivered, 0, "{stats}");
}

#[test]
fn a_reply_is_whole_while_the_client_still_sends_and_then_ends() {
    reply_reaches_those_who_still_send(Then::Shutdown);
}

#[test]
fn a_reply_is_whole_while_the_client_still_sends_and_ends_after_reading_it() {
    reply_reaches_those_who_still_send(Then::StayOpen);
}

/// Echo that is ended for being idle once so many bytes have come, and tells so.
struct TellsIdle {
    missing: usize,
    told: Sender<()>,
}

impl Protocol for TellsIdle {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.missing -= input.bytes().len();
        cx.forward(input);
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_>) {
        assert_eq!(which, Timeout::Idle);
        // A busy machine may have held the client up, and then the idle time begins anew.
        if self.missing == 0 {
            self.told.send(()).unwrap();
            cx.finish();
        }
    }
}

#[test]
fn a_client_that_wakes_up_behind_the_idle_deadline_gets_what_it_was_owed() {
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_millis(500));
    let (told, idle) = channel();
    let server = Running::start(config, &["127.0.0.1:0"], move |_| {
        Some(TellsIdle { missing: 64 * KIB, told: told.clone() })
    });
    let bytes = pattern(5, 8 * MIB);
    let (first, rest) = bytes.split_at(64 * KIB);
    let mut client = connect(&server.addresses[0]);
    client.write_all(first).unwrap();
    idle.recv_timeout(DEADLINE).expect("the idle deadline");
    // Nothing was read so far, and all that follows is too late.
    let sending = Sending::start(&client, &Arc::new(rest.to_vec()), Then::Shutdown);
    sending.join();
    expect_and_end(&client, first);
    let stats = server.last_stats();
    assert_eq!(stats.closed(CloseReason::Idle), 1, "{stats}");
    assert_eq!(stats.closed_total(), 1, "{stats}");
    assert_eq!((stats.bytes_sent, stats.bytes_discarded), (first.len() as u64, rest.len() as u64), "{stats}");
    assert_eq!(stats.bytes_undelivered, 0, "{stats}");
}
