//! When things are due at a fixed rate, whether or not anyone keeps up.

use std::{fmt, str::FromStr, time::Duration};

use super::units;
use crate::cli::values;

/// So many in a second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Rate(f64);

impl Rate {
    pub(crate) const fn per_second(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    /// As `500`, `10k`, `10k/s` or `1.5M/s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().strip_suffix("/s").unwrap_or(text.trim());
        match values::scaled(number) {
            Some(rate) if (1e-3..=1e9).contains(&rate) => Ok(Self(rate)),
            Some(_) => Err("it must be from 0.001 to 1G in a second".to_owned()),
            None => Err("write it like 500, 10k/s or 1.5M/s".to_owned()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", units::number(self.0))
    }
}

/// Events at even distances, the first at once. What comes late changes nothing for those behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    rate: Rate,
    /// How many were taken.
    taken: u64,
    /// How many there are in all.
    limit: Option<u64>,
}

impl Schedule {
    pub(crate) const fn new(rate: Rate, limit: Option<u64>) -> Self {
        Self { rate, taken: 0, limit }
    }

    /// When the next one is due, from the beginning; `None` after the last.
    pub(crate) fn next(&self) -> Option<Duration> {
        if self.limit.is_some_and(|limit| self.taken >= limit) {
            return None;
        }
        Duration::try_from_secs_f64(self.taken as f64 / self.rate.0).ok()
    }

    /// Takes the next one if it is due `elapsed` after the beginning, and says when it was.
    pub(crate) fn take(&mut self, elapsed: Duration) -> Option<Duration> {
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
    fn rates_have_units_and_bounds() {
        for (text, rate) in
            [("1", 1.0), ("10k", 10_000.0), ("10k/s", 10_000.0), ("1.5M/s", 1.5e6), ("0.5", 0.5)]
        {
            assert_eq!(text.parse(), Ok(Rate(rate)), "{text}");
        }
        for bad in ["", "0", "-1", "x", "10k/h", "/s", "nan", "inf", "2G", "1e3"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        assert_eq!("10k/s".parse::<Rate>().unwrap().to_string(), "10,000/s");
    }

    #[test]
    fn events_are_due_at_even_distances() {
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
