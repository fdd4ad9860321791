//! Peers that reset, stall, drip or vanish: each costs only itself, and is counted under its own name.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test")]

mod util;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use echoloop::{CloseReason, Config, Context, Input, Protocol, Stats};
use util::{
    DEADLINE, Running, connect, eventually, finish, is_wine, pattern, ping, read_to_end, read_to_reset,
    reset, until_nothing_moves,
};

/// Echo that can be told to end first: a peer that begins with [`GOODBYE`] is answered with it, and FIN.
#[derive(Default)]
struct EchoOrFinish {
    has_begun: bool,
}

const GOODBYE: &[u8] = b"GOODBYE";

impl Protocol for EchoOrFinish {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        let is_goodbye = !self.has_begun && input.bytes() == GOODBYE;
        self.has_begun = true;
        cx.forward(input);
        if is_goodbye {
            cx.finish();
        }
    }
}

fn start(config: Config) -> Running<EchoOrFinish> {
    Running::start(config, &["127.0.0.1:0"], |_| Some(EchoOrFinish::default()))
}

/// A well-behaved client that pings all the time.
#[derive(Default)]
struct Neighbour {
    pongs: AtomicU64,
}

impl Neighbour {
    fn ping_until(&self, stop: &AtomicBool, stream: &TcpStream) {
        while !stop.load(SeqCst) {
            ping(stream, b"meanwhile");
            self.pongs.fetch_add(1, SeqCst);
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Waits until it has had another answer to a ping that it sent after this call.
    fn is_served(&self) {
        let before = self.pongs.load(SeqCst);
        eventually("the neighbour is served", || self.pongs.load(SeqCst) >= before + 2);
    }
}

/// Runs `misbehave` while a well-behaved client pings: before, all the time, and after.
fn beside_a_neighbour<R>(address: SocketAddr, misbehave: impl FnOnce(&Neighbour) -> R) -> R {
    let stream = connect(address);
    ping(&stream, b"before");
    let neighbour = Neighbour::default();
    let stop = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        scope.spawn(|| neighbour.ping_until(&stop, &stream));
        let _stop = SetOnDrop(&stop);
        misbehave(&neighbour)
    });
    ping(&stream, b"after");
    assert!(finish(&stream).is_empty(), "nothing more comes");
    result
}

/// Ends the neighbour's pings even if the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// `count` connections have ended for this reason, and beside them the neighbour by itself.
#[track_caller]
fn expect_cost<P: Protocol + 'static>(server: Running<P>, reason: CloseReason, count: u64) -> Stats {
    let stats = server.last_stats();
    assert_eq!(stats.closed(reason), count, "{stats}");
    assert_eq!(stats.closed(CloseReason::Peer), 1, "the neighbour's: {stats}");
    assert_eq!(stats.closed_total(), count + 1, "{stats}");
    assert_eq!(stats.panics, 0);
    stats
}

/// `count` connections were reset while nothing was sent, which does not show everywhere.
#[track_caller]
fn expect_idle_resets<P: Protocol + 'static>(server: Running<P>, count: u64) -> Stats {
    if !is_wine() {
        return expect_cost(server, CloseReason::Reset, count);
    }
    let stats = server.last_stats();
    let reasons = [CloseReason::Reset, CloseReason::Peer, CloseReason::Finished];
    assert_eq!(reasons.map(|reason| stats.closed(reason)).iter().sum::<u64>(), count + 1, "{stats}");
    assert_eq!(stats.closed_total(), count + 1, "{stats}");
    stats
}

/// Sends without reading until nothing goes out any more: the server's queue, its input and all
/// buffers on the way are full. Returns what was sent.
fn flood(mut stream: &TcpStream, neighbour: &Neighbour) -> Vec<u8> {
    let all = pattern(1, 64 << 20);
    let mut sent = 0;
    stream.set_nonblocking(true).unwrap();
    until_nothing_moves(|| {
        neighbour.is_served();
        match stream.write(&all[sent..]) {
            Ok(0) => panic!("memory is not bounded"),
            Ok(n) => sent += n,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return false;
            }
        }
        true
    });
    stream.set_nonblocking(false).unwrap();
    all[..sent].to_vec()
}

