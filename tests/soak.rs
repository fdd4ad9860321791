//! Clients of every kind, mixed at random for a chosen time, against the program; then nothing is left of them.
//!
//! `ECHOLOOP_SOAK=30m cargo test --release --test soak -- --nocapture` soaks for half an hour, without the variable
//! it is a few seconds. `ECHOLOOP_SOAK_SEED` repeats the choices of a run that failed, not its timing.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    env, fs,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

use fastrand::Rng;
use socket2::SockRef;
use util::{DEADLINE, Program, connect, eventually, holds_within, pattern, procfs::resident_bytes, reset};

/// Threads that are one client after another. A burst is many connections in one.
const WORKERS: usize = 32;

/// Connections of a burst, of which there is one at a time.
const BURST: usize = 100;

const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_TIMEOUT: Duration = Duration::from_secs(3);

/// A machine that holds a thread up for so long may be why a client was timed out.
const HELD_UP: Duration = Duration::from_millis(500);

/// What is owed comes sooner. A server that forgets something remembers it only at the next deadline.
const PATIENCE: Duration = Duration::from_millis(1500);

/// More than the kernel takes without anyone reading, which is 3 MiB or so, and then the server has to queue.
const LARGE: usize = 8 << 20;

/// The length of the stream that all clients send, each from a place of its own and over and over: a prime, so
/// that no buffer's size is a multiple of it.
const PERIOD: usize = 1_048_573;

/// The most that is handed to one write, and taken by one read.
const CHUNK: usize = 64 << 10;

#[test]
fn after_clients_of_every_kind_nothing_is_left_of_them() {
    let seed =
        env::var("ECHOLOOP_SOAK_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let time = env::var("ECHOLOOP_SOAK").map_or(Duration::from_secs(5), |time| duration(&time));
    println!("soaking for {time:?} with ECHOLOOP_SOAK_SEED={seed}");
    let mut server = start();
    let soak = Soak::new(seed, server.listening());
    let base = soak.base(&server);
    println!("base: {base}");
    soak.run(&server, time);
    println!("all clients are gone after {:?}: {}", soak.pulse.begin.elapsed(), soak.progress(&server));
    soak.serve_one();
    given_back(&server, &base);
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    let summary = server.line();
    println!("{summary}");
    soak.expect_balance(&Summary::parse(&summary));
}

/// `30m`, `90s`.
fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).unwrap_or_default();
    let seconds =
        [("s", 1), ("m", 60), ("h", 3600)].into_iter().find_map(|(name, n)| (name == unit).then_some(n));
    Duration::from_secs(number.parse::<u64>().unwrap() * seconds.expect("a time like 30m or 90s"))
}

fn start() -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    command.args(["serve", "127.0.0.1:0", "--idle-timeout", "2s", "--write-timeout", "2s"]);
    command.args(["--linger-timeout", "3s"]).env("RUST_LOG", "warn");
    Program::spawn(command)
}

/// What the server has.
struct Holdings {
    resident: u64,
    descriptors: usize,
}

impl Holdings {
    fn of(server: &Program) -> Self {
        let pid = server.child.id();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the server lives").count();
        Self { resident: resident_bytes(pid), descriptors }
    }

    /// Base + 10 % or + 512 KiB, whichever is more.
    fn resident_max(&self) -> u64 {
        self.resident + (self.resident / 10).max(512 << 10)
    }
}

impl std::fmt::Display for Holdings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} KiB resident, {} descriptors", self.resident >> 10, self.descriptors)
    }
}

/// Waits until the server has what it had before the clients came.
fn given_back(server: &Program, base: &Holdings) {
    let is_back = |now: &Holdings| now.descriptors == base.descriptors && now.resident <= base.resident_max();
    let is_back = holds_within(DEADLINE, || is_back(&Holdings::of(server)));
    let now = Holdings::of(server);
    println!("after all left: {now}; base: {base}");
    assert!(is_back, "after all left: {now}; base: {base}");
}

