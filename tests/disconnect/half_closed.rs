//! One side has ended, and the other goes on.

use std::{
    io::Write,
    net::Shutdown,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use echoloop::{CloseReason, Config, Context, Flow, Input, Protocol, Timeout};

use crate::{
    MIB, connect, expect_and_end,
    util::{DEADLINE, Running, pattern},
};

/// Answers the first bytes and shuts its side; then takes on what comes, and tells it at the end.
struct ShutAndListen {
    heard: Vec<u8>,
    all: Sender<Vec<u8>>,
}

impl Protocol for ShutAndListen {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        let was_first = self.heard.is_empty();
        self.heard.extend_from_slice(input.take());
        if was_first {
            assert_ne!(cx.write(b"enough said"), Flow::Closed);
            cx.shutdown_write();
        }
        assert_eq!(cx.write(b"!"), Flow::Closed, "nothing can follow our FIN");
    }

    fn on_eof(&mut self, rest: &mut Input<'_>, cx: &mut Context<'_>) {
        assert!(rest.bytes().is_empty());
        self.all.send(std::mem::take(&mut self.heard)).unwrap();
        cx.finish();
    }
}

#[test]
fn a_protocol_that_shut_its_side_still_hears_the_client_to_the_end() {
    let (all, heard) = channel();
    let server = Running::start(Config::default(), &["127.0.0.1:0"], move |_| {
        Some(ShutAndListen { heard: Vec::new(), all: all.clone() })
    });
    let mut client = connect(&server.addresses[0]);
    let bytes = pattern(6, 4 * MIB);
    client.write_all(&bytes[..1]).unwrap();
    expect_and_end(&client, b"enough said");
    client.write_all(&bytes[1..]).unwrap();
    assert_eq!(server.stats().open, 1);
    client.shutdown(Shutdown::Write).unwrap();
    assert!(heard.recv_timeout(DEADLINE).expect("the end of input") == bytes);
    let stats = server.last_stats();
    assert_eq!(stats.closed(CloseReason::Finished), 1, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_undelivered, stats.bytes_discarded), (1, 0, 0), "{stats}");
}

/// Keeps quiet until the client has ended; then speaks at length, and at last by a timer.
struct SpeaksLast {
    speech: Arc<Vec<u8>>,
    spoken: usize,
}

const LAST_WORD: &[u8] = b"that was all";

impl SpeaksLast {
    fn speak(&mut self, cx: &mut Context<'_>) {
        while self.spoken < self.speech.len() {
            let end = self.speech.len().min(self.spoken + 10_000);
            let flow = cx.write(&self.speech[self.spoken..end]);
            assert_ne!(flow, Flow::Closed, "only the client's side has ended");
            self.spoken = end;
            if flow == Flow::Full {
                return;
            }
        }
        cx.set_timer(1, Duration::from_millis(50));
    }
}

impl Protocol for SpeaksLast {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        self.speak(cx);
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        self.speak(cx);
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_>) {
        assert_eq!(which, Timeout::Timer(1));
        cx.write(LAST_WORD);
        cx.finish();
    }
}

#[test]
fn a_protocol_may_go_on_writing_behind_the_clients_end() {
    let speech = Arc::new(pattern(7, 8 * MIB));
    let speaking = Arc::clone(&speech);
    let server = Running::start(Config::default(), &["127.0.0.1:0"], move |_| {
        Some(SpeaksLast { speech: Arc::clone(&speaking), spoken: 0 })
    });
    let mut client = connect(&server.addresses[0]);
    client.write_all(b"your turn").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    expect_and_end(&client, &[&speech, LAST_WORD].concat());
    let stats = server.last_stats();
    assert_eq!(stats.closed(CloseReason::Peer), 1, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_undelivered), (1, 0), "{stats}");
}

/// Has nothing to say, ever.
struct Mute;

impl Protocol for Mute {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }

    fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
}

#[test]
fn a_protocol_that_leaves_the_clients_end_unanswered_is_ended_for_its_idleness() {
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_millis(300));
    let server = Running::start(config, &["127.0.0.1:0"], |_| Some(Mute));
    let client = connect(&server.addresses[0]);
    client.shutdown(Shutdown::Write).unwrap();
    expect_and_end(&client, b"");
    server.wait_until_idle();
    assert_eq!(server.drain().closed_total(), 1);
}
