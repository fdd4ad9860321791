//! Delivered is what the peer's system has acknowledged. Until then nothing that counts as an end comes.

use super::*;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// An echo of 100 bytes, of which `left` are not acknowledged.
fn with_unacknowledged(limits: Config, left: usize) -> (World<Echo>, Peer) {
    let (mut world, peer) = World::with_one(limits, 1000);
    world.unacknowledged(&peer, left);
    world.data(&peer, &[1; 100]);
    (world, peer)
}

#[test]
fn after_the_peers_end_the_close_waits_for_the_acknowledgement_of_our_fin() {
    let (mut world, peer) = with_unacknowledged(Config::default(), 101);
    world.fin(&peer);
    assert_eq!(peer.calls(), ["read 100", "write 100", "read 0", "shutdown"]);
    world.unacknowledged(&peer, 1);
    world.pass(seconds(59));
    world.assert_open();
    world.acknowledge_end(&peer);
    world.assert_ended(CloseReason::Peer);
    assert_eq!(peer.calls(), ["close"]);
}

#[test]
fn where_no_event_tells_of_the_last_acknowledgement_a_look_does() {
    let (mut world, peer) = with_unacknowledged(Config::default(), 1);
    world.fin(&peer);
    world.unacknowledged(&peer, 0);
    world.pass(millis(99));
    world.assert_open();
    world.pass(millis(1));
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn an_end_that_is_acknowledged_at_once_is_asked_for_once() {
    let (mut world, peer) = with_unacknowledged(Config::default(), 0);
    world.fin(&peer);
    world.assert_ended(CloseReason::Peer);
    assert_eq!(peer.wire.borrow().looks, 1);
}

#[test]
fn messages_are_never_asked_for() {
    let (mut world, peer) = with_unacknowledged(Config::default(), 100);
    for _ in 0..1000 {
        peer.wire.borrow_mut().room += 100;
        world.data(&peer, &[2; 100]);
        world.pass(millis(100));
    }
    // In 100 s, one each 7.5 s.
    assert!(peer.wire.borrow().looks <= 14, "{} looks for 1000 messages", peer.wire.borrow().looks);
}

#[test]
fn who_sends_without_end_and_acknowledges_nothing_is_stalled() {
    let limits = Config { write_timeout: Some(seconds(8)), ..Config::default() };
    let mut world = World::new(limits);
    let peer = world.accept(Speech, 1000);
    world.unacknowledged(&peer, 5);
    for _ in 0..20 {
        world.data(&peer, b"more");
        world.pass(Duration::from_millis(700));
    }
    world.assert_ended(CloseReason::WriteStall);
}

/// Says something once, and then only listens.
struct Speech;

impl Protocol for Speech {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.write(b"hello");
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }
}

#[test]
fn the_linger_clocks_begin_when_our_fin_is_acknowledged() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 100);
    world.unacknowledged(&peer, 6);
    world.data(&peer, b"x");
    for left in (1..6).rev() {
        world.pass(seconds(50));
        world.unacknowledged(&peer, left);
        world.data(&peer, b"no end yet");
    }
    world.assert_open();
    world.unacknowledged(&peer, 0);
    // A look comes every 5 s by now; the linger silence begins with it.
    world.pass(millis(4999));
    world.assert_open();
    world.pass(millis(5001));
    world.assert_ended(CloseReason::LingerSilence);
    assert!(!peer.calls().contains(&"reset".to_owned()), "everything was delivered");
}

#[test]
fn the_linger_cap_closes_nothing_before_our_fin_is_acknowledged() {
    let mut world = World::new(Config { linger_limit_bytes: 10, ..Config::default() });
    let peer = world.accept(OneReply, 100);
    world.unacknowledged(&peer, 2);
    world.data(&peer, b"x");
    world.data(&peer, &[0; 11]);
    world.data(&peer, &[0; 1000]);
    world.assert_open();
    world.unacknowledged(&peer, 0);
    world.pass(millis(100));
    world.assert_ended(CloseReason::LingerBytes);
}