// The kinds of clients.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SendsThenReads,
    PingsAndPongs,
    ReadsLate,
    ResetsIdle,
    ResetsMidTransfer,
    ClosesAtOnce,
    ClosesUnread,
    SaysNothing,
    DripsBehindFin,
    NeverReads,
    SendsUrgent,
    SendsByteByByte,
    ReadsSlowly,
    Floods,
    Bursts,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::SendsThenReads,
        Self::PingsAndPongs,
        Self::ReadsLate,
        Self::ResetsIdle,
        Self::ResetsMidTransfer,
        Self::ClosesAtOnce,
        Self::ClosesUnread,
        Self::SaysNothing,
        Self::DripsBehindFin,
        Self::NeverReads,
        Self::SendsUrgent,
        Self::SendsByteByByte,
        Self::ReadsSlowly,
        Self::Floods,
        Self::Bursts,
    ];

    fn run(self, soak: &Soak, rng: &mut Rng) {
        match self {
            Self::SendsThenReads => sends_then_reads(soak, rng),
            Self::PingsAndPongs => pings_and_pongs(soak, rng),
            Self::ReadsLate => reads_late(soak, rng),
            Self::ResetsIdle => resets_idle(soak, rng),
            Self::ResetsMidTransfer => resets_mid_transfer(soak, rng),
            Self::ClosesAtOnce => closes_at_once(soak, rng),
            Self::ClosesUnread => closes_unread(soak, rng),
            Self::SaysNothing => says_nothing(soak, rng),
            Self::DripsBehindFin => drips_behind_fin(soak, rng),
            Self::NeverReads => never_reads(soak, rng),
            Self::SendsUrgent => sends_urgent(soak, rng),
            Self::SendsByteByByte => sends_byte_by_byte(soak, rng),
            Self::ReadsSlowly => reads_slowly(soak, rng),
            Self::Floods => floods(soak, rng),
            Self::Bursts => bursts(soak, rng),
        }
    }
}

/// Small messages are as likely as large ones.
fn size(rng: &mut Rng, max_log2: u32) -> usize {
    let max = 1 << rng.u32(0..=max_log2);
    rng.usize(0..=max)
}

fn millis(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

fn pause(time: Duration) {
    let begin = Instant::now();
    while let Some(rest) = time.checked_sub(begin.elapsed()).filter(|rest| !rest.is_zero()) {
        thread::park_timeout(rest);
    }
}

fn sends_then_reads(soak: &Soak, rng: &mut Rng) {
    let (mut client, size) = (Client::connect(soak, rng), size(rng, 23));
    if size <= CHUNK {
        let sent = client.send(size).and_then(|()| client.fin());
        let end = client.read_to_end(|_| {});
        client.expect_whole(size, sent.and(end));
    } else {
        client.transfer(size, || {}, |_| {});
    }
}

fn pings_and_pongs(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    let result = (0..rng.usize(10..1000)).try_for_each(|_| client.ping(rng.usize(1..2000)));
    client.finish(result);
}

fn reads_late(soak: &Soak, rng: &mut Rng) {
    let client = Client::connect(soak, rng);
    let late = millis(rng, 100..1000);
    client.transfer(rng.usize(0..=LARGE), || pause(late), |_| {});
}

fn resets_idle(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    if rng.bool() {
        client.ping(rng.usize(1..2000)).unwrap_or_else(|error| client.held_up("ping", &error));
    }
    client.reset();
}

fn resets_mid_transfer(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.send_unread(1 + size(rng, 22), millis(rng, 1..100));
    if rng.bool() {
        client.read_what_came();
    }
    client.reset();
}

fn closes_at_once(soak: &Soak, rng: &mut Rng) {
    Client::connect(soak, rng).close(Ending::Peer);
}

/// A reset if the echo has come by then.
fn closes_unread(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.send_unread(1 + size(rng, 22), millis(rng, 1..100));
    client.close(Ending::PeerOrReset);
}

fn says_nothing(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.see_idle_timeout();
    client.close(Ending::Idle);
}

fn drips_behind_fin(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.see_idle_timeout();
    let begin = Instant::now();
    let mut result = Ok(());
    eventually("the linger timeout", || {
        pause(millis(rng, 5..50));
        result = client.send(1);
        result.is_err()
    });
    let took = begin.elapsed();
    assert!(took >= LINGER_TIMEOUT - Duration::from_millis(500) || client.was_held_up(), "after {took:?}");
    soak.dripped.fetch_add(client.sent, SeqCst);
    client.close(Ending::LingerTimeout);
}

fn never_reads(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.stream.set_nonblocking(true).unwrap();
    let mut all_sent = 0;
    eventually("the write timeout", || {
        let result = client.send(CHUNK);
        all_sent = client.sent;
        assert!(all_sent < 64 << 20, "memory is not bounded: {all_sent} bytes");
        match result {
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                assert!(is_reset(&error), "{error}");
                true
            }
            Ok(()) | Err(_) => false,
        }
    });
    client.read_what_came();
    assert!(client.received < all_sent, "all {all_sent} bytes came back, and yet it was reset");
    client.close(Ending::WriteStall);
}

