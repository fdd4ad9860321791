//! Whether a connection sends in bulk, so that its bytes are better moved inside the kernel: back to it, or to the
//! connection that it is relayed with.
//!
//! For small messages a move costs more than a copy, for large ones less: a copy reads and writes every byte, a
//! move only passes pages on. So it is decided by what the connection sends, again and again.

use std::{
    io::{self, ErrorKind},
    time::Instant,
};

use super::{Connection, halves::RecvHalf, queue::Queue, shared::Shared, state::State};
use crate::{
    pipes::{Pipe, Pooled},
    protocol::Protocol,
    system::{readiness::Readiness, transport::Transport},
};

/// How much a connection has sent in bulk lately: reads of at least the threshold, less those below it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bulk(u8);

impl Bulk {
    /// From here on bytes are moved.
    const ENOUGH: u8 = 2;

    /// The most that is remembered, so that it ends after two small reads.
    const MOST: u8 = 3;

    const fn is_on(self) -> bool {
        self.0 >= Self::ENOUGH
    }

    const fn note(&mut self, is_large: bool) {
        if !is_large {
            self.0 = self.0.saturating_sub(1);
        } else if self.0 < Self::MOST {
            self.0 += 1;
        }
    }
}

impl<P: Protocol, T: Transport> Connection<P, T> {
    fn returns_input_unchanged(&self) -> bool {
        self.protocol.as_ref().is_some_and(Protocol::returns_input_unchanged)
    }

    /// Notes that `n` bytes were read at once.
    pub(super) fn note_bulk(&mut self, n: usize, shared: &Shared<P::Message, T::Pipe>) {
        if (self.returns_input_unchanged() || self.is_relayed())
            && shared.limits.pipes_max > 0
            && let Some(threshold) = shared.limits.splice_threshold_bytes
        {
            self.bulk.note(n >= threshold);
        }
    }

    /// Moves what has come into a pipe, and queues that: on the partner if it is relayed with one, else for its own peer.
    pub(super) fn fill_pipe(
        &mut self,
        partner: Option<&mut Self>,
        budget: &mut usize,
        shared: &mut Shared<P::Message, T::Pipe>,
    ) -> Fill {
        if !self.bulk.is_on() || self.recv != RecvHalf::Open || self.unconsumed() > 0 {
            return Fill::Impossible;
        }
        if !self.transport.can_splice() {
            return Fill::Impossible;
        }
        let can_send_it = match &partner {
            Some(partner) => partner.can_send_pipe(),
            None => self.returns_input_unchanged() && self.can_send_pipe(),
        };
        if !can_send_it {
            return Fill::Impossible;
        }
        let Some(mut pooled) = shared.pipes.take(shared.now, || self.transport.new_pipe()) else {
            return Fill::Impossible;
        };
        // Half of the budget at least is left for sending it.
        let most = affordable_move(budget.div_ceil(2));
        let result = self.transport.splice_in(&mut pooled.pipe, most);
        let n = *result.as_ref().unwrap_or(&0);
        debug_assert_eq!(pooled.pipe.len(), n, "it was empty");
        if n == 0 {
            shared.pipes.give_back(pooled, shared.now);
            return self.nothing_moved(result.err(), shared);
        }
        *budget -= cost_of_move(n).min(*budget);
        self.note_received(n, shared);
        self.note_bulk(n, shared);
        partner.unwrap_or(self).queue_pipe(pooled, shared.now);
        Fill::Moved
    }

    /// Whether what is in a pipe could be sent at once: nothing is queued before it.
    fn can_send_pipe(&self) -> bool {
        self.state == State::Reading
            && self.transport.can_splice()
            && self.send.is_open()
            && self.ready.has(Readiness::WRITE)
    }

    fn queue_pipe(&mut self, pooled: Pooled<T::Pipe>, now: Instant) {
        self.queue = Some(Box::new(Queue { pipe: Some(pooled), ..Queue::new(now) }));
        self.set_state(self.state.queued());
    }

    fn nothing_moved(&mut self, error: Option<io::Error>, shared: &mut Shared<P::Message, T::Pipe>) -> Fill {
        match error {
            Some(error) if error.kind() == ErrorKind::Unsupported => {
                shared.pipes.refuse(&error, shared.now);
                self.bulk = Bulk::default();
                Fill::Impossible
            }
            Some(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                // The kernel tells it once: to the read that follows this would look like an end.
                self.break_send(&error, shared);
                Fill::Nothing
            }
            Some(error) if error.kind() == ErrorKind::WouldBlock && self.is_drained_by_short_read() => {
                self.note_drained(shared);
                Fill::Drained
            }
            Some(_) | None => Fill::Nothing,
        }
    }
}

/// What came of an attempt to move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// Some are in a pipe.
    Moved,
    /// Nothing has come since, and the next event says when something does.
    Drained,
    /// Nothing was moved. A read tells why: nothing has come, the end, urgent data.
    Nothing,
    /// The connection does not send in bulk, or there is no pipe.
    Impossible,
}

/// So many bytes are moved where one may be copied. That is more than a move is faster: a larger one costs less for each
/// byte, and only one connection that moves bytes has its turn before others are asked for.
const MOVED_PER_COPIED: usize = 8;

/// How much of a turn's budget a move of `n` bytes takes.
pub(super) const fn cost_of_move(n: usize) -> usize {
    n.div_ceil(MOVED_PER_COPIED)
}

/// How many bytes may be moved for so much of the budget.
pub(super) const fn affordable_move(budget: usize) -> usize {
    budget.saturating_mul(MOVED_PER_COPIED)
}
