//! Outbound connections.

use super::*;

#[test]
fn connecting_succeeds_when_writable_without_error() {
    let mut world = World::echo(Config::default());
    let peer = world.add(Echo, State::Connecting, Wire { room: 100, connecting: true, ..Wire::default() });
    assert!(peer.is_watched_for_writing());
    world.event(&peer, WRITE);
    assert_eq!(peer.wire.borrow().reads, 0, "a spurious event: it is still being made");
    peer.wire.borrow_mut().connecting = false;
    world.event(&peer, WRITE);
    assert!(!peer.is_watched_for_writing());
    world.data(&peer, b"abc");
    assert_eq!(peer.sent(), b"abc");
}

#[test]
fn connecting_may_fail_or_time_out() {
    let mut world = World::echo(Config::default());
    let wire = Wire { pending_error: Some(ErrorKind::ConnectionRefused), ..Wire::default() };
    let peer = world.add(Echo, State::Connecting, wire);
    world.event(&peer, READ | WRITE | Readiness::ERROR);
    world.assert_ended(CloseReason::ConnectFailed(ErrorKind::ConnectionRefused));

    let mut world = World::echo(Config::default());
    world.add(Echo, State::Connecting, Wire { connecting: true, ..Wire::default() });
    world.pass(seconds(10));
    world.assert_ended(CloseReason::ConnectTimeout);
}
