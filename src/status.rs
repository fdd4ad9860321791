//! What one loop is doing at a moment.

use std::fmt;

use crate::stats::Stats;

/// What the workers of a server were doing: [`Handle::status`](crate::Handle::status).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Those that have answered, in their order.
    pub workers: Vec<WorkerStatus>,
    /// How many have not answered. Those that have ended are not among them.
    pub workers_silent: usize,
}

/// What one worker was doing when it was asked: an entry of a [`ServerStatus`].
///
/// `Display` gives one line, as `echoloop serve` prints it on SIGUSR1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Its number, from 0.
    pub worker: usize,
    /// Outbound connections that are being made, and clients whose TLS handshake is under way.
    pub connecting: usize,
    /// Connections with nothing queued, whose ends are open.
    pub reading: usize,
    /// Connections with output that waits until the socket takes it.
    pub echoing: usize,
    /// Connections whose FIN was sent, and that wait for its acknowledgement or for the peer's end.
    pub half_closed: usize,
    /// Connections whose protocol has paused reading.
    pub paused: usize,
    /// Output that waits until sockets take it, in bytes.
    pub queued_bytes: usize,
    /// What peers' systems had not acknowledged when they were last asked, in bytes. They are asked when a deadline or a close
    /// is due, so a connection on which all goes well may have more on its way.
    pub unacknowledged_bytes: usize,
    /// What becomes of clients that come now.
    pub accepting: Accepting,
    /// What it has counted so far.
    pub stats: Stats,
}

/// What becomes of clients that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accepting {
    /// They are accepted.
    Yes,
    /// They wait in the backlog until a place is free: there are as many connections as there may be.
    Full,
    /// They wait in the backlog until there are descriptors or memory again.
    Short,
    /// There is no listener, or it takes no more: a drain, or the accept limit.
    No,
}

impl fmt::Display for WorkerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, connecting, reading, echoing, half_closed, paused, queued_bytes, .. } = self;
        let open = connecting + reading + echoing + half_closed;
        write!(
            f,
            "worker {worker}: {open} open: {connecting} connecting, {reading} reading, {echoing} echoing, \
             {half_closed} half-closed; {paused} paused, {queued_bytes} bytes queued; {}; {} accepted; {}",
            self.accepting, self.stats.accepted, self.stats
        )
    }
}

impl fmt::Display for Accepting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "accepting",
            Self::Full => "at max connections",
            Self::Short => "out of descriptors or memory",
            Self::No => "not accepting",
        })
    }
}
