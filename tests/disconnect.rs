//! The promise: shutdown, then close, for every client, and no byte lost on the way.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test")]

mod util;

use std::{
    cell::Cell,
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use echoloop::{Address, CloseReason, Config, Context, Echo, Flow, Input, Protocol, Timeout};
use socket2::Socket;
use util::{DEADLINE, Running, eventually, holds_within, pattern, skip};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// How long a sender makes no progress before it is taken to be blocked.
const STUCK: Duration = Duration::from_millis(200);

/// A client of any family.
fn connect(address: &Address) -> Socket {
    let socket: Socket = match address {
        Address::Ip(address) => util::connect(*address).into(),
        #[cfg(unix)]
        Address::Unix(path) => std::os::unix::net::UnixStream::connect(path).expect("connect").into(),
        other => panic!("cannot connect to {other}"),
    };
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Reads to the end and compares; an error, such as a reset, fails the test. Returns the length.
#[track_caller]
fn expect_prefix_and_end(mut socket: &Socket, expected: &[u8]) -> usize {
    let mut buffer = vec![0; 256 * KIB];
    let mut length = 0;
    loop {
        let n = socket.read(&mut buffer).expect("a clean end");
        if n == 0 {
            return length;
        }
        assert!(length + n <= expected.len(), "more than was expected");
        assert!(buffer[..n] == expected[length..length + n], "different within {n} bytes from {length}");
        length += n;
    }
}

/// Reads to the end, which has to come exactly behind `expected`.
#[track_caller]
fn expect_and_end(socket: &Socket, expected: &[u8]) {
    assert_eq!(expect_prefix_and_end(socket, expected), expected.len());
}

/// Sends on a thread of its own.
struct Sending {
    sent: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Shutdown,
    StayOpen,
}

impl Sending {
    fn start(socket: &Socket, bytes: &Arc<Vec<u8>>, then: Then) -> Self {
        let mut socket = socket.try_clone().unwrap();
        let bytes = Arc::clone(bytes);
        let sent = Arc::new(AtomicUsize::new(0));
        let progress = Arc::clone(&sent);
        let thread = thread::spawn(move || {
            for piece in bytes.chunks(16 * KIB) {
                socket.write_all(piece).expect("sending goes on whatever happens");
                progress.fetch_add(piece.len(), SeqCst);
            }
            if then == Then::Shutdown {
                socket.shutdown(Shutdown::Write).unwrap();
            }
        });
        Self { sent, thread }
    }

    fn sent(&self) -> usize {
        self.sent.load(SeqCst)
    }

    fn join(self) {
        self.thread.join().expect("everything was sent");
    }
}

/// Waits until each sender has finished, or none has made progress for a while.
fn wait_until_done_or_stuck(senders: &[Sending]) {
    let sent = || senders.iter().map(Sending::sent).sum::<usize>();
    let (mut last, mut since) = (sent(), Instant::now());
    eventually("the senders are done or stuck", || {
        if sent() != last {
            (last, since) = (sent(), Instant::now());
        }
        senders.iter().all(|sender| sender.thread.is_finished()) || since.elapsed() > STUCK
    });
}

/// Everything was echoed to `clients` clients that ended first, and nothing is left over.
#[track_caller]
fn expect_all_ended_by_their_peers<P: Protocol + 'static>(server: Running<P>, clients: u64, bytes: usize) {
    let stats = server.last_stats();
    assert_eq!(stats.closed(CloseReason::Peer), clients, "{stats}");
    assert_eq!(stats.closed_total(), clients, "{stats}");
    assert_eq!(stats.accepted, clients, "{stats}");
    assert_eq!(stats.bytes_received, bytes as u64, "{stats}");
    assert_eq!(stats.bytes_sent, bytes as u64, "{stats}");
    assert_eq!((stats.bytes_unsent, stats.bytes_discarded), (0, 0), "{stats}");
}

// A: send everything, shut down, and only then begin to read.

/// One thread: what is sent has to fit into the buffers on the way.
fn sends_then_reads(server: Running<Echo>, length: usize) {
    let mut client = connect(&server.addresses[0]);
    let sent = pattern(length as u64, length);
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    expect_and_end(&client, &sent);
    expect_all_ended_by_their_peers(server, 1, length);
}

/// More than fits into the buffers on the way: the client reads once it can send no more.
fn sends_much_then_reads(server: Running<Echo>, length: usize) {
    let client = connect(&server.addresses[0]);
    let sent = Arc::new(pattern(length as u64, length));
    let sending = [Sending::start(&client, &sent, Then::Shutdown)];
    wait_until_done_or_stuck(&sending);
    expect_and_end(&client, &sent);
    sending.into_iter().for_each(Sending::join);
    expect_all_ended_by_their_peers(server, 1, length);
}

fn ipv4() -> Running<Echo> {
    Running::echo(Config::default())
}

/// `None` on a machine without IPv6.
fn ipv6() -> Option<Running<Echo>> {
    if TcpListener::bind("[::1]:0").is_err() {
        skip("no IPv6 on this machine");
        return None;
    }
    Some(Running::start(Config::default(), &["[::1]:0"], |_| Some(Echo)))
}

/// A server on a Unix socket, and the directory in which it is.
#[cfg(unix)]
fn unix() -> (Running<Echo>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", directory.path().join("echo.sock").display());
    (Running::start(Config::default(), &[&address], |_| Some(Echo)), directory)
}

#[test]
fn nothing_at_all_is_echoed_and_ended() {
    sends_then_reads(ipv4(), 0);
}

#[test]
fn one_byte_is_echoed_and_ended() {
    sends_then_reads(ipv4(), 1);
}

#[test]
fn fourteen_bytes_are_echoed_and_ended() {
    sends_then_reads(ipv4(), 14);
}

#[test]
fn eight_mebibytes_are_echoed_and_ended() {
    sends_much_then_reads(ipv4(), 8 * MIB);
}

#[test]
fn a_hundred_mebibytes_are_echoed_and_ended() {
    sends_much_then_reads(ipv4(), 100 * MIB);
}

#[test]
fn the_ending_is_the_same_over_ipv6() {
    for length in [0, 1, 14] {
        let Some(server) = ipv6() else { return };
        sends_then_reads(server, length);
    }
    let Some(server) = ipv6() else { return };
    sends_much_then_reads(server, 8 * MIB);
}

#[cfg(unix)]
#[test]
fn the_ending_is_the_same_over_unix_sockets() {
    for length in [0, 1, 14] {
        let (server, _directory) = unix();
        sends_then_reads(server, length);
    }
    let (server, _directory) = unix();
    sends_much_then_reads(server, 8 * MIB);
}

#[test]
fn two_hundred_clients_at_once_are_echoed_and_ended() {
    const CLIENTS: usize = 200;
    let server = ipv4();
    let clients: Vec<Socket> = (0..CLIENTS).map(|_| connect(&server.addresses[0])).collect();
    let sent: Vec<_> = (0..CLIENTS).map(|n| Arc::new(pattern(n as u64, MIB))).collect();
    let sending: Vec<_> = std::iter::zip(&clients, &sent)
        .map(|(client, bytes)| Sending::start(client, bytes, Then::Shutdown))
        .collect();
    wait_until_done_or_stuck(&sending);
    thread::scope(|scope| {
        for (client, sent) in clients.iter().zip(&sent) {
            scope.spawn(|| expect_and_end(client, sent));
        }
    });
    sending.into_iter().for_each(Sending::join);
    expect_all_ended_by_their_peers(server, CLIENTS as u64, CLIENTS * MIB);
}

/// Echo that tells how much of it is queued when its peer ends.
struct TellsEnd(Sender<usize>);

impl Protocol for TellsEnd {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        self.0.send(cx.queued()).unwrap();
        cx.finish();
    }
}

