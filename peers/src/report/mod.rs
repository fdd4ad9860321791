//! What was measured, and the medians of it.

pub(crate) mod chart;
pub(crate) mod json;
pub(crate) mod table;

use crate::{
    behaviour::Behaviour,
    measure::median,
    process::CoreCount,
    servers::Peer,
    setup::Setup,
    workloads::{Sample, WORKLOADS, Workload},
};

/// All figures of a run.
pub(crate) struct Report {
    setup: Setup,
    peers: Vec<&'static Peer>,
    measured: Vec<Measured>,
    behaviours: Vec<(&'static Peer, Behaviour)>,
    /// The share of the time for which other programs, and servers on the same core, kept the client from its processor.
    disturbed: f64,
}

struct Measured {
    workload: &'static str,
    peer: &'static str,
    sample: Result<Sample, String>,
}

impl Report {
    pub(crate) fn new(setup: Setup, peers: &[&'static Peer]) -> Self {
        Self { setup, peers: peers.to_vec(), measured: Vec::new(), behaviours: Vec::new(), disturbed: 0.0 }
    }

    pub(crate) fn add(&mut self, workload: &Workload, peer: &Peer, sample: Result<Sample, String>) {
        self.measured.push(Measured { workload: workload.name, peer: peer.name, sample });
    }

    pub(crate) fn behaviour(&mut self, peer: &'static Peer, behaviour: Behaviour) {
        self.behaviours.push((peer, behaviour));
    }

    pub(crate) fn disturbed(&mut self, share: f64) {
        self.disturbed = share;
    }

    /// The peers that a workload is for.
    fn peers(&self, workload: &Workload) -> impl Iterator<Item = &'static Peer> {
        let kind = workload.kind;
        self.peers.iter().copied().filter(move |peer| peer.kind() == kind)
    }

    /// The workloads that were measured.
    fn workloads(&self) -> impl Iterator<Item = &'static Workload> {
        let measured = |workload: &&Workload| self.measured.iter().any(|m| m.workload == workload.name);
        WORKLOADS.iter().filter(measured)
    }

    /// Whether proxies were measured, or others that have an echo server behind them.
    fn has_upstream(&self) -> bool {
        self.workloads().any(|workload| self.peers(workload).any(Peer::has_upstream))
    }

    /// Whether something that is measured, or the upstream of it, runs on the client's core.
    fn client_shares_core(&self) -> bool {
        self.setup.cores.count() == CoreCount::One || self.has_upstream()
    }

    /// The medians of a peer's rounds, or why there are none: one round that failed spoils them all.
    fn medians(&self, workload: &Workload, peer: &str) -> Result<Sample, String> {
        let rounds = self.measured.iter().filter(|m| m.workload == workload.name && m.peer == peer);
        let samples: Vec<Sample> =
            rounds.map(|measured| measured.sample.clone()).collect::<Result<_, _>>()?;
        if samples.is_empty() {
            return Err("not measured".into());
        }
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
        let resident = median(samples.iter().filter_map(|sample| sample.resident));
        Ok(Sample {
            throughput: of(|sample| sample.throughput),
            cpu: of(|sample| sample.cpu),
            p50: of(|sample| sample.p50),
            p99: of(|sample| sample.p99),
            resident: Some(resident).filter(|resident| !resident.is_nan()),
        })
    }

    /// What the others are compared to.
    fn ours(&self, workload: &Workload) -> Option<Sample> {
        self.medians(workload, workload.kind.reference()).ok()
    }
}

/// A ratio of which both sides are known.
fn ratio(theirs: f64, ours: f64) -> Option<f64> {
    Some(theirs / ours).filter(|ratio| ratio.is_finite())
}
