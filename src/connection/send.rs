//! The sending half: what can be sent at once is, the rest is queued.

use std::{
    io::{self, ErrorKind, IoSlice},
    mem,
};

use super::{
    Connection,
    bulk::{affordable_move, cost_of_move},
    disconnect::reason_of,
    drain::DrainStage,
    halves::SendHalf,
    queue::Queue,
    shared::Shared,
    state::State,
};
use crate::{
    close_reason::CloseReason,
    pipes::Pipe,
    protocol::Protocol,
    shared_bytes::SharedBytes,
    system::{readiness::Readiness, transport::Transport},
};

impl<P: Protocol, T: Transport> Connection<P, T> {
    /// Sends `forward` and then the gathered output: at once as far as the socket takes it, and behind what is
    /// queued otherwise. Returns how many bytes the socket took.
    // Not called by itself on the way of an echo, though relays use it too.
    #[inline(always)]
    pub(super) fn send_or_queue(
        &mut self,
        forward: &[u8],
        shared: &mut Shared<P::Message, T::Pipe>,
    ) -> usize {
        let owed = forward.len() + shared.output.len();
        if owed == 0 {
            return 0;
        }
        let mut sent = 0;
        if self.queued() == 0 && self.ready.has(Readiness::WRITE) && self.send.fault().is_none() {
            let limit = shared.limits.turn_budget_bytes;
            let first = &forward[..forward.len().min(limit)];
            let second = &shared.output[..shared.output.len().min(limit - first.len())];
            let result = write_slices(&mut self.transport, [IoSlice::new(first), IoSlice::new(second)]);
            sent = *result.as_ref().unwrap_or(&0);
            self.written(result, shared);
        }
        if sent < owed {
            let output = mem::take(&mut shared.output);
            let from_output = sent.saturating_sub(forward.len());
            self.enqueue(&forward[sent.min(forward.len())..], &output[from_output..], shared);
            shared.output = output;
        }
        shared.trim_output();
        sent
    }

    /// Sends `forward`, and then the gathered output with what is shared between. Returns how many bytes the socket took.
    #[cold]
    pub(super) fn send_pieces(
        &mut self,
        forward: &[u8],
        pieces: Vec<(usize, SharedBytes)>,
        shared: &mut Shared<P::Message, T::Pipe>,
    ) -> usize {
        let output = mem::take(&mut shared.output);
        let owed = forward.len() + output.len() + pieces.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        if self.send.fault().is_some() || self.state.is_closed() {
            self.lose(owed, shared);
            return 0;
        }
        let queue = self.queue.get_or_insert_with(|| Box::new(Queue::new(shared.now)));
        queue.bytes.push(forward, &mut shared.buffers);
        let mut from = 0;
        for (at, bytes) in pieces {
            queue.bytes.push(&output[from..at], &mut shared.buffers);
            queue.bytes.push_shared(bytes);
            from = at;
        }
        queue.bytes.push(&output[from..], &mut shared.buffers);
        shared.output = output;
        shared.trim_output();
        if self.state != State::Echoing {
            self.set_state(self.state.queued());
        }
        let mut budget = shared.limits.turn_budget_bytes;
        self.write_queue(&mut budget, shared);
        self.check_queue(false, shared);
        shared.limits.turn_budget_bytes - budget
    }

    /// Queues what the socket did not take.
    pub(super) fn enqueue(&mut self, first: &[u8], second: &[u8], shared: &mut Shared<P::Message, T::Pipe>) {
        let unsent = first.len() + second.len();
        if self.send.fault().is_some() || self.state.is_closed() {
            return self.lose(unsent, shared);
        }
        let now = shared.now;
        let queue = self.queue.get_or_insert_with(|| Box::new(Queue::new(now)));
        queue.bytes.push(first, &mut shared.buffers);
        queue.bytes.push(second, &mut shared.buffers);
        if self.state != State::Echoing {
            self.set_state(self.state.queued());
        }
        // What is passed on is bounded by the marks and the input limit, and it is no protocol's doing.
        self.check_queue(self.is_relayed() && second.is_empty(), shared);
    }

