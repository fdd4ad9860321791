//! Places, and what a server does where there are few.
#![cfg(all(feature = "cli", unix))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    process::{Command, Stdio},
    time::Duration,
};

use echoloop::Config;
use util::{DEADLINE, Program, Running, connect, echoloop, eventually, finish, ping, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_echoloop");

/// The kernel spreads clients over the workers as it likes; whichever it is, it has the places of all.
#[test]
fn no_client_waits_while_there_are_free_places_whichever_its_worker_is() {
    for round in 0..20 {
        let mut config = Config::default();
        config.workers = 4;
        // A burst may end with the last place.
        config.accept_burst = if round % 2 == 0 { 1 } else { 64 };
        // Nothing but a wake brings them back.
        config.idle_timeout = None;
        config.write_timeout = None;
        config.max_connections = Some(16);
        let server = Running::echo(config);
        let clients: Vec<_> = (0..16).map(|_| server.connect()).collect();
        clients.iter().for_each(|client| ping(client, b"served"));
        // And who waits for a place gets the next one that is free, whoever frees it.
        for client in clients {
            let late = server.connect();
            assert!(finish(&client).is_empty());
            drop(client);
            ping(&late, b"served too");
            assert!(finish(&late).is_empty());
        }
        assert_eq!(server.drain().accepted, 32);
    }
}

#[test]
fn a_full_house_is_logged_when_it_begins_and_when_it_is_over() {
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "127.0.0.1:0", "--max-connections", "1"]).stderr(Stdio::piped());
    command.env_remove("RUST_LOG");
    let mut server = Program::spawn(command);
    let address = server.listening();
    let stderr = BufReader::new(server.child.stderr.take().unwrap());
    let mut lines = stderr.lines().map_while(Result::ok);
    let first = connect(address);
    ping(&first, b"?");
    let second = connect(address);
    let line = lines.next().unwrap();
    assert!(line.contains("WARN") && line.contains("max connections reached"), "{line}");
    assert!(finish(&first).is_empty());
    let line = lines.next().unwrap();
    assert!(line.contains("INFO") && line.contains("below max connections again"), "{line}");
    ping(&second, b"?");
    server.signal("TERM");
    assert!(finish(&second).is_empty());
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

/// `ulimit -v`, in KiB.
#[cfg(target_os = "linux")]
#[test]
fn a_server_starts_where_address_space_is_scarce() {
    let script = format!("ulimit -v 65536; exec {PROGRAM} serve 127.0.0.1:0 --workers 4");
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let mut server = Program::spawn(command);
    let address = server.listening();
    let clients: Vec<_> = (0..100).map(|_| connect(address)).collect();
    clients.iter().for_each(|client| ping(client, b"served"));
    clients.iter().for_each(|client| assert!(finish(client).is_empty()));
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

#[test]
fn connections_to_a_path_whose_backlog_is_full_are_made_when_there_is_room() {
    if cfg!(mio_unsupported_force_poll_poll) {
        return skip("the poll(2) back end cannot watch a socket that is not connected");
    }
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", directory.path().join("echo.sock").display());
    let server = Program::start(&["serve", &address, "--backlog", "1"]);
    server.line();
    let output =
        echoloop(&["bench", &address, "-c", "100", "-n", "1000", "--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["fin"], 100, "{figures}");
    server.signal("TERM");
}

#[test]
fn a_client_does_not_wait_for_a_full_backlog_for_longer_than_it_was_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deaf.sock");
    // One that never accepts: std's backlog is 128 at least, and full in the end.
    let _listener = UnixListener::bind(&path).unwrap();
    let socket = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = socket();
        client.set_nonblocking(true).unwrap();
        match client.connect(&socket2::SockAddr::unix(&path).unwrap()) {
            Ok(()) => waiting.push(client),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return skip(&format!("a full backlog refuses here: {error}")),
        }
    }
    let address = format!("unix:{}", path.display());
    let output = echoloop(&["client", &address, "--connect-timeout", "200ms"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("error: cannot connect to unix:") && error.contains("timed out"), "{error}");
}

/// Where a single port is left for the connecting end, TCP connects a client of that port to itself.
#[cfg(target_os = "linux")]
#[test]
fn nobody_takes_itself_for_the_server() {
    let inside = |command: &str| {
        let script = format!(
            "ip link set lo up && echo '40000 40000' > /proc/sys/net/ipv4/ip_local_port_range && exec {command}"
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", "sh", "-c", &script]);
        unshare.stdin(Stdio::null()).output()
    };
    match inside("true") {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            return skip(&format!("no network namespaces here: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Err(error) => return skip(&format!("unshare: {error}")),
    }
    for command in ["client 127.0.0.1:40000", "bench 127.0.0.1:40000 -c 1 -n 10 --timeout 2s"] {
        let output = inside(&format!("{PROGRAM} {command}")).unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {error}");
        assert!(error.contains("refused"), "{command}: {error}");
    }
}

/// A peer that begins to read again while the server is stopped has done so in time.
#[test]
fn what_was_late_is_the_server_that_was_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.sock");
    let address = format!("unix:{}", path.display());
    let mut server = Program::start(&["serve", &address, "127.0.0.1:0", "--write-timeout", "2s"]);
    server.line();
    let tcp = server.listening();
    let mut clients: Vec<Box<dyn Stream>> =
        vec![Box::new(UnixStream::connect(&path).unwrap()), Box::new(connect(tcp))];
    let block = vec![7; 1 << 16];
    let mut sent = vec![0; clients.len()];
    for (client, sent) in clients.iter_mut().zip(&mut sent) {
        client.block(false);
        let mut idle_looks = 0;
        eventually("the client is stuck", || {
            match client.write(&block) {
                Ok(n) => (*sent, idle_looks) = (*sent + n, 0),
                Err(_) => idle_looks += 1,
            }
            idle_looks > 20
        });
        client.block(true);
    }
    server.signal("STOP");
    let begin = std::time::Instant::now();
    // They take what the kernels have; the rest is with the server.
    for client in &mut clients {
        client.read_exact(&mut vec![0; 1 << 16]).unwrap();
    }
    eventually("the stop was longer than the write timeout", || {
        begin.elapsed() > Duration::from_millis(2500)
    });
    server.signal("CONT");
    for (client, sent) in clients.iter_mut().zip(sent) {
        client.end();
        let mut received = (1 << 16) as usize;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match client.read(&mut buffer).expect("it was in time") {
                0 => break,
                n => received += n,
            }
        }
        assert_eq!(received, sent);
    }
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

/// A stream of either family.
trait Stream: Read + Write {
    fn block(&self, does: bool);
    fn end(&self);
}

impl Stream for UnixStream {
    fn block(&self, does: bool) {
        self.set_nonblocking(!does).unwrap();
    }

    fn end(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

impl Stream for std::net::TcpStream {
    fn block(&self, does: bool) {
        self.set_nonblocking(!does).unwrap();
    }

    fn end(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}
