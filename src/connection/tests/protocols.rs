//! What protocols may do, and what becomes of it.

use super::*;

#[test]
fn a_protocol_that_pauses_gets_the_rest_when_it_resumes() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Pausing, 100);
    world.data(&peer, b"abc");
    world.data(&peer, b"def");
    assert_eq!(peer.sent(), b"a");
    for expected in [&b"ab"[..], b"abc", b"abcd", b"abcde"] {
        assert!(world.connections.message(peer.id, (), &mut FakePoller));
        world.settle();
        assert_eq!(peer.sent(), expected);
    }
}

#[test]
fn a_panic_costs_its_own_connection_only() {
    let mut world = World::new(Config::default());
    let (nervous, calm) = (world.accept(Nervous, 100), world.accept(Nervous, 100));
    world.data(&nervous, b"!");
    assert_eq!(world.stats().closed(CloseReason::Panicked), 1);
    assert_eq!(world.stats().panics, 1);
    assert_eq!(nervous.calls(), ["read 1", "reset", "close"]);
    world.data(&calm, b"fine");
    assert_eq!(calm.sent(), b"fine");
}

#[test]
fn a_protocol_writes_as_the_queue_has_room() {
    let mut world = World::new(small());
    let left = Rc::new(Cell::new(1000));
    let peer = world.accept(Generator(Rc::clone(&left)), 0);
    assert_eq!(left.get(), 998, "it stops at the high-water mark");
    while left.get() > 0 {
        let before = left.get();
        world.make_room(&peer, 7);
        assert!(before - left.get() <= 4);
    }
    world.make_room(&peer, 100);
    world.fin(&peer);
    assert_eq!(peer.sent(), b"12345".repeat(1000));
    world.assert_ended(CloseReason::Finished);
}

#[test]
fn a_generator_with_all_the_room_in_the_world_is_bounded_by_its_turn() {
    let mut world = World::new(Config { turn_budget_bytes: 100, ..small() });
    let left = Rc::new(Cell::new(1000));
    let peer = world.accept(Generator(Rc::clone(&left)), usize::MAX);
    world.connections.run_ready(&mut FakePoller);
    assert!(left.get() > 900);
    world.settle();
    assert_eq!(peer.sent().len(), 5000);
}

#[test]
fn what_is_left_unconsumed_comes_again_with_more_behind_it() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Fours, 100);
    for piece in [&b"a"[..], b"bc", b"defg", b"hij", b"k"] {
        world.data(&peer, piece);
    }
    assert_eq!(peer.sent(), b"abcdefgh");
}

#[test]
fn input_left_unconsumed_is_limited() {
    let mut world = World::new(Config { input_limit_bytes: 3, ..Config::default() });
    let peer = world.accept(Fours, 100);
    world.data(&peer, b"abcd");
    world.assert_ended(CloseReason::InputLimit);
}

#[test]
fn after_shutdown_write_input_still_comes() {
    let mut world = World::new(Config::default());
    let received = Rc::default();
    let peer = world.accept(HalfCloser(Rc::clone(&received)), 100);
    world.data(&peer, b"one");
    world.pass(seconds(60));
    world.data(&peer, b"two");
    world.fin(&peer);
    assert_eq!(*received.borrow(), b"onetwo");
    assert_eq!(peer.sent(), b"bye");
    world.assert_ended(CloseReason::Finished);
}

#[test]
fn a_message_for_a_connection_that_is_gone_is_not_delivered() {
    let mut world = World::new(Config::default());
    let old = world.accept(Pausing, 100);
    world.fin(&old);
    let new = world.accept(Pausing, 100);
    assert_eq!(new.id.index, old.id.index);
    assert!(!world.connections.message(old.id, (), &mut FakePoller));
}

/// Writes at once, and keeps what it is told of input and its end.
#[derive(Clone, Default)]
struct Greeter {
    received: Rc<RefCell<Vec<u8>>>,
    saw_eof: Rc<Cell<bool>>,
}

impl Protocol for Greeter {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.write(b"hello");
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        self.received.borrow_mut().extend_from_slice(input.take());
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        self.saw_eof.set(true);
        cx.finish();
    }
}