    /// Holds input back while so much is queued, and ends a connection whose protocol has queued too much.
    fn check_queue(&mut self, is_passed_on: bool, shared: &Shared<P::Message, T::Pipe>) {
        let Some(queue) = &self.queue else { return };
        // What is in a pipe is no memory of ours, nor the protocol's doing.
        let written = queue.bytes.len();
        // Who is relayed is throttled by its partner's queue.
        let is_full = queue.len() >= self.limits.high_water_bytes;
        self.throttled |= is_full && !self.is_relayed();
        if written > self.limits.queue_limit_bytes && !is_passed_on {
            log::warn!("{}: the protocol queued {written} bytes, more than its limit", self.id);
            self.close(CloseReason::QueueLimit, shared);
        }
    }

    /// Sends what is queued, and lets the protocol write more when there is room again.
    pub(super) fn flush(&mut self, budget: &mut usize, shared: &mut Shared<P::Message, T::Pipe>) {
        loop {
            self.write_queue(budget, shared);
            if self.throttled && self.queued() <= self.limits.low_water_bytes && !self.is_relayed() {
                self.throttled = false;
                self.restart_read_idle(shared.now);
            }
            if self.state.is_closed() || *budget == 0 || !self.owes_writable() {
                return;
            }
            self.awaits_writable = false;
            let requests = self.call(shared, |protocol, cx| protocol.on_writable(cx));
            let sent = self.apply(shared, requests, &[], CloseReason::Finished);
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
                }
            }
            self.written(result, shared);
        }
    }

    /// Notes the outcome of a write.
    fn written(&mut self, result: io::Result<usize>, shared: &Shared<P::Message, T::Pipe>) {
        match result {
            Ok(n) => {
                self.last_activity = shared.now;
                shared.counters.bytes_sent.add(n);
                self.note_owed();
                if let Some(extra) = &mut self.extra {
                    extra.note_sent(n, shared.now);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.remove(Readiness::WRITE);
                self.note_stirred(shared.now);
                if shared.drain.is_some() && self.drain == DrainStage::Untold {
                    self.drain = DrainStage::UntoldUntilSilent;
                }
            }
            Err(error) => self.break_send(&error, shared),
        }
    }

    /// The peer can be sent nothing any more. What it sent before is still read; see [`settle`](Self::settle).
    pub(super) fn break_send(&mut self, error: &io::Error, shared: &Shared<P::Message, T::Pipe>) {
        log::trace!("{}: {error}", self.id);
        if self.send.fault().is_none() {
            self.set_send(SendHalf::Broken(reason_of(error)));
        }
        self.lose(self.undelivered(), shared);
        self.take_held();
        self.note_nothing_owed();
        self.ready.insert(Readiness::READ);
        self.queue = None;
        if self.state == State::Echoing {
            self.set_state(self.state.flushed());
        }
        if !self.is_relayed() {
            self.throttled = false;
        }
        self.awaits_writable = false;
    }

    /// Whether bytes wait in a pipe: they are sent before more is taken.
    pub(super) fn has_pipe(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.pipe.is_some())
    }

    /// Whether the protocol is to be told that it can write again.
    pub(super) fn owes_writable(&self) -> bool {
        self.awaits_writable && self.queued() <= self.limits.low_water_bytes && !self.holds_output()
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
        let n = if queue.bytes.has_shared() {
            let slices = queue.bytes.all_slices(*budget);
            retried(|| transport.write_vectored(&slices))?
        } else {
            write_slices(transport, queue.bytes.slices(*budget))?
        };
        queue.bytes.consume(n, &mut shared.buffers, shared.now);
        *budget -= n;
        return Ok(n);
    };
    let most = affordable_move(*budget);
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
