//! Where the intervals of logs are in time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cli::bench::units;

/// If times in a log are so much earlier than its beginning, they count from its beginning. Otherwise they count from
/// the epoch.
const YEAR: f64 = 365.0 * 24.0 * 3_600.0;

/// The times of one log, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct LogTimes {
    /// What its header says, in seconds since the epoch.
    start_time: Option<f64>,
    base_time: Option<f64>,
    /// When the first interval of messages begins, and the latest ends, counted from the epoch if the log says so.
    first: Option<Duration>,
    last: Duration,
}

/// A period of time, counted from the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    start: Duration,
    end: Duration,
}

impl LogTimes {
    pub(super) const fn start_time(&mut self, seconds: f64) {
        self.start_time = Some(seconds);
    }

    pub(super) const fn base_time(&mut self, seconds: f64) {
        self.base_time = Some(seconds);
    }

    /// Takes note of an interval of messages. Returns when it begins, counted from the first one.
    pub(super) fn begin_interval(&mut self, start: f64, length: Duration) -> Duration {
        let base = match (self.base_time, self.start_time) {
            (Some(base), _) => base,
            (None, Some(begin)) if start < begin - YEAR => begin,
            (None, Some(_) | None) => 0.0,
        };
        let start = Duration::from_secs_f64(base + start);
        let first = *self.first.get_or_insert(start);
        self.last = self.last.max(start.saturating_add(length));
        start.saturating_sub(first)
    }

    /// When the log was written, if it says so.
    pub(super) fn window(&self) -> Option<Window> {
        let start = self.first?;
        // Before 1971 it counts from something else.
        (start.as_secs_f64() >= YEAR).then_some(Window { start, end: self.last })
    }
}

/// From the first beginning to the last end.
pub(super) fn whole(windows: &[(&str, Window)]) -> Option<(SystemTime, SystemTime)> {
    let start = windows.iter().map(|(_, window)| window.start).min()?;
    let end = windows.iter().map(|(_, window)| window.end).max()?;
    Some((UNIX_EPOCH.checked_add(start)?, UNIX_EPOCH.checked_add(end)?))
}

/// Says when logs are not of the same time, so that the sum of their rates was never reached.
pub(super) fn overlap_warning(windows: &[(&str, Window)]) -> Option<String> {
    let (first, first_end) = windows.iter().min_by_key(|(_, window)| window.end)?;
    let (last, last_start) = windows.iter().max_by_key(|(_, window)| window.start)?;
    let (end, start) = (first_end.end, last_start.start);
    if start >= end && first != last {
        let gap = units::duration(start - end);
        return Some(format!(
            "the logs do not overlap in time: {first} ended {gap} before {last} began, so that their rates did not \
             add up"
        ));
    }
    let shortest = windows.iter().map(|(_, window)| window.end.saturating_sub(window.start)).min()?;
    let common = end.saturating_sub(start);
    (common < shortest / 2).then(|| {
        let (common, shortest) = (units::duration(common), units::duration(shortest));
        format!(
            "the logs overlap in time for {common} only, and the shortest takes {shortest}: their rates add up only \
             there"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A log of a minute.
    fn window(start: u64) -> Window {
        let start = Duration::from_secs(1_700_000_000 + start);
        Window { start, end: start + MINUTE }
    }

    #[test]
    fn times_count_from_the_base_from_the_start_or_from_the_epoch() {
        let at = |base: Option<f64>, start: Option<f64>, time: f64| {
            let mut times = LogTimes { base_time: base, start_time: start, ..LogTimes::default() };
            assert_eq!(times.begin_interval(time, MINUTE), Duration::ZERO);
            assert_eq!(times.begin_interval(time + 5.0, MINUTE), Duration::from_secs(5));
            times.window().map(|window| (window.start.as_secs(), window.end.as_secs()))
        };
        let window = Some((1_700_000_003, 1_700_000_068));
        assert_eq!(at(Some(1.7e9), Some(1.7e9), 3.0), window);
        assert_eq!(at(None, Some(1.7e9), 3.0), window);
        assert_eq!(at(None, Some(1.7e9), 1_700_000_003.0), window);
        assert_eq!(at(None, None, 1_700_000_003.0), window);
        assert_eq!(at(None, None, 3.0), None, "nobody knows when");
    }

    #[test]
    fn logs_that_do_not_overlap_are_named() {
        let apart = [("b", window(70)), ("a", window(0))];
        let warning = overlap_warning(&apart).unwrap();
        assert!(warning.contains("a ended 10.0 s before b began"), "{warning}");
        let hardly = overlap_warning(&[("a", window(0)), ("b", window(55))]).unwrap();
        assert!(hardly.contains("for 5 s only"), "{hardly}");
        for together in [&[("a", window(0))][..], &[("a", window(0)), ("b", window(10))], &[]] {
            assert_eq!(overlap_warning(together), None);
        }
    }
}
