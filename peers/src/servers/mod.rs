//! The echo servers that are compared, those over TLS, and the proxies. Each is written as its own documentation would have it, with
//! TCP_NODELAY, a buffer as large as echoloop's where it has one per connection, and an end that waits for the echo: a weak
//! peer proves nothing.

mod c;
mod common;
mod echoloop;
mod mio;
pub(crate) mod mode;
mod monoio;
pub(crate) mod proxies;
mod smol;
pub(crate) mod task;
mod threads;
pub(crate) mod tls;
mod tokio;

use std::io;

use crate::servers::{
    mode::Mode,
    proxies::{PROXIES, Proxy, installed::Installed},
    task::Task,
    tls::{TLS_SERVERS, TlsServer},
};

/// An echo server or a proxy to compare.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    program: Program,
}

/// What it is to its clients, which says what it can be measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    EchoServer,
    /// An echo server over TLS.
    TlsServer,
    /// It forwards to an echo server.
    Proxy,
}

impl Kind {
    /// The peer that all others of this kind are compared to.
    pub(crate) const fn reference(self) -> &'static str {
        match self {
            Self::EchoServer => OURS,
            Self::TlsServer => tls::OURS,
            Self::Proxy => proxies::OURS,
        }
    }
}

#[derive(Debug)]
enum Program {
    EchoServer(EchoServer),
    TlsServer(TlsServer),
    Proxy(Proxy),
}

/// How an echo server is run. Both return only if it fails.
#[derive(Debug)]
enum EchoServer {
    /// Part of this executable.
    Rust(fn(Mode) -> io::Result<()>),
    C(c::Source),
}

/// The echo server that all others are compared to.
pub(crate) const OURS: &str = "echoloop";

/// The echo servers.
pub(crate) const PEERS: [Peer; 11] = [
    Peer::rust(OURS, "this library, default limits", echoloop::run),
    Peer::rust("mio", "a bare loop on mio: the floor", mio::run),
    Peer::rust("tokio", "tokio, one thread", tokio::current_thread),
    Peer::rust("tokio-mt", "tokio, multi-thread", tokio::multi_thread),
    Peer::rust("monoio", "monoio on io_uring", monoio::run),
    Peer::rust("smol", "smol, one thread", smol::run),
    Peer::rust("threads", "std, a thread per connection", threads::run),
    Peer::c("epoll", "a bare epoll loop in C", c::EPOLL),
    Peer::c("splice", "a bare splice loop in C: the floor in bulk", c::SPLICE),
    Peer::c("libuv", "libuv in C", c::LIBUV),
    Peer::c("libevent", "libevent's bufferevents in C", c::LIBEVENT),
];

/// echoloop with other budgets than the default, to see what they trade for what. Run only where they are named.
pub(crate) const BUDGETS: [Peer; 5] = [
    Peer::rust("budget-16k", "16 KiB a turn", |mode| echoloop::with_budget(mode, 16 << 10)),
    Peer::rust("budget-64k", "64 KiB a turn", |mode| echoloop::with_budget(mode, 64 << 10)),
    Peer::rust("budget-256k", "256 KiB a turn", |mode| echoloop::with_budget(mode, 256 << 10)),
    Peer::rust("budget-512k", "512 KiB a turn", |mode| echoloop::with_budget(mode, 512 << 10)),
    Peer::rust("budget-4m", "4 MiB a turn", |mode| echoloop::with_budget(mode, 4 << 20)),
];

impl Peer {
    const fn rust(name: &'static str, what: &'static str, run: fn(Mode) -> io::Result<()>) -> Self {
        Self { name, what, program: Program::EchoServer(EchoServer::Rust(run)) }
    }

    const fn c(name: &'static str, what: &'static str, source: c::Source) -> Self {
        Self { name, what, program: Program::EchoServer(EchoServer::C(source)) }
    }

    /// All there are, of every kind.
    pub(crate) fn all() -> impl Iterator<Item = &'static Self> {
        PEERS.iter().chain(&BUDGETS).chain(&TLS_SERVERS).chain(&PROXIES)
    }

    /// The peer of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        Self::all().find(|peer| peer.name == name)
    }

    /// The echo server behind those that forward: the fastest that this machine can have.
    pub(crate) fn upstream() -> &'static Self {
        let candidates = ["epoll", "mio"].into_iter().filter_map(Self::named);
        candidates.into_iter().find(|peer| peer.prepare().is_ok()).expect("mio needs nothing")
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self.program {
            Program::EchoServer(_) => Kind::EchoServer,
            Program::TlsServer(_) => Kind::TlsServer,
            Program::Proxy(_) => Kind::Proxy,
        }
    }

    /// The program of the system that it is.
    const fn installed(&self) -> Option<&Installed> {
        match &self.program {
            Program::EchoServer(_)
            | Program::TlsServer(TlsServer::Rust(_))
            | Program::Proxy(Proxy::Rust(_)) => None,
            Program::TlsServer(TlsServer::Installed(installed))
            | Program::Proxy(Proxy::Installed(installed)) => Some(installed),
        }
    }

    /// Whether it is told its port and says nothing when it listens.
    pub(crate) const fn listens_silently(&self) -> bool {
        self.installed().is_some()
    }

    /// Whether it has a process for each connection.
    pub(crate) const fn forks(&self) -> bool {
        matches!(self.installed(), Some(Installed { forks: true, .. }))
    }

    /// Whether it needs an echo server behind it.
    pub(crate) const fn has_upstream(&self) -> bool {
        matches!(self.program, Program::Proxy(_) | Program::TlsServer(TlsServer::Installed(_)))
    }

    /// Gets ready what the peer is run from.
    ///
    /// # Errors
    ///
    /// Why this machine cannot have it.
    pub(crate) fn prepare(&self) -> Result<(), String> {
        match &self.program {
            Program::EchoServer(EchoServer::Rust(_)) => Ok(()),
            Program::EchoServer(EchoServer::C(source)) => source.compile(),
            Program::TlsServer(server) => server.prepare(),
            Program::Proxy(proxy) => proxy.prepare(),
        }
    }

    /// Does its task until the process is killed, or returns what it failed from.
    pub(crate) fn run(&self, task: Task) -> io::Error {
        match (&self.program, task) {
            (Program::EchoServer(server), Task::Serve(mode)) => server.run(mode),
            (Program::TlsServer(server), Task::Serve(Mode::Echo)) => server.run(self.name, None),
            (Program::TlsServer(server), Task::Forward(upstream)) => server.run(self.name, Some(upstream)),
            (Program::TlsServer(_), Task::Serve(Mode::Reply)) => io::Error::other("it only echoes"),
            (Program::Proxy(proxy), Task::Forward(upstream)) => proxy.run(self.name, upstream),
            (Program::EchoServer(_), Task::Forward(_)) => io::Error::other("it is no proxy"),
            (Program::Proxy(_), Task::Serve(_)) => io::Error::other("a proxy needs an upstream"),
        }
    }
}

impl EchoServer {
    /// Serves until the process is killed, or returns what it failed from.
    fn run(&self, mode: Mode) -> io::Error {
        match self {
            Self::Rust(run) => run(mode).err().unwrap_or_else(|| io::Error::other("it ended by itself")),
            Self::C(source) => source.exec(mode),
        }
    }
}
