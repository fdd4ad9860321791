//! A drain in the middle of a transfer.

use std::{
    io::{Read, Write},
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use echoloop::{CloseReason, Config};
use socket2::Socket;

use crate::{
    KIB, MIB, ReplyAndFinish, connect, expect_and_end, expect_prefix_and_end,
    sending::{Sending, Then, wait_until_done_or_stuck},
    util::{Running, eventually, pattern, ping, read_to_end},
};

#[test]
fn a_drain_in_the_middle_loses_nothing_that_was_sent_before_it() {
    assert_a_full_pipe_is_drained(Config::default(), 8 * MIB, Duration::ZERO);
}

/// What it has not read yet is no reason to end a client: all of it comes back, however late the client reads.
#[test]
fn a_drain_waits_for_a_late_reader_until_all_that_it_sent_is_back() {
    let mut config = Config::default();
    config.drain_timeout = Some(Duration::from_secs(8));
    // More than half of that.
    assert_a_full_pipe_is_drained(config, 16 * MIB, Duration::from_millis(4500));
}

/// A client sends until no buffer takes more. Then the server drains, and the client begins to read so much later.
fn assert_a_full_pipe_is_drained(config: Config, length: usize, reads_after: Duration) {
    let server = Running::echo(config);
    let client = connect(&server.addresses[0]);
    let bytes = Arc::new(pattern(3, length));
    let sending = [Sending::start(&client, &bytes, Then::StayOpen)];
    // By then all buffers are full, also those from which the server has not read yet.
    wait_until_done_or_stuck(&sending);
    let sent_before = sending[0].sent();
    let begin = Instant::now();
    server.handle.drain();
    while begin.elapsed() < reads_after {
        thread::park_timeout(Duration::from_millis(100));
    }
    wait_until_done_or_stuck(&sending);
    let received = expect_prefix_and_end(&client, &bytes);
    assert!(received >= sent_before, "{received} of {sent_before} bytes");
    sending.into_iter().for_each(Sending::join);
    drop(client);
    let stats = server.join();
    assert_eq!(stats.closed(CloseReason::Drained), 1, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_undelivered), (1, 0), "{stats}");
}

#[test]
fn a_drain_loses_nothing_that_a_busy_loop_has_not_come_to() {
    let mut config = Config::default();
    config.turn_budget_bytes = 64;
    let server = Running::echo(config);
    let mut client = connect(&server.addresses[0]);
    let bytes = pattern(10, 64 * KIB);
    client.write_all(&bytes).unwrap();
    eventually("the client is known", || server.stats().accepted == 1);
    server.handle.drain();
    expect_and_end(&client, &bytes);
    drop(client);
    let stats = server.join();
    assert_eq!(stats.closed(CloseReason::Drained), 1, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_undelivered), (1, 0), "{stats}");
}

/// A client that is never silent is not waited for: when the server's patience is over it is told, at a moment when all
/// that it has sent has come back.
#[test]
fn a_drain_ends_a_client_that_sends_on_and_on_without_a_reset() {
    let mut config = Config::default();
    config.drain_patience = Duration::from_secs(1);
    config.linger_limit_bytes = u64::MAX;
    let server = Running::echo(config);
    let client = connect(&server.addresses[0]);
    // The stream is this block again and again; its length is no multiple of any buffer's.
    let block = Arc::new(pattern(4, MIB + 1));
    let (sent, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let back = Arc::new(AtomicUsize::new(0));
    let sender = {
        let (mut socket, block) = (client.try_clone().unwrap(), Arc::clone(&block));
        let (sent, ended, back) = (Arc::clone(&sent), Arc::clone(&ended), Arc::clone(&back));
        thread::spawn(move || {
            for piece in block.chunks(16 * KIB).cycle() {
                // The next piece when the last has come back.
                while back.load(SeqCst) < sent.load(SeqCst) && !ended.load(SeqCst) {
                    thread::park_timeout(Duration::from_micros(100));
                }
                if ended.load(SeqCst) {
                    break;
                }
                socket.write_all(piece).expect("sending goes on whatever happens");
                sent.fetch_add(piece.len(), SeqCst);
            }
            // Some more behind the server's FIN, and only then ours.
            socket.write_all(&block).expect("sending goes on behind the server's FIN");
            socket.shutdown(Shutdown::Write).unwrap();
        })
    };
    let reader = {
        let (mut socket, back) = (client.try_clone().unwrap(), Arc::clone(&back));
        thread::spawn(move || {
            let stream = block.repeat(2);
            let mut buffer = vec![0; 64 * KIB];
            let mut length = 0;
            loop {
                let n = socket.read(&mut buffer).expect("a clean end");
                if n == 0 {
                    return length;
                }
                let expected = &stream[length % block.len()..][..n];
                assert!(buffer[..n] == *expected, "different within {n} bytes from {length}");
                length += n;
                back.store(length, SeqCst);
            }
        })
    };
    eventually("the transfer is under way", || server.stats().bytes_sent > MIB as u64);
    let sent_before = sent.load(SeqCst);
    server.handle.drain();
    let received = reader.join().unwrap();
    ended.store(true, SeqCst);
    assert!(received >= sent_before, "{received} of {sent_before} bytes");
    sender.join().unwrap();
    let stats = server.join();
    assert_eq!(stats.closed(CloseReason::Drained), 1, "{stats}");
    assert!(stats.bytes_discarded > MIB as u64, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_undelivered), (1, 0), "{stats}");
}

/// A drain cuts nothing short of a connection that is being ended already.
#[test]
fn a_drain_waits_for_a_reply_that_is_being_read() {
    let reply = Arc::new(pattern(8, 8 * MIB));
    let replying = Arc::clone(&reply);
    let server = Running::start(Config::default(), &["127.0.0.1:0"], move |_| {
        Some(ReplyAndFinish(Arc::clone(&replying)))
    });
    let mut client = connect(&server.addresses[0]);
    client.write_all(b"?").unwrap();
    eventually("the reply has begun", || server.stats().bytes_sent > 0);
    server.handle.drain();
    expect_and_end(&client, &reply);
    assert!(!server.has_ended(), "the client's FIN is still to come");
    drop(client);
    let stats = server.join();
    assert_eq!(stats.closed(CloseReason::Finished), 1, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_undelivered), (1, 0), "{stats}");
}

/// Those who came before the drain are served, even if there was no place for them yet.
#[test]
fn a_drain_serves_those_who_wait_in_the_backlog() {
    let mut config = Config::default();
    config.max_connections = Some(1);
    let server = Running::echo(config);
    let first = server.connect();
    ping(&first, b"the only place is taken");
    let waiting: Vec<Socket> = (0..3).map(|_| connect(&server.addresses[0])).collect();
    for mut client in &waiting {
        client.write_all(b"in the backlog").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    server.handle.drain();
    assert!(read_to_end(&first).is_empty());
    assert_eq!(server.stats().accepted, 1);
    drop(first);
    for client in &waiting {
        expect_and_end(client, b"in the backlog");
    }
    let stats = server.join();
    assert_eq!(stats.closed(CloseReason::Drained), 1, "{stats}");
    assert_eq!(stats.closed(CloseReason::Peer), 3, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_undelivered), (4, 0), "{stats}");
}
