//! The places for connections, which all workers share, and who has how many.

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
    workers: Vec<Worker>,
}

struct Worker {
    /// How many places its connections have.
    has: AtomicUsize,
    /// Whether it waits for one.
    waits: AtomicBool,
    waker: Arc<dyn Wake>,
}

/// A worker takes connections from another one that has more by one and this part of its own, so that few connections
/// are spread evenly, and many are not moved about for nothing.
const SLACK_SHARE: usize = 8;

impl Places {
    /// So many places, for workers that are woken by these.
    pub fn new(total: usize, wakers: impl IntoIterator<Item = Arc<dyn Wake>>) -> Arc<Self> {
        let workers = wakers.into_iter().map(|waker| Worker {
            has: AtomicUsize::new(0),
            waits: AtomicBool::new(false),
            waker,
        });
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

    /// How many the connections of a worker have; all that are taken if it is alone.
    pub fn has(&self, worker: u32) -> usize {
        match self.workers.get(worker as usize) {
            Some(worker) => worker.has.load(Ordering::Relaxed),
            None => self.total - self.free(),
        }
    }

    /// How many are free at this moment.
    pub fn free(&self) -> usize {
        self.total.saturating_sub(self.taken.load(Ordering::SeqCst))
    }

    /// Takes a place for a connection of this worker. If there is none, the worker is woken when there may be one.
    pub fn take(&self, worker: u32) -> bool {
        let is_taken = self.reserve(worker);
        if is_taken {
            self.assign(worker);
        }
        is_taken
    }

    /// The same for a connection that may come: the place is nobody's until it does. Where all workers wait at one
    /// socket, each tries to accept the one client that has come.
    pub fn reserve(&self, worker: u32) -> bool {
        if self.try_reserve() {
            return true;
        }
        self.wait(worker);
        // One may have come free before that was known.
        self.try_reserve()
    }

    fn try_reserve(&self) -> bool {
        let more = |taken| (taken < self.total).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// A place that was reserved is for a connection of this worker.
    pub fn assign(&self, worker: u32) {
        if let Some(worker) = self.workers.get(worker as usize) {
            worker.has.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From now on the worker is woken, once, when a place comes free. To be called before it looks how many there are.
    pub fn wait(&self, worker: u32) {
        if let Some(worker) = self.workers.get(worker as usize) {
            worker.waits.store(true, Ordering::SeqCst);
        }
    }

    /// Gives back the place of a connection of this worker.
    pub fn give_back(&self, worker: u32) {
        if let Some(worker) = self.workers.get(worker as usize) {
            worker.has.fetch_sub(1, Ordering::Relaxed);
        }
        self.release();
    }

    /// Gives back a place that was reserved for a connection that did not come.
    pub fn release(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        for worker in &self.workers {
            if worker.waits.load(Ordering::SeqCst) && worker.waits.swap(false, Ordering::SeqCst) {
                worker.wake();
            }
        }
    }

    /// Who should have the connection that this worker has just accepted, if that is not the worker itself: the one
    /// with the fewest, if they are fewer by far. Its place is still nobody's.
    pub fn with_fewer(&self, worker: u32) -> Option<u32> {
        let has = |worker: &Worker| worker.has.load(Ordering::Relaxed);
        let own = has(self.workers.get(worker as usize)?);
        let (least, other) = (0..).zip(&self.workers).map(|(n, worker)| (has(worker), n)).min()?;
        (other != worker && own > least + least / SLACK_SHARE).then_some(other)
    }

    /// A place of one worker is another's from now on.
    pub fn pass(&self, from: u32, to: u32) {
        self.workers[to as usize].has.fetch_add(1, Ordering::Relaxed);
        self.workers[from as usize].has.fetch_sub(1, Ordering::Relaxed);
    }

    /// Has a worker look what there is to do.
    pub fn wake(&self, worker: u32) {
        self.workers[worker as usize].wake();
    }
}

impl Worker {
    fn wake(&self) {
        // A loop that has ended waits for nothing.
        let _ = self.waker.wake();
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
        places.give_back(0);
        places.give_back(0);
        assert_eq!(wakes.map(|waker| waker.0.load(Ordering::SeqCst)), [0, 1]);
        assert!(places.take(1));
    }

    #[test]
    fn the_next_connection_is_for_the_worker_with_the_fewest() {
        let places = Places::new(1000, [(); 3].map(|()| -> Arc<dyn Wake> { Arc::new(()) }));
        let has = |counts: [usize; 3]| {
            for (n, count) in (0..).zip(counts) {
                places.workers[n as usize].has.store(count, Ordering::Relaxed);
            }
            places.with_fewer(0)
        };
        assert_eq!(has([0, 0, 0]), None);
        assert_eq!(has([1, 1, 0]), Some(2));
        assert_eq!(has([2, 1, 1]), Some(1));
        assert_eq!(has([1, 2, 2]), None);
        assert_eq!(has([90, 80, 85]), None, "they are nearly as many");
        assert_eq!(has([91, 80, 85]), Some(1));
        assert_eq!(Places::alone(1).with_fewer(0), None);
    }

    #[test]
    fn who_tries_to_accept_in_vain_has_no_more_by_it() {
        let places = Places::new(3, [(); 2].map(|()| -> Arc<dyn Wake> { Arc::new(()) }));
        assert!(places.take(0));
        // One client has come, and both try to accept it.
        assert!(places.reserve(0) && places.reserve(1));
        assert_eq!(places.with_fewer(0), Some(1));
        places.assign(1);
        places.release();
        assert_eq!((places.free(), places.has(0), places.has(1)), (1, 1, 1));
    }

    #[test]
    fn a_place_that_is_passed_on_is_given_back_by_the_other() {
        let places = Places::new(1, [(); 2].map(|()| -> Arc<dyn Wake> { Arc::new(()) }));
        assert!(places.take(0));
        places.pass(0, 1);
        assert!(!places.take(0) && !places.take(1));
        places.give_back(1);
        let has = || [0, 1].map(|n: usize| places.workers[n].has.load(Ordering::Relaxed));
        assert_eq!((places.free(), has()), (1, [0, 0]));
    }

    #[test]
    fn there_are_never_more_than_there_may_be() {
        let places = Places::new(3, []);
        let work = || {
            for _ in 0..1000 {
                if places.take(0) {
                    assert!(places.taken.load(Ordering::SeqCst) <= 3);
                    places.give_back(0);
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
