//! When to wake up for something that is due.

use std::time::{Duration, Instant};

/// A wait that is over in time makes `early` shorter by this, one that is late makes it longer by twice as much: so two of
/// three are in time.
const STEP: Duration = Duration::from_micros(1);

/// Never more early than this: it is time that is not slept.
const EARLY_MAX: Duration = Duration::from_micros(100);

/// Systems wake a sleeper late, virtual machines by tens of microseconds. So one that is to be in time wakes up earlier, by
/// as much as it was late before, and does not sleep for the rest.
#[derive(Debug)]
pub(super) struct WakeUp {
    early: Duration,
    /// When the wait that is going on is to be over.
    asleep_until: Option<Instant>,
}

impl WakeUp {
    pub(super) const fn new() -> Self {
        Self { early: Duration::ZERO, asleep_until: None }
    }

    /// When to wake up for what is due then. That may be now.
    pub(super) fn before(&mut self, due: Instant, now: Instant) -> Instant {
        let wake = due.checked_sub(self.early).unwrap_or(due);
        self.asleep_until = (now < wake).then_some(wake);
        wake
    }

    /// Learns how late the wait is over, if there was one.
    pub(super) fn woken(&mut self, now: Instant) {
        let Some(wake) = self.asleep_until.take_if(|wake| *wake <= now) else { return };
        self.early = if now.saturating_duration_since(wake) > self.early {
            (self.early + STEP * 2).min(EARLY_MAX)
        } else {
            self.early.saturating_sub(STEP)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::clock;

    /// Waits for things that are due 1 ms apart, and returns how late each is woken for.
    fn lateness(late_micros: impl Iterator<Item = u64>) -> Vec<Duration> {
        let (mut wake_up, mut due) = (WakeUp::new(), clock::now());
        let late = late_micros.map(|late| {
            let now = due;
            due += Duration::from_millis(1);
            let woken = wake_up.before(due, now) + Duration::from_micros(late);
            wake_up.woken(woken);
            woken.saturating_duration_since(due)
        });
        late.collect()
    }

    #[test]
    fn one_who_is_always_woken_late_wakes_up_as_much_earlier() {
        let late = lateness(std::iter::repeat_n(40, 100));
        assert_eq!(late[0], Duration::from_micros(40));
        assert!(late[50..].iter().all(|&late| late <= STEP), "{late:?}");
    }

    #[test]
    fn now_and_then_it_is_much_later_and_that_changes_little() {
        let late = lateness((0..200).map(|n| if n % 10 == 0 { 5_000 } else { 40 }));
        let in_time = late[100..].iter().filter(|&&late| late <= STEP * 3).count();
        assert_eq!(in_time, 90, "{late:?}");
    }

    #[test]
    fn it_is_never_much_too_early() {
        let late = lateness(std::iter::repeat_n(5_000, 1_000));
        assert_eq!(late.last(), Some(&(Duration::from_micros(5_000) - EARLY_MAX)));
    }

    #[test]
    fn what_is_due_soon_is_not_slept_for() {
        let mut wake_up = WakeUp { early: Duration::from_micros(50), asleep_until: None };
        let now = clock::now();
        assert!(wake_up.before(now + Duration::from_micros(20), now) <= now);
        wake_up.woken(now + Duration::from_secs(1));
        assert_eq!(wake_up.early, Duration::from_micros(50), "it did not sleep");
    }
}
