//! A server that is told to stop ends every client the documented way, and itself in time.
#![cfg(all(feature = "cli", unix))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::{ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use util::{
    DEADLINE, Program, connect, drains_when_told_to_stop, eventually, finish, pattern, ping, read_to_end,
    splice_options, tcp_memory::unless_short_of_tcp_memory, until_nothing_moves, wait_for_events,
};

const CLIENTS: usize = if cfg!(mio_unsupported_force_poll_poll) { 200 } else { 1000 };

/// Clients that never read.
const STUCK: usize = 10;

/// Clients with a full queue at the server that read after the signal.
const LATE: usize = 5;

/// The default of `--high-water`, and so the least that a stuck client has sent.
const HIGH_WATER_BYTES: usize = 64 << 10;

const DRAIN: Duration = Duration::from_secs(6);

#[test]
fn of_clients_mid_transfer_only_those_that_never_read_are_cut_off() {
    unless_short_of_tcp_memory(cuts_off_only_those_that_never_read);
}

fn cuts_off_only_those_that_never_read() {
    let (mut server, address, mut stderr) = start(&["--drain-timeout", &format!("{}s", DRAIN.as_secs())]);
    let mut clients = Clients::stuck_and_late(address, STUCK, LATE);
    clients.add_busy(address, CLIENTS - STUCK - LATE);
    let before_signal = Instant::now();
    server.signal("TERM");
    let begin = Instant::now();
    clients.read_to_the_end();
    println!("all but the stuck have ended after {:?}", begin.elapsed());
    assert!(begin.elapsed() < DRAIN, "those that read did not have to wait for those that do not");

    // The promise is 1 s more than the timeout; a machine that is busy gets 15, half of what a client may linger.
    assert_eq!(server.wait(DRAIN + Duration::from_secs(15)).code(), Some(1));
    let passed = before_signal.elapsed();
    println!("the signal to the end: {passed:?}, with a drain timeout of {DRAIN:?}");
    assert!(passed >= DRAIN, "{passed:?}");
    let summary = server.line();
    assert!(summary.starts_with(&format!("{} connections, ", 1 + CLIENTS)), "{summary}");
    let (_, ended) = summary.split_once("; ").unwrap();
    let ended: HashMap<_, usize> = ended.split(", ").map(reason_and_count).collect();
    assert_eq!((ended["peer"], ended["drained"]), (1, CLIENTS - STUCK), "{summary}");
    // The kernel may still find room for the last bytes for a client that reads none of them. Then the server only
    // waits for that client's end, and has nothing to cut off.
    let (cut_off, lingering) = (ended["drain timeout"], ended.get("linger timeout").copied().unwrap_or(0));
    assert_eq!(cut_off + lingering, STUCK, "{summary}");
    assert!(!summary.contains(" 0 bytes undelivered"), "{summary}");
    let mut errors = String::new();
    stderr.read_to_string(&mut errors).unwrap();
    assert!(
        errors.ends_with(&format!("error: connections cut off by the drain timeout: {cut_off}\n")),
        "{errors}"
    );
}

#[test]
fn with_nobody_stuck_every_client_mid_transfer_is_ended_in_full() {
    unless_short_of_tcp_memory(ends_every_client_in_full);
}

fn ends_every_client_in_full() {
    let (mut server, address, _stderr) = start(&[]);
    let mut clients = Clients::stuck_and_late(address, 0, LATE);
    clients.add_busy(address, 200 - LATE);
    server.signal("TERM");
    clients.read_to_the_end();
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    let summary = server.line();
    assert!(summary.starts_with("201 connections, "), "{summary}");
    assert!(summary.ends_with(" 0 bytes undelivered; peer 1, drained 200"), "{summary}");
}

#[test]
fn an_interrupt_drains_likewise() {
    let (server, address, _stderr) = start(&[]);
    drains_when_told_to_stop(server, address, |server| server.signal("INT"));
}

