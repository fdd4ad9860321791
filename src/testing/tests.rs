//! Every rule of the kit, most of them with a protocol that does what the test tells it.

use std::{
    cell::{Cell, RefCell},
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{
    address::Address,
    close_reason::CloseReason,
    connection_id::ConnectionId,
    handle::SendError,
    peer::Origin,
    protocol::{
        context::{Context, Flow},
        echo::Echo,
        input::Input,
        timeout::Timeout,
    },
    tls::{
        TlsInfo,
        session::{Plaintext, Session},
        toy::ToySession,
    },
};

/// Something to do in a callback.
struct Act(Box<Callback<Self>>);

type Callback<M> = dyn FnOnce(&mut Context<'_, M>) + Send;

fn act(what: impl FnOnce(&mut Context<'_, Act>) + Send + 'static) -> Act {
    Act(Box::new(what))
}

/// Notes what happens to it, and does what it is told.
struct Puppet {
    id: ConnectionId,
    log: Log,
}

type Log = Rc<RefCell<Vec<(Instant, String)>>>;

impl Puppet {
    fn note(&self, cx: &Context<'_, Act>, what: String) {
        assert_eq!(cx.id(), self.id);
        self.log.borrow_mut().push((cx.now(), what));
    }
}

impl Protocol for Puppet {
    type Message = Act;

    fn on_open(&mut self, cx: &mut Context<'_, Act>) {
        self.note(cx, "open".into());
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Act>) {
        let bytes = String::from_utf8_lossy(input.take()).into_owned();
        self.note(cx, format!("data {bytes}"));
    }

    fn on_writable(&mut self, cx: &mut Context<'_, Act>) {
        self.note(cx, "writable".into());
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_, Act>) {
        self.note(cx, "eof".into());
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, Act>) {
        self.note(cx, format!("{which:?}"));
    }

    fn on_message(&mut self, message: Act, cx: &mut Context<'_, Act>) {
        (message.0)(cx);
    }

    fn on_connect_failed(&mut self, label: u64, reason: &CloseReason, cx: &mut Context<'_, Act>) {
        self.note(cx, format!("{label}: {reason}"));
    }

    fn on_drain(&mut self, cx: &mut Context<'_, Act>) {
        self.note(cx, "drain".into());
    }
}

/// A loop of puppets that write into one log.
struct Stage {
    net: Loop<'static, Puppet>,
    log: Log,
    start: Instant,
}

impl Stage {
    fn new() -> Self {
        Self::with_config(Config::default())
    }

    fn with_config(config: Config) -> Self {
        let log = Log::default();
        let shared = Rc::clone(&log);
        let net = Loop::with_config(config, move |peer| {
            let refuses = peer.origin == Origin::Connect(REFUSED);
            (!refuses).then(|| Puppet { id: peer.id, log: Rc::clone(&shared) })
        });
        let start = net.now();
        Self { net, log, start }
    }

    fn client(&self) -> Client<'static, Puppet> {
        let client = self.net.connect();
        assert!(client.is_open());
        self.log.borrow_mut().clear();
        client
    }

    /// What was noted since the last call.
    fn log(&self) -> Vec<String> {
        self.log.borrow_mut().drain(..).map(|(_, what)| what).collect()
    }

    /// The same, with the milliseconds since the beginning.
    fn timed_log(&self) -> Vec<(u128, String)> {
        self.log.borrow_mut().drain(..).map(|(at, what)| ((at - self.start).as_millis(), what)).collect()
    }
}

/// Outbound connections of this label are refused by the factory.
const REFUSED: u64 = 99;

fn upstream() -> Address {
    "192.0.2.80:80".parse().unwrap()
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// 10 bytes of high water, 2 of low water.
fn small() -> Config {
    let mut config = Config::default();
    config.set_high_water(10);
    config
}

#[track_caller]
fn panics<R>(what: impl FnOnce() -> R) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(what)) else { panic!("it did not panic") };
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
    }
}

#[test]
fn what_is_sent_at_once_comes_in_one_piece_and_chunks_come_one_by_one() {
    let stage = Stage::new();
    let client = stage.client();
    client.send(b"abcdefg");
    client.send_in_chunks(b"abcdefg", 3);
    client.send_bytewise(b"xy");
    client.send(b"");
    assert_eq!(stage.log(), ["data abcdefg", "data abc", "data def", "data g", "data x", "data y"]);
}

#[test]
fn what_a_paused_protocol_does_not_read_comes_when_it_resumes() {
    let stage = Stage::new();
    let client = stage.client();
    client.message(act(|cx| cx.pause_reading()));
    client.send(b"abc");
    client.send(b"def");
    client.end();
    assert_eq!((client.unread(), stage.log().len()), (6, 0));
    client.message(act(|cx| cx.resume_reading()));
    assert_eq!((client.unread(), stage.log()), (0, vec!["data abcdef".into(), "eof".into()]));
}

