//! Records a load while it runs: collects its figures, shows them on the terminal, and writes them to the log.

use std::time::{Duration, Instant};

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
    /// Messages measured so far.
    messages: u64,
}

/// How far the load is. This decides what becomes of its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadPhase {
    /// Connections are made; there are no messages.
    Connecting,
    /// Connections wait for the load to begin.
    Waiting,
    /// Messages do not count.
    WarmingUp,
    /// Messages count.
    Measuring,
    /// No more messages are due. Those that were due in the measured time still count when they come back.
    Finishing {
        /// How long the measured time was.
        measured: Duration,
    },
    /// Nothing was measured, and the end of the connections is waited for.
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
            messages: 0,
        }
    }

    /// From now on connections are made, this many in all.
    pub(crate) fn begin_connecting(&self, connections: u64) {
        self.progress.begin("connecting", connections);
    }

    /// The connections are made.
    pub(crate) fn end_connecting(&mut self, source: &impl Source) -> Result<(), Failure> {
        self.samples.take(source);
        match &mut self.log {
            Some(log) => log.write_connects(self.samples.connects()),
            None => Ok(()),
        }
    }

    /// The load begins after this long.
    pub(crate) fn begin_waiting(&mut self, wait: Duration) {
        self.phase = LoadPhase::Waiting;
        self.progress.begin("waiting", nanos(wait));
    }

    /// From now on the load runs without being measured, for this long.
    pub(crate) fn begin_warmup(&mut self, warmup: Duration) {
        self.phase = LoadPhase::WarmingUp;
        self.progress.begin("warming up", nanos(warmup));
    }

    /// The load is measured, since this time.
    pub(crate) fn begin_measuring(&mut self, from: Instant) {
        self.samples.restart(from);
        self.phase = LoadPhase::Measuring;
        let steps = match self.extent {
            Extent::Time { measured, .. } => nanos(measured),
            Extent::Messages(messages) => messages,
        };
        self.progress.begin("measuring", steps);
    }

    /// No more messages are due. The measured time was this long.
    pub(crate) fn begin_finishing(&mut self, measured: Duration) {
        self.phase = match self.phase {
            LoadPhase::Measuring => LoadPhase::Finishing { measured },
            LoadPhase::Finishing { .. } => self.phase,
            LoadPhase::Connecting | LoadPhase::Waiting | LoadPhase::WarmingUp | LoadPhase::Over => {
                LoadPhase::Over
            }
        };
        self.progress.begin("finishing", 1);
    }

    /// Ends an interval: collects, shows and logs its figures.
    pub(crate) fn sample(&mut self, source: &impl Source) -> Result<(), Failure> {
        match self.phase {
            LoadPhase::Connecting => self.progress.set(source.connections_made()),
            LoadPhase::Waiting | LoadPhase::WarmingUp => {
                let interval = self.samples.take(source);
                self.progress.advance(nanos(interval.length));
            }
            LoadPhase::Measuring => {
                let interval = self.samples.take(source);
                self.messages += interval.messages;
                self.progress.set(match self.extent {
                    Extent::Time { .. } => nanos(self.samples.elapsed()),
                    Extent::Messages(_) => self.messages,
                });
                self.progress.show(&interval);
                self.log(&interval)?;
            }
            LoadPhase::Finishing { measured } => {
                let interval = self.samples.take(source);
                if interval.start >= measured && self.samples.interval().is_empty() {
                    self.samples.leave_out_last();
                } else {
                    self.log(&interval)?;
                }
            }
            LoadPhase::Over => {
                self.samples.take(source);
                self.samples.leave_out_last();
            }
        }
        Ok(())
    }

    fn log(&mut self, interval: &Interval) -> Result<(), Failure> {
        match &mut self.log {
            Some(log) => log.write(self.samples.interval(), interval.length),
            None => Ok(()),
        }
    }

    /// Removes the progress bar from the terminal.
    pub(crate) fn hide_progress(&self) {
        self.progress.end();
    }

    /// Collects what is left. Returns the figures in all, and those of each interval.
    pub(crate) fn finish(mut self, source: &impl Source) -> Result<(Tally, Vec<Interval>), Failure> {
        self.sample(source)?;
        Ok(self.samples.finish())
    }
}
