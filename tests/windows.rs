//! What is different on Windows: Ctrl-C instead of signals, and no Unix sockets.
#![cfg(all(feature = "cli", windows))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    env,
    io::{ErrorKind, Write},
    net::{Shutdown, SocketAddr},
    os::windows::process::CommandExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use echoloop::{Address, CloseReason, Config, Echo, Error, Origin, Server};
use socket2::SockRef;
use util::{
    DEADLINE, Ended, Program, Running, connect, drains_when_told_to_stop, echoloop, eventually, pattern,
    ping, read_to_end,
};

/// A console of its own, without a window.
const CREATE_NO_WINDOW: u32 = 0x0800_0000;

/// The variable with the path of a program that sends Ctrl-C to the console of the process that it is given. Safe
/// Rust cannot, so `.ci/windows` builds it.
const CTRL_C: &str = "ECHOLOOP_TEST_CTRL_C";

/// A server on a console of its own, its address, and what presses Ctrl-C there; none if the test is skipped.
fn start() -> Option<(Program, SocketAddr, impl Fn())> {
    let Some(ctrl_c) = env::var_os(CTRL_C) else {
        util::skip(&format!("{CTRL_C} does not say how to press Ctrl-C"));
        return None;
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    command.args(["serve", "127.0.0.1:0"]).env("RUST_LOG", "info").stderr(Stdio::piped());
    command.creation_flags(CREATE_NO_WINDOW);
    let server = Program::spawn(command);
    let address = server.listening();
    let process = server.child.id().to_string();
    let press = move || {
        let status = Command::new(&ctrl_c).arg(&process).status().unwrap();
        assert!(status.success(), "cannot press Ctrl-C: {status}");
    };
    Some((server, address, press))
}

#[test]
fn ctrl_c_drains() {
    let Some((server, address, press_ctrl_c)) = start() else { return };
    drains_when_told_to_stop(server, address, |_| press_ctrl_c());
}

#[test]
fn a_second_ctrl_c_ends_the_program_at_once() {
    let Some((mut server, address, press_ctrl_c)) = start() else { return };
    // As the client never ends, the drain would linger for 30 s.
    let client = connect(address);
    ping(&client, b"?");
    press_ctrl_c();
    assert!(read_to_end(&client).is_empty());
    // Within a second it may be the first one, delivered again.
    let begin = Instant::now();
    eventually("it is another one", || begin.elapsed() > Duration::from_millis(1500));
    press_ctrl_c();
    // Sooner than the drain, which would have ended it with another status.
    assert_eq!(server.wait(DEADLINE).code(), Some(130));
}

/// Windows cannot say what the peer's system has acknowledged, so nothing waits for it.
#[test]
fn what_the_system_has_taken_outlives_the_close_and_the_server() {
    let server = Running::echo(Config::default());
    let mut client = server.connect();
    // Its own system has no room for all of it.
    SockRef::from(&client).set_recv_buffer_size(4 << 10).unwrap();
    let bytes = pattern(1, 50_000);
    client.write_all(&bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // The connection is closed, and the server has ended, before a byte is read.
    let stats = server.last_stats();
    assert_eq!(stats.closed(CloseReason::Peer), 1, "{stats}");
    assert_eq!((stats.bytes_sent, stats.bytes_undelivered), (bytes.len() as u64, 0), "{stats}");
    assert!(read_to_end(&client) == bytes);
}

#[test]
fn unix_sockets_are_refused_with_the_reason() {
    let address = "unix:C:\\echo.sock";
    for (subcommand, what) in [("serve", "cannot listen on"), ("client", "cannot connect to")] {
        let ended = Ended::run(&mut echoloop(&[subcommand, address]));
        let error = format!("{what} {address}: Unix sockets are not available on this system");
        assert_eq!(ended.error(1), error);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn the_library_refuses_unix_sockets_too() {
    let error = Server::<Echo>::builder().bind(["unix:C:\\echo.sock"]).err().unwrap();
    assert!(
        matches!(&error, Error::Bind { source, .. } if source.kind() == ErrorKind::Unsupported),
        "{error}"
    );

    let server = Running::start(Config::default(), &["127.0.0.1:0"], |peer| {
        assert_eq!(peer.origin, Origin::Connect(7));
        Some(Echo)
    });
    server.handle.connect(Address::Unix("C:\\echo.sock".into()), 7).unwrap();
    let reason = CloseReason::ConnectFailed(ErrorKind::Unsupported);
    eventually("the connection fails", || server.stats().closed(reason) == 1);
    assert_eq!(server.drain().panics, 0);
}
