//! When the status is looked at, and when the watchdog is fed.

use std::time::{Duration, Instant};

/// The status is renewed this often at most.
const STATUS_PERIOD: Duration = Duration::from_secs(3);

/// When what is to be done next.
#[derive(Debug)]
pub(super) struct Timetable {
    status: Periodic,
    watchdog: Option<Periodic>,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) status: bool,
    /// The watchdog is to be fed if all loops answer within this time.
    pub(super) watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Periodic {
    period: Duration,
    next: Instant,
}

impl Timetable {
    /// With a sign of life each `watchdog`, if that is wanted.
    pub(super) fn new(now: Instant, watchdog: Option<Duration>) -> Self {
        // As sd_watchdog_enabled(3) recommends.
        let watchdog = watchdog.map(|period| Periodic::new(now, period / 2));
        Self { status: Periodic::new(now, STATUS_PERIOD), watchdog }
    }

    /// How long there is nothing to do.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let next = self.watchdog.iter().map(|watchdog| watchdog.next).fold(self.status.next, Instant::min);
        next.saturating_duration_since(now)
    }

    /// What is to be done, which is then done.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let status = self.status.is_due(now);
        // Half of the time that is left is for what is slow.
        let watchdog =
            self.watchdog.as_mut().and_then(|watchdog| watchdog.is_due(now).then_some(watchdog.period / 2));
        Due { status, watchdog }
    }
}

impl Periodic {
    fn new(now: Instant, period: Duration) -> Self {
        Self { period, next: now + period }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            // What was missed is not made up for.
            self.next = (self.next + self.period).max(now);
        }
        is_due
    }
}

/// How often a process has to give a sign of life, by what its environment says.
pub(super) fn watchdog_period(usec: Option<String>, pid: Option<String>, own_pid: u32) -> Option<Duration> {
    let is_for_us = pid.is_none_or(|pid| pid.parse() == Ok(own_pid));
    let usec = usec?.parse().ok().filter(|&usec: &u64| is_for_us && usec > 0);
    usec.map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::{super::now, *};

    #[test]
    fn the_watchdog_is_fed_twice_in_its_period_with_patience_for_half_of_that() {
        let begin = now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut timetable = Timetable::new(begin, Some(Duration::from_secs(4)));
        assert_eq!(timetable.wait(begin), Duration::from_secs(2));
        assert_eq!(timetable.due(at(1999)), Due { status: false, watchdog: None });
        let fed = Some(Duration::from_secs(1));
        assert_eq!(timetable.due(at(2000)), Due { status: false, watchdog: fed });
        assert_eq!(timetable.wait(at(2500)), Duration::from_millis(500));
        assert_eq!(timetable.due(at(3000)), Due { status: true, watchdog: None });
        // It keeps time, also if it was held up.
        assert_eq!(timetable.due(at(4900)), Due { status: false, watchdog: fed });
        assert_eq!(timetable.wait(at(4900)), Duration::from_millis(1100));
        assert_eq!(timetable.due(at(20_000)), Due { status: true, watchdog: fed });
        assert_eq!(timetable.wait(at(20_000)), Duration::ZERO);
        assert_eq!(timetable.due(at(20_000)), Due { status: true, watchdog: fed });
        assert_eq!(timetable.wait(at(20_000)), Duration::from_secs(2));
    }

    #[test]
    fn without_a_watchdog_only_the_status_is_looked_at() {
        let begin = now();
        let mut timetable = Timetable::new(begin, None);
        assert_eq!(timetable.wait(begin), STATUS_PERIOD);
        assert_eq!(timetable.due(begin + STATUS_PERIOD), Due { status: true, watchdog: None });
    }

    #[test]
    fn the_watchdog_may_be_that_of_another_process() {
        let period = |usec: &str, pid: Option<&str>| {
            watchdog_period(Some(usec.to_owned()), pid.map(str::to_owned), 42)
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(period("1000000", Some("42")), second);
        assert_eq!(period("1000000", None), second);
        for (usec, pid) in [("1000000", "43"), ("1000000", ""), ("0", "42"), ("", "42"), ("-1", "42")] {
            assert_eq!(period(usec, Some(pid)), None, "{usec} {pid}");
        }
        assert_eq!(watchdog_period(None, None, 42), None);
    }
}
