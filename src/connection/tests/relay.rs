//! Two connections that are relayed with each other.

use super::*;

/// Writes what it is sent; leaves its input; asks for a relay in `on_open` or in the first `on_data`.
#[derive(Default)]
struct Side {
    with: Option<ConnectionId>,
    in_data: bool,
    greeting: &'static [u8],
    pauses: bool,
    drains_itself: bool,
    on_data_calls: Rc<Cell<usize>>,
}

impl Protocol for Side {
    type Message = Vec<u8>;

    fn on_open(&mut self, cx: &mut Context<'_, Vec<u8>>) {
        if self.pauses {
            cx.pause_reading();
        }
        cx.write(self.greeting);
        if let (Some(with), false) = (self.with, self.in_data) {
            cx.relay(with);
        }
    }

    fn on_data(&mut self, _: &mut Input<'_>, cx: &mut Context<'_, Vec<u8>>) {
        self.on_data_calls.set(self.on_data_calls.get() + 1);
        if let (Some(with), true) = (self.with, self.in_data) {
            cx.relay(with);
        }
    }

    fn on_message(&mut self, message: Vec<u8>, cx: &mut Context<'_, Vec<u8>>) {
        cx.write(&message);
    }

    fn on_drain(&mut self, cx: &mut Context<'_, Vec<u8>>) {
        if !self.drains_itself {
            cx.finish();
        }
    }
}

fn side(with: Option<&Peer>) -> Side {
    Side { with: with.map(|with| with.id), ..Side::default() }
}

/// Two clients, of which one's socket takes `room` bytes and the other's everything.
fn pair(limits: Config, room: usize) -> (World<Side>, Peer, Peer) {
    let mut world = World::new(limits);
    let one = world.accept(side(None), room);
    let other = world.accept(side(Some(&one)), 100_000);
    world.settle();
    (world, one, other)
}

/// The same, but a drain does not end them.
fn draining_themselves(limits: Config) -> (World<Side>, Peer, Peer) {
    let mut world = World::new(limits);
    let one = world.accept(Side { drains_itself: true, ..Side::default() }, 100_000);
    let other = world.accept(Side { drains_itself: true, ..side(Some(&one)) }, 100_000);
    world.settle();
    (world, one, other)
}

fn reasons<P: Protocol>(world: &World<P>) -> Vec<&'static str> {
    world.stats().close_reasons().map(|(reason, _)| reason.name()).collect()
}

#[test]
fn what_comes_on_one_goes_out_on_the_other() {
    let (mut world, one, other) = pair(Config::default(), 100);
    world.data(&one, b"request");
    world.data(&other, b"answer");
    assert_eq!((other.sent(), one.sent()), (b"request".to_vec(), b"answer".to_vec()));
    assert_eq!(one.calls(), ["read 7", "write 6"], "one write for what was read at once");
}

#[test]
fn what_was_left_goes_first_and_what_was_paused_goes_on() {
    let mut world = World::new(Config::default());
    let one = world.accept(side(None), 100);
    world.data(&one, b"early ");
    let paused = Side { pauses: true, ..side(Some(&one)) };
    let other = world.accept(paused, 100);
    world.settle();
    world.data(&one, b"late");
    world.data(&other, b"back");
    assert_eq!((other.sent(), one.sent()), (b"early late".to_vec(), b"back".to_vec()));
}

#[test]
fn an_end_passes_through_behind_everything_and_the_other_way_goes_on() {
    let (mut world, one, other) = pair(Config::default(), 100);
    world.data(&one, b"request");
    world.fin(&one);
    assert_eq!(other.calls(), ["write 7", "shutdown"]);
    world.data(&other, b"answer");
    world.fin(&other);
    assert_eq!(one.sent(), b"answer");
    assert_eq!(reasons(&world), ["peer", "finished"]);
    assert!(world.connections.is_empty());
}

#[test]
fn while_one_is_full_the_other_is_not_read() {
    let (mut world, one, other) = pair(small(), 0);
    other.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![7; 25]));
    world.event(&other, READ);
    assert_eq!(other.calls(), ["read 10"], "the high-water mark");
    world.event(&other, READ);
    assert_eq!(other.calls(), Vec::<String>::new());
    world.make_room(&one, 5);
    assert_eq!(other.calls(), Vec::<String>::new(), "5 bytes are queued, more than the low-water mark");
    world.make_room(&one, 1);
    assert_eq!(other.calls(), ["read 6"]);
    world.make_room(&one, 100);
    assert_eq!(one.sent(), [7; 25]);
}

