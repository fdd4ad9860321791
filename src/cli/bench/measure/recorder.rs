//! Records a load while it runs: collects its figures, shows them on the terminal, and writes them to the log.

use std::time::Duration;

use super::{
    hdr_writer::LatencyLog,
    interval::Interval,
    progress::Progress,
    samples::{Samples, Source},
    tally::Tally,
};
use crate::cli::{
    bench::{
        clock::nanos,
        plan::{Extent, Plan},
    },
    failure::Failure,
};

/// The figures of a running load.
pub(crate) struct Recorder<'a> {
    samples: Samples,
    progress: Progress,
    log: Option<LatencyLog<'a>>,
    phase: LoadPhase,
    extent: Extent,
    churn: bool,
    /// Messages measured so far.
    messages: u64,
    /// How long the measurement took, once it is over.
    elapsed: Duration,
}

/// How far the load is. This decides what becomes of its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadPhase {
    /// Connections are made; there are no messages.
    Connecting,
    /// Figures are shown, and do not count.
    WarmingUp,
    /// Figures count.
    Measuring,
    /// Nothing more counts.
    Over,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(plan: &Plan, log: Option<LatencyLog<'a>>) -> Self {
        Self {
            samples: Samples::new(plan.is_open_loop()),
            progress: Progress::new(),
            log,
            phase: LoadPhase::Connecting,
            extent: plan.extent,
            churn: plan.churn,
            messages: 0,
            elapsed: Duration::ZERO,
        }
    }

    pub(crate) const fn phase(&self) -> LoadPhase {
        self.phase
    }

    /// From now on connections are made, this many in all.
    pub(crate) fn begin_connecting(&self, connections: u64) {
        self.progress.begin("connecting", connections);
    }

    /// From now on the load runs without being measured, for this long.
    pub(crate) fn begin_warmup(&mut self, warmup: Duration) {
        self.phase = LoadPhase::WarmingUp;
        self.progress.begin("warming up", nanos(warmup));
    }

    /// From now on the load is measured.
    pub(crate) fn begin_measuring(&mut self, source: &impl Source) -> Result<(), Failure> {
        self.samples.take(source);
        self.samples.restart(self.churn);
        if let Some(log) = &mut self.log {
            log.write_connects(self.samples.connects())?;
        }
        self.phase = LoadPhase::Measuring;
        let steps = match self.extent {
            Extent::Time { measured, .. } => nanos(measured),
            Extent::Messages(messages) => messages,
        };
        self.progress.begin("measuring", steps);
        Ok(())
    }

    /// From now on nothing is measured.
    pub(crate) fn stop(&mut self, source: &impl Source) -> Result<(), Failure> {
        match self.phase {
            LoadPhase::Measuring => {
                self.sample(source)?;
                self.elapsed = self.samples.elapsed();
            }
            LoadPhase::Connecting | LoadPhase::WarmingUp => {
                self.samples.take(source);
                self.samples.restart(self.churn);
            }
            LoadPhase::Over => {}
        }
        self.phase = LoadPhase::Over;
        Ok(())
    }

    /// Ends an interval: collects, shows and logs its figures.
    pub(crate) fn sample(&mut self, source: &impl Source) -> Result<(), Failure> {
        match self.phase {
            LoadPhase::Connecting => self.progress.set(source.connections_made()),
            LoadPhase::WarmingUp => {
                let interval = self.samples.take(source);
                self.progress.advance(nanos(interval.length));
                self.progress.show(&interval);
            }
            LoadPhase::Measuring => {
                let interval = self.samples.take(source);
                self.messages += interval.messages;
                self.progress.set(match self.extent {
                    Extent::Time { .. } => nanos(self.samples.elapsed()),
                    Extent::Messages(_) => self.messages,
                });
                self.progress.show(&interval);
                if let Some(log) = &mut self.log {
                    log.write(self.samples.interval(), interval.length)?;
                }
            }
            LoadPhase::Over => {}
        }
        Ok(())
    }

    /// Removes the progress bar from the terminal.
    pub(crate) fn hide_progress(&self) {
        self.progress.end();
    }

    /// How long the load was measured, its figures in all, and those of each interval.
    pub(crate) fn finish(self) -> (Duration, Tally, Vec<Interval>) {
        let (total, series) = self.samples.finish();
        (self.elapsed, total, series)
    }
}
