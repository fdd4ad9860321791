//! When something owed is lost, no peer is told that the stream is whole: a reset, and no close_notify.

use std::{sync::Arc, time::Duration};

use echoloop::{CloseReason, Config, Context, Echo, Input, Protocol};

use crate::{
    peer::{Client, Identity, Running, VERSIONS, Version},
    util::{eventually, pattern},
};

/// More than the kernel holds.
const LARGE: usize = 16 << 20;

/// Answers with a lot, and then does what its client asked for.
struct Flood;

impl Protocol for Flood {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        match input.take() {
            b"flood" => drop(cx.write(&pattern(1, LARGE))),
            input if input.starts_with(b"finish") => {
                cx.write(&pattern(1, 2 << 20));
                cx.finish();
            }
            b"abort" => cx.abort(),
            b"panic" => panic!("on purpose"),
            other => drop(cx.write(other)),
        }
    }
}

/// A client to which something is owed, and which does not read.
fn flooded(version: Version, config: Config) -> (Running, Client) {
    let identity = Identity::new("localhost");
    let server = Running::start(config, Arc::new(identity.server()), |_| Some(Flood));
    let mut client = Client::new(server.address, identity.client(version));
    client.handshake().unwrap();
    client.send(b"flood").unwrap();
    eventually("something is sent", || server.handle.stats().bytes_sent > 0);
    (server, client)
}

#[track_caller]
fn assert_cut_off(client: &mut Client) {
    let mut received = Vec::new();
    let error = client.read_until_end(&mut received).expect_err("not a clean end");
    assert!(received.len() < LARGE && pattern(1, LARGE).starts_with(&received));
    assert!(!client.has_close_notify(), "{error}");
}

#[test]
fn who_stalls_is_reset_and_gets_no_close_notify() {
    for version in VERSIONS {
        let mut config = Config::default();
        config.write_timeout = Some(Duration::from_millis(200));
        let (server, mut client) = flooded(version, config);
        eventually("it is given up", || server.handle.stats().closed(CloseReason::WriteStall) == 1);
        assert_cut_off(&mut client);
        let stats = server.drain();
        assert!(stats.bytes_undelivered > 0 && stats.bytes_undelivered <= LARGE as u64, "{stats}");
    }
}

#[test]
fn at_the_drain_deadline_it_is_reset_and_gets_no_close_notify() {
    for version in VERSIONS {
        let mut config = Config::default();
        config.drain_timeout = Some(Duration::from_millis(300));
        let (server, mut client) = flooded(version, config);
        let stats = server.drain();
        assert_eq!(stats.closed(CloseReason::DrainTimeout), 1, "{stats}");
        assert_cut_off(&mut client);
    }
}

#[test]
fn an_abort_and_a_panic_reset_it_and_there_is_no_close_notify() {
    for version in VERSIONS {
        for (request, reason) in [("abort", CloseReason::Aborted), ("panic", CloseReason::Panicked)] {
            let identity = Identity::new("localhost");
            let server = Running::start(Config::default(), Arc::new(identity.server()), |_| Some(Flood));
            let mut client = Client::new(server.address, identity.client(version));
            client.handshake().unwrap();
            client.send(b"hello").unwrap();
            client.receive(5).unwrap();
            client.send(request.as_bytes()).unwrap();
            assert_cut_off(&mut client);
            eventually("it is counted", || server.handle.stats().closed(reason) == 1);
            server.drain();
        }
    }
}

/// The server's own end, while the client still sends.
#[test]
fn a_reply_is_complete_while_the_client_still_sends() {
    for version in VERSIONS {
        for round in 0..10 {
            let identity = Identity::new("localhost");
            let server = Running::start(Config::default(), Arc::new(identity.server()), |_| Some(Flood));
            let mut client = Client::new(server.address, identity.client(version));
            client.handshake().unwrap();
            client.send(b"finish").unwrap();
            // It goes on as long as it is let.
            client.socket.set_nonblocking(true).unwrap();
            for _ in 0..100 {
                if client.send(&pattern(2, 10_000)).is_err() {
                    break;
                }
            }
            client.socket.set_nonblocking(false).unwrap();
            let received =
                client.read_to_end().unwrap_or_else(|error| panic!("{version:?} {round}: {error}"));
            assert!(received == pattern(1, 2 << 20), "{version:?} {round}: {}", received.len());
            drop(client);
            assert_eq!(server.drain().bytes_undelivered, 0);
        }
    }
}

#[test]
fn two_hundred_at_once_go_through_a_drain_whole() {
    let identity = Identity::new("localhost");
    let server = Running::start(Config::default(), Arc::new(identity.server()), |_| Some(Echo));
    let sent = pattern(3, 100_000);
    let clients: Vec<_> = (0..200)
        .map(|n| {
            let mut client = Client::new(server.address, identity.client(VERSIONS[n % 2]));
            client.handshake().unwrap();
            client.send(&sent).unwrap();
            client
        })
        .collect();
    server.handle.drain();
    for mut client in clients {
        let received = client.read_to_end().unwrap();
        assert!(received == sent, "{} of {}", received.len(), sent.len());
    }
    let stats = server.drain();
    assert_eq!((stats.closed(CloseReason::Drained), stats.bytes_undelivered), (200, 0), "{stats}");
}
