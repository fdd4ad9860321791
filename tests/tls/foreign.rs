//! Clients that others wrote: OpenSSL's, Python's and node's. Whatever they do, what comes back is whole, and its end clean.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    thread,
};

use echoloop::CloseReason;

use crate::{
    files::{Authority, script},
    serve::Serve,
    util::{DEADLINE, Ended, Program, skip},
};

const VERSIONS: [&str; 2] = ["1.2", "1.3"];

/// The program, if it is here.
fn found(program: &str, version: &str) -> bool {
    let is_here = Command::new(program).arg(version).output().is_ok_and(|output| output.status.success());
    if !is_here {
        skip(&format!("there is no {program}"));
    }
    is_here
}

/// What the script says of an echo.
#[track_caller]
fn says(program: &str, name: &str, server: &Serve, authority: &Authority, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.arg(script(name)).arg(server.address.to_string()).arg(authority.ca()).args(args);
    let ended = Ended::run_within(2 * DEADLINE, command.stdin(Stdio::null()));
    assert!(ended.status.success(), "{args:?}: {ended:?}");
    ended.stdout.trim().to_owned()
}

#[test]
fn python_gets_everything_and_close_notify_however_it_ends() {
    if !found("python3", "--version") {
        return;
    }
    let authority = Authority::new();
    let server = Serve::start(&authority.issue("localhost").options());
    let mut truncated = 0;
    for version in VERSIONS {
        for end in ["close_notify", "both", "fin"] {
            for (size, when) in [
                ("0", "reading"),
                ("14", "reading"),
                ("14", "late"),
                ("300000", "late"),
                ("8388608", "reading"),
            ] {
                let args = [version, size, end, when];
                let said = says("python3", "half_close.py", &server, &authority, &args);
                assert_eq!(said, "whole, close_notify", "{args:?}");
                truncated += u64::from(end == "fin");
            }
        }
    }
    server.ends_with(&[(CloseReason::Peer, 20), (CloseReason::Truncated, truncated)]);
}

/// It takes a while in a debug build.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation")]
fn a_hundred_mebibytes_come_back() {
    if !found("python3", "--version") {
        return;
    }
    let authority = Authority::new();
    let server = Serve::start(&authority.issue("localhost").options());
    for version in VERSIONS {
        let args = [version, "104857600", "close_notify", "reading"];
        let said = says("python3", "half_close.py", &server, &authority, &args);
        assert_eq!(said, "whole, close_notify", "{version}");
    }
    server.ends_with(&[(CloseReason::Peer, 2)]);
}

#[test]
fn node_gets_everything() {
    if !found("node", "--version") {
        return;
    }
    let authority = Authority::new();
    let pair = authority.issue("localhost");
    let server = Serve::start(&[&pair.options()[..], &["--alpn", "echo"]].concat());
    for version in VERSIONS {
        for (size, when) in
            [("0", "reading"), ("14", "reading"), ("14", "late"), ("300000", "late"), ("8388608", "reading")]
        {
            let args = [version, size, when];
            assert_eq!(says("node", "echo.js", &server, &authority, &args), "whole, ended", "{args:?}");
        }
    }
    server.ends_with(&[(CloseReason::Peer, 10)]);
}

/// It takes the end of its input for the end of everything: so it is told when all is back.
#[test]
fn openssl_gets_everything() {
    if !found("openssl", "version") {
        return;
    }
    let authority = Authority::new();
    let server = Serve::start(&authority.issue("localhost").options());
    for version in ["-tls1_2", "-tls1_3"] {
        for size in [0, 14, 8 << 20] {
            let mut command = Command::new("openssl");
            let address = server.address.to_string();
            command.args(["s_client", "-connect", &address, "-servername", "localhost"]);
            command.args(["-CAfile", &authority.ca(), "-verify_return_error"]);
            command.args([version, "-quiet", "-no_ign_eof"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            let mut client = Program { child, stdout: std::sync::mpsc::channel().1 };
            // Letters would be commands.
            let sent: Vec<u8> = (0..size).map(|n| b'0' + u8::try_from(n % 10).unwrap()).collect();
            let copy = sent.clone();
            let sender = thread::spawn(move || {
                stdin.write_all(&copy).unwrap();
                stdin
            });
            let mut received = vec![0; size];
            stdout.read_exact(&mut received).unwrap();
            assert!(received == sent, "{version}, {size}");
            drop(sender.join().unwrap());
            assert_eq!(client.wait(DEADLINE).code(), Some(0), "{version}, {size}");
            assert_eq!(stdout.read(&mut [0]).unwrap(), 0);
        }
    }
    server.ends_with(&[(CloseReason::Peer, 6)]);
}
