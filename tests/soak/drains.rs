//! Drains at random moments, while clients of every kind are in the midst of what they do: no stream looks whole that
//! is not, and the exit status is 1 exactly when someone was cut off.
//!
//! `ECHOLOOP_SOAK_DRAINS=50` drains so many servers of one worker, and so many of two.

use std::{
    env, fmt,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use socket2::SockRef;

use crate::{
    client::{CHUNK, is_reset},
    kinds::{millis, pause},
    seed,
    summary::Summary,
    util::{DEADLINE, Program, eventually, pattern, unless_interrupted},
    workers::PERIOD,
};

const DRAIN: Duration = Duration::from_secs(3);

/// A system that has everything says so a little later: Linux delays the acknowledgement of a FIN by some 40 ms where its
/// program does not read on, and the machine may be held up.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// A client of each of these kinds at least is there when the drain begins.
const CLIENTS: [Kind; 14] = [
    Kind::Pings,
    Kind::Pings,
    Kind::Pings,
    Kind::Hogs,
    Kind::Hogs,
    Kind::ReadsSlowly,
    Kind::ReadsSlowly,
    Kind::ReadsLate,
    Kind::ReadsLate,
    Kind::HalfClosesAndReadsLate,
    Kind::HalfClosesAndReadsLate,
    Kind::HalfClosesAndReadsSlowly,
    Kind::Churns,
    Kind::Churns,
];

#[test]
fn no_drain_at_a_random_moment_makes_a_stream_look_whole_that_is_not() {
    let _alone = crate::ALONE.lock();
    let seed = seed();
    let drains = env::var("ECHOLOOP_SOAK_DRAINS").map_or(2, |count| count.parse().unwrap());
    println!("{drains} drains with 1 worker and with 2, with ECHOLOOP_SOAK_SEED={seed}");
    thread::scope(|scope| {
        for workers in 1..=2 {
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed + workers);
                let mut cut_off = 0;
                for number in 1..=drains {
                    cut_off += u32::from(drain(workers, number, &mut rng.fork()));
                }
                println!("{workers} workers: {drains} drains, in {cut_off} of them someone was cut off");
            });
        }
    });
}

/// Whether someone was cut off.
fn drain(workers: u64, number: u32, rng: &mut Rng) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    command.args(["serve", "127.0.0.1:0", "--drain-timeout", &format!("{}s", DRAIN.as_secs())]);
    command.args(["--workers", &workers.to_string()]).env("RUST_LOG", "warn");
    let mut server = Program::spawn(command);
    // In every other one all are fast enough, unless the machine is held up.
    let round = Round::new(rng.u64(..), server.listening(), number.is_multiple_of(2));
    let mut kinds = CLIENTS.to_vec();
    if !round.is_hasty && rng.bool() {
        kinds.push(Kind::NeverReads);
    }
    let before_signal = millis(rng, 50..800);
    let begin = Instant::now();
    let (signalled, status) = thread::scope(|scope| {
        for kind in kinds {
            let (round, mut rng) = (&round, rng.fork());
            scope.spawn(move || kind.run(round, &mut rng));
        }
        pause(before_signal);
        round.stopping.store(true, SeqCst);
        let signalled = Instant::now();
        server.signal("TERM");
        let status = server.wait(DEADLINE);
        round.has_ended.store(true, SeqCst);
        (signalled, status)
    });
    let line = server.line();
    println!("{workers} workers, drain {number}, after {before_signal:?}, {:?}: {line}", begin.elapsed());
    let was_cut_off = round.check(&Summary::parse(&line), signalled + DRAIN);
    assert_eq!(status.code(), Some(i32::from(was_cut_off)), "{line}");
    was_cut_off
}

/// One server, from its start to its end, and what its clients saw of it.
struct Round {
    address: SocketAddr,
    /// Two periods of the stream that all clients send.
    stream: Vec<u8>,
    /// Whether all clients do what they can to be ready in time.
    is_hasty: bool,
    /// From before the signal on.
    stopping: AtomicBool,
    /// Whether the program has ended.
    has_ended: AtomicBool,
    seen: Mutex<Vec<Seen>>,
}

