//! Sockets that are passed to the program, by the test in the place of systemd and by systemd-socket-activate(1).

use std::{
    fs::File,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    process::{Command, Stdio},
    sync::mpsc::Receiver,
};

use crate::hear;
use crate::util::{DEADLINE, Ended, Program, connect, echoloop, finish, holds_within, lines, ping, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_echoloop");

/// `echoloop serve ARGS…` with these sockets, as systemd passes them, under these names. A shell has no more than two to give:
/// stdin and stderr.
fn passed(args: &[&str], names: &str, sockets: &[OwnedFd]) -> Command {
    let mut command = Command::new("sh");
    let script = match sockets {
        [_] => "exec 3<&0 </dev/null",
        [_, _] => "exec 3<&0 4<&2 </dev/null 2>/dev/null",
        _ => panic!("{sockets:?}"),
    };
    let run = "LISTEN_PID=$$ exec \"$0\" serve \"$@\"";
    command.args(["-c", &format!("{script}; {run}"), PROGRAM]).args(args);
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names).env_remove("RUST_LOG");
    let copy = |socket: &OwnedFd| Stdio::from(socket.try_clone().unwrap());
    command.stdin(copy(&sockets[0])).stdout(Stdio::piped());
    command.stderr(sockets.get(1).map_or_else(Stdio::piped, copy));
    command
}

/// The same, running.
fn start(args: &[&str], names: &str, sockets: &[OwnedFd]) -> (Program, Option<Receiver<String>>) {
    let mut child = passed(args, names, sockets).spawn().unwrap();
    let stdout = lines(child.stdout.take().unwrap());
    let stderr = child.stderr.take().map(lines);
    (Program { child, stdout }, stderr)
}

/// What the program says when it gives up.
#[track_caller]
fn error(args: &[&str], names: &str, socket: impl Into<OwnedFd>) -> String {
    let (mut server, stderr) = start(args, names, &[socket.into()]);
    assert_eq!(server.wait(DEADLINE).code(), Some(1));
    let lines: Vec<String> = stderr.unwrap().iter().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].strip_prefix("error: ").expect("an error").to_owned()
}

#[track_caller]
fn drain(mut server: Program) -> String {
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    server.line()
}

fn tcp() -> (OwnedFd, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

#[test]
fn passed_sockets_are_served_with_any_number_of_workers_and_an_ordinary_address_uses_them_too() {
    let (socket, address) = tcp();
    let sockets = [socket];
    let own = address.to_string();
    for args in [&["systemd:"][..], &["fd:web"], &[&own], &["127.0.0.1:0"], &["systemd:", "--workers", "3"]] {
        let (server, _stderr) = start(args, "web", &sockets);
        assert_eq!(server.listening(), address);
        let clients = [(); 5].map(|()| connect(address));
        clients.iter().for_each(|client| ping(client, b"hello"));
        clients.iter().for_each(|client| assert!(finish(client).is_empty()));
        assert!(drain(server).starts_with("5 connections, 25 bytes received, 25 bytes sent, "), "{args:?}");
    }
}

/// It comes while the first server drains, and nobody refuses it.
#[test]
fn a_client_in_the_backlog_is_left_to_the_next_server() {
    let (socket, address) = tcp();
    let sockets = [socket];
    for workers in [1, 3] {
        let (first, stderr) = start(&["systemd:", "--workers", &workers.to_string()], "web", &sockets);
        let served = connect(first.listening());
        ping(&served, b"first");
        first.signal("TERM");
        let stderr = stderr.unwrap();
        // From there on a loop accepts nobody.
        (0..workers).for_each(|_| hear(&stderr, "drain begins"));
        assert!(crate::util::read_to_end(&served).is_empty());
        let waiting = connect(address);
        drop(served);
        assert!(first.stdout.recv_timeout(DEADLINE).unwrap().starts_with("1 connections, "));
        let (second, _stderr) = start(&["systemd:"], "web", &sockets);
        assert_eq!(second.listening(), address);
        ping(&waiting, b"second");
        finish(&waiting);
        let summary = drain(second);
        assert!(summary.starts_with("1 connections, "), "{summary}");
    }
}

#[test]
fn the_path_of_a_passed_unix_socket_outlives_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo");
    let (socket, address) = tcp();
    let sockets = [socket, UnixListener::bind(&path).unwrap().into()];
    for args in
        [["systemd:"].as_slice(), &["fd:local", "fd:net"], &["fd:net", &format!("unix:{}", path.display())]]
    {
        let (server, _) = start(args, "net:local", &sockets);
        let lines = [server.line(), server.line()];
        assert!(lines.contains(&format!("listening on unix:{}", path.display())), "{lines:?}");
        ping(&connect(address), b"over TCP");
        let stream = UnixStream::connect(&path).unwrap();
        let socket = socket2::Socket::from(stream);
        std::io::Write::write_all(&mut &socket, b"hello").unwrap();
        std::io::Read::read_exact(&mut &socket, &mut [0; 5]).unwrap();
        drop(socket);
        drain(server);
        assert!(path.exists());
    }
}