#[test]
fn one_that_waits_for_the_other_is_not_idle() {
    let (mut world, one, other) = pair(Config { write_timeout: None, ..small() }, 0);
    other.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![7; 25]));
    world.event(&other, READ);
    world.pass(Config::default().idle_timeout.unwrap() * 3);
    assert_eq!(world.stats().closed_total(), 0);
    world.make_room(&one, 100);
    assert_eq!(one.sent(), [7; 25]);
    world.pass(Config::default().idle_timeout.unwrap() * 2);
    assert!(world.connections.len() < 2 || other.calls().contains(&"shutdown".to_owned()), "now they are");
}

#[test]
fn a_reset_passes_through() {
    let (mut world, one, other) = pair(Config::default(), 100);
    one.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::ConnectionReset));
    world.event(&one, READ);
    assert_eq!(other.calls(), ["reset", "close"]);
    assert_eq!(reasons(&world), ["reset", "relay broken"]);
    assert!(world.connections.is_empty());
}

#[test]
fn one_that_stalls_takes_the_other_with_it() {
    let (mut world, one, other) = pair(small(), 0);
    world.data(&other, b"unread");
    world.pass(Config::default().write_timeout.unwrap());
    assert_eq!(reasons(&world), ["write stall", "relay broken"]);
    assert_eq!(world.stats().bytes_undelivered, 6);
    assert_eq!(one.calls(), ["reset", "close"]);
}

#[test]
fn both_finish_when_they_are_idle_or_drained() {
    let (mut world, one, other) = pair(Config::default(), 100);
    world.pass(Config::default().idle_timeout.unwrap());
    assert_eq!((one.calls(), other.calls()), (vec!["shutdown".to_owned()], vec!["shutdown".to_owned()]));
    let (mut world, one, other) = pair(Config::default(), 100);
    world.begin_drain();
    world.pass(Config::default().drain_silence);
    assert_eq!((one.calls(), other.calls()), (vec!["shutdown".to_owned()], vec!["shutdown".to_owned()]));
    world.fin(&one);
    world.fin(&other);
    assert!(world.connections.is_empty());
}

#[test]
fn nobody_is_relayed_with_one_that_is_gone_unmade_taken_or_itself() {
    let mut world = World::new(Config::default());
    let gone = world.accept(side(None), 100);
    world.connections.close_all(CloseReason::Aborted, &mut FakePoller);
    world.connections.reap(|_, _| {});
    let unmade = world.add(side(None), State::Connecting, Wire { connecting: true, ..Wire::default() });
    let one = world.accept(side(None), 100);
    let other = world.accept(side(Some(&one)), 100);
    let itself = Peer { id: ConnectionId { generation: 6, ..other.id }, wire: Rc::default() };
    let elsewhere = Peer { id: ConnectionId { worker: 1, ..one.id }, wire: Rc::default() };
    for with in [&gone, &unmade, &one, &other, &itself, &elsewhere] {
        let third = world.accept(side(Some(with)), 100);
        world.settle();
        assert_eq!(third.calls(), ["reset", "close"]);
    }
    assert_eq!(world.stats().closed(CloseReason::RelayBroken), 6);
    world.data(&one, b"still");
    assert_eq!(other.sent(), b"still", "the pair does not mind");
}

#[test]
fn what_a_protocol_wrote_before_stands_before_what_is_relayed() {
    let mut world = World::new(Config::default());
    let one = world.accept(Side { greeting: b"hello ", ..side(None) }, 100);
    let other = world.accept(side(Some(&one)), 100);
    world.data(&other, b"world");
    assert_eq!(one.sent(), b"hello world");
}

/// Debug: panics in `receive`; release: the empty read is taken for the peer's FIN.
#[test]
fn a_message_that_fills_the_queue_of_one_holds_the_other_back() {
    let (mut world, one, other) = pair(small(), 0);
    world.connections.message(one.id, vec![1; 20], &mut FakePoller);
    world.data(&other, b"answer");
    world.make_room(&one, 1000);
    assert!(!one.calls().contains(&"shutdown".to_owned()), "nobody has ended");
    assert_eq!(one.sent()[20..], *b"answer");
}

