//! The promise: shutdown, then close, for every client, and no byte lost on the way.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test")]

mod util;

use std::{io::Write, net::Shutdown};

use echoloop::{CloseReason, Config};
use util::{Running, pattern, read_to_end};

/// Sends everything, shuts down, and only then starts to read.
fn sends_then_reads(length: usize) {
    let server = Running::echo(Config::default());
    let client = server.connect();
    let sent = pattern(length as u64, length);
    let bytes = sent.clone();
    let mut sending = client.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        sending.write_all(&bytes).unwrap();
        sending.shutdown(Shutdown::Write).unwrap();
    });
    let received = read_to_end(&client);
    sender.join().unwrap();
    assert!(received == sent);
    server.wait_until_idle();
    assert_eq!(server.stats().closed(CloseReason::Peer), 1);
}

#[test]
fn nothing_at_all_is_echoed_and_ended() {
    sends_then_reads(0);
}

#[test]
fn eight_mebibytes_are_echoed_and_ended() {
    sends_then_reads(8 << 20);
}