#[test]
fn clients_in_the_backlog_are_served() {
    let (mut server, address, _stderr) = start(&[]);
    server.signal("STOP");
    let clients: Vec<_> = (0..300).map(|n| connect_and_send(address, n)).collect();
    server.signal("TERM");
    server.signal("CONT");
    assert_served_and_ended(&clients);
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    let summary = server.line();
    assert!(summary.starts_with("300 connections, "), "{summary}");
}

#[test]
fn clients_in_the_backlog_for_want_of_room_are_served() {
    let (mut server, address, _stderr) = start(&["--max-connections", "8"]);
    let open: Vec<_> = (0..8).map(|_| connect(address)).collect();
    open.iter().for_each(|client| ping(client, b"open"));
    let waiting: Vec<_> = (0..24).map(|n| connect_and_send(address, n)).collect();
    server.signal("TERM");
    for client in open {
        assert!(read_to_end(&client).is_empty());
    }
    assert_served_and_ended(&waiting);
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    let summary = server.line();
    assert!(summary.starts_with("32 connections, "), "{summary}");
}

#[test]
fn clients_for_whom_the_drain_had_no_time_are_told_and_counted() {
    let (mut server, address, mut stderr) = start(&["--max-connections", "1", "--drain-timeout", "3s"]);
    let lingering = connect(address);
    ping(&lingering, b"open");
    let waiting: Vec<_> = (0..3).map(|n| connect_and_send(address, n)).collect();
    server.signal("TERM");
    assert!(read_to_end(&lingering).is_empty());
    for (mut client, _) in waiting {
        let error = client.read_to_end(&mut Vec::new()).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(server.wait(DEADLINE).code(), Some(1));
    let summary = server.line();
    assert!(summary.starts_with("4 connections, ") && summary.ends_with("drain timeout 3"), "{summary}");
    let mut errors = String::new();
    stderr.read_to_string(&mut errors).unwrap();
    assert!(errors.ends_with("error: connections cut off by the drain timeout: 3\n"), "{errors}");
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    for (first, second, status) in [("TERM", "INT", 130), ("INT", "TERM", 143), ("TERM", "TERM", 143)] {
        // As the client never ends, the drain would linger for 30 s.
        let (mut server, address, mut stderr) = start(&[]);
        let _stuck = Clients::stuck_and_late(address, 1, 0);
        server.signal(first);
        let mut line = String::new();
        while !line.contains("drain begins") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended at the first signal");
        }
        // Within a second it may be the first one, delivered again.
        let mut ended = None;
        eventually("it has ended", || {
            server.signal(second);
            ended = server.child.try_wait().unwrap();
            ended.is_some()
        });
        // Sooner than the drain, which would have ended it with another status.
        assert_eq!(ended.unwrap().code(), Some(status), "{first}, {second}");
    }
}

#[test]
fn once_serves_one_client_and_ends() {
    let (mut server, address, _stderr) = start(&["--once"]);
    let client = connect(address);
    ping(&client, b"the only one");
    eventually("nobody listens any more", || TcpStream::connect(address).is_err());
    ping(&client, b"still served");
    assert!(finish(&client).is_empty());
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    let summary = "1 connections, 24 bytes received, 24 bytes sent, 0 bytes undelivered; peer 1";
    assert_eq!(server.line(), summary);
}

/// The name of a reason is the same in the log and in the summary.
#[test]
fn the_log_says_who_ended_how_after_which_traffic() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    command.args(["serve", "127.0.0.1:0"]).args(splice_options());
    command.env("RUST_LOG", "debug").stderr(Stdio::piped());
    let mut server = Program::spawn(command);
    let client = connect(server.listening());
    let me = client.local_addr().unwrap();
    ping(&client, b"hello");
    assert_eq!(finish(&client), b"");
    server.signal("TERM");
    assert_eq!(server.line(), "1 connections, 5 bytes received, 5 bytes sent, 0 bytes undelivered; peer 1");
    server.wait(DEADLINE);
    let mut log = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let line = log.lines().find(|line| line.contains("closed: ")).expect("the end is logged");
    assert!(line.contains(&format!("closed: peer: {me}, 5 bytes received, 5 bytes sent in ")), "{line}");
    assert!(line.ends_with("s, 0 bytes undelivered"), "{line}");
}

