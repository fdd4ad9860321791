//! A load of datagrams: to a server that echoes over UDP.
//!
//! A datagram has no connection, so this load has loops of its own: each thread has sockets that are connected to the
//! server, and a poller.
//!
//! ```text
//! worker     a thread: sends what is due, checks what comes back
//! sockets    its sockets
//! flights    datagrams in flight, by their numbers
//! payload    what is in a datagram
//! share      what a worker and the thread that runs the load share
//! ```

mod flights;
mod payload;
mod share;
mod sockets;
mod worker;

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use echoloop::Address;
use mio::{Poll, Token, Waker};

use self::{
    share::{Share, WorkerStage},
    sockets::Sockets,
    worker::DatagramWorker,
};
use super::{
    event::LoadEvent,
    generator::Generator,
    phases::{INTERRUPTED_MAX, interval, start_at},
    schedule::Schedule,
    timetable::Timetable,
};
use crate::cli::{
    bench::{
        clock,
        measure::{
            datagram_counts::DatagramCounts,
            ends::Ends,
            hdr_writer::LatencyLog,
            latencies,
            measured_time::MeasuredTime,
            outcome::{self, ConnectionCounts, Outcome},
            recorder::Recorder,
            samples::Source,
            tally::Tally,
        },
        plan::{Extent, Plan},
    },
    failure::Failure,
};

/// A load of datagrams whose sockets are connected.
#[derive(Debug)]
pub(crate) struct DatagramLoad {
    plan: Arc<Plan>,
    /// Of each worker, until it begins.
    sockets: Vec<(Poll, Sockets)>,
    workers: Workers,
    threads: Vec<JoinHandle<io::Result<()>>>,
    events: Receiver<LoadEvent>,
    sender: Sender<LoadEvent>,
    interval: Duration,
    next_sample: Instant,
}

/// What the workers have measured.
#[derive(Debug, Default)]
struct Workers(Vec<Arc<Share>>);

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// What was waited for has happened, or its time is up.
    Done,
    Interrupted,
    Aborted,
}

/// The token of what wakes a worker. No socket has it.
const WAKER: Token = Token(usize::MAX);

impl DatagramLoad {
    /// Connects the sockets.
    pub(crate) fn start(plan: Plan) -> Result<Self, Failure> {
        let Address::Udp(server) = plan.address else {
            unreachable!("the address is resolved, and one of UDP")
        };
        let mut sockets = Vec::new();
        for number in 0..plan.threads {
            let poll = Poll::new().map_err(|error| cannot_run(&error))?;
            let connected = Sockets::connect(server, plan.connections_of(number), poll.registry());
            sockets.push((poll, connected.map_err(|error| Failure::reach(&plan.address, &error))?));
        }
        let (sender, events) = channel();
        let interval = interval(plan.extent);
        Ok(Self {
            plan: Arc::new(plan),
            sockets,
            workers: Workers::default(),
            threads: Vec::new(),
            events,
            sender,
            interval,
            next_sample: clock::now() + interval,
        })
    }

    fn run_phases(&mut self, recorder: &mut Recorder<'_>) -> Result<Option<(Woken, MeasuredTime)>, Failure> {
        let mut begin = clock::now();
        if let Some(time) = self.plan.start_at {
            begin = start_at(time)?;
            recorder.begin_waiting(begin.saturating_duration_since(clock::now()));
            if self.wait(Some(begin), recorder, |_| false)? != Woken::Done {
                return Ok(None);
            }
        }
        let (warmup, measured) = match self.plan.extent {
            Extent::Time { warmup, measured } => (warmup, Some(measured)),
            Extent::Messages(_) => (Duration::ZERO, None),
        };
        let from = begin.checked_add(warmup).ok_or_else(|| Failure::arguments("--warmup is too long"))?;
        let measured_time = MeasuredTime::new(from, measured);
        self.begin(begin, measured_time)?;
        recorder.begin_warmup(warmup);
        // A measured time goes on when its last datagram is back, unless there is no socket left.
        let is_over = if measured.is_some() { Workers::have_failed } else { Workers::are_done };
        let mut woken = self.wait(Some(from), recorder, is_over)?;
        if woken == Woken::Done {
            recorder.begin_measuring(from);
            woken = self.wait(measured_time.until(), recorder, is_over)?;
        }
        let measured_time = self.workers.end_measured_time(measured_time);
        recorder.begin_finishing(measured_time.length().unwrap_or_default());
        Ok(Some((self.finish(woken, recorder)?, measured_time)))
    }