#[test]
fn a_client_that_has_ended_still_receives() {
    let stage = Stage::new();
    let client = stage.client();
    client.end();
    client.message(act(|cx| {
        cx.write(b"late");
        cx.finish();
    }));
    assert_eq!(client.received(), b"late");
    assert!(client.has_fin());
    assert_eq!(client.close_reason(), Some(CloseReason::Peer));
}

#[test]
fn a_client_that_has_ended_cannot_send() {
    for end in [Client::end, Client::close, Client::reset] {
        let client = Stage::new().client();
        end(&client);
        assert!(panics(|| client.send(b"x")).contains("has ended"));
        end(&client);
    }
}

#[test]
fn a_fin_comes_behind_all_bytes() {
    let stage = Stage::new();
    let client = stage.client();
    client.stop_reading();
    client.message(act(|cx| {
        cx.write(b"all of it");
        cx.finish();
    }));
    assert_eq!(client.read(5), b"all o");
    assert!(!client.has_fin());
    client.resume_reading();
    assert!(client.has_fin());
    assert_eq!(client.received(), b"f it");
}

#[test]
fn who_closes_gets_a_fin_across_and_answers_what_comes_with_a_reset() {
    let stage = Stage::new();
    let client = stage.client();
    client.close();
    assert_eq!(stage.log(), ["eof"]);
    client.message(act(|cx| {
        cx.write(b"anyone?");
    }));
    assert_eq!(client.close_reason(), Some(CloseReason::Reset));
    assert_eq!(client.received(), b"");
}

#[test]
fn who_closes_with_bytes_unread_resets() {
    let net = Loop::new(|_| Some(Echo));
    let client = net.client().stopped().connect();
    client.send(b"abc");
    client.close();
    assert_eq!(client.close_reason(), Some(CloseReason::Reset));
}

#[test]
fn a_reset_with_output_queued_is_told_from_one_without() {
    let net = Loop::new(|_| Some(Echo));
    let client = net.client().buffer_bytes(2).stopped().connect();
    client.send(b"abc");
    client.reset();
    assert_eq!(client.close_reason(), Some(CloseReason::ResetUndelivered));
    assert_eq!((net.stats().bytes_sent, net.stats().bytes_undelivered), (2, 1));
    assert_eq!(client.read(9), b"", "what it had not read is lost");
}

#[test]
fn who_sends_and_resets_before_it_is_accepted_is_still_read() {
    let config = Config { max_connections: Some(1), ..Config::default() };
    let stage = Stage::with_config(config);
    let (first, hasty) = (stage.client(), stage.net.connect());
    hasty.send(b"abc");
    hasty.reset();
    first.reset();
    assert_eq!(stage.log(), ["open", "data abc"]);
    assert_eq!(hasty.close_reason(), Some(CloseReason::Reset));
}

#[test]
fn a_reset_is_noticed_while_the_protocol_pauses() {
    let stage = Stage::new();
    let client = stage.client();
    client.message(act(|cx| cx.pause_reading()));
    client.send(b"abc");
    client.reset();
    assert_eq!((stage.log().len(), client.close_reason()), (0, Some(CloseReason::Reset)));
}

#[test]
fn bytes_for_a_server_that_has_closed_are_answered_with_a_reset() {
    let net = Loop::new(|_| Some(Echo));
    let client = net.connect();
    net.advance(seconds(605));
    assert!(client.has_fin() && !client.was_reset() && !client.is_open());
    client.send(b"anyone?");
    assert!(client.was_reset() && client.has_fin());
    assert_eq!(client.close_reason(), Some(CloseReason::LingerSilence));
}

#[test]
fn an_abort_destroys_what_the_client_had_not_read_and_no_fin_comes() {
    let stage = Stage::new();
    let client = stage.client();
    client.message(act(|cx| {
        cx.write(b"read, ");
    }));
    client.stop_reading();
    client.message(act(|cx| {
        cx.write(b"not read");
    }));
    client.message(act(|cx| cx.abort()));
    client.resume_reading();
    assert!(client.was_reset() && !client.has_fin());
    assert_eq!(client.received(), b"read, ");
}

#[test]
fn closing_with_input_unread_resets() {
    let config = Config { linger_limit_bytes: 10, read_buffer_bytes: 16, ..Config::default() };
    let stage = Stage::with_config(config);
    let client = stage.client();
    client.message(act(|cx| cx.finish()));
    assert!(client.has_fin());
    client.send([b'x'; 100]);
    assert_eq!(client.close_reason(), Some(CloseReason::LingerBytes));
    assert!(client.was_reset() && client.has_fin(), "the FIN came before");
}

