//! Reads that bring less than they could.

use super::*;

fn with_short_reads() -> (World<Echo>, Peer) {
    let (world, peer) = World::with_one(Config { read_buffer_bytes: 10, ..Config::default() }, 100);
    peer.wire.borrow_mut().short_read_drains = true;
    (world, peer)
}

#[test]
fn a_read_that_brings_less_than_it_could_is_the_last_where_an_event_follows_for_more() {
    let (mut world, peer) = with_short_reads();
    world.data(&peer, b"short");
    assert_eq!(peer.wire.borrow().reads, 1);
    world.data(&peer, b"ten bytes.");
    assert_eq!(peer.wire.borrow().reads, 3, "this one may have left something");
    world.fin(&peer);
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn a_short_read_is_not_the_last_where_the_end_may_be_behind_it() {
    let (mut world, peer) = with_short_reads();
    peer.wire.borrow_mut().incoming = [Incoming::Bytes(b"bye".to_vec()), Incoming::Fin].into();
    world.event(&peer, READ | Readiness::MORE);
    assert_eq!(peer.sent(), b"bye");
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn a_short_read_after_a_failed_write_is_not_the_last() {
    let (mut world, peer) = with_short_reads();
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::BrokenPipe);
    peer.wire.borrow_mut().incoming = [Incoming::Bytes(b"x".to_vec()), Incoming::Bytes(b"y".to_vec())].into();
    world.event(&peer, READ);
    assert_eq!(world.stats().bytes_received, 2);
    world.assert_ended(CloseReason::ResetUndelivered);
}

/// Who speaks first (a proxy's header, a handshake) gets its protocol later than what announces its end.
#[test]
fn an_end_that_is_announced_before_there_is_a_protocol_is_not_forgotten() {
    let mut world = World::<Echo>::new(Config { read_buffer_bytes: 10, ..Config::default() });
    let wire = Wire { room: 100, short_read_drains: true, ..Wire::default() };
    let peer = world.add(None, State::Connecting, wire);
    world.connections.begin_handshake(peer.id, (Address::Unix("fake".into()), 0));
    peer.wire.borrow_mut().incoming = [Incoming::Bytes(b"bye".to_vec()), Incoming::Fin].into();
    world.connections.notice(peer.id.token(), READ | Readiness::MORE);
    world.connections.run_ready(&mut FakePoller);
    assert_eq!(world.connections.run_mail(&mut 10, &mut FakePoller), Some(peer.id));
    assert!(!world.connections.has_work(), "it waits for its protocol");
    world.connections.admit(peer.id, Echo, &mut FakePoller);
    world.settle();
    assert_eq!(peer.sent(), b"bye");
    world.assert_ended(CloseReason::Peer);
}
