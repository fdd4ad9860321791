//! What is measured: messages, bytes and latencies.

use std::time::{Duration, Instant};

use super::latencies::{self, Latencies};
use crate::cli::bench::clock::nanos;

/// When a message was due, and when it was sent. The same of a connection: due, and requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) due: Instant,
    pub(crate) sent: Instant,
}

impl Start {
    /// A message that is sent when it is due, as in a closed loop.
    pub(crate) const fn at(now: Instant) -> Self {
        Self { due: now, sent: now }
    }
}

/// What was measured within some period of time.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Messages that were due in the measured time and came back, also later.
    pub(crate) messages: u64,
    /// Messages that came back in the measured time, also if they were due before it.
    pub(crate) returned: u64,
    /// Bytes that came back in the measured time.
    pub(crate) bytes: u64,
    /// When the latest message came back.
    pub(crate) latest: Option<Instant>,
    /// From when a message was due: avoids coordinated omission.
    pub(crate) latency: Latencies,
    /// From when it was sent. Only of an open loop, where that may be later.
    pub(crate) uncorrected: Option<Latencies>,
    /// Of messages that were due and never came back: from when they were due until they were given up.
    pub(crate) unanswered: Latencies,
    /// How late connections were wanted that were due, in all. Only of an open loop with churn.
    pub(crate) wanted_late: Duration,
    /// From the request for a connection until it was established.
    pub(crate) connect: Latencies,
}

impl Tally {
    /// An empty tally of an open or a closed loop.
    pub(crate) fn new(open_loop: bool) -> Self {
        Self {
            messages: 0,
            returned: 0,
            bytes: 0,
            latest: None,
            latency: latencies::empty(),
            uncorrected: open_loop.then(latencies::empty),
            unanswered: latencies::empty(),
            wanted_late: Duration::ZERO,
            connect: latencies::empty(),
        }
    }

    /// Counts a message whose last byte came back now.
    pub(crate) fn record(&mut self, start: Start, now: Instant) {
        self.messages += 1;
        self.latest = Some(now);
        self.latency.saturating_record(nanos(now.saturating_duration_since(start.due)));
        if let Some(uncorrected) = &mut self.uncorrected {
            uncorrected.saturating_record(nanos(now.saturating_duration_since(start.sent)));
        }
    }

    /// Counts messages that were due at about this time, and are given up now.
    pub(crate) fn record_unanswered(&mut self, due: Instant, count: u64, now: Instant) {
        self.unanswered.saturating_record_n(nanos(now.saturating_duration_since(due)), count);
    }

    /// Counts a connection that took this long to establish.
    pub(crate) fn record_connect(&mut self, took: Duration) {
        self.connect.saturating_record(nanos(took));
    }

    /// Whether no message is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.latency.is_empty() && self.unanswered.is_empty()
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.messages += more.messages;
        self.returned += more.returned;
        self.bytes += more.bytes;
        self.latest = self.latest.max(more.latest);
        self.wanted_late += more.wanted_late;
        latencies::merge(&mut self.latency, &more.latency);
        latencies::merge(&mut self.unanswered, &more.unanswered);
        latencies::merge(&mut self.connect, &more.connect);
        if let (Some(sum), Some(more)) = (&mut self.uncorrected, &more.uncorrected) {
            latencies::merge(sum, more);
        }
    }

    /// Empties it, but keeps its memory.
    pub(crate) fn clear(&mut self) {
        (self.messages, self.returned, self.bytes, self.latest) = (0, 0, 0, None);
        self.wanted_late = Duration::ZERO;
        self.latency.reset();
        self.unanswered.reset();
        self.connect.reset();
        if let Some(uncorrected) = &mut self.uncorrected {
            uncorrected.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::clock;

    #[test]
    fn the_time_before_a_late_message_was_sent_is_in_its_corrected_latency_only() {
        let due = clock::now();
        let start = Start { due, sent: due + Duration::from_millis(5) };
        let mut tally = Tally::new(true);
        tally.record(start, due + Duration::from_millis(6));
        let close_to = |value: u64, millis: u64| value.abs_diff(millis * 1_000_000) < 10_000;
        assert!(close_to(tally.latency.max(), 6));
        assert!(close_to(tally.uncorrected.unwrap().max(), 1));
    }

    #[test]
    fn tallies_add_up() {
        let now = clock::now();
        let (mut sum, mut other) = (Tally::new(true), Tally::new(true));
        sum.record(Start::at(now), now + Duration::from_micros(10));
        other.record(Start::at(now), now + Duration::from_micros(30));
        other.bytes = 512;
        other.record_connect(Duration::from_micros(7));
        other.record_unanswered(now, 3, now + Duration::from_secs(1));
        sum.add(&other);
        assert_eq!((sum.unanswered.len(), sum.latest), (3, Some(now + Duration::from_micros(30))));
        assert_eq!((sum.messages, sum.bytes), (2, 512));
        assert_eq!(sum.latency.len(), 2);
        assert!(sum.latency.max() >= 30_000 && sum.latency.min() <= 10_010);
        assert_eq!(sum.uncorrected.as_ref().unwrap().len(), 2);
        assert_eq!(sum.connect.len(), 1);
        sum.clear();
        assert_eq!((sum.messages, sum.latency.len(), sum.connect.len()), (0, 0, 0));
        assert_eq!((sum.unanswered.len(), sum.latest), (0, None));
        assert_eq!((sum.latency.max(), sum.connect.max()), (0, 0), "the longest is forgotten too");
    }
}
