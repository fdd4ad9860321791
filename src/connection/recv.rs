//! The receiving half: reads, and hands over what came.

use std::{io::ErrorKind, mem};

use super::{
    Connection, bulk::Fill, disconnect::reason_of, halves::RecvHalf, shared::Shared, state::State,
    turn::PROBE_BYTES,
};
use crate::{
    close_reason::CloseReason,
    protocol::{Protocol, input::Input},
    system::{readiness::Readiness, transport::Transport},
};

/// What a connection with nothing queued may always read, however little memory is left.
const ROOM_ALWAYS: usize = 4096;

impl<P: Protocol, T: Transport> Connection<P, T> {
    /// Whether a read is worth a try and its bytes would be welcome.
    pub(super) fn can_read(&self) -> bool {
        self.ready.has(Readiness::READ)
            && match self.recv {
                RecvHalf::Open | RecvHalf::Resumed => {
                    !self.throttled
                        && self.unconsumed() < self.limits.input_limit_bytes
                        && (!self.has_pipe() || self.is_relayed())
                }
                RecvHalf::Discarded => true,
                RecvHalf::Paused | RecvHalf::Ended => false,
            }
    }

    /// Reads once and hands over what came. False when there is nothing to do before the next event.
    pub(super) fn receive(
        &mut self,
        mut partner: Option<&mut Self>,
        budget: &mut usize,
        shared: &mut Shared<P::Message, T::Pipe>,
    ) -> bool {
        if self.recv == RecvHalf::Resumed {
            self.set_recv(RecvHalf::Open);
            self.deliver(0, shared);
            return true;
        }
        if !self.can_read() {
            return false;
        }
        let room = match self.fill_pipe(partner.as_deref_mut(), budget, shared) {
            Fill::Moved => {
                if let Some(partner) = partner {
                    self.flush_partner(partner, budget, shared);
                }
                return true;
            }
            Fill::Drained => return false,
            // What comes just now is to be moved, not copied.
            Fill::Nothing => PROBE_BYTES,
            Fill::Impossible => usize::MAX,
        };
        let mut room = room.min(self.room(partner.as_deref())).min(*budget);
        if shared.buffers.are_limited() && self.recv != RecvHalf::Discarded {
            let Some(in_memory) = self.room_in_memory(partner.as_deref(), shared) else { return false };
            room = room.min(in_memory);
        }
        let buffer = &mut shared.buffer;
        let room = room.min(buffer.len());
        if room == 0 {
            debug_assert!(false, "a read of nothing would look like the end");
            return false;
        }
        let result = loop {
            match self.transport.read(&mut buffer[..room]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            Ok(0) => match self.send.fault() {
                // After an error the system says end of input, but it is not the peer's.
                Some(fault) => self.close(fault, shared),
                None => self.end_of_input(partner, shared),
            },
            Ok(n) => self.take_in(n, room, partner, budget, shared),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.note_drained(shared);
                if self.transport.has_input() {
                    // No event will come for it.
                    self.ready.insert(Readiness::READ);
                }
                return false;
            }
            Err(error) if self.transport.is_handshaking() => {
                self.fail_handshake(&error, shared);
                return false;
            }
            Err(error) => {
                let reason = self.send.fault().unwrap_or_else(|| reason_of(&error));
                log::trace!("{}: {error}", self.id);
                self.close(reason, shared);
                return false;
            }
        }
        !self.state.is_closed()
    }

    /// Deals with the `n` bytes that a read of at most `room` has brought into the buffer.
    #[inline(always)]
    fn take_in(
        &mut self,
        n: usize,
        room: usize,
        partner: Option<&mut Self>,
        budget: &mut usize,
        shared: &mut Shared<P::Message, T::Pipe>,
    ) {
        *budget -= n;
        self.note_received(n, shared);
        if n < room && self.is_drained_by_short_read() {
            self.note_drained(shared);
        }
        self.note_bulk(n, shared);
        let sent = match partner {
            _ if self.recv == RecvHalf::Discarded => {
                self.discard(n, shared);
                0
            }
            Some(partner) => self.pass_on(n, partner, shared),
            None => self.deliver(n, shared),
        };
        *budget = budget.saturating_sub(sent);
    }

    /// Notes that so many bytes were taken from the socket.
    #[inline]
    pub(super) fn note_received(&mut self, n: usize, shared: &Shared<P::Message, T::Pipe>) {
        self.last_activity = shared.now;
        shared.counters.bytes_received.add(n);
        if let Some(extra) = &mut self.extra {
            extra.note_received(n, shared.now);
        }
    }

    /// Nothing more has come so far. An event follows when something does.
    pub(super) fn note_drained(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        if self.transport.is_secure() {
            self.note_stirred(shared.now);
        }
        self.ready.remove(Readiness::READ);
        // In a drain, one that is caught up is told earlier.
        self.deadline_moved |= shared.drain.is_some();
    }

    /// Whether nothing can be left when less came than was asked for, or nothing.
    pub(super) fn is_drained_by_short_read(&self) -> bool {
        self.transport.short_read_drains() && !self.ready.has(Readiness::MORE) && self.send.fault().is_none()
    }

    /// How many bytes may be read: so many that echoing them, or passing them on, keeps the queue within the high-water
    /// mark.
    fn room(&self, partner: Option<&Self>) -> usize {
        match self.recv {
            RecvHalf::Discarded => usize::MAX,
            RecvHalf::Open | RecvHalf::Resumed | RecvHalf::Paused | RecvHalf::Ended => {
                let queued = partner.unwrap_or(self).queued();
                let queue = self.limits.high_water_bytes.saturating_sub(queued);
                let unconsumed = self.limits.input_limit_bytes.saturating_sub(self.unconsumed());
                queue.min(unconsumed)
            }
        }
    }

