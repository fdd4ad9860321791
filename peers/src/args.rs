//! The arguments: `[--full | --test] [--one-core] [--discard] [--json FILE] [--svg FILE] [FILTER]...`
//!
//! With `--one-core` server and client share a core. With `--discard` the client does not read the replies of echo
//! workloads: it has the kernel discard them, and counts them.
//!
//! A filter is part of the name of a peer or of a workload, or `behaviour`. If filters name peers, only those run, and
//! echoloop, which they are compared to; if filters name workloads, only those run. `budget` names echoloop with other
//! budgets, which do not run unless they are named. Some workloads do not either, unless with `--test`: `pings`,
//! `pings-paced`, `mixed-4m` and `mixed-4m-paced`.

use std::path::PathBuf;

use crate::{
    client::group::Reading,
    effort::Effort,
    output::output_directory,
    process::CoreCount,
    servers::{BUDGETS, OURS, PEERS, Peer},
    workloads::{WORKLOADS, Workload},
};

/// What runs, and for how long.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) effort: Effort,
    pub(crate) cores: CoreCount,
    pub(crate) reading: Reading,
    pub(crate) peers: Vec<&'static Peer>,
    pub(crate) workloads: Vec<&'static Workload>,
    pub(crate) behaviour: bool,
    pub(crate) json: PathBuf,
    pub(crate) svg: PathBuf,
}

/// What filters may name besides peers and workloads.
const BEHAVIOUR: &str = "behaviour";

fn all_peers() -> impl Iterator<Item = &'static Peer> {
    PEERS.iter().chain(&BUDGETS)
}

impl Args {
    /// # Errors
    ///
    /// What is wrong with them.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut words = words.into_iter();
        let (mut effort, mut cores, mut reading) = (Effort::DEFAULT, CoreCount::Two, Reading::Verify);
        let (mut json, mut svg) =
            (output_directory().join("peers.json"), output_directory().join("peers.svg"));
        let mut filters = Vec::new();
        while let Some(word) = words.next() {
            let mut file = || words.next().map(PathBuf::from).ok_or_else(|| format!("{word} needs a file"));
            match word.as_str() {
                "--full" => effort = Effort::FULL,
                "--test" => effort = Effort::TEST,
                "--one-core" => cores = CoreCount::One,
                "--discard" => reading = Reading::Discard,
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
            let by_default = WORKLOADS.iter().filter(|load| load.default || effort.everything);
            (workloads, behaviour) = (by_default.collect(), true);
        }
        let mut peers: Vec<_> = all_peers().filter(|peer| names(peer.name)).collect();
        if peers.is_empty() {
            peers = PEERS.iter().collect();
        } else if peers[0].name != OURS {
            peers.insert(0, Peer::named(OURS).expect("it is one of them"));
        }
        Ok(Self { effort, cores, reading, peers, workloads, behaviour, json, svg })
    }
}
