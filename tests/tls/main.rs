//! TLS on real sockets: every order of ends, with rustls and with clients that others wrote.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]
#![cfg(feature = "tls")]

#[path = "../util/mod.rs"]
mod util;

mod ends;
#[cfg(feature = "cli-tls")]
mod files;
#[cfg(feature = "cli-tls")]
mod foreign;
mod handshakes;
mod loss;
mod outbound;
mod peer;
#[cfg(feature = "cli-tls")]
mod program;
#[cfg(feature = "cli-tls")]
mod serve;
