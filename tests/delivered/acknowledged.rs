//! What waits for the acknowledgement of the peer's system: clocks, and the close.

use std::time::{Duration, Instant};

use echoloop::{CloseReason, Config, Echo};

use crate::{
    client::{Client, RECEIVE_BUFFER},
    util::{Running, eventually, holds_within},
    ways::{Way, on_every_way},
};

/// More than a client's receive buffer takes, and less than the server's system takes for sending.
const OWED: usize = 400_000;

/// Reading at this rate, a client takes some seconds for it.
const BYTES_PER_SECOND: f64 = 200_000.0;

/// A client to which the server's system owes nearly all that the client has sent.
fn owed_by_the_kernel(server: &Running<Echo>) -> Client {
    let mut client = Client::connect(&server.addresses[0]);
    client.send(OWED);
    wait_until_the_system_has_all(server);
    client
}

/// Waits until the server has sent all of the echo.
#[track_caller]
fn wait_until_the_system_has_all(server: &Running<Echo>) {
    eventually("the server's system has all of the echo", || {
        let stats = server.stats();
        assert_eq!(stats.closed_total(), 0, "it is closed before the system had all of the echo: {stats}");
        stats.bytes_sent == OWED as u64
    });
}

#[test]
fn no_linger_clock_runs_while_a_client_takes_what_is_owed() {
    on_every_way(|way| {
        let mut config = Config::default();
        config.linger_silence_timeout = Some(Duration::from_millis(300));
        let server = way.serve(config);
        let mut client = owed_by_the_kernel(&server);
        server.handle.drain();
        client.read_steadily(BYTES_PER_SECOND, OWED / 2).expect("the first half");
        // It meets a socket that is still there.
        client.send(1);
        client.read_steadily(BYTES_PER_SECOND, usize::MAX).expect("a clean end");
        // The last byte is echoed if it comes before the server's end, but it comes long after.
        assert!(client.received >= OWED, "{} of {OWED} bytes", client.received);
        drop(client);
        let stats = server.join();
        assert_eq!((stats.closed_total(), stats.bytes_undelivered), (1, 0), "{stats}");
    });
}

#[test]
fn a_client_that_takes_what_is_owed_is_neither_idle_nor_stalled() {
    on_every_way(|way| {
        let mut config = Config::default();
        config.idle_timeout = Some(Duration::from_secs(1));
        config.write_timeout = Some(Duration::from_secs(1));
        let server = way.serve(config);
        let mut client = owed_by_the_kernel(&server);
        client.read_steadily(BYTES_PER_SECOND, OWED).expect("all of it");
        client.send(1);
        // It is echoed, and not discarded behind the end of an idle connection.
        client.read_to(OWED + 1);
        client.end();
        client.expect_rest_and_end();
        let stats = server.last_stats();
        assert_eq!(stats.closed(CloseReason::Peer), 1, "{stats}");
    });
}

#[test]
fn a_connection_is_not_closed_while_its_half_closed_client_reads_late() {
    on_every_way(|way| {
        let server = way.serve(Config::default());
        let mut client = owed_by_the_kernel(&server);
        client.end();
        let has_closed = || server.stats().closed_total() > 0 || server.has_ended();
        assert!(!holds_within(Duration::from_millis(500), has_closed), "{}", server.stats());
        server.handle.drain();
        assert!(!holds_within(Duration::from_millis(500), has_closed), "{}", server.stats());
        client.expect_rest_and_end();
        // Though the client stays.
        let stats = server.join();
        assert_eq!(stats.closed(CloseReason::Peer), 1, "{stats}");
        assert_eq!((stats.closed_total(), stats.bytes_undelivered), (1, 0), "{stats}");
    });
}

const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// A machine that holds this thread up for so long may hold up the server too.
const HELD_UP: Duration = Duration::from_millis(100);

fn stalls(way: Way, fill: fn(&mut Client, &Running<Echo>)) {
    let mut config = Config::default();
    (config.write_timeout, config.idle_timeout) = (Some(WRITE_TIMEOUT), None);
    let server = way.serve(config);
    let mut client = Client::connect(&server.addresses[0]);
    fill(&mut client, &server);
    // The last that its system has room for comes after this.
    let begin = Instant::now();
    client.read_to(2 * RECEIVE_BUFFER);
    let (mut last_look, mut longest_pause) = (begin, Duration::ZERO);
    eventually("the stalled connection is reset", || {
        longest_pause = longest_pause.max(last_look.elapsed());
        last_look = Instant::now();
        server.stats().closed(CloseReason::WriteStall) == 1
    });
    let took = begin.elapsed();
    println!("{way:?}: reset {took:?} after the last read");
    assert!(took >= WRITE_TIMEOUT, "after {took:?}");
    // It looks often enough to see within a quarter more, not only after twice as long.
    assert!(took < WRITE_TIMEOUT * 8 / 5 || longest_pause > HELD_UP, "only after {took:?}");
    // It is counted before it is closed. Until then the system goes on sending.
    server.wait_until_idle();
    client.expect_reset();
    let stats = server.drain();
    assert!(stats.closed_total() == 1 && stats.bytes_undelivered > 0, "{stats}");
}

#[test]
fn a_client_that_stops_reading_is_reset_though_the_kernel_has_all_of_its_echo() {
    on_every_way(|way| {
        stalls(way, |client, server| {
            client.send(OWED);
            wait_until_the_system_has_all(server);
        });
    });
}

#[test]
fn a_half_closed_client_that_stops_reading_is_reset() {
    on_every_way(|way| {
        stalls(way, |client, server| {
            client.send(OWED);
            client.end();
            wait_until_the_system_has_all(server);
        });
    });
}

#[test]
fn a_client_that_stops_reading_is_reset_with_output_queued() {
    on_every_way(|way| stalls(way, |client, _| client.send_until_blocked()));
}
