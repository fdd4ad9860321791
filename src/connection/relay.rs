//! Relays: bytes are forwarded both ways between two connections.

use std::time::Instant;

use super::{
    Connection, Relay,
    halves::{RecvHalf, SendHalf},
    shared::Shared,
    state::State,
};
use crate::{
    close_reason::CloseReason, connection_id::ConnectionId, protocol::Protocol, system::transport::Transport,
};

impl<P: Protocol, T: Transport> Connection<P, T> {
    /// Whether it is relayed, or is to be.
    pub fn has_relay(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.relay.is_some())
    }

    /// The connection that it is relayed with.
    pub fn partner(&self) -> Option<ConnectionId> {
        match self.extra.as_ref()?.relay? {
            Relay::With(partner) => Some(partner),
            Relay::Wanted(_) => None,
        }
    }

    pub(super) fn is_relayed(&self) -> bool {
        self.partner().is_some()
    }

    /// Whether it is not read until its partner has sent more.
    pub fn is_held_back(&self) -> bool {
        self.is_relayed() && self.throttled
    }

    /// Whether its partner has yet to send some of what came on this one.
    pub(super) fn waits_for_partner(&self) -> bool {
        self.is_relayed() && self.extra.as_ref().is_some_and(|extra| extra.partner_owes)
    }

    /// The protocol wants it to be relayed.
    pub(super) fn want_relay(&mut self, with: ConnectionId) {
        if !self.is_relayed() {
            self.extra.get_or_insert_default().relay = Some(Relay::Wanted(with));
        }
    }

    pub(super) fn wants_relay(&self) -> bool {
        matches!(self.extra.as_ref().and_then(|extra| extra.relay), Some(Relay::Wanted(_)))
    }

    /// Whom it is to be relayed with, once.
    pub fn take_wanted_relay(&mut self) -> Option<ConnectionId> {
        let extra = self.extra.as_mut()?;
        let Some(Relay::Wanted(with)) = extra.relay else { return None };
        extra.relay = None;
        Some(with)
    }

    /// Whether its protocol has not ended it, and it has no partner yet.
    pub fn can_be_relayed(&self) -> bool {
        self.state.is_made() && self.send.is_open() && self.recv != RecvHalf::Discarded && !self.is_relayed()
    }

    /// Ties both together, and passes on what their protocols left.
    pub fn relay_with(&mut self, partner: &mut Self, shared: &mut Shared<P::Message, T::Pipe>) {
        self.begin_relay(partner.id, shared.now);
        partner.begin_relay(self.id, shared.now);
        self.pass_on_what_was_left(partner, shared);
        partner.pass_on_what_was_left(self, shared);
    }

    fn begin_relay(&mut self, partner: ConnectionId, now: Instant) {
        self.last_activity = now;
        self.extra.get_or_insert_default().relay = Some(Relay::With(partner));
        if self.recv.matters() {
            self.set_recv(RecvHalf::Open);
        }
        self.awaits_writable = false;
        self.throttled = false;
        self.deadline_moved = true;
    }

    fn pass_on_what_was_left(&mut self, partner: &mut Self, shared: &mut Shared<P::Message, T::Pipe>) {
        let rest = self.take_unconsumed();
        partner.take_over(&rest, shared);
        self.throttled = partner.holds_others_back();
        if self.recv == RecvHalf::Ended {
            partner.end_send(CloseReason::Finished);
            partner.settle(shared);
        }
    }

    /// Hands what was just read to the partner. Returns how many bytes that sent at once.
    #[cold]
    pub(super) fn pass_on(
        &mut self,
        n: usize,
        partner: &mut Self,
        shared: &mut Shared<P::Message, T::Pipe>,
    ) -> usize {
        let buffer = std::mem::take(&mut shared.buffer);
        let sent = partner.take_over(&buffer[..n], shared);
        shared.buffer = buffer;
        self.throttled = partner.holds_others_back();
        sent
    }

    /// Sends what was just moved into a pipe for the partner.
    #[cold]
    pub(super) fn flush_partner(
        &mut self,
        partner: &mut Self,
        budget: &mut usize,
        shared: &mut Shared<P::Message, T::Pipe>,
    ) {
        partner.flush(budget, shared);
        partner.settle(shared);
        self.throttled = partner.holds_others_back();
    }

    /// Whether so much waits to be sent on it that its partner is to be read no more. What is in a pipe goes out before
    /// more is taken.
    fn holds_others_back(&self) -> bool {
        self.queued() >= self.limits.high_water_bytes || self.has_pipe()
    }

    /// Whether so little waits to be sent on it that its partner can be read again.
    pub fn lets_others_go_on(&self) -> bool {
        self.queued() <= self.limits.low_water_bytes && !self.has_pipe()
    }

    #[inline(never)]
    fn take_over(&mut self, bytes: &[u8], shared: &mut Shared<P::Message, T::Pipe>) -> usize {
        if !self.send.is_open() {
            self.lose(bytes.len(), shared);
            return 0;
        }
        shared.output.clear();
        let sent = self.send_or_queue(bytes, shared);
        self.settle(shared);
        sent
    }

    /// Does what follows from how the partner is after its turn, or anything else that happened to it.
    pub fn follow(&mut self, partner: &Self, shared: &Shared<P::Message, T::Pipe>) {
        if self.state.is_closed() {
            return self.forget_partner();
        }
        match partner.state {
            State::Closed(reason) => {
                let is_whole = !partner.recv.matters();
                self.end_relay(is_whole && reason.is_complete(), shared);
            }
            State::Connecting | State::Reading | State::Echoing | State::HalfClosed => {
                let is_ending = matches!(partner.send, SendHalf::Ending(_));
                if partner.recv == RecvHalf::Discarded || (self.recv.is_open() && is_ending) {
                    let reason = match partner.send {
                        SendHalf::Ending(reason) => reason,
                        SendHalf::Open | SendHalf::Broken(_) => CloseReason::Finished,
                    };
                    self.finish_with(reason, shared);
                }
                if self.recv != RecvHalf::Discarded {
                    // They are idle together or not at all.
                    self.last_activity = self.last_activity.max(partner.last_progress());
                }
                let owes = partner.queued() > 0;
                if let Some(extra) = &mut self.extra {
                    // It may be idle from now on.
                    self.deadline_moved |= std::mem::replace(&mut extra.partner_owes, owes) && !owes;
                }
                self.throttled |= partner.holds_others_back();
                self.throttled &= !partner.lets_others_go_on();
            }
        }
    }

    fn end_relay(&mut self, is_whole: bool, shared: &Shared<P::Message, T::Pipe>) {
        self.forget_partner();
        self.throttled = false;
        self.deadline_moved = true;
        if is_whole {
            self.finish_with(CloseReason::Finished, shared);
        } else {
            self.break_relay(shared);
        }
    }

    fn forget_partner(&mut self) {
        if let Some(extra) = &mut self.extra {
            extra.relay = None;
        }
    }

    /// There is nobody any more, or never was, to pass on to.
    pub fn break_relay(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        self.close(CloseReason::RelayBroken, shared);
    }

    fn finish_with(&mut self, reason: CloseReason, shared: &Shared<P::Message, T::Pipe>) {
        if self.recv.matters() || self.send.is_open() {
            self.finish(reason);
            self.settle(shared);
        }
    }
}
