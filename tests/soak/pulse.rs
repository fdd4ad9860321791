//! Whether the machine held threads up.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

/// A machine that holds a thread up for so long may be why a client was timed out.
const HELD_UP: Duration = Duration::from_millis(500);

/// Notices when the machine holds threads up.
pub(crate) struct Pulse {
    pub(crate) begin: Instant,
    /// When it last beat, in ms from the beginning.
    last: AtomicU64,
    /// When it last had missed a beat.
    missed: AtomicU64,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self { begin: Instant::now(), last: AtomicU64::new(0), missed: AtomicU64::new(0) }
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.begin).as_millis()).unwrap()
    }

    pub(crate) fn beat(&self, stop: &AtomicBool) {
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

    pub(crate) fn missed_since(&self, at: Instant) -> bool {
        self.missed.load(SeqCst) > self.millis(at) || self.is_late()
    }
}