#[test]
fn a_fin_that_a_reset_overtakes_never_comes() {
    let config = Config { linger_limit_bytes: 10, read_buffer_bytes: 16, ..Config::default() };
    let stage = Stage::with_config(config);
    let client = stage.client();
    client.stop_reading();
    client.message(act(|cx| {
        cx.write(b"not read");
        cx.finish();
    }));
    client.send([b'x'; 100]);
    client.resume_reading();
    assert!(client.was_reset() && !client.has_fin());
    assert_eq!(client.received(), b"");
}

#[test]
fn what_a_client_sends_before_it_is_accepted_comes_afterwards() {
    let stage = Stage::with_config(Config { max_connections: Some(1), ..Config::default() });
    let (first, waiting) = (stage.client(), stage.net.connect());
    waiting.send(b"abc");
    assert_eq!(waiting.unread(), 3);
    first.reset();
    assert_eq!(stage.log(), ["open", "data abc"]);
}

#[test]
fn a_slow_reader_makes_the_queue_full_and_room_is_told() {
    let stage = Stage::with_config(small());
    let client = stage.net.client().buffer_bytes(4).stopped().connect();
    client.message(act(|cx| {
        assert_eq!(cx.write(&[b'a'; 13]), Flow::Full);
    }));
    assert_eq!((client.queued(), stage.log()), (9, vec!["open".into()]));
    assert_eq!(client.read(6), b"aaaaaa");
    assert_eq!((client.queued(), stage.log().len()), (3, 0));
    assert_eq!(client.read(1), b"a");
    assert_eq!((client.queued(), stage.log()), (2, vec!["writable".into()]));
    client.resume_reading();
    assert_eq!((client.queued(), client.received()), (0, b"aaaaaa".to_vec()));
}

#[test]
fn what_was_received_is_read_before_what_waits() {
    let net = Loop::new(|_| Some(Echo));
    let client = net.connect();
    client.send(b"abc");
    client.stop_reading();
    client.send(b"def");
    assert_eq!(client.read(2), b"ab");
    assert_eq!(client.read(2), b"cd");
    assert_eq!(client.received(), b"");
    assert_eq!(client.read(2), b"ef");
}

#[test]
fn a_server_that_sends_without_end_needs_a_client_that_does_not_read() {
    /// RFC 864.
    struct Chargen;

    impl Protocol for Chargen {
        type Message = ();

        fn on_open(&mut self, cx: &mut Context<'_>) {
            self.on_writable(cx);
        }

        fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
            input.take();
        }

        fn on_writable(&mut self, cx: &mut Context<'_>) {
            while cx.write(&[b'x'; 4096]) == Flow::Open {}
        }
    }

    let net = Loop::new(|_| Some(Chargen));
    let client = net.client().stopped().connect();
    assert_eq!(client.read(3 << 20).len(), 3 << 20);
    assert!(panics(|| client.resume_reading()).contains("without end"));
}

#[test]
fn timers_fire_in_their_order_each_at_its_time() {
    let stage = Stage::new();
    let client = stage.client();
    client.message(act(|cx| {
        for (key, delay) in [(3, 30), (1, 10), (2, 20), (4, 40)] {
            cx.set_timer(key, millis(delay));
        }
        cx.cancel_timer(2);
    }));
    stage.net.advance(millis(5));
    assert_eq!(client.timers(), [(1, millis(5)), (3, millis(25)), (4, millis(35))]);
    stage.net.advance(millis(30));
    let fired = [(10, "Timer(1)".to_owned()), (30, "Timer(3)".to_owned())];
    assert_eq!(stage.timed_log(), fired);
    assert_eq!(stage.net.now() - stage.start, millis(35));
    assert_eq!(client.timers(), [(4, millis(5))]);
}

#[test]
fn a_timer_that_sets_itself_anew_fires_all_the_way() {
    /// Writes a dot each second.
    struct Dots;

    impl Protocol for Dots {
        type Message = ();

        fn on_open(&mut self, cx: &mut Context<'_>) {
            cx.set_timer(0, seconds(1));
        }

        fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

        fn on_timeout(&mut self, _: Timeout, cx: &mut Context<'_>) {
            cx.write(b".");
            cx.set_timer(0, seconds(1));
        }
    }

    let net = Loop::new(|_| Some(Dots));
    let client = net.connect();
    net.advance(millis(4500));
    assert_eq!(client.received_text(), "....");
}

#[test]
fn a_timer_without_delay_that_sets_itself_anew_is_reported() {
    struct Spinner;

    impl Protocol for Spinner {
        type Message = ();

        fn on_open(&mut self, cx: &mut Context<'_>) {
            cx.set_timer(0, Duration::ZERO);
        }

        fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

        fn on_timeout(&mut self, _: Timeout, cx: &mut Context<'_>) {
            self.on_open(cx);
        }
    }

    let net = Loop::new(|_| Some(Spinner));
    assert!(panics(|| net.connect()).contains("does not come to rest"));
}