#[test]
fn a_client_that_ends_while_its_echo_is_queued_gets_all_of_it() {
    const PIECE: usize = 16 * KIB;
    let (tell, ended) = channel();
    let server = Running::start(Config::default(), &["127.0.0.1:0"], move |_| Some(TellsEnd(tell.clone())));
    let neighbour = server.connect();
    let pings = Cell::new(0);
    let stays_queued = || {
        // Not only while a busy machine holds the server up: it has served another client many times.
        (0..25).all(|_| {
            util::ping(&neighbour, b"?");
            pings.set(pings.get() + 1);
            let is_sent = || server.stats().bytes_sent == server.stats().bytes_received;
            !holds_within(Duration::from_millis(10), is_sent)
        })
    };
    let mut client = connect(&server.addresses[0]);
    let bytes = pattern(9, 64 * MIB);
    let mut sent = 0;
    // Piece by piece until the socket takes no more and something stays in the server's queue:
    // less than the high-water mark, so that it still reads.
    loop {
        client.write_all(&bytes[sent..sent + PIECE]).unwrap();
        sent += PIECE;
        eventually("the piece has come", || server.stats().bytes_received == (sent + pings.get()) as u64);
        if stays_queued() {
            break;
        }
    }
    client.shutdown(Shutdown::Write).unwrap();
    let queued = ended.recv_timeout(DEADLINE).expect("the end is noticed while the echo is queued");
    assert!(queued > 0, "this shows nothing");
    expect_and_end(&client, &bytes[..sent]);
    assert!(util::finish(&neighbour).is_empty());
    expect_all_ended_by_their_peers(server, 2, sent + pings.get());
}