/// Of `REASON N`, in the summary of a server.
fn reason_and_count(text: &str) -> (&str, usize) {
    let (reason, count) = text.rsplit_once(' ').unwrap();
    (reason, count.parse().unwrap())
}

/// A server with its address and its stderr.
fn start(options: &[&str]) -> (Program, SocketAddr, BufReader<ChildStderr>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    command.args(["serve", "127.0.0.1:0"]).args(options).args(splice_options());
    command.env("RUST_LOG", "info").stderr(Stdio::piped());
    let mut server = Program::spawn(command);
    let address = server.listening();
    let stderr = BufReader::new(server.child.stderr.take().unwrap());
    (server, address, stderr)
}

fn connect_and_send(address: SocketAddr, seed: u64) -> (TcpStream, Vec<u8>) {
    let mut client = connect(address);
    let message = pattern(seed, 5000);
    client.write_all(&message).unwrap();
    (client, message)
}

#[track_caller]
fn assert_served_and_ended(clients: &[(TcpStream, Vec<u8>)]) {
    for (n, (client, message)) in clients.iter().enumerate() {
        let received = read_to_end(client);
        assert!(received == *message, "client {n} got {} bytes", received.len());
        // Others may wait for its place.
        client.shutdown(Shutdown::Write).unwrap();
    }
}

/// What a client does until the signal. After it, all but the stuck read to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Sends and reads on and on.
    Busy,
    /// Sends as much as goes, and reads nothing.
    Late,
    /// The same, and never reads.
    Stuck,
}

struct Client {
    kind: Kind,
    stream: mio::net::TcpStream,
    sent: usize,
    received: usize,
    ended: bool,
}

/// Clients in the midst of a transfer, driven by this thread. All send the same endless stream.
struct Clients {
    poll: Poll,
    clients: Vec<Client>,
    /// Two periods of the stream.
    stream: Vec<u8>,
}

/// A prime, so that no buffer's size is a multiple of it.
const PERIOD: usize = 65_521;

/// What the system of a client that does not read holds for it, each way.
const LATE_BUFFER: usize = 64 << 10;
const STUCK_BUFFER: usize = 4 << 10;

/// What such a client receives at once, as over Ethernet. The server's system lets a connection have memory for so many
/// segments, not bytes: with those of the loopback interface it may be tens of megabytes for each.
const SEGMENT: u32 = 1400;

/// What a busy client may have in flight.
const IN_FLIGHT_MAX: usize = 32 << 10;

impl Clients {
    /// Clients that do not read, once none of them can send any more. Nobody else is connected then: the server has
    /// all the time to serve them, and holds what it cannot send to them.
    fn stuck_and_late(address: SocketAddr, stuck: usize, late: usize) -> Self {
        let stream = pattern(1, PERIOD).repeat(2);
        let mut clients = Self { poll: Poll::new().unwrap(), clients: Vec::new(), stream };
        (0..stuck).for_each(|_| clients.connect(address, Kind::Stuck));
        (0..late).for_each(|_| clients.connect(address, Kind::Late));
        let pinger = connect(address);
        let mut events = Events::with_capacity(256);
        until_nothing_moves(|| {
            ping(&pinger, b"?");
            clients.transfer(&mut events, Duration::ZERO) > 0
        });
        assert!(finish(&pinger).is_empty());
        let sent: Vec<_> = clients.clients.iter().map(|client| client.sent >> 10).collect();
        println!("those who do not read have sent {sent:?} KiB");
        assert!(clients.clients.iter().all(|client| client.sent > HIGH_WATER_BYTES), "{sent:?} KiB");
        clients
    }