    /// Starts the workers, whose schedules count from `begin`.
    fn begin(&mut self, begin: Instant, measured_time: MeasuredTime) -> Result<(), Failure> {
        for (number, (poll, sockets)) in (0..).zip(self.sockets.drain(..)) {
            let waker = Waker::new(poll.registry(), WAKER).map_err(|error| cannot_run(&error))?;
            let open_loop = self.plan.is_open_loop();
            let share = Arc::new(Share::new(waker, open_loop, measured_time, sockets.open() as u64));
            self.workers.0.push(Arc::clone(&share));
            let timetable = timetable(&self.plan, number, begin, measured_time);
            let (plan, events) = (Arc::clone(&self.plan), self.sender.clone());
            let worker = DatagramWorker::new(plan, number, (poll, sockets), share, events, timetable);
            let thread = thread::Builder::new().name(format!("bench-{number}")).spawn(|| worker.run());
            self.threads.push(thread.map_err(|error| cannot_run(&error))?);
        }
        Ok(())
    }

    /// Waits for the answers that are still to come: each until its own timeout, or for a moment after Ctrl-C.
    fn finish(&mut self, mut woken: Woken, recorder: &mut Recorder<'_>) -> Result<Woken, Failure> {
        if woken == Woken::Done && matches!(self.plan.extent, Extent::Messages(_)) {
            return Ok(woken);
        }
        self.workers.advance(WorkerStage::Stopping)?;
        while woken != Woken::Aborted {
            let grace = match woken {
                Woken::Done => self.plan.timeout + INTERRUPTED_MAX,
                Woken::Interrupted | Woken::Aborted => self.plan.timeout.min(INTERRUPTED_MAX),
            };
            match self.wait(clock::now().checked_add(grace), recorder, Workers::are_done)? {
                Woken::Done => break,
                again @ (Woken::Interrupted | Woken::Aborted) => woken = again,
            }
        }
        self.workers.advance(WorkerStage::GivingUp)?;
        Ok(woken)
    }

    /// Waits until `done`, or until this time at the latest. Takes samples meanwhile.
    fn wait(
        &mut self,
        until: Option<Instant>,
        recorder: &mut Recorder<'_>,
        done: impl Fn(&Workers) -> bool,
    ) -> Result<Woken, Failure> {
        loop {
            let now = clock::now();
            if done(&self.workers) || until.is_some_and(|until| until <= now) {
                return Ok(Woken::Done);
            }
            if self.next_sample <= now {
                recorder.sample(&self.workers)?;
                self.next_sample = now + self.interval;
            }
            let wake = until.map_or(self.next_sample, |until| until.min(self.next_sample));
            match self.events.recv_timeout(wake.saturating_duration_since(now)) {
                Ok(LoadEvent::Interrupted) => return Ok(Woken::Interrupted),
                Ok(LoadEvent::Aborted) => return Ok(Woken::Aborted),
                Ok(LoadEvent::Settled | LoadEvent::Idle | LoadEvent::HandedOut)
                | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("self.sender exists"),
            }
        }
    }

    fn join(&mut self) -> Result<(), Failure> {
        for thread in self.threads.drain(..) {
            let ended = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            ended.map_err(|error| cannot_run(&error))?;
        }
        Ok(())
    }
}

