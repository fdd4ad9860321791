//! When things are due at a fixed rate, whether or not anyone keeps up.

use std::time::Duration;

use crate::cli::bench::rate::Rate;

/// Events at even intervals, the first one at once. A late event does not delay the ones after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    rate: Rate,
    /// The number of the next event.
    next: u64,
    /// From the number of one event to that of the next. The events between them belong to other shares.
    step: u64,
    /// Events have numbers below this; `None` is without end.
    limit: Option<u64>,
}

impl Schedule {
    /// So many events; `None` is without end.
    pub(super) const fn new(rate: Rate, limit: Option<u64>) -> Self {
        Self { rate, next: 0, step: 1, limit }
    }

    /// The part of its events that the share of this number has, of so many shares. They take turns, so together they
    /// are due as the whole is.
    pub(super) const fn share(self, number: u64, shares: u64) -> Self {
        Self { next: self.next + number * self.step, step: self.step * shares, ..self }
    }

    /// When the next event is due, counted from the start; `None` after the last one.
    pub(super) fn next(&self) -> Option<Duration> {
        if self.limit.is_some_and(|limit| self.next >= limit) {
            return None;
        }
        self.due(self.next)
    }

    /// Leaves out the events that are due this long after the start, or later.
    pub(super) fn end_at(&mut self, end: Duration) {
        let before = self.count_before(end);
        self.limit = Some(self.limit.map_or(before, |limit| limit.min(before)));
    }

    /// Leaves out the events that are due earlier than this after the start.
    pub(super) fn skip_to(&mut self, start: Duration) {
        let early = self.count_before(start).saturating_sub(self.next).div_ceil(self.step);
        self.next += early * self.step;
    }

    /// Takes so many events at once, or as many as there are. Returns how many.
    pub(super) fn take_many(&mut self, count: u64) -> u64 {
        let count = self.left().map_or(count, |left| count.min(left));
        self.next += count * self.step;
        count
    }

    /// How many events are left; `None` is without end.
    pub(super) fn left(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.next).div_ceil(self.step))
    }

    /// How many events of all shares are due earlier than this after the start.
    fn count_before(&self, time: Duration) -> u64 {
        let is_before = |event: u64| self.due(event).is_some_and(|due| due < time);
        let estimate = time.as_secs_f64() * self.rate.per_second();
        // At most 1e9 a second for the longest duration: casts saturate, and rounding is off by a few.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
        let mut count = estimate as u64;
        while count > 0 && !is_before(count - 1) {
            count -= 1;
        }
        while count < u64::MAX && is_before(count) {
            count += 1;
        }
        count
    }

    /// When this event is due.
    fn due(&self, event: u64) -> Option<Duration> {
        Duration::try_from_secs_f64(event as f64 / self.rate.per_second()).ok()
    }

    /// Takes the next event if it is due `elapsed` after the start, and returns when it was due.
    pub(super) fn take(&mut self, elapsed: Duration) -> Option<Duration> {
        let due = self.next().filter(|&due| due <= elapsed)?;
        self.next += self.step;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: &str, limit: Option<u64>) -> Schedule {
        Schedule::new(rate.parse().unwrap(), limit)
    }

    #[test]
    fn events_are_due_at_even_intervals() {
        let mut schedule = schedule("4", None);
        let due: Vec<_> = std::iter::from_fn(|| schedule.take(Duration::from_secs(1))).collect();
        assert_eq!(due, [0, 250, 500, 750, 1000].map(Duration::from_millis));
        assert_eq!(schedule.next(), Some(Duration::from_millis(1250)));
    }

    #[test]
    fn being_late_does_not_move_what_comes_later() {
        let mut schedule = schedule("1k", None);
        assert_eq!(schedule.take(Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(schedule.take(Duration::from_micros(999)), None);
        let late = Duration::from_secs(2);
        for n in 1..=2000 {
            assert_eq!(schedule.take(late), Some(Duration::from_millis(n)));
        }
        assert_eq!(schedule.take(late), None);
    }

    #[test]
    fn what_is_due_outside_of_a_time_is_left_out() {
        let second = Duration::from_secs(1);
        for (rate, count) in
            [("4", 4), ("1k", 1_000), ("30k", 30_000), ("0.3", 0), ("3", 3), ("1G", 1_000_000_000)]
        {
            let mut schedule = schedule(rate, None);
            schedule.skip_to(second);
            schedule.end_at(second * 2);
            assert_eq!(schedule.left(), Some(count), "{rate}");
            if count > 0 {
                assert_eq!(schedule.next(), Some(second), "{rate}");
            }
            assert_eq!(
                (schedule.take_many(2), schedule.take_many(u64::MAX)),
                (count.min(2), count.saturating_sub(2))
            );
            assert_eq!(schedule.next(), None);
        }
        let mut schedule = schedule("10", Some(5));
        schedule.end_at(second);
        assert_eq!(schedule.left(), Some(5), "it ends earlier");
    }

    #[test]
    fn shares_take_turns_and_add_up_to_the_whole() {
        for (limit, start, end) in [(None, 0, 1_000), (Some(10), 0, 1_000), (None, 300, 700), (Some(1), 0, 9)]
        {
            let (start, end) = (Duration::from_millis(start), Duration::from_millis(end));
            let mut whole = schedule("100", limit);
            let shares = (0..3).map(|number| whole.share(number, 3));
            let mut due: Vec<_> = shares
                .flat_map(|mut share| {
                    share.skip_to(start);
                    share.end_at(end);
                    let left = share.left().unwrap();
                    let taken: Vec<_> = std::iter::from_fn(|| share.take(end)).collect();
                    assert_eq!((taken.len() as u64, share.left()), (left, Some(0)));
                    taken
                })
                .collect();
            due.sort();
            whole.skip_to(start);
            whole.end_at(end);
            assert_eq!(due, std::iter::from_fn(|| whole.take(end)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_schedule_ends_with_its_last_event() {
        let mut schedule = schedule("1M", Some(3));
        let later = Duration::from_secs(9);
        assert_eq!(std::iter::from_fn(|| schedule.take(later)).count(), 3);
        assert_eq!(schedule.next(), None);
    }
}
