//! The disconnect as the kernel sees it: the last send, shutdown, recv of 0, close.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test")]

mod util;

use std::{collections::HashMap, fs, process::Command, thread};

use util::{DEADLINE, Program, connect, eventually, finish, pattern, ping, read_to_end, send_and_read, skip};

/// More than both socket buffers and the high-water mark hold.
const LARGE: usize = 6 << 20;

#[test]
fn a_client_that_ends_first_is_answered_with_shutdown_then_close() {
    let Some(server) = Traced::start() else { return };
    let client = connect(server.program.listening());
    ping(&client, b"ping");
    assert!(finish(&client).is_empty());
    server.program.signal("TERM");
    assert_eq!(server.end(), [Ended { bytes: 4, first: First::Peer }]);
}

#[test]
fn a_client_that_the_server_ends_first_is_received_from_to_the_end() {
    let Some(server) = Traced::start() else { return };
    let client = connect(server.program.listening());
    ping(&client, b"ping");
    server.program.signal("TERM");
    assert!(read_to_end(&client).is_empty());
    drop(client);
    assert_eq!(server.end(), [Ended { bytes: 4, first: First::Server }]);
}

#[test]
fn of_many_clients_with_large_replies_each_gets_the_whole_disconnect() {
    let Some(server) = Traced::start() else { return };
    let address = server.program.listening();
    // Twice, so that descriptors are used again.
    for round in 0..2 {
        let clients = (0..4).map(|n| {
            let client = connect(address);
            thread::spawn(move || send_and_read(&client, &pattern(10 * round + n, LARGE)))
        });
        for client in clients.collect::<Vec<_>>() {
            client.join().unwrap();
        }
    }
    let idle: Vec<_> = (0..4).map(|_| connect(address)).collect();
    idle.iter().for_each(|client| ping(client, b"idle"));
    server.program.signal("TERM");
    assert!(idle.iter().all(|client| read_to_end(client).is_empty()));
    drop(idle);

    let mut expected = vec![Ended { bytes: LARGE, first: First::Peer }; 8];
    expected.extend([Ended { bytes: 4, first: First::Server }; 4]);
    let mut ended = server.end();
    ended.sort_by_key(|ended| ended.first != First::Peer);
    assert_eq!(ended, expected);
}

#[test]
fn a_connection_costs_no_more_calls_than_it_must() {
    if cfg!(mio_unsupported_force_poll_poll) {
        skip("these are the calls on epoll");
        return;
    }
    let Some(server) = Traced::start() else { return };
    let client = connect(server.program.listening());
    for _ in 0..3 {
        ping(&client, b"ping");
    }
    assert!(finish(&client).is_empty());
    server.program.signal("TERM");
    let trace = server.end_of_trace();
    let calls = whole_calls(&trace);
    let accepted = calls.iter().filter_map(|call| parts(call)).find(|(name, ..)| *name == "accept4");
    let (.., socket) = accepted.expect("the client was accepted");
    let names: Vec<&str> = calls.iter().filter_map(|call| name_if_on(socket, call)).collect();
    let echo = ["recvfrom", "sendto"];
    let expected = [&["epoll_ctl"][..], &echo, &echo, &echo, &["recvfrom", "shutdown", "close"]].concat();
    assert_eq!(names, expected);
}

#[test]
fn a_wait_sets_no_timer_while_the_earliest_deadline_stays() {
    if cfg!(mio_unsupported_force_poll_poll) {
        skip("there each wait has a timeout");
        return;
    }
    let Some(server) = Traced::start() else { return };
    let client = connect(server.program.listening());
    for _ in 0..100 {
        ping(&client, b"ping");
    }
    assert!(finish(&client).is_empty());
    server.program.signal("TERM");
    let trace = server.end_of_trace();
    let calls = whole_calls(&trace);
    let set = calls.iter().filter(|call| call.starts_with("timerfd_settime(")).count();
    assert!((1..=5).contains(&set), "{set} times, for 100 messages and a drain");
    let timeouts: Vec<&String> = calls
        .iter()
        .filter(|call| {
            call.starts_with("epoll_wait(") && !["-1) ", " 0) "].iter().any(|end| call.contains(end))
        })
        .collect();
    assert!(timeouts.is_empty(), "{timeouts:?}");
}

/// Whoever is given to a socket is served: none listens that is closed again, and that another process may still have.
#[test]
fn no_socket_listens_but_those_of_the_workers() {
    let Some(server) = Traced::start_with(&["--workers", "4"]) else { return };
    server.program.listening();
    server.program.signal("TERM");
    let trace = server.end_of_trace();
    let listening = whole_calls(&trace).iter().filter(|call| call.starts_with("listen(")).count();
    assert_eq!(listening, 4);
}

