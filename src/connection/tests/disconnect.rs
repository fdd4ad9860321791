//! The disconnect, step by step.

use super::*;

#[test]
fn reading_data_all_sent_goes_out_in_one_write() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.data(&peer, b"this is a test");
    assert_eq!(peer.calls(), ["read 14", "write 14"]);
    assert!(!peer.is_watched_for_writing());
    world.assert_open();
}

#[test]
fn reading_fin_shuts_down_then_closes() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.data(&peer, b"abc");
    world.fin(&peer);
    assert_eq!(peer.calls(), ["read 3", "write 3", "read 0", "shutdown", "close"]);
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn data_and_fin_in_one_event_are_both_taken() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"abc".to_vec()));
    world.fin(&peer);
    assert_eq!(peer.sent(), b"abc");
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn reading_data_partly_sent_queues_the_tail_and_waits_for_room() {
    let (mut world, peer) = World::with_one(Config::default(), 4);
    world.data(&peer, b"0123456789");
    assert_eq!(peer.sent(), b"0123");
    assert!(peer.is_watched_for_writing());
    world.make_room(&peer, 100);
    assert_eq!(peer.sent(), b"0123456789");
    assert!(!peer.is_watched_for_writing());
}

#[test]
fn echoing_fin_waits_for_the_flush() {
    let (mut world, peer) = World::with_one(Config::default(), 4);
    world.data(&peer, b"0123456789");
    world.fin(&peer);
    world.assert_open();
    world.make_room(&peer, 3);
    world.assert_open();
    world.make_room(&peer, 3);
    let calls = peer.calls();
    assert_eq!(calls, ["read 10", "write 4", "read 0", "write 3", "write 3", "shutdown", "close"]);
    assert_eq!(peer.sent(), b"0123456789");
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn half_closed_input_is_discarded_until_the_peers_fin() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 100);
    world.data(&peer, b"first");
    assert_eq!(peer.calls(), ["read 5", "write 5", "shutdown"]);
    world.data(&peer, b"more");
    world.data(&peer, b"and more");
    world.assert_open();
    world.fin(&peer);
    assert_eq!(peer.calls(), ["read 4", "read 8", "read 0", "close"]);
    assert_eq!(world.stats().bytes_discarded, 12);
    world.assert_ended(CloseReason::Finished);
}

#[test]
fn half_closed_waits_for_the_linger_timeout_in_all() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 100);
    world.data(&peer, b"x");
    for _ in 0..9 {
        world.pass(seconds(3));
        world.data(&peer, b"drip");
    }
    world.assert_open();
    world.pass(seconds(3));
    world.assert_ended(CloseReason::LingerTimeout);
    assert!(!peer.calls().contains(&"reset".to_owned()), "everything was sent");
}

#[test]
fn half_closed_waits_for_the_linger_silence() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 100);
    world.data(&peer, b"x");
    world.pass(Duration::from_millis(4999));
    world.assert_open();
    world.pass(Duration::from_millis(1));
    world.assert_ended(CloseReason::LingerSilence);
}

#[test]
fn half_closed_discards_up_to_the_cap() {
    let mut world = World::new(Config { linger_limit_bytes: 10, ..Config::default() });
    let peer = world.accept(OneReply, 100);
    world.data(&peer, b"x");
    world.data(&peer, b"0123456789");
    world.assert_open();
    world.data(&peer, b"!");
    world.assert_ended(CloseReason::LingerBytes);
}

#[test]
fn a_flush_that_makes_progress_is_never_cut_by_the_linger_clock() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 0);
    world.data(&peer, &[7; 100]);
    for _ in 0..100 {
        world.pass(seconds(50));
        world.make_room(&peer, 1);
    }
    assert_eq!(peer.sent(), [7; 100]);
    world.fin(&peer);
    world.assert_ended(CloseReason::Finished);
}

#[test]
fn input_behind_finish_is_discarded_while_the_reply_is_flushed() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 0);
    world.data(&peer, b"question");
    world.data(&peer, &[0; 100_000]);
    assert_eq!(world.stats().bytes_discarded, 100_000);
    world.make_room(&peer, 100);
    assert_eq!(peer.sent(), b"question");
    world.fin(&peer);
    world.assert_ended(CloseReason::Finished);
}

#[test]
fn echoing_without_progress_is_a_write_stall_and_reset() {
    let (mut world, peer) = World::with_one(Config::default(), 4);
    world.data(&peer, b"0123456789");
    world.pass(seconds(59));
    world.make_room(&peer, 1);
    world.pass(seconds(59));
    world.assert_open();
    world.pass(seconds(1));
    world.assert_ended(CloseReason::WriteStall);
    assert_eq!(world.stats().bytes_undelivered, 5);
    assert!(peer.calls().ends_with(&["reset".to_owned(), "close".to_owned()]));
}

#[test]
fn a_peer_that_is_gone_at_shutdown_is_counted_as_reset() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().shutdown_error = Some(ErrorKind::NotConnected);
    world.fin(&peer);
    world.assert_ended(CloseReason::Reset);
}

#[test]
fn a_shutdown_that_fails_closes_the_socket() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().shutdown_error = Some(ErrorKind::Other);
    world.fin(&peer);
    world.assert_ended(CloseReason::Failed(ErrorKind::Other));
    assert_eq!(peer.calls(), ["read 0", "shutdown", "reset", "close"]);
}
