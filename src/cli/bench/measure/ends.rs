//! How connections ended, with a counter for each kind.

use std::{io::ErrorKind, ops::AddAssign};

use echoloop::CloseReason;
use indicatif::HumanCount;
use serde::Serialize;

/// How one connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As documented: we sent our FIN, everything came back, and then the server's FIN came.
    Fin,
    /// The echo differs from what was sent, or is longer.
    Corrupt,
    /// The server's FIN came, and part of the echo was missing; or over TLS it came without close_notify.
    Truncated,
    /// The server's FIN came before ours, though nothing was missing.
    ShortClose,
    /// The server reset the connection.
    Reset,
    /// An answer was owed, and nothing came for the timeout, or not all of it in time when the load was over.
    Unanswered,
    /// The connection was refused: nobody listens there.
    Refused,
    /// The connection was not established within the timeout.
    ConnectTimeout,
    /// It could not be established for another reason.
    ConnectFailed(ErrorKind),
    /// It failed for another reason after it was established.
    Failed,
    /// We stopped while it was being established.
    Cancelled,
}

impl End {
    /// The end that a close reason stands for, where the protocol has seen nothing more specific. `was_open` says
    /// whether the connection was established.
    pub(crate) fn of_close(reason: CloseReason, was_open: bool) -> Self {
        match reason {
            CloseReason::Peer | CloseReason::Finished | CloseReason::Drained => Self::Fin,
            CloseReason::Reset | CloseReason::ResetUndelivered => Self::Reset,
            CloseReason::Aborted | CloseReason::ServerAborted if !was_open => Self::Cancelled,
            CloseReason::Aborted
            | CloseReason::ServerAborted
            | CloseReason::Idle
            | CloseReason::WriteStall
            | CloseReason::DrainTimeout
            | CloseReason::LingerTimeout
            | CloseReason::LingerSilence
            | CloseReason::LingerBytes => Self::Unanswered,
            CloseReason::Truncated => Self::Truncated,
            CloseReason::ConnectTimeout | CloseReason::HandshakeTimeout => Self::ConnectTimeout,
            CloseReason::HandshakeFailed => Self::ConnectFailed(ErrorKind::InvalidData),
            CloseReason::HandshakeAbandoned => Self::ConnectFailed(ErrorKind::UnexpectedEof),
            CloseReason::ConnectFailed(kind) => Self::of_connect(kind),
            CloseReason::Panicked
            | CloseReason::InputLimit
            | CloseReason::QueueLimit
            | CloseReason::Failed(_)
            | _ => Self::Failed,
        }
    }

    fn of_connect(kind: ErrorKind) -> Self {
        if kind == ErrorKind::ConnectionRefused {
            Self::Refused
        } else if kind == ErrorKind::TimedOut {
            Self::ConnectTimeout
        } else {
            Self::ConnectFailed(kind)
        }
    }

    /// Why the connection could not be established, if that is how it ended.
    const fn connect_error(self) -> Option<ErrorKind> {
        match self {
            Self::Refused => Some(ErrorKind::ConnectionRefused),
            Self::ConnectTimeout => Some(ErrorKind::TimedOut),
            Self::ConnectFailed(kind) => Some(kind),
            Self::Fin
            | Self::Corrupt
            | Self::Truncated
            | Self::ShortClose
            | Self::Reset
            | Self::Unanswered
            | Self::Failed
            | Self::Cancelled => None,
        }
    }
}

/// How many connections ended in each way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    pub(crate) fin: u64,
    pub(crate) failures: Failures,
    /// Why the first connection failed that could not be established.
    pub(crate) first_connect_error: Option<ErrorKind>,
}

/// How many connections ended in a way that they should not. The names are those of the JSON report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Failures {
    pub(crate) corrupt: u64,
    pub(crate) truncated: u64,
    pub(crate) short_close: u64,
    pub(crate) reset: u64,
    pub(crate) unanswered: u64,
    pub(crate) refused: u64,
    pub(crate) connect_timeout: u64,
    pub(crate) connect_failed: u64,
    pub(crate) failed: u64,
}

