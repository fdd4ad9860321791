//! Echo over UDP (RFC 862), on real sockets.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use echoloop::{Address, Config, Echo, Server};
use util::{DEADLINE, Running, connect, eventually, pattern, ping};

/// The most that IPv4 carries.
const LARGEST: usize = 65_507;

fn serve(addresses: &[&str]) -> Running<Echo> {
    Running::start(Config::default(), addresses, |_| Some(Echo))
}

/// The real address of the server's socket of this position.
#[track_caller]
fn udp_address(server: &Running<Echo>, position: usize) -> SocketAddr {
    let Address::Udp(address) = server.addresses[position] else {
        panic!("{} is not an address of UDP", server.addresses[position]);
    };
    address
}

/// A client that waits for answers no longer than `DEADLINE`.
#[track_caller]
fn client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("bind");
    socket.set_read_timeout(Some(DEADLINE)).expect("set_read_timeout");
    socket
}

/// The next datagram that comes, and where from.
#[track_caller]
fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
    buffer.truncate(length);
    (buffer, from)
}

/// Sends a datagram, and has it back from where it was sent to.
#[track_caller]
fn exchange(socket: &UdpSocket, server: SocketAddr, bytes: &[u8]) {
    assert_eq!(socket.send_to(bytes, server).expect("send"), bytes.len());
    let (answer, from) = receive(socket);
    assert!(answer == bytes, "{} bytes came back of {}", answer.len(), bytes.len());
    assert_eq!(from, server);
}

fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

#[test]
fn a_datagram_of_any_size_comes_back_unchanged() {
    let server = serve(&["udp:127.0.0.1:0"]);
    let (address, client) = (udp_address(&server, 0), client("127.0.0.1:0"));
    let sizes = [0, 1, 14, 1472, 1473, 9000, 65_506, LARGEST];
    for (seed, size) in (0..).zip(sizes) {
        exchange(&client, address, &pattern(seed, size));
    }
    let stats = server.drain();
    let bytes = sizes.iter().sum::<usize>() as u64;
    assert_eq!((stats.datagrams_received, stats.datagrams_sent), (8, 8));
    assert_eq!((stats.datagram_bytes_received, stats.datagram_bytes_sent), (bytes, bytes));
    assert_eq!((stats.datagrams_refused, stats.datagrams_unsent), (0, 0));
    assert_eq!((stats.bytes_received, stats.closed_total(), stats.datagram_sockets), (0, 0, 1));
}

#[test]
fn ipv6_is_like_ipv4() {
    if !has_ipv6() {
        return util::skip("there is no IPv6");
    }
    let server = serve(&["udp:[::1]:0"]);
    let (address, client) = (udp_address(&server, 0), client("[::1]:0"));
    for size in [0, 14, LARGEST] {
        exchange(&client, address, &pattern(1, size));
    }
    assert_eq!(server.drain().datagrams_sent, 3);
}

/// Every address of 127.0.0.0/8 is one of this machine's on Linux.
#[cfg(target_os = "linux")]
#[test]
fn on_every_interface_the_answer_comes_from_the_address_that_was_asked() {
    let server = serve(&["udp:0.0.0.0:0"]);
    let port = udp_address(&server, 0).port();
    let client = client("127.0.0.1:0");
    for host in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 9, 9, 9]] {
        exchange(&client, (host, port).into(), b"this is a test");
        exchange(&client, (host, port).into(), &pattern(1, LARGEST));
    }
    if has_ipv6() {
        let server = serve(&["udp:[::]:0"]);
        let address = (std::net::Ipv6Addr::LOCALHOST, udp_address(&server, 0).port()).into();
        exchange(&self::client("[::1]:0"), address, b"this is a test");
    }
}

/// To the broadcast address of the loopback network.
#[cfg(target_os = "linux")]
#[test]
fn what_is_sent_to_all_in_the_network_is_not_answered() {
    let server = serve(&["udp:0.0.0.0:0"]);
    let port = udp_address(&server, 0).port();
    let client = client("127.0.0.1:0");
    client.set_broadcast(true).unwrap();
    client.send_to(b"to all", (Ipv4Addr::new(127, 255, 255, 255), port)).unwrap();
    eventually("it is refused", || server.stats().datagrams_refused == 1);
    // Nothing comes before the answer to this.
    exchange(&client, (Ipv4Addr::LOCALHOST, port).into(), b"to one");
}

