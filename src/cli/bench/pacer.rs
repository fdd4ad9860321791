//! The open loop: hands out messages, or connections, when they are due, whether or not anyone keeps up.

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

use super::{
    clock,
    pace::Schedule,
    worker::{Event, Order, Shared},
};

/// How long a loop whose mailbox is full gets to take some of it.
const FULL_DELAY: Duration = Duration::from_micros(100);

/// Waits are never longer than this, so that a stop is noticed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// A loop as the pacer sees it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) worker: Shared,
    pub(super) handle: Handle<Order>,
}

/// A thread that hands out messages until it is stopped or there are no more.
#[derive(Debug)]
pub(super) struct Pacer {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Round {
    targets: Vec<Target>,
    /// Each message has a connection of its own.
    churn: bool,
    stopped: Arc<AtomicBool>,
    turn: usize,
}

impl Pacer {
    /// From now on, in turn to each of the targets.
    pub(super) fn start(
        schedule: Schedule,
        churn: bool,
        targets: Vec<Target>,
        events: Sender<Event>,
    ) -> io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let mut round = Round { targets, churn, stopped: Arc::clone(&stopped), turn: 0 };
        let thread = thread::Builder::new().name("pacer".to_owned()).spawn(move || {
            wake_in_time();
            round.run(schedule);
            // Nobody listens when the program is about to end.
            let _ = events.send(Event::HandedOut);
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

impl Round {
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

    /// To the next loop in turn that has a connection. If none has, the message is not sent, and the rate that was
    /// achieved says so.
    fn hand_out(&mut self, due: Instant) {
        for _ in 0..self.targets.len() {
            self.turn = (self.turn + 1) % self.targets.len();
            let target = &self.targets[self.turn];
            if self.churn {
                return target.worker.lock().want(due);
            }
            let next = target.worker.lock().next_in_turn();
            if let Some(id) = next {
                return self.send(&target.handle, id, due);
            }
        }
    }

    fn send(&self, handle: &Handle<Order>, id: ConnectionId, due: Instant) {
        while let Err(SendError::Full(_)) = handle.send(id, Order::Send(due)) {
            if self.is_stopped() {
                return;
            }
            thread::park_timeout(FULL_DELAY);
        }
    }
}

/// Asks the system to wake this thread as exactly as it can. Without it Linux may be 50 µs late; see
/// PR_SET_TIMERSLACK in prctl(2).
fn wake_in_time() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)) {
        log::debug!("cannot set the timer slack: {error}");
    }
}
