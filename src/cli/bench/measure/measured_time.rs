//! The time that is measured.

use std::time::{Duration, Instant};

/// The time that is measured. What was due within it counts, also if its answer comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MeasuredTime {
    from: Instant,
    /// Not part of it; `None` if it has no end yet.
    until: Option<Instant>,
}

impl MeasuredTime {
    /// From `from` for this long; `None` is without end.
    pub(crate) fn new(from: Instant, length: Option<Duration>) -> Self {
        Self { from, until: length.and_then(|length| from.checked_add(length)) }
    }

    pub(crate) const fn from(&self) -> Instant {
        self.from
    }

    pub(crate) const fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(crate) fn contains(&self, time: Instant) -> bool {
        self.from <= time && !self.has_ended(time)
    }

    pub(crate) fn has_ended(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Ends it now, unless it has ended before.
    pub(crate) fn end(&mut self, now: Instant) {
        if !self.has_ended(now) {
            self.until = Some(now.max(self.from));
        }
    }

    /// How long it is; `None` if it has no end yet.
    pub(crate) fn length(&self) -> Option<Duration> {
        self.until.map(|until| until - self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::clock;

    #[test]
    fn the_start_is_part_of_it_and_the_end_is_not() {
        let from = clock::now();
        let after = |millis| from + Duration::from_millis(millis);
        let measured_time = MeasuredTime::new(after(10), Some(Duration::from_millis(10)));
        assert_eq!(
            [9, 10, 19, 20].map(|millis| measured_time.contains(after(millis))),
            [false, true, true, false]
        );
        assert!(MeasuredTime::new(from, None).contains(after(1_000_000)));
    }

    #[test]
    fn it_can_end_early_and_not_late() {
        let from = clock::now();
        let after = |millis| from + Duration::from_millis(millis);
        let ended_at = |millis| {
            let mut measured_time = MeasuredTime::new(after(10), Some(Duration::from_millis(10)));
            measured_time.end(after(millis));
            measured_time.length().unwrap().as_millis()
        };
        assert_eq!([5, 10, 15, 20, 25].map(ended_at), [0, 0, 5, 10, 10]);
    }
}