#[test]
fn two_sockets_of_one_server_never_answer_each_other() {
    let server = serve(&["udp:127.0.0.1:0", "udp:127.0.0.1:0"]);
    let (one, other) = (udp_address(&server, 0), udp_address(&server, 1));
    // With the source address that somebody would forge: the port of the other one, on another host.
    let Ok(forger) = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), other.port())) else {
        return util::skip("this system has one loopback address only");
    };
    forger.send_to(b"for ever and ever", one).unwrap();
    eventually("it is refused", || server.stats().datagrams_refused == 1);
    let (stats, client) = (server.stats(), client("127.0.0.1:0"));
    assert_eq!((stats.datagrams_received, stats.datagrams_sent), (1, 0));
    exchange(&client, one, b"this is a test");
    exchange(&client, other, b"this is a test");
}

#[test]
fn two_echo_servers_on_one_port_never_talk_to_each_other() {
    let server = serve(&["udp:127.0.0.1:0"]);
    let address = udp_address(&server, 0);
    let (other_host, port) = (Ipv4Addr::new(127, 0, 0, 2), address.port());
    let Ok(other) = UdpSocket::bind((other_host, port)) else {
        return util::skip("this system has one loopback address only");
    };
    other.send_to(b"for ever and ever", address).unwrap();
    eventually("it is refused", || server.stats().datagrams_refused == 1);
    assert_eq!(server.drain().datagrams_sent, 0);
}

/// Some systems tell the server of the answer that was refused, when it receives the next time.
#[test]
fn a_client_that_is_gone_costs_nobody_else_an_answer() {
    let server = serve(&["udp:127.0.0.1:0"]);
    let (address, stays) = (udp_address(&server, 0), client("127.0.0.1:0"));
    for round in 0..50 {
        let goes = client("127.0.0.1:0");
        goes.send_to(b"gone before it is answered", address).unwrap();
        drop(goes);
        exchange(&stays, address, &pattern(round, 100));
    }
}

#[test]
fn many_datagrams_at_once_hold_nobody_up_who_uses_tcp() {
    const DATAGRAMS: u16 = 200;
    let server = serve(&["127.0.0.1:0", "udp:127.0.0.1:0"]);
    let address = udp_address(&server, 1);
    let (over_tcp, over_udp) = (connect(server.address()), client("127.0.0.1:0"));
    for round in 0..20 {
        let mut missing = HashSet::new();
        for n in 0..DATAGRAMS {
            let bytes = [round, n].map(u16::to_be_bytes).concat();
            over_udp.send_to(&bytes, address).unwrap();
            missing.insert(bytes);
        }
        ping(&over_tcp, &pattern(round.into(), 10_000));
        // Loopback loses datagrams only where a receive buffer is full, and so few small ones fit.
        while !missing.is_empty() {
            let (answer, _) = receive(&over_udp);
            assert!(missing.remove(&answer), "{answer:?} was not sent, or came twice");
        }
    }
    drop(over_tcp);
    let stats = server.last_stats();
    assert_eq!((stats.datagrams_received, stats.datagrams_sent), (4000, 4000));
    assert_eq!(stats.closed_total(), 1);
}

#[test]
fn a_server_with_nothing_but_udp_runs_until_it_drains_and_answers_what_has_come() {
    const DATAGRAMS: u64 = 100;
    let server = Server::<Echo>::builder().bind(["udp:127.0.0.1:0"]).unwrap();
    let Address::Udp(address) = server.local_addrs()[0] else { panic!("an address of UDP") };
    let client = client("127.0.0.1:0");
    for n in 0..DATAGRAMS {
        client.send_to(&n.to_be_bytes(), address).unwrap();
    }
    // All of them wait in the socket when the loop begins, and the drain with it.
    server.handle().drain();
    let stats = server.run(|_| Some(Echo)).unwrap();
    assert_eq!((stats.datagrams_received, stats.datagrams_sent), (DATAGRAMS, DATAGRAMS));
    for n in 0..DATAGRAMS {
        assert_eq!(receive(&client).0, n.to_be_bytes());
    }
    assert!(UdpSocket::bind(address).is_ok(), "the port is free again");
}