/// What a client saw of its connection.
struct Seen {
    kind: Kind,
    sent: usize,
    /// What it had sent before the server was told to stop.
    promised: usize,
    received: usize,
    /// Whether it ended clean; if not, by a reset.
    is_clean: bool,
    /// Whether it connected when the server was told to stop already.
    is_late: bool,
    /// When its socket was closed.
    closed: Instant,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, sent, promised, received, is_clean, is_late, closed: _ } = self;
        let end = if *is_clean { "a clean end" } else { "a reset" };
        let late = if *is_late { ", late" } else { "" };
        write!(f, "{kind:?} ({end} after {received} of {sent} bytes, {promised} before the signal{late})")
    }
}

impl Round {
    fn new(seed: u64, address: SocketAddr, is_hasty: bool) -> Self {
        Self {
            address,
            stream: pattern(seed, PERIOD).repeat(2),
            is_hasty,
            stopping: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            seen: Mutex::new(Vec::new()),
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// The clients have seen what the server counted. Returns whether it cut someone off. Its deadline was not before
    /// this one.
    fn check(&self, summary: &Summary, deadline: Instant) -> bool {
        let seen = self.seen.lock().unwrap();
        let count = |wanted: &dyn Fn(&Seen) -> bool| seen.iter().filter(|seen| wanted(seen)).count() as u64;
        let cut_off = summary.ended("drain timeout").sum::<u64>();
        let resets = seen.iter().filter(|seen| !seen.is_clean).map(Seen::to_string).collect::<Vec<_>>();
        println!("    reset: {}", resets.join(", "));
        let reset = count(&|seen| !seen.is_clean);
        let reset_with_loss = count(&|seen| !seen.is_clean && seen.received < seen.promised);
        // A client that comes at the last moment may find that nobody listens any more. One that got everything, and
        // sent on behind the server's end until the drain was over, meets a closed socket.
        let may_be_reset =
            count(&|seen| !seen.is_clean && seen.is_late) + summary.ended("linger").sum::<u64>();
        // One whose system had everything in time may have said so too late.
        let may_be_whole = count(&|seen| seen.is_clean && seen.closed + LAST_MOMENT > deadline);
        assert!(
            reset_with_loss <= cut_off && cut_off <= reset + may_be_whole && reset <= cut_off + may_be_reset,
            "{cut_off} cut off, {resets:?} reset, {may_be_whole} whole at the last moment"
        );
        if cut_off == 0 {
            assert_eq!(summary.undelivered, 0);
            let received = seen.iter().map(|seen| seen.received as u64).sum::<u64>();
            assert_eq!(summary.sent, received, "more was sent than came");
        }
        cut_off > 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Sends a message when the last has come back, on and on.
    Pings,
    /// Sends and reads on and on, with so much in flight.
    Hogs,
    /// Sends as much as goes, reads it slowly but steadily, and does so again.
    ReadsSlowly,
    /// Sends as much as goes, and reads some time after the drain has begun.
    ReadsLate,
    /// The same with its end behind it.
    HalfClosesAndReadsLate,
    HalfClosesAndReadsSlowly,
    /// One short connection after another.
    Churns,
    /// Not until the program has ended.
    NeverReads,
}

impl Kind {
    fn run(self, round: &Round, rng: &mut Rng) {
        if self != Self::Churns {
            return self.run_once(round, rng);
        }
        while !round.has_ended.load(SeqCst) {
            self.run_once(round, rng);
        }
    }

    fn run_once(self, round: &Round, rng: &mut Rng) {
        let is_late = round.is_stopping();
        let Some(client) = Client::connect(round, rng) else {
            // Nobody listens any more.
            assert!(round.is_stopping(), "refused before the signal");
            return pause(Duration::from_millis(10));
        };
        let end = match self {
            Self::Pings => client.pings(rng, usize::MAX),
            Self::Hogs => client.hogs(rng),
            Self::ReadsSlowly => client.reads_slowly(rng),
            Self::ReadsLate => client.reads_late(rng),
            Self::HalfClosesAndReadsLate => client.half_closes_and_reads_late(rng),
            Self::HalfClosesAndReadsSlowly => client.half_closes_and_reads_slowly(rng),
            Self::Churns => {
                let count = rng.usize(0..5);
                client.pings(rng, count)
            }
            Self::NeverReads => client.never_reads(),
        };
        let (sent, promised, received) =
            (client.sent.load(SeqCst), client.promised.load(SeqCst), client.received.load(SeqCst));
        // Its system says with its end what it has received.
        drop(client);
        let (is_clean, closed) = (end.is_ok(), Instant::now());
        match end {
            Ok(()) => assert!(
                (promised..=sent).contains(&received),
                "{self:?}: a clean end after {received} bytes of {sent}, {promised} of them before the signal"
            ),
            Err(error) => assert!(
                is_reset(&error) && round.is_stopping(),
                "{self:?}: {error} after {received} of {sent} bytes"
            ),
        }
        round.seen.lock().unwrap().push(Seen {
            kind: self,
            sent,
            promised,
            received,
            is_clean,
            is_late,
            closed,
        });
    }
}

/// One connection. Its results are errors where it is reset, and `Ok` where the stream ends.
struct Client<'a> {
    round: &'a Round,
    stream: TcpStream,
    start: usize,
    sent: AtomicUsize,
    /// What it had sent before the server was told to stop, and so has to get back.
    promised: AtomicUsize,
    received: AtomicUsize,
    has_ended: AtomicBool,
}

impl<'a> Client<'a> {
    /// `None` where nobody listens.
    fn connect(round: &'a Round, rng: &mut Rng) -> Option<Self> {
        let stream = match TcpStream::connect(round.address) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused || is_reset(&error) => return None,
            Err(error) => panic!("{error}"),
        };
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        if !round.is_hasty && rng.bool() {
            SockRef::from(&stream).set_recv_buffer_size(1 << rng.u32(11..=16)).unwrap();
        }
        Some(Self {
            round,
            stream,
            start: rng.usize(0..PERIOD),
            sent: AtomicUsize::new(0),
            promised: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
        })
    }

    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let at = (self.start + at) % PERIOD;
        &self.round.stream[at..at + length]
    }

