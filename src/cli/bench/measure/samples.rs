//! What was measured, collected from a running load at short intervals.

use std::time::{Duration, Instant};

use super::{interval::Interval, latencies::Latencies, tally::Tally};
use crate::cli::bench::clock;

/// A running load, from which figures are collected.
pub(crate) trait Source {
    /// How many connections were made so far.
    fn connections_made(&self) -> u64;

    /// Adds to `sum` what was measured since the last call. `spare` is empty before and after the call; it lets an
    /// implementation exchange a tally under a lock and add it up outside.
    fn collect(&self, sum: &mut Tally, spare: &mut Tally);
}

/// The figures so far: of each interval, and of all together.
#[derive(Debug)]
pub(crate) struct Samples {
    start: Instant,
    /// When the latest interval ended.
    last: Instant,
    /// The latest interval.
    interval: Tally,
    spare: Tally,
    total: Tally,
    series: Vec<Interval>,
}

impl Samples {
    /// No figures yet, of an open or a closed loop.
    pub(crate) fn new(open_loop: bool) -> Self {
        let now = clock::now();
        Self {
            start: now,
            last: now,
            interval: Tally::new(open_loop),
            spare: Tally::new(open_loop),
            total: Tally::new(open_loop),
            series: Vec::new(),
        }
    }

    /// Starts the first interval of the measured time at its beginning. What is collected before are connect latencies
    /// only.
    pub(crate) fn restart(&mut self, from: Instant) {
        self.series.clear();
        (self.start, self.last) = (from, from);
    }

    /// Ends an interval.
    pub(crate) fn take(&mut self, source: &impl Source) -> Interval {
        let now = clock::now();
        self.interval.clear();
        source.collect(&mut self.interval, &mut self.spare);
        self.total.add(&self.interval);
        let interval = Interval::new(&self.interval, self.last - self.start, now - self.last);
        self.last = now;
        self.series.push(interval);
        interval
    }

    /// What was measured in the latest interval.
    pub(crate) const fn interval(&self) -> &Tally {
        &self.interval
    }

    /// How long it took to make the connections so far.
    pub(crate) const fn connects(&self) -> &Latencies {
        &self.total.connect
    }

    /// How long the measurement has taken.
    pub(crate) fn elapsed(&self) -> Duration {
        self.last - self.start
    }

    /// Leaves the latest interval out of the series.
    pub(crate) fn leave_out_last(&mut self) {
        self.series.pop();
    }

    /// What was measured in all, and in each interval.
    pub(crate) fn finish(self) -> (Tally, Vec<Interval>) {
        (self.total, self.series)
    }
}