/// The name of a call on this socket, also of one that failed.
fn name_if_on(socket: usize, call: &str) -> Option<&str> {
    let (name, arguments) = call.split_once('(')?;
    let place = if name == "epoll_ctl" { 2 } else { 0 };
    let argument = arguments.split([',', ')']).nth(place)?.trim();
    (argument == socket.to_string()).then_some(name)
}

#[test]
fn what_is_sent_in_bulk_is_moved_inside_the_kernel_unless_that_is_turned_off() {
    for (options, is_moved) in [(&[][..], true), (&["--no-splice"], false)] {
        let Some(server) = Traced::start_with(options) else { return };
        let client = connect(server.program.listening());
        send_and_read(&client, &pattern(1, LARGE));
        server.program.signal("TERM");
        let trace = server.end_of_trace();
        let splices = whole_calls(&trace).iter().filter(|call| call.starts_with("splice(")).count();
        assert_eq!(splices > 0, is_moved, "{options:?}: {splices}");
        assert_eq!(endings(&trace), [Ended { bytes: LARGE, first: First::Peer }]);
    }
}

// ---- tracing ----

/// A server whose network system calls are written down. It is dropped with the program.
struct Traced {
    program: Program,
    directory: tempfile::TempDir,
}

impl Traced {
    /// None, with the reason printed, where strace is missing or not permitted.
    fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    fn start_with(options: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let probe = Command::new("strace").args(["-D", "-o", "/dev/null", "true"]).output();
        match probe {
            Err(error) => skip(&format!("no strace: {error}")),
            Ok(output) if !output.status.success() || !output.stderr.is_empty() => {
                skip(&format!("strace cannot trace: {}", String::from_utf8_lossy(&output.stderr)));
            }
            Ok(_) => {
                let mut command = Command::new("strace");
                // With -D the server is this process's child, and strace watches from aside.
                command.args(["-D", "-f", "-s", "0", "-e"]);
                command.arg("trace=network,close,read,readv,write,writev,splice,epoll_ctl,epoll_wait,timerfd_settime,exit_group");
                command.arg("-o").arg(directory.path().join("trace"));
                command.args([env!("CARGO_BIN_EXE_echoloop"), "serve", "127.0.0.1:0"]).args(options);
                return Some(Self { program: Program::spawn(command), directory });
            }
        }
        None
    }

    /// Waits for the server's end, for which it was signalled, and tells how each client's connection ended, in the order of their ends.
    fn end(self) -> Vec<Ended> {
        endings(&self.end_of_trace())
    }

    /// Waits for the server's end and gives the whole trace.
    fn end_of_trace(mut self) -> String {
        assert_eq!(self.program.wait(DEADLINE).code(), Some(0));
        let pid = self.program.child.id().to_string();
        let is_end = |line: &str| line.starts_with(&pid) && line.contains("+++ exited with 0 +++");
        eventually("the trace is complete", || self.trace().lines().any(is_end));
        self.trace()
    }

    fn trace(&self) -> String {
        fs::read_to_string(self.directory.path().join("trace")).unwrap_or_default()
    }
}

fn endings(trace: &str) -> Vec<Ended> {
    let connections = connections(trace);
    let each = connections.iter();
    each.map(|calls| ending(calls).unwrap_or_else(|why| panic!("{why}: {calls:?}"))).collect()
}

/// How a connection ended that was ended as documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    bytes: usize,
    first: First,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Peer,
    Server,
}

/// A system call on a client's socket. Calls that failed, such as with EAGAIN, are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Receive(usize),
    Send(usize),
    ShutdownWrite,
    Linger,
    Close,
}

/// Checks the order of the calls on one socket.
fn ending(calls: &[Call]) -> Result<Ended, &'static str> {
    let sum = |count: fn(&Call) -> usize| calls.iter().map(count).sum::<usize>();
    let sent = sum(|call| if let Call::Send(n) = call { *n } else { 0 });
    let received = sum(|call| if let Call::Receive(n) = call { *n } else { 0 });
    let position = |wanted: Call| calls.iter().position(|call| *call == wanted);
    let shutdown = position(Call::ShutdownWrite).ok_or("no shutdown")?;
    let end = position(Call::Receive(0)).ok_or("not received to the end")?;
    if position(Call::Close) != Some(calls.len() - 1) || end == calls.len() - 1 {
        return Err("close is not the last");
    }
    if calls[shutdown + 1..].iter().any(|call| matches!(call, Call::Send(_) | Call::ShutdownWrite)) {
        return Err("a send or another shutdown after the shutdown");
    }
    if sent != received {
        return Err("not everything was sent");
    }
    if position(Call::Linger).is_some() {
        return Err("it was reset");
    }
    Ok(Ended { bytes: sent, first: if end < shutdown { First::Peer } else { First::Server } })
}