/// The upstream answers and ends before the loop sees that it is connected.
#[test]
fn an_upstream_that_answers_and_ends_at_once_is_relayed_whole() {
    let mut world = World::new(Config::default());
    let client = world.accept(Side { pauses: true, ..Side::default() }, 1000);
    let mut wire = Wire { room: 1000, ..Wire::default() };
    wire.incoming.extend([Incoming::Bytes(b"date".to_vec()), Incoming::Fin]);
    let upstream = world.add(Side { with: Some(client.id), ..Side::default() }, State::Connecting, wire);
    world.event(&upstream, READ | WRITE);
    assert_eq!(
        (client.sent(), client.calls()),
        (b"date".to_vec(), vec!["write 4".to_owned(), "shutdown".to_owned()])
    );
}

/// The same with a reset: the client must learn that nobody is there.
#[test]
fn an_upstream_that_resets_at_once_has_its_client_reset() {
    let mut world = World::new(Config::default());
    let client = world.accept(Side { pauses: true, ..Side::default() }, 1000);
    let mut wire = Wire { room: 1000, ..Wire::default() };
    wire.incoming.extend([Incoming::Error(ErrorKind::ConnectionReset)]);
    let upstream = world.add(Side { with: Some(client.id), ..Side::default() }, State::Connecting, wire);
    world.event(&upstream, READ | WRITE);
    assert_eq!(upstream.calls(), ["reset", "close"]);
    assert_eq!(client.calls(), ["reset", "close"]);
}

/// The same where what is written before the relay (a PROXY header, say) fails.
#[test]
fn an_upstream_that_cannot_be_greeted_has_its_client_reset() {
    let mut world = World::new(Config::default());
    let client = world.accept(Side { pauses: true, ..Side::default() }, 1000);
    let mut wire = Wire { room: 1000, ..Wire::default() };
    wire.write_errors.push_back(ErrorKind::BrokenPipe);
    wire.incoming.push_back(Incoming::Error(ErrorKind::ConnectionReset));
    let side = Side { with: Some(client.id), greeting: b"PROXY", ..Side::default() };
    let upstream = world.add(side, State::Connecting, wire);
    world.event(&upstream, READ | WRITE);
    assert_eq!(upstream.calls(), ["reset", "close"]);
    assert_eq!(client.calls(), ["reset", "close"]);
}

/// Asked for in `on_data`, with the end right behind.
#[test]
fn a_relay_asked_for_in_on_data_holds_from_then_on() {
    let mut world = World::new(Config::default());
    let one = world.accept(Side::default(), 1000);
    let on_data_calls = Rc::default();
    let side = Side {
        with: Some(one.id),
        in_data: true,
        on_data_calls: Rc::clone(&on_data_calls),
        ..Side::default()
    };
    let other = world.accept(side, 1000);
    let more = [Incoming::Bytes(b"join".to_vec()), Incoming::Bytes(b"data".to_vec()), Incoming::Fin];
    other.wire.borrow_mut().incoming.extend(more);
    world.event(&other, READ);
    assert_eq!(on_data_calls.get(), 1, "on_data is not called any more");
    assert_eq!(one.sent(), b"joindata");
    assert_eq!(one.calls().last().unwrap(), "shutdown");
}

/// Held back for longer than the idle timeout, and then idle at once.
#[test]
fn one_that_was_held_back_is_idle_only_after_its_idle_time() {
    let (mut world, one, other) = pair(Config { write_timeout: None, ..small() }, 0);
    world.data(&other, &[7; 10]);
    world.pass(Config::default().idle_timeout.unwrap() * 3);
    world.make_room(&one, 100);
    assert_eq!(one.sent(), [7; 10]);
    world.pass(seconds(1));
    assert!(!one.calls().contains(&"shutdown".to_owned()) && !other.calls().contains(&"shutdown".to_owned()));
    world.data(&one, b"answer");
    assert_eq!(other.sent(), b"answer");
}