#[test]
fn an_abort_ends_it_at_once() {
    let server = serve(&["udp:127.0.0.1:0"]);
    exchange(&client("127.0.0.1:0"), udp_address(&server, 0), b"this is a test");
    server.handle.abort();
    assert_eq!(server.join().datagrams_sent, 1);
}

#[test]
fn workers_share_a_port_where_the_kernel_spreads_datagrams() {
    let mut config = Config::default();
    config.workers = 3;
    let server = Running::start(config, &["udp:127.0.0.1:0"], |_| Some(Echo));
    let address = udp_address(&server, 0);
    for n in 0..50 {
        // The kernel chooses a worker by the client's port.
        exchange(&client("127.0.0.1:0"), address, &pattern(n, 500));
    }
    let stats = server.drain();
    // Elsewhere each datagram would wake all workers.
    let sockets = if cfg!(any(target_os = "linux", target_os = "android")) { 3 } else { 1 };
    assert_eq!((stats.datagrams_sent, stats.datagram_sockets), (50, sockets));
}

#[test]
fn two_servers_never_share_a_port() {
    for (first, second) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let with_workers = |workers, address: &str| {
            Server::<Echo>::builder().workers(workers).bind([address]).map_err(|error| error.to_string())
        };
        let server = with_workers(first, "udp:127.0.0.1:0").unwrap();
        let address = server.local_addrs()[0].to_string();
        let error = with_workers(second, &address).unwrap_err();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    }
}

#[test]
fn tcp_and_udp_may_have_the_same_port_and_keep_their_positions() {
    // Whatever is free for TCP is nearly always free for UDP too.
    let both_free = || {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?;
        let addresses = [format!("udp:{tcp}"), tcp.to_string()];
        let server = Server::<Echo>::builder().workers(3).bind(addresses).ok()?;
        Some((tcp, server))
    };
    let (address, server) = std::iter::repeat_with(both_free).take(50).flatten().next().expect("a free port");
    let handle = server.handle();
    let running = std::thread::spawn(move || {
        server.run(|peer| {
            assert_eq!(peer.origin, echoloop::Origin::Listener(1));
            Some(Echo)
        })
    });
    for _ in 0..20 {
        ping(&connect(address), b"this is a test");
    }
    handle.drain();
    assert_eq!(running.join().unwrap().unwrap().panics, 0);
}

#[test]
fn a_limit_of_accepted_connections_needs_a_server_without_udp() {
    let mut config = Config::default();
    config.accept_limit = Some(1);
    let error = Server::<Echo>::builder().config(config).bind(["udp:127.0.0.1:0"]).unwrap_err();
    assert_eq!(error.to_string(), "configuration: accept_limit counts connections, and UDP has none");
}

#[test]
fn a_socket_that_is_drained_is_closed_while_connections_go_on() {
    let server = serve(&["udp:127.0.0.1:0", "127.0.0.1:0"]);
    let address = udp_address(&server, 0);
    let Address::Ip(over_tcp) = server.addresses[1] else { panic!("an address of TCP") };
    let over_tcp = connect(over_tcp);
    ping(&over_tcp, b"this is a test");
    server.handle.drain();
    eventually("the socket is closed", || UdpSocket::bind(address).is_ok());
    assert_eq!(util::finish(&over_tcp), b"");
    server.join();
}

/// `echoloop serve` and `echoloop client`.
#[cfg(feature = "cli")]
mod program {
    use std::thread;

    use super::*;
    use util::{Ended, Program, echoloop};

    /// The address of a `listening on udp:ADDR` line.
    #[track_caller]
    fn listening(server: &Program) -> SocketAddr {
        let line = server.line();
        let address = line.strip_prefix("listening on udp:").unwrap_or_else(|| panic!("unexpected: {line}"));
        address.parse().expect("an IP address")
    }

