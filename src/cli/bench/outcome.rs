//! What a load has come to.

use std::{sync::Arc, time::Duration};

use super::{
    args::Extent,
    crew::Connections,
    ends::Ends,
    plan::Plan,
    samples::{Point, per_second},
    tally::Tally,
    units,
};

/// What a load has come to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Arc<Plan>,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
    /// Whether it was ended before its time.
    pub(crate) interrupted: bool,
    pub(crate) connections: Connections,
    pub(crate) ends: Ends,
    pub(crate) total: Tally,
    pub(crate) series: Vec<Point>,
}

impl Outcome {
    /// Messages in a second.
    pub(crate) fn rate(&self) -> f64 {
        per_second(self.total.messages, self.elapsed)
    }

    /// Bytes that came back, in a second; as many were sent.
    pub(crate) fn byte_rate(&self) -> f64 {
        per_second(self.total.bytes, self.elapsed)
    }

    /// Nothing went wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.ends.failures.total() == 0
    }
}

impl Plan {
    /// What kind of load it is, in a few words.
    pub(crate) fn describe(&self) -> String {
        let kind = if self.is_paced() { "open loop" } else { "closed loop" };
        let size = units::size(self.size);
        let messages = match (self.churn, self.pipeline) {
            (true, _) => format!("a connection for each message of {size}"),
            (false, 1) => format!("messages of {size}"),
            (false, depth) => format!("messages of {size}, {depth} on their way"),
        };
        let threads =
            if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        format!("{kind}, {messages}, {threads}, seed {}", self.seed)
    }

    /// The connections that were asked for.
    pub(crate) fn connections_wanted(&self) -> String {
        let connections = units::count(self.connections);
        // With a rate of connections, as many are open as that takes.
        if self.churn && self.is_paced() { format!("at most {connections}") } else { connections }
    }

    /// The rate that was asked for.
    pub(crate) fn rate_wanted(&self) -> String {
        self.rate.map_or_else(|| "all it takes".to_owned(), |rate| rate.to_string())
    }

    /// How much was to be measured.
    pub(crate) fn extent_wanted(&self) -> String {
        match self.extent {
            Extent::Time { measured, .. } => units::span(measured),
            Extent::Messages(messages) => format!("{} messages", units::count(messages)),
        }
    }
}
