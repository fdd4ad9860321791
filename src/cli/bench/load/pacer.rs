//! The open loop: a thread that hands out messages, or connections, when they are due, whether or not the server keeps
//! up.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use echoloop::{ConnectionId, Handle, SendError};

use super::{event::LoadEvent, instruction::Instruction, schedule::Schedule, worker::SharedWorker};
use crate::cli::bench::{clock, measure::measured_time::MeasuredTime};

/// How long to wait for a loop whose mailbox is full.
const MAILBOX_FULL_DELAY: Duration = Duration::from_micros(100);

/// The longest wait, so that a stop is noticed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Messages that were never handed out are counted in at most about this many groups.
const GROUPS: u64 = 1_000;

/// A thread that hands out messages until it is stopped or there are no more.
#[derive(Debug)]
pub(super) struct Pacer {
    begin: Instant,
    /// When the schedule ends, if that is before its time.
    end: Arc<OnceLock<Instant>>,
    stopped: Arc<AtomicBool>,
    /// Returns what is left of the schedule.
    thread: JoinHandle<Schedule>,
}

/// Messages that were due at about the same time and were never handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotHandedOut {
    pub(super) due: Instant,
    pub(super) count: u64,
}

/// What the thread works with.
struct PacerThread {
    workers: Vec<SharedWorker>,
    /// Each message has a connection of its own.
    churn: bool,
    end: Arc<OnceLock<Instant>>,
    stopped: Arc<AtomicBool>,
    /// When the schedule began.
    begin: Instant,
    /// The worker that was served last.
    turn: usize,
}

impl Pacer {
    /// Starts the schedule, which counts from the beginning of the load. What is due before the measured time and is
    /// late when that begins is left out. The workers take turns.
    pub(super) fn start(
        schedule: Schedule,
        begin: Instant,
        measured_time: MeasuredTime,
        churn: bool,
        workers: Vec<SharedWorker>,
        events: Sender<LoadEvent>,
    ) -> io::Result<Self> {
        let (end, stopped) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
        let (its_end, is_stopped) = (Arc::clone(&end), Arc::clone(&stopped));
        let mut pacer = PacerThread { workers, churn, end: its_end, stopped: is_stopped, begin, turn: 0 };
        let thread = thread::Builder::new().name("pacer".to_owned()).spawn(move || {
            wake_precisely();
            let left = pacer.run(schedule, measured_time);
            // Nobody listens when the program is about to end.
            let _ = events.send(LoadEvent::HandedOut);
            left
        })?;
        Ok(Self { begin, end, stopped, thread })
    }

    /// Ends the schedule. What is due before this time is still handed out.
    pub(super) fn end_at(&self, end: Instant) {
        // The first end counts.
        let _ = self.end.set(end);
        self.thread.thread().unpark();
    }

    /// Hands out nothing more. Returns what was due before the end and was not handed out.
    pub(super) fn stop(self) -> Vec<NotHandedOut> {
        self.stopped.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        let mut left = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if let Some(end) = self.end.get() {
            left.end_at(end.saturating_duration_since(self.begin));
        }
        let group = left.left().unwrap_or(0) / GROUPS + 1;
        let mut groups = Vec::new();
        while let Some(due) = left.next() {
            groups.push(NotHandedOut { due: self.begin + due, count: left.take_many(group) });
        }
        groups
    }
}

impl PacerThread {
    /// Hands out until the schedule is over or it is stopped. Returns what is left of the schedule.
    fn run(&mut self, mut schedule: Schedule, measured_time: MeasuredTime) -> Schedule {
        let begin = self.begin;
        let since_begin = |time: Instant| time.saturating_duration_since(begin);
        let mut warmup = Some(since_begin(measured_time.from()));
        let mut has_end = false;
        while !self.is_stopped() {
            let elapsed = since_begin(clock::now());
            if let Some(warmup) = warmup.take_if(|warmup| *warmup <= elapsed) {
                schedule.skip_to(warmup);
            }
            if !has_end && let Some(&end) = self.end.get() {
                has_end = true;
                schedule.end_at(since_begin(end));
            }
            let Some(next) = schedule.next() else { break };
            match schedule.take(elapsed) {
                Some(due) => self.hand_out(begin + due),
                None => thread::park_timeout((next - elapsed).min(WAIT_MAX)),
            }
        }
        schedule
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
