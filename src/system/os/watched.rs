//! A source of events that is taken off its poller when it is dropped.

use std::{io, sync::Arc};

use mio::{Interest, Registry, Token, event::Source};

/// Closing a descriptor is not enough where another one is left of what it stands for, maybe in another process: the
/// events would go on.
#[derive(Debug)]
pub(super) struct Watched<S: Source> {
    source: S,
    registry: Option<Arc<Registry>>,
}

impl<S: Source> Watched<S> {
    pub(super) const fn new(source: S) -> Self {
        Self { source, registry: None }
    }

    pub(super) const fn get(&self) -> &S {
        &self.source
    }

    /// Begins to watch it for what there is to read or to accept.
    pub(super) fn watch(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()> {
        registry.register(&mut self.source, token, Interest::READABLE)?;
        self.registry = Some(Arc::clone(registry));
        Ok(())
    }
}

impl<S: Source> Drop for Watched<S> {
    fn drop(&mut self) {
        if let Some(registry) = &self.registry
            && let Err(error) = registry.deregister(&mut self.source)
        {
            log::debug!("cannot take a socket off its poller: {error}");
        }
    }
}
