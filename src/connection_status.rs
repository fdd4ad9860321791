//! What one connection is doing at a moment.

use std::{fmt, time::Duration};

use crate::{address::Address, connection_id::ConnectionId};

/// What the connections of a server were doing: [`Handle::connections`](crate::Handle::connections).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionList {
    /// Those of each worker, in the order of the workers.
    pub connections: Vec<ConnectionStatus>,
    /// How many workers have not answered, or not to the end: connections of theirs are missing.
    pub workers_silent: usize,
}

/// What one connection was doing when its loop was asked: an entry of a [`ConnectionList`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStatus {
    /// Its name.
    pub id: ConnectionId,
    /// Where it is in its life.
    pub state: ConnectionState,
    /// The peer's address, if the system still knows it.
    pub peer: Option<Address>,
    /// How long ago the last byte moved in either direction.
    pub quiet: Duration,
    /// Output that waits until the socket takes it, in bytes.
    pub queued_bytes: usize,
    /// Input that the protocol has left, in bytes.
    pub unconsumed_bytes: usize,
    /// Whether its protocol has paused reading.
    pub is_paused: bool,
    /// The connection that it is [relayed](crate::Context::relay) with.
    pub relayed_with: Option<ConnectionId>,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Outbound, and not made yet; or a client whose TLS handshake is under way.
    Connecting,
    /// Nothing is queued; what comes is handed to the protocol.
    Reading,
    /// Output is queued, waiting for the socket to take it.
    Echoing,
    /// Everything was sent, and our FIN behind it; the peer may still send.
    HalfClosed,
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Reading => "reading",
            Self::Echoing => "echoing",
            Self::HalfClosed => "half-closed",
        })
    }
}

impl fmt::Display for ConnectionStatus {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, state, peer, quiet, queued_bytes, .. } = self;
        let peer = peer.as_ref().map_or_else(|| "unknown peer".to_owned(), ToString::to_string);
        write!(f, "{id}: {peer}, {state}, {queued_bytes} bytes queued, quiet for {quiet:.1?}")
    }
}
