//! What a process is started for.

use std::net::SocketAddr;

use crate::servers::mode::Mode;

/// What a peer does in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// It serves clients itself.
    Serve(Mode),
    /// It forwards bytes both ways between each client and this upstream.
    Forward(SocketAddr),
}

const ECHO: &str = "echo";
const REPLY: &str = "reply";

impl Task {
    /// As an argument of a process.
    pub(crate) fn to_word(self) -> String {
        match self {
            Self::Serve(Mode::Echo) => ECHO.into(),
            Self::Serve(Mode::Reply) => REPLY.into(),
            Self::Forward(upstream) => upstream.to_string(),
        }
    }

    /// The opposite of [`Task::to_word`].
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        match word {
            ECHO => Some(Self::Serve(Mode::Echo)),
            REPLY => Some(Self::Serve(Mode::Reply)),
            address => address.parse().ok().map(Self::Forward),
        }
    }
}
