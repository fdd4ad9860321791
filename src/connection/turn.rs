//! A connection's turn: flush, read, hand over, send, and again.

use std::{io::ErrorKind, mem};

use super::{Connection, shared::Shared, state::State};
use crate::{
    address::Address,
    close_reason::CloseReason,
    outbox::Connected,
    protocol::Protocol,
    system::{readiness::Readiness, transport::Transport},
};

/// What is read of a connection that sends in bulk to see why nothing could be moved, or of one whose protocol has used
/// up its budget by writing.
pub(super) const PROBE_BYTES: usize = 512;

impl<P: Protocol, T: Transport> Connection<P, T> {
    /// Does all that can be done without blocking, up to the budget. `partner` is the connection that it is relayed
    /// with, if it is.
    pub fn turn(&mut self, mut partner: Option<&mut Self>, shared: &mut Shared<P::Message, T::Pipe>) {
        if self.transport.is_secure() && !self.begin_secure_turn(shared) {
            return;
        }
        if self.state == State::Connecting && !self.try_connected(shared) {
            return;
        }
        self.look_before_close(shared.now);
        let mut budget = shared.limits.turn_budget_bytes;
        let mut may_starve = true;
        loop {
            if self.queue.is_some() || self.awaits_writable || self.throttled {
                self.flush(&mut budget, shared);
            }
            self.settle(shared);
            if budget == 0 && mem::take(&mut may_starve) {
                // However much there is to send, what comes is read too, and the end of it.
                budget = PROBE_BYTES.min(shared.limits.turn_budget_bytes);
            }
            if self.state.is_closed()
                || budget == 0
                || self.wants_relay()
                || !self.receive(partner.as_deref_mut(), &mut budget, shared)
            {
                break;
            }
            may_starve = false;
        }
        self.had_much_to_do = budget <= shared.limits.turn_budget_bytes / 2;
        if self.transport.is_secure() {
            self.go_on_with_tls(shared);
        }
        self.look_for_error(shared);
        self.settle(shared);
    }

    /// Sees whether an outbound connection is made, or the handshake of a client is over.
    fn try_connected(&mut self, shared: &mut Shared<P::Message, T::Pipe>) -> bool {
        if !self.ready.is_worth_a_try() {
            return false;
        }
        if self.is_client() {
            if self.try_handshake(shared) {
                // Who makes its protocol is told, and has the next word.
                self.ready.rest();
                shared.outbox.secured(self.id);
            }
            return false;
        }
        let peer = match self.transport.take_error() {
            Ok(None) => match self.transport.peer_addr() {
                // A spurious event: the connection is still being made.
                Err(error) if error.kind() == ErrorKind::NotConnected => {
                    self.ready = Readiness::NONE;
                    return false;
                }
                Ok(peer) if self.is_own_address(&peer) => Err(ErrorKind::ConnectionRefused.into()),
                address => address,
            },
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match peer {
            Ok(_) if self.transport.is_handshaking() && !self.try_handshake(shared) => false,
            Ok(address) => {
                self.made(shared);
                if self.state.is_closed() {
                    // Who has asked for it is told: its protocol did not come to anything.
                    return false;
                }
                if let Some((by, label)) = self.take_requester() {
                    // Until it is told, what comes waits for what it makes of this connection.
                    self.extra.get_or_insert_default().answers_due += 1;
                    let (local, tls) = (self.transport.local_addr().ok(), self.transport.tls());
                    shared.outbox.connected(by, Connected { id: self.id, label, address, local, tls });
                }
                true
            }
            Err(error) => {
                self.close(CloseReason::ConnectFailed(error.kind()), shared);
                false
            }
        }
    }

    /// The connection is made.
    pub(super) fn made(&mut self, shared: &mut Shared<P::Message, T::Pipe>) {
        self.set_state(self.state.connected());
        self.ready.insert(Readiness::READ | Readiness::WRITE);
        self.ready.remove(Readiness::ERROR);
        self.last_activity = shared.now;
        self.open(shared);
    }

    /// Whether it is connected to itself: TCP makes such a connection where the port of an address that nobody listens
    /// on is chosen for the connecting end too (simultaneous open, RFC 9293 section 3.5).
    fn is_own_address(&self, peer: &Address) -> bool {
        matches!(peer, Address::Ip(_)) && self.transport.local_addr().is_ok_and(|own| own == *peer)
    }

    /// After an error event, once everything before the error was read: an error that no read or write
    /// would show any more is the end all the same.
    fn look_for_error(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        if !self.ready.has(Readiness::ERROR) || self.state.is_closed() || self.can_read() {
            return;
        }
        self.ready.remove(Readiness::ERROR);
        if let Ok(Some(error)) | Err(error) = self.transport.take_error() {
            self.break_send(&error, shared);
        }
    }
}
