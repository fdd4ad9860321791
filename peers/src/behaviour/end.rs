//! How a stream ends for a client.

use std::{io::ErrorKind, time::Duration};

/// How long a client waits for a byte before it gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// How a stream ended for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// FIN.
    Clean,
    Reset,
    /// Not at all.
    Stuck,
}

impl End {
    pub(super) fn of(error: ErrorKind) -> Self {
        if error == ErrorKind::WouldBlock || error == ErrorKind::TimedOut { Self::Stuck } else { Self::Reset }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Clean => "FIN",
            Self::Reset => "reset",
            Self::Stuck => "stuck",
        }
    }
}
