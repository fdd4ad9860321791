//! The places for connections, which all workers share.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crate::system::Wake;

/// How many connections there may be at once, over all workers. A worker that finds no place is woken when one is free.
pub struct Places {
    total: usize,
    taken: AtomicUsize,
    workers: Vec<Waiting>,
}

/// Whether a worker waits for a place, and how it is told.
struct Waiting {
    waits: AtomicBool,
    waker: Arc<dyn Wake>,
}

impl Places {
    /// So many places, for workers that are woken by these.
    pub fn new(total: usize, wakers: impl IntoIterator<Item = Arc<dyn Wake>>) -> Arc<Self> {
        let workers = wakers.into_iter().map(|waker| Waiting { waits: AtomicBool::new(false), waker });
        Arc::new(Self { total, taken: AtomicUsize::new(0), workers: workers.collect() })
    }

    /// For a single worker, which need not be woken: whatever frees a place is its own doing.
    pub fn alone(total: usize) -> Arc<Self> {
        Self::new(total, [])
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Whether other loops take them too.
    pub fn are_shared(&self) -> bool {
        self.workers.len() > 1
    }

    /// How many are free at this moment.
    pub fn free(&self) -> usize {
        self.total.saturating_sub(self.taken.load(Ordering::SeqCst))
    }

    /// Takes a place. If there is none, the worker is woken when there may be one.
    pub fn take(&self, worker: u32) -> bool {
        if self.try_take() {
            return true;
        }
        self.wait(worker);
        // One may have come free before that was known.
        self.try_take()
    }

    /// From now on the worker is woken, once, when a place comes free. To be called before it looks how many there are.
    pub fn wait(&self, worker: u32) {
        if let Some(waiting) = self.workers.get(worker as usize) {
            waiting.waits.store(true, Ordering::SeqCst);
        }
    }

    fn try_take(&self) -> bool {
        let more = |taken| (taken < self.total).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Gives a place back.
    pub fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        for waiting in &self.workers {
            if waiting.waits.load(Ordering::SeqCst) && waiting.waits.swap(false, Ordering::SeqCst) {
                // A loop that has ended waits for nothing.
                let _ = waiting.waker.wake();
            }
        }
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places")
            .field("total", &self.total)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Default)]
    struct CountWakes(AtomicUsize);

    impl Wake for CountWakes {
        fn wake(&self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[test]
    fn who_finds_no_place_is_woken_once_when_one_is_free() {
        let wakes = [(); 2].map(|()| Arc::new(CountWakes::default()));
        let places = Places::new(2, wakes.clone().map(|waker| -> Arc<dyn Wake> { waker }));
        assert!(places.take(0) && places.take(0) && !places.take(1));
        assert_eq!(places.free(), 0);
        places.give_back();
        places.give_back();
        assert_eq!(wakes.map(|waker| waker.0.load(Ordering::SeqCst)), [0, 1]);
        assert!(places.take(1));
    }

    #[test]
    fn there_are_never_more_than_there_may_be() {
        let places = Places::new(3, []);
        let work = || {
            for _ in 0..1000 {
                if places.take(0) {
                    assert!(places.taken.load(Ordering::SeqCst) <= 3);
                    places.give_back();
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(work);
            }
        });
        assert_eq!(places.free(), 3);
    }
}
