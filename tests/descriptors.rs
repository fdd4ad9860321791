//! Running out of descriptors costs nobody anything but time.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use util::{Program, connect, eventually, finish, holds_within, pattern, ping, procfs::cpu_time, skip};

/// `ulimit -n` of the server.
const DESCRIPTORS: u32 = 64;

const CLIENTS: usize = 150;

/// What must be served at once in spite of the limit.
const AT_ONCE_MIN: usize = 20;

/// How long the server is watched while it can accept nobody, and how much it may do meanwhile.
const WATCH: Duration = Duration::from_secs(3);
const CPU_TIME_MAX: Duration = Duration::from_millis(150);
const ATTEMPTS_MAX: usize = 60;

#[test]
fn at_the_default_limit_of_connections_the_others_wait_their_turn() {
    all_are_served(&["serve", "127.0.0.1:0"]);
}

#[test]
fn without_descriptors_the_others_wait_their_turn() {
    all_are_served(&["serve", "127.0.0.1:0", "--max-connections", "1000"]);
}

fn all_are_served(args: &[&str]) {
    let server = Program::start_with_descriptors(DESCRIPTORS, args);
    let address = server.listening();
    let mut clients: Vec<_> = (0..CLIENTS).map(|n| Client::connect(address, n)).collect();

    eventually("many are served at once", || count_served(&mut clients) >= AT_ONCE_MIN);
    assert_uses_little_cpu(&server);
    assert_accepts_seldom(&server);
    let at_once = count_served(&mut clients);
    assert!(at_once <= DESCRIPTORS as usize, "{at_once} of {CLIENTS} are served at once");
    clients.iter().filter(|client| client.is_served()).for_each(Client::ping);

    let mut longest = Duration::ZERO;
    while !clients.is_empty() {
        let leaving = leave(&mut clients, AT_ONCE_MIN);
        let expected = leaving.min(clients.iter().filter(|client| !client.is_served()).count());
        let before = clients.iter().filter(|client| client.is_served()).count();
        let freed = Instant::now();
        // The promise is 1 s; a machine that is busy with other tests gets more.
        let served =
            holds_within(Duration::from_secs(10), || count_served(&mut clients) >= before + expected);
        assert!(served, "{leaving} left, but after 10 s only {} got their places", {
            count_served(&mut clients) - before
        });
        longest = longest.max(freed.elapsed());
    }
    println!("{args:?}: {at_once} at once; after places came free the last waited {longest:?}");
}

/// Sends at once, whether or not it is accepted yet.
struct Client {
    stream: TcpStream,
    message: Vec<u8>,
    echo: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr, n: usize) -> Self {
        let mut stream = connect(address);
        let message = pattern(n as u64, 100);
        stream.write_all(&message).unwrap();
        Self { stream, message, echo: Vec::new() }
    }

    fn is_served(&self) -> bool {
        self.echo.len() == self.message.len()
    }

    /// Reads what there is.
    fn look(&mut self) {
        if self.is_served() {
            return;
        }
        self.stream.set_nonblocking(true).unwrap();
        let mut bytes = [0; 128];
        match self.stream.read(&mut bytes) {
            Ok(0) => panic!("ended without an echo"),
            Ok(n) => self.echo.extend_from_slice(&bytes[..n]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        self.stream.set_nonblocking(false).unwrap();
        assert!(self.message.starts_with(&self.echo), "the echo differs");
    }

    fn ping(&self) {
        ping(&self.stream, b"still here");
    }
}

fn count_served(clients: &mut [Client]) -> usize {
    clients.iter_mut().for_each(Client::look);
    clients.iter().filter(|client| client.is_served()).count()
}

/// So many that are served end, at most.
fn leave(clients: &mut Vec<Client>, count: usize) -> usize {
    let (mut leaving, mut staying) = (Vec::new(), Vec::new());
    for client in clients.drain(..) {
        let list = if client.is_served() && leaving.len() < count { &mut leaving } else { &mut staying };
        list.push(client);
    }
    *clients = staying;
    leaving.iter().for_each(Client::ping);
    leaving.iter().for_each(|client| assert!(finish(&client.stream).is_empty()));
    leaving.len()
}

#[track_caller]
fn assert_uses_little_cpu(server: &Program) {
    let pid = server.child.id();
    let before = cpu_time(pid);
    let used = || cpu_time(pid) - before;
    let is_busy = holds_within(WATCH, || used() > CPU_TIME_MAX);
    assert!(!is_busy, "{:?} spent on doing nothing", used());
}

#[track_caller]
fn assert_accepts_seldom(server: &Program) {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=accept,accept4", "-o"]).arg(trace.path());
    command.args(["-p", &server.child.id().to_string()]).stderr(Stdio::piped());
    let Ok(mut strace) = command.spawn() else {
        return skip("counting attempts to accept: there is no strace");
    };
    // It writes `strace: Process PID attached`, or why it cannot, and then no more until it is told to end.
    let mut first = String::new();
    let mut stderr = BufReader::new(strace.stderr.take().unwrap());
    stderr.read_line(&mut first).unwrap();
    if !first.contains("attached") {
        strace.wait().unwrap();
        return skip(&format!("counting attempts to accept: {first}"));
    }
    let attempts = || fs::read_to_string(trace.path()).unwrap().matches("accept").count();
    let is_busy = holds_within(WATCH, || attempts() > ATTEMPTS_MAX);
    let status = Command::new("kill").args(["-s", "INT", &strace.id().to_string()]).status().unwrap();
    assert!(status.success());
    strace.wait().unwrap();
    println!("{} attempts to accept", attempts());
    assert!(!is_busy, "{} attempts to accept", attempts());
}