    fn client_of(server: &str, arguments: &[&str]) -> Ended {
        Ended::run(&mut echoloop(&[&["client", server], arguments].concat()))
    }

    /// A server that sends back what `answer` makes of each datagram, if anything.
    fn fake_server(answer: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + 'static) -> String {
        let socket = client("127.0.0.1:0");
        let address = format!("udp:{}", socket.local_addr().unwrap());
        thread::spawn(move || {
            let (datagram, from) = receive(&socket);
            if let Some(answer) = answer(datagram) {
                socket.send_to(&answer, from).unwrap();
            }
            // Open until the client has given up.
            let _ = socket.recv(&mut []);
        });
        address
    }

    #[test]
    fn serve_listens_over_tcp_and_udp_and_the_client_speaks_both() {
        let server = Program::start(&["serve", "127.0.0.1:0", "udp:127.0.0.1:0", "udp:127.0.0.1:0"]);
        let tcp = server.listening().to_string();
        let udp = [listening(&server), listening(&server)].map(|address| format!("udp:{address}"));
        let over_udp = "Bytes sent: 14\nBytes received: 14\nDatagram came back unchanged\n";
        for address in &udp {
            let ended = client_of(address, &[]);
            assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(0), over_udp), "{ended:?}");
        }
        assert!(client_of(&tcp, &[]).stdout.ends_with("Connection closed\n"));
        let ended = client_of(&udp[0], &[""]);
        assert!(ended.stdout.starts_with("Bytes sent: 0\nBytes received: 0\nDatagram"), "{ended:?}");
    }

    #[cfg(unix)]
    #[test]
    fn the_summary_counts_datagrams_where_there_is_a_socket_for_them() {
        let mut server = Program::start(&["serve", "udp:127.0.0.1:0"]);
        let address = listening(&server);
        exchange(&client("127.0.0.1:0"), address, b"this is a test");
        server.signal("TERM");
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
        let summary = "0 connections, 0 bytes received, 0 bytes sent, 0 bytes undelivered; 1 datagrams received, 1 \
                       sent back, 0 refused, 0 unsent, 14 bytes received, 14 bytes sent";
        assert_eq!(server.line(), summary);
    }

    #[test]
    fn the_client_finds_the_address_of_a_name_where_somebody_is() {
        let server = Program::start(&["serve", "udp:127.0.0.1:0"]);
        let name = format!("udp:localhost:{}", listening(&server).port());
        let ended = client_of(&name, &["hello"]);
        assert!(ended.status.success(), "{ended:?}");
    }

    #[test]
    fn nobody_there_is_an_error_with_a_hint() {
        if util::is_wine() {
            return util::skip("Wine does not tell that a port is unreachable");
        }
        let closed = client("127.0.0.1:0").local_addr().unwrap();
        let ended = client_of(&format!("udp:{closed}"), &[]);
        let error = ended.error(1);
        assert!(error.starts_with(&format!("cannot reach udp:{closed}: ")), "{error}");
        assert!(error.contains("no server listens there") && ended.stdout.is_empty(), "{ended:?}");
    }

    #[test]
    fn a_server_that_is_silent_or_answers_something_else_is_an_error() {
        let silent = fake_server(|_| None);
        let ended = client_of(&silent, &["--timeout", "50ms"]);
        assert!(ended.error(1).starts_with("timed out waiting for the server"), "{ended:?}");
        assert_eq!(ended.stdout, "Bytes sent: 14\nBytes received: 0\n");
        let shortened = fake_server(|mut datagram| {
            datagram.pop();
            Some(datagram)
        });
        let ended = client_of(&shortened, &["abc"]);
        assert!(ended.error(1).ends_with("2 bytes instead of 3"), "{ended:?}");
        assert_eq!(ended.stdout, "Bytes sent: 3\nBytes received: 2\n");
    }

    #[test]
    fn what_makes_no_sense_over_udp_is_refused_in_a_line() {
        let ended = client_of("udp:127.0.0.1:1", &["-"]);
        assert!(ended.error(2).starts_with("- streams stdin, and UDP has no streams"), "{ended:?}");
        let ended = Ended::run(&mut echoloop(&["serve", "--once", "udp:127.0.0.1:0"]));
        assert!(ended.error(2).starts_with("--once serves one connection, and UDP has none"), "{ended:?}");
        for bad in ["udp:", "udp:localhost:65536", "udp:a b:1"] {
            let ended = Ended::run(&mut echoloop(&["serve", bad]));
            assert!(ended.error(2).contains(&format!("'{bad}")), "{ended:?}");
        }
        let ended = Ended::run(&mut echoloop(&["serve", "udp:nowhere.invalid:1"]));
        assert!(ended.error(1).starts_with("cannot resolve udp:nowhere.invalid:1"), "{ended:?}");
        let server = Program::start(&["serve", "udp:127.0.0.1:0"]);
        let (taken, long) = (format!("udp:{}", listening(&server)), "x".repeat(LARGEST + 1));
        let ended = Ended::run(&mut echoloop(&["serve", &taken]));
        assert!(ended.error(1).starts_with(&format!("cannot listen on {taken}: ")), "{ended:?}");
        if cfg!(windows) {
            return util::skip("a command line has 32,767 characters at most");
        }
        let error = client_of(&taken, &[&long]).error(1).to_owned();
        assert!(error.contains("65508 bytes") && error.contains("at most 65,507"), "{error}");
        assert!(client_of(&taken, &[&long[1..]]).status.success());
    }
}