/// The calls on each accepted socket from its accept to its close, in the order of the closes.
fn connections(trace: &str) -> Vec<Vec<Call>> {
    let mut open: HashMap<usize, Vec<Call>> = HashMap::new();
    let mut closed = Vec::new();
    for call in whole_calls(trace) {
        let Some((name, arguments, result)) = parts(&call) else { continue };
        let arguments: Vec<&str> = arguments.split(", ").collect();
        let fd = |n: usize| arguments.get(n).and_then(|argument| argument.parse::<usize>().ok());
        let mut push = |fd: Option<usize>, call: Call| {
            if let Some(calls) = fd.and_then(|fd| open.get_mut(&fd)) {
                calls.push(call);
            }
        };
        match name {
            "accept" | "accept4" => {
                assert!(open.insert(result, Vec::new()).is_none(), "{call}");
            }
            "recvfrom" | "recvmsg" | "read" | "readv" => push(fd(0), Call::Receive(result)),
            "sendto" | "sendmsg" | "write" | "writev" => push(fd(0), Call::Send(result)),
            "splice" => {
                push(fd(0), Call::Receive(result));
                push(fd(2), Call::Send(result));
            }
            "shutdown" if arguments[1] == "SHUT_WR" => push(fd(0), Call::ShutdownWrite),
            "setsockopt" if arguments.contains(&"SO_LINGER") => push(fd(0), Call::Linger),
            "close" => {
                push(fd(0), Call::Close);
                closed.extend(fd(0).and_then(|fd| open.remove(&fd)));
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    closed
}

/// `name`, `arguments` and the result of a call that succeeded.
fn parts(call: &str) -> Option<(&str, &str, usize)> {
    let (name, rest) = call.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    Some((name, arguments, result.split_whitespace().next()?.parse().ok()?))
}

/// One call a line: `PID call(… <unfinished ...>` is joined with its `PID <... call resumed>…`.
fn whole_calls(trace: &str) -> Vec<String> {
    let mut unfinished: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((pid, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        if let Some(begin) = text.strip_suffix("<unfinished ...>") {
            unfinished.insert(pid, begin.trim_end());
        } else if text.starts_with("<... ") {
            let (_, rest) = text.split_once("resumed>").expect("strace says so");
            let begin = unfinished.remove(pid).expect("a call that was begun");
            let separator = if begin.ends_with(',') { " " } else { "" };
            calls.push(format!("{begin}{separator}{}", rest.trim_start()));
        } else {
            calls.push(text.to_owned());
        }
    }
    calls
}

#[test]
fn interrupted_lines_and_descriptors_that_are_used_again_are_understood() {
    let trace = "\
7  accept4(5, {sa_family=AF_INET, sin_port=htons(1), sin_addr=inet_addr(\"127.0.0.1\")}, [16], SOCK_CLOEXEC) = 9
7  recvfrom(9, \"\"..., 65536, 0, NULL, NULL) = 3
8  recvfrom(4,  <unfinished ...>
7  sendto(9, \"\"..., 3, MSG_NOSIGNAL, NULL, 0 <unfinished ...>
8  <... recvfrom resumed>\"\"..., 1, 0, NULL, NULL) = 1
7  <... sendto resumed>)      = 3
7  recvfrom(9, \"\", 65536, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
7  recvfrom(9,  <unfinished ...>
7  <... recvfrom resumed>\"\", 65536, 0, NULL, NULL) = 0
7  shutdown(9, SHUT_WR) = 0
7  close(9) = 0
7  accept4(5, NULL, NULL, SOCK_CLOEXEC) = 9
7  close(9) = 0
";
    let connections = connections(trace);
    let first = [Call::Receive(3), Call::Send(3), Call::Receive(0), Call::ShutdownWrite, Call::Close];
    assert_eq!(connections, [&first[..], &[Call::Close]]);
    assert_eq!(ending(&connections[0]), Ok(Ended { bytes: 3, first: First::Peer }));
    assert!(ending(&connections[1]).is_err());
}

#[test]
fn every_other_order_is_an_error() {
    use Call::{Close, Linger, Receive, Send, ShutdownWrite};
    for calls in [
        &[Receive(1), Send(1), ShutdownWrite, Close][..],
        &[Receive(1), Send(1), Receive(0), Close],
        &[Receive(1), ShutdownWrite, Send(1), Receive(0), Close],
        &[Receive(2), Send(1), Receive(0), ShutdownWrite, Close],
        &[Receive(1), Send(1), ShutdownWrite, Close, Receive(0)],
        &[Receive(1), Send(1), ShutdownWrite, Receive(0), Linger, Close],
    ] {
        assert!(ending(calls).is_err(), "{calls:?}");
    }
}
