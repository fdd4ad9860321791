//! How often the log says the same.

use std::time::{Duration, Instant};

/// When something that may happen very often is to be logged: once a second at most.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    last: Option<Instant>,
}

const EVERY: Duration = Duration::from_secs(1);

impl Complaints {
    /// None so far.
    pub(crate) const fn new() -> Self {
        Self { last: None }
    }

    /// Whether it may be logged now. It then counts as logged.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= EVERY);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;

    #[test]
    fn what_happens_all_the_time_is_logged_once_a_second() {
        let (begin, mut complaints) = (Instant::now(), Complaints::new());
        let logged = [0, 500, 999, 1000, 1999, 2000, 2001]
            .into_iter()
            .filter(|&millis| complaints.is_due(begin + Duration::from_millis(millis)));
        assert_eq!(logged.collect::<Vec<_>>(), [0, 1000, 2000]);
    }
}