/// The same where it has ended: what it sent is still being taken, bit by bit, and an answer may come.
#[test]
fn one_that_has_ended_is_not_idle_while_what_it_sent_is_being_taken() {
    let limits = Config { idle_timeout: Some(seconds(100)), write_timeout: Some(seconds(60)), ..small() };
    let (mut world, one, other) = pair(limits, 0);
    world.data(&other, &[7; 9]);
    world.fin(&other);
    for _ in 0..9 {
        world.pass(seconds(40));
        world.make_room(&one, 1);
    }
    world.make_room(&one, 100);
    world.data(&one, b"answer");
    assert_eq!(other.sent(), b"answer");
}

/// Small steps that sum up to more than the idle time.
#[test]
fn a_pair_is_not_idle_while_one_of_them_takes_bytes() {
    let limits = Config { idle_timeout: Some(seconds(100)), write_timeout: Some(seconds(60)), ..small() };
    let (mut world, one, other) = pair(limits, 0);
    world.data(&other, &[7; 9]);
    for _ in 0..5 {
        world.pass(seconds(40));
        world.make_room(&one, 1);
    }
    assert!(!other.calls().contains(&"shutdown".to_owned()), "200 s, with a byte each 40 s");
    world.data(&one, b"answer");
    assert_eq!(other.sent(), b"answer");
}

/// Cut off by the drain while one still sends.
#[test]
fn a_stream_that_the_drain_cuts_off_does_not_look_whole() {
    let (mut world, one, other) = draining_themselves(Config::default());
    world.fin(&other);
    assert_eq!(one.calls(), ["shutdown"]);
    world.begin_drain();
    let until = Config::default().drain_timeout.unwrap().as_secs();
    for _ in 0..until {
        world.data(&one, b"more");
        world.pass(seconds(1));
    }
    let calls = other.calls();
    assert!(
        calls.contains(&"reset".to_owned()) && !calls.contains(&"shutdown".to_owned()),
        "{calls:?} {:?}",
        reasons(&world)
    );
}

/// An abort, and a drain that cuts off, count as such on both sides.
#[test]
fn close_all_counts_both_sides_by_its_own_reason() {
    let (mut world, _one, _other) = pair(Config::default(), 100);
    world.connections.close_all(CloseReason::Aborted, &mut FakePoller);
    assert_eq!(world.stats().closed(CloseReason::Aborted), 2, "{:?}", reasons(&world));
}

/// `relay` in `on_eof`: what was not consumed is passed on first, says its documentation.
#[test]
fn a_relay_asked_for_in_on_eof_passes_on_the_rest() {
    struct Late(Option<ConnectionId>);
    impl Protocol for Late {
        type Message = ();
        fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
        fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
            if let Some(with) = self.0 {
                cx.relay(with);
            }
        }
    }
    let mut world = World::new(Config::default());
    let one = world.accept(Late(None), 100);
    let other = world.accept(Late(Some(one.id)), 100);
    world.data(&other, b"request");
    world.fin(&other);
    assert_eq!(
        (one.sent(), one.calls()),
        (b"request".to_vec(), vec!["write 7".to_owned(), "shutdown".to_owned()])
    );
}

/// `shutdown_write` by the protocol of a relayed connection.
#[test]
fn what_comes_for_one_that_has_shut_down_is_not_read_and_dropped_for_ever() {
    #[derive(Default)]
    struct Shuts(Option<ConnectionId>);
    impl Protocol for Shuts {
        type Message = ();
        fn on_open(&mut self, cx: &mut Context<'_>) {
            if let Some(with) = self.0 {
                cx.relay(with);
            }
        }
        fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
        fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
            cx.shutdown_write();
        }
    }
    let mut world = World::new(Config { linger_limit_bytes: 100, ..Config::default() });
    let one = world.accept(Shuts(None), 100);
    let other = world.accept(Shuts(Some(one.id)), 100);
    world.connections.message(one.id, (), &mut FakePoller);
    for _ in 0..1000 {
        world.data(&other, b"more");
    }
    assert_ne!(world.stats().closed_total(), 0, "{} bytes dropped", world.stats().bytes_undelivered);
}

