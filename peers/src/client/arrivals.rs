//! Visitors that come by the clock, whatever became of those before.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use mio::Registry;

use crate::client::{group::Tally, visitor::Visitors};

/// When visitors come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// So many at once,
    pub(crate) crowd: usize,
    /// again after this time.
    pub(crate) every: Duration,
}

/// The visitors, and those that are due. Each turn deals with one: what others wait for is to be the server.
pub(super) struct Arrivals {
    visitors: Visitors,
    schedule: Schedule,
    next: Option<Instant>,
    due: usize,
    /// The tokens of those that an event has come for.
    ready: VecDeque<usize>,
}

impl Arrivals {
    pub(super) const fn new(visitors: Visitors, schedule: Schedule) -> Self {
        Self { visitors, schedule, next: None, due: 0, ready: VecDeque::new() }
    }

    /// From now on.
    pub(super) const fn begin(&mut self, now: Instant) {
        self.next = Some(now);
    }

    /// None comes any more.
    pub(super) const fn end(&mut self) {
        self.next = None;
        self.due = 0;
    }

    /// Whether all have left that came.
    pub(super) fn is_empty(&self) -> bool {
        self.visitors.len() == 0
    }

    pub(super) fn has_work(&self) -> bool {
        self.due > 0 || !self.ready.is_empty()
    }

    pub(super) fn notice(&mut self, token: usize) {
        self.ready.push_back(token);
    }

    pub(super) fn pace(&mut self, now: Instant) {
        while let Some(next) = self.next.filter(|&next| next <= now) {
            self.due += self.schedule.crowd;
            self.next = Some(next + self.schedule.every);
        }
    }

    /// One goes on, and one comes.
    pub(super) fn turn(&mut self, registry: &Registry) -> io::Result<()> {
        if let Some(token) = self.ready.pop_front() {
            self.visitors.go_on(token)?;
        }
        if self.due > 0 {
            self.due -= 1;
            self.visitors.come(registry)?;
        }
        Ok(())
    }

    pub(super) fn take_tally(&mut self) -> Tally {
        self.visitors.take_tally().0
    }
}