#[test]
fn a_timer_that_a_callback_sets_for_now_fires_at_once() {
    let stage = Stage::new();
    stage.client().message(act(|cx| cx.set_timer(5, Duration::ZERO)));
    assert_eq!(stage.timed_log(), [(0, "Timer(5)".to_owned())]);
}

#[test]
fn messages_reach_who_is_there_and_others_are_counted() {
    let stage = Stage::new();
    let (first, second) = (stage.client(), stage.client());
    let id = second.id().unwrap();
    first.message(act(move |cx| {
        let hello = |cx: &mut Context<'_, Act>| {
            cx.write(b"hello");
        };
        assert!(cx.send(id, act(hello)).is_ok());
        assert!(cx.handle().send(id, act(hello)).is_ok());
    }));
    assert_eq!(second.received(), b"hellohello");
    second.reset();
    assert!(!second.message(act(|_| unreachable!("it has ended"))));
    first.message(act(move |cx| assert!(cx.send(id, act(|_| ())).is_ok())));
    assert_eq!(stage.net.stats().messages_undeliverable, 2);
}

#[test]
fn messages_to_and_fro_without_end_are_reported() {
    fn again(cx: &mut Context<'_, Act>) {
        assert!(cx.send(cx.id(), act(again)).is_ok());
    }
    fn again_by_handle(cx: &mut Context<'_, Act>) {
        assert!(cx.handle().send(cx.id(), act(again_by_handle)).is_ok());
    }
    for message in [act(again), act(again_by_handle)] {
        let client = Stage::new().client();
        assert!(panics(|| client.message(message)).contains("does not come to rest"));
    }
}

#[test]
fn what_another_thread_asks_for_is_done_with_the_next_run() {
    let stage = Stage::new();
    let client = stage.client();
    let (handle, id) = (stage.net.handle(), client.id().unwrap());
    let thread = std::thread::spawn(move || {
        let bye = act(|cx| {
            cx.write(b"bye");
        });
        handle.send(id, bye).is_ok()
    });
    assert!(thread.join().unwrap());
    assert_eq!(client.received(), b"");
    stage.net.run();
    assert_eq!(client.received(), b"bye");
}

#[test]
fn a_mailbox_is_full_until_the_loop_runs_and_closed_when_it_has_ended() {
    let config = Config { mailbox_capacity: 1, ..Config::default() };
    let stage = Stage::with_config(config);
    let handle = stage.net.handle();
    handle.connect(upstream(), 1).unwrap();
    assert!(matches!(handle.connect(upstream(), 2), Err(SendError::Full(_))));
    stage.net.run();
    handle.connect(upstream(), 3).unwrap();
    stage.net.abort();
    assert!(stage.net.is_finished());
    assert!(matches!(handle.connect(upstream(), 4), Err(SendError::Closed(_))));
}

#[test]
fn an_outbound_connection_is_made_when_the_upstream_accepts() {
    let stage = Stage::new();
    let client = stage.client();
    client.message(act(|cx| assert!(cx.connect(upstream(), 7).is_ok())));
    let attempt = stage.net.next_connect().unwrap();
    assert_eq!((attempt.address(), attempt.label(), attempt.requested_by()), (upstream(), 7, client.id()));
    assert!(attempt.is_pending() && stage.net.next_connect().is_none());
    assert!(stage.log().is_empty());
    let upstream = attempt.buffer_bytes(2).stopped().accept();
    assert_eq!(stage.log(), ["open"]);
    upstream.send(b"hi");
    upstream.message(act(|cx| {
        cx.write(b"hello");
    }));
    assert_eq!((stage.log(), upstream.queued()), (vec!["data hi".into()], 3));
}

#[test]
fn an_outbound_connection_that_fails_is_reported_with_the_reason() {
    let stage = Stage::new();
    let client = stage.client();
    client.message(act(|cx| {
        assert!(cx.connect(upstream(), 1).is_ok());
        assert!(cx.connect(upstream(), 2).is_ok());
        assert!(cx.connect(upstream(), REFUSED).is_ok());
    }));
    assert_eq!(stage.log(), ["99: connect failed: permission denied"], "the factory did not want it");
    stage.net.next_connect().unwrap().refuse(ErrorKind::HostUnreachable);
    assert_eq!(stage.log(), ["1: connect failed: host unreachable"]);
    let late = stage.net.next_connect().unwrap();
    assert!(stage.net.next_connect().is_none());
    stage.net.advance(seconds(10));
    assert_eq!(stage.log(), ["2: connect timeout"]);
    assert!(!late.is_pending());
    assert!(panics(|| late.accept()).contains("does not wait for 192.0.2.80:80 any more"));
}