#[test]
fn what_came_before_a_write_that_fails_at_once_is_handed_over_and_its_end_is_no_eof() {
    let mut world = World::new(Config::default());
    let greeter = Greeter::default();
    let wire = Wire {
        incoming: [Incoming::Bytes(b"request".to_vec()), Incoming::Fin].into(),
        write_errors: [ErrorKind::BrokenPipe].into(),
        ..Wire::default()
    };
    world.add(greeter.clone(), State::Reading, wire);
    world.settle();
    assert_eq!(*greeter.received.borrow(), b"request");
    assert!(!greeter.saw_eof.get(), "an upload that was cut off must not look whole");
    world.assert_ended(CloseReason::ResetUndelivered);
}

#[test]
fn what_is_written_after_a_reset_is_counted_as_lost() {
    let (mut world, peer) = World::with_one(Config::default(), 0);
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::BrokenPipe);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![0; 200_000]));
    world.fin(&peer);
    let stats = world.stats();
    assert_eq!((stats.bytes_received, stats.bytes_sent, stats.bytes_undelivered), (200_000, 0, 200_000));
}

/// Leaves everything unconsumed; messages pause and resume.
struct Moody(Rc<Cell<u32>>);

impl Protocol for Moody {
    type Message = bool;

    fn on_data(&mut self, _: &mut Input<'_>, cx: &mut Context<'_, bool>) {
        self.0.set(self.0.get() + 1);
        cx.pause_reading();
    }

    fn on_message(&mut self, resume: bool, cx: &mut Context<'_, bool>) {
        if resume { cx.resume_reading() } else { cx.pause_reading() }
    }
}

#[test]
fn a_protocol_that_resumes_and_pauses_again_is_handed_nothing() {
    let mut world = World::new(Config::default());
    let calls = Rc::default();
    let peer = world.accept(Moody(Rc::clone(&calls)), 0);
    world.data(&peer, b"x");
    assert_eq!(calls.get(), 1);
    for resume in [true, false] {
        assert!(world.connections.message(peer.id, resume, &mut FakePoller));
    }
    world.settle();
    assert_eq!(calls.get(), 1);
}

#[test]
fn a_paused_connection_is_given_half_of_the_drain_to_come_back() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Moody(Rc::default()), 0);
    world.data(&peer, b"x");
    world.begin_drain();
    world.pass(Duration::from_millis(12_499));
    assert!(!peer.calls().contains(&"shutdown".to_owned()));
    world.pass(Duration::from_millis(1));
    assert_eq!(peer.calls(), ["shutdown"]);
}

#[test]
fn a_paused_connection_that_comes_back_in_a_drain_is_told_when_it_is_silent() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Pausing, 100);
    world.data(&peer, b"x");
    world.begin_drain();
    world.pass(seconds(2));
    assert!(world.connections.message(peer.id, (), &mut FakePoller));
    world.settle();
    assert!(!peer.calls().contains(&"shutdown".to_owned()));
    world.pass(Config::default().drain_silence);
    assert!(peer.calls().contains(&"shutdown".to_owned()));
}

/// Asks for reading to be paused or resumed when it cannot matter any more.
struct TooLate;

impl Protocol for TooLate {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        input.take();
        cx.finish();
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.pause_reading();
        cx.finish();
    }

    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        cx.resume_reading();
    }
}

#[test]
fn a_pause_after_the_end_of_input_changes_nothing() {
    let mut world = World::new(Config::default());
    let peer = world.accept(TooLate, 100);
    world.fin(&peer);
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn to_resume_after_finish_does_not_bring_input_back() {
    let mut world = World::new(Config::default());
    let peer = world.accept(TooLate, 100);
    world.data(&peer, b"x");
    assert!(world.connections.message(peer.id, (), &mut FakePoller));
    world.data(&peer, b"dropped");
    assert_eq!(world.stats().bytes_discarded, 7);
    world.pass(Config::default().linger_silence_timeout.unwrap());
    world.assert_ended(CloseReason::LingerSilence);
}
