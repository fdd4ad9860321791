//! When to try again what has blocked or failed.

use std::time::{Duration, Instant};

/// Whether a socket that is watched for edges is worth a try.
///
/// After a failure that leaves something in the socket no event comes again by itself, so a time to retry is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Nothing was there; an event will come.
    Waiting,
    /// There may be something.
    Ready,
    /// Something has run out, or does not work; try again then.
    Retry(Instant),
}

/// How long to wait before trying again when descriptors or memory ran out.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(100);

impl Gate {
    /// Closed for a while, because of a failure.
    pub(crate) fn retry_later(now: Instant) -> Self {
        now.checked_add(RETRY_AFTER).map_or(Self::Ready, Self::Retry)
    }

    /// Notes an event, or another cause to try. It is no cure for what failed.
    pub(crate) const fn set_ready(&mut self) {
        match self {
            Self::Waiting => *self = Self::Ready,
            Self::Ready | Self::Retry(_) => {}
        }
    }

    /// Whether a try is due.
    pub(crate) fn is_ready(self, now: Instant) -> bool {
        match self {
            Self::Waiting => false,
            Self::Ready => true,
            Self::Retry(at) => at <= now,
        }
    }

    /// When to try again if no event comes before.
    pub(crate) const fn retry_at(self) -> Option<Instant> {
        match self {
            Self::Retry(at) => Some(at),
            Self::Waiting | Self::Ready => None,
        }
    }
}
