//! What is gathered, shown and written while a load runs.

use std::time::Duration;

use super::{
    args::Extent,
    clock::nanos,
    crew::Crew,
    hdr::Log,
    plan::Plan,
    progress::Progress,
    samples::{Point, Samples},
    tally::Tally,
};
use crate::cli::failure::Failure;

/// The figures so far, and where they go meanwhile.
pub(super) struct Figures<'a> {
    samples: Samples,
    progress: Progress,
    log: Option<Log<'a>>,
    phase: Phase,
    extent: Extent,
    churn: bool,
    /// Messages that were measured.
    messages: u64,
    /// How long they were.
    elapsed: Duration,
}

/// What becomes of what is gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    WarmingUp,
    Measuring,
    /// Nothing more counts.
    Over,
}

impl<'a> Figures<'a> {
    pub(super) fn new(plan: &Plan, log: Option<Log<'a>>) -> Self {
        Self {
            samples: Samples::new(plan.is_paced()),
            progress: Progress::new(),
            log,
            phase: Phase::Connecting,
            extent: plan.extent,
            churn: plan.churn,
            messages: 0,
            elapsed: Duration::ZERO,
        }
    }

    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    /// From now on connections are made, so many in all.
    pub(super) fn connect(&self, connections: u64) {
        self.progress.begin("connecting", connections);
    }

    /// From now on the load runs and does not count, for so long.
    pub(super) fn warm_up(&mut self, warmup: Duration) {
        self.phase = Phase::WarmingUp;
        self.progress.begin("warming up", nanos(warmup));
    }

    /// From now on it counts.
    pub(super) fn measure(&mut self, crew: &Crew) -> Result<(), Failure> {
        self.samples.take(crew.workers());
        self.samples.restart(self.churn);
        if let Some(log) = &mut self.log {
            log.write_connects(self.samples.connects())?;
        }
        self.phase = Phase::Measuring;
        let steps = match self.extent {
            Extent::Time { measured, .. } => nanos(measured),
            Extent::Messages(messages) => messages,
        };
        self.progress.begin("measuring", steps);
        Ok(())
    }

    /// From now on nothing counts any more.
    pub(super) fn stop(&mut self, crew: &Crew) -> Result<(), Failure> {
        match self.phase {
            Phase::Measuring => {
                self.sample(crew)?;
                self.elapsed = self.samples.elapsed();
            }
            Phase::Connecting | Phase::WarmingUp => {
                self.samples.take(crew.workers());
                self.samples.restart(self.churn);
            }
            Phase::Over => {}
        }
        self.phase = Phase::Over;
        Ok(())
    }

    /// Ends an interval: gathers, shows and writes its figures.
    pub(super) fn sample(&mut self, crew: &Crew) -> Result<(), Failure> {
        match self.phase {
            Phase::Connecting => self.progress.set(crew.connections().made),
            Phase::WarmingUp => {
                let point = self.samples.take(crew.workers());
                self.progress.advance(nanos(point.length));
                self.progress.show(&point);
            }
            Phase::Measuring => {
                let point = self.samples.take(crew.workers());
                self.messages += point.messages;
                self.progress.set(match self.extent {
                    Extent::Time { .. } => nanos(self.samples.elapsed()),
                    Extent::Messages(_) => self.messages,
                });
                self.progress.show(&point);
                if let Some(log) = &mut self.log {
                    log.write(self.samples.interval(), point.length)?;
                }
            }
            Phase::Over => {}
        }
        Ok(())
    }

    /// Leaves the terminal as it was.
    pub(super) fn hide(&self) {
        self.progress.end();
    }

    /// How long it was measured, what came of it in all, and in each interval.
    pub(super) fn finish(self) -> (Duration, Tally, Vec<Point>) {
        let (total, series) = self.samples.finish();
        (self.elapsed, total, series)
    }
}