#[test]
fn an_attempt_that_was_given_up_is_not_handed_out() {
    let stage = Stage::new();
    stage.net.handle().connect(upstream(), 1).unwrap();
    stage.net.advance(seconds(10));
    assert_eq!(stage.net.stats().closed(CloseReason::ConnectTimeout), 1);
    assert!(stage.net.next_connect().is_none());
}

#[test]
fn where_there_is_no_room_outbound_connections_wait_or_fail_and_clients_wait() {
    let config = Config { max_connections: Some(1), ..Config::default() };
    let stage = Stage::with_config(config);
    let client = stage.client();
    client.message(act(|cx| assert!(cx.connect(upstream(), 1).is_ok())));
    stage.net.handle().connect(upstream(), 2).unwrap();
    stage.net.run();
    let failed = CloseReason::ConnectFailed(ErrorKind::QuotaExceeded);
    assert_eq!(stage.net.stats().closed(failed), 1);
    let waiting = stage.net.connect();
    assert!(stage.net.next_connect().is_none());
    stage.net.advance(seconds(10));
    assert_eq!(stage.log(), ["1: connect timeout"]);
    assert_eq!(waiting.id(), None);
    client.reset();
    assert!(waiting.is_open());
}

#[test]
fn a_panic_costs_one_connection() {
    let stage = Stage::new();
    let (victim, neighbour) = (stage.client(), stage.client());
    victim.message(act(|_| panic!("the test wants this")));
    assert_eq!(victim.close_reason(), Some(CloseReason::Panicked));
    assert!(victim.was_reset() && neighbour.is_open());
    assert_eq!(stage.net.stats().panics, 1);
}

#[test]
fn who_is_refused_by_the_factory_is_reset_and_has_no_name() {
    let net = Loop::<Echo>::new(|peer| match peer.origin {
        Origin::Listener(0) => None,
        Origin::Listener(_) | Origin::Connect(_) => panic!("the test wants this"),
    });
    for client in [net.connect(), net.client().listener(3).connect()] {
        assert!(client.was_reset() && !client.has_fin() && !client.is_open());
        assert_eq!((client.id(), client.close_reason()), (None, None));
    }
    assert_eq!((net.stats().refused, net.stats().panics), (2, 1));
}

#[test]
fn the_protocol_sees_the_addresses_of_its_client_and_its_listener() {
    let stage = Stage::new();
    let (first, second) = (stage.client(), stage.net.client().listener(2).connect());
    assert_ne!(first.address(), second.address());
    let address = second.address();
    second.message(act(move |cx| {
        assert_eq!(cx.peer_addr().unwrap(), address);
        assert_eq!(cx.local_addr().unwrap().to_string(), "192.0.2.1:27017");
        cx.finish();
    }));
    assert!(second.has_fin(), "the assertions held");
}

#[test]
fn a_drain_serves_who_waits_and_then_cuts_off() {
    let config = Config { max_connections: Some(1), ..Config::default() };
    let stage = Stage::with_config(config);
    let (client, waiting) = (stage.client(), stage.net.connect());
    stage.net.drain();
    stage.net.advance(millis(250));
    assert_eq!(stage.log(), ["drain"]);
    assert!(client.is_open(), "the protocol goes on");
    stage.net.advance(seconds(30));
    assert_eq!(client.close_reason(), Some(CloseReason::DrainTimeout));
    assert!(client.was_reset() && waiting.was_reset() && stage.net.is_finished());
    assert!(stage.log().is_empty(), "who waited is not begun with");
    assert!(stage.net.connect().was_reset(), "nobody listens any more");
    assert!(stage.net.client().listener(1).connect().was_reset());
    stage.net.advance(seconds(1000));
    assert_eq!(stage.net.stats().closed(CloseReason::DrainTimeout), 2);
}

#[test]
fn a_server_for_one_client_ends_with_it_unless_it_keeps_running() {
    for keep_running in [false, true] {
        let config = Config { accept_limit: Some(1), keep_running, ..Config::default() };
        let net = Loop::with_config(config, |_| Some(Echo));
        let client = net.connect();
        assert!(net.connect().was_reset());
        assert!(!net.is_finished());
        client.end();
        assert_eq!(net.is_finished(), !keep_running);
    }
}

#[test]
fn time_goes_on_when_the_loop_has_ended() {
    let net = Loop::new(|_| Some(Echo));
    let client = net.client().buffer_bytes(10).stopped().connect();
    client.send([b'x'; 100]);
    assert_eq!(client.read(100).len(), 100, "so that the loop has memory to give back later");
    client.end();
    net.drain();
    assert!(net.is_finished());
    let before = net.now();
    net.advance(seconds(1000));
    assert_eq!(net.now() - before, seconds(1000));
}