/// `echoloop bench`.
#[cfg(feature = "cli")]
mod load {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use serde_json::Value;

    use super::*;
    use util::{Ended, echoloop};

    fn bench(server: &str, arguments: &[&str]) -> Ended {
        let common = ["bench", server, "--format", "json"];
        Ended::run(&mut echoloop(&[&common[..], arguments].concat()))
    }

    #[track_caller]
    fn figures(ended: &Ended) -> Value {
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    /// The counts of lost, late, duplicate and corrupt datagrams.
    fn counts(figures: &Value) -> [u64; 4] {
        ["lost", "late", "duplicate", "corrupt"].map(|kind| figures["datagrams"][kind].as_u64().unwrap())
    }

    /// A server that gives each datagram, by its place in line, to `answer`, which says what is sent to whoever sent it.
    fn fake_server(mut answer: impl FnMut(u64, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> String {
        let socket = client("127.0.0.1:0");
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let address = format!("udp:{}", socket.local_addr().unwrap());
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            let mut place = 0;
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                for datagram in answer(place, buffer[..length].to_vec()) {
                    socket.send_to(&datagram, from).unwrap();
                }
                place += 1;
            }
        });
        address
    }

    #[test]
    fn closed_and_open_loops_have_everything_back() {
        let server = serve(&["udp:127.0.0.1:0"]);
        let address = format!("udp:{}", udp_address(&server, 0));
        // However long a busy machine takes.
        let patience = ["--timeout", "30s"];
        for (arguments, messages) in [
            (&["-n", "200"][..], Some(200)),
            // More of them at once than a receive buffer holds would be lost.
            (&["-n", "200", "--size", "65507", "--connections", "1"], Some(200)),
            (&["-n", "200", "--size", "8", "--pipeline", "3", "--threads", "2"], Some(200)),
            (&["-n", "200", "--rate", "2k", "--threads", "2"], Some(200)),
            (&["--duration", "200ms", "--warmup", "20ms"], None),
            (&["--duration", "200ms", "--warmup", "20ms", "--rate", "1k"], Some(200)),
        ] {
            let ended = bench(&address, &[arguments, &patience].concat());
            assert!(ended.status.success(), "{arguments:?}: {}", ended.stderr);
            let figures = figures(&ended);
            assert_eq!(counts(&figures), [0; 4], "{arguments:?}");
            let returned = figures["messages"].as_u64().unwrap();
            assert!(
                messages.map_or(returned > 0, |messages| returned == messages),
                "{arguments:?}: {returned}"
            );
            assert_eq!(figures["latency"]["count"].as_u64(), Some(returned));
        }
    }

