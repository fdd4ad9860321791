//! The poller refuses a client, as at `fs.epoll.max_user_watches`: strace makes the call fail.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread,
};

use crate::util::{DEADLINE, Program, connect, finish, ping, read_to_reset, skip, splice_options};

const REFUSED: usize = 3;

/// What makes the next calls of a process fail. Dropping it ends that.
struct Failing(Child);

impl Failing {
    /// `None`, and the reason is printed, where strace is not there or must not.
    fn epoll_ctl_of(process: u32) -> Option<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-e", "trace=epoll_ctl", "-e"]);
        command.arg(format!("inject=epoll_ctl:error=ENOSPC:when=1..{REFUSED}"));
        command.args(["-p", &process.to_string()]).stderr(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            skip("strace is not installed");
            return None;
        };
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let failing = Self(child);
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        if !line.contains("attached") {
            skip(&format!("strace cannot trace the server: {}", line.trim()));
            return None;
        }
        // It stops when nobody reads what it writes.
        thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
        Some(failing)
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_client_that_cannot_be_watched_is_reset_and_counted_and_others_are_served() {
    if cfg!(mio_unsupported_force_poll_poll) {
        skip("poll(2) refuses nobody");
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    command.args(["serve", "127.0.0.1:0"]).args(splice_options());
    command.env("RUST_LOG", "warn").stderr(Stdio::piped());
    let mut server = Program::spawn(command);
    let address = server.listening();
    let first = connect(address);
    ping(&first, b"it is up");
    let Some(failing) = Failing::epoll_ctl_of(server.child.id()) else { return };
    for _ in 0..REFUSED {
        // It says nothing: what came unread would be reset in any case.
        assert!(read_to_reset(&connect(address)).is_empty());
    }
    let last = connect(address);
    ping(&last, b"served");
    drop(failing);
    for client in [&first, &last] {
        assert!(finish(client).is_empty());
    }
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    let summary = server.line();
    assert!(
        summary.starts_with("2 connections, ") && summary.ends_with("; peer 2, set-up failed 3"),
        "{summary}"
    );
    let mut errors = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    let warnings =
        errors.lines().filter(|line| line.contains("cannot register a client with the poller")).count();
    assert!((1..=REFUSED).contains(&warnings), "{errors}");
}