    /// How many bytes may be read so that the loop keeps to its limit of memory. None if there is no room: then it is not
    /// read until some of what is queued was sent.
    #[inline(never)]
    fn room_in_memory(
        &mut self,
        partner: Option<&Self>,
        shared: &Shared<P::Message, T::Pipe>,
    ) -> Option<usize> {
        let left = shared.buffers.left();
        // Who is relayed is read again when its partner has no more than that queued.
        let least = if partner.is_some() { self.limits.low_water_bytes } else { 0 };
        let queued = partner.unwrap_or(self).queued();
        if queued > least && queued >= left {
            self.throttled = true;
            return None;
        }
        Some(left.max(ROOM_ALWAYS))
    }

    /// Hands the first `n` bytes of the buffer to the protocol, behind what it left unconsumed. Returns how many
    /// bytes it sent at once.
    fn deliver(&mut self, n: usize, shared: &mut Shared<P::Message, T::Pipe>) -> usize {
        let buffer = mem::take(&mut shared.buffer);
        let input = &buffer[..n];
        let sent = if self.unconsumed() == 0 {
            let (consumed, sent) = self.hand_over(input, shared);
            if consumed < n {
                self.keep_unconsumed(input[consumed..].to_vec(), shared);
            }
            sent
        } else {
            self.deliver_behind_unconsumed(input, shared)
        };
        shared.buffer = buffer;
        sent
    }

    fn deliver_behind_unconsumed(&mut self, input: &[u8], shared: &mut Shared<P::Message, T::Pipe>) -> usize {
        let mut held = self.take_unconsumed();
        held.extend_from_slice(input);
        let (consumed, sent) = self.hand_over(&held, shared);
        held.drain(..consumed);
        self.keep_unconsumed(held, shared);
        sent
    }

    /// Returns how many of the bytes the protocol consumed, and how many it sent.
    fn hand_over(&mut self, bytes: &[u8], shared: &mut Shared<P::Message, T::Pipe>) -> (usize, usize) {
        let mut input = Input::received(bytes);
        let requests = self.call(shared, |protocol, cx| protocol.on_data(&mut input, cx));
        let sent = self.apply(shared, requests, bytes, CloseReason::Finished);
        (input.consumed(), sent)
    }

    /// The peer's FIN has come.
    fn end_of_input(&mut self, partner: Option<&mut Self>, shared: &mut Shared<P::Message, T::Pipe>) {
        let before = self.recv;
        self.set_recv(RecvHalf::Ended);
        self.ready.remove(Readiness::READ);
        self.last_activity = shared.now;
        self.look_before_close(shared.now);
        match (before, partner) {
            (RecvHalf::Open | RecvHalf::Resumed, Some(partner)) => {
                partner.end_send(CloseReason::Finished);
                partner.settle(shared);
            }
            (RecvHalf::Open | RecvHalf::Resumed, None) => {
                let rest = self.take_unconsumed();
                let mut input = Input::received(&rest);
                let requests = self.call(shared, |protocol, cx| protocol.on_eof(&mut input, cx));
                let left = input.consumed();
                self.apply(shared, requests, &rest, self.peers_end());
                // It may be relayed yet.
                if self.send.is_open() && !self.state.is_closed() && left < rest.len() {
                    self.extra.get_or_insert_default().unconsumed = rest[left..].to_vec();
                }
            }
            (RecvHalf::Discarded | RecvHalf::Paused | RecvHalf::Ended, _) => {}
        }
    }

    fn discard(&mut self, n: usize, shared: &Shared<P::Message, T::Pipe>) {
        shared.counters.bytes_discarded.add(n);
        if self.state != State::HalfClosed {
            return;
        }
        let caps = |bytes: u64| bytes / self.limits.linger_limit_bytes.saturating_add(1);
        let extra = self.extra.get_or_insert_default();
        let before = caps(extra.discarded);
        extra.discarded += n as u64;
        if caps(extra.discarded) > before {
            // A close is due if our FIN is acknowledged.
            self.look(shared.now);
        }
    }

    pub(super) fn take_unconsumed(&mut self) -> Vec<u8> {
        self.extra.as_mut().map(|extra| mem::take(&mut extra.unconsumed)).unwrap_or_default()
    }

    fn keep_unconsumed(&mut self, held: Vec<u8>, shared: &Shared<P::Message, T::Pipe>) {
        if held.is_empty() || !self.recv.matters() || self.state.is_closed() {
            return;
        }
        self.extra.get_or_insert_default().unconsumed = held;
        self.check_unconsumed(shared);
    }

    /// A protocol must not leave as much as the limit, unless it waits for an answer: then no more is read.
    pub(super) fn check_unconsumed(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        let is_full = self.unconsumed() >= self.limits.input_limit_bytes;
        let must_be_consumed = self.recv == RecvHalf::Open && !self.wants_relay() && !self.awaits_answer();
        if is_full && must_be_consumed && !self.is_relayed() {
            log::warn!("{}: the protocol left its input limit unconsumed", self.id);
            self.close(CloseReason::InputLimit, shared);
        }
    }

    pub(super) fn unconsumed(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.unconsumed.len())
    }
}
