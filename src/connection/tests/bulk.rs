//! Bytes that are moved inside the kernel.

use super::*;

/// An echo connection with pipes that sends in bulk already; its socket takes `room` bytes.
fn with_bulk(room: usize) -> (World<Echo>, Peer) {
    let limits = Config { splice_threshold_bytes: Some(8), high_water_bytes: 100, ..small() };
    let (mut world, peer) = World::with_one(limits, room + 20);
    peer.wire.borrow_mut().has_pipes = true;
    for _ in 0..2 {
        world.data(&peer, &[1; 10]);
    }
    assert_eq!(peer.calls(), ["read 10", "write 10", "read 10", "write 10"]);
    (world, peer)
}

#[test]
fn what_is_sent_in_bulk_is_moved_until_it_is_small_again() {
    let (mut world, peer) = with_bulk(1000);
    let lengths = [9, 9, 3, 3, 3, 9, 9, 9];
    let calls = ["move 9", "move 9", "move 3", "move 3", "read 3", "read 9", "read 9", "move 9"];
    for (length, call) in lengths.into_iter().zip(calls) {
        world.data(&peer, &vec![2; length]);
        assert_eq!(peer.calls(), [call.to_owned(), format!("write {length}")]);
    }
    let stats = world.stats();
    assert_eq!((stats.bytes_received, stats.bytes_sent), (74, 74));
    world.fin(&peer);
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn a_protocol_that_does_more_than_return_its_input_sees_all_of_it() {
    let limits = Config { splice_threshold_bytes: Some(8), ..Config::default() };
    let mut world = World::new(limits);
    let received = Rc::default();
    let wire = Wire { has_pipes: true, ..Wire::default() };
    let peer = world.add(Sink(Rc::clone(&received)), State::Reading, wire);
    for _ in 0..5 {
        world.data(&peer, &[1; 10]);
    }
    assert_eq!(received.borrow().len(), 50);
}

#[test]
fn what_waits_in_a_pipe_is_sent_before_more_is_taken_and_before_fin() {
    let (mut world, peer) = with_bulk(4);
    world.data(&peer, b"first part");
    world.data(&peer, b"second");
    world.fin(&peer);
    assert_eq!(peer.calls(), ["move 10", "write 4"]);
    assert!(peer.is_watched_for_writing());
    world.make_room(&peer, 100);
    assert_eq!(peer.calls(), ["write 6", "move 6", "write 6", "read 0", "shutdown", "close"]);
    assert_eq!(peer.sent()[20..], *b"first partsecond");
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn where_there_is_no_pipe_bytes_are_copied() {
    let (mut world, peer) = with_bulk(100);
    peer.wire.borrow_mut().has_pipes = false;
    // The one that is free is given back.
    world.pass(seconds(1));
    world.data(&peer, b"just the same");
    assert_eq!(peer.calls(), ["read 13", "write 13"]);
}

#[test]
fn a_pipe_of_which_the_peer_takes_nothing_is_a_write_stall() {
    let (mut world, peer) = with_bulk(0);
    world.data(&peer, b"not wanted");
    world.pass(Config::default().write_timeout.unwrap());
    assert_eq!(peer.calls(), ["move 10", "reset", "close"]);
    assert_eq!(world.stats().bytes_undelivered, 10);
    world.assert_ended(CloseReason::WriteStall);
}

#[test]
fn what_is_in_a_pipe_when_a_write_fails_is_counted_as_lost() {
    let (mut world, peer) = with_bulk(0);
    world.data(&peer, b"lost bytes");
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::BrokenPipe);
    world.fin(&peer);
    world.event(&peer, WRITE);
    assert_eq!(world.stats().bytes_undelivered, 10);
    world.assert_ended(CloseReason::ResetUndelivered);
}

#[test]
fn a_drain_sends_what_is_in_a_pipe() {
    let (mut world, peer) = with_bulk(4);
    world.data(&peer, b"first part");
    world.begin_drain();
    world.make_room(&peer, 100);
    world.pass(Config::default().drain_silence);
    assert_eq!(peer.calls(), ["move 10", "write 4", "write 6", "shutdown"]);
    world.fin(&peer);
    world.assert_ended(CloseReason::Drained);
}

#[test]
fn an_error_that_only_a_move_was_told_of_is_not_taken_for_an_end() {
    for (kind, reason) in [
        (ErrorKind::ConnectionReset, CloseReason::Reset),
        (ErrorKind::TimedOut, CloseReason::Failed(ErrorKind::TimedOut)),
    ] {
        let (mut world, peer) = with_bulk(100);
        peer.wire.borrow_mut().incoming = [Incoming::Error(kind), Incoming::Fin].into();
        world.event(&peer, READ | WRITE | Readiness::ERROR);
        assert_eq!(peer.calls(), ["read 0", "reset", "close"]);
        world.assert_ended(reason);
    }
}

#[test]
fn where_nothing_is_left_to_move_no_read_asks_again_unless_something_else_may_be_behind_it() {
    for (short_read_drains, ready, reads) in
        [(true, READ, 0), (false, READ, 1), (true, READ | Readiness::MORE, 1)]
    {
        let (mut world, peer) = with_bulk(100);
        let before = peer.wire.borrow().reads;
        peer.wire.borrow_mut().short_read_drains = short_read_drains;
        peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![1; 10]));
        world.event(&peer, ready);
        assert_eq!(peer.calls(), ["move 10", "write 10"]);
        assert_eq!(peer.wire.borrow().reads - before, reads);
        world.data(&peer, b"some more.");
        assert_eq!(peer.calls(), ["move 10", "write 10"]);
    }
}

