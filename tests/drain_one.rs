//! A server that had to cut off a single client says so.
#![cfg(all(feature = "cli", unix))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    io::{ErrorKind, Read, Write},
    process::{Command, Stdio},
};

use util::{DEADLINE, Program, connect, eventually, splice_options};

#[test]
fn one_client_that_is_cut_off_is_an_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    command.args(["serve", "127.0.0.1:0", "--drain-timeout", "500ms"]).args(splice_options());
    command.stderr(Stdio::piped());
    let mut server = Program::spawn(command);
    let client = connect(server.listening());
    send_all_it_takes(&client);
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE).code(), Some(1));
    assert!(server.line().ends_with("; drain timeout 1"));
    let mut errors = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(errors.ends_with("error: connections cut off by the drain timeout: 1\n"), "{errors}");
}

/// Sends, and never reads, until neither side takes any more.
fn send_all_it_takes(mut client: &std::net::TcpStream) {
    client.set_nonblocking(true).unwrap();
    let block = vec![0; 1 << 20];
    let mut idle_looks = 0;
    eventually("the client is stuck", || {
        match client.write(&block) {
            Ok(_) => idle_looks = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => idle_looks += 1,
            Err(error) => panic!("{error}"),
        }
        // The server reads on as long as it can.
        idle_looks > 50
    });
}
