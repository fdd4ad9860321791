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

#[test]
fn a_connection_to_oneself_is_a_refused_one() {
    let mut world = World::echo(Config::default());
    let peer = world.add(Echo, State::Connecting, Wire { is_own_peer: true, ..Wire::default() });
    world.event(&peer, WRITE);
    world.assert_ended(CloseReason::ConnectFailed(ErrorKind::ConnectionRefused));
    assert_eq!(peer.calls(), ["reset", "close"]);
}

#[test]
fn where_the_backlog_is_full_connecting_is_tried_again_until_the_connect_timeout() {
    let pause = Duration::from_millis(10);
    let mut world = World::echo(Config::default());
    let wire = Wire { room: 100, connecting: true, full_backlogs: Some(2), ..Wire::default() };
    let peer = world.add(Echo, State::Connecting, wire);
    // An unconnected socket announces whatever it likes.
    world.event(&peer, READ | WRITE);
    world.pass(2 * pause);
    assert_eq!(peer.calls(), ["connect", "connect"]);
    peer.wire.borrow_mut().connecting = false;
    world.pass(pause);
    world.data(&peer, b"made");
    assert_eq!(peer.calls(), ["connect", "read 4", "write 4"]);
    world.pass(seconds(20));
    world.assert_open();

    let mut world = World::echo(Config::default());
    let wire = Wire { connecting: true, full_backlogs: Some(usize::MAX), ..Wire::default() };
    world.add(Echo, State::Connecting, wire);
    world.pass(seconds(10));
    world.assert_ended(CloseReason::ConnectTimeout);
}

#[test]
fn an_attempt_ends_with_the_connection_that_asked_for_it() {
    let mut world = World::echo(Config::default());
    let requester = world.accept(Echo, 100);
    let attempts: Vec<_> = (0..3)
        .map(|label| {
            let attempt = world.add(Echo, State::Connecting, Wire { connecting: true, ..Wire::default() });
            world.set_requester(&attempt, &requester, label);
            attempt
        })
        .collect();
    // One is made before.
    attempts[1].wire.borrow_mut().connecting = false;
    world.event(&attempts[1], WRITE);
    requester.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::ConnectionReset));
    world.event(&requester, READ);
    world.settle();
    assert_eq!(world.stats().closed(CloseReason::Cancelled), 2);
    assert_eq!(world.connections.len(), 1);
    assert_eq!(attempts[0].calls(), ["reset", "close"]);
    assert!(attempts[1].calls().is_empty());
}
