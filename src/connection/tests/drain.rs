//! The end of a server.

use super::*;

#[test]
fn a_drain_echoes_what_has_arrived_then_ends() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.pass(seconds(10));
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"unannounced".to_vec()));
    world.begin_drain();
    assert_eq!(peer.sent(), b"unannounced");
    world.pass(Duration::from_millis(250));
    assert_eq!(peer.calls(), ["read 11", "write 11", "shutdown"]);
    world.fin(&peer);
    world.assert_ended(CloseReason::Drained);
}

#[test]
fn a_drain_ends_a_silent_connection_without_delay() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.pass(seconds(10));
    world.begin_drain();
    world.pass(Duration::ZERO);
    assert_eq!(peer.calls(), ["shutdown"]);
}

#[test]
fn a_peer_that_goes_on_talking_is_let_go_when_the_patience_is_over() {
    let (mut world, peer) = World::with_one(Config::default(), usize::MAX);
    world.begin_drain();
    let mut pings = 0;
    while !peer.calls().contains(&"shutdown".to_owned()) {
        world.data(&peer, b"x");
        world.pass(Duration::from_millis(100));
        pings += 1;
        assert_eq!(peer.sent().len(), pings);
    }
    assert_eq!(pings, 20, "2 s");
    world.fin(&peer);
    world.assert_ended(CloseReason::Drained);
}

#[test]
fn input_that_was_not_dealt_with_is_never_answered_with_fin() {
    let limits = Config { high_water_bytes: 10, low_water_bytes: 4, ..Config::default() };
    let (mut world, peer) = World::with_one(limits, 0);
    world.data(&peer, &[b'x'; 100]);
    world.begin_drain();
    world.pass(Duration::from_millis(24_000));
    assert!(!peer.calls().contains(&"shutdown".to_owned()), "it reads late, and 90 bytes are unread");
    world.make_room(&peer, 1000);
    assert_eq!(peer.sent().len(), 100);
    world.pass(Duration::from_millis(250));
    assert!(peer.calls().contains(&"shutdown".to_owned()));
    world.fin(&peer);
    world.assert_ended(CloseReason::Drained);
}

#[test]
fn a_peer_that_was_slow_to_receive_must_be_silent_before_it_is_let_go() {
    let limits = Config { high_water_bytes: 10, low_water_bytes: 4, ..Config::default() };
    let (mut world, peer) = World::with_one(limits, 0);
    world.data(&peer, &[b'x'; 20]);
    world.begin_drain();
    world.pass(seconds(10));
    // Now it receives, and its own system sends what it has held back, bit by bit.
    world.make_room(&peer, 1000);
    for _ in 0..10 {
        world.pass(Duration::from_millis(249));
        assert!(!peer.calls().contains(&"shutdown".to_owned()));
        world.data(&peer, b"held back");
    }
    world.pass(Duration::from_millis(250));
    assert!(peer.calls().contains(&"shutdown".to_owned()));
    assert_eq!(peer.sent().len(), 110);
}

#[test]
fn a_peer_that_never_lets_the_server_catch_up_is_reset_at_the_drain_deadline() {
    let limits = Config { high_water_bytes: 10, low_water_bytes: 4, ..Config::default() };
    let (mut world, peer) = World::with_one(limits, 0);
    world.data(&peer, &[b'x'; 100]);
    world.begin_drain();
    for _ in 0..24 {
        world.pass(seconds(1));
        world.make_room(&peer, 1);
    }
    world.assert_open();
    world.pass(seconds(1));
    world.assert_ended(CloseReason::DrainTimeout);
    assert_eq!(peer.calls().iter().filter(|call| *call == "shutdown").count(), 0);
}

#[test]
fn the_drain_deadline_cuts_off_what_cannot_be_flushed() {
    let (mut world, peer) = World::with_one(Config::default(), 4);
    world.data(&peer, b"0123456789");
    world.begin_drain();
    world.pass(Duration::from_millis(24_999));
    world.assert_open();
    world.pass(Duration::from_millis(1));
    world.assert_ended(CloseReason::DrainTimeout);
    assert!(peer.calls().contains(&"reset".to_owned()));
}

#[test]
fn at_the_drain_deadline_a_connection_that_only_lingers_is_not_cut_off() {
    let limits = Config { drain_timeout: Some(seconds(1)), ..Config::default() };
    let (mut world, peer) = World::with_one(limits, 100);
    world.data(&peer, b"x");
    world.begin_drain();
    world.pass(seconds(1));
    world.assert_ended(CloseReason::LingerTimeout);
    assert!(peer.calls().contains(&"shutdown".to_owned()));
}

#[test]
fn a_connection_accepted_during_a_drain_is_served() {
    let mut world = World::echo(Config::default());
    world.begin_drain();
    let peer = world.accept(Echo, 100);
    world.data(&peer, b"from the backlog");
    assert_eq!(peer.sent(), b"from the backlog");
    world.pass(seconds(1));
    world.fin(&peer);
    world.assert_ended(CloseReason::Drained);
}

#[test]
fn a_drain_gives_up_an_outbound_connection_that_is_not_made() {
    let mut world = World::echo(Config::default());
    world.add(Echo, State::Connecting, Wire { connecting: true, ..Wire::default() });
    world.begin_drain();
    world.pass(Duration::ZERO);
    world.assert_ended(CloseReason::ServerAborted);
}

#[test]
fn a_drain_ends_what_has_one_direction_left() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Unmoved, 100);
    world.fin(&peer);
    world.begin_drain();
    world.pass(Config::default().drain_silence);
    world.assert_ended(CloseReason::Peer);

    let mut world = World::new(Config::default());
    let peer = world.accept(HalfCloser(Rc::default()), 100);
    world.data(&peer, b"x");
    world.begin_drain();
    world.pass(Config::default().drain_silence);
    world.data(&peer, b"discarded");
    assert_eq!(world.stats().bytes_discarded, 9);
}

/// Goes on in a drain, and counts how often it is told.
struct Stubborn(Rc<Cell<u32>>);

impl Protocol for Stubborn {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_drain(&mut self, _: &mut Context<'_>) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_protocol_that_goes_on_in_a_drain_is_told_once() {
    let mut world = World::new(Config::default());
    let told = Rc::default();
    let peer = world.accept(Stubborn(Rc::clone(&told)), 100);
    world.begin_drain();
    world.pass(seconds(1));
    world.data(&peer, b"still here");
    world.pass(seconds(20));
    assert_eq!((told.get(), peer.sent()), (1, b"still here".to_vec()));
    world.assert_open();
}

/// Finishes with the first input, and counts how often it is told of a drain.
struct Brief(Rc<Cell<u32>>);

impl Protocol for Brief {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
        cx.finish();
    }

    fn on_drain(&mut self, _: &mut Context<'_>) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_drain_says_nothing_to_a_protocol_that_has_finished() {
    let mut world = World::new(Config::default());
    let told = Rc::default();
    let peer = world.accept(Brief(Rc::clone(&told)), 100);
    world.data(&peer, b"bye");
    world.begin_drain();
    world.pass(seconds(1));
    assert_eq!(told.get(), 0);
    world.fin(&peer);
    world.assert_ended(CloseReason::Finished);
}
