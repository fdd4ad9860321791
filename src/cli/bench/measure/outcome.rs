//! The figures of a whole load.

use std::{sync::Arc, time::Duration};

use super::{
    ends::Ends,
    interval::{Interval, per_second},
    tally::Tally,
};
use crate::cli::bench::plan::Plan;

/// The figures of a whole load.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Arc<Plan>,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
    /// Whether it was ended early.
    pub(crate) interrupted: bool,
    pub(crate) connections: ConnectionCounts,
    pub(crate) ends: Ends,
    pub(crate) total: Tally,
    pub(crate) series: Vec<Interval>,
}

/// How many connections were made in all, and the most that were open at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionCounts {
    pub(crate) made: u64,
    pub(crate) open_max: u64,
}

impl Outcome {
    /// Messages per second.
    pub(crate) fn rate(&self) -> f64 {
        per_second(self.total.messages, self.elapsed)
    }

    /// Bytes per second that came back; as many were sent.
    pub(crate) fn byte_rate(&self) -> f64 {
        per_second(self.total.bytes, self.elapsed)
    }

    /// Whether no connection failed.
    pub(crate) fn is_good(&self) -> bool {
        self.ends.failures.total() == 0
    }
}
