//! The program is told to stop while something is owed: it lives until the client's system has it.

use std::time::{Duration, Instant};

use echoloop::Address;

use crate::{
    client::Client,
    drain::{DRAIN, read_slowly},
    util::{DEADLINE, Program, holds_within},
    ways::{Way, on_every_way},
};

fn start(way: Way) -> (Program, Address) {
    let server = way.start_program(&["--drain-timeout", &format!("{}s", DRAIN.as_secs())]);
    let address = Address::Ip(server.listening());
    (server, address)
}

#[test]
fn a_client_that_reads_slowly_after_sigterm_gets_all() {
    on_every_way(|way| reads_slowly_after_sigterm(way, false));
}

#[test]
fn a_half_closed_client_that_reads_slowly_after_sigterm_gets_all() {
    on_every_way(|way| reads_slowly_after_sigterm(way, true));
}

fn reads_slowly_after_sigterm(way: Way, is_half_closed: bool) {
    let (mut server, address) = start(way);
    let mut client = Client::connect(&address);
    client.send_until_blocked();
    if is_half_closed {
        client.end();
    }
    let begin = Instant::now();
    server.signal("TERM");
    let end = read_slowly(&mut client);
    let (received, sent) = (client.received, client.sent);
    drop(client);
    let took = begin.elapsed();
    let (status, summary) = (server.wait(DEADLINE).code(), server.line());
    if let Err(error) = end {
        assert!(took >= DRAIN, "{received} of {sent} bytes, then {error} after {took:?}: {summary}");
        assert!(status == Some(1) && summary.ends_with("; drain timeout 1"), "{status:?}: {summary}");
        return;
    }
    assert_eq!(received, sent, "a clean end, and not all: {summary}");
    let reason = if is_half_closed { "peer" } else { "drained" };
    assert_eq!(status, Some(0), "{summary}");
    assert_eq!(
        summary,
        format!("1 connections, {sent} bytes received, {sent} bytes sent, 0 bytes undelivered; {reason} 1")
    );
}

#[test]
fn the_program_lives_until_a_half_closed_client_has_everything() {
    on_every_way(|way| {
        const OWED: usize = 200_000;
        let (mut server, address) = start(way);
        let mut client = Client::connect_with(&address, 4 << 10);
        client.send(OWED);
        client.end();
        server.signal("TERM");
        let mut has_ended = || server.child.try_wait().unwrap().is_some();
        assert!(!holds_within(Duration::from_secs(1), &mut has_ended), "it ended before anything was read");
        // Its system has room for some more than this.
        client.read_to(OWED / 4);
        assert!(!holds_within(Duration::from_millis(300), has_ended), "it ended before all was read");
        client.expect_rest_and_end();
        // Though the client stays.
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
        let summary = server.line();
        assert!(summary.ends_with(" 0 bytes undelivered; peer 1"), "{summary}");
    });
}

#[test]
fn a_client_that_never_reads_is_cut_off_and_the_program_says_so() {
    on_every_way(|way| {
        let mut server = way.start_program(&["--drain-timeout", "1s"]);
        let mut client = Client::connect(&Address::Ip(server.listening()));
        // The server's system takes all of it.
        client.send(400_000);
        client.end();
        server.signal("TERM");
        assert_eq!(server.wait(DEADLINE).code(), Some(1));
        let summary = server.line();
        assert!(summary.ends_with("; drain timeout 1"), "{summary}");
        assert!(!summary.contains(" 0 bytes undelivered"), "{summary}");
        client.expect_reset();
    });
}