    #[test]
    fn datagrams_that_are_lost_are_counted_and_the_load_goes_on() {
        let lossy = fake_server(|place, datagram| if place % 10 == 3 { vec![] } else { vec![datagram] });
        let ended = bench(&lossy, &["--connections", "4", "-n", "50", "--timeout", "200ms"]);
        let error = ended.error(1);
        let figures = figures(&ended);
        let [lost, _, duplicate, corrupt] = counts(&figures);
        assert!(lost >= 5 && (duplicate, corrupt) == (0, 0), "{figures}");
        assert!(error.contains(" lost"), "{error}");
        assert_eq!(
            figures["messages"].as_u64().unwrap() + figures["messages_unanswered"].as_u64().unwrap(),
            50
        );
        assert_eq!(
            figures["latency"]["count"], 50,
            "those that are lost count with the time they were waited for"
        );
    }

    #[test]
    fn datagrams_that_come_twice_are_counted_and_no_failure() {
        let twice = fake_server(|_, datagram| vec![datagram.clone(), datagram]);
        let ended = bench(&twice, &["--connections", "1", "-n", "50", "--timeout", "30s"]);
        assert!(ended.status.success(), "{ended:?}");
        let [lost, late, duplicate, corrupt] = counts(&figures(&ended));
        // The last one may come when nobody waits any more.
        assert!((49..=50).contains(&duplicate) && (lost, late, corrupt) == (0, 0, 0), "{ended:?}");
    }

    #[test]
    fn datagrams_that_are_changed_are_corrupt() {
        let changed = fake_server(|_, mut datagram| {
            *datagram.last_mut().unwrap() ^= 1;
            vec![datagram]
        });
        let ended = bench(&changed, &["--connections", "1", "-n", "3", "--timeout", "50ms"]);
        assert!(ended.error(1).contains("3 corrupt, 3 lost"), "{ended:?}");
    }

    #[test]
    fn datagrams_that_come_after_the_timeout_are_late() {
        let mut kept = Vec::new();
        let slow = fake_server(move |_, datagram| {
            kept.push(datagram);
            // The first is sent back when the load generator has given it up and sent the second.
            if kept.len() == 2 { std::mem::take(&mut kept) } else { Vec::new() }
        });
        let ended = bench(&slow, &["--connections", "1", "-n", "6", "--timeout", "200ms"]);
        let [lost, late, duplicate, corrupt] = counts(&figures(&ended));
        assert!(lost >= 3 && late >= 3 && (duplicate, corrupt) == (0, 0), "{ended:?}");
    }

    #[test]
    fn nobody_there_is_an_error() {
        let closed = client("127.0.0.1:0").local_addr().unwrap();
        let begin = Instant::now();
        let ended = bench(&format!("udp:{closed}"), &["--duration", "10s", "--timeout", "100ms"]);
        assert!(ended.error(1).starts_with(&format!("cannot reach udp:{closed}: ")), "{ended:?}");
        assert!(begin.elapsed() < Duration::from_secs(9), "it does not wait for the end of the load");
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_a_line() {
        for (arguments, what) in [
            (&["--churn"][..], "--churn makes connections"),
            (&["--connect-rate", "5"], "--connect-rate is about connections"),
            (&["--size", "7"], "--size must be 8 to 65507 bytes"),
            (&["--size", "64KiB"], "--size must be 8 to 65507 bytes"),
        ] {
            assert!(bench("udp:127.0.0.1:1", arguments).error(2).starts_with(what), "{arguments:?}");
        }
    }

    #[test]
    fn the_table_and_the_page_say_what_became_of_the_datagrams() {
        let server = serve(&["udp:127.0.0.1:0"]);
        let address = format!("udp:{}", udp_address(&server, 0));
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page.html");
        let arguments =
            ["bench", &address, "-n", "50", "--timeout", "30s", "--report", page.to_str().unwrap()];
        let ended = Ended::run(&mut echoloop(&arguments));
        let all_well = "0 lost, 0 late, 0 duplicate, 0 corrupt";
        assert!(ended.stdout.contains(&format!("datagrams     {all_well}\n")), "{ended:?}");
        assert!(std::fs::read_to_string(&page).unwrap().contains(all_well));
    }
}