/// Asks the server to end first, and sees its FIN.
fn be_finished(mut stream: &TcpStream) {
    stream.write_all(GOODBYE).unwrap();
    assert_eq!(read_to_end(stream), GOODBYE);
}

// Resets.

#[test]
fn a_reset_of_an_idle_connection_costs_only_itself() {
    let server = start(Config::default());
    beside_a_neighbour(server.address(), |_| {
        for _ in 0..10 {
            let peer = server.connect();
            ping(&peer, b"all is well");
            reset(peer);
        }
        eventually("the resets are noticed", || server.stats().open == 1);
    });
    let stats = expect_idle_resets(server, 10);
    assert_eq!(stats.bytes_undelivered, 0);
}

#[test]
fn a_reset_in_the_middle_of_a_transfer_costs_only_itself() {
    let server = start(Config::default());
    beside_a_neighbour(server.address(), |neighbour| {
        for _ in 0..3 {
            let peer = server.connect();
            flood(&peer, neighbour);
            reset(peer);
        }
        eventually("the resets are noticed", || server.stats().open == 1);
    });
    let stats = expect_cost(server, CloseReason::ResetUndelivered, 3);
    assert!(stats.bytes_undelivered >= 3, "{stats}");
}

/// Closing with the echo unread makes the peer's kernel send the reset.
#[test]
fn a_close_without_reading_is_a_reset_too() {
    let server = start(Config::default());
    beside_a_neighbour(server.address(), |neighbour| {
        let peer = server.connect();
        flood(&peer, neighbour);
        drop(peer);
        eventually("the reset is noticed", || server.stats().open == 1);
    });
    expect_cost(server, CloseReason::ResetUndelivered, 1);
}

#[test]
fn a_reset_behind_our_fin_costs_only_itself() {
    let server = start(Config::default());
    beside_a_neighbour(server.address(), |_| {
        let peer = server.connect();
        be_finished(&peer);
        reset(peer);
        eventually("the reset is noticed", || server.stats().open == 1);
    });
    let stats = expect_idle_resets(server, 1);
    assert_eq!(stats.bytes_undelivered, 0);
}

/// Echo that blocks its loop at the byte `B` until the test lets it go on.
struct Blocks {
    blocked: Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Protocol for Blocks {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        if input.bytes() == b"B" {
            self.blocked.send(()).unwrap();
            self.go_on.lock().unwrap().recv_timeout(DEADLINE).expect("the test lets it go on");
        }
        cx.forward(input);
    }
}

#[test]
fn a_reset_before_accept_costs_only_itself() {
    let ((blocked, is_blocked), (go_on, may_go_on)) = (channel(), channel());
    let may_go_on = Arc::new(Mutex::new(may_go_on));
    let server = Running::start(Config::default(), &["127.0.0.1:0"], move |_| {
        Some(Blocks { blocked: blocked.clone(), go_on: Arc::clone(&may_go_on) })
    });
    let mut blocker = server.connect();
    ping(&blocker, b"before");
    blocker.write_all(b"B").unwrap();
    is_blocked.recv_timeout(DEADLINE).expect("the loop is blocked");
    let (mut patient, mut impatient) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        impatient.push(server.connect());
        patient.push(server.connect());
    }
    for mut peer in &patient {
        peer.write_all(b"in the backlog").unwrap();
    }
    impatient.into_iter().for_each(reset);
    assert_eq!(server.stats().accepted, 1, "all the others are in the backlog");
    go_on.send(()).unwrap();
    for mut peer in &patient {
        let mut echo = [0; 14];
        peer.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"in the backlog");
        assert!(finish(peer).is_empty());
    }
    assert_eq!(finish(&blocker), b"B");
    let stats = server.last_stats();
    // Some systems do not hand out connections that are reset by then.
    assert_eq!(stats.closed(CloseReason::Reset) + stats.accept_aborted, 20, "{stats}");
    assert_eq!(stats.closed(CloseReason::Peer), 21, "{stats}");
    assert_eq!(stats.closed_total() + stats.accept_aborted, 41, "{stats}");
}

// Those that do not read.

