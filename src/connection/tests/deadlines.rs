//! Idleness, stalls, timers.

use super::*;

#[test]
fn idle_connections_are_ended_the_documented_way() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.pass(seconds(599));
    world.data(&peer, b"x");
    world.pass(seconds(599));
    world.assert_open();
    world.pass(seconds(1));
    assert_eq!(peer.calls(), ["read 1", "write 1", "shutdown"]);
    world.fin(&peer);
    world.assert_ended(CloseReason::Idle);
}

#[test]
fn a_peer_whose_bytes_wait_unread_is_not_idle() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    // The loop was held up: the bytes are there, the event was not taken yet.
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"in time".to_vec()));
    world.pass(seconds(600));
    assert_eq!(peer.sent(), b"in time");
    world.pass(seconds(599));
    world.assert_open();
}

#[test]
fn of_many_deadlines_that_come_at_once_a_turn_deals_with_a_batch() {
    let mut world = World::echo(Config { event_batch: 10, ..Config::default() });
    let peers: Vec<Peer> = (0..25).map(|_| world.accept(Echo, 100)).collect();
    world.connections.set_now(world.now + seconds(600));
    let ended = || peers.iter().filter(|peer| peer.calls().contains(&"shutdown".to_owned())).count();
    let mut in_each_turn = Vec::new();
    while world.connections.next_deadline().is_some_and(|at| at <= world.now + seconds(600)) {
        world.connections.run_deadlines(&mut FakePoller);
        in_each_turn.push(ended());
    }
    assert_eq!(in_each_turn, [10, 10, 5]);
}

#[test]
fn timeouts_that_are_off_or_past_the_clock_never_come() {
    for timeout in [None, Some(Duration::MAX)] {
        let limits = Config { idle_timeout: timeout, write_timeout: timeout, ..Config::default() };
        let (mut world, peer) = World::with_one(limits, 0);
        world.pass(seconds(1 << 30));
        world.data(&peer, b"x");
        world.pass(seconds(1 << 30));
        world.assert_open();
    }
}

#[test]
fn slow_is_neither_idle_nor_stalled_and_each_of_these_has_its_own_end() {
    let limits = Config { idle_timeout: Some(seconds(10)), write_timeout: Some(seconds(15)), ..small() };
    let (mut world, peer) = World::with_one(limits.clone(), 0);
    world.data(&peer, b"01234567");
    for _ in 0..7 {
        // Longer than the idle timeout, shorter than the write timeout.
        world.pass(seconds(12));
        world.make_room(&peer, 1);
    }
    world.assert_open();
    world.make_room(&peer, 1);
    assert_eq!(peer.sent(), b"01234567");
    world.pass(seconds(10));
    world.fin(&peer);
    world.assert_ended(CloseReason::Idle);

    let (mut world, peer) = World::with_one(limits, 0);
    world.data(&peer, b"0");
    world.pass(seconds(15));
    assert_eq!(peer.calls(), ["read 1", "reset", "close"]);
    world.assert_ended(CloseReason::WriteStall);
}

#[test]
fn a_protocol_may_live_on_after_an_idle_timeout() {
    let mut world = World::new(Config::default());
    let log: Rc<RefCell<Vec<Timeout>>> = Rc::default();
    let _peer = world.accept(Ticking { log: Rc::clone(&log), rearm: None }, 100);
    world.pass(seconds(1800));
    assert_eq!(*log.borrow(), [Timeout::Idle; 3]);
    world.assert_open();
}

#[test]
fn timers_fire_once_in_order_and_may_be_set_again() {
    let mut world = World::new(Config { idle_timeout: None, ..Config::default() });
    let log: Rc<RefCell<Vec<Timeout>>> = Rc::default();
    let peer = world.accept(Ticking { log: Rc::clone(&log), rearm: Some(seconds(7)) }, 100);
    world.data(&peer, b"\x05\x02\x09");
    world.pass(seconds(6));
    assert_eq!(*log.borrow(), [2, 5].map(Timeout::Timer));
    world.pass(seconds(6));
    assert_eq!(*log.borrow(), [2, 5, 9, 2, 5].map(Timeout::Timer));
}

#[test]
fn a_timer_set_for_now_in_its_own_callback_does_not_hold_up_the_loop() {
    let mut world = World::new(Config { idle_timeout: None, ..Config::default() });
    let log: Rc<RefCell<Vec<Timeout>>> = Rc::default();
    let peer = world.accept(Ticking { log: Rc::clone(&log), rearm: Some(Duration::ZERO) }, 100);
    world.data(&peer, b"\x01");
    world.now += seconds(1);
    world.connections.set_now(world.now);
    for round in 1..=3 {
        world.connections.run_deadlines(&mut FakePoller);
        assert_eq!(log.borrow().len(), round);
    }
}

#[test]
fn memory_for_queues_that_was_not_needed_for_a_while_is_given_back() {
    let limits = Config { idle_timeout: None, write_timeout: None, ..Config::default() };
    let (mut world, peer) = World::with_one(limits, 0);
    world.data(&peer, b"waits");
    assert_eq!(world.connections.next_deadline(), None);
    world.make_room(&peer, 5);
    let at = world.connections.next_deadline().expect("a buffer is free");
    world.pass(at - world.now);
    assert_eq!(world.connections.next_deadline(), None);
    world.assert_open();
}

/// Half-closes at once, and finishes when its timer fires.
struct EndsLater;

impl Protocol for EndsLater {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.shutdown_write();
        cx.set_timer(0, seconds(9));
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }
}

#[test]
fn the_linger_silence_begins_when_input_is_discarded() {
    let mut world = World::new(Config::default());
    world.accept(EndsLater, 100);
    world.pass(seconds(9) + Duration::from_millis(4999));
    world.assert_open();
    world.pass(Duration::from_millis(1));
    world.assert_ended(CloseReason::LingerSilence);
}

#[test]
fn a_deadline_that_comes_up_too_early_costs_no_system_call() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.pass(seconds(300));
    world.data(&peer, b"active");
    let before = peer.wire.borrow().reads;
    world.pass(seconds(300));
    assert_eq!(peer.wire.borrow().reads, before);
    world.assert_open();
}

/// Takes a byte, sleeps for 5 s, takes the next.
struct Sleepy;

impl Protocol for Sleepy {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        input.consume(1);
        cx.pause_reading();
        cx.set_timer(0, seconds(5));
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_>) {
        match which {
            Timeout::Timer(_) => cx.resume_reading(),
            Timeout::Idle | Timeout::ReadIdle | Timeout::WriteIdle | Timeout::Inner(_) => cx.finish(),
        }
    }
}

#[test]
fn after_a_stall_of_the_loop_what_a_timer_sets_going_counts_before_idleness() {
    let limits = Config { idle_timeout: Some(seconds(10)), ..Config::default() };
    let mut world = World::new(limits);
    let peer = world.accept(Sleepy, 100);
    world.data(&peer, b"x");
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"y".to_vec()));
    world.connections.set_now(world.now + seconds(20));
    world.connections.run_deadlines(&mut FakePoller);
    world.settle();
    assert_eq!(world.stats().bytes_received, 2);
    assert!(!peer.calls().contains(&"shutdown".to_owned()), "it was not idle");
}

#[test]
fn an_end_of_input_that_is_left_unanswered_ends_in_idleness() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Unmoved, 100);
    world.fin(&peer);
    world.pass(Duration::from_millis(599_999));
    world.assert_open();
    world.pass(Duration::from_millis(1));
    // What the peer did first is why.
    world.assert_ended(CloseReason::Peer);
}
