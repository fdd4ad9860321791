//! What a callback asks for, besides what it writes.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::timeout::TimerKey;
use crate::{cause::Cause, connection_id::ConnectionId, shared_bytes::SharedBytes, tls::TlsRole};

/// TLS that is to begin behind what was written by then.
#[derive(Debug)]
pub(crate) struct WantedTls {
    /// Which end of it.
    pub(crate) role: TlsRole,
    /// Output and shared pieces that come before.
    pub(crate) at: usize,
    pub(crate) pieces: usize,
}

/// What a callback asked for, besides what it wrote. A protocol that calls an inner one gets the inner one's to see and to
/// pass on, or not: [`Context::inner`](crate::Context::inner).
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Requests {
    /// Whether reading is to be paused or resumed, whichever was asked for last.
    pub reading: Option<Reading>,
    /// How the connection is to end: the strongest that was asked for.
    pub ending: Option<Ending>,
    /// The protocol was told [`Flow::Full`](crate::Flow::Full) and waits for `on_writable`.
    pub(crate) told_full: bool,
    /// Nothing more can be written.
    pub(crate) output_closed: bool,
    /// How many bytes were written all the same.
    pub(crate) refused: usize,
    /// The range of the input that is sent as it is, before the output.
    pub(crate) forward: Range<usize>,
    /// What few callbacks ask for: it costs the others nothing.
    pub(crate) rare: Option<Box<RareRequests>>,
}

/// What few callbacks ask for.
#[derive(Debug, Default)]
pub(crate) struct RareRequests {
    /// The connection to be relayed with.
    pub(crate) relay: Option<ConnectionId>,
    /// TLS that is to begin.
    pub(crate) tls: Option<WantedTls>,
    /// Timers to set, or to cancel where there is no instant.
    pub(crate) timers: Vec<(TimerKey, Option<Instant>)>,
    /// Idle timeouts of this connection's own.
    pub(crate) idle_timeouts: Vec<(IdleTimeout, Option<Duration>)>,
    /// Output that is not copied: each piece with how much of the output is before it, and how many bytes these are.
    pub(crate) shared: Vec<(usize, SharedBytes)>,
    pub(crate) shared_len: usize,
    /// How many answers will come: of outbound connections and of work that blocks.
    pub(crate) answers_due: u32,
}

impl Requests {
    /// The connection to be [relayed](crate::Context::relay) with.
    #[must_use]
    pub fn relay(&self) -> Option<ConnectionId> {
        self.rare.as_ref()?.relay
    }

    /// Takes the wish to be relayed out of it: it is not passed on.
    pub fn take_relay(&mut self) -> Option<ConnectionId> {
        self.rare.as_mut()?.relay.take()
    }

    /// Bytes of output that is not copied.
    pub(crate) fn shared_len(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.shared_len)
    }

    /// Whether there is output that is not simply behind what was gathered: shared, or behind a request for TLS.
    pub(crate) fn has_pieces(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.shared_len > 0 || rare.tls.is_some())
    }

    pub(crate) fn rare_mut(&mut self) -> &mut RareRequests {
        self.rare.get_or_insert_default()
    }

    pub(crate) const fn take_rare(&mut self) -> Option<Box<RareRequests>> {
        self.rare.take()
    }

    pub(crate) fn set_rare(&mut self, rare: Option<Box<RareRequests>>) {
        self.rare = rare;
    }

    /// What becomes of this timer, if it was set or cancelled: when it fires.
    pub(crate) fn timer(&self, timer: TimerKey) -> Option<Option<Instant>> {
        let set = self.rare.as_ref()?.timers.iter().rev().find(|(known, _)| *known == timer);
        set.map(|&(_, at)| at)
    }
}

/// One of the timeouts of an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdleTimeout {
    Idle,
    ReadIdle,
    WriteIdle,
}

/// What a protocol wants to become of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// [`Context::pause_reading`](crate::Context::pause_reading).
    Pause,
    /// [`Context::resume_reading`](crate::Context::resume_reading).
    Resume,
}

/// How a protocol wants its connection to end. The stronger come later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Ending {
    /// [`Context::shutdown_write`](crate::Context::shutdown_write).
    ShutdownWrite,
    /// [`Context::finish`](crate::Context::finish).
    Finish,
    /// [`Context::give_up`](crate::Context::give_up).
    GiveUp,
    /// [`Context::abort`](crate::Context::abort).
    Abort,
    /// [`Context::abort_because`](crate::Context::abort_because).
    AbortBecause(Cause),
}

impl Ending {
    /// Whether nothing more is handed to the protocol: all but [`ShutdownWrite`](Self::ShutdownWrite).
    #[must_use]
    pub fn discards_input(self) -> bool {
        self >= Self::Finish
    }
}
