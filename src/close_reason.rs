//! How a connection ended, as a value.

use std::{fmt, io};

use crate::cause::Cause;

/// How a connection ended: who ended it, and whether everything owed to the peer was delivered.
///
/// *Owed* is what a protocol wrote (an echo server: what it read). *Delivered* means that the peer's system has
/// acknowledged it, with the FIN behind it. Linux and Apple's systems can say that of TCP. Elsewhere, as on Windows and
/// for Unix sockets, what our own system took counts as delivered; it goes on sending it when the socket is closed.
///
/// ```
/// use echoloop::{CloseReason, EndedBy};
///
/// assert!(CloseReason::Peer.is_complete());
/// assert_eq!(CloseReason::WriteStall.ended_by(), EndedBy::Deadline);
/// assert_eq!(CloseReason::LingerSilence.to_string(), "linger silence");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer sent its FIN first; everything owed was delivered, and our FIN.
    Peer,
    /// The same, but over TLS: the peer sent its FIN without a close_notify, so that nobody knows whether that was all
    /// that it had to say (RFC 8446, section 6.1). What came was dealt with, and everything owed was delivered.
    Truncated,
    /// The protocol finished first; everything was delivered, and our FIN, and the peer's FIN came.
    Finished,
    /// The idle deadline ended it; everything was delivered, and our FIN, and the peer's FIN came.
    Idle,
    /// A drain ended it, or its protocol after it was told of the drain; everything was delivered, and our FIN, and the
    /// peer's FIN came.
    Drained,
    /// Everything was delivered, and our FIN, but the peer did not end within the linger timeout, or before the end of
    /// a drain.
    LingerTimeout,
    /// Everything was delivered, and our FIN; the peer neither sent a byte nor ended for the linger silence.
    LingerSilence,
    /// Everything was delivered, and our FIN; the peer went on sending more than the linger byte cap.
    LingerBytes,
    /// The peer reset the connection, or was gone, when everything owed to it was delivered.
    Reset,
    /// The peer reset the connection, or was gone, before everything owed to it was delivered: the rest is lost.
    ResetUndelivered,
    /// The peer's system acknowledged nothing of what was owed for the write timeout: that is lost.
    WriteStall,
    /// The drain deadline cut it off before everything owed was delivered.
    DrainTimeout,
    /// The protocol aborted it.
    Aborted,
    /// The protocol aborted it for a cause of its own: [`Context::abort_because`](crate::Context::abort_because). Its name
    /// is that of the cause.
    AbortedBecause(Cause),
    /// The operator aborted the server, [`Handle::abort`](crate::Handle::abort), or a drain began before an outbound
    /// connection was made.
    ServerAborted,
    /// A callback of the protocol panicked.
    Panicked,
    /// The protocol gave up on a peer that receives too slowly: [`Context::give_up`](crate::Context::give_up).
    SlowReader,
    /// The connection that it was relayed with ended before everything was passed on, or there was none to be
    /// relayed with: [`Context::relay`](crate::Context::relay).
    RelayBroken,
    /// The protocol left as much input unconsumed as the input limit allows.
    InputLimit,
    /// The protocol queued more output than the queue limit.
    QueueLimit,
    /// Another error of the operating system, such as a keep-alive that ran out.
    Failed(io::ErrorKind),
    /// An outbound connection could not be made.
    ConnectFailed(io::ErrorKind),
    /// An outbound connection was not made within the connect timeout.
    ConnectTimeout,
    /// An outbound connection was not made when the connection whose protocol had asked for it ended.
    Cancelled,
    /// A TLS handshake failed: the peer speaks something else, or one of both refused the other. The log says why at debug.
    HandshakeFailed,
    /// A TLS handshake took longer than the handshake timeout.
    HandshakeTimeout,
    /// The peer ended, or reset, before its TLS handshake was complete: often one that only looks whether somebody listens.
    HandshakeAbandoned,
    /// Where clients come through proxies that say for whom: this one came from elsewhere, or its header was wrong;
    /// [`Config::proxy_protocol`](crate::Config::proxy_protocol).
    ProxyRefused,
}

/// Who or what ended a connection; see [`CloseReason::ended_by`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndedBy {
    /// The peer, by FIN or reset, or the peer that it was relayed with.
    Peer,
    /// The protocol, or a bug in it.
    Protocol,
    /// A deadline or another limit that the operator set.
    Deadline,
    /// The operator: drain or abort.
    Operator,
    /// The operating system or the network.
    System,
}

/// The number of variants of [`CloseReason`] but `AbortedBecause`, for the counters.
pub(crate) const REASONS: usize = 27;

impl CloseReason {
    /// Every reason once, but for the causes of protocols; the error kinds are placeholders. The order is that of the
    /// variants.
    pub(crate) const ALL: [Self; REASONS] = [
        Self::Peer,
        Self::Truncated,
        Self::Finished,
        Self::Idle,
        Self::Drained,
        Self::LingerTimeout,
        Self::LingerSilence,
        Self::LingerBytes,
        Self::Reset,
        Self::ResetUndelivered,
        Self::WriteStall,
        Self::DrainTimeout,
        Self::Aborted,
        Self::ServerAborted,
        Self::Panicked,
        Self::SlowReader,
        Self::RelayBroken,
        Self::InputLimit,
        Self::QueueLimit,
        Self::Failed(io::ErrorKind::Other),
        Self::ConnectFailed(io::ErrorKind::Other),
        Self::ConnectTimeout,
        Self::Cancelled,
        Self::HandshakeFailed,
        Self::HandshakeTimeout,
        Self::HandshakeAbandoned,
        Self::ProxyRefused,
    ];

