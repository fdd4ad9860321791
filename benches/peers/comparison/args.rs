//! The options: `cargo bench --bench peers -- [--full | --test] [--json FILE] [--svg FILE] [FILTER]...`
//!
//! A filter is part of the name of a peer or of a workload, or `behaviour`. With filters of peers only those are run, and
//! echoloop, to which they are compared; with filters of workloads only those. `budget` names echoloop with other
//! budgets, which are not run otherwise.

use std::{path::PathBuf, time::Duration};

use super::{
    output_directory,
    servers::{BUDGETS, OURS, PEERS, Peer},
    workloads::{WORKLOADS, Workload},
};

/// What is run, and how long.
#[derive(Debug)]
pub(super) struct Args {
    pub(super) effort: Effort,
    pub(super) peers: Vec<&'static Peer>,
    pub(super) workloads: Vec<&'static Workload>,
    pub(super) behaviour: bool,
    pub(super) json: PathBuf,
    pub(super) svg: PathBuf,
}

/// How much is done for a figure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Its name in the JSON file.
    pub(super) name: &'static str,
    pub(super) rounds: usize,
    pub(super) idle_rounds: usize,
    /// Of one measurement.
    pub(super) duration: Duration,
    /// Connections of one measurement of churn.
    pub(super) churned: usize,
    /// Connections that rest.
    pub(super) idle: usize,
    /// Clients that want the reply of test B.
    pub(super) replies: usize,
    /// How late the client of test A begins to read, and how long the server of test C is watched.
    pub(super) late: Duration,
    pub(super) watch: Duration,
    /// While nobody is served for this long in test C, no more will be.
    pub(super) settled: Duration,
}

const DEFAULT: Effort = Effort {
    name: "default",
    rounds: 5,
    idle_rounds: 1,
    duration: Duration::from_millis(300),
    churned: 3000,
    idle: 15_000,
    replies: 10,
    late: Duration::from_secs(1),
    watch: Duration::from_secs(2),
    settled: Duration::from_millis(500),
};

const FULL: Effort = Effort {
    name: "full",
    rounds: 11,
    idle_rounds: 3,
    duration: Duration::from_secs(2),
    churned: 10_000,
    ..DEFAULT
};

const TEST: Effort = Effort {
    name: "test",
    rounds: 1,
    duration: Duration::from_millis(2),
    churned: 40,
    idle: 200,
    replies: 2,
    late: Duration::from_millis(100),
    watch: Duration::from_millis(100),
    settled: Duration::from_millis(150),
    ..DEFAULT
};

/// What filters may name besides peers and workloads.
const BEHAVIOUR: &str = "behaviour";

fn all_peers() -> impl Iterator<Item = &'static Peer> {
    PEERS.iter().chain(&BUDGETS)
}

impl Args {
    /// # Errors
    ///
    /// What is wrong with them.
    pub(super) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut words = words.into_iter();
        let mut effort = DEFAULT;
        let (mut json, mut svg) =
            (output_directory().join("peers.json"), output_directory().join("peers.svg"));
        let mut filters = Vec::new();
        while let Some(word) = words.next() {
            let mut file = || words.next().map(PathBuf::from).ok_or_else(|| format!("{word} needs a file"));
            match word.as_str() {
                // Cargo says so to every benchmark.
                "--bench" => {}
                "--full" => effort = FULL,
                "--test" => effort = TEST,
                "--json" => json = file()?,
                "--svg" => svg = file()?,
                option if option.starts_with('-') => return Err(format!("unknown option {option}")),
                _ => filters.push(word),
            }
        }
        let names = |name: &str| filters.iter().any(|filter| name.contains(filter.as_str()));
        let known = |filter: &&String| {
            let mut all = all_peers().map(|peer| peer.name).chain(WORKLOADS.iter().map(|load| load.name));
            all.any(|name| name.contains(filter.as_str())) || BEHAVIOUR.contains(filter.as_str())
        };
        if let Some(unknown) = filters.iter().find(|filter| !known(filter)) {
            return Err(format!("no peer and no workload is called {unknown}"));
        }
        let mut behaviour = names(BEHAVIOUR);
        let mut workloads: Vec<_> = WORKLOADS.iter().filter(|load| names(load.name)).collect();
        if workloads.is_empty() && !behaviour {
            (workloads, behaviour) = (WORKLOADS.iter().collect(), true);
        }
        let mut peers: Vec<_> = all_peers().filter(|peer| names(peer.name)).collect();
        if peers.is_empty() {
            peers = PEERS.iter().collect();
        } else if peers[0].name != OURS {
            peers.insert(0, Peer::named(OURS).expect("it is one of them"));
        }
        Ok(Self { effort, peers, workloads, behaviour, json, svg })
    }
}
