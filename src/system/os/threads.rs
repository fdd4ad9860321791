//! Threads for what blocks.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::blocking::{Blocking, Job};

/// Threads that are started when there is work, a bounded number, and end when there was none for a while. Nobody waits
/// for them: a program may end while a host name is still looked up.
#[derive(Clone)]
pub(crate) struct Threads(Arc<Pool>);

struct Pool {
    threads_max: usize,
    jobs_max: usize,
    /// Jobs that wait or are being done.
    jobs: AtomicUsize,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    threads: usize,
    idle: usize,
    started: usize,
}

/// How long a thread waits for work before it ends.
const KEEP: Duration = Duration::from_secs(10);

impl Threads {
    /// At most so many threads, and jobs that wait or are being done.
    pub(crate) fn new(threads_max: usize, jobs_max: usize) -> Self {
        let (jobs, state, work) = (AtomicUsize::new(0), Mutex::default(), Condvar::new());
        Self(Arc::new(Pool { threads_max, jobs_max, jobs, state, work }))
    }
}

impl Blocking for Threads {
    fn reserve(&self) -> bool {
        let Pool { threads_max, jobs_max, jobs, .. } = &*self.0;
        let more = |jobs| if *threads_max > 0 && jobs < *jobs_max { Some(jobs + 1) } else { None };
        jobs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn submit(&self, job: Job) {
        let mut state = self.0.state();
        state.waiting.push_back(job);
        if state.idle >= state.waiting.len() || state.threads >= self.0.threads_max {
            drop(state);
            return self.0.work.notify_one();
        }
        state.threads += 1;
        state.started += 1;
        let name = format!("echoloop-blocking-{}", state.started);
        let pool = Arc::clone(&self.0);
        if let Err(error) = thread::Builder::new().name(name).spawn(move || pool.run()) {
            state.threads -= 1;
            if state.threads == 0 {
                log::warn!("cannot start a thread for what blocks: {error}");
                // Those that wait fail, and say so.
                let lost = std::mem::take(&mut state.waiting);
                drop(state);
                self.0.jobs.fetch_sub(lost.len(), Ordering::Relaxed);
            }
        }
    }
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread does.
    fn run(&self) {
        while let Some(job) = self.next_job() {
            if catch_unwind(AssertUnwindSafe(|| job.run())).is_err() {
                log::error!("work that a protocol left to a thread panicked");
            }
            self.jobs.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Waits for the next job; none if there is none for long: then the thread has ended.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let (after, waited) = self.work.wait_timeout(state, KEEP).unwrap_or_else(PoisonError::into_inner);
            state = after;
            state.idle -= 1;
            if waited.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("jobs", &self.0.jobs).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, mpsc::channel};

    use super::*;

    fn work(work: impl FnOnce() + Send + 'static) -> Job {
        Job::Work(Box::new(work))
    }

    #[test]
    fn jobs_are_done_at_the_same_time_by_so_many_threads_and_no_more() {
        let threads = Threads::new(2, 100);
        let both = Arc::new(Barrier::new(2));
        let (done, ends) = channel();
        for _ in 0..10 {
            assert!(threads.reserve());
            let (both, done) = (Arc::clone(&both), done.clone());
            threads.submit(work(move || {
                both.wait();
                done.send(thread::current().name().map(str::to_owned)).unwrap();
            }));
        }
        drop(done);
        let mut names: Vec<_> = ends.iter().collect();
        assert_eq!(names.len(), 10);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn places_are_bounded_and_given_back_also_by_a_panic() {
        let threads = Threads::new(1, 2);
        let (go, wait) = channel::<()>();
        assert!(threads.reserve() && threads.reserve() && !threads.reserve());
        threads.submit(work(move || wait.recv().unwrap()));
        threads.submit(work(|| std::panic::resume_unwind(Box::new("as the test wants it"))));
        assert!(!threads.reserve());
        go.send(()).unwrap();
        while !threads.reserve() {
            thread::yield_now();
        }
        let (done, end) = channel();
        threads.submit(work(move || done.send(()).unwrap()));
        end.recv().unwrap();
    }

    #[test]
    fn without_threads_nothing_is_taken() {
        assert!(!Threads::new(0, 10).reserve());
    }
}
