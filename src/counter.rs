//! A number that one loop writes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer and any number of readers, as cheap as a plain integer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the one loop that owns the counter may call this.
    pub fn add(&self, n: usize) {
        self.0.store(self.get().wrapping_add(n as u64), Ordering::Relaxed);
    }

    /// Sets the value, for a quantity that also goes down.
    pub fn set(&self, n: usize) {
        self.0.store(n as u64, Ordering::Relaxed);
    }

    /// The same for a value that is no count of things in memory.
    pub(crate) fn set_u64(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value of this moment.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
