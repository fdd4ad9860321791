//! TLS of the program.
//!
//! ```text
//! serve        the server's arguments
//! certificates    its certificates, from files or made for a trial, and which of them a client gets
//! reload       files that are read again while the server runs
//! client       the arguments of those who connect
//! verifier     how they look at the server's certificate
//! sessions     what they keep of connections, to resume them
//! stream       a blocking connection over TLS
//! trouble      what is wrong, in plain words
//! files, validity, fingerprint, protocols    leaves
//! ```
//!
//! Where the program is built without it, `without_tls` takes its place.

mod certificates;
mod client;
mod files;
mod fingerprint;
mod protocols;
mod reload;
mod serve;
mod sessions;
mod stream;
mod trouble;
mod validity;
mod verifier;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

pub(crate) use self::{
    client::{BenchTlsArgs, ClientTls, ClientTlsArgs},
    serve::{ServeTlsArgs, ServerTls},
    stream::TlsStream,
    trouble::Trouble,
};

/// The cryptography.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
