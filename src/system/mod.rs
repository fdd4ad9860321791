//! What a loop needs of the world: time, readiness, listeners, connecting.
//!
//! [`os`] is the real one, on mio. The test kit and the simulator have their own.

pub(crate) mod datagrams;
pub(crate) mod descriptors;
pub(crate) mod endpoint;
pub(crate) mod memory_limit;
pub(crate) mod os;
#[cfg(feature = "ops")]
pub(crate) mod process;
pub(crate) mod readiness;
pub(crate) mod transport;

use std::{io, time::Instant};

use mio::{Interest, Token};

use self::{datagrams::Datagrams, readiness::Readiness, transport::Transport};
use crate::{address::Address, close_reason::CloseReason, connection_id::ConnectionId, peer::Peer};

/// Everything outside of a loop that the loop depends on.
///
/// Readiness is edge-triggered: an event may come once only, until the operation has said `WouldBlock`; events may
/// also come without cause.
pub trait System: Poller<<Self as System>::Transport> {
    /// A connection.
    type Transport: Transport;

    /// Where connections come from.
    type Listener: Accept<Transport = Self::Transport>;

    /// Where datagrams come from.
    type DatagramSocket: Datagrams;

    /// What time it is. Never earlier than at the last call.
    fn now(&mut self) -> Instant;

    /// Waits for events, or until it is woken; [`events`](Self::events) then gives them.
    ///
    /// # Errors
    ///
    /// What the system says. The loop cannot go on then. A signal is no error: there are no events.
    fn wait(&mut self, wait: Wait) -> io::Result<()>;

    /// The events that the last wait brought: for which token, and what may be ready.
    fn events(&self) -> impl Iterator<Item = (Token, Readiness)>;

    /// Begins to watch a listener.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn watch_listener(&mut self, listener: &mut Self::Listener, token: Token) -> io::Result<()>;

    /// Begins to watch a datagram socket for datagrams that come.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn watch_datagrams(&mut self, socket: &mut Self::DatagramSocket, token: Token) -> io::Result<()>;

    /// Begins an outbound connection to a peer whose address is resolved. It is made once it is writable and no error is
    /// pending.
    ///
    /// # Errors
    ///
    /// What connect(2) says.
    fn connect(&mut self, peer: &Peer<'_>) -> io::Result<Self::Transport>;

    /// Notes how a connection ended. Its transport is dropped next. For systems that keep records.
    fn note_end(&mut self, transport: &Self::Transport, reason: CloseReason) {
        let _ = (transport, reason);
    }
}

/// How long to wait for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: there is work.
    No,
    /// Until then at most.
    Until(Instant),
    /// For as long as it takes.
    Forever,
}

impl Wait {
    /// Whether something may be due when it is so late.
    pub(crate) fn may_be_over(self, now: Instant) -> bool {
        match self {
            Self::No => true,
            Self::Until(at) => at <= now,
            Self::Forever => false,
        }
    }
}

/// Tells a loop when transports are ready.
pub trait Poller<T> {
    /// Begins to watch the transport of this connection.
    ///
    /// # Errors
    ///
    /// What the system says, for example for want of memory.
    fn register(&mut self, transport: &mut T, id: ConnectionId, interest: Interest) -> io::Result<()>;

    /// Changes what is watched for. What is ready by then is reported again.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn reregister(&mut self, transport: &mut T, id: ConnectionId, interest: Interest) -> io::Result<()>;
}

/// Where connections come from.
pub trait Accept {
    /// What is accepted.
    type Transport;

    /// The next connection that is complete, and the peer's address.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none, or what accept(2) says.
    fn accept(&mut self) -> io::Result<Accepted<Self::Transport>>;

    /// Leaves a connection that was accepted here to another worker, who has still to be woken.
    ///
    /// # Errors
    ///
    /// The connection, if that worker takes none any more, or never did.
    fn hand_over(
        &mut self,
        accepted: Accepted<Self::Transport>,
        to: u32,
    ) -> Result<(), Accepted<Self::Transport>> {
        let _ = to;
        Err(accepted)
    }

    /// The next connection that another worker has accepted and left to this one.
    fn handed_over(&mut self) -> Option<Accepted<Self::Transport>> {
        None
    }

    /// From now on nothing is handed over to this worker. What was, is still there.
    fn stop_taking_over(&mut self) {}

    /// Whether another process has the socket too, and who waits in its backlog is left to that one.
    fn is_left(&self) -> bool {
        false
    }
}

/// A connection and its peer's address.
pub(crate) type Accepted<T> = (T, Address);

/// Wakes a loop that waits for events, from any thread.
pub trait Wake: Send + Sync {
    /// Makes the current or next wait return.
    ///
    /// # Errors
    ///
    /// What the operating system says; the loop then notices at its next event.
    fn wake(&self) -> io::Result<()>;
}

/// For a loop that never waits.
impl Wake for () {
    fn wake(&self) -> io::Result<()> {
        Ok(())
    }
}