// B: the server ends while the client still sends.

/// Answers the first bytes with a reply, and ends.
struct ReplyAndFinish(Arc<Vec<u8>>);

impl Protocol for ReplyAndFinish {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        input.take();
        cx.write(&self.0);
        cx.finish();
    }
}

/// Ten clients send 8 MiB each, whatever the server does, and read late.
fn reply_reaches_those_who_still_send(then: Then) {
    let reply = Arc::new(pattern(1, 2 * MIB));
    let request = Arc::new(pattern(2, 8 * MIB));
    let replying = Arc::clone(&reply);
    let server = Running::start(Config::default(), &["127.0.0.1:0"], move |_| {
        Some(ReplyAndFinish(Arc::clone(&replying)))
    });
    let clients: Vec<_> = (0..10).map(|_| connect(&server.addresses[0])).collect();
    let sending: Vec<_> = clients.iter().map(|client| Sending::start(client, &request, then)).collect();
    // Nobody reads, and yet the server takes all that they send.
    sending.into_iter().for_each(Sending::join);
    for client in &clients {
        expect_and_end(client, &reply);
        assert!(client.take_error().unwrap().is_none());
    }
    drop(clients);
    let stats = server.last_stats();
    assert_eq!(stats.closed(CloseReason::Finished), 10, "{stats}");
    assert_eq!(stats.closed_total(), 10, "{stats}");
    assert_eq!(stats.bytes_received, 10 * request.len() as u64, "everything was taken");
    assert_eq!(stats.bytes_sent, 10 * reply.len() as u64, "{stats}");
    assert_eq!(stats.bytes_unsent, 0, "{stats}");
}

#[test]
fn a_reply_is_whole_while_the_client_still_sends_and_then_ends() {
    reply_reaches_those_who_still_send(Then::Shutdown);
}

#[test]
fn a_reply_is_whole_while_the_client_still_sends_and_ends_after_reading_it() {
    reply_reaches_those_who_still_send(Then::StayOpen);
}

#[test]
fn a_drain_in_the_middle_loses_nothing_that_was_sent_before_it() {
    let server = ipv4();
    let client = connect(&server.addresses[0]);
    let bytes = Arc::new(pattern(3, 8 * MIB));
    let sending = [Sending::start(&client, &bytes, Then::StayOpen)];
    // By then all buffers are full, also those from which the server has not read yet.
    wait_until_done_or_stuck(&sending);
    let sent_before = sending[0].sent();
    server.handle.drain();
    wait_until_done_or_stuck(&sending);
    let received = expect_prefix_and_end(&client, &bytes);
    assert!(received >= sent_before, "{received} of {sent_before} bytes");
    sending.into_iter().for_each(Sending::join);
    drop(client);
    let stats = server.join();
    assert_eq!(stats.closed(CloseReason::Drained), 1, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_unsent), (1, 0), "{stats}");
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
    assert_eq!((stats.closed_total(), stats.bytes_unsent), (1, 0), "{stats}");
}

