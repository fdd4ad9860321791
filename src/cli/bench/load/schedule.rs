//! When things are due at a fixed rate, whether or not anyone keeps up.

use std::time::Duration;

use crate::cli::bench::rate::Rate;

/// Events at even intervals, the first one at once. A late event does not delay the ones after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    rate: Rate,
    /// How many were taken.
    taken: u64,
    /// How many there are in all; `None` is without end.
    limit: Option<u64>,
}

impl Schedule {
    pub(super) const fn new(rate: Rate, limit: Option<u64>) -> Self {
        Self { rate, taken: 0, limit }
    }

    /// When the next event is due, counted from the start; `None` after the last one.
    pub(super) fn next(&self) -> Option<Duration> {
        if self.limit.is_some_and(|limit| self.taken >= limit) {
            return None;
        }
        Duration::try_from_secs_f64(self.taken as f64 / self.rate.per_second()).ok()
    }

    /// Takes the next event if it is due `elapsed` after the start, and returns when it was due.
    pub(super) fn take(&mut self, elapsed: Duration) -> Option<Duration> {
        let due = self.next().filter(|&due| due <= elapsed)?;
        self.taken += 1;
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
    fn a_schedule_ends_with_its_last_event() {
        let mut schedule = schedule("1M", Some(3));
        let later = Duration::from_secs(9);
        assert_eq!(std::iter::from_fn(|| schedule.take(later)).count(), 3);
        assert_eq!(schedule.next(), None);
    }
}
