//! Outbound connections that callbacks ask for: they wait for room, and whoever asked is told if nothing comes of it.

use std::time::Instant;

use super::Connections;
use crate::{
    close_reason::CloseReason, connection_id::ConnectionId, outbox::Dial, protocol::Protocol,
    system::transport::Transport,
};

impl<P: Protocol, T: Transport> Connections<P, T> {
    /// The next outbound connection that a callback wants, if there is room for it.
    pub fn next_dial(&mut self) -> Option<Dial> {
        if self.has_room() { self.shared.outbox.next_dial() } else { None }
    }

    /// Gives those up that have waited for room for too long.
    pub(super) fn expire_dials(&mut self) {
        while self.dial_deadline().is_some_and(|at| at <= self.shared.now) {
            if let Some(dial) = self.shared.outbox.next_dial() {
                self.dial_failed(dial.by, dial.label, CloseReason::ConnectTimeout);
            }
        }
    }

    /// When the first of those that wait for room has waited for too long.
    pub(super) fn dial_deadline(&self) -> Option<Instant> {
        self.shared.outbox.oldest_dial()?.checked_add(self.shared.limits.connect_timeout?)
    }

    /// Notes that such a connection was not made. The protocol that wanted it is told with the next mail.
    pub fn dial_failed(&mut self, by: ConnectionId, label: u64, reason: CloseReason) {
        self.shared.outbox.connect_failed(by, label, reason);
    }

    /// Notes for whom the connection that was just added is made.
    pub fn set_requester(&mut self, id: ConnectionId, by: ConnectionId, label: u64) {
        if let Some(slot) = self.slots.get_mut(id.index as usize).filter(|slot| slot.connection.id() == id) {
            slot.connection.set_requester(by, label);
        }
    }
}
