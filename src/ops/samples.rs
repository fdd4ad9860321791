//! What the charts show: a sample a second, for five minutes.

use std::{collections::VecDeque, time::Instant};

use crate::stats::Stats;

/// How many are kept.
pub(super) const SAMPLES_MAX: usize = 300;

/// What went on between two looks at the counters. Rates are per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) received: f64,
    pub(super) sent: f64,
    pub(super) opened: f64,
    pub(super) ended: f64,
    pub(super) datagrams: f64,
    /// Connections at the end of it.
    pub(super) open: f64,
    /// Seconds that the loops worked in a second, over all of them.
    pub(super) busy: f64,
    /// The time within which 99% of the turns were over.
    pub(super) turn_p99: f64,
}

/// The latest samples.
#[derive(Debug)]
pub(super) struct Samples {
    samples: VecDeque<Sample>,
    last: (Instant, Stats),
}

impl Samples {
    /// None yet: the first is taken later.
    pub(super) fn new(now: Instant, stats: Stats) -> Self {
        Self { samples: VecDeque::new(), last: (now, stats) }
    }

    /// Adds what has come since the last one. In no time nothing does.
    pub(super) fn add(&mut self, now: Instant, stats: Stats) {
        let seconds = now.saturating_duration_since(self.last.0).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let (_, before) = std::mem::replace(&mut self.last, (now, stats));
        let stats = &self.last.1;
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let turns = stats.turn_durations.since(&before.turn_durations);
        // Whatever took longer than the longest that is told apart took that at least.
        let longest = turns.buckets().map(|(bound, _)| bound).last();
        let p99 = turns.quantile(0.99).or(longest.filter(|_| turns.count() > 0)).unwrap_or_default();
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            received: rate(before.bytes_received, stats.bytes_received),
            sent: rate(before.bytes_sent, stats.bytes_sent),
            opened: rate(before.accepted + before.connects, stats.accepted + stats.connects),
            ended: rate(before.closed_total(), stats.closed_total()),
            datagrams: rate(before.datagrams_received, stats.datagrams_received),
            open: stats.open as f64,
            busy: turns.sum().as_secs_f64() / seconds,
            turn_p99: p99.as_secs_f64(),
        });
    }

    /// From the oldest on.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// The latest; nothing goes on as long as there is none.
    pub(super) fn latest(&self) -> Sample {
        self.samples.back().copied().unwrap_or_default()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_are_by_the_time_that_has_really_passed() {
        let (begin, mut stats) = (Instant::now(), Stats::default());
        let mut samples = Samples::new(begin, stats.clone());
        stats.bytes_received = 3_000;
        stats.open = 5;
        samples.add(begin + Duration::from_millis(1_500), stats.clone());
        let sample = samples.latest();
        assert!((sample.received - 2_000.0).abs() < 1e-9 && (sample.open - 5.0).abs() < 1e-9, "{sample:?}");
        samples.add(begin + Duration::from_millis(1_500), stats.clone());
        assert_eq!(samples.iter().count(), 1, "no time has passed");
        for second in 0..400 {
            samples.add(begin + Duration::from_secs(2 + second), stats.clone());
        }
        assert_eq!(samples.iter().count(), SAMPLES_MAX);
        assert!(samples.latest().received == 0.0);
    }
}
