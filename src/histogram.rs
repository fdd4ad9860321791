//! How long things took: counted in buckets by one loop, read by any thread.

use std::{ops::AddAssign, time::Duration};

use crate::counter::Counter;

/// Upper bounds of the buckets, besides the one without a bound.
const BOUNDS: usize = 16;

/// Upper bounds of buckets, in nanoseconds.
type Bounds = [u64; BOUNDS];

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// For connections: some answer one message, others stay for days.
static OF_CONNECTIONS: Bounds = [
    MILLI,
    5 * MILLI,
    10 * MILLI,
    50 * MILLI,
    100 * MILLI,
    500 * MILLI,
    SECOND,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
    300 * SECOND,
    600 * SECOND,
    3_600 * SECOND,
    21_600 * SECOND,
    86_400 * SECOND,
];

/// For turns of a loop.
static OF_TURNS: Bounds = [
    10 * MICRO,
    25 * MICRO,
    50 * MICRO,
    100 * MICRO,
    250 * MICRO,
    500 * MICRO,
    MILLI,
    2_500 * MICRO,
    5 * MILLI,
    10 * MILLI,
    25 * MILLI,
    50 * MILLI,
    100 * MILLI,
    250 * MILLI,
    500 * MILLI,
    SECOND,
];

/// How long things took that a server has counted, in buckets: [`Stats::connection_durations`](crate::Stats) and others.
///
/// ```
/// use echoloop::Stats;
///
/// let turns = Stats::default().turn_durations;
/// assert_eq!(turns.count(), 0);
/// assert!(turns.buckets().map(|(bound, _)| bound).is_sorted());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static Bounds,
    counts: [u64; BOUNDS + 1],
    sum: Duration,
}

impl Histogram {
    const fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, counts: [0; BOUNDS + 1], sum: Duration::ZERO }
    }

    /// Nothing yet, for connections.
    pub(crate) const fn of_connections() -> Self {
        Self::new(&OF_CONNECTIONS)
    }

    /// Nothing yet, for turns.
    pub(crate) const fn of_turns() -> Self {
        Self::new(&OF_TURNS)
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all took together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// Each bound, and how many took no longer than that. [`count`](Self::count) is as it were the last bucket, which has no
    /// bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let bounds = self.bounds.iter().map(|&nanos| Duration::from_nanos(nanos));
        bounds.zip(self.counts.iter().scan(0, |below, count| {
            *below += count;
            Some(*below)
        }))
    }

    /// What has come since an earlier snapshot of the same server.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = std::array::from_fn(|n| self.counts[n].saturating_sub(earlier.counts[n]));
        Self { bounds: self.bounds, counts, sum: self.sum.saturating_sub(earlier.sum) }
    }

    /// The bound below which this part of all is (0.99 for the 99th percentile); `None` if there were none, or if it is
    /// beyond the last bound.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        let needed = count as f64 * part;
        self.buckets().find(|&(_, below)| count > 0 && below as f64 >= needed).map(|(bound, _)| bound)
    }
}

impl AddAssign<&Self> for Histogram {
    fn add_assign(&mut self, other: &Self) {
        for (sum, more) in self.counts.iter_mut().zip(other.counts) {
            *sum += more;
        }
        self.sum += other.sum;
    }
}

/// The same while it is counted. Only one loop writes it.
#[derive(Debug)]
pub struct LiveHistogram {
    bounds: &'static Bounds,
    counts: [Counter; BOUNDS + 1],
    sum_micros: Counter,
    /// What is not a whole microsecond of the sum yet. Nanoseconds alone would be all used up by a million connections that
    /// stay for a week.
    sum_nanos: Counter,
}

impl LiveHistogram {
    fn new(bounds: &'static Bounds) -> Self {
        Self {
            bounds,
            counts: std::array::from_fn(|_| Counter::default()),
            sum_micros: Counter::default(),
            sum_nanos: Counter::default(),
        }
    }

    /// For connections.
    pub(crate) fn of_connections() -> Self {
        Self::new(&OF_CONNECTIONS)
    }

    /// For turns.
    pub(crate) fn of_turns() -> Self {
        Self::new(&OF_TURNS)
    }

    /// Counts one that took so long. Only the one loop that owns it may call this.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = self.bounds.partition_point(|&bound| bound < nanos);
        self.counts[place].add(1);
        let rest = self.sum_nanos.get() + nanos % MICRO;
        self.sum_nanos.set_u64(rest % MICRO);
        self.sum_micros.set_u64(self.sum_micros.get().saturating_add(nanos / MICRO + rest / MICRO));
    }

    /// The values of this moment.
    pub(crate) fn snapshot(&self) -> Histogram {
        Histogram {
            bounds: self.bounds,
            counts: std::array::from_fn(|n| self.counts[n].get()),
            sum: Duration::from_micros(self.sum_micros.get()) + Duration::from_nanos(self.sum_nanos.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let live = LiveHistogram::of_turns();
        for nanos in [0, 10_000, 10_001, 1_000_000_000, 1_000_000_001] {
            live.observe(Duration::from_nanos(nanos));
        }
        let all = live.snapshot();
        let buckets: Vec<u64> = all.buckets().map(|(_, below)| below).collect();
        assert_eq!((buckets[0], buckets[1], buckets[15], all.count()), (2, 3, 4, 5));
        assert_eq!(all.sum(), Duration::from_nanos(2_000_020_002));
    }

    #[test]
    fn a_sum_keeps_what_is_less_than_a_microsecond() {
        let live = LiveHistogram::of_turns();
        (0..2_000).for_each(|_| live.observe(Duration::from_nanos(999)));
        assert_eq!(live.snapshot().sum(), Duration::from_nanos(1_998_000));
    }

    #[test]
    fn the_longest_time_of_all_is_counted_too() {
        let live = LiveHistogram::of_connections();
        live.observe(Duration::MAX);
        live.observe(Duration::MAX);
        assert_eq!(live.snapshot().count(), 2);
    }

    #[test]
    fn quantiles_are_bounds_and_what_came_between_two_snapshots_can_be_told() {
        let live = LiveHistogram::of_turns();
        assert_eq!(live.snapshot().quantile(0.99), None);
        (0..99).for_each(|_| live.observe(Duration::from_micros(20)));
        let earlier = live.snapshot();
        live.observe(Duration::from_millis(40));
        let all = live.snapshot();
        assert_eq!(all.quantile(0.99), Some(Duration::from_micros(25)));
        assert_eq!(all.quantile(1.0), Some(Duration::from_millis(50)));
        assert_eq!(all.since(&earlier).count(), 1);
        assert_eq!(all.since(&earlier).quantile(0.5), Some(Duration::from_millis(50)));
        live.observe(Duration::from_secs(2));
        assert_eq!(live.snapshot().quantile(1.0), None, "beyond the last bound");
        let mut sum = all.clone();
        sum += &earlier;
        assert_eq!((sum.count(), sum.sum()), (199, all.sum() + earlier.sum()));
    }
}
