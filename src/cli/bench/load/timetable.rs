//! When the messages of an open loop are due, on the clock.

use std::time::Instant;

use super::schedule::Schedule;

/// Messages that are left over are counted in at most about this many groups.
const GROUPS: u64 = 1_000;

/// When messages are due, as far as they are not taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timetable {
    schedule: Schedule,
    begin: Instant,
    /// When the measured time begins; `None` after that.
    measured_from: Option<Instant>,
}

/// Messages that were due at about the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) due: Instant,
    pub(super) count: u64,
}

impl Timetable {
    /// The schedule counts from `begin`. What is due before the measured time, and is late when that begins, is left
    /// out.
    pub(super) const fn new(schedule: Schedule, begin: Instant, measured_from: Instant) -> Self {
        Self { schedule, begin, measured_from: Some(measured_from) }
    }

    /// When the next message is due; `None` after the last one.
    pub(super) fn next(&self) -> Option<Instant> {
        self.begin.checked_add(self.schedule.next()?)
    }

    /// Takes the next message if it is due, and returns when it was due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        if let Some(from) = self.measured_from.take_if(|from| *from <= now) {
            self.schedule.skip_to(from.saturating_duration_since(self.begin));
        }
        let due = self.schedule.take(now.checked_duration_since(self.begin)?)?;
        Some(self.begin + due)
    }

    /// Leaves out what is due at this time or later.
    pub(super) fn end_at(&mut self, end: Instant) {
        self.schedule.end_at(end.saturating_duration_since(self.begin));
    }

    /// All that is left of it, which has an end.
    pub(super) fn left(mut self) -> impl Iterator<Item = Group> {
        let size = self.schedule.left().unwrap_or(0) / GROUPS + 1;
        std::iter::from_fn(move || {
            let due = self.next()?;
            Some(Group { due, count: self.schedule.take_many(size) })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::bench::clock;

    /// 100 messages in a second, measured from 50 ms on.
    fn timetable(limit: Option<u64>) -> (Timetable, impl Fn(u64) -> Instant) {
        let begin = clock::now();
        let at = move |millis| begin + Duration::from_millis(millis);
        (Timetable::new(Schedule::new("100".parse().unwrap(), limit), begin, at(50)), at)
    }

    #[test]
    fn messages_are_taken_when_they_are_due() {
        let (mut timetable, at) = timetable(Some(3));
        assert_eq!(timetable.take(at(0)), Some(at(0)));
        assert_eq!((timetable.next(), timetable.take(at(9))), (Some(at(10)), None));
        assert_eq!([timetable.take(at(20)), timetable.take(at(20))], [Some(at(10)), Some(at(20))]);
        assert_eq!((timetable.next(), timetable.take(at(1_000))), (None, None));
    }

    #[test]
    fn none_is_taken_before_the_beginning() {
        let (mut timetable, at) = timetable(None);
        assert_eq!(timetable.take(at(0).checked_sub(Duration::from_millis(1)).unwrap()), None);
    }

    #[test]
    fn what_is_late_from_the_warmup_is_left_out() {
        let (mut timetable, at) = timetable(None);
        assert_eq!(timetable.take(at(49)), Some(at(0)));
        assert_eq!(timetable.take(at(70)), Some(at(50)), "four were late");
        assert_eq!(timetable.take(at(70)), Some(at(60)), "this one is late and measured");
    }

    #[test]
    fn what_is_left_is_what_was_due_before_the_end_and_was_not_taken() {
        let (mut timetable, at) = timetable(None);
        timetable.take(at(0));
        timetable.end_at(at(40));
        let left: Vec<_> = timetable.left().collect();
        assert_eq!(left, [10, 20, 30].map(|millis| Group { due: at(millis), count: 1 }));
    }

    #[test]
    fn much_that_is_left_is_grouped() {
        let (mut timetable, at) = timetable(None);
        timetable.end_at(at(1_000_000));
        assert_eq!(timetable.left().map(|group| group.count).sum::<u64>(), 100_000);
        assert!(timetable.left().count() as u64 <= GROUPS);
    }
}
