//! The clocks of the load generator. The event loop's own clock stands still during a batch of events, which is too
//! coarse for latencies.

use std::time::{Duration, Instant, SystemTime};

/// The current time, for durations.
#[expect(clippy::disallowed_methods, reason = "latencies are measured inside a batch of events")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day, for the header of a log and for a start at a given time.
#[expect(clippy::disallowed_methods, reason = "logs of several machines are merged by the time of day")]
pub(crate) fn time_of_day() -> SystemTime {
    SystemTime::now()
}

/// The CPU time that this process has taken; `None` if the system does not say.
pub(crate) fn cpu_time() -> Option<Duration> {
    #[cfg(all(unix, not(any(target_os = "illumos", target_os = "solaris"))))]
    return rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).try_into().ok();
    #[cfg(any(not(unix), target_os = "illumos", target_os = "solaris"))]
    None
}

/// A duration in whole nanoseconds, at most `u64::MAX`, which is more than 500 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