impl Ends {
    pub(crate) fn count(&mut self, end: End) {
        let failures = &mut self.failures;
        let counter = match end {
            End::Fin => &mut self.fin,
            End::Corrupt => &mut failures.corrupt,
            End::Truncated => &mut failures.truncated,
            End::ShortClose => &mut failures.short_close,
            End::Reset => &mut failures.reset,
            End::Unanswered => &mut failures.unanswered,
            End::Refused => &mut failures.refused,
            End::ConnectTimeout => &mut failures.connect_timeout,
            End::ConnectFailed(_) => &mut failures.connect_failed,
            End::Failed => &mut failures.failed,
            End::Cancelled => return,
        };
        *counter += 1;
        self.first_connect_error = self.first_connect_error.or(end.connect_error());
    }
}

impl AddAssign<&Self> for Ends {
    fn add_assign(&mut self, more: &Self) {
        self.fin += more.fin;
        let (sum, more_failures) = (&mut self.failures, &more.failures);
        sum.corrupt += more_failures.corrupt;
        sum.truncated += more_failures.truncated;
        sum.short_close += more_failures.short_close;
        sum.reset += more_failures.reset;
        sum.unanswered += more_failures.unanswered;
        sum.refused += more_failures.refused;
        sum.connect_timeout += more_failures.connect_timeout;
        sum.connect_failed += more_failures.connect_failed;
        sum.failed += more_failures.failed;
        self.first_connect_error = self.first_connect_error.or(more.first_connect_error);
    }
}

impl Failures {
    /// The count of each kind, with its name for people.
    pub(crate) const fn all(&self) -> [(&'static str, u64); 9] {
        [
            ("corrupt", self.corrupt),
            ("truncated", self.truncated),
            ("closed early", self.short_close),
            ("reset", self.reset),
            ("unanswered", self.unanswered),
            ("refused", self.refused),
            ("timed out connecting", self.connect_timeout),
            ("failed to connect", self.connect_failed),
            ("failed", self.failed),
        ]
    }

    pub(crate) fn total(&self) -> u64 {
        self.all().iter().map(|(_, count)| count).sum()
    }
}

/// The kinds that occurred, as `2 corrupt, 1 reset`; `none` if there were none.
pub(super) fn summary(kinds: impl Iterator<Item = (&'static str, u64)>) -> String {
    let occurred: Vec<String> = kinds
        .filter(|&(_, count)| count > 0)
        .map(|(name, count)| format!("{} {name}", HumanCount(count)))
        .collect();
    if occurred.is_empty() { "none".to_owned() } else { occurred.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [End; 11] = [
        End::Fin,
        End::Corrupt,
        End::Truncated,
        End::ShortClose,
        End::Reset,
        End::Unanswered,
        End::Refused,
        End::ConnectTimeout,
        End::ConnectFailed(ErrorKind::AddrNotAvailable),
        End::Failed,
        End::Cancelled,
    ];

    #[test]
    fn every_end_but_a_fin_and_what_we_cancelled_is_a_failure_of_its_own() {
        let mut sum = Ends::default();
        for end in ALL {
            let mut ends = Ends::default();
            ends.count(end);
            let is_failure = !matches!(end, End::Fin | End::Cancelled);
            assert_eq!(ends.failures.total(), u64::from(is_failure), "{end:?}");
            assert_eq!(ends.fin, u64::from(end == End::Fin));
            sum += &ends;
        }
        assert_eq!((sum.fin, sum.failures.total()), (1, 9));
        assert!(sum.failures.all().iter().all(|&(_, count)| count == 1));
        assert_eq!(sum.first_connect_error, Some(ErrorKind::ConnectionRefused));
    }

    #[test]
    fn what_is_given_up_when_the_load_is_over_is_unanswered_if_it_was_established() {
        for reason in [CloseReason::Aborted, CloseReason::ServerAborted] {
            assert_eq!(End::of_close(reason, true), End::Unanswered);
            assert_eq!(End::of_close(reason, false), End::Cancelled);
        }
    }

    #[test]
    fn the_summary_names_what_there_was() {
        let summary = |failures: Failures| summary(failures.all().into_iter());
        assert_eq!(summary(Failures::default()), "none");
        let failures = Failures { corrupt: 2, refused: 1_000, ..Failures::default() };
        assert_eq!(summary(failures), "2 corrupt, 1,000 refused");
    }
}
