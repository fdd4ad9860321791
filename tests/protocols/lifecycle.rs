//! How connections begin and end: the factory, finishing, aborting, `on_close`, draining.

use std::{
    collections::HashSet,
    io::Write,
    sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use echoloop::{Address, CloseReason, Config, Context, Echo, Flow, Input, Origin, Protocol};

use crate::{
    ANYWHERE, OnData,
    util::{
        DEADLINE, Running, connect, expect_bytes, finish, is_wine, ping, read_to_end, read_to_reset, reset,
    },
};

#[test]
fn whom_the_factory_refuses_is_reset_and_counted() {
    let count = AtomicUsize::new(0);
    let server = Running::start(Config::default(), ANYWHERE, move |_| {
        (count.fetch_add(1, SeqCst) != 1).then_some(Echo)
    });
    let first = server.connect();
    ping(&first, b"welcome");
    let refused = server.connect();
    assert!(read_to_reset(&refused).is_empty());
    let third = server.connect();
    ping(&third, b"welcome");
    assert!(finish(&first).is_empty() && finish(&third).is_empty());
    let stats = server.last_stats();
    assert_eq!((stats.accepted, stats.refused, stats.closed_total()), (3, 1, 2), "{stats}");
}

#[test]
fn the_factory_knows_who_comes_and_by_which_listener() {
    let (seen, peers) = channel();
    let server = Running::start(Config::default(), &["127.0.0.1:0", "127.0.0.1:0"], move |peer| {
        seen.send((peer.origin, peer.address.clone(), peer.id)).unwrap();
        Some(Echo)
    });
    let mut ids = HashSet::new();
    for position in [1, 0, 1] {
        let Address::Ip(address) = server.addresses[position] else { unreachable!() };
        let client = connect(address);
        let (origin, address, id) = peers.recv_timeout(DEADLINE).unwrap();
        assert_eq!(origin, Origin::Listener(position));
        assert_eq!(address, Address::Ip(client.local_addr().unwrap()));
        assert!(finish(&client).is_empty());
        assert!(ids.insert(id), "ids are never used again");
        server.wait_until_idle();
    }
}

/// Finishes as soon as it is made.
struct Greets;

impl Protocol for Greets {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.write(b"hello and goodbye to ");
        cx.write(cx.peer_addr().unwrap().to_string().as_bytes());
        cx.finish();
        assert_eq!(cx.write(b"?"), Flow::Closed);
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {
        panic!("what comes after finish() is discarded");
    }
}

#[test]
fn a_protocol_can_finish_as_soon_as_it_is_made() {
    let server = Running::start(Config::default(), ANYWHERE, |_| Some(Greets));
    let mut client = server.connect();
    let expected = format!("hello and goodbye to {}", client.local_addr().unwrap());
    assert_eq!(read_to_end(&client), expected.as_bytes());
    client.write_all(b"too late").unwrap();
    drop(client);
    let stats = server.last_stats();
    assert_eq!((stats.closed(CloseReason::Finished), stats.closed_total()), (1, 1), "{stats}");
    assert_eq!((stats.panics, stats.bytes_discarded), (0, 8), "{stats}");
}

#[test]
fn an_abort_resets_the_client() {
    let server = Running::start(Config::default(), ANYWHERE, |_| {
        Some(OnData(|_: &mut Input<'_>, cx: &mut Context<'_>| {
            cx.write(b"never mind");
            cx.abort();
        }))
    });
    let mut client = server.connect();
    client.write_all(b"?").unwrap();
    read_to_reset(&client);
    let stats = server.last_stats();
    assert_eq!((stats.closed(CloseReason::Aborted), stats.closed_total()), (1, 1), "{stats}");
}

#[test]
fn an_abort_of_the_server_resets_every_client() {
    let server = Running::echo(Config::default());
    let clients = [server.connect(), server.connect(), server.connect()];
    for client in &clients {
        ping(client, b"?");
    }
    server.handle.abort();
    let stats = server.join();
    for client in &clients {
        read_to_reset(client);
    }
    assert_eq!((stats.closed(CloseReason::ServerAborted), stats.closed_total()), (3, 3), "{stats}");
}

/// Tells how it ends, and that it is dropped.
struct TellsTheEnd(Sender<Option<CloseReason>>);

impl Protocol for TellsTheEnd {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_close(&mut self, reason: &CloseReason, _: &mut Context<'_>) {
        self.0.send(Some(*reason)).unwrap();
    }
}

impl Drop for TellsTheEnd {
    fn drop(&mut self) {
        self.0.send(None).unwrap();
    }
}

#[test]
fn on_close_comes_once_with_the_reason_and_then_the_protocol_is_dropped() {
    let (tell, told) = channel();
    let server = Running::start(Config::default(), ANYWHERE, move |_| Some(TellsTheEnd(tell.clone())));
    let expect = |reason| {
        assert_eq!(told.recv_timeout(DEADLINE), Ok(Some(reason)));
        assert_eq!(told.recv_timeout(DEADLINE), Ok(None));
    };
    drop(server.connect());
    expect(CloseReason::Peer);
    let client = server.connect();
    ping(&client, b"?");
    reset(client);
    expect(if is_wine() { CloseReason::Peer } else { CloseReason::Reset });
    let client = server.connect();
    ping(&client, b"?");
    server.handle.drain();
    assert!(read_to_end(&client).is_empty());
    drop(client);
    expect(CloseReason::Drained);
    server.join();
    assert!(told.recv().is_err(), "nothing more is told");
}

/// Takes its own time in a drain, or for ever.
struct OnDrain {
    goes_on: bool,
}

impl Protocol for OnDrain {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) {
        cx.write(b"closing time");
        if !self.goes_on {
            cx.finish();
        }
    }
}

#[test]
fn a_protocol_can_say_goodbye_in_a_drain() {
    let server = Running::start(Config::default(), ANYWHERE, |_| Some(OnDrain { goes_on: false }));
    let client = server.connect();
    ping(&client, b"?");
    server.handle.drain();
    assert_eq!(read_to_end(&client), b"closing time");
    drop(client);
    let stats = server.join();
    assert_eq!((stats.closed(CloseReason::Drained), stats.closed_total()), (1, 1), "{stats}");
}

#[test]
fn a_protocol_that_goes_on_in_a_drain_is_cut_off_by_its_deadline() {
    let mut config = Config::default();
    config.drain_timeout = Some(Duration::from_secs(2));
    let server = Running::start(config, ANYWHERE, |_| Some(OnDrain { goes_on: true }));
    let client = server.connect();
    ping(&client, b"?");
    server.handle.drain();
    expect_bytes(&client, b"closing time");
    read_to_reset(&client);
    let stats = server.join();
    assert_eq!((stats.closed(CloseReason::DrainTimeout), stats.closed_total()), (1, 1), "{stats}");
}