#[test]
fn a_peer_that_never_reads_is_cut_off_by_the_write_timeout_and_can_tell() {
    let mut config = Config::default();
    // Longer than the flood tries to send more: a reset is told once, here to the one who reads.
    config.write_timeout = Some(Duration::from_secs(5));
    let server = start(config);
    beside_a_neighbour(server.address(), |neighbour| {
        let peer = server.connect();
        let sent = flood(&peer, neighbour);
        eventually("the write stall", || server.stats().closed(CloseReason::WriteStall) == 1);
        let received = read_to_reset(&peer);
        assert!(sent.starts_with(&received), "what came is right as far as it goes");
        assert!(received.len() < sent.len());
    });
    let stats = expect_cost(server, CloseReason::WriteStall, 1);
    assert!(stats.bytes_undelivered > 0, "{stats}");
}

/// More than the buffers on the way hold.
const MUCH: usize = 48 << 20;

/// Answers with so much.
struct SaysMuch;

impl Protocol for SaysMuch {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        input.take();
        cx.write(&vec![b'x'; MUCH]);
        cx.finish();
    }
}

/// Unlike the flood above, nothing is left unread here that would make the kernel reset.
#[test]
fn a_truncated_reply_never_looks_whole() {
    let mut config = Config::default();
    config.write_timeout = Some(Duration::from_millis(300));
    let server = Running::start(config, &["127.0.0.1:0"], |_| Some(SaysMuch));
    let mut peer = server.connect();
    peer.write_all(b"?").unwrap();
    eventually("the write stall", || server.stats().closed(CloseReason::WriteStall) == 1);
    assert!(read_to_reset(&peer).len() < MUCH);
    server.wait_until_idle();
    assert!(server.stats().bytes_undelivered > 0);
}

// Those that do not end after our FIN.

#[test]
fn a_peer_that_drips_behind_our_fin_is_left_at_the_linger_timeout() {
    let mut config = Config::default();
    config.linger_silence_timeout = Some(Duration::from_secs(2));
    config.linger_timeout = Some(Duration::from_secs(5));
    let server = start(config);
    beside_a_neighbour(server.address(), |_| {
        let mut peer = server.connect();
        be_finished(&peer);
        eventually("the linger timeout", || {
            // Fails once the server has closed.
            let _ = peer.write(b"drip");
            thread::park_timeout(Duration::from_millis(20));
            server.stats().open == 1
        });
    });
    let stats = expect_cost(server, CloseReason::LingerTimeout, 1);
    assert!(stats.bytes_discarded > 0, "{stats}");
}

#[test]
fn a_peer_that_is_silent_behind_our_fin_is_left_at_the_linger_silence() {
    let mut config = Config::default();
    config.linger_silence_timeout = Some(Duration::from_millis(200));
    let server = start(config);
    beside_a_neighbour(server.address(), |_| {
        let peer = server.connect();
        be_finished(&peer);
        eventually("the linger silence", || server.stats().open == 1);
        drop(peer);
    });
    expect_cost(server, CloseReason::LingerSilence, 1);
}

