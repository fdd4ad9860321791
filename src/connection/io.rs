//! A connection's turn: flush, read, hand over, send.

use std::{
    io::{self, ErrorKind, IoSlice},
    mem,
};

use super::{
    Connection, InputSide, OutputSide, Queue, Shared, State,
    bulk::{Fill, cost_of_move},
};
use crate::{
    close_reason::CloseReason,
    config::Config,
    pipes::Pipe,
    protocol::{Protocol, input::Input},
    system::{readiness::Readiness, transport::Transport},
};

/// What is read of a connection that sends in bulk to see why nothing could be moved, or of one whose protocol has used
/// up its budget by writing.
const PROBE_BYTES: usize = 512;

impl<P: Protocol, T: Transport> Connection<P, T> {
    /// Does all that can be done without blocking, up to the budget. `partner` is the connection that it is relayed
    /// with, if it is.
    pub fn turn(&mut self, mut partner: Option<&mut Self>, shared: &mut Shared<P::Message, T::Pipe>) {
        if self.state == State::Connecting && !self.try_connected(shared) {
            return;
        }
        let mut budget = shared.limits.turn_budget_bytes;
        let mut may_starve = true;
        loop {
            if self.queue.is_some() || self.told_full || self.throttled {
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
        self.look_for_error(shared);
        self.settle(shared);
    }

    /// Whether a read is worth a try and its bytes would be welcome.
    pub(super) fn can_read(&self, limits: &Config) -> bool {
        self.ready.has(Readiness::READ)
            && match self.input {
                InputSide::Open => {
                    !self.throttled && self.unconsumed() < limits.input_limit_bytes && !self.has_pipe()
                }
                InputSide::Discarded => true,
                InputSide::Paused | InputSide::Ended => false,
            }
    }

    /// Whether bytes wait in a pipe: they are sent before more is taken.
    fn has_pipe(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.pipe.is_some())
    }

    /// Whether the protocol is to be told that it can write again.
    pub(super) fn owes_writable(&self, limits: &Config) -> bool {
        self.told_full && self.queued() <= limits.low_water_bytes
    }

    /// Sees whether an outbound connection is made.
    fn try_connected(&mut self, shared: &mut Shared<P::Message, T::Pipe>) -> bool {
        if self.ready == Readiness::NONE {
            return false;
        }
        let outcome = match self.transport.take_error() {
            Ok(None) => match self.transport.peer_addr() {
                // A spurious event: the connection is still being made.
                Err(error) if error.kind() == ErrorKind::NotConnected => {
                    self.ready = Readiness::NONE;
                    return false;
                }
                address => address.map(|_| ()),
            },
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                self.set_state(self.state.connected());
                self.ready.insert(Readiness::READ | Readiness::WRITE);
                self.ready.remove(Readiness::ERROR);
                self.last_activity = shared.now;
                self.deadline_moved = true;
                self.open(shared);
                if self.state.is_closed() {
                    // Who has asked for it is told: its protocol did not come to anything.
                    return false;
                }
                self.take_requester();
                true
            }
            Err(error) => {
                self.close(CloseReason::ConnectFailed(error.kind()), shared);
                false
            }
        }
    }

    /// Sends what is queued, and lets the protocol write more when there is room again.
    fn flush(&mut self, budget: &mut usize, shared: &mut Shared<P::Message, T::Pipe>) {
        loop {
            self.write_queue(budget, shared);
            if self.throttled && self.queued() <= shared.limits.low_water_bytes && !self.is_relayed() {
                self.throttled = false;
            }
            if self.state.is_closed() || *budget == 0 || !self.owes_writable(&shared.limits) {
                return;
            }
            self.told_full = false;
            let requests = self.call(shared, |protocol, cx| protocol.on_writable(cx));
            let sent = self.obey(shared, requests, &[], CloseReason::Finished);
            *budget = budget.saturating_sub(sent);
        }
    }

    fn write_queue(&mut self, budget: &mut usize, shared: &mut Shared<P::Message, T::Pipe>) {
        while self.ready.has(Readiness::WRITE) && *budget > 0 {
            let Some(queue) = self.queue.as_deref_mut() else { return };
            let result = write_first(&mut self.transport, queue, budget, shared);
            if result.is_ok() {
                queue.progress = shared.now;
                if queue.len() == 0 {
                    self.queue = None;
                    self.set_state(self.state.flushed());
                    self.deadline_moved = true;
                }
            }
            self.written(result, 0, shared);
        }
    }

