//! The two directions of a connection, which end separately.

use std::fmt;

use crate::close_reason::CloseReason;

/// What becomes of input.
///
/// ```text
///              pause                 finish
///     Open ─────────────▶ Paused ──────────────▶ Discarded
///     │ ▲                   │                     ▲    │
///     │ │ handed over again │ resume              │    │ peer's FIN
///     │ └───── Resumed ◀────┘                     │    ▼
///     ├───────────┴───────────── finish ──────────┘  Ended
///     └───────────────────── peer's FIN ───────────────▲
/// ```
///
/// What is resumed with nothing left unconsumed is open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecvHalf {
    /// It is handed to the protocol.
    Open,
    /// It is, beginning with what the protocol left unconsumed before it paused; that waits for nothing more to come.
    Resumed,
    /// It stays in the kernel until the protocol resumes.
    Paused,
    /// It is read and dropped: the protocol has finished.
    Discarded,
    /// The peer's FIN has come.
    Ended,
}

impl RecvHalf {
    /// Whether the protocol gets what comes.
    pub(super) const fn is_open(self) -> bool {
        match self {
            Self::Open | Self::Resumed => true,
            Self::Paused | Self::Discarded | Self::Ended => false,
        }
    }

    /// Whether the protocol gets what comes, now or when it resumes.
    pub(super) const fn matters(self) -> bool {
        match self {
            Self::Open | Self::Resumed | Self::Paused => true,
            Self::Discarded | Self::Ended => false,
        }
    }
}

/// What becomes of output.
///
/// ```text
///            the protocol, a deadline or the peer's FIN ends it
///     Open ─────────────────────────────────────────────────▶ Ending: FIN when all is sent
///      │                                                         │
///      └──────── a write fails ────────▶ Broken ◀────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendHalf {
    /// The protocol may write.
    Open,
    /// FIN follows when the queue is flushed, or has followed. This will be the reason of the close if all goes well.
    Ending(CloseReason),
    /// The peer can be sent nothing any more. What it sent before is still read; then this is the reason of the close.
    Broken(CloseReason),
}

impl SendHalf {
    /// Whether output is still possible.
    pub(super) const fn is_open(self) -> bool {
        match self {
            Self::Open => true,
            Self::Ending(_) | Self::Broken(_) => false,
        }
    }

    /// Why nothing can be sent any more, if a write failed.
    pub(super) const fn fault(self) -> Option<CloseReason> {
        match self {
            Self::Broken(reason) => Some(reason),
            Self::Open | Self::Ending(_) => None,
        }
    }
}

impl fmt::Display for RecvHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Resumed => "resumed",
            Self::Paused => "paused",
            Self::Discarded => "discarded",
            Self::Ended => "ended",
        })
    }
}

impl fmt::Display for SendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Ending(reason) => write!(f, "ending ({reason})"),
            Self::Broken(reason) => write!(f, "broken ({reason})"),
        }
    }
}
