//! What servers do when it gets difficult: three tests, each for a promise that many servers break.

mod descriptors;
mod late_reader;
mod reply;

use std::{io::ErrorKind, time::Duration};

pub(super) use descriptors::Descriptors;
pub(super) use late_reader::LateReader;
pub(super) use reply::Replies;

use super::{
    args::Effort,
    process::{Cores, Process},
    servers::{Mode, Peer},
};

/// How long a client waits for a byte before it gives up.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a peer did, or why it was not seen.
#[derive(Debug)]
pub(super) struct Behaviour {
    /// A: the client sends everything, ends, and reads late.
    pub(super) late_reader: Result<LateReader, String>,
    /// B: the server replies and ends while the client still sends.
    pub(super) replies: Result<Replies, String>,
    /// C: more clients than descriptors.
    pub(super) descriptors: Result<Descriptors, String>,
}

impl Behaviour {
    pub(super) fn observe(peer: &Peer, cores: Option<Cores>, effort: Effort) -> Self {
        let start = |mode, descriptors| Process::start(peer, mode, cores, descriptors);
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

/// How a stream ended for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// FIN.
    Clean,
    Reset,
    /// Not at all.
    Stuck,
}

impl End {
    fn of(error: ErrorKind) -> Self {
        if error == ErrorKind::WouldBlock || error == ErrorKind::TimedOut { Self::Stuck } else { Self::Reset }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Clean => "FIN",
            Self::Reset => "reset",
            Self::Stuck => "stuck",
        }
    }
}