#[test]
fn who_acknowledges_is_not_idle() {
    let limits = Config { idle_timeout: Some(seconds(10)), ..Config::default() };
    let (mut world, peer) = with_unacknowledged(limits, 100);
    for left in (1..100).rev() {
        world.pass(seconds(5));
        world.unacknowledged(&peer, left);
    }
    world.assert_open();
    assert!(!peer.calls().contains(&"shutdown".to_owned()), "it is not idle");
    world.unacknowledged(&peer, 0);
    world.pass(seconds(12));
    assert!(peer.calls().contains(&"shutdown".to_owned()), "now it is idle");
}

#[test]
fn output_of_which_nothing_is_acknowledged_is_a_write_stall_though_the_kernel_has_it() {
    let limits = Config { write_timeout: Some(seconds(8)), idle_timeout: None, ..Config::default() };
    let (mut world, peer) = with_unacknowledged(limits, 100);
    for left in [99, 98] {
        world.pass(seconds(7));
        world.unacknowledged(&peer, left);
    }
    // The latest acknowledgement is seen within an eighth of the timeout.
    world.pass(seconds(8));
    world.assert_open();
    world.pass(seconds(1));
    world.assert_ended(CloseReason::WriteStall);
    assert!(peer.calls().ends_with(&["reset".to_owned(), "close".to_owned()]));
    assert_eq!(world.stats().bytes_undelivered, 98);
}

#[test]
fn room_in_the_kernel_is_no_progress_of_a_queue() {
    let limits = Config { write_timeout: Some(seconds(8)), ..Config::default() };
    let (mut world, peer) = World::with_one(limits, 10);
    world.unacknowledged(&peer, 10);
    world.data(&peer, &[1; 100]);
    world.pass(seconds(2));
    for sent in 11..18 {
        // The kernel's buffer grows.
        world.unacknowledged(&peer, sent);
        world.make_room(&peer, 1);
        world.pass(seconds(1));
    }
    assert_eq!(peer.sent().len(), 17);
    world.assert_ended(CloseReason::WriteStall);
    assert_eq!(world.stats().bytes_undelivered, 100);
}

#[test]
fn what_is_acknowledged_before_the_last_try_counts() {
    let limits = Config { write_timeout: Some(seconds(8)), ..Config::default() };
    let (mut world, peer) = World::with_one(limits, 10);
    world.unacknowledged(&peer, 10);
    world.data(&peer, &[1; 100]);
    // The first look.
    world.pass(seconds(1));
    for sent in 11..14 {
        // As much is on its way after a byte more was sent, so one was acknowledged. No event tells of the room.
        peer.wire.borrow_mut().room = 1;
        world.pass(seconds(8));
        assert_eq!(peer.sent().len(), sent);
        world.assert_open();
    }
    world.pass(seconds(8));
    world.assert_ended(CloseReason::WriteStall);
}

#[test]
fn more_output_does_not_hide_that_something_was_acknowledged() {
    let limits = Config { write_timeout: Some(seconds(8)), ..Config::default() };
    let (mut world, peer) = with_unacknowledged(limits, 50);
    for _ in 0..20 {
        world.pass(seconds(4));
        peer.wire.borrow_mut().room += 100;
        // A byte less than was there and has come since.
        let before = peer.wire.borrow().unacknowledged.unwrap();
        world.unacknowledged(&peer, before + 99);
        world.data(&peer, &[3; 100]);
    }
    world.assert_open();
}

#[test]
fn our_fin_does_not_hide_that_something_was_acknowledged() {
    let limits = Config { write_timeout: Some(seconds(8)), ..Config::default() };
    let (mut world, peer) = with_unacknowledged(limits, 50);
    world.pass(seconds(7));
    // A byte less, and FIN.
    world.fin(&peer);
    world.pass(seconds(7));
    world.assert_open();
}

#[test]
fn a_fin_that_is_never_acknowledged_is_a_write_stall() {
    let (mut world, peer) = with_unacknowledged(Config::default(), 31);
    world.fin(&peer);
    world.pass(millis(59_999));
    world.assert_open();
    world.pass(millis(1));
    world.assert_ended(CloseReason::WriteStall);
    assert_eq!(world.stats().bytes_undelivered, 30, "FIN is no byte");
}