    /// Adds clients that send and read on and on, and returns when each is in the midst of it.
    fn add_busy(&mut self, address: SocketAddr, count: usize) {
        (0..count).for_each(|_| self.connect(address, Kind::Busy));
        let mut events = Events::with_capacity(256);
        eventually("all are in the midst of their transfers", || {
            self.transfer(&mut events, Duration::from_millis(100));
            let mut busy = self.clients.iter().filter(|client| client.kind == Kind::Busy);
            busy.all(|client| client.received >= 2 * IN_FLIGHT_MAX)
        });
    }

    fn connect(&mut self, address: SocketAddr, kind: Kind) {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        if kind != Kind::Busy {
            let buffer = if kind == Kind::Late { LATE_BUFFER } else { STUCK_BUFFER };
            socket.set_recv_buffer_size(buffer).unwrap();
            socket.set_send_buffer_size(buffer).unwrap();
            socket.set_tcp_mss(SEGMENT).unwrap();
        }
        socket.connect(&address.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut stream = mio::net::TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(self.clients.len()), interest).unwrap();
        self.clients.push(Client { kind, stream, sent: 0, received: 0, ended: false });
    }

    /// Waits for events, and goes on with what they are for. Returns how many bytes were sent.
    fn transfer(&mut self, events: &mut Events, timeout: Duration) -> usize {
        wait_for_events(&mut self.poll, events, timeout);
        let mut sent = 0;
        for event in events.iter() {
            let Token(n) = event.token();
            let client = &mut self.clients[n];
            let sent_before = client.sent;
            client.go_on(&self.stream);
            sent += client.sent - sent_before;
        }
        sent
    }

    /// All but the stuck must get all that they sent, and then the end.
    fn read_to_the_end(&mut self) {
        let mut events = Events::with_capacity(256);
        let begin = Instant::now();
        // The late ones have had their events.
        self.clients.iter_mut().for_each(|client| client.read_all(&self.stream));
        while self.clients.iter().any(|client| client.kind != Kind::Stuck && !client.ended) {
            assert!(begin.elapsed() < DEADLINE, "not all have ended");
            wait_for_events(&mut self.poll, &mut events, Duration::from_millis(100));
            for event in &events {
                let Token(n) = event.token();
                self.clients[n].read_all(&self.stream);
            }
        }
    }
}

impl Client {
    /// Sends, and reads what comes back, until there is nothing more to do.
    fn go_on(&mut self, stream: &[u8]) {
        loop {
            if self.kind == Kind::Busy {
                self.read(stream, true);
            }
            let room = match self.kind {
                Kind::Busy => IN_FLIGHT_MAX - (self.sent - self.received),
                Kind::Late | Kind::Stuck => PERIOD,
            };
            let at = self.sent % PERIOD;
            let wrote = match self.stream.write(&stream[at..at + room]) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => panic!("{:?} after {} bytes: {error}", self.kind, self.sent),
            };
            self.sent += wrote;
            // Once around, then the others have their turn: an event comes when the echo comes.
            if self.kind == Kind::Busy || wrote == 0 {
                return;
            }
        }
    }

    fn read_all(&mut self, stream: &[u8]) {
        if self.kind != Kind::Stuck && !self.ended {
            self.read(stream, false);
        }
    }

    /// Reads what there is, and checks it.
    fn read(&mut self, stream: &[u8], is_open: bool) {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    assert!(!is_open, "ended before the signal");
                    let (kind, sent, received) = (self.kind, self.sent, self.received);
                    assert_eq!(received, sent, "{kind:?}: an end after {received} of {sent} bytes");
                    self.ended = true;
                    // The server waits for it.
                    self.stream.shutdown(Shutdown::Write).unwrap();
                    return;
                }
                Ok(n) => {
                    let at = self.received % PERIOD;
                    assert!(bytes[..n] == stream[at..at + n], "other bytes came than were sent");
                    self.received += n;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    panic!("{:?}: {} of {} bytes, then {error}", self.kind, self.received, self.sent)
                }
            }
        }
    }
}
