//! When the connections of a group that follow a clock are due.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// What the client does until the next message is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idling {
    /// It looks at the clock all the time, as it has a core of its own.
    Spin,
    /// The same, but it lets the server run in between, as they share a core.
    Yield,
}

/// One connection after the other, evenly over the period.
pub(super) struct Pacer {
    connections: Range<usize>,
    step: Duration,
    next: usize,
    due: Option<Instant>,
}

impl Pacer {
    pub(super) fn new(connections: Range<usize>, period: Duration) -> Self {
        let count = u32::try_from(connections.len()).unwrap_or(u32::MAX).max(1);
        Self { next: connections.start, connections, step: period / count, due: None }
    }

    /// From now on.
    pub(super) const fn begin(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// One that is due by `now`, and when it was.
    pub(super) fn next_until(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let due = self.due.filter(|&due| due <= now)?;
        let index = self.next;
        self.next = if index + 1 < self.connections.end { index + 1 } else { self.connections.start };
        self.due = Some(due + self.step);
        Some((index, due))
    }
}
