//! The servers that are compared. Each is written as its own documentation would have it, with TCP_NODELAY, a buffer as
//! large as echoloop's where it has one per connection, and an end that waits for the echo: a weak peer proves nothing.

mod c;
mod common;
mod echoloop;
mod mio;
pub(crate) mod mode;
mod monoio;
mod smol;
mod threads;
mod tokio;

use std::io;

use crate::servers::mode::Mode;

/// A server to compare.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    program: Program,
}

#[derive(Debug)]
enum Program {
    /// Part of this executable. It returns only if it fails.
    Rust(fn(Mode) -> io::Result<()>),
    C(c::Source),
}

/// The one that all others are compared to.
pub(crate) const OURS: &str = "echoloop";

/// All of them.
pub(crate) const PEERS: [Peer; 11] = [
    Peer { name: OURS, what: "this library, default limits", program: Program::Rust(echoloop::run) },
    Peer { name: "mio", what: "a bare loop on mio: the floor", program: Program::Rust(mio::run) },
    Peer { name: "tokio", what: "tokio, one thread", program: Program::Rust(tokio::current_thread) },
    Peer { name: "tokio-mt", what: "tokio, multi-thread", program: Program::Rust(tokio::multi_thread) },
    Peer { name: "monoio", what: "monoio on io_uring", program: Program::Rust(monoio::run) },
    Peer { name: "smol", what: "smol, one thread", program: Program::Rust(smol::run) },
    Peer { name: "threads", what: "std, a thread per connection", program: Program::Rust(threads::run) },
    Peer { name: "epoll", what: "a bare epoll loop in C", program: Program::C(c::EPOLL) },
    Peer {
        name: "splice",
        what: "a bare splice loop in C: the floor in bulk",
        program: Program::C(c::SPLICE),
    },
    Peer { name: "libuv", what: "libuv in C", program: Program::C(c::LIBUV) },
    Peer { name: "libevent", what: "libevent's bufferevents in C", program: Program::C(c::LIBEVENT) },
];

/// echoloop with other budgets than the default, to see what they trade for what. Run only where they are named.
pub(crate) const BUDGETS: [Peer; 5] = [
    Peer::with_budget("budget-16k", "16 KiB a turn", |mode| echoloop::with_budget(mode, 16 << 10)),
    Peer::with_budget("budget-64k", "64 KiB a turn", |mode| echoloop::with_budget(mode, 64 << 10)),
    Peer::with_budget("budget-256k", "256 KiB a turn", |mode| echoloop::with_budget(mode, 256 << 10)),
    Peer::with_budget("budget-512k", "512 KiB a turn", |mode| echoloop::with_budget(mode, 512 << 10)),
    Peer::with_budget("budget-4m", "4 MiB a turn", |mode| echoloop::with_budget(mode, 4 << 20)),
];

impl Peer {
    const fn with_budget(name: &'static str, what: &'static str, run: fn(Mode) -> io::Result<()>) -> Self {
        Self { name, what, program: Program::Rust(run) }
    }

    /// The peer of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        PEERS.iter().chain(&BUDGETS).find(|peer| peer.name == name)
    }

    /// Gets ready what the peer is run from.
    ///
    /// # Errors
    ///
    /// Why this machine cannot have it.
    pub(crate) fn prepare(&self) -> Result<(), String> {
        match &self.program {
            Program::Rust(_) => Ok(()),
            Program::C(source) => source.compile(),
        }
    }

    /// Serves until the process is killed, or returns what it failed from.
    pub(crate) fn serve(&self, mode: Mode) -> io::Error {
        match &self.program {
            Program::Rust(run) => run(mode).err().unwrap_or_else(|| io::Error::other("it ended by itself")),
            Program::C(source) => source.exec(mode),
        }
    }
}
