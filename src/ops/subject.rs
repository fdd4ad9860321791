//! What is looked at, whatever its messages are.

use std::time::Duration;

#[cfg(unix)]
use crate::{connection_id::ConnectionId, connection_status::ConnectionList, handle::SendError};
use crate::{
    handle::Handle,
    stats::Stats,
    status::{Accepting, ServerStatus},
};

/// A server, as its handle shows it.
pub(super) trait Subject: Send + Sync {
    fn workers(&self) -> usize;
    fn stats(&self) -> Stats;
    fn is_ready(&self) -> bool;
    fn status(&self, patience: Duration) -> ServerStatus;
    fn accepting(&self, patience: Duration) -> Vec<Option<Accepting>>;
    #[cfg(unix)]
    fn connections(&self, patience: Duration) -> ConnectionList;
    #[cfg(unix)]
    fn abort_connection(&self, id: ConnectionId) -> Result<(), SendError<()>>;
    #[cfg(unix)]
    fn order(&self, order: Order);
}

/// How the server is to go on.
#[cfg(unix)]
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Prestop,
    CancelPrestop,
    Drain,
    DrainNow,
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

    fn status(&self, patience: Duration) -> ServerStatus {
        Self::status(self, patience)
    }

    fn accepting(&self, patience: Duration) -> Vec<Option<Accepting>> {
        Self::accepting(self, patience)
    }

    #[cfg(unix)]
    fn connections(&self, patience: Duration) -> ConnectionList {
        Self::connections(self, patience)
    }

    #[cfg(unix)]
    fn abort_connection(&self, id: ConnectionId) -> Result<(), SendError<()>> {
        Self::abort_connection(self, id)
    }

    #[cfg(unix)]
    fn order(&self, order: Order) {
        match order {
            Order::Prestop => self.prestop(),
            Order::CancelPrestop => self.cancel_prestop(),
            Order::Drain => self.drain(),
            Order::DrainNow => self.drain_now(),
        }
    }
}
