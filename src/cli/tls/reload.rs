//! Files that are read again while the server runs.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use echoloop::TlsAcceptor;
use rustls::ServerConfig;

use crate::cli::failure::Failure;

/// What handshakes that begin now are given. Those that are under way, and connections, keep what they have.
#[derive(Clone, Debug)]
pub(super) struct Current(Arc<RwLock<Arc<ServerConfig>>>);

impl Current {
    pub(super) fn new(config: ServerConfig) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(config))))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = Arc::clone(&self.0);
        TlsAcceptor::with(move || Arc::clone(&current.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn replace(&self, config: ServerConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// A function that calls `read` and, unless that fails, takes what it returns. It says in a few words what came of it,
    /// and takes its time: a file system may be slow.
    pub(super) fn reloader(
        &self,
        read: impl Fn() -> Result<ServerConfig, Failure> + Send + Sync + 'static,
    ) -> impl Fn() -> Result<String, String> + Send + Sync + 'static {
        let (current, read) = (self.clone(), Mutex::new(read));
        move || {
            // One after another, so that the latest files win.
            let read = read.lock().unwrap_or_else(PoisonError::into_inner);
            match read() {
                Ok(config) => {
                    current.replace(config);
                    log::info!("TLS: certificates reloaded");
                    Ok("certificates reloaded".to_owned())
                }
                Err(why) => {
                    log::error!("TLS: certificates not reloaded, the old ones stay: {why}");
                    Err(format!("certificates not reloaded: {why}"))
                }
            }
        }
    }
}