fn sends_urgent(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    let result = (0..rng.usize(1..30)).try_for_each(|_| {
        client.ping(rng.usize(0..100))?;
        client.send(rng.usize(0..100))?;
        client.send_urgent()?;
        client.send(rng.usize(0..100))?;
        client.read_to(client.sent)
    });
    client.finish(result);
}

fn sends_byte_by_byte(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    let result = (0..rng.usize(1..50)).try_for_each(|_| {
        pause(millis(rng, 0..30));
        client.send(1)?;
        // Sometimes several are under way.
        if rng.bool() { client.read_to(client.sent) } else { Ok(()) }
    });
    client.finish(result);
}

/// The server has to queue, and the end finds it with a queue.
/// Fast enough that some of it goes out within every write timeout.
fn reads_slowly(soak: &Soak, rng: &mut Rng) {
    let client = Client::connect(soak, rng);
    let bytes_per_ms = rng.u64(4_000..16_000);
    let pace = |n: usize| pause(Duration::from_micros(n as u64 * 1000 / bytes_per_ms));
    client.transfer(rng.usize(0..=LARGE), || {}, pace);
}

fn floods(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    let (time, begin) = (millis(rng, 200..1500), Instant::now());
    let mut writer = client.writer();
    let mut end = Ok(());
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            while begin.elapsed() < time {
                writer.send(CHUNK)?;
            }
            writer.fin()
        });
        end = client.read_to_end(|_| {});
        sender.join().expect("the sender does not panic")
    });
    client.expect_whole(writer.sent, sent.and(end));
}

fn bursts(soak: &Soak, rng: &mut Rng) {
    let Ok(_one_at_a_time) = soak.burst.try_lock() else {
        return closes_at_once(soak, rng);
    };
    let mut clients: Vec<_> = (0..BURST).map(|_| Client::connect(soak, rng)).collect();
    let share = rng.usize(1..=clients.len());
    let rest = clients.split_off(share);
    let sent: Vec<_> = clients.iter_mut().map(|client| client.send(rng.usize(0..4000))).collect();
    for client in rest {
        if rng.bool() { client.reset() } else { client.close(Ending::Peer) }
    }
    for (client, sent) in clients.into_iter().zip(sent) {
        client.finish(sent);
    }
}

// One client.

/// How a connection must have ended as the server counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Peer,
    Reset,
    PeerOrReset,
    Idle,
    LingerTimeout,
    WriteStall,
    /// The machine was held up, and a deadline ran out that should not.
    HeldUp,
}

const ENDINGS: usize = 7;

/// One connection, the bytes it has sent and those it got back.
struct Client<'a> {
    soak: &'a Soak,
    stream: TcpStream,
    begin: Instant,
    /// Where its stream begins in that of all.
    start: usize,
    sent: usize,
    received: usize,
    counted: bool,
}

impl<'a> Client<'a> {
    /// Some with small buffers.
    fn connect(soak: &'a Soak, rng: &mut Rng) -> Self {
        let begin = Instant::now();
        let stream = connect(soak.address);
        soak.connections.fetch_add(1, SeqCst);
        soak.open.fetch_add(1, SeqCst);
        if rng.u32(0..4) == 0 {
            let socket = SockRef::from(&stream);
            socket.set_send_buffer_size(16 << 10).unwrap();
            socket.set_recv_buffer_size(16 << 10).unwrap();
        }
        let start = rng.usize(0..PERIOD);
        Self { soak, stream, begin, start, sent: 0, received: 0, counted: false }
    }

    /// For the thread that sends while another reads. It is not counted.
    fn writer(&self) -> Self {
        let stream = self.stream.try_clone().unwrap();
        self.soak.open.fetch_add(1, SeqCst);
        Self {
            soak: self.soak,
            stream,
            begin: self.begin,
            start: self.start,
            sent: 0,
            received: 0,
            counted: true,
        }
    }

