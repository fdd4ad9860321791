//! What a protocol can do with its connection.

use std::{
    fmt, io,
    ops::Range,
    time::{Duration, Instant},
};

use super::Input;
use crate::{Address, ConnectionId, Handle, transport::Addresses};

/// Whether a connection can take more output now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// More can be written.
    Open,
    /// The bytes were taken, but the queue has reached the high-water mark. Write no more until
    /// [`on_writable`](super::Protocol::on_writable); past
    /// [`queue_limit_bytes`](crate::Config::queue_limit_bytes) the connection is aborted.
    Full,
    /// The bytes were not taken: this end of the connection is finished, or the peer is gone.
    Closed,
}

/// What a protocol can do with its connection during a callback.
///
/// Everything takes effect when the callback has returned: what was written goes out in one write, then
/// the requests are obeyed. So no callback is ever called from within another.
pub struct Context<'a, M = ()> {
    pub(crate) id: ConnectionId,
    pub(crate) now: Instant,
    pub(crate) handle: &'a Handle<M>,
    pub(crate) addresses: &'a dyn Addresses,
    pub(crate) output: &'a mut Vec<u8>,
    pub(crate) queued: usize,
    pub(crate) high_water: usize,
    pub(crate) requests: Requests,
}

/// What a callback asked for.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// The range of the input that is sent as it is, before the output.
    pub(crate) forward: Range<usize>,
    /// The protocol was told [`Flow::Full`] and waits for `on_writable`.
    pub(crate) told_full: bool,
    /// Nothing more can be written.
    pub(crate) output_closed: bool,
    /// How many bytes were written all the same.
    pub(crate) refused: usize,
    pub(crate) reading: Option<Reading>,
    pub(crate) ending: Option<Ending>,
    /// Timers to set, or to cancel where there is no instant.
    pub(crate) timers: Vec<(u64, Option<Instant>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Pause,
    Resume,
}

/// Ways to end, the stronger later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    ShutdownWrite,
    Finish,
    Abort,
}

impl<M> Context<'_, M> {
    /// Sends `bytes`, behind everything written before.
    pub fn write(&mut self, bytes: &[u8]) -> Flow {
        if self.requests.output_closed {
            return self.refuse(bytes);
        }
        self.output.extend_from_slice(bytes);
        self.flow()
    }

    /// Sends all of `input` back, and consumes it. Nothing is copied when the socket takes it all. What
    /// only forwards need not look at the answer: input is not read while the queue is full.
    pub fn forward(&mut self, input: &mut Input<'_>) -> Flow {
        let start = input.consumed();
        let bytes = input.take();
        if self.requests.output_closed {
            return self.refuse(bytes);
        }
        if self.output.is_empty() && self.requests.forward.is_empty() {
            self.requests.forward = start..start + bytes.len();
        } else {
            self.output.extend_from_slice(bytes);
        }
        self.flow()
    }

    /// Bytes written and not yet taken by the socket.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued + self.requests.forward.len() + self.output.len()
    }

    /// Stops handing over input. Bytes already in the kernel stay there, and the peer is held back by
    /// TCP's flow control. The end of input is not noticed meanwhile.
    pub fn pause_reading(&mut self) {
        self.requests.reading = Some(Reading::Pause);
    }

    /// Hands over input again, beginning with what was left unconsumed.
    pub fn resume_reading(&mut self) {
        self.requests.reading = Some(Reading::Resume);
    }

    /// Sends everything written, then FIN, and goes on receiving: [`on_data`](super::Protocol::on_data)
    /// is called until the peer ends too. Nothing can be written any more.
    pub fn shutdown_write(&mut self) {
        self.end(Ending::ShutdownWrite);
    }

    /// Ends the connection the documented way: sends everything written, then FIN, receives
    /// and discards until the peer ends too or a linger limit is reached, and closes the socket.
    pub fn finish(&mut self) {
        self.end(Ending::Finish);
    }

    /// Resets the connection. What was written and not yet sent is lost, and so may be what was sent.
    pub fn abort(&mut self) {
        self.end(Ending::Abort);
    }

    /// Calls [`on_timeout`](super::Protocol::on_timeout) with [`Timeout::Timer(key)`](super::Timeout::Timer)
    /// once, after `delay`. A timer of the same key that has not fired yet is replaced. A delay
    /// past the range of the clock is never.
    pub fn set_timer(&mut self, key: u64, delay: Duration) {
        self.requests.timers.push((key, self.now.checked_add(delay)));
    }

    /// Forgets the timer of this key, if there is one.
    pub fn cancel_timer(&mut self, key: u64) {
        self.requests.timers.push((key, None));
    }

    /// The name of this connection.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The loop's clock: when the current batch of events was fetched.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The peer's address, asked of the operating system.
    ///
    /// # Errors
    ///
    /// What the operating system says, for example that the peer is gone.
    pub fn peer_addr(&self) -> io::Result<Address> {
        self.addresses.peer_addr()
    }

    /// Our address on this connection, asked of the operating system.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.addresses.local_addr()
    }

    /// The server's handle, for example to send messages to other connections.
    #[must_use]
    pub const fn handle(&self) -> &Handle<M> {
        self.handle
    }

    fn end(&mut self, ending: Ending) {
        self.requests.output_closed = true;
        self.requests.ending = self.requests.ending.max(Some(ending));
    }

    fn refuse(&mut self, bytes: &[u8]) -> Flow {
        self.requests.refused += bytes.len();
        Flow::Closed
    }

    fn flow(&mut self) -> Flow {
        if self.queued() < self.high_water {
            return Flow::Open;
        }
        self.requests.told_full = true;
        Flow::Full
    }
}

impl<M> fmt::Debug for Context<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id)
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}