#[test]
fn a_passed_socket_of_udp_is_served() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (server, _stderr) = start(&["systemd:"], "echo", &[socket.into()]);
    assert_eq!(server.line(), format!("listening on udp:{address}"));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.send_to(b"hello", address).unwrap();
    assert_eq!(client.recv(&mut [0; 9]).unwrap(), 5);
    drain(server);
}

#[test]
fn a_socket_that_nobody_asks_for_or_that_cannot_be_served_is_an_error() {
    let (socket, address) = tcp();
    let unclaimed =
        format!("a socket was passed on that listens on {address}, and nobody asked for that address");
    assert!(error(&["127.0.0.2:0"], "web", socket.try_clone().unwrap()).starts_with(&unclaimed));
    let line = error(&["fd:wep"], "web", socket.try_clone().unwrap());
    assert_eq!(line, "cannot listen on fd:wep: the names of the inherited sockets are web");
    let line = error(&["systemd:"], "web:more", socket);
    assert_eq!(line, "LISTEN_FDNAMES has 2 names for 1 inherited sockets");
    let unusable: [(OwnedFd, &str); 3] = [
        (UnixDatagram::unbound().unwrap().into(), "it is neither a stream socket nor one of UDP"),
        (File::open("/dev/null").unwrap().into(), "it is neither a stream socket nor one of UDP"),
        (TcpStream::connect(tcp_that_stays()).unwrap().into(), "it does not listen"),
    ];
    for (socket, why) in unusable {
        assert_eq!(
            error(&["systemd:"], "web", socket),
            format!("cannot use the inherited socket 'web': {why}")
        );
    }
}

/// An address that is listened on to the end of the tests.
fn tcp_that_stays() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::mem::forget(listener);
    address
}

#[test]
fn what_was_passed_to_another_process_or_not_at_all_is_not_there() {
    let nothing = |command: &mut Command| {
        let ended = Ended::run(command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1"));
        let error = ended.error(1).to_owned();
        assert!(error.contains(": no sockets were inherited"), "{error}");
    };
    nothing(&mut echoloop(&["serve", "systemd:"]));
    nothing(&mut echoloop(&["serve", "fd:web"]));
}

#[test]
fn systemd_socket_activate_passes_what_serve_takes() {
    if let Err(error) = Command::new("systemd-socket-activate").arg("--version").output() {
        return skip(&format!("systemd-socket-activate: {error}"));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo");
    // It does not say which port it was given.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new("systemd-socket-activate");
    command.args(["-l", &free.to_string(), "-l", path.to_str().unwrap(), "--fdname=net:local"]);
    command.args([PROGRAM, "serve", "fd:local", "systemd:", "--workers", "2"]).env_remove("RUST_LOG");
    let server = Program::spawn(command);
    // The first client starts the program.
    let mut first = None;
    assert!(holds_within(DEADLINE, || {
        first = UnixStream::connect(&path).ok();
        first.is_some()
    }));
    assert_eq!(server.line(), format!("listening on unix:{}", path.display()));
    assert_eq!(server.listening(), free);
    let client = connect(free);
    ping(&client, b"hello");
    finish(&client);
    drop(first);
    assert!(drain(server).contains(" 5 bytes received, 5 bytes sent, "));
    assert!(path.exists());
}
