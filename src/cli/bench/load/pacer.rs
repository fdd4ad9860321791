//! The open loop: a thread that hands out messages, or connections, when they are due, whether or not the server keeps
//! up.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use echoloop::{ConnectionId, Handle, SendError};

use super::{event::LoadEvent, instruction::Instruction, schedule::Schedule, worker::SharedWorker};
use crate::cli::bench::clock;

/// How long to wait for a loop whose mailbox is full.
const MAILBOX_FULL_DELAY: Duration = Duration::from_micros(100);

/// The longest wait, so that a stop is noticed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// A thread that hands out messages until it is stopped or there are no more.
#[derive(Debug)]
pub(super) struct Pacer {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What the thread works with.
struct PacerThread {
    workers: Vec<SharedWorker>,
    /// Each message has a connection of its own.
    churn: bool,
    stopped: Arc<AtomicBool>,
    /// The worker that was served last.
    turn: usize,
}

impl Pacer {
    /// Starts the schedule now. The workers take turns.
    pub(super) fn start(
        schedule: Schedule,
        churn: bool,
        workers: Vec<SharedWorker>,
        events: Sender<LoadEvent>,
    ) -> io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let mut pacer = PacerThread { workers, churn, stopped: Arc::clone(&stopped), turn: 0 };
        let thread = thread::Builder::new().name("pacer".to_owned()).spawn(move || {
            wake_precisely();
            pacer.run(schedule);
            // Nobody listens when the program is about to end.
            let _ = events.send(LoadEvent::HandedOut);
        })?;
        Ok(Self { stopped, thread })
    }

    /// Hands out nothing more.
    pub(super) fn stop(self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

impl PacerThread {
    fn run(&mut self, mut schedule: Schedule) {
        let begin = clock::now();
        while let Some(next) = schedule.next().filter(|_| !self.is_stopped()) {
            let elapsed = begin.elapsed();
            if let Some(due) = schedule.take(elapsed) {
                self.hand_out(begin + due);
            } else {
                thread::park_timeout((next - elapsed).min(WAIT_MAX));
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Hands a message to the next worker in turn that has a connection. If none has, the message is not sent, and the
    /// achieved rate is lower than the requested one.
    fn hand_out(&mut self, due: Instant) {
        for _ in 0..self.workers.len() {
            self.turn = (self.turn + 1) % self.workers.len();
            let worker = &self.workers[self.turn];
            if self.churn {
                return worker.lock().want_connection(due);
            }
            let next = worker.lock().next_in_turn();
            if let Some(id) = next {
                return self.send(worker.handle(), id, due);
            }
        }
    }

    fn send(&self, handle: &Handle<Instruction>, id: ConnectionId, due: Instant) {
        while let Err(SendError::Full(_)) = handle.send(id, Instruction::Send { due }) {
            if self.is_stopped() {
                return;
            }
            thread::park_timeout(MAILBOX_FULL_DELAY);
        }
    }
}

/// Asks the system to wake this thread as precisely as it can. By default Linux may be 50 µs late; see
/// PR_SET_TIMERSLACK in prctl(2).
fn wake_precisely() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)) {
        log::debug!("cannot set the timer slack: {error}");
    }
}
