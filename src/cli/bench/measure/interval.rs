//! The figures of one interval of a measurement.

use std::time::Duration;

use super::tally::Tally;

/// The figures of one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Interval {
    /// When it began, counted from the start of the measurement.
    pub(crate) start: Duration,
    pub(crate) length: Duration,
    pub(crate) messages: u64,
    /// `None` if they were not counted.
    pub(crate) bytes: Option<u64>,
    /// Messages per second.
    pub(crate) rate: f64,
    /// Latencies in nanoseconds.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Interval {
    pub(crate) fn new(tally: &Tally, start: Duration, length: Duration) -> Self {
        Self {
            start,
            length,
            messages: tally.messages,
            bytes: Some(tally.bytes),
            rate: per_second(tally.messages, length),
            p50: tally.latency.value_at_quantile(0.5),
            p99: tally.latency.value_at_quantile(0.99),
            max: tally.latency.max(),
        }
    }

    /// Takes up the interval that follows, which is so much shorter that its quantiles do not count.
    pub(crate) fn append(&mut self, next: &Self) {
        let messages = self.rate * self.length.as_secs_f64() + next.rate * next.length.as_secs_f64();
        self.length += next.length;
        self.rate = if self.length.is_zero() { 0.0 } else { messages / self.length.as_secs_f64() };
        self.messages += next.messages;
        self.bytes = self.bytes.zip(next.bytes).map(|(bytes, more)| bytes + more);
        self.max = self.max.max(next.max);
    }
}

/// The rate of `count` events within this time; 0 if the time is 0.
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}
