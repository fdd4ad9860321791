//! The end of a server, as its connections see it.

use std::time::Instant;

use crate::config::Config;

/// When what happens in a drain.
///
/// A connection is *caught up* when its last read found nothing more and nothing is queued. It ends at its first such
/// moment after a silence, or after the server's patience is over even if its peer goes on talking. Input that was not
/// dealt with is never answered with FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// From when on a connection need not be silent to be told.
    pub patience_ends: Option<Instant>,
    /// When those are told that are never caught up because of their own protocol: it has paused, or always has more
    /// to send. `None`: never.
    pub finish_by: Option<Instant>,
    /// When what is left is cut off. `None`: never.
    pub deadline: Option<Instant>,
}

/// How far the drain has come with one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainStage {
    /// Its protocol is to be told.
    Untold,
    /// The same, but not before a silence: its peer did not take all output at once, so its own system may hold back
    /// what it has sent, and a moment with nothing to read is no sign that all has come.
    UntoldUntilSilent,
    /// Its protocol was told.
    Told,
}

impl Drain {
    /// A drain that begins now.
    pub fn begin(now: Instant, limits: &Config) -> Self {
        let after = |timeout| now.checked_add(timeout);
        Self {
            patience_ends: after(limits.drain_patience),
            finish_by: limits.drain_timeout.and_then(|timeout| after(timeout / 2)),
            deadline: limits.drain_timeout.and_then(after),
        }
    }
}