#[test]
fn a_relay_passes_backpressure_and_half_closes_on() {
    let stage = Stage::with_config(small());
    let client = stage.client();
    client.message(act(|cx| {
        cx.pause_reading();
        assert!(cx.connect(upstream(), 1).is_ok());
    }));
    let upstream = stage.net.next_connect().unwrap().buffer_bytes(5).stopped().accept();
    let id = client.id().unwrap();
    upstream.message(act(move |cx| cx.relay(id)));
    client.send([b'x'; 50]);
    client.end();
    assert_eq!((upstream.queued(), client.unread()), (10, 35));
    assert_eq!(upstream.read(100).len(), 50);
    assert!(upstream.has_fin() && !client.has_fin());
    upstream.send(b"done");
    upstream.end();
    assert_eq!(client.received(), b"done");
    assert!(client.has_fin());
    assert!(client.close_reason().unwrap().is_complete() && upstream.close_reason().unwrap().is_complete());
}

#[test]
fn the_protocol_can_be_looked_at_while_it_is_there() {
    let stage = Stage::new();
    let client = stage.client();
    assert_eq!(client.protocol(|puppet| puppet.id), client.id());
    client.reset();
    assert_eq!(client.protocol(|puppet| puppet.id), None);
    assert!(client.timers().is_empty());
}

#[test]
fn a_limit_out_of_bounds_is_named() {
    let config = Config { backlog: 0, ..Config::default() };
    assert!(panics(|| Loop::with_config(config, |_| Some(Echo))).contains("backlog"));
}

#[test]
fn a_handle_is_another_name_for_the_same_client() {
    let net = Loop::new(|_| Some(Echo));
    let client = net.connect();
    let same = client.clone();
    drop(net);
    same.send(b"abc");
    assert_eq!(client.received(), b"abc");
    drop(client);
    assert!(same.is_open());
    assert!(format!("{same:?}").contains("198.51.100.0:49152"));
}

proptest! {
    /// However bytes are cut, and however the client reads them, they come back whole, and FIN behind them.
    #[test]
    fn no_byte_is_lost_or_out_of_place(
        bytes: Vec<u8>,
        chunk in 1..40_usize,
        reads in 1..9_usize,
        buffer in 1..30_usize,
        high_water in 1..30_usize,
    ) {
        let mut config = Config::default();
        config.set_high_water(high_water);
        let net = Loop::with_config(config, |_| Some(Echo));
        let client = net.client().buffer_bytes(buffer).stopped().connect();
        client.send_in_chunks(&bytes, chunk);
        client.end();
        let mut back = Vec::new();
        loop {
            let more = client.read(reads);
            if more.is_empty() {
                break;
            }
            back.extend(more);
        }
        prop_assert_eq!(back, bytes);
        prop_assert!(client.has_fin());
        prop_assert_eq!(client.close_reason(), Some(CloseReason::Peer));
    }
}

#[test]
fn who_reads_again_gets_everything_that_waited() {
    let net = Loop::with_config(small(), |_| Some(Echo));
    let client = net.client().buffer_bytes(3).stopped().connect();
    let sent: Vec<u8> = (0..=u8::MAX).collect();
    client.send(&sent);
    assert!(client.unread() > 0 && client.queued() > 0);
    client.resume_reading();
    assert_eq!(client.received(), sent);
}

#[test]
fn what_a_handle_sends_to_all_and_then_to_one_comes_in_that_order() {
    struct Writes;
    impl Protocol for Writes {
        type Message = &'static str;
        fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_, &'static str>) {}
        fn on_message(&mut self, text: &'static str, cx: &mut Context<'_, &'static str>) {
            cx.write(text.as_bytes());
        }
    }
    let net = Loop::new(|_| Some(Writes));
    let client = net.connect();
    net.handle().send_all("all ").unwrap();
    net.handle().send(client.id().unwrap(), "one").unwrap();
    net.run();
    assert_eq!(client.received(), b"all one");
}

#[test]
fn messages_of_one_connection_to_another_come_in_their_order() {
    let stage = Stage::new();
    let (first, second) = (stage.client(), stage.client());
    let id = second.id().unwrap();
    first.message(act(move |cx| {
        for digit in [b"1", b"2", b"3"] {
            let says_it = act(move |cx| {
                cx.write(digit);
            });
            assert!(cx.send(id, says_it).is_ok());
        }
    }));
    assert_eq!(second.received(), b"123");
}

#[test]
fn free_places_go_to_the_listeners_in_turn() {
    let config = Config { max_connections: Some(1), ..Config::default() };
    let stage = Stage::with_config(config);
    let mut open = stage.client();
    let mut waiting = [0, 0, 0, 1, 1, 1].map(|position| stage.net.client().listener(position).connect());
    let mut served = Vec::new();
    for _ in 0..waiting.len() {
        open.reset();
        let next = waiting.iter().position(Client::is_open).expect("a place is free");
        served.push(next);
        open = waiting[next].clone();
        // It does not count again.
        waiting[next] = stage.net.client().listener(next / 3).connect();
    }
    let of_second = served.iter().filter(|&&number| number >= 3).count();
    assert_eq!(of_second, 3, "{served:?}");
}

