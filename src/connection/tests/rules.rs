//! The rules of the loop that single connections keep.

use super::*;

#[test]
fn spurious_events_do_nothing() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    for _ in 0..3 {
        world.event(&peer, READ | WRITE | Readiness::ERROR);
    }
    world.assert_open();
    assert_eq!(peer.calls(), [""; 0]);
}

#[test]
fn an_event_never_reaches_the_connection_that_took_over_the_slot() {
    let (mut world, old) = World::with_one(Config::default(), 100);
    world.fin(&old);
    let new = world.accept(Echo, 100);
    assert_eq!(new.id.index, old.id.index, "the slot is used again");
    new.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"new".to_vec()));
    world.event(&old, READ);
    assert_eq!(new.wire.borrow().reads, 0);
    world.event(&new, READ);
    assert_eq!(new.sent(), b"new");
}

#[test]
fn a_slot_is_not_used_again_before_the_batch_is_over() {
    let (mut world, old) = World::with_one(Config::default(), 100);
    old.wire.borrow_mut().incoming.push_back(Incoming::Fin);
    world.connections.notice(old.id.token(), READ);
    world.connections.run_ready(&mut FakePoller);
    assert!(!world.connections.is_empty());
    assert_ne!(world.accept(Echo, 100).id.index, old.id.index);
    assert!(world.connections.reap(|_, _| {}));
}

#[test]
fn above_the_high_water_mark_reading_stops_until_the_low_water_mark() {
    let (mut world, peer) = World::with_one(small(), 0);
    world.data(&peer, &[1; 25]);
    assert_eq!(peer.calls(), ["read 10"], "no more is read than may be queued");
    world.make_room(&peer, 5);
    assert_eq!(peer.calls(), ["write 5"], "5 are queued: still above the low-water mark");
    world.make_room(&peer, 1);
    assert_eq!(peer.calls(), ["write 1", "read 6"], "4 are queued: reading starts again");
    world.make_room(&peer, 100);
    assert_eq!(peer.sent(), [1; 25]);
}

#[test]
fn a_connection_with_much_to_do_lets_others_have_their_turn() {
    let limits = Config { turn_budget_bytes: 100, ..Config::default() };
    let mut world = World::echo(limits);
    let (hog, other) = (world.accept(Echo, 1 << 20), world.accept(Echo, 100));
    hog.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![0; 10_000]));
    other.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"ping".to_vec()));
    world.connections.notice(hog.id.token(), READ);
    world.connections.notice(other.id.token(), READ);
    world.connections.run_ready(&mut FakePoller);
    assert_eq!(other.sent(), b"ping");
    assert!(hog.sent().len() <= 100);
    assert!(world.connections.has_work(), "no event will come for what was left unread");
    world.settle();
    assert_eq!(hog.sent().len(), 10_000);
}

#[test]
fn of_those_with_much_to_do_one_has_its_turn_between_two_looks_at_the_others() {
    let mut world = World::echo(Config { turn_budget_bytes: 100, ..Config::default() });
    let hogs = [(); 3].map(|()| world.accept(Echo, 1 << 20));
    let other = world.accept(Echo, 100);
    for hog in &hogs {
        hog.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![0; 10_000]));
        world.connections.notice(hog.id.token(), READ);
    }
    // As yet nobody is known to have much to do.
    world.connections.run_ready(&mut FakePoller);
    let sent = || hogs.each_ref().map(|hog| hog.sent().len());
    for turns in 1..=6 {
        let before = sent();
        other.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"ping".to_vec()));
        world.connections.notice(other.id.token(), READ);
        world.connections.run_ready(&mut FakePoller);
        assert_eq!(other.sent().len(), 4 * turns, "it is not kept waiting");
        let had_turns: Vec<usize> = (0..3).filter(|&hog| sent()[hog] > before[hog]).collect();
        assert_eq!(had_turns, [(turns - 1) % 3], "they take turns");
    }
    world.settle();
    assert_eq!(sent(), [10_000; 3]);
}

#[test]
fn no_heap_buffer_stays_with_an_idle_connection() {
    let (mut world, peer) = World::with_one(small(), 0);
    world.data(&peer, &[1; 10]);
    world.make_room(&peer, 10);
    use crate::system::os::stream::Stream;
    // Some back ends of mio keep more with a socket than its descriptor.
    let size = size_of::<Connection<Echo, Stream>>() - size_of::<Stream>();
    assert!(size <= 80, "a connection takes {size} bytes");
    let mut connection: Connection<Echo, Fake> =
        Connection::new(peer.id, State::Reading, Fake(Rc::clone(&peer.wire)), Echo, world.now, Rc::default());
    connection.extra.get_or_insert_default();
    connection.trim();
    assert!(connection.extra.is_none());
}
