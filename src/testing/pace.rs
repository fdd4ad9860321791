//! Clients that take their time.

use std::time::{Duration, Instant};

use super::socket::SharedSocket;

/// How fast a client reads and acknowledges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    bytes: usize,
    every: Duration,
    /// What is lost depends on it; nothing if there is none.
    losses: Option<u64>,
}

/// A client of that pace.
#[derive(Debug)]
pub(super) struct Paced {
    socket: SharedSocket,
    pace: Pace,
    next: Instant,
}

impl Pace {
    pub(super) const fn new(bytes: usize, every: Duration) -> Self {
        Self { bytes, every, losses: None }
    }

    pub(super) const fn lose(&mut self, seed: u64) {
        self.losses = Some(seed);
    }

    /// Whether this time nothing comes through: one time in three.
    fn is_lost(&mut self) -> bool {
        let Some(state) = &mut self.losses else { return false };
        // Knuth's generator (TAOCP 3.3.4), of which the upper bits are good.
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33).is_multiple_of(3)
    }
}

impl Paced {
    pub(super) fn new(socket: SharedSocket, pace: Pace, now: Instant) -> Self {
        Self { socket, pace, next: now + pace.every }
    }

    /// When it reads next. Never, once its connection is over.
    pub(super) fn next(&self) -> Option<Instant> {
        let socket = self.socket.borrow();
        Some(self.next).filter(|_| !socket.is_over())
    }

    /// Reads and acknowledges, if that is due.
    pub(super) fn act(&mut self, now: Instant) {
        if self.next > now {
            return;
        }
        self.next += self.pace.every;
        if !self.pace.is_lost() {
            self.socket.borrow_mut().read_some(self.pace.bytes);
        }
    }
}
