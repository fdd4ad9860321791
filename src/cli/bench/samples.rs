//! What was measured, gathered from the workers at short intervals.

use std::time::{Duration, Instant};

use super::{
    clock,
    tally::{Latencies, Tally},
    worker::Shared,
};

/// The figures of one interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// From the beginning of the measurement to that of the interval.
    pub(crate) start: Duration,
    pub(crate) length: Duration,
    pub(crate) messages: u64,
    /// `None` where nobody counted them.
    pub(crate) bytes: Option<u64>,
    /// Latencies in nanoseconds.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Point {
    /// What the tally of an interval comes to.
    pub(crate) fn of(tally: &Tally, start: Duration, length: Duration) -> Self {
        Self {
            start,
            length,
            messages: tally.messages,
            bytes: Some(tally.bytes),
            p50: tally.latency.value_at_quantile(0.5),
            p99: tally.latency.value_at_quantile(0.99),
            max: tally.latency.max(),
        }
    }

    /// Messages in a second.
    pub(crate) fn rate(&self) -> f64 {
        per_second(self.messages, self.length)
    }
}

/// So many within this time, in a second; 0 if there was no time.
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// The figures so far: of each interval, and of all together.
#[derive(Debug)]
pub(crate) struct Samples {
    begin: Instant,
    last: Instant,
    /// The latest interval.
    interval: Tally,
    /// Empty, to be given to a worker.
    spare: Option<Tally>,
    paced: bool,
    total: Tally,
    series: Vec<Point>,
}

impl Samples {
    pub(crate) fn new(paced: bool) -> Self {
        let now = clock::now();
        Self {
            begin: now,
            last: now,
            interval: Tally::new(paced),
            spare: None,
            paced,
            total: Tally::new(paced),
            series: Vec::new(),
        }
    }

    /// What was before does not count, except how long connections took to make if those are not part of the load.
    pub(crate) fn restart(&mut self, churn: bool) {
        if churn {
            self.total.clear();
        } else {
            self.total.clear_messages();
        }
        self.series.clear();
        self.begin = self.last;
    }

    /// Ends an interval.
    pub(crate) fn take<'a>(&mut self, workers: impl Iterator<Item = &'a Shared>) -> Point {
        let now = clock::now();
        self.interval.clear();
        for worker in workers {
            let empty = self.spare.take().unwrap_or_else(|| Tally::new(self.paced));
            let mut taken = worker.lock().take(empty);
            self.interval.add(&taken);
            taken.clear();
            self.spare = Some(taken);
        }
        self.total.add(&self.interval);
        let (start, length) = (self.last - self.begin, now - self.last);
        let point = Point::of(&self.interval, start, length);
        self.last = now;
        self.series.push(point);
        point
    }

    pub(crate) const fn interval(&self) -> &Tally {
        &self.interval
    }

    /// How long connections took to make so far.
    pub(crate) const fn connects(&self) -> &Latencies {
        &self.total.connect
    }

    /// How long it was measured.
    pub(crate) fn elapsed(&self) -> Duration {
        self.last - self.begin
    }

    /// What was measured in all, and in each interval.
    pub(crate) fn finish(self) -> (Tally, Vec<Point>) {
        (self.total, self.series)
    }
}
