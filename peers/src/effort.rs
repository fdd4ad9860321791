//! How much is done for a figure.

use std::time::Duration;

/// Rounds, durations and sizes of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Its name in the JSON file.
    pub(crate) name: &'static str,
    /// If no workload is named, all run, not only those that run by default.
    pub(crate) everything: bool,
    pub(crate) rounds: usize,
    pub(crate) idle_rounds: usize,
    /// The length of one measurement.
    pub(crate) duration: Duration,
    /// Connections in one measurement of churn.
    pub(crate) churned: usize,
    /// Idle connections.
    pub(crate) idle: usize,
    /// Idle connections over TLS.
    pub(crate) sessions: usize,
    /// Idle connections through a proxy.
    pub(crate) pairs: usize,
    /// Clients that want the reply of test B.
    pub(crate) replies: usize,
    /// How late the client of test A begins to read.
    pub(crate) late: Duration,
    /// How long the server of test C is watched.
    pub(crate) watch: Duration,
    /// Test C takes it that no more clients will be served when none was for this long.
    pub(crate) settled: Duration,
}

impl Effort {
    /// Under 5 minutes.
    pub(crate) const DEFAULT: Self = Self {
        name: "default",
        everything: false,
        rounds: 5,
        idle_rounds: 1,
        duration: Duration::from_millis(300),
        churned: 3000,
        idle: 15_000,
        sessions: 10_000,
        pairs: 4_000,
        replies: 10,
        late: Duration::from_secs(1),
        watch: Duration::from_secs(2),
        settled: Duration::from_millis(500),
    };

    /// About an hour.
    pub(crate) const FULL: Self = Self {
        name: "full",
        rounds: 11,
        idle_rounds: 3,
        duration: Duration::from_secs(2),
        churned: 10_000,
        ..Self::DEFAULT
    };

    /// Everything once, too short for figures that mean anything.
    pub(crate) const TEST: Self = Self {
        name: "test",
        everything: true,
        rounds: 1,
        duration: Duration::from_millis(2),
        churned: 40,
        idle: 200,
        sessions: 100,
        pairs: 100,
        replies: 2,
        late: Duration::from_millis(100),
        watch: Duration::from_millis(100),
        settled: Duration::from_millis(150),
        ..Self::DEFAULT
    };

    /// For a peer that has a process for each connection: fewer of them, as they take their time and memory.
    pub(crate) fn for_forks(self) -> Self {
        Self { churned: self.churned.div_ceil(10), pairs: self.pairs.min(200), ..self }
    }
}
