//! Outbound connections that callbacks ask for: they wait for room, and whoever asked is told if nothing comes of it.

use std::time::Instant;

use super::Connections;
use crate::{
    close_reason::CloseReason,
    connection::state::State,
    connection_id::ConnectionId,
    outbox::Dial,
    protocol::Protocol,
    system::{Poller, transport::Transport},
};

impl<P: Protocol, T: Transport> Connections<P, T> {
    /// The next outbound connection that a callback wants, if there is a place for it, which is then taken.
    pub fn next_dial(&mut self) -> Option<Dial> {
        let is_possible = self.shared.outbox.dials() == 0 || self.take_place();
        if is_possible { self.shared.outbox.next_dial() } else { None }
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
        let Some(attempt) = self.get_mut(id) else { return };
        attempt.set_requester(by, label);
        let Some(requester) = self.get_mut(by) else { return };
        let mut attempts = requester.take_attempts();
        attempts.retain(|&attempt| self.get(attempt).is_some_and(|other| other.state() == State::Connecting));
        attempts.push(id);
        if let Some(requester) = self.get_mut(by) {
            requester.set_attempts(attempts);
        }
    }

    /// Gives up an outbound connection that is not made yet: who asked for it has ended.
    pub(super) fn cancel(&mut self, attempt: ConnectionId, poller: &mut impl Poller<T>) {
        let shared = &self.shared;
        let slot = self.slots.get_mut(attempt.index as usize).filter(|slot| slot.connection.id() == attempt);
        if let Some(slot) = slot.filter(|slot| slot.connection.state() == State::Connecting) {
            slot.connection.close(CloseReason::Cancelled, shared);
            self.place(attempt.index, poller);
        }
    }
}
