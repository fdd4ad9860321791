//! Networks that fail: each test has one or two hosts of its own.

use std::{
    thread,
    time::{Duration, Instant},
};

use echoloop::{Address, CloseReason};

use crate::{
    client::{Client, RECEIVE_BUFFER},
    network::{Host, TcpState, connections_in, has_ipv6, in_a_network_of_its_own, set},
    util::{DEADLINE, Program, eventually, holds_within, skip},
    ways::on_every_way,
};

/// More than a client's receive buffer takes, and less than the server's system takes for sending.
const OWED: usize = 300_000;

/// The addresses of a server that has started.
fn addresses(server: &Program) -> Vec<Address> {
    if !has_ipv6() {
        skip("the half of it that is over IPv6: there is none on this machine");
    }
    (0..1 + usize::from(has_ipv6())).map(|_| Address::Ip(server.listening())).collect()
}

/// Clients that have sent all and their end and read nothing; the server's system has all of their echoes.
fn half_closed_and_owed(server: &Program, addresses: &[Address]) -> Vec<Client> {
    let clients = addresses.iter().map(|address| {
        let mut client = Client::connect(address);
        client.send(OWED);
        client.end();
        client
    });
    let clients: Vec<_> = clients.collect();
    let process = server.child.id();
    eventually("the server has sent its end", || connections_in(TcpState::LastAck, process) == clients.len());
    clients
}

#[test]
fn an_outage_in_mid_transfer_costs_nothing() {
    in_a_network_of_its_own("namespaces::an_outage_in_mid_transfer_costs_nothing", || {
        let host = Host::connected();
        let mut server = host.serve(&[]);
        let addresses = addresses(&server);
        let clients = half_closed_and_owed(&server, &addresses);
        let (half_closed, transferring) = (clients.len(), addresses.len());
        thread::scope(|scope| {
            for mut client in clients {
                scope.spawn(move || {
                    client.read_steadily(600_000.0, usize::MAX).expect("a clean end");
                    assert_eq!(client.received, client.sent, "a clean end, and not all");
                });
            }
            for address in &addresses {
                let mut client = Client::connect(address);
                scope.spawn(move || {
                    for _ in 0..20 {
                        client.send(RECEIVE_BUFFER);
                        let all = client.sent;
                        client.read_steadily(1_000_000.0, all).expect("a pong");
                    }
                    client.end();
                    client.expect_rest_and_end();
                });
            }
            thread::park_timeout(Duration::from_millis(200));
            host.unplug();
            thread::park_timeout(Duration::from_millis(700));
            host.plug();
        });
        server.signal("TERM");
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
        let summary = server.line();
        let all = half_closed + transferring;
        assert!(summary.ends_with(&format!(" 0 bytes undelivered; peer {all}")), "{summary}");
    });
}

#[test]
fn those_who_cannot_be_reached_at_the_end_are_counted_as_cut_off() {
    in_a_network_of_its_own(
        "namespaces::those_who_cannot_be_reached_at_the_end_are_counted_as_cut_off",
        || {
            let host = Host::connected();
            let mut server = host.serve(&["--drain-timeout", "1s"]);
            let addresses = addresses(&server);
            let mut clients = half_closed_and_owed(&server, &addresses);
            clients.extend(addresses.iter().map(|address| {
                let mut client = Client::connect(address);
                client.send_until_blocked();
                client
            }));
            host.unplug();
            server.signal("TERM");
            assert_eq!(server.wait(DEADLINE).code(), Some(1));
            let summary = server.line();
            assert!(summary.ends_with(&format!("; drain timeout {}", clients.len())), "{summary}");
            assert!(!summary.contains(" 0 bytes undelivered"), "{summary}");
        },
    );
}

