//! Histograms of latencies.

use hdrhistogram::Histogram;

/// Latencies in nanoseconds.
pub(crate) type Latencies = Histogram<u64>;

/// One hour. Longer latencies are recorded as this.
pub(crate) const LATENCY_MAX_NANOS: u64 = 3_600 * 1_000_000_000;

/// An empty histogram: up to an hour, three significant digits.
pub(crate) fn empty() -> Latencies {
    Histogram::new_with_bounds(1, LATENCY_MAX_NANOS, 3).expect("the bounds are in order")
}

/// Adds the latencies of `more` to `sum`.
pub(crate) fn merge(sum: &mut Latencies, more: &Latencies) {
    sum.add(more).expect("the bounds of all are the same");
}
