//! What a load is made of, as its connections see it.

use std::{sync::Arc, time::Duration};

use echoloop::{Address, Config};

use super::{
    args::{BenchArgs, Extent},
    pace::Rate,
    pattern::Pattern,
};

/// The load. Fixed before it begins.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where the server is, resolved.
    pub(crate) address: Address,
    pub(crate) connections: u64,
    pub(crate) threads: u64,
    pub(crate) size: usize,
    pub(crate) pipeline: u32,
    /// Messages, or with `churn` connections, in a second: an open loop. `None` is a closed loop.
    pub(crate) rate: Option<Rate>,
    pub(crate) churn: bool,
    pub(crate) connect_rate: Option<Rate>,
    pub(crate) extent: Extent,
    pub(crate) timeout: Duration,
    pub(crate) seed: u64,
    pub(crate) pattern: Arc<Pattern>,
}

/// Output is queued up to here; more is written when this much less waits.
pub(crate) const QUEUE_MAX: usize = 256 << 10;

impl Plan {
    pub(crate) fn new(args: &BenchArgs, address: Address) -> Self {
        Self {
            address,
            connections: args.connections,
            threads: args.threads,
            size: args.size,
            pipeline: args.pipeline,
            rate: args.rate,
            churn: args.churn,
            connect_rate: args.connect_rate,
            extent: args.extent(),
            timeout: args.timeout,
            seed: args.seed,
            pattern: Arc::new(Pattern::new(args.seed)),
        }
    }

    /// Whether messages have a time at which they are to be sent.
    pub(crate) const fn is_paced(&self) -> bool {
        self.rate.is_some()
    }

    /// How many connections a worker has at once.
    pub(crate) fn connections_of(&self, worker: u64) -> usize {
        usize::try_from(share(self.connections, self.threads, worker)).unwrap_or(usize::MAX)
    }

    /// How many messages a worker may begin; `None` is without end. In an open loop others count them.
    pub(crate) fn messages_of(&self, worker: u64) -> Option<u64> {
        match self.extent {
            Extent::Messages(messages) if !self.is_paced() => Some(share(messages, self.threads, worker)),
            Extent::Messages(_) | Extent::Time { .. } => None,
        }
    }

    /// The limits of a loop that makes so many connections.
    pub(crate) fn config(&self, connections: usize) -> Config {
        let mut config = Config::default();
        config.keep_running = true;
        // Some have ended and wait for their slots to be freed while their successors are made.
        config.max_connections = Some(connections * 2 + 64);
        config.mailbox_capacity = (connections + 1024).min(1 << 20);
        // Above this a loop reads no further, which may be what the server waits for. So it is never reached.
        config.set_high_water(QUEUE_MAX * 4);
        config.connect_timeout = Some(self.timeout);
        config.write_timeout = Some(self.timeout);
        config.idle_timeout = Some(self.timeout);
        config
    }
}

/// The part of `total` that falls to one of `workers`.
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
