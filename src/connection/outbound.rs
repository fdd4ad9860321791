//! Outbound connections: one that is being made, and one whose protocol has asked for others.

use std::{
    mem,
    time::{Duration, Instant},
};

use super::{Connection, shared::Shared};
use crate::{
    close_reason::CloseReason,
    connection_id::ConnectionId,
    protocol::Protocol,
    system::{readiness::Readiness, transport::Transport},
};

/// Who waits for whom to be made.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// Who waits for this connection to be made, and under which label.
    requester: Option<(ConnectionId, u64)>,
    /// When another address is to be tried, if there is another.
    connect_by: Option<Instant>,
    /// When connecting was last tried again.
    tried: Option<Instant>,
    /// Those that its protocol has asked for, and that may not be made yet.
    attempts: Vec<ConnectionId>,
}

/// How long to wait before connecting is tried again.
const PAUSE: Duration = Duration::from_millis(10);

impl<P: Protocol, T: Transport> Connection<P, T> {
    fn outbound(&self) -> Option<&Outbound> {
        self.extra.as_ref()?.outbound.as_deref()
    }

    fn outbound_mut(&mut self) -> &mut Outbound {
        self.extra.get_or_insert_default().outbound.get_or_insert_default()
    }

    /// Notes who waits for this connection to be made.
    pub fn set_requester(&mut self, requester: ConnectionId, label: u64) {
        self.outbound_mut().requester = Some((requester, label));
    }

    /// Gives the attempt until then, as there are other addresses.
    pub fn set_connect_by(&mut self, at: Instant) {
        self.outbound_mut().connect_by = Some(at);
        self.deadline_moved = true;
    }

    /// When an attempt has taken too long.
    pub(super) fn connect_deadline(&self) -> Option<Instant> {
        let own = self.outbound().and_then(|outbound| outbound.connect_by);
        own.or_else(|| self.last_activity.checked_add(self.limits.connect_timeout?))
    }

    pub(super) fn has_requester(&self) -> bool {
        self.outbound().is_some_and(|outbound| outbound.requester.is_some())
    }

    /// Who still waits for this connection to be made, when it has ended or is made.
    pub fn take_requester(&mut self) -> Option<(ConnectionId, u64)> {
        let requester = self.extra.as_mut()?.outbound.as_mut()?.requester.take();
        self.forget_outbound();
        requester
    }

    /// Notes the outbound connections that its protocol has asked for.
    pub fn set_attempts(&mut self, attempts: Vec<ConnectionId>) {
        self.outbound_mut().attempts = attempts;
    }

    /// The outbound connections that its protocol has asked for; some may be made by now.
    pub fn take_attempts(&mut self) -> Vec<ConnectionId> {
        let outbound = self.extra.as_mut().and_then(|extra| extra.outbound.as_mut());
        let attempts = outbound.map(|outbound| mem::take(&mut outbound.attempts)).unwrap_or_default();
        self.forget_outbound();
        attempts
    }

    /// Frees what is of no use once a connection is made and has asked for none.
    fn forget_outbound(&mut self) {
        let is_unneeded = |outbound: &Outbound| outbound.requester.is_none() && outbound.attempts.is_empty();
        if let Some(extra) = &mut self.extra
            && extra.outbound.as_deref().is_some_and(is_unneeded)
        {
            extra.outbound = None;
            self.trim();
        }
    }

    /// When to try again to connect.
    pub(super) fn connect_again_at(&self) -> Option<Instant> {
        let tried = self.outbound().and_then(|outbound| outbound.tried).unwrap_or(self.last_activity);
        if self.transport.must_connect_again() { tried.checked_add(PAUSE) } else { None }
    }

    /// Tries again to connect, if that is due.
    pub(super) fn connect_again(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        if self.connect_again_at().is_none_or(|at| at > shared.now) {
            return;
        }
        self.outbound_mut().tried = Some(shared.now);
        match self.transport.connect_again() {
            Ok(()) => self.ready.insert(Readiness::WRITE),
            Err(error) => self.close(CloseReason::ConnectFailed(error.kind()), shared),
        }
    }
}