    fn send_some(&self, most: usize) -> io::Result<usize> {
        let sent = self.sent.load(SeqCst);
        let result = unless_interrupted(|| (&self.stream).write(self.bytes(sent, most.min(CHUNK))));
        let sent = sent + *result.as_ref().unwrap_or(&0);
        self.sent.store(sent, SeqCst);
        if !self.round.is_stopping() {
            self.promised.store(sent, SeqCst);
        }
        result
    }

    fn send(&self, count: usize) -> io::Result<()> {
        let end = self.sent.load(SeqCst) + count;
        while self.sent.load(SeqCst) < end {
            self.send_some(end - self.sent.load(SeqCst))?;
        }
        Ok(())
    }

    /// Sends until neither side takes any more, or so much.
    fn fill(&self, most: usize) -> io::Result<()> {
        self.stream.set_nonblocking(true).unwrap();
        let end = self.sent.load(SeqCst) + most;
        let (mut looks, mut result) = (0, Ok(()));
        eventually("it can send no more", || {
            match self.send_some(end - self.sent.load(SeqCst)) {
                Ok(_) => looks = 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => looks += 1,
                Err(error) => result = Err(error),
            }
            looks > 10 || self.sent.load(SeqCst) == end || result.is_err()
        });
        self.stream.set_nonblocking(false).unwrap();
        result
    }

    /// Reads once; 0 is the end.
    fn read(&self, most: usize) -> io::Result<usize> {
        let mut buffer = vec![0; most.min(CHUNK)];
        let n = unless_interrupted(|| (&self.stream).read(&mut buffer))?;
        let received = self.received.load(SeqCst);
        assert!(buffer[..n] == *self.bytes(received, n), "other bytes came than were sent, from {received}");
        self.received.store(received + n, SeqCst);
        Ok(n)
    }