    /// Counts the bytes that were sent also where it fails.
    fn send(&mut self, count: usize) -> io::Result<()> {
        let end = self.sent + count;
        while self.sent < end {
            let bytes = self.soak.bytes(self.start + self.sent, (end - self.sent).min(CHUNK));
            match self.stream.write(bytes) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send_urgent(&mut self) -> io::Result<()> {
        let byte = self.soak.bytes(self.start + self.sent, 1);
        self.sent += SockRef::from(&self.stream).send_out_of_band(byte)?;
        Ok(())
    }

    fn fin(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Reads once and checks what came, whatever the client has deserved.
    fn read(&mut self, max: usize) -> io::Result<usize> {
        let mut buffer = [0; CHUNK];
        let asked = Instant::now();
        let n = self.stream.read(&mut buffer[..max.min(CHUNK)])?;
        let waited = asked.elapsed();
        let in_time = waited < PATIENCE || self.sent == 0 || self.soak.pulse.missed_since(asked);
        assert!(in_time, "after {} bytes the next {n} came only after {waited:?}", self.received);
        let (at, expected) = (self.received, self.soak.bytes(self.start + self.received, n));
        assert!(buffer[..n] == *expected, "other bytes came than were sent, from {at} to {}", at + n);
        self.received += n;
        self.soak.verified.fetch_add(n as u64, SeqCst);
        Ok(n)
    }

    /// Reads until so many bytes have come.
    fn read_to(&mut self, received: usize) -> io::Result<()> {
        while self.received < received {
            if self.read(received - self.received)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Tells `between` after each read how much came.
    fn read_to_end(&mut self, mut between: impl FnMut(usize)) -> io::Result<()> {
        loop {
            match self.read(CHUNK)? {
                0 => return Ok(()),
                n => between(n),
            }
        }
    }

    /// Of a client that is cut off or cuts off: what comes is right as far as it goes.
    fn read_what_came(&mut self) {
        self.stream.set_nonblocking(true).unwrap();
        match self.read_to_end(|_| {}) {
            Ok(()) => {}
            Err(error) => assert!(error.kind() == ErrorKind::WouldBlock || is_reset(&error), "{error}"),
        }
        assert!(self.received <= self.sent, "{} bytes came, and {} were sent", self.received, self.sent);
    }

    fn ping(&mut self, count: usize) -> io::Result<()> {
        self.send(count)?;
        self.read_to(self.sent)
    }

    /// Sends all, then FIN, on a thread of its own, and reads to the end: all of it.
    fn transfer(mut self, size: usize, before: impl FnOnce(), between: impl FnMut(usize)) {
        let mut writer = self.writer();
        self.sent = size;
        let mut end = Ok(());
        let sent = thread::scope(|scope| {
            let sender = scope.spawn(|| writer.send(size).and_then(|()| writer.fin()));
            before();
            end = self.read_to_end(between);
            sender.join().expect("the sender does not panic")
        });
        self.expect_whole(size, sent.and(end));
    }

    /// Sends until so much is sent or the time is over, and reads nothing.
    fn send_unread(&mut self, count: usize, time: Duration) {
        self.stream.set_nonblocking(true).unwrap();
        let begin = Instant::now();
        while self.sent < count && begin.elapsed() < time {
            match self.send(count - self.sent) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => pause(Duration::from_millis(1)),
                Err(error) => return self.held_up("send", &error),
            }
        }
    }

    /// The server's FIN, when it is due and not before.
    fn see_idle_timeout(&mut self) {
        self.read_to_end(|_| {})
            .unwrap_or_else(|error| panic!("no clean end of an idle connection: {error}"));
        assert_eq!(self.received, 0, "bytes came that were never sent");
        let took = self.begin.elapsed();
        assert!(took >= IDLE_TIMEOUT - Duration::from_millis(100), "idle after {took:?}");
        assert!(took < 2 * IDLE_TIMEOUT || self.was_held_up(), "idle only after {took:?}");
    }

    /// FIN, then receive to the end: all that was sent.
    fn finish(mut self, so_far: io::Result<()>) {
        let end = so_far.and_then(|()| self.fin()).and_then(|()| self.read_to_end(|_| {}));
        let sent = self.sent;
        self.expect_whole(sent, end);
    }

    /// A well-behaved client gets everything, and a clean end.
    fn expect_whole(self, sent: usize, end: io::Result<()>) {
        if end.is_ok() && self.received == sent {
            return self.close(Ending::Peer);
        }
        let (received, took) = (self.received, self.begin.elapsed());
        assert!(self.was_held_up(), "{received} of {sent} bytes came back, then {end:?}, after {took:?}");
        self.close(Ending::HeldUp);
    }

    /// What a client that has done nothing wrong yet may see only if the machine was held up.
    fn held_up(&mut self, what: &str, error: &io::Error) {
        assert!(self.was_held_up(), "{what}: {error}, after {:?}", self.begin.elapsed());
        self.count(Ending::HeldUp);
    }

    fn was_held_up(&self) -> bool {
        self.soak.pulse.missed_since(self.begin)
    }

    fn close(mut self, ending: Ending) {
        self.count(ending);
    }

    fn reset(mut self) {
        self.count(Ending::Reset);
        reset(self.stream.try_clone().unwrap());
    }

    fn count(&mut self, ending: Ending) {
        if !self.counted {
            self.counted = true;
            self.soak.endings[ending as usize].fetch_add(1, SeqCst);
        }
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.soak.open.fetch_sub(1, SeqCst);
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

// All of them.

struct Soak {
    seed: u64,
    address: SocketAddr,
    /// Two periods of the stream.
    stream: Vec<u8>,
    pulse: Pulse,
    burst: Mutex<()>,
    stop: AtomicBool,
    failed: AtomicBool,
    /// Connections made.
    connections: AtomicU64,
    /// Sockets of clients that are open.
    open: AtomicUsize,
    /// Bytes that came back and were right.
    verified: AtomicU64,
    /// Bytes sent after the server's FIN.
    dripped: AtomicUsize,
    kinds: [AtomicU64; Kind::ALL.len()],
    endings: [AtomicU64; ENDINGS],
}

impl Soak {
    fn new(seed: u64, address: SocketAddr) -> Self {
        Self {
            seed,
            address,
            stream: pattern(seed, PERIOD).repeat(2),
            pulse: Pulse::new(),
            burst: Mutex::new(()),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            verified: AtomicU64::new(0),
            dripped: AtomicUsize::new(0),
            kinds: Default::default(),
            endings: Default::default(),
        }
    }

    /// A piece of the endless stream.
    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let at = at % PERIOD;
        &self.stream[at..at + length]
    }

    /// What the server has once it has served someone and nobody is left.
    fn base(&self, server: &Program) -> Holdings {
        let before = Holdings::of(server).descriptors;
        self.serve_one();
        eventually("the first client is gone", || Holdings::of(server).descriptors == before);
        Holdings::of(server)
    }

    /// A server that is well answers.
    fn serve_one(&self) {
        let mut client = Client::connect(self, &mut Rng::with_seed(self.seed));
        let pong = client.ping(1000);
        client.finish(pong);
    }

    /// Runs the clients, and says now and then how they are.
    fn run(&self, server: &Program, time: Duration) {
        let begin = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| self.pulse.beat(&self.stop));
            let workers: Vec<_> = (0..WORKERS).map(|n| self.work(scope, n, begin + time)).collect();
            let mut told = begin;
            while !workers.iter().all(|worker| worker.is_finished()) {
                thread::park_timeout(Duration::from_millis(100));
                if told.elapsed() >= Duration::from_secs(10) {
                    told = Instant::now();
                    println!("{} s: {}", begin.elapsed().as_secs(), self.progress(server));
                }
            }
            self.stop.store(true, SeqCst);
        });
        assert!(!self.failed.load(SeqCst), "clients failed, see above; ECHOLOOP_SOAK_SEED={}", self.seed);
        assert_eq!(self.open.load(SeqCst), 0, "clients are left");
    }

    /// One client after another, the first ones such that there is one of every kind.
    fn work<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        worker: usize,
        until: Instant,
    ) -> thread::ScopedJoinHandle<'scope, ()> {
        scope.spawn(move || {
            let mut rng = Rng::with_seed(self.seed.wrapping_add(worker as u64));
            let mut kind = Kind::ALL[worker % Kind::ALL.len()];
            while Instant::now() < until && !self.failed.load(SeqCst) {
                // What a client draws does not shift what its successors draw.
                let mut its_own = rng.fork();
                if catch_unwind(AssertUnwindSafe(|| kind.run(self, &mut its_own))).is_err() {
                    println!("FAILED: {kind:?} of worker {worker} with ECHOLOOP_SOAK_SEED={}", self.seed);
                    self.failed.store(true, SeqCst);
                }
                self.kinds[kind as usize].fetch_add(1, SeqCst);
                kind = *rng.choice(&Kind::ALL).expect("there are some");
            }
        })
    }