#[test]
fn where_bytes_cannot_be_moved_they_are_copied_as_before() {
    let (mut world, peer) = with_bulk(1000);
    peer.wire.borrow_mut().incoming =
        [Incoming::Error(ErrorKind::Unsupported), Incoming::Bytes(vec![3; 90])].into();
    world.event(&peer, READ);
    assert_eq!(peer.calls(), ["read 90", "write 90"]);
    world.data(&peer, &[4; 20]);
    assert_eq!(peer.calls(), ["read 20", "write 20"]);
}

#[test]
fn the_end_that_is_announced_with_the_connection_is_not_missed() {
    let mut world = World::echo(Config::default());
    let wire = Wire {
        short_read_drains: true,
        room: 100,
        incoming: [Incoming::Bytes(b"hello".to_vec()), Incoming::Fin].into(),
        ..Wire::default()
    };
    let peer = world.add(Echo, State::Connecting, wire);
    world.event(&peer, READ | WRITE | Readiness::MORE);
    assert_eq!(peer.sent(), b"hello");
    world.assert_ended(CloseReason::Peer);
}

/// Returns its input unchanged, and says something when it is told to.
struct Annotating;

impl Protocol for Annotating {
    type Message = ();
    fn returns_input_unchanged(&self) -> bool {
        true
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        cx.write(b"!");
    }
}

#[test]
fn what_a_protocol_writes_goes_out_behind_what_is_in_the_pipe() {
    let limits = Config { splice_threshold_bytes: Some(8), ..Config::default() };
    let mut world = World::new(limits);
    let wire = Wire { has_pipes: true, room: 24, ..Wire::default() };
    let peer = world.add(Annotating, State::Reading, wire);
    for bytes in [b"0123456789", b"0123456789", b"moved part"] {
        world.data(&peer, bytes);
    }
    assert!(world.connections.message(peer.id, (), &mut FakePoller));
    world.make_room(&peer, 100);
    assert_eq!(peer.sent()[20..], *b"moved part!");
}

#[test]
fn a_move_takes_an_eighth_as_much_of_the_budget_as_a_copy() {
    let limits = Config { splice_threshold_bytes: Some(8), turn_budget_bytes: 10, ..Config::default() };
    let (mut world, peer) = World::with_one(limits, 1000);
    peer.wire.borrow_mut().has_pipes = true;
    for _ in 0..2 {
        world.data(&peer, &[1; 10]);
    }
    peer.calls();
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![2; 90]));
    world.connections.notice(peer.id.token(), READ);
    let mut turns = Vec::new();
    while world.connections.has_work() {
        world.connections.run_ready(&mut FakePoller);
        turns.push(peer.calls());
    }
    assert_eq!(
        turns,
        [vec!["move 40", "write 40"], vec!["move 40", "write 40"], vec!["move 10", "write 10"]]
    );
}
