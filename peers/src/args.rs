//! The arguments: `[--full | --test] [--one-core] [--discard] [--json FILE] [--svg FILE] [FILTER]...`
//!
//! With `--one-core` server and client share a core. With `--discard` the client does not read the replies of echo
//! workloads, with or without a proxy: it has the kernel discard them, and counts them.
//!
//! A filter is the beginning of the name of peers or of workloads, or of `behaviour`. If filters name peers, only those
//! run, and echoloop, or its relay, which they are compared to; if filters name workloads, only those run. A workload is
//! either for echo servers, or for those over TLS, or for proxies, and runs with the peers of that kind.
//!
//! Without a filter for them these do not run, to keep the run short; but all workloads do with `--test`:
//!
//! - `pings`, `pings-paced`, `mixed-4m`, `mixed-4m-paced`: what small messages wait for beside very large ones;
//! - `tls-small`, `tls-bulk`, `tls-churn`, `tls-churn-resumed`, `tls-idle`, `tls-pings-handshakes`, `tls-pings-bursts`; a
//!   filter that names a server over TLS has them run, too;
//! - `proxy-bulk`, `proxy-small`, `proxy-churn`, `proxy-idle`; a filter that names a proxy has them run, too;
//! - `budget`: echoloop with other budgets.

use std::path::PathBuf;

use crate::{
    client::group::Reading,
    effort::Effort,
    output::output_directory,
    process::CoreCount,
    servers::{Kind, PEERS, Peer, proxies::PROXIES, tls::TLS_SERVERS},
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
        let selection = Selection::of(&filters, effort.everything)?;
        let Selection { peers, workloads, behaviour } = selection;
        Ok(Self { effort, cores, reading, peers, workloads, behaviour, json, svg })
    }
}

/// What the filters name.
struct Selection {
    peers: Vec<&'static Peer>,
    workloads: Vec<&'static Workload>,
    behaviour: bool,
}

impl Selection {
    /// `everything`: without a name for a workload all of them, not only those that run by default.
    fn of(filters: &[String], everything: bool) -> Result<Self, String> {
        let known = |filter: &&String| {
            let mut all = Peer::all().map(|peer| peer.name).chain(WORKLOADS.iter().map(|load| load.name));
            all.any(|name| name.starts_with(filter.as_str())) || BEHAVIOUR.starts_with(filter.as_str())
        };
        if let Some(unknown) = filters.iter().find(|filter| !known(filter)) {
            return Err(format!("no peer and no workload has a name that begins with {unknown}"));
        }
        let names = |name: &str| filters.iter().any(|filter| name.starts_with(filter.as_str()));
        let mut behaviour = names(BEHAVIOUR);
        let mut workloads: Vec<_> = WORKLOADS.iter().filter(|load| names(load.name)).collect();
        let mut peers = with_references(Peer::all().filter(|peer| names(peer.name)).collect());
        if workloads.is_empty() && !behaviour {
            let named = |kind| peers.iter().any(|peer| peer.kind() == kind);
            let runs = |load: &&Workload| {
                load.default || everything || (load.kind != Kind::EchoServer && named(load.kind))
            };
            (workloads, behaviour) = (WORKLOADS.iter().filter(runs).collect(), true);
        }
        if peers.is_empty() {
            peers = PEERS.iter().chain(&TLS_SERVERS).chain(&PROXIES).collect();
        }
        let selection = Self { peers, workloads, behaviour }.matching();
        if selection.peers.is_empty() {
            Err("these workloads are not for these peers".into())
        } else {
            Ok(selection)
        }
    }

    /// Without workloads that are for none of the peers, and peers that none of the workloads are for.
    fn matching(mut self) -> Self {
        self.workloads.retain(|load| self.peers.iter().any(|peer| peer.kind() == load.kind));
        self.behaviour &= self.peers.iter().any(|peer| peer.kind() == Kind::EchoServer);
        self.peers.retain(|peer| {
            let is_observed = self.behaviour && peer.kind() == Kind::EchoServer;
            is_observed || self.workloads.iter().any(|load| load.kind == peer.kind())
        });
        self
    }
}

/// The peers, and before those of each kind the one that they are compared to.
fn with_references(named: Vec<&'static Peer>) -> Vec<&'static Peer> {
    let mut peers: Vec<&'static Peer> = Vec::new();
    for peer in named {
        let reference = peer.kind().reference();
        if peers.iter().all(|peer| peer.name != reference) {
            peers.push(Peer::named(reference).expect("it is one of them"));
        }
        if peer.name != reference {
            peers.push(peer);
        }
    }
    peers
}