#[test]
fn nobody_dials_for_one_who_has_ended() {
    let config = Config { max_connections: Some(2), ..Config::default() };
    let stage = Stage::with_config(config);
    let (first, second) = (stage.client(), stage.client());
    first.message(act(|cx| assert!(cx.connect(upstream(), 1).is_ok())));
    assert!(stage.net.next_connect().is_none(), "there is no room");
    first.reset();
    assert!(stage.net.next_connect().is_none());
    assert!(second.is_open());
}

#[test]
fn clients_do_not_take_the_room_that_a_wanted_connection_waits_for() {
    let config = Config { max_connections: Some(3), ..Config::default() };
    let stage = Stage::with_config(config);
    let (first, second) = (stage.client(), stage.client());
    let id = second.id().unwrap();
    // What comes by mail comes after the connections of the turn were begun, and before clients are accepted.
    let ask = act(move |cx| {
        assert!(cx.send(id, act(|cx| assert!(cx.connect(upstream(), 1).is_ok()))).is_ok());
    });
    assert!(stage.net.handle().send(first.id().unwrap(), ask).is_ok());
    let client = stage.net.connect();
    assert!(stage.net.next_connect().is_some());
    assert_eq!(client.id(), None);
}

#[test]
fn a_loop_does_not_end_while_requests_wait() {
    let config = Config { accept_limit: Some(1), event_batch: 1, ..Config::default() };
    let stage = Stage::with_config(config);
    let client = stage.client();
    for label in [REFUSED, REFUSED, 1] {
        stage.net.handle().connect(upstream(), label).unwrap();
    }
    client.reset();
    assert_eq!(stage.net.next_connect().expect("it is asked for").label(), 1);
}

#[test]
fn connections_that_are_wanted_are_begun_a_burst_at_a_time() {
    const WANTED: u64 = 100;
    /// Notes in each turn how many have been begun.
    struct Watch {
        begun: Rc<Cell<u64>>,
        seen: Rc<RefCell<Vec<u64>>>,
    }
    impl Protocol for Watch {
        type Message = ();

        fn on_data(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
            for label in 0..WANTED {
                assert!(cx.connect(upstream(), label).is_ok());
            }
            self.seen.borrow_mut().push(self.begun.get());
            cx.set_timer(0, Duration::ZERO);
        }

        fn on_timeout(&mut self, _: Timeout, cx: &mut Context<'_>) {
            self.seen.borrow_mut().push(self.begun.get());
            if self.begun.get() < WANTED {
                cx.set_timer(0, Duration::ZERO);
            }
        }
    }
    let (begun, seen) = (Rc::<Cell<u64>>::default(), Rc::<RefCell<Vec<u64>>>::default());
    let config = Config { accept_burst: 3, ..Config::default() };
    let net = Loop::with_config(config, {
        let (begun, seen) = (Rc::clone(&begun), Rc::clone(&seen));
        move |peer| {
            let is_wanted = matches!(peer.origin, Origin::Connect(_));
            begun.set(begun.get() + u64::from(is_wanted));
            Some(Watch { begun: Rc::clone(&begun), seen: Rc::clone(&seen) })
        }
    });
    net.connect().send("go");
    assert_eq!(begun.get(), WANTED);
    let seen = seen.borrow();
    assert!(seen.windows(2).all(|turns| turns[1] - turns[0] <= 3), "{seen:?}");
}

#[test]
fn what_is_asked_for_behind_the_mailbox_wakes_the_loop_again() {
    let client = Stage::new().client();
    client.message(act(|cx| {
        // Mail is dealt with when the mailbox of the turn has been read.
        let by_mail = act(|cx| {
            let hello = act(|cx| {
                cx.write(b"hello");
            });
            assert!(cx.handle().send(cx.id(), hello).is_ok());
        });
        assert!(cx.send(cx.id(), by_mail).is_ok());
    }));
    assert_eq!(client.received(), b"hello");
}

#[test]
fn a_mailbox_that_holds_more_than_a_turn_takes_is_read_to_its_end() {
    let stage = Stage::with_config(Config { event_batch: 1, ..Config::default() });
    let client = stage.client();
    let id = client.id().unwrap();
    for n in 0..5_u8 {
        let write = act(move |cx| {
            cx.write(&[n]);
        });
        assert!(stage.net.handle().send(id, write).is_ok());
    }
    // Nothing else wakes the loop.
    stage.net.run();
    assert_eq!(client.received(), [0, 1, 2, 3, 4]);
}

