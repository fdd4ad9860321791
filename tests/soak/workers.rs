//! The threads that are one client after another, and what all clients count together.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{
    client::{Client, ENDINGS, Ending},
    holdings::Holdings,
    kinds::Kind,
    pulse::Pulse,
    summary::Summary,
    util::{Program, eventually, pattern},
};

/// Threads that are one client after another. A burst is many connections in one.
const WORKERS: usize = 32;

/// The length of the stream that all clients send, each from a place of its own and over and over: a prime, so
/// that no buffer's size is a multiple of it.
pub(crate) const PERIOD: usize = 1_048_573;

/// What the clients have in common.
pub(crate) struct Soak {
    seed: u64,
    pub(crate) address: SocketAddr,
    /// Two periods of the stream.
    stream: Vec<u8>,
    pub(crate) pulse: Pulse,
    pub(crate) burst: Mutex<()>,
    stop: AtomicBool,
    failed: AtomicBool,
    /// Connections made.
    pub(crate) connections: AtomicU64,
    /// Sockets of clients that are open.
    pub(crate) open: AtomicUsize,
    /// Bytes that came back and were right.
    pub(crate) verified: AtomicU64,
    /// Bytes sent after the server's FIN.
    pub(crate) dripped: AtomicUsize,
    kinds: [AtomicU64; Kind::ALL.len()],
    pub(crate) endings: [AtomicU64; ENDINGS],
}

impl Soak {
    pub(crate) fn new(seed: u64, address: SocketAddr) -> Self {
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
    pub(crate) fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let at = at % PERIOD;
        &self.stream[at..at + length]
    }

    /// What the server has once it has served someone and nobody is left.
    pub(crate) fn base(&self, server: &Program) -> Holdings {
        let before = Holdings::of(server).descriptors;
        self.serve_one();
        eventually("the first client is gone", || Holdings::of(server).descriptors == before);
        Holdings::of(server)
    }

    /// A server that is well answers.
    pub(crate) fn serve_one(&self) {
        let mut client = Client::connect(self, &mut Rng::with_seed(self.seed));
        let pong = client.ping(1000);
        client.finish(pong);
    }

    /// Runs the clients, and says now and then how they are.
    pub(crate) fn run(&self, server: &Program, time: Duration) {
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

    pub(crate) fn progress(&self, server: &Program) -> String {
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
    pub(crate) fn expect_balance(&self, summary: &Summary) {
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
        let discarded_max = self.dripped.load(SeqCst) as u64;
        let received = summary.sent..=summary.sent + summary.undelivered + discarded_max;
        assert!(
            received.contains(&summary.received) || held_up > 0,
            "{} not in {received:?}",
            summary.received
        );
        assert!(summary.sent >= self.verified.load(SeqCst), "{} bytes sent", summary.sent);
    }
}
