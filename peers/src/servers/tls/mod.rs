//! The echo servers over TLS that are compared: TLS 1.3 by rustls with *ring*, one certificate for all, and a proxy that
//! ends TLS before an echo server. Each tells its client that the stream is over, with close_notify, and then ends.

pub(crate) mod certificate;
mod echoloop;
mod mio;
mod tokio;

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{ServerConfig, crypto::ring::Ticketer};

use crate::servers::{
    Peer, Program,
    proxies::{haproxy, installed::Installed},
    tls::certificate::Certificate,
};

/// How an echo server over TLS is run. Both return only if it fails.
#[derive(Debug)]
pub(super) enum TlsServer {
    /// Part of this executable.
    Rust(fn() -> io::Result<()>),
    /// A proxy that ends TLS: an echo server is behind it.
    Installed(Installed),
}

/// The one that the others are compared to.
pub(super) const OURS: &str = "echoloop-tls";

/// All of them.
pub(crate) const TLS_SERVERS: [Peer; 4] = [
    Peer::tls(OURS, "this library, default limits, listen_tls", TlsServer::Rust(echoloop::run)),
    Peer::tls(
        "mio-rustls",
        "a bare loop on mio and rustls, unbuffered: the floor",
        TlsServer::Rust(mio::run),
    ),
    Peer::tls("tokio-rustls", "tokio, one thread, and tokio-rustls", TlsServer::Rust(tokio::run)),
    Peer::tls(
        "haproxy-tls",
        "HAProxy, one thread, with OpenSSL; forwards to an echo server, so it does more than the others",
        TlsServer::Installed(haproxy::TERMINATING),
    ),
];

impl Peer {
    const fn tls(name: &'static str, what: &'static str, server: TlsServer) -> Self {
        Self { name, what, program: Program::TlsServer(server) }
    }
}

impl TlsServer {
    /// # Errors
    ///
    /// Why this machine cannot have it.
    pub(super) fn prepare(&self) -> Result<(), String> {
        Certificate::make_once().map_err(|error| format!("no certificate: {error}"))?;
        match self {
            Self::Rust(_) => Ok(()),
            Self::Installed(installed) => installed.find(),
        }
    }

    /// Serves until the process is killed, or returns what it failed from.
    pub(super) fn run(&self, name: &str, upstream: Option<SocketAddr>) -> io::Error {
        match (self, upstream) {
            (Self::Rust(run), _) => run().err().unwrap_or_else(|| io::Error::other("it ended by itself")),
            (Self::Installed(installed), Some(upstream)) => installed.exec(name, upstream),
            (Self::Installed(_), None) => io::Error::other("a proxy needs an upstream"),
        }
    }
}

/// That of rustls, as it is by default: what a client needs to resume its session is kept here.
fn default_config() -> io::Result<ServerConfig> {
    let Certificate { chain, key } = Certificate::load()?;
    ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).map_err(io::Error::other)
}

/// With tickets that the client keeps, as `echoloop serve` has them.
fn config_with_tickets() -> io::Result<Arc<ServerConfig>> {
    let mut config = default_config()?;
    config.ticketer = Ticketer::new().map_err(io::Error::other)?;
    Ok(Arc::new(config))
}