#[test]
fn latecomers_in_a_drain_take_no_place_from_those_who_waited() {
    let config = Config { backlog: 1, max_connections: Some(4), ..Config::default() };
    let net = Loop::with_config(config, |_| Some(Echo));
    let _first: Vec<_> = (0..4).map(|_| net.connect()).collect();
    let waiting: Vec<_> = [0, 0, 1, 1].map(|listener| net.client().listener(listener).connect()).into();
    net.drain();
    let late = net.connect();
    // All places come free at the same time: when those who have them neither send nor end.
    net.advance(Duration::from_secs(6));
    for client in &waiting {
        assert!(client.id().is_some() && !client.was_reset());
    }
    assert!(late.was_reset());
}

#[test]
fn datagrams_are_echoed_beside_clients_and_whatever_the_protocol_is() {
    let net = Loop::new(|_| None::<Echo>);
    assert!(net.connect().was_reset(), "the factory refuses it");
    let largest = vec![b'x'; 65_507];
    for datagram in [&b""[..], b"hello", &largest] {
        assert_eq!(net.datagram(datagram).as_deref(), Some(datagram));
    }
    let stats = net.stats();
    assert_eq!((stats.datagrams_received, stats.datagram_bytes_sent), (3, 65_512));
    assert_eq!((stats.bytes_received, stats.refused), (0, 1));
}

#[test]
fn datagrams_from_where_an_exchange_could_be_endless_are_refused() {
    let net = Loop::new(|_| Some(Echo));
    for from in ["198.51.100.1:7", "198.51.100.1:27015", "198.51.100.1:0", "[ff02::1]:40000"] {
        assert_eq!(net.datagram_from(from.parse().unwrap(), "x"), None, "{from}");
    }
    assert_eq!(net.datagram_from("198.51.100.1:40000".parse().unwrap(), "x").as_deref(), Some(&b"x"[..]));
    assert_eq!((net.stats().datagrams_refused, net.stats().datagrams_sent), (4, 1));
}

#[test]
fn a_drain_closes_the_datagram_socket_and_waits_for_connections_only() {
    let net = Loop::new(|_| Some(Echo));
    assert!(net.datagram("before").is_some());
    let client = net.connect();
    net.drain();
    assert_eq!(net.datagram("after"), None);
    assert!(!net.is_finished(), "the client is still there");
    client.end();
    net.advance(Duration::from_millis(250));
    assert!(net.is_finished());
    assert_eq!(net.stats().datagrams_received, 1);
}

/// Begins TLS at the first byte, and notes what happens.
#[derive(Default)]
struct Upgrade(Vec<&'static str>);

impl Protocol for Upgrade {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        if self.0.is_empty() {
            cx.start_tls(ToyTls::new().acceptor());
        }
        input.take();
        self.0.push("data");
    }

    fn on_tls(&mut self, _: &TlsInfo, _: &mut Context<'_>) {
        self.0.push("tls");
    }
}

/// Lets this end of TLS take what has come for the client, and returns what it has to say.
fn take_records<P: Protocol>(session: &mut ToySession, client: &Client<'_, P>) -> Vec<u8> {
    let (mut plaintext, mut outgoing) = (Vec::new(), Vec::new());
    let mut received = client.received();
    let taken = session.receive(&mut received, &mut Plaintext::new(&mut [], &mut plaintext), &mut outgoing);
    assert_eq!(taken.unwrap(), received.len());
    outgoing
}

#[test]
fn tls_that_was_begun_is_told_before_what_comes_right_behind_its_handshake() {
    let net = Loop::new(|_| Some(Upgrade::default()));
    let client = net.connect();
    client.send(b"?");
    let mut session = ToySession::client(ToyTls::new());
    client.send(take_records(&mut session, &client));
    let mut last = take_records(&mut session, &client);
    session.seal(&mut [], b"hello", &mut last).unwrap();
    client.send(last);
    assert_eq!(client.protocol(|upgrade| upgrade.0.clone()).unwrap(), ["data", "tls", "data"]);
}

#[test]
fn what_comes_before_a_fault_is_good_also_right_behind_a_handshake() {
    let net = Loop::new(|_| Some(Upgrade::default()));
    let client = net.connect();
    client.send(b"?");
    let mut session = ToySession::client(ToyTls::new());
    client.send(take_records(&mut session, &client));
    let mut last = take_records(&mut session, &client);
    session.seal(&mut [], b"hello", &mut last).unwrap();
    last.extend(b"no record");
    let before = net.stats().bytes_received;
    client.send(last);
    assert_eq!(net.stats().bytes_received - before, 5);
    assert_eq!(client.close_reason(), Some(CloseReason::Failed(ErrorKind::InvalidData)));
}
