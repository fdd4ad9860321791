//! The proxies that are compared: each forwards bytes both ways between its clients and one upstream. Half-closes pass
//! through; TCP_NODELAY is on, on both sides; buffers are as large as echoloop's where a proxy has them per connection.

mod echoloop;
pub(super) mod haproxy;
pub(crate) mod installed;
mod nginx;
mod socat;
mod tokio;

use std::{io, net::SocketAddr};

use crate::servers::{Peer, Program, proxies::installed::Installed};

/// How a proxy is run. Both return only if it fails.
#[derive(Debug)]
pub(super) enum Proxy {
    /// Part of this executable.
    Rust(fn(SocketAddr) -> io::Result<()>),
    /// A program of the system.
    Installed(Installed),
}

/// The one that the other proxies are compared to.
pub(super) const OURS: &str = "echoloop-relay";

/// All of them.
pub(crate) const PROXIES: [Peer; 6] = [
    Peer::rust_proxy(OURS, "this library, default limits, connect and relay", echoloop::run),
    Peer::rust_proxy("tokio-copy", "tokio, one thread, copy_bidirectional", tokio::run),
    Peer::installed_proxy("haproxy", "HAProxy in TCP mode, one thread", haproxy::COPYING),
    Peer::installed_proxy("haproxy-splice", "the same with splicing in both directions", haproxy::SPLICING),
    Peer::installed_proxy("nginx", "nginx's stream proxy, one process", nginx::NGINX),
    Peer::installed_proxy("socat", "socat, a process per connection", socat::SOCAT),
];

impl Peer {
    const fn rust_proxy(
        name: &'static str,
        what: &'static str,
        run: fn(SocketAddr) -> io::Result<()>,
    ) -> Self {
        Self { name, what, program: Program::Proxy(Proxy::Rust(run)) }
    }

    const fn installed_proxy(name: &'static str, what: &'static str, installed: Installed) -> Self {
        Self { name, what, program: Program::Proxy(Proxy::Installed(installed)) }
    }
}

impl Proxy {
    /// # Errors
    ///
    /// Why this machine cannot have it.
    pub(super) fn prepare(&self) -> Result<(), String> {
        match self {
            Self::Rust(_) => Ok(()),
            Self::Installed(installed) => installed.find(),
        }
    }

    /// Forwards until the process is killed, or returns what it failed from.
    pub(super) fn run(&self, name: &str, upstream: SocketAddr) -> io::Error {
        match self {
            Self::Rust(run) => run(upstream).err().unwrap_or_else(|| io::Error::other("it ended by itself")),
            Self::Installed(installed) => installed.exec(name, upstream),
        }
    }
}
