//! The clocks of a load generator. The loop's own stands still during a batch of events, which is too coarse for
//! latencies.

use std::time::{Duration, Instant, SystemTime};

/// The time of this very moment.
#[expect(clippy::disallowed_methods, reason = "latencies are measured inside a batch of events")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The time of day, for the header of a log.
#[expect(clippy::disallowed_methods, reason = "logs of several machines are put together by the time of day")]
pub(super) fn time_of_day() -> SystemTime {
    SystemTime::now()
}

/// A duration in whole nanoseconds; far more than any run lasts can be written so.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
