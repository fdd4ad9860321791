//! Errors of calls and those that are pending.

use super::*;

#[test]
fn on_an_error_event_what_came_before_is_read_first() {
    let mut world = World::new(Config::default());
    let received = Rc::default();
    let peer = world.accept(Sink(Rc::clone(&received)), 100);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"last words".to_vec()));
    peer.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::ConnectionReset));
    world.event(&peer, READ | WRITE | Readiness::ERROR);
    assert_eq!(*received.borrow(), b"last words");
    world.assert_ended(CloseReason::Reset);
}

#[test]
fn after_a_failed_write_the_end_of_input_is_no_clean_end() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::BrokenPipe);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"abc".to_vec()));
    world.fin(&peer);
    world.assert_ended(CloseReason::ResetUndelivered);
    assert_eq!(world.stats().bytes_undelivered, 3);
    assert!(!peer.calls().contains(&"shutdown".to_owned()));
}

#[test]
fn after_a_failed_write_what_the_peer_had_sent_is_still_handed_over() {
    let mut world = World::new(small());
    let received = Rc::default();
    let peer = world.accept(Sink(Rc::clone(&received)), 0);
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::ConnectionReset);
    for piece in [b"one", b"two", b"six"] {
        peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(piece.to_vec()));
    }
    world.event(&peer, READ);
    assert_eq!(*received.borrow(), b"onetwosix");
    world.assert_ended(CloseReason::ResetUndelivered);
}

#[test]
fn a_reset_that_no_read_would_show_is_found() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Pausing, 100);
    world.data(&peer, b"x");
    peer.wire.borrow_mut().pending_error = Some(ErrorKind::ConnectionReset);
    world.event(&peer, READ | WRITE | Readiness::ERROR);
    world.assert_ended(CloseReason::Reset);
}

#[test]
fn a_reset_while_output_is_queued_loses_it_and_says_so() {
    let (mut world, peer) = World::with_one(small(), 0);
    world.data(&peer, b"0123456789");
    peer.wire.borrow_mut().pending_error = Some(ErrorKind::ConnectionReset);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Fin);
    world.event(&peer, READ | WRITE | Readiness::ERROR);
    world.assert_ended(CloseReason::ResetUndelivered);
    assert_eq!(world.stats().bytes_undelivered, 10);
}

#[test]
fn interrupted_calls_are_tried_again() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::Interrupted));
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::Interrupted);
    world.data(&peer, b"abc");
    assert_eq!(peer.sent(), b"abc");
    world.assert_open();
}

#[test]
fn another_error_keeps_its_name() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::TimedOut));
    world.event(&peer, READ);
    world.assert_ended(CloseReason::Failed(ErrorKind::TimedOut));
}

#[test]
fn a_reset_that_a_read_shows_while_output_is_queued_says_that_it_is_lost() {
    let (mut world, peer) = World::with_one(Config::default(), 0);
    world.data(&peer, b"queued");
    peer.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::ConnectionReset));
    world.event(&peer, READ);
    assert_eq!(world.stats().bytes_undelivered, 6);
    world.assert_ended(CloseReason::ResetUndelivered);
}

/// A poller that has no room.
struct Full;

impl Poller<Fake> for Full {
    fn register(&mut self, _: &mut Fake, _: ConnectionId, _: Interest) -> io::Result<()> {
        Err(ErrorKind::StorageFull.into())
    }

    fn reregister(&mut self, _: &mut Fake, _: ConnectionId, _: Interest) -> io::Result<()> {
        unreachable!("nothing is registered")
    }
}

#[test]
fn a_client_that_cannot_be_watched_is_reset_and_counted() {
    let mut world = World::new(Config::default());
    let wire = Rc::new(RefCell::new(Wire { room: 100, ..Wire::default() }));
    assert!(world.connections.take_place());
    let id = world.connections.next_id();
    let limits = Rc::clone(world.connections.limits());
    let added = world.connections.add(id, State::Reading, Fake(Rc::clone(&wire)), Echo, &limits, &mut Full);
    assert_eq!(added.unwrap_err().kind(), ErrorKind::StorageFull);
    // It must not take this for the clean end of an empty stream.
    assert_eq!(wire.borrow().calls, ["reset", "close"]);
    assert!(world.connections.has_room_for_clients(), "its place is free again");
    let stats = world.stats();
    assert_eq!((stats.setup_failures, stats.closed_total(), stats.open), (1, 0, 0));
    assert!(stats.to_string().ends_with("0 bytes undelivered; set-up failed 1"), "{stats}");
}
