//! Runs a load phase by phase: connect, warm up, measure, and the documented disconnect of every connection.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use echoloop::Handle;

use super::{event::LoadEvent, loops::Loops, schedule::Schedule};
use crate::cli::{
    bench::{
        clock,
        measure::{
            hdr_writer::LatencyLog,
            outcome::Outcome,
            recorder::{LoadPhase, Recorder},
        },
        plan::{Extent, Plan},
    },
    failure::Failure,
};

/// A measurement has about this many intervals, within the limits for their length.
const INTERVALS: u32 = 50;
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// A load whose event loops run.
#[derive(Debug)]
pub(crate) struct Load {
    plan: Arc<Plan>,
    loops: Loops,
    events: Receiver<LoadEvent>,
    sender: Sender<LoadEvent>,
    interval: Duration,
    next_sample: Instant,
    /// How many loops have made all their connections, or failed to.
    settled: usize,
    /// Whether the pacer has handed out every message.
    handed_out: bool,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// What was waited for has happened, or its time is up.
    Done,
    Interrupted,
    Aborted,
}

impl Load {
    /// Starts the event loops.
    pub(crate) fn start(plan: Plan) -> Result<Self, Failure> {
        let plan = Arc::new(plan);
        let (sender, events) = channel();
        let interval = match plan.extent {
            Extent::Time { measured, .. } => (measured / INTERVALS).clamp(INTERVAL_MIN, INTERVAL_MAX),
            Extent::Messages(_) => INTERVAL_MIN,
        };
        let loops = Loops::start(&plan, &sender)?;
        let next_sample = clock::now() + interval;
        Ok(Self { plan, loops, events, sender, interval, next_sample, settled: 0, handed_out: false })
    }

    /// A function that ends the load early, in the documented way.
    pub(crate) fn interrupter(&self) -> impl Fn() + Send + 'static + use<> {
        let events = self.sender.clone();
        move || {
            // Nobody listens when the program is about to end.
            let _ = events.send(LoadEvent::Interrupted);
        }
    }

    /// A function that ends the load at once.
    pub(crate) fn aborter(&self) -> impl Fn() + Send + 'static + use<> {
        let (events, handles) = (self.sender.clone(), self.loops.handles());
        move || {
            handles.iter().for_each(Handle::abort);
            // Nobody listens when the program is about to end.
            let _ = events.send(LoadEvent::Aborted);
        }
    }

    /// Runs the load from beginning to end. If it is aborted, its figures mean nothing.
    pub(crate) fn run(mut self, log: Option<LatencyLog<'_>>) -> Result<Outcome, Failure> {
        let mut recorder = Recorder::new(&self.plan, log);
        let result = self.run_phases(&mut recorder);
        recorder.hide_progress();
        let interrupted = match result? {
            Woken::Done => false,
            Woken::Interrupted | Woken::Aborted => true,
        };
        self.loops.end()?;
        let (elapsed, total, series) = recorder.finish();
        Ok(Outcome {
            elapsed,
            interrupted,
            connections: self.loops.connections(),
            ends: self.loops.ends(),
            total,
            series,
            plan: self.plan,
        })
    }

    fn run_phases(&mut self, recorder: &mut Recorder<'_>) -> Result<Woken, Failure> {
        let woken = self.connect(recorder)?;
        if woken != Woken::Done {
            return self.stop(woken, recorder);
        }
        if self.counts_every_message() {
            recorder.begin_measuring(&self.loops)?;
        }
        let pacer = self.loops.begin_load(&self.sender)?;
        let woken = self.measure(recorder)?;
        if let Some(pacer) = pacer {
            pacer.stop();
        }
        self.stop(woken, recorder)
    }

    /// Makes all connections before the load begins. With churn there is nothing to do: there, making connections is
    /// the load.
    fn connect(&mut self, recorder: &mut Recorder<'_>) -> Result<Woken, Failure> {
        if self.plan.churn {
            return Ok(Woken::Done);
        }
        let connections = self.plan.connections;
        recorder.begin_connecting(connections);
        let begin = clock::now();
        let mut schedule = self.plan.connect_rate.map(|rate| Schedule::new(rate, Some(connections)));
        for turn in 0..connections {
            if let Some(due) = schedule.as_mut().and_then(|schedule| schedule.take(Duration::MAX)) {
                let woken = self.wait(begin.checked_add(due), recorder, |_| false)?;
                if woken != Woken::Done {
                    return Ok(woken);
                }
            }
            self.loops.want_connection(turn);
        }
        // Every attempt ends, after the connect timeout at the latest.
        self.wait(None, recorder, |load| load.settled == load.loops.len())
    }

    /// Warms up and measures, until the time is over or the messages are sent.
    fn measure(&mut self, recorder: &mut Recorder<'_>) -> Result<Woken, Failure> {
        let Extent::Time { warmup, measured } = self.plan.extent else {
            return self.wait(None, recorder, |load| load.handed_out || load.loops.is_idle());
        };
        recorder.begin_warmup(warmup);
        let woken = self.wait(clock::now().checked_add(warmup), recorder, |load| load.loops.is_idle())?;
        if woken != Woken::Done {
            return Ok(woken);
        }
        recorder.begin_measuring(&self.loops)?;
        let begin = clock::now();
        self.next_sample = begin + self.interval;
        self.wait(begin.checked_add(measured), recorder, |load| load.loops.is_idle())
    }

    /// Ends every connection in the documented way.
    fn stop(&mut self, woken: Woken, recorder: &mut Recorder<'_>) -> Result<Woken, Failure> {
        if woken == Woken::Aborted {
            return Ok(woken);
        }
        // Messages that are still in flight count only if every message does.
        let counts = self.counts_every_message() && recorder.phase() == LoadPhase::Measuring;
        if !counts {
            recorder.stop(&self.loops)?;
        }
        self.loops.stop_load(counts && woken == Woken::Done);
        // This ends: a server that does not answer is given up after the timeout.
        let mut end = woken;
        loop {
            match self.wait(None, recorder, |load| load.loops.is_idle())? {
                Woken::Done => break,
                Woken::Interrupted => end = Woken::Interrupted,
                Woken::Aborted => return Ok(Woken::Aborted),
            }
        }
        recorder.stop(&self.loops)?;
        Ok(end)
    }

    fn counts_every_message(&self) -> bool {
        matches!(self.plan.extent, Extent::Messages(_))
    }

    /// Waits until `done`, or until this time at the latest. Takes samples meanwhile.
    fn wait(
        &mut self,
        until: Option<Instant>,
        recorder: &mut Recorder<'_>,
        done: impl Fn(&Self) -> bool,
    ) -> Result<Woken, Failure> {
        loop {
            let now = clock::now();
            if done(self) || until.is_some_and(|until| until <= now) {
                return Ok(Woken::Done);
            }
            if self.next_sample <= now {
                self.loops.retry_connects()?;
                recorder.sample(&self.loops)?;
                self.next_sample = now + self.interval;
            }
            let wake = until.map_or(self.next_sample, |until| until.min(self.next_sample));
            match self.events.recv_timeout(wake.saturating_duration_since(now)) {
                Ok(LoadEvent::Interrupted) => return Ok(Woken::Interrupted),
                Ok(LoadEvent::Aborted) => return Ok(Woken::Aborted),
                Ok(LoadEvent::HandedOut) => self.handed_out = true,
                Ok(LoadEvent::Settled) => self.settled += 1,
                Ok(LoadEvent::Idle) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("self.sender exists"),
            }
        }
    }
}
