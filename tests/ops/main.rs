//! Metrics, health checks and agent-checks: the protocols in the test kit, real servers that are looked at, and the
//! program.
#![cfg(feature = "ops")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

#[cfg(all(unix, feature = "cli"))]
mod control;
mod health;
mod http;
#[cfg(feature = "cli")]
mod program;
#[path = "../util/mod.rs"]
mod util;

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
};

use echoloop::{Address, ops::Running};

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    head: String,
    content: String,
}

/// Asks for a path on a connection of its own.
#[track_caller]
fn get(address: SocketAddr, path: &str) -> Answer {
    try_get(address, path).expect("it listens")
}

/// The same; `None` if nobody listens.
#[track_caller]
fn try_get(address: SocketAddr, path: &str) -> Option<Answer> {
    drop(TcpStream::connect(address).ok()?);
    let mut stream = util::connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answers = answers(&util::read_to_end(&stream));
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.pop()
}

/// All the answers that a client got, to requests other than HEAD.
#[track_caller]
fn answers(received: &[u8]) -> Vec<Answer> {
    let mut rest = std::str::from_utf8(received).expect("text");
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let (head, behind) = rest.split_once("\r\n\r\n").expect("a whole head");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let (content, next) = behind.split_at(length.expect("a length").parse().expect("a number"));
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|head| head.get(..3)).expect("a status");
        answers.push(Answer {
            status: status.parse().expect("a number"),
            head: format!("{head}\r\n"),
            content: content.to_owned(),
        });
        rest = next;
    }
    answers
}

/// The first address of what is running.
fn address(running: &Running) -> SocketAddr {
    let Address::Ip(address) = running.local_addrs()[0] else { panic!("{running:?}") };
    address
}