    /// Sends `forward` and then the gathered output: at once as far as the socket takes it, and behind what is
    /// queued otherwise. Returns how many bytes the socket took.
    // Not called by itself on the way of an echo, though relays use it too.
    #[inline(always)]
    pub(super) fn send(&mut self, forward: &[u8], shared: &mut Shared<P::Message, T::Pipe>) -> usize {
        let owed = forward.len() + shared.output.len();
        if owed == 0 {
            return 0;
        }
        let mut output = mem::take(&mut shared.output);
        let mut sent = 0;
        if self.queued() == 0 && self.ready.has(Readiness::WRITE) && self.fault.is_none() {
            let limit = shared.limits.turn_budget_bytes;
            let first = &forward[..forward.len().min(limit)];
            let second = &output[..output.len().min(limit - first.len())];
            let result = write_slices(&mut self.transport, [IoSlice::new(first), IoSlice::new(second)]);
            sent = *result.as_ref().unwrap_or(&0);
            self.written(result, owed, shared);
        }
        if sent < owed {
            let from_output = sent.saturating_sub(forward.len());
            self.enqueue(&forward[sent.min(forward.len())..], &output[from_output..], shared);
        }
        output.clear();
        if output.capacity() <= super::OUTPUT_CAPACITY_KEPT {
            shared.output = output;
        }
        sent
    }

    /// Queues what the socket did not take.
    fn enqueue(&mut self, first: &[u8], second: &[u8], shared: &mut Shared<P::Message, T::Pipe>) {
        let unsent = first.len() + second.len();
        if self.fault.is_some() || self.state.is_closed() {
            shared.counters.bytes_unsent.add(unsent);
            return;
        }
        let (now, limits) = (shared.now, &shared.limits);
        let queue = self.queue.get_or_insert_with(|| Box::new(Queue::new(now)));
        queue.bytes.push(first, &mut shared.buffers);
        queue.bytes.push(second, &mut shared.buffers);
        // What is in a pipe is no memory of ours, nor the protocol's doing.
        let written = queue.bytes.len();
        // Who is relayed is throttled by its partner's queue.
        let is_full = queue.len() >= limits.high_water_bytes;
        self.throttled |= is_full && !self.is_relayed();
        if self.state != State::Echoing {
            self.set_state(self.state.queued());
            self.deadline_moved = true;
        }
        // What is passed on is bounded by the marks and the input limit, and it is no protocol's doing.
        let is_passed_on = self.is_relayed() && second.is_empty();
        if written > limits.queue_limit_bytes && !is_passed_on {
            log::warn!("{}: the protocol queued {written} bytes, more than its limit", self.id);
            self.close(CloseReason::QueueLimit, shared);
        }
    }