    fn progress(&self, server: &Program) -> String {
        let kinds =
            Kind::ALL.iter().map(|&kind| format!("{kind:?} {}", self.kinds[kind as usize].load(SeqCst)));
        format!(
            "{} connections, {} open, {} MiB verified, {} held up; server: {}; {}",
            self.connections.load(SeqCst),
            self.open.load(SeqCst),
            self.verified.load(SeqCst) >> 20,
            self.ended(Ending::HeldUp),
            Holdings::of(server),
            kinds.collect::<Vec<_>>().join(", "),
        )
    }

    fn ended(&self, ending: Ending) -> u64 {
        self.endings[ending as usize].load(SeqCst)
    }

    /// The server has counted what the clients have counted.
    fn expect_balance(&self, summary: &Summary) {
        assert_eq!(summary.connections, self.connections.load(SeqCst), "connections");
        assert_eq!(summary.ended("").sum::<u64>(), summary.connections, "every connection has ended");
        let (held_up, either) = (self.ended(Ending::HeldUp), self.ended(Ending::PeerOrReset));
        let mut known = 0;
        for (ending, reason, slack) in [
            (Ending::Peer, "peer", either),
            (Ending::Reset, "reset", either),
            (Ending::Idle, "idle", 0),
            (Ending::LingerTimeout, "linger timeout", 0),
            (Ending::WriteStall, "write stall", 0),
        ] {
            let (least, counted) = (self.ended(ending), summary.ended(reason).sum::<u64>());
            let most = least + slack + held_up;
            assert!((least..=most).contains(&counted), "{reason}: {counted}, not {least} to {most}");
            known += counted;
        }
        assert!(summary.connections - known <= held_up, "connections ended for other reasons");
        let owed = summary.sent + summary.unsent;
        let discarded_max = self.dripped.load(SeqCst) as u64;
        let received = owed..=owed + discarded_max;
        assert!(
            received.contains(&summary.received) || held_up > 0,
            "{} not in {received:?}",
            summary.received
        );
        assert!(summary.sent >= self.verified.load(SeqCst), "{} bytes sent", summary.sent);
    }
}