    /// Reads until so much has come, at a rate if there is one. Returns whether the stream has ended.
    fn read_to(&self, received: usize, bytes_per_second: Option<usize>) -> io::Result<bool> {
        let (begin, before) = (Instant::now(), self.received.load(SeqCst));
        loop {
            let now = self.received.load(SeqCst);
            if now >= received {
                return Ok(false);
            }
            if let Some(rate) = bytes_per_second {
                let due = Duration::from_secs_f64((now - before) as f64 / rate as f64);
                pause(due.saturating_sub(begin.elapsed()));
            }
            let most = bytes_per_second.map_or(CHUNK, |_| 8 << 10);
            if self.read(most.min(received - now))? == 0 {
                return Ok(true);
            }
        }
    }

    fn read_to_end(&self, bytes_per_second: Option<usize>) -> io::Result<()> {
        self.read_to(usize::MAX, bytes_per_second).map(|_| ())
    }

    fn end(&self) -> io::Result<()> {
        match self.stream.shutdown(Shutdown::Write) {
            // A reset was here first.
            Err(error) if error.kind() == ErrorKind::NotConnected => Err(ErrorKind::ConnectionReset.into()),
            result => result,
        }
    }

    fn pings(&self, rng: &mut Rng, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let (before, length) = (self.sent.load(SeqCst), rng.usize(1..2000));
            self.send(length)?;
            if self.read_to(before + length, None)? {
                // The server said its end first, and has never seen this one.
                assert_eq!(self.received.load(SeqCst), before, "half a message of {length} bytes came back");
                return Ok(());
            }
        }
        self.end()?;
        self.read_to_end(None)
    }

    fn hogs(&self, rng: &mut Rng) -> io::Result<()> {
        let in_flight_max = if self.round.is_hasty { 16 << 10 } else { 1 << rng.u32(14..=23) };
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                while !self.has_ended.load(SeqCst) {
                    // An echo may be here before it is noted that it was sent.
                    let in_flight = self.sent.load(SeqCst).saturating_sub(self.received.load(SeqCst));
                    if in_flight < in_flight_max {
                        self.send_some(in_flight_max - in_flight)?;
                    } else {
                        thread::park_timeout(Duration::from_micros(50));
                    }
                }
                Ok(())
            });
            let end = self.read_to_end(None);
            self.has_ended.store(true, SeqCst);
            // Whoever meets the reset first is told; to the other it looks like an end.
            let sent = sender.join().expect("the sender does not panic");
            end.and(sent)
        })
    }

    /// How many bytes a second a slow reader reads.
    fn rate(&self, rng: &mut Rng) -> usize {
        if self.round.is_hasty { rng.usize(2 << 20..8 << 20) } else { rng.usize(256 << 10..4 << 20) }
    }

    fn reads_slowly(&self, rng: &mut Rng) -> io::Result<()> {
        let rate = self.rate(rng);
        loop {
            self.fill(2 << 20)?;
            if self.round.is_stopping() {
                return self.read_to_end(Some(rate));
            }
            if self.read_to(self.sent.load(SeqCst), Some(rate))? {
                return Ok(());
            }
        }
    }

    fn reads_late(&self, rng: &mut Rng) -> io::Result<()> {
        self.fill(rng.usize(1..=8 << 20))?;
        self.wait_for_stop();
        pause(millis(rng, 0..1500));
        self.read_to_end(None)
    }

    fn half_closes_and_reads_slowly(&self, rng: &mut Rng) -> io::Result<()> {
        self.fill(rng.usize(1..=4 << 20))?;
        self.end()?;
        self.read_to_end(Some(self.rate(rng)))
    }

    fn half_closes_and_reads_late(&self, rng: &mut Rng) -> io::Result<()> {
        self.fill(rng.usize(1..=4 << 20))?;
        self.end()?;
        self.wait_for_stop();
        pause(millis(rng, 0..1500));
        self.read_to_end(None)
    }

    fn never_reads(&self) -> io::Result<()> {
        self.fill(32 << 20)?;
        eventually("the program has ended", || self.round.has_ended.load(SeqCst));
        self.read_to_end(None)
    }

    fn wait_for_stop(&self) {
        eventually("the server is told to stop", || self.round.is_stopping());
    }
}