/// A drain does not take from a client the connection that it waits for.
#[test]
fn a_drain_lets_a_requested_connection_be_made() {
    let mut world = World::new(Config::default());
    let client = world.accept(Side { pauses: true, drains_itself: true, ..Side::default() }, 1000);
    let wire = Wire { room: 1000, connecting: true, ..Wire::default() };
    let upstream = world.add(Side { with: Some(client.id), ..Side::default() }, State::Connecting, wire);
    world.set_requester(&upstream, &client, 0);
    world.begin_drain();
    world.pass(Duration::from_millis(1));
    assert_eq!(reasons(&world), Vec::<&str>::new());
}

#[test]
fn a_stream_one_way_does_not_starve_the_other_way() {
    let limits =
        Config { high_water_bytes: 1000, low_water_bytes: 250, turn_budget_bytes: 100, ..Config::default() };
    let (mut world, one, other) = pair(limits, 0);
    other.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![7; 100_000]));
    world.event(&other, READ);
    one.wire.borrow_mut().room = 1_000_000;
    one.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"stop".to_vec()));
    world.connections.notice(one.id.token(), READ | WRITE);
    let turns = (0..1000).position(|_| {
        world.connections.run_ready(&mut FakePoller);
        !other.sent().is_empty()
    });
    assert!(turns.is_some_and(|turns| turns < 30), "{turns:?} turns, {} bytes", one.sent().len());
}

/// A pair of which one has sent in bulk before, and whose bytes are moved from now on; the other takes `room` more.
fn in_bulk(room: usize) -> (World<Side>, Peer, Peer) {
    let limits = Config { splice_threshold_bytes: Some(8), turn_budget_bytes: 10, ..Config::default() };
    let (mut world, from, to) = pair(limits, 1000);
    from.wire.borrow_mut().has_pipes = true;
    for _ in 0..2 {
        world.data(&from, &[1; 10]);
    }
    from.calls();
    to.wire.borrow_mut().sent.clear();
    to.calls();
    to.wire.borrow_mut().room = room;
    (world, from, to)
}

#[test]
fn what_is_relayed_in_bulk_is_moved_from_socket_to_socket() {
    let (mut world, from, to) = in_bulk(1000);
    world.data(&from, &[2; 30]);
    assert_eq!((from.calls(), to.calls()), (vec!["move 30".to_owned()], vec!["write 30".to_owned()]));
    assert_eq!(to.sent(), [2; 30]);
    world.data(&to, b"answer");
    assert_eq!(from.sent(), b"answer", "the other way is copied: little comes there");
}

#[test]
fn while_something_is_in_a_pipe_no_more_is_taken_and_the_other_way_goes_on() {
    let (mut world, from, to) = in_bulk(10);
    world.data(&from, &[2; 30]);
    assert_eq!(to.sent(), [2; 10]);
    world.data(&from, &[3; 30]);
    assert_eq!(from.calls(), ["move 30"], "20 bytes wait in the pipe");
    world.data(&to, b"answer");
    assert_eq!(from.sent(), b"answer");
    world.make_room(&to, 15);
    from.calls();
    world.make_room(&to, 5);
    assert_eq!(from.calls(), ["move 30"], "the pipe is empty");
    world.make_room(&to, 100);
    assert_eq!(to.sent(), [&[2; 30][..], &[3; 30]].concat());
    world.fin(&from);
    world.fin(&to);
    assert_eq!(reasons(&world), ["peer", "finished"]);
}

#[test]
fn an_end_is_passed_on_behind_what_is_in_the_pipe() {
    let (mut world, from, to) = in_bulk(10);
    world.data(&from, &[2; 30]);
    world.fin(&from);
    assert!(!to.calls().contains(&"shutdown".to_owned()), "20 bytes are owed");
    world.make_room(&to, 100);
    assert_eq!(to.calls().last().map(String::as_str), Some("shutdown"));
    assert_eq!(to.sent(), [2; 30]);
}

#[test]
fn what_is_in_a_pipe_when_its_receiver_resets_is_counted_as_lost_and_the_sender_is_reset() {
    let (mut world, from, to) = in_bulk(10);
    world.data(&from, &[2; 30]);
    to.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::ConnectionReset));
    world.event(&to, READ);
    assert_eq!(reasons(&world), ["reset undelivered", "relay broken"]);
    assert_eq!(world.stats().bytes_undelivered, 20);
    assert!(from.calls().contains(&"reset".to_owned()));
}
