//! What load is to be made, as the arguments ask for it.

use std::time::{Duration, SystemTime};

use echoloop::{Address, TlsConnector};

use super::rate::Rate;

/// The load that was asked for. It does not change while the load runs.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where the server is, resolved.
    pub(crate) address: Address,
    /// Over TLS, if it is to be.
    pub(crate) tls: Option<TlsConnector>,
    /// Connections open at once, over all threads.
    pub(crate) connections: u64,
    pub(crate) threads: u64,
    /// The size of a message in bytes.
    pub(crate) size: usize,
    /// Messages in flight on each connection of a closed loop.
    pub(crate) pipeline: u32,
    /// Messages per second, or with `churn` connections per second: an open loop. `None` is a closed loop.
    pub(crate) rate: Option<Rate>,
    /// Each message has a connection of its own.
    pub(crate) churn: bool,
    /// Connections per second while they are made before the load begins.
    pub(crate) connect_rate: Option<Rate>,
    /// When the load begins; `None` is as soon as the connections are made.
    pub(crate) start_at: Option<SystemTime>,
    pub(crate) extent: Extent,
    /// How long a connection, or an answer, is waited for.
    pub(crate) timeout: Duration,
    /// Decides the bytes that are sent.
    pub(crate) seed: u64,
}

/// How many bytes of a datagram are its number.
pub(crate) const NUMBER_BYTES: usize = size_of::<u64>();

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Time { warmup: Duration, measured: Duration },
    Messages(u64),
}

impl Plan {
    /// Whether it is an open loop: messages are due at set times.
    pub(crate) const fn is_open_loop(&self) -> bool {
        self.rate.is_some()
    }

    /// How many connections a worker has at once.
    pub(crate) fn connections_of(&self, worker: u64) -> usize {
        usize::try_from(share(self.connections, self.threads, worker)).unwrap_or(usize::MAX)
    }

    /// How many messages a worker may begin; `None` is without end. In an open loop the schedule counts them.
    pub(crate) fn messages_of(&self, worker: u64) -> Option<u64> {
        match self.extent {
            Extent::Messages(messages) if !self.is_open_loop() => Some(share(messages, self.threads, worker)),
            Extent::Messages(_) | Extent::Time { .. } => None,
        }
    }
}

/// The part of `total` that one of `workers` gets.
fn share(total: u64, workers: u64, worker: u64) -> u64 {
    total / workers + u64::from(worker < total % workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_the_workers_add_up() {
        for (total, workers) in [(10, 3), (9, 3), (1, 4), (1000, 7)] {
            assert_eq!((0..workers).map(|worker| share(total, workers, worker)).sum::<u64>(), total);
        }
    }
}
