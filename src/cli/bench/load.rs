//! Runs a load: connect, warm up, measure, and the documented end for every connection.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use echoloop::Handle;

use super::{
    args::Extent,
    clock,
    crew::Crew,
    figures::{Figures, Phase},
    hdr::Log,
    outcome::Outcome,
    pace::Schedule,
    plan::Plan,
    worker::{Event, Order},
};
use crate::cli::failure::Failure;

/// Intervals in a measurement, as far as they are neither too short nor too long.
const INTERVALS: u32 = 50;
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// A load whose loops run.
#[derive(Debug)]
pub(super) struct Load {
    plan: Arc<Plan>,
    crew: Crew,
    events: Receiver<Event>,
    sender: Sender<Event>,
    interval: Duration,
    next_sample: Instant,
    /// Loops whose connections are all made, or have failed.
    settled: usize,
    /// Every message of an open loop was handed out.
    handed_out: bool,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// What was waited for is there, or its time is up.
    Done,
    Interrupted,
    Aborted,
}

impl Load {
    /// Starts the loops.
    pub(super) fn start(plan: Plan) -> Result<Self, Failure> {
        let plan = Arc::new(plan);
        let (sender, events) = channel();
        let interval = match plan.extent {
            Extent::Time { measured, .. } => (measured / INTERVALS).clamp(INTERVAL_MIN, INTERVAL_MAX),
            Extent::Messages(_) => INTERVAL_MIN,
        };
        let crew = Crew::start(&plan, &sender)?;
        let next_sample = clock::now() + interval;
        Ok(Self { plan, crew, events, sender, interval, next_sample, settled: 0, handed_out: false })
    }

    /// Who wants to end the load early says so here.
    pub(super) fn events(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// The loops, for who wants to end them at once.
    pub(super) fn handles(&self) -> Vec<Handle<Order>> {
        self.crew.handles()
    }

    /// Runs the load from beginning to end. If it is aborted its figures say nothing.
    pub(super) fn run(mut self, log: Option<Log<'_>>) -> Result<Outcome, Failure> {
        let mut figures = Figures::new(&self.plan, log);
        let result = self.run_phases(&mut figures);
        figures.hide();
        let interrupted = match result? {
            Woken::Done => false,
            Woken::Interrupted | Woken::Aborted => true,
        };
        self.crew.end()?;
        let (elapsed, total, series) = figures.finish();
        Ok(Outcome {
            elapsed,
            interrupted,
            connections: self.crew.connections(),
            ends: self.crew.ends(),
            total,
            series,
            plan: self.plan,
        })
    }

    fn run_phases(&mut self, figures: &mut Figures<'_>) -> Result<Woken, Failure> {
        let woken = self.connect(figures)?;
        if woken != Woken::Done {
            return self.stop(woken, figures);
        }
        if self.counts_every_message() {
            figures.measure(&self.crew)?;
        }
        let pacer = self.crew.begin(&self.sender)?;
        let woken = self.measure(figures)?;
        if let Some(pacer) = pacer {
            pacer.stop();
        }
        self.stop(woken, figures)
    }

    /// Makes all connections before the load begins, except where they are the load.
    fn connect(&mut self, figures: &mut Figures<'_>) -> Result<Woken, Failure> {
        if self.plan.churn {
            return Ok(Woken::Done);
        }
        let connections = self.plan.connections;
        figures.connect(connections);
        let begin = clock::now();
        let mut schedule = self.plan.connect_rate.map(|rate| Schedule::new(rate, Some(connections)));
        for turn in 0..connections {
            if let Some(due) = schedule.as_mut().and_then(|schedule| schedule.take(Duration::MAX)) {
                let woken = self.wait(begin.checked_add(due), figures, |_| false)?;
                if woken != Woken::Done {
                    return Ok(woken);
                }
            }
            self.crew.want(turn);
        }
        // Every attempt comes to an end, with the connect timeout at the latest.
        self.wait(None, figures, |load| load.settled == load.crew.len())
    }

    /// Warms up and measures, to the end of the time or of the messages.
    fn measure(&mut self, figures: &mut Figures<'_>) -> Result<Woken, Failure> {
        let Extent::Time { warmup, measured } = self.plan.extent else {
            return self.wait(None, figures, |load| load.handed_out || load.crew.is_idle());
        };
        figures.warm_up(warmup);
        let woken = self.wait(clock::now().checked_add(warmup), figures, |load| load.crew.is_idle())?;
        if woken != Woken::Done {
            return Ok(woken);
        }
        figures.measure(&self.crew)?;
        let begin = clock::now();
        self.next_sample = begin + self.interval;
        self.wait(begin.checked_add(measured), figures, |load| load.crew.is_idle())
    }

    /// Ends every connection the documented way.
    fn stop(&mut self, woken: Woken, figures: &mut Figures<'_>) -> Result<Woken, Failure> {
        if woken == Woken::Aborted {
            return Ok(woken);
        }
        // What is still on its way counts only where every message does.
        let counts = self.counts_every_message() && figures.phase() == Phase::Measuring;
        if !counts {
            figures.stop(&self.crew)?;
        }
        self.crew.stop(counts && woken == Woken::Done);
        // This comes to an end: whoever does not answer is given up after the timeout.
        let mut end = woken;
        loop {
            match self.wait(None, figures, |load| load.crew.is_idle())? {
                Woken::Done => break,
                Woken::Interrupted => end = Woken::Interrupted,
                Woken::Aborted => return Ok(Woken::Aborted),
            }
        }
        figures.stop(&self.crew)?;
        Ok(end)
    }

    fn counts_every_message(&self) -> bool {
        matches!(self.plan.extent, Extent::Messages(_))
    }

    /// Waits until `done`, or until then at most.
    fn wait(
        &mut self,
        until: Option<Instant>,
        figures: &mut Figures<'_>,
        done: impl Fn(&Self) -> bool,
    ) -> Result<Woken, Failure> {
        loop {
            let now = clock::now();
            if done(self) || until.is_some_and(|until| until <= now) {
                return Ok(Woken::Done);
            }
            if self.next_sample <= now {
                self.crew.look_after()?;
                figures.sample(&self.crew)?;
                self.next_sample = now + self.interval;
            }
            let wake = until.map_or(self.next_sample, |until| until.min(self.next_sample));
            match self.events.recv_timeout(wake.saturating_duration_since(now)) {
                Ok(Event::Interrupted) => return Ok(Woken::Interrupted),
                Ok(Event::Aborted) => return Ok(Woken::Aborted),
                Ok(Event::HandedOut) => self.handed_out = true,
                Ok(Event::Settled) => self.settled += 1,
                Ok(Event::Idle) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("a sender is kept here"),
            }
        }
    }
}