/// Notices when the machine holds threads up.
struct Pulse {
    begin: Instant,
    /// When it last beat, in ms from the beginning.
    last: AtomicU64,
    /// When it last had missed a beat.
    missed: AtomicU64,
}

impl Pulse {
    fn new() -> Self {
        Self { begin: Instant::now(), last: AtomicU64::new(0), missed: AtomicU64::new(0) }
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.begin).as_millis()).unwrap()
    }

    fn beat(&self, stop: &AtomicBool) {
        self.last.store(self.millis(Instant::now()), SeqCst);
        while !stop.load(SeqCst) {
            thread::park_timeout(Duration::from_millis(10));
            if self.is_late() {
                self.missed.store(self.millis(Instant::now()), SeqCst);
            }
            self.last.store(self.millis(Instant::now()), SeqCst);
        }
    }

    fn is_late(&self) -> bool {
        let since = self.millis(Instant::now()).saturating_sub(self.last.load(SeqCst));
        Duration::from_millis(since) > HELD_UP
    }

    fn missed_since(&self, at: Instant) -> bool {
        self.missed.load(SeqCst) > self.millis(at) || self.is_late()
    }
}

/// The server's last line: `N connections, N bytes received, N bytes sent, N bytes unsent; REASON N, …`.
struct Summary {
    connections: u64,
    received: u64,
    sent: u64,
    unsent: u64,
    reasons: Vec<(String, u64)>,
}

impl Summary {
    fn parse(line: &str) -> Self {
        let (totals, reasons) = line.split_once("; ").expect("totals; reasons");
        let totals: Vec<u64> =
            totals.split(", ").map(|part| part.split(' ').next().unwrap().parse().unwrap()).collect();
        let reason = |part: &str| {
            let (name, count) = part.rsplit_once(' ').expect("a name and a number");
            (name.to_owned(), count.parse().unwrap())
        };
        let [connections, received, sent, unsent] = totals[..] else { panic!("four totals in {line}") };
        Self { connections, received, sent, unsent, reasons: reasons.split(", ").map(reason).collect() }
    }

    /// The numbers of those whose reason's name begins so.
    fn ended<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u64> + 'a {
        self.reasons.iter().filter(move |(reason, _)| reason.starts_with(name)).map(|&(_, count)| count)
    }
}
