//! Files that are read again while the server runs.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread,
};

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

    /// A function that calls `read` and, unless that fails, takes what it returns. It does not wait for it: a file system may
    /// be slow. Each time `done` is told at the end what went wrong.
    pub(super) fn reloader(
        &self,
        read: impl Fn() -> Result<ServerConfig, Failure> + Send + Sync + 'static,
        done: impl Fn(Result<(), String>) + Send + Sync + 'static,
    ) -> impl Fn() + Send + 'static {
        let (current, read, done) = (self.clone(), Arc::new(Mutex::new(read)), Arc::new(done));
        move || {
            let (current, read, tell) = (current.clone(), Arc::clone(&read), Arc::clone(&done));
            let reload = move || {
                // One after another, so that the latest files win.
                let read = read.lock().unwrap_or_else(PoisonError::into_inner);
                match read() {
                    Ok(config) => {
                        current.replace(config);
                        log::info!("TLS: certificates reloaded");
                        tell(Ok(()));
                    }
                    Err(failure) => tell(Err(not_reloaded(&failure.to_string()))),
                }
            };
            if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(reload) {
                done(Err(not_reloaded(&format!("cannot start a thread: {error}"))));
            }
        }
    }
}

/// Logs that nothing has changed, and returns why.
fn not_reloaded(why: &str) -> String {
    log::error!("TLS: certificates not reloaded, the old ones stay: {why}");
    format!("certificates not reloaded: {why}")
}
