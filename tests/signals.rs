//! What each signal does to a server, and that nobody who reads nothing can stop it.
#![cfg(all(feature = "cli", unix))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    process::{ChildStderr, Command, Stdio},
};

use util::{DEADLINE, Program, connect, eventually, finish, ping, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_echoloop");

/// A shell that does something, and is then replaced by `echoloop serve 127.0.0.1:0`.
fn after(preparation: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{preparation}; exec {PROGRAM} serve 127.0.0.1:0")]).env_remove("RUST_LOG");
    command
}

fn serve(args: &[&str]) -> (Program, BufReader<ChildStderr>) {
    let mut command = Command::new(PROGRAM);
    command.arg("serve").args(args).env_remove("RUST_LOG").stderr(Stdio::piped());
    let mut server = Program::spawn(command);
    let stderr = BufReader::new(server.child.stderr.take().unwrap());
    (server, stderr)
}

#[track_caller]
fn hear(stderr: &mut BufReader<ChildStderr>, what: &str) -> String {
    let mut line = String::new();
    while !line.contains(what) {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended without '{what}'");
    }
    line
}

#[test]
fn a_stop_that_is_delivered_twice_is_one() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("QUIT", "INT")] {
        let (mut server, mut stderr) = serve(&["127.0.0.1:0"]);
        let client = connect(server.listening());
        ping(&client, b"served");
        server.signal(first);
        hear(&mut stderr, "drain begins");
        server.signal(second);
        assert!(finish(&client).is_empty());
        assert_eq!(server.wait(DEADLINE).code(), Some(0), "{first}, {second}");
        assert!(server.line().contains(" 0 bytes undelivered; "));
    }
}

#[test]
fn signals_that_mean_nothing_to_a_server_do_not_end_it() {
    let (mut server, mut stderr) = serve(&["127.0.0.1:0"]);
    let client = connect(server.listening());
    for (signal, said) in [("HUP", "there is no configuration to reload"), ("USR2", "SIGUSR2 is ignored")] {
        server.signal(signal);
        hear(&mut stderr, said);
        ping(&client, b"still there");
    }
    server.signal("TERM");
    assert!(finish(&client).is_empty());
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

#[test]
fn sigquit_drains_and_removes_the_socket_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.sock");
    let (mut server, _stderr) = serve(&[&format!("unix:{}", path.display())]);
    server.line();
    server.signal("QUIT");
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn sigusr1_says_what_each_worker_is_doing() {
    let (mut server, mut stderr) = serve(&["127.0.0.1:0", "--workers", "2"]);
    let address = server.listening();
    let clients = [(); 3].map(|()| connect(address));
    clients.iter().for_each(|client| ping(client, b"12345"));
    server.signal("USR1");
    let lines = ["worker 0: ", "worker 1: "].map(|worker| hear(&mut stderr, worker));
    let open = |line: &String| {
        let (_, rest) = line.split_once(": ").unwrap();
        rest.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(lines.iter().map(open).sum::<u64>(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("; 0 paused, 0 bytes queued; accepting; ")), "{lines:?}");
    server.signal("TERM");
    clients.iter().for_each(|client| assert!(finish(client).is_empty()));
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

#[test]
fn a_server_that_was_started_with_signals_blocked_can_be_stopped() {
    let can_block = Command::new("env").args(["--block-signal=TERM", "true"]).stderr(Stdio::null()).status();
    if !can_block.is_ok_and(|status| status.success()) {
        return skip("env cannot block signals here");
    }
    let mut command = Command::new("env");
    command.args(["--block-signal=TERM,INT", PROGRAM, "serve", "127.0.0.1:0"]).env_remove("RUST_LOG");
    let mut server = Program::spawn(command);
    server.listening();
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_ignored_at_the_start_stays_ignored() {
    let mut server = Program::spawn(after("trap '' HUP INT QUIT"));
    let client = connect(server.listening());
    for signal in ["HUP", "INT", "QUIT"] {
        server.signal(signal);
    }
    ping(&client, b"still served");
    server.signal("TERM");
    assert!(finish(&client).is_empty());
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

/// SIGXFSZ, of a log that may not grow any more.
#[test]
fn a_log_that_reaches_its_limit_does_not_end_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    // One block, of 512 bytes or more.
    let mut command = after("ulimit -f 1");
    command.env("RUST_LOG", "debug").stderr(fs::File::create(&log).unwrap());
    let mut server = Program::spawn(command);
    let address = server.listening();
    let mut before = None;
    eventually("the log does not grow", || {
        let client = connect(address);
        ping(&client, b"?");
        finish(&client);
        let length = fs::metadata(&log).unwrap().len();
        length > 500 && before.replace(length) == Some(length)
    });
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

/// Nobody reads what it prints, and the pipe is full before it begins.
#[cfg(target_os = "linux")]
#[test]
fn a_full_pipe_as_stdout_stops_neither_the_start_nor_the_service_nor_the_end() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let capacity = rustix::pipe::fcntl_getpipe_size(&reader).unwrap();
    writer.write_all(&vec![b'x'; capacity]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.sock");
    let mut command = Command::new(PROGRAM);
    command.args(["serve", &format!("unix:{}", path.display())]).env_remove("RUST_LOG");
    let mut child = command.stdin(Stdio::null()).stdout(writer).spawn().unwrap();
    let mut client = None;
    eventually("it serves", || {
        client = UnixStream::connect(&path).ok();
        client.is_some()
    });
    let mut client = client.unwrap();
    client.write_all(b"served").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    drop(client);
    let status = Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let mut ended = None;
    eventually("it has ended", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(0));
    drop(reader);
}