#[test]
fn a_peer_that_floods_behind_our_fin_is_left_at_the_linger_byte_cap() {
    const CAP: u64 = 64 << 10;
    let mut config = Config::default();
    config.linger_limit_bytes = CAP;
    let read_buffer = config.read_buffer_bytes as u64;
    let server = start(config);
    beside_a_neighbour(server.address(), |_| {
        let mut peer = server.connect();
        be_finished(&peer);
        if is_wine() {
            // Which does not always tell one who waits to send of a reset.
            peer.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        peer.write_all(&pattern(1, 8 << 20)).expect_err("the server does not listen for ever");
        eventually("the linger byte cap", || server.stats().open == 1);
    });
    let stats = expect_cost(server, CloseReason::LingerBytes, 1);
    assert!(stats.bytes_discarded > CAP, "{stats}");
    assert!(stats.bytes_discarded <= CAP + read_buffer, "{stats}");
}

#[test]
fn a_peer_that_sends_as_much_as_the_linger_byte_cap_ends_well() {
    const CAP: usize = 64 << 10;
    let mut config = Config::default();
    config.linger_limit_bytes = CAP as u64;
    let server = start(config);
    beside_a_neighbour(server.address(), |_| {
        let mut peer = server.connect();
        be_finished(&peer);
        peer.write_all(&pattern(1, CAP)).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        eventually("the end", || server.stats().open == 1);
    });
    let stats = expect_cost(server, CloseReason::Finished, 1);
    assert_eq!(stats.bytes_discarded, CAP as u64, "{stats}");
}

// Slow and silent ones.

#[test]
fn a_byte_now_and_then_is_not_idle() {
    const IDLE: Duration = Duration::from_millis(750);
    let mut config = Config::default();
    config.idle_timeout = Some(IDLE);
    let server = start(config);
    // A client that is itself held up for so long proves nothing, and tries again.
    let proven = (0..10).any(|_| {
        let mut peer = server.connect();
        let begin = Instant::now();
        let (mut last, mut longest_gap) = (begin, Duration::ZERO);
        while begin.elapsed() < 3 * IDLE {
            thread::park_timeout(Duration::from_millis(50));
            let sent = peer.write_all(b".").and_then(|()| peer.read_exact(&mut [0]));
            longest_gap = longest_gap.max(last.elapsed());
            last = Instant::now();
            if longest_gap > IDLE / 2 {
                return false;
            }
            sent.expect("not idle");
        }
        assert!(finish(&peer).is_empty());
        true
    });
    assert!(proven, "this machine is too busy to tell");
    server.wait_until_idle();
    assert_eq!(server.stats().closed(CloseReason::Peer), server.stats().closed_total());
}

#[test]
fn a_peer_that_says_nothing_is_ended_at_the_idle_timeout() {
    const IDLE: Duration = Duration::from_secs(2);
    let mut config = Config::default();
    config.idle_timeout = Some(IDLE);
    let server = start(config);
    beside_a_neighbour(server.address(), |_| {
        let begin = Instant::now();
        let peer = server.connect();
        assert!(read_to_end(&peer).is_empty(), "a clean end");
        assert!(begin.elapsed() >= IDLE - Duration::from_millis(100), "not before its time");
        drop(peer);
        eventually("the end", || server.stats().open == 1);
    });
    expect_cost(server, CloseReason::Idle, 1);
}

#[test]
fn an_urgent_byte_is_echoed_in_line() {
    let server = start(Config::default());
    beside_a_neighbour(server.address(), |_| {
        let mut peer = server.connect();
        for round in 0..10 {
            peer.write_all(b"before ").unwrap();
            if round % 2 == 0 {
                // Also when what came before it was read already.
                peer.read_exact(&mut [0; 7]).unwrap();
            }
            assert_eq!(socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap(), 1);
            peer.write_all(b" after").unwrap();
            let mut echo = vec![0; if round % 2 == 0 { 7 } else { 14 }];
            peer.read_exact(&mut echo).unwrap();
            assert!(b"before ! after".ends_with(&echo), "{}", String::from_utf8_lossy(&echo));
        }
        assert!(finish(&peer).is_empty());
        eventually("the end", || server.stats().open == 1);
    });
    server.wait_until_idle();
    assert_eq!(server.stats().closed(CloseReason::Peer), 2);
}

#[test]
fn an_urgent_byte_alone_is_echoed() {
    let server = start(Config::default());
    let mut peer = server.connect();
    assert_eq!(socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap(), 1);
    let mut echo = [0];
    peer.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"!");
}

// Many.

#[test]
fn ten_thousand_that_connect_and_close_leave_nothing_behind() {
    const THREADS: u64 = 4;
    const EACH: u64 = 2_500;
    /// Less than the backlog holds: one that overflows makes clients wait for seconds.
    const AHEAD_MAX: u64 = 1_000;
    let server = start(Config::default());
    let begun = AtomicU64::new(0);
    beside_a_neighbour(server.address(), |_| {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        let ahead = || begun.load(SeqCst).saturating_sub(server.stats().closed_total());
                        eventually("the server keeps up", || ahead() < AHEAD_MAX);
                        begun.fetch_add(1, SeqCst);
                        drop(server.connect());
                    }
                });
            }
        });
        eventually("all have ended", || server.stats().open == 1);
        let peer = server.connect();
        ping(&peer, b"as before");
        assert!(finish(&peer).is_empty());
    });
    let stats = server.last_stats();
    let expected = THREADS * EACH + 2;
    assert_eq!((stats.accepted, stats.closed(CloseReason::Peer)), (expected, expected), "{stats}");
    assert_eq!((stats.closed_total(), stats.open, stats.bytes_undelivered), (expected, 0, 0), "{stats}");
}
