//! What is looked at, whatever its messages are.

use std::time::Duration;

use crate::{
    handle::Handle,
    stats::Stats,
    status::{Accepting, WorkerStatus},
};

/// A server, as its handle shows it.
pub(super) trait Subject: Send + Sync {
    fn workers(&self) -> usize;
    fn stats(&self) -> Stats;
    fn is_ready(&self) -> bool;
    fn status(&self, patience: Duration) -> Vec<WorkerStatus>;
    fn accepting(&self, patience: Duration) -> Vec<Option<Accepting>>;
}

impl<M: Send + 'static> Subject for Handle<M> {
    fn workers(&self) -> usize {
        Self::workers(self)
    }

    fn stats(&self) -> Stats {
        Self::stats(self)
    }

    fn is_ready(&self) -> bool {
        Self::is_ready(self)
    }

    fn status(&self, patience: Duration) -> Vec<WorkerStatus> {
        Self::status(self, patience)
    }

    fn accepting(&self, patience: Duration) -> Vec<Option<Accepting>> {
        Self::accepting(self, patience)
    }
}
