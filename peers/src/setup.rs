//! What is the same for all measurements of a run.

use crate::{
    client::group::Reading,
    effort::Effort,
    process::{CoreCount, Cores},
    servers::Peer,
};

/// How a run measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) effort: Effort,
    pub(crate) cores: Cores,
    /// What the client does with the replies in the workloads that let it choose.
    pub(crate) reading: Reading,
    /// The echo server behind those that forward, on the client's core.
    pub(crate) upstream: &'static Peer,
}

impl Setup {
    /// Where server and client run and what the client reads, in a sentence for the reader of a report.
    pub(crate) fn in_words(&self) -> String {
        let cores = match self.cores.count() {
            CoreCount::One => "Server and client share one core",
            CoreCount::Two => "Server and client have a core each",
        };
        let reading = match self.reading {
            Reading::Verify => "the client compares every byte",
            Reading::Discard => "the client discards the replies of echo workloads unread",
        };
        format!("{cores}; {reading}.")
    }
}