/// A client that does not stop is not waited for: half of the drain's time, then it is told.
#[test]
fn a_drain_ends_a_client_that_sends_on_and_on_without_a_reset() {
    let mut config = Config::default();
    config.drain_timeout = Some(Duration::from_secs(8));
    config.linger_limit_bytes = u64::MAX;
    let server = Running::echo(config);
    let client = connect(&server.addresses[0]);
    // The stream is this block again and again; its length is no multiple of any buffer's.
    let block = Arc::new(pattern(4, MIB + 1));
    let (sent, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let sender = {
        let (mut socket, block) = (client.try_clone().unwrap(), Arc::clone(&block));
        let (sent, ended) = (Arc::clone(&sent), Arc::clone(&ended));
        thread::spawn(move || {
            for piece in block.chunks(16 * KIB).cycle() {
                if ended.load(SeqCst) {
                    break;
                }
                socket.write_all(piece).expect("sending goes on whatever happens");
                sent.fetch_add(piece.len(), SeqCst);
                thread::park_timeout(Duration::from_micros(100));
            }
            // Some more behind the server's FIN, and only then ours.
            socket.write_all(&block).expect("sending goes on behind the server's FIN");
            socket.shutdown(Shutdown::Write).unwrap();
        })
    };
    let reader = {
        let mut socket = client.try_clone().unwrap();
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
            }
        })
    };
    eventually("the transfer is under way", || server.stats().bytes_sent > MIB as u64);
    let sent_before = sent.load(SeqCst);
    server.handle.drain();
    let received = reader.join().unwrap();
    assert!(received >= sent_before, "{received} of {sent_before} bytes");
    ended.store(true, SeqCst);
    sender.join().unwrap();
    let stats = server.join();
    assert_eq!(stats.closed(CloseReason::Drained), 1, "{stats}");
    assert!(stats.bytes_discarded > MIB as u64, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_unsent), (1, 0), "{stats}");
}

/// Echo that is ended for being idle once so many bytes have come, and tells so.
struct TellsIdle {
    missing: usize,
    told: Sender<()>,
}

impl Protocol for TellsIdle {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.missing -= input.bytes().len();
        cx.forward(input);
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_>) {
        assert_eq!(which, Timeout::Idle);
        // A busy machine may have held the client up, and then the idle time begins anew.
        if self.missing == 0 {
            self.told.send(()).unwrap();
            cx.finish();
        }
    }
}

#[test]
fn a_client_that_wakes_up_behind_the_idle_deadline_gets_what_it_was_owed() {
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_millis(500));
    let (told, idle) = channel();
    let server = Running::start(config, &["127.0.0.1:0"], move |_| {
        Some(TellsIdle { missing: 64 * KIB, told: told.clone() })
    });
    let bytes = pattern(5, 8 * MIB);
    let (first, rest) = bytes.split_at(64 * KIB);
    let mut client = connect(&server.addresses[0]);
    client.write_all(first).unwrap();
    idle.recv_timeout(DEADLINE).expect("the idle deadline");
    // Nothing was read so far, and all that follows is too late.
    let sending = Sending::start(&client, &Arc::new(rest.to_vec()), Then::Shutdown);
    sending.join();
    expect_and_end(&client, first);
    let stats = server.last_stats();
    assert_eq!(stats.closed(CloseReason::Idle), 1, "{stats}");
    assert_eq!(stats.closed_total(), 1, "{stats}");
    assert_eq!((stats.bytes_sent, stats.bytes_discarded), (first.len() as u64, rest.len() as u64), "{stats}");
    assert_eq!(stats.bytes_unsent, 0, "{stats}");
}

// One side has ended, the other goes on.

/// Answers the first bytes and shuts its side; then takes on what comes, and tells it at the end.
struct ShutAndListen {
    heard: Vec<u8>,
    all: Sender<Vec<u8>>,
}

impl Protocol for ShutAndListen {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        let was_first = self.heard.is_empty();
        self.heard.extend_from_slice(input.take());
        if was_first {
            assert_ne!(cx.write(b"enough said"), Flow::Closed);
            cx.shutdown_write();
        }
        assert_eq!(cx.write(b"!"), Flow::Closed, "nothing can follow our FIN");
    }

    fn on_eof(&mut self, rest: &mut Input<'_>, cx: &mut Context<'_>) {
        assert!(rest.bytes().is_empty());
        self.all.send(std::mem::take(&mut self.heard)).unwrap();
        cx.finish();
    }
}

