//! What servers do when it gets difficult: three tests, each for a promise that many servers break.

pub(crate) mod descriptors;
pub(crate) mod end;
pub(crate) mod late_reader;
pub(crate) mod reply;

use crate::{
    behaviour::{descriptors::Descriptors, late_reader::LateReader, reply::Replies},
    effort::Effort,
    process::{Cores, Process},
    servers::{Peer, mode::Mode, task::Task},
};

/// What a peer did, or why it was not seen.
#[derive(Debug)]
pub(crate) struct Behaviour {
    /// A: the client sends everything, ends, and reads late.
    pub(crate) late_reader: Result<LateReader, String>,
    /// B: the server replies and ends while the client still sends.
    pub(crate) replies: Result<Replies, String>,
    /// C: more clients than descriptors.
    pub(crate) descriptors: Result<Descriptors, String>,
}

impl Behaviour {
    pub(crate) fn observe(peer: &Peer, cores: Cores, effort: Effort) -> Self {
        let start = |mode, descriptors| Process::start(peer, Task::Serve(mode), cores.server(), descriptors);
        Self {
            late_reader: start(Mode::Echo, None)
                .and_then(|server| LateReader::observe(&server, effort.late).map_err(|e| e.to_string())),
            replies: start(Mode::Reply, None)
                .and_then(|server| Replies::observe(&server, effort.replies).map_err(|e| e.to_string())),
            descriptors: start(Mode::Echo, Some(descriptors::LIMIT))
                .and_then(|mut server| Descriptors::observe(&mut server, effort)),
        }
    }
}
