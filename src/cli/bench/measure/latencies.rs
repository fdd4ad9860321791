//! Histograms of latencies.

use hdrhistogram::Histogram;

/// Latencies in nanoseconds.
pub(crate) type Latencies = Histogram<u64>;

/// One hour. Longer latencies are recorded as this.
const LATENCY_MAX_NANOS: u64 = 3_600 * 1_000_000_000;

/// An empty histogram: up to an hour, three significant digits.
pub(crate) fn empty() -> Latencies {
    Histogram::new_with_bounds(1, LATENCY_MAX_NANOS, 3).expect("the bounds are in order")
}

/// Adds the latencies of `more` to `sum`, whatever the bounds of `more` are.
pub(crate) fn merge(sum: &mut Latencies, more: &Latencies) {
    if sum.add(more).is_err() {
        // `more` has longer latencies than `sum` can hold: they are recorded as the longest that it can.
        for bucket in more.iter_recorded() {
            sum.saturating_record_n(bucket.value_iterated_to(), bucket.count_since_last_iteration());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_with_other_bounds_are_merged_too() {
        let mut sum = empty();
        let mut wide = Histogram::<u64>::new_with_bounds(1, u64::MAX / 2, 2).unwrap();
        wide.record_n(1_000, 3).unwrap();
        wide.record(LATENCY_MAX_NANOS * 10).unwrap();
        merge(&mut sum, &wide);
        assert_eq!(sum.len(), 4);
        assert!(sum.max() >= LATENCY_MAX_NANOS);
    }
}