#[test]
fn a_drain_waits_for_the_acknowledgement_up_to_its_deadline() {
    let (mut world, peer) = with_unacknowledged(Config::default(), 31);
    world.fin(&peer);
    world.begin_drain();
    world.pass(seconds(24));
    world.assert_open();
    world.acknowledge_end(&peer);
    world.assert_ended(CloseReason::Peer);

    let (mut world, peer) = with_unacknowledged(Config::default(), 31);
    world.fin(&peer);
    world.begin_drain();
    world.pass(seconds(25));
    world.assert_ended(CloseReason::DrainTimeout);
    assert!(peer.calls().ends_with(&["reset".to_owned(), "close".to_owned()]));
    assert_eq!(world.stats().bytes_undelivered, 30);
}

#[test]
fn at_the_drain_deadline_one_that_was_delivered_only_lingers() {
    let limits = Config { linger_silence_timeout: None, ..Config::default() };
    let mut world = World::new(limits);
    let peer = world.accept(OneReply, 100);
    world.unacknowledged(&peer, 2);
    world.data(&peer, b"x");
    world.begin_drain();
    world.pass(millis(24_999));
    world.unacknowledged(&peer, 0);
    world.pass(millis(1));
    world.assert_ended(CloseReason::LingerTimeout);
}

#[test]
fn at_the_drain_deadline_one_that_still_receives_is_cut_off_though_its_own_end_was_delivered() {
    let limits = Config { idle_timeout: None, ..Config::default() };
    let mut world = World::new(limits);
    let peer = world.accept(Receiver, 100);
    world.unacknowledged(&peer, 0);
    world.begin_drain();
    for _ in 0..250 {
        world.data(&peer, b"more to come");
        world.pass(millis(100));
    }
    world.assert_ended(CloseReason::DrainTimeout);
    assert!(peer.calls().ends_with(&["reset".to_owned(), "close".to_owned()]));
}

/// Has nothing to say, and goes on receiving, also in a drain.
struct Receiver;

impl Protocol for Receiver {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.shutdown_write();
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }

    fn on_drain(&mut self, _: &mut Context<'_>) {}
}

#[test]
fn a_reset_tells_what_it_has_destroyed() {
    for (left, reason) in [(40, CloseReason::ResetUndelivered), (0, CloseReason::Reset)] {
        let (mut world, peer) = with_unacknowledged(Config::default(), left);
        peer.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::ConnectionReset));
        world.event(&peer, READ);
        world.assert_ended(reason);
        assert_eq!(world.stats().bytes_undelivered, left as u64);
    }
}

#[test]
fn a_reset_that_answers_our_fin_tells_what_it_has_destroyed() {
    for (left, reason) in [(41, CloseReason::ResetUndelivered), (1, CloseReason::Reset)] {
        let (mut world, peer) = with_unacknowledged(Config::default(), left);
        world.fin(&peer);
        peer.wire.borrow_mut().pending_error = Some(ErrorKind::ConnectionReset);
        world.event(&peer, READ | WRITE | Readiness::MORE | Readiness::ERROR);
        world.assert_ended(reason);
        assert_eq!(world.stats().bytes_undelivered, left as u64 - 1);
    }
}

#[test]
fn what_is_refused_after_a_reset_is_undelivered_too() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 100);
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::BrokenPipe);
    world.data(&peer, b"reply");
    world.assert_ended(CloseReason::ResetUndelivered);
    assert_eq!(world.stats().bytes_undelivered, 5);
}

#[test]
fn where_the_system_cannot_say_what_it_has_taken_counts_as_delivered() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.data(&peer, b"abc");
    world.pass(seconds(599));
    world.assert_open();
    world.fin(&peer);
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn a_protocol_that_ends_after_it_was_told_of_the_drain_was_drained() {
    let mut world = World::new(Config::default());
    let peer = world.accept(SaysGoodbye, 100);
    world.begin_drain();
    world.pass(seconds(1));
    world.data(&peer, b"bye");
    world.fin(&peer);
    assert_eq!(peer.sent(), b"bye?bye");
    world.assert_ended(CloseReason::Drained);
}

/// In a drain it asks for a last word, and ends with it.
struct SaysGoodbye;

impl Protocol for SaysGoodbye {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.write(input.take());
        cx.finish();
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) {
        cx.write(b"bye?");
    }
}