    /// Whether everything owed to the peer was delivered, and our FIN behind it.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        match self {
            Self::Peer
            | Self::Truncated
            | Self::Finished
            | Self::Idle
            | Self::Drained
            | Self::LingerTimeout
            | Self::LingerSilence
            | Self::LingerBytes => true,
            Self::Reset
            | Self::ResetUndelivered
            | Self::WriteStall
            | Self::DrainTimeout
            | Self::Aborted
            | Self::AbortedBecause(_)
            | Self::ServerAborted
            | Self::Panicked
            | Self::SlowReader
            | Self::RelayBroken
            | Self::InputLimit
            | Self::QueueLimit
            | Self::Failed(_)
            | Self::ConnectFailed(_)
            | Self::ConnectTimeout
            | Self::Cancelled
            | Self::HandshakeFailed
            | Self::HandshakeTimeout
            | Self::HandshakeAbandoned
            | Self::ProxyRefused => false,
        }
    }

    /// Who or what ended the connection.
    #[must_use]
    pub const fn ended_by(self) -> EndedBy {
        match self {
            Self::Peer
            | Self::Truncated
            | Self::Reset
            | Self::ResetUndelivered
            | Self::RelayBroken
            | Self::HandshakeFailed
            | Self::HandshakeAbandoned
            | Self::ProxyRefused => EndedBy::Peer,
            Self::Finished
            | Self::Aborted
            | Self::AbortedBecause(_)
            | Self::Panicked
            | Self::SlowReader
            | Self::InputLimit
            | Self::QueueLimit
            | Self::Cancelled => EndedBy::Protocol,
            Self::Idle
            | Self::LingerTimeout
            | Self::LingerSilence
            | Self::LingerBytes
            | Self::WriteStall
            | Self::ConnectTimeout
            | Self::HandshakeTimeout => EndedBy::Deadline,
            Self::Drained | Self::DrainTimeout | Self::ServerAborted => EndedBy::Operator,
            Self::Failed(_) | Self::ConnectFailed(_) => EndedBy::System,
        }
    }

    /// The name under which it is counted and logged.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Truncated => "truncated",
            Self::Finished => "finished",
            Self::Idle => "idle",
            Self::Drained => "drained",
            Self::LingerTimeout => "linger timeout",
            Self::LingerSilence => "linger silence",
            Self::LingerBytes => "linger bytes",
            Self::Reset => "reset",
            Self::ResetUndelivered => "reset undelivered",
            Self::WriteStall => "write stall",
            Self::DrainTimeout => "drain timeout",
            Self::Aborted => "aborted",
            Self::AbortedBecause(cause) => cause.name(),
            Self::ServerAborted => "server aborted",
            Self::Panicked => "panicked",
            Self::SlowReader => "slow reader",
            Self::RelayBroken => "relay broken",
            Self::InputLimit => "input limit",
            Self::QueueLimit => "queue limit",
            Self::Failed(_) => "failed",
            Self::ConnectFailed(_) => "connect failed",
            Self::ConnectTimeout => "connect timeout",
            Self::Cancelled => "cancelled",
            Self::HandshakeFailed => "handshake failed",
            Self::HandshakeTimeout => "handshake timeout",
            Self::HandshakeAbandoned => "handshake abandoned",
            Self::ProxyRefused => "proxy refused",
        }
    }

    /// The reason when so many bytes were lost by it.
    pub(crate) const fn with_loss(self, undelivered: usize) -> Self {
        if undelivered > 0 && matches!(self, Self::Reset) { Self::ResetUndelivered } else { self }
    }

    /// The place of this reason in [`Self::ALL`] and in the counters; none for a cause of a protocol's own.
    pub(crate) fn index(self) -> Option<usize> {
        let same = |other: &Self| std::mem::discriminant(other) == std::mem::discriminant(&self);
        Self::ALL.iter().position(same)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Self::Failed(kind) | Self::ConnectFailed(kind) = self {
            write!(f, ": {kind}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_and_a_name_of_its_own() {
        for (place, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), Some(place));
            let namesakes = CloseReason::ALL.iter().filter(|other| other.name() == reason.name());
            assert_eq!(namesakes.count(), 1, "{reason}");
        }
    }

    #[test]
    fn every_reason_says_who_ended_it_and_whether_all_was_delivered() {
        use CloseReason as R;
        let ended_by = |who| CloseReason::ALL.into_iter().filter(move |reason| reason.ended_by() == who);
        assert!(ended_by(EndedBy::Peer).eq([
            R::Peer,
            R::Truncated,
            R::Reset,
            R::ResetUndelivered,
            R::RelayBroken,
            R::HandshakeFailed,
            R::HandshakeAbandoned,
            R::ProxyRefused
        ]));
        assert!(ended_by(EndedBy::Protocol).eq([
            R::Finished,
            R::Aborted,
            R::Panicked,
            R::SlowReader,
            R::InputLimit,
            R::QueueLimit,
            R::Cancelled
        ]));
        assert!(ended_by(EndedBy::Operator).eq([R::Drained, R::DrainTimeout, R::ServerAborted]));
        assert_eq!(ended_by(EndedBy::Deadline).count() + ended_by(EndedBy::System).count(), 9);
        let complete = CloseReason::ALL.into_iter().filter(|reason| reason.is_complete());
        assert!(complete.eq(CloseReason::ALL.into_iter().take(8)));
    }

    #[test]
    fn what_is_printed_is_the_name_and_what_the_system_said() {
        assert_eq!(CloseReason::WriteStall.to_string(), "write stall");
        let refused = io::ErrorKind::ConnectionRefused;
        assert_eq!(CloseReason::ConnectFailed(refused).to_string(), "connect failed: connection refused");
    }
}