#[test]
fn an_outage_at_the_end_delays_the_exit_and_costs_nothing() {
    in_a_network_of_its_own("namespaces::an_outage_at_the_end_delays_the_exit_and_costs_nothing", || {
        let host = Host::connected();
        let mut server = host.serve(&[]);
        let addresses = addresses(&server);
        let clients = half_closed_and_owed(&server, &addresses);
        host.unplug();
        server.signal("TERM");
        let has_ended = || server.child.try_wait().unwrap().is_some();
        assert!(!holds_within(Duration::from_millis(500), has_ended), "and nobody has received anything");
        host.plug();
        let count = clients.len();
        for mut client in clients {
            client.expect_rest_and_end();
        }
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
        let summary = server.line();
        assert!(summary.ends_with(&format!(" 0 bytes undelivered; peer {count}")), "{summary}");
    });
}

#[test]
fn a_peer_that_vanishes_is_a_write_stall() {
    in_a_network_of_its_own("namespaces::a_peer_that_vanishes_is_a_write_stall", || {
        let host = Host::connected();
        let mut server = host.serve(&["--write-timeout", "3s", "--idle-timeout", "off"]);
        let addresses = addresses(&server);
        let begin = Instant::now();
        // All is in the system's hands, with or without the server's end, or some is queued.
        let mut clients = half_closed_and_owed(&server, &addresses);
        clients.extend(addresses.iter().map(|address| {
            let mut client = Client::connect(address);
            client.send(OWED);
            client
        }));
        clients.extend(addresses.iter().map(|address| {
            let mut client = Client::connect(address);
            // More than the server's system takes.
            client.send_until_blocked_or(8 << 20);
            client
        }));
        host.vanish();
        let process = server.child.id();
        eventually("the server has given them all up", || {
            connections_in(TcpState::Established, process) + connections_in(TcpState::LastAck, process) == 0
        });
        println!("given up {:?} after they began", begin.elapsed());
        server.signal("TERM");
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
        let summary = server.line();
        assert!(summary.ends_with(&format!("; write stall {}", clients.len())), "{summary}");
        assert!(!summary.contains(" 0 bytes undelivered"), "{summary}");
    });
}

#[test]
fn a_half_closed_client_that_pauses_is_not_left_to_a_system_that_gives_up() {
    in_a_network_of_its_own(
        "namespaces::a_half_closed_client_that_pauses_is_not_left_to_a_system_that_gives_up",
        || {
            // The system gives up a connection without a process in less than a second.
            set("ipv4/tcp_orphan_retries", "1");
            on_every_way(|way| {
                let server = way.serve(echoloop::Config::default());
                let mut client = Client::connect(&server.addresses[0]);
                client.send(1_000_000);
                client.end();
                thread::park_timeout(Duration::from_secs(3));
                client.expect_rest_and_end();
                let stats = server.last_stats();
                assert_eq!(stats.closed(CloseReason::Peer), 1, "{stats}");
                assert_eq!((stats.closed_total(), stats.bytes_undelivered), (1, 0), "{stats}");
            });
        },
    );
}

#[test]
fn tiny_windows_lose_nothing_in_a_drain() {
    in_a_network_of_its_own("namespaces::tiny_windows_lose_nothing_in_a_drain", || {
        set("ipv4/tcp_rmem", "4096 4096 4096");
        set("ipv4/tcp_wmem", "4096 4096 65536");
        on_every_way(|way| {
            let server = way.serve(echoloop::Config::default());
            let mut half_closed = Client::connect_with(&server.addresses[0], 2048);
            let mut open = Client::connect_with(&server.addresses[0], 2048);
            for client in [&mut half_closed, &mut open] {
                client.send_until_blocked();
            }
            half_closed.end();
            server.handle.drain();
            let begin = Instant::now();
            for client in [&mut half_closed, &mut open] {
                client.expect_rest_and_end();
            }
            println!("{way:?}: {} and {} bytes in {:?}", half_closed.sent, open.sent, begin.elapsed());
            drop((half_closed, open));
            let stats = server.join();
            assert_eq!(stats.closed(CloseReason::Peer), 1, "{stats}");
            assert_eq!((stats.closed_total(), stats.bytes_undelivered), (2, 0), "{stats}");
        });
    });
}