impl Generator for DatagramLoad {
    fn interrupter(&self) -> impl Fn() + Send + 'static {
        super::teller(&self.sender, LoadEvent::Interrupted)
    }

    fn aborter(&self) -> impl Fn() + Send + 'static {
        super::teller(&self.sender, LoadEvent::Aborted)
    }

    fn run(mut self, log: Option<LatencyLog<'_>>) -> Result<Outcome, Failure> {
        let mut recorder = Recorder::new(&self.plan, log);
        let result = self.run_phases(&mut recorder);
        recorder.hide_progress();
        let (woken, measured_time) = match result? {
            Some((woken, measured_time)) => (woken, Some(measured_time)),
            None => (Woken::Interrupted, None),
        };
        self.join()?;
        let (mut total, series) = recorder.finish(&self.workers)?;
        let elapsed = measured_time.map_or(Duration::ZERO, |measured_time| match self.plan.extent {
            Extent::Time { .. } => measured_time.length().unwrap_or_default(),
            Extent::Messages(_) => {
                let end = total.latest.unwrap_or_else(clock::now);
                end.saturating_duration_since(measured_time.from())
            }
        });
        let limited_by = outcome::limit(&self.plan, &total, elapsed, None);
        latencies::merge(&mut total.latency, &total.unanswered);
        Ok(Outcome {
            elapsed,
            interrupted: woken != Woken::Done,
            connections: self.workers.connections(),
            ends: self.workers.ends(),
            tls: None,
            datagrams: Some(self.workers.datagrams()),
            total,
            series,
            limited_by,
            plan: self.plan,
        })
    }
}

/// When the datagrams of a worker are due in an open loop.
fn timetable(plan: &Plan, number: u64, begin: Instant, measured_time: MeasuredTime) -> Option<Timetable> {
    let limit = match plan.extent {
        Extent::Messages(messages) => Some(messages),
        Extent::Time { .. } => None,
    };
    let share = Schedule::new(plan.rate?, limit).share(number, plan.threads);
    let mut timetable = Timetable::new(share, begin, measured_time.from());
    if let Some(until) = measured_time.until() {
        timetable.end_at(until);
    }
    Some(timetable)
}

impl Workers {
    /// Whether there are some, and all have come to their ends.
    fn are_done(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|share| share.lock().stage == WorkerStage::Done)
    }

    /// Whether there are some, and none has a socket left.
    fn have_failed(&self) -> bool {
        self.are_done() && self.0.iter().all(|share| share.lock().open == 0)
    }

    fn advance(&self, stage: WorkerStage) -> Result<(), Failure> {
        self.0.iter().try_for_each(|share| share.advance(stage)).map_err(|error| cannot_run(&error))
    }

    /// Ends the measured time now, unless it has ended before, or counts every message.
    fn end_measured_time(&self, mut measured_time: MeasuredTime) -> MeasuredTime {
        let now = clock::now();
        measured_time.end(now);
        self.0.iter().for_each(|share| share.lock().measured_time.end(now));
        measured_time
    }

    fn connections(&self) -> ConnectionCounts {
        let mut sum = ConnectionCounts::default();
        for share in &self.0 {
            let counts = share.lock().connections;
            sum.made += counts.made;
            sum.open_max += counts.open_max;
        }
        sum
    }

    fn ends(&self) -> Ends {
        let mut sum = Ends::default();
        self.0.iter().for_each(|share| sum += &share.lock().ends);
        sum
    }

    fn datagrams(&self) -> DatagramCounts {
        let mut sum = DatagramCounts::default();
        self.0.iter().for_each(|share| sum += &share.lock().datagrams);
        sum
    }
}

impl Source for Workers {
    fn connections_made(&self) -> u64 {
        self.connections().made
    }

    fn collect(&self, sum: &mut Tally, spare: &mut Tally) {
        for share in &self.0 {
            std::mem::swap(&mut share.lock().tally, spare);
            sum.add(spare);
            spare.clear();
        }
    }
}

fn cannot_run(error: &io::Error) -> Failure {
    Failure::new(format!("cannot run the load: {error}"))
}