    /// Notes the outcome of a write of what is queued, or of `unqueued` bytes that were not queued yet.
    fn written(&mut self, result: io::Result<usize>, unqueued: usize, shared: &Shared<P::Message, T::Pipe>) {
        match result {
            Ok(n) => {
                self.last_activity = shared.now;
                shared.counters.bytes_sent.add(n);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready.remove(Readiness::WRITE),
            Err(error) => self.set_fault(&error, unqueued, shared),
        }
    }

    /// The peer can be sent nothing any more. What it sent before is still read; see `settle`.
    pub(super) fn set_fault(
        &mut self,
        error: &io::Error,
        unqueued: usize,
        shared: &Shared<P::Message, T::Pipe>,
    ) {
        let unsent = self.queued();
        let fault = reason_of(error, unsent + unqueued > 0);
        log::trace!("{}: {error}", self.id);
        self.fault.get_or_insert(fault);
        self.ready.insert(Readiness::READ);
        shared.counters.bytes_unsent.add(unsent);
        self.queue = None;
        if self.state == State::Echoing {
            self.set_state(self.state.flushed());
        }
        if !self.is_relayed() {
            self.throttled = false;
        }
        self.told_full = false;
    }

    /// Reads once and hands over what came. False when there is nothing to do before the next event.
    fn receive(
        &mut self,
        partner: Option<&mut Self>,
        budget: &mut usize,
        shared: &mut Shared<P::Message, T::Pipe>,
    ) -> bool {
        if mem::take(&mut self.redeliver) {
            self.deliver(0, shared);
            return true;
        }
        if !self.can_read(&shared.limits) {
            return false;
        }
        let room = match self.fill_pipe(budget, shared) {
            Fill::Moved => return true,
            Fill::Drained => return false,
            // What comes just now is to be moved, not copied.
            Fill::Nothing => PROBE_BYTES,
            Fill::Impossible => usize::MAX,
        };
        let room = room.min(self.room(partner.as_deref(), &shared.limits)).min(*budget);
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
            Ok(0) => match self.fault {
                // After an error the system says end of input, but it is not the peer's.
                Some(fault) => self.close(fault, shared),
                None => self.end_of_input(partner, shared),
            },
            Ok(n) => {
                *budget -= n;
                self.last_activity = shared.now;
                shared.counters.bytes_received.add(n);
                if n < room && self.is_drained_by_short_read() {
                    self.ready.remove(Readiness::READ);
                }
                self.note_bulk(n, shared);
                let sent = match partner {
                    _ if self.input == InputSide::Discarded => {
                        self.discard(n, shared);
                        0
                    }
                    Some(partner) => self.pass_on(n, partner, shared),
                    None => self.deliver(n, shared),
                };
                *budget = budget.saturating_sub(sent);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.remove(Readiness::READ);
                return false;
            }
            Err(error) => {
                let reason = self.fault.unwrap_or_else(|| reason_of(&error, self.queued() > 0));
                log::trace!("{}: {error}", self.id);
                self.close(reason, shared);
                return false;
            }
        }
        !self.state.is_closed()
    }

    /// Whether nothing can be left when less came than was asked for, or nothing.
    pub(super) fn is_drained_by_short_read(&self) -> bool {
        self.transport.short_read_drains() && !self.ready.has(Readiness::MORE) && self.fault.is_none()
    }

    /// How many bytes may be read: so many that echoing them, or passing them on, keeps the queue within the high-water
    /// mark.
    fn room(&self, partner: Option<&Self>, limits: &Config) -> usize {
        match self.input {
            InputSide::Discarded => usize::MAX,
            InputSide::Open | InputSide::Paused | InputSide::Ended => {
                let queued = partner.unwrap_or(self).queued();
                let queue = limits.high_water_bytes.saturating_sub(queued);
                let unconsumed = limits.input_limit_bytes.saturating_sub(self.unconsumed());
                queue.min(unconsumed)
            }
        }
    }

    /// Hands the first `n` bytes of the buffer to the protocol, behind what it left unconsumed. Returns how many
    /// bytes it sent at once.
    fn deliver(&mut self, n: usize, shared: &mut Shared<P::Message, T::Pipe>) -> usize {
        let buffer = mem::take(&mut shared.buffer);
        let mut held = self.take_unconsumed();
        let (consumed, sent);
        if held.is_empty() {
            (consumed, sent) = self.hand_over(&buffer[..n], shared);
            held.extend_from_slice(&buffer[consumed..n]);
        } else {
            held.extend_from_slice(&buffer[..n]);
            (consumed, sent) = self.hand_over(&held, shared);
            held.drain(..consumed);
        }
        shared.buffer = buffer;
        if !held.is_empty() && matches!(self.input, InputSide::Open | InputSide::Paused) {
            self.keep_unconsumed(held, shared);
        }
        sent
    }

    /// Returns how many of the bytes the protocol consumed, and how many it sent.
    fn hand_over(&mut self, bytes: &[u8], shared: &mut Shared<P::Message, T::Pipe>) -> (usize, usize) {
        let mut input = Input::new(bytes);
        let requests = self.call(shared, |protocol, cx| protocol.on_data(&mut input, cx));
        let sent = self.obey(shared, requests, bytes, CloseReason::Finished);
        (input.consumed(), sent)
    }

    pub(super) fn take_unconsumed(&mut self) -> Vec<u8> {
        self.extra.as_mut().map(|extra| mem::take(&mut extra.unconsumed)).unwrap_or_default()
    }

    fn keep_unconsumed(&mut self, held: Vec<u8>, shared: &Shared<P::Message, T::Pipe>) {
        if self.state.is_closed() {
            return;
        }
        let full = held.len() >= shared.limits.input_limit_bytes;
        self.extra.get_or_insert_default().unconsumed = held;
        if full && self.input == InputSide::Open && !self.wants_relay() {
            log::warn!("{}: the protocol left its input limit unconsumed", self.id);
            self.close(CloseReason::InputLimit, shared);
        }
    }

