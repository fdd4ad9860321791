//! What is measured: messages, bytes and latencies.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::clock::nanos;

/// Latencies in nanoseconds.
pub(crate) type Latencies = Histogram<u64>;

/// Longer ones count as this.
const LATENCY_MAX: u64 = 3_600 * 1_000_000_000;

/// An empty histogram: up to an hour, three significant digits.
pub(crate) fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("the bounds are in order")
}

/// Adds up histograms, whatever their bounds.
pub(crate) fn merge(sum: &mut Latencies, more: &Latencies) {
    if sum.add(more).is_err() {
        // One with longer latencies than ours can hold: they count as the longest that it can.
        for bucket in more.iter_recorded() {
            sum.saturating_record_n(bucket.value_iterated_to(), bucket.count_since_last_iteration());
        }
    }
}

/// When a message was to be sent, and when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) due: Instant,
    pub(crate) sent: Instant,
}

impl Start {
    /// Of a message that is due when it is sent.
    pub(crate) const fn at(now: Instant) -> Self {
        Self { due: now, sent: now }
    }
}

/// What was measured within some time.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Messages whose last byte came back.
    pub(crate) messages: u64,
    /// Bytes that came back.
    pub(crate) bytes: u64,
    /// From when a message was to be sent.
    pub(crate) latency: Latencies,
    /// From when it was sent, where that may be later.
    pub(crate) uncorrected: Option<Latencies>,
    /// From the request for a connection until it was made.
    pub(crate) connect: Latencies,
}

impl Tally {
    /// Nothing yet. `paced`: messages have a time at which they are to be sent.
    pub(crate) fn new(paced: bool) -> Self {
        Self {
            messages: 0,
            bytes: 0,
            latency: latencies(),
            uncorrected: paced.then(latencies),
            connect: latencies(),
        }
    }

    /// Counts a message that is back now.
    pub(crate) fn record(&mut self, start: Start, now: Instant) {
        self.messages += 1;
        self.latency.saturating_record(nanos(now.saturating_duration_since(start.due)));
        if let Some(uncorrected) = &mut self.uncorrected {
            uncorrected.saturating_record(nanos(now.saturating_duration_since(start.sent)));
        }
    }

    /// Counts a connection that took so long to make.
    pub(crate) fn record_connect(&mut self, took: Duration) {
        self.connect.saturating_record(nanos(took));
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
        merge(&mut self.latency, &more.latency);
        merge(&mut self.connect, &more.connect);
        if let (Some(sum), Some(more)) = (&mut self.uncorrected, &more.uncorrected) {
            merge(sum, more);
        }
    }

    /// Back to nothing, without giving memory back.
    pub(crate) fn clear(&mut self) {
        self.clear_messages();
        self.connect.reset();
    }

    /// Forgets everything but how long connections took to make.
    pub(crate) fn clear_messages(&mut self) {
        (self.messages, self.bytes) = (0, 0);
        self.latency.reset();
        if let Some(uncorrected) = &mut self.uncorrected {
            uncorrected.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_before_a_late_message_was_sent_is_in_its_corrected_latency_only() {
        let due = super::super::clock::now();
        let start = Start { due, sent: due + Duration::from_millis(5) };
        let mut tally = Tally::new(true);
        tally.record(start, due + Duration::from_millis(6));
        let close_to = |value: u64, millis: u64| value.abs_diff(millis * 1_000_000) < 10_000;
        assert!(close_to(tally.latency.max(), 6));
        assert!(close_to(tally.uncorrected.unwrap().max(), 1));
    }

    #[test]
    fn tallies_add_up() {
        let now = super::super::clock::now();
        let (mut sum, mut other) = (Tally::new(true), Tally::new(true));
        sum.record(Start::at(now), now + Duration::from_micros(10));
        other.record(Start::at(now), now + Duration::from_micros(30));
        other.bytes = 512;
        other.record_connect(Duration::from_micros(7));
        sum.add(&other);
        assert_eq!((sum.messages, sum.bytes), (2, 512));
        assert_eq!(sum.latency.len(), 2);
        assert!(sum.latency.max() >= 30_000 && sum.latency.min() <= 10_010);
        assert_eq!(sum.uncorrected.as_ref().unwrap().len(), 2);
        assert_eq!(sum.connect.len(), 1);
        sum.clear();
        assert_eq!((sum.messages, sum.latency.len(), sum.connect.len()), (0, 0, 0));
        assert_eq!((sum.latency.max(), sum.connect.max()), (0, 0), "the longest is forgotten too");
    }

    #[test]
    fn histograms_with_other_bounds_are_merged_too() {
        let mut sum = latencies();
        let mut wide = Histogram::<u64>::new_with_bounds(1, u64::MAX / 2, 2).unwrap();
        wide.record_n(1_000, 3).unwrap();
        wide.record(LATENCY_MAX * 10).unwrap();
        merge(&mut sum, &wide);
        assert_eq!(sum.len(), 4);
        assert!(sum.max() >= LATENCY_MAX);
    }
}
