//! The figures of one interval of a measurement.

use std::time::Duration;

use super::tally::Tally;

/// The figures of one interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    /// When it began, counted from the start of the measurement.
    pub(crate) start: Duration,
    pub(crate) length: Duration,
    pub(crate) messages: u64,
    /// `None` if they were not counted.
    pub(crate) bytes: Option<u64>,
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
            p50: tally.latency.value_at_quantile(0.5),
            p99: tally.latency.value_at_quantile(0.99),
            max: tally.latency.max(),
        }
    }

    /// Messages per second.
    pub(crate) fn rate(&self) -> f64 {
        per_second(self.messages, self.length)
    }
}

/// The rate of `count` events within this time; 0 if the time is 0.
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}
