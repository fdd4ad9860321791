//! Limits of the server: on its connections, and on everything else at their smallest.

use std::{io::Write, net::TcpStream, sync::Mutex, thread};

use echoloop::{Address, CloseReason, Config, Echo};

use crate::{
    KIB,
    util::{Running, connect, expect_bytes, finish, pattern, ping},
};

#[test]
fn clients_beyond_the_limit_wait_in_the_backlog_until_places_are_free() {
    let mut config = Config::default();
    config.max_connections = Some(2);
    let server = Running::echo(config);
    let first = [server.connect(), server.connect()];
    first.iter().for_each(|client| ping(client, b"in"));
    let waiting: Vec<TcpStream> = (0..4).map(|_| server.connect()).collect();
    for mut client in &waiting {
        client.write_all(b"me too").unwrap();
    }
    for _ in 0..50 {
        first.iter().for_each(|client| ping(client, b"still in"));
    }
    assert_eq!((server.stats().open, server.stats().accepted), (2, 2), "the others wait");
    first.iter().for_each(|client| assert!(finish(client).is_empty()));
    thread::scope(|scope| {
        for client in &waiting {
            scope.spawn(|| {
                expect_bytes(client, b"me too");
                assert!(server.stats().open <= 2);
                assert!(finish(client).is_empty());
            });
        }
    });
    let stats = server.last_stats();
    assert_eq!((stats.accepted, stats.closed(CloseReason::Peer)), (6, 6), "{stats}");
}

#[test]
fn the_smallest_limits_echo_every_byte_all_the_same() {
    let mut config = Config::default();
    config.read_buffer_bytes = 1;
    config.high_water_bytes = 1;
    config.low_water_bytes = 0;
    config.turn_budget_bytes = 1;
    config.input_limit_bytes = 1;
    config.accept_burst = 1;
    config.event_batch = 1;
    config.mailbox_capacity = 1;
    let server = Running::echo(config);
    let sent = pattern(64, 64 * KIB);
    let clients: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for mut client in &clients {
        client.write_all(&sent).unwrap();
    }
    for client in &clients {
        assert!(finish(client) == sent, "the echo differs");
    }
    let stats = server.last_stats();
    assert_eq!((stats.closed(CloseReason::Peer), stats.bytes_undelivered), (3, 0), "{stats}");
}

#[test]
fn a_full_server_serves_the_clients_of_all_its_listeners() {
    let mut config = Config::default();
    config.max_connections = Some(1);
    let server = Running::start(config, &["127.0.0.1:0", "127.0.0.1:0"], |_| Some(Echo));
    let Address::Ip(second) = server.addresses[1] else { panic!("an IP address") };
    let first = server.connect();
    ping(&first, b"in");
    // All wait in the two backlogs while the only place is taken.
    let crowd = (0..20).map(|_| server.connect());
    let clients: Vec<TcpStream> = crowd.chain([connect(second)]).collect();
    let served = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (number, client) in clients.iter().enumerate() {
            let served = &served;
            scope.spawn(move || {
                ping(client, b"served");
                served.lock().unwrap().push(number);
                assert!(finish(client).is_empty());
            });
        }
        assert!(finish(&first).is_empty());
    });
    let served = served.into_inner().unwrap();
    let place = served.iter().position(|&number| number == 20).unwrap();
    assert!(place < 10, "the only client of the second listener was served after {place} others");
}
