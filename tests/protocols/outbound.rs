//! Outbound connections through the handle.

use std::{
    collections::HashMap,
    io::ErrorKind,
    sync::mpsc::{Receiver, Sender, channel},
};

use echoloop::{Address, CloseReason, Config, Context, Input, Origin, Protocol};

use crate::{
    ANYWHERE, KIB,
    util::{DEADLINE, Running, finish, pattern, ping},
};

/// The label of a call, the answer that came, and how the connection ended.
type Told = (u64, Vec<u8>, CloseReason);

/// Echo for those who come; for those whom we call, a question, and how it went.
enum Node {
    Answers,
    Asks { label: u64, answer: Vec<u8>, told: Sender<Told> },
}

fn question(label: u64) -> Vec<u8> {
    pattern(label, 300 * KIB)
}

impl Protocol for Node {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if let Self::Asks { label, .. } = self {
            cx.write(&question(*label));
        }
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        match self {
            Self::Answers => {
                cx.forward(input);
            }
            Self::Asks { label, answer, .. } => {
                answer.extend_from_slice(input.take());
                if answer.len() >= question(*label).len() {
                    cx.finish();
                }
            }
        }
    }

    fn on_close(&mut self, reason: &CloseReason, _: &mut Context<'_>) {
        if let Self::Asks { label, answer, told } = self {
            told.send((*label, std::mem::take(answer), *reason)).unwrap();
        }
    }
}

fn start_nodes(config: Config) -> (Running<Node>, Receiver<Told>) {
    let (tell, told) = channel();
    let server = Running::start(config, ANYWHERE, move |peer| {
        Some(match peer.origin {
            Origin::Connect(label) => Node::Asks { label, answer: Vec::new(), told: tell.clone() },
            _ => Node::Answers,
        })
    });
    (server, told)
}

#[test]
fn a_server_can_call_itself_on_the_same_loop() {
    const CALLS: u64 = 10;
    let (server, told) = start_nodes(Config::default());
    for label in 0..CALLS {
        server.handle.connect(server.address().into(), label).unwrap();
    }
    let mut answers: HashMap<u64, Vec<u8>> = HashMap::new();
    for _ in 0..CALLS {
        let (label, answer, reason) = told.recv_timeout(DEADLINE).unwrap();
        assert_eq!(reason, CloseReason::Finished);
        assert!(answers.insert(label, answer).is_none(), "each is told once");
    }
    assert!((0..CALLS).all(|label| answers[&label] == question(label)));
    let stats = server.last_stats();
    assert_eq!((stats.connects, stats.accepted), (CALLS, CALLS), "{stats}");
    assert_eq!(stats.closed(CloseReason::Finished), CALLS, "{stats}");
    assert_eq!(stats.closed(CloseReason::Peer), CALLS, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_undelivered), (2 * CALLS, 0), "{stats}");
}

/// An address where nobody listens, as long as the socket lives.
fn deaf_address() -> (socket2::Socket, Address) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address.into())
}

#[test]
fn a_call_that_is_refused_is_told_to_its_protocol() {
    let (server, told) = start_nodes(Config::default());
    let (_socket, address) = deaf_address();
    server.handle.connect(address, 7).unwrap();
    let expected = CloseReason::ConnectFailed(ErrorKind::ConnectionRefused);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (7, Vec::new(), expected));
    let client = server.connect();
    ping(&client, b"as if nothing had happened");
    assert!(finish(&client).is_empty());
    let stats = server.last_stats();
    assert_eq!((stats.connects, stats.closed(expected), stats.closed_total()), (1, 1, 2), "{stats}");
}

#[cfg(unix)]
#[test]
fn a_call_to_a_path_where_nothing_is_is_told_to_its_protocol() {
    let (server, told) = start_nodes(Config::default());
    let directory = tempfile::tempdir().unwrap();
    server.handle.connect(Address::Unix(directory.path().join("nothing.sock")), 8).unwrap();
    let expected = CloseReason::ConnectFailed(ErrorKind::NotFound);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (8, Vec::new(), expected));
    let stats = server.last_stats();
    assert_eq!((stats.connects, stats.closed(expected)), (1, 1), "{stats}");
}

/// Linux drops the SYN of a client for whom the backlog has no room.
#[cfg(target_os = "linux")]
#[test]
fn a_call_that_is_not_answered_ends_at_the_connect_timeout() {
    let mut config = Config::default();
    config.connect_timeout = Some(crate::ms(300));
    let (server, told) = start_nodes(config);
    let (full, address) = deaf_address();
    full.listen(0).unwrap();
    let address_in = full.local_addr().unwrap();
    let _crowd: Vec<_> = (0..8)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address_in);
            socket
        })
        .collect();
    server.handle.connect(address, 9).unwrap();
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (9, Vec::new(), CloseReason::ConnectTimeout));
    let stats = server.last_stats();
    assert_eq!((stats.connects, stats.closed(CloseReason::ConnectTimeout)), (1, 1), "{stats}");
}

#[test]
fn a_host_name_is_looked_up_and_one_that_is_not_there_fails() {
    let (server, told) = start_nodes(Config::default());
    let echo = Running::echo(Config::default());
    let address = echo.address();
    let host = |name: String| Address::Host { name, port: address.port() };
    // Where `localhost` is ::1 first, nobody listens there, and the other is tried.
    server.handle.connect(host("localhost".to_owned()), 1).unwrap();
    let told_of = || told.recv_timeout(DEADLINE).unwrap();
    let (mut label, mut answer, mut reason) = told_of();
    if reason == CloseReason::ConnectFailed(ErrorKind::ConnectionRefused) {
        (label, answer, reason) = told_of();
    }
    assert_eq!((label, reason), (1, CloseReason::Finished));
    assert!(answer == question(1));
    // Such a name cannot be.
    server.handle.connect(host("x".repeat(64)), 2).unwrap();
    let expected = CloseReason::ConnectFailed(ErrorKind::NotFound);
    assert_eq!(told_of(), (2, Vec::new(), expected));
    let stats = server.last_stats();
    assert_eq!(stats.closed(expected), 1, "{stats}");
}