#[test]
fn a_protocol_that_shut_its_side_still_hears_the_client_to_the_end() {
    let (all, heard) = channel();
    let server = Running::start(Config::default(), &["127.0.0.1:0"], move |_| {
        Some(ShutAndListen { heard: Vec::new(), all: all.clone() })
    });
    let mut client = connect(&server.addresses[0]);
    let bytes = pattern(6, 4 * MIB);
    client.write_all(&bytes[..1]).unwrap();
    expect_and_end(&client, b"enough said");
    client.write_all(&bytes[1..]).unwrap();
    assert_eq!(server.stats().open, 1);
    client.shutdown(Shutdown::Write).unwrap();
    assert!(heard.recv_timeout(DEADLINE).expect("the end of input") == bytes);
    let stats = server.last_stats();
    assert_eq!(stats.closed(CloseReason::Finished), 1, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_unsent, stats.bytes_discarded), (1, 0, 0), "{stats}");
}

/// Keeps quiet until the client has ended; then speaks at length, and at last by a timer.
struct SpeaksLast {
    speech: Arc<Vec<u8>>,
    spoken: usize,
}

const LAST_WORD: &[u8] = b"that was all";

impl SpeaksLast {
    fn speak(&mut self, cx: &mut Context<'_>) {
        while self.spoken < self.speech.len() {
            let end = self.speech.len().min(self.spoken + 10_000);
            let flow = cx.write(&self.speech[self.spoken..end]);
            assert_ne!(flow, Flow::Closed, "only the client's side has ended");
            self.spoken = end;
            if flow == Flow::Full {
                return;
            }
        }
        cx.set_timer(1, Duration::from_millis(50));
    }
}

impl Protocol for SpeaksLast {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        self.speak(cx);
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        self.speak(cx);
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_>) {
        assert_eq!(which, Timeout::Timer(1));
        cx.write(LAST_WORD);
        cx.finish();
    }
}

#[test]
fn a_protocol_may_go_on_writing_behind_the_clients_end() {
    let speech = Arc::new(pattern(7, 8 * MIB));
    let speaking = Arc::clone(&speech);
    let server = Running::start(Config::default(), &["127.0.0.1:0"], move |_| {
        Some(SpeaksLast { speech: Arc::clone(&speaking), spoken: 0 })
    });
    let mut client = connect(&server.addresses[0]);
    client.write_all(b"your turn").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    expect_and_end(&client, &[&speech, LAST_WORD].concat());
    let stats = server.last_stats();
    assert_eq!(stats.closed(CloseReason::Peer), 1, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_unsent), (1, 0), "{stats}");
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
    assert_eq!((stats.closed_total(), stats.bytes_unsent), (1, 0), "{stats}");
}

/// Those who came before the drain are served, even if there was no place for them yet.
#[test]
fn a_drain_serves_those_who_wait_in_the_backlog() {
    let mut config = Config::default();
    config.max_connections = Some(1);
    let server = Running::echo(config);
    let first = server.connect();
    util::ping(&first, b"the only place is taken");
    let waiting: Vec<Socket> = (0..3).map(|_| connect(&server.addresses[0])).collect();
    for mut client in &waiting {
        client.write_all(b"in the backlog").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    server.handle.drain();
    assert!(util::read_to_end(&first).is_empty());
    assert_eq!(server.stats().accepted, 1);
    drop(first);
    for client in &waiting {
        expect_and_end(client, b"in the backlog");
    }
    let stats = server.join();
    assert_eq!(stats.closed(CloseReason::Drained), 1, "{stats}");
    assert_eq!(stats.closed(CloseReason::Peer), 3, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_unsent), (4, 0), "{stats}");
}

/// Has nothing to say, ever.
struct Mute;

impl Protocol for Mute {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }

    fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
}

#[test]
fn a_protocol_that_leaves_the_clients_end_unanswered_is_ended_for_its_idleness() {
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_millis(300));
    let server = Running::start(config, &["127.0.0.1:0"], |_| Some(Mute));
    let client = connect(&server.addresses[0]);
    client.shutdown(Shutdown::Write).unwrap();
    expect_and_end(&client, b"");
    server.wait_until_idle();
    assert_eq!(server.drain().closed_total(), 1);
}