    fn discard(&mut self, n: usize, shared: &Shared<P::Message, T::Pipe>) {
        shared.counters.bytes_discarded.add(n);
        let Some(linger) = self.extra.as_mut().and_then(|extra| extra.linger.as_mut()) else {
            return;
        };
        linger.discarded += n as u64;
        if linger.discarded > shared.limits.linger_limit_bytes {
            self.close(CloseReason::LingerBytes, shared);
        }
    }

    /// The peer's FIN has come.
    fn end_of_input(&mut self, partner: Option<&mut Self>, shared: &mut Shared<P::Message, T::Pipe>) {
        let before = mem::replace(&mut self.input, InputSide::Ended);
        self.ready.remove(Readiness::READ);
        self.last_activity = shared.now;
        self.deadline_moved = true;
        match (before, partner) {
            (InputSide::Open, Some(partner)) => {
                self.ended_by.get_or_insert(CloseReason::Peer);
                partner.end_output(CloseReason::Finished);
                partner.settle(shared);
            }
            (InputSide::Open, None) => {
                self.ended_by.get_or_insert(CloseReason::Peer);
                let rest = self.take_unconsumed();
                let mut input = Input::new(&rest);
                let requests = self.call(shared, |protocol, cx| protocol.on_eof(&mut input, cx));
                let left = input.consumed();
                self.obey(shared, requests, &rest, CloseReason::Peer);
                // It may be relayed yet.
                if self.output_is_open() && !self.state.is_closed() && left < rest.len() {
                    self.extra.get_or_insert_default().unconsumed = rest[left..].to_vec();
                }
            }
            (InputSide::Discarded | InputSide::Paused | InputSide::Ended, _) => {}
        }
    }

    /// After an error event, once everything before the error was read: an error that no read or write
    /// would show any more is the end all the same.
    fn look_for_error(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        if !self.ready.has(Readiness::ERROR) || self.state.is_closed() || self.can_read(&shared.limits) {
            return;
        }
        self.ready.remove(Readiness::ERROR);
        if let Ok(Some(error)) | Err(error) = self.transport.take_error() {
            self.set_fault(&error, 0, shared);
        }
    }

    /// Whether output was promised and is still possible.
    pub(super) fn output_is_open(&self) -> bool {
        self.output == OutputSide::Open && self.fault.is_none()
    }
}

/// One write of what is first in the queue: what is in the pipe, then the bytes.
fn write_first<M, T: Transport>(
    transport: &mut T,
    queue: &mut Queue<T::Pipe>,
    budget: &mut usize,
    shared: &mut Shared<M, T::Pipe>,
) -> io::Result<usize> {
    let Some(mut pooled) = queue.pipe.take() else {
        let n = write_slices(transport, queue.bytes.slices(*budget))?;
        queue.bytes.consume(n, &mut shared.buffers, shared.now);
        *budget -= n;
        return Ok(n);
    };
    let most = budget.saturating_mul(2);
    let result = retried(|| transport.splice_out(&mut pooled.pipe, most));
    if let Ok(n) = result {
        *budget -= cost_of_move(n);
    }
    if pooled.pipe.is_empty() {
        shared.pipes.give_back(pooled, shared.now);
    } else {
        queue.pipe = Some(pooled);
    }
    result
}

/// One write of both slices; with `write` where one is enough, which is send(2) on a socket.
fn write_slices(transport: &mut impl Transport, [first, second]: [IoSlice<'_>; 2]) -> io::Result<usize> {
    retried(|| {
        if second.is_empty() {
            transport.write(&first)
        } else if first.is_empty() {
            transport.write(&second)
        } else {
            transport.write_vectored(&[first, second])
        }
    })
}

/// A write, again if a signal interrupted it. One that takes nothing has failed.
fn retried(mut write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match write() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            result => return result,
        }
    }
}

/// What an error on the socket says about how the connection ended.
pub(super) fn reason_of(error: &io::Error, output_queued: bool) -> CloseReason {
    let peer_is_gone = matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
    );
    match (peer_is_gone, output_queued) {
        (true, true) => CloseReason::ResetUnsent,
        (true, false) => CloseReason::Reset,
        (false, _) => CloseReason::Failed(error.kind()),
    }
}
