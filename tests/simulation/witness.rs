//! Sees to it that nothing that has a time happens before it.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use echoloop::{CloseReason, Config};

use super::kernel::{Acks, SharedKernel, socket::SharedSocket};

/// What the kernel knows of one connection, beside what its protocol is told.
#[derive(Debug)]
pub struct Witness {
    kernel: SharedKernel,
    socket: SharedSocket,
    limits: Rc<Config>,
}

impl Witness {
    pub fn new(kernel: &SharedKernel, socket: &SharedSocket, limits: &Rc<Config>) -> Self {
        Self { kernel: Rc::clone(kernel), socket: Rc::clone(socket), limits: Rc::clone(limits) }
    }

    pub fn now(&self) -> Instant {
        self.kernel.borrow().now
    }

    /// A timer fires that was to fire at `due`.
    pub fn timer(&self, due: Option<Instant>) -> Result<(), String> {
        match due {
            Some(due) if due <= self.now() => Ok(()),
            Some(due) => Err(format!("a timer fires {:?} early", due - self.now())),
            None => Err("a timer fires that was not set".to_owned()),
        }
    }

    pub fn idle(&self) -> Result<(), String> {
        let socket = self.socket.borrow();
        let is_delivering = self.is_askable() && socket.unacked() > 0;
        let since = if is_delivering { socket.stirred.max(socket.last_acked) } else { socket.stirred };
        self.has_passed("idle", since, self.limits.idle_timeout)
    }

    /// The protocol is told of the drain. One that has not paused must have been given everything.
    pub fn drain(&self, must_be_caught_up: bool) -> Result<(), String> {
        let Some(ordered) = self.kernel.borrow().drain_ordered else {
            return Err("a drain that nobody asked for".to_owned());
        };
        let socket = self.socket.borrow();
        if must_be_caught_up && !socket.inbound.is_empty() && !socket.may_still_be_told() {
            return Err(format!("told of the drain, with {} bytes unread", socket.inbound.len()));
        }
        let half = self.limits.drain_timeout.map(|timeout| timeout / 2);
        let is_silent = self.has_passed("drained", socket.stirred, Some(self.limits.drain_silence));
        is_silent
            .or_else(|_| self.has_passed("drained", ordered, Some(self.limits.drain_patience)))
            .or_else(|error| self.has_passed("drained", ordered, half).map_err(|_| error))
    }

    /// The connection ended for this reason.
    pub fn close(&self, reason: CloseReason) -> Result<(), String> {
        let socket = self.socket.borrow();
        let is_delivering = self.is_askable() && socket.unacked() > 0;
        let delivered_at = if self.is_askable() { socket.all_acked_at } else { socket.shut_at };
        if reason.is_complete() && delivered_at.is_none() {
            return Err(format!("'{reason}' with {} bytes unacknowledged", socket.unacked()));
        }
        let stalled_since = if is_delivering { socket.last_acked } else { socket.last_taken };
        let limits = &*self.limits;
        let what = reason.to_string();
        match reason {
            CloseReason::ConnectTimeout => self.has_passed(&what, socket.since, limits.connect_timeout),
            CloseReason::WriteStall => self.has_passed(&what, stalled_since, limits.write_timeout),
            CloseReason::LingerSilence => {
                let since = delivered_at.map_or(socket.stirred, |at| at.max(socket.stirred));
                self.has_passed(&what, since, limits.linger_silence_timeout)
            }
            CloseReason::LingerTimeout => {
                let begin = delivered_at.ok_or("it lingers, and was not shut")?;
                // So is called too what the end of a drain finds lingering.
                self.has_passed(&what, begin, limits.linger_timeout).or_else(|error| {
                    let ordered = self.kernel.borrow().drain_ordered.ok_or(error)?;
                    self.has_passed(&what, ordered, limits.drain_timeout)
                })
            }
            CloseReason::HandshakeTimeout => self.has_passed(&what, socket.since, limits.handshake_timeout),
            CloseReason::DrainTimeout => {
                let ordered = self.kernel.borrow().drain_ordered.ok_or("a drain that nobody asked for")?;
                self.has_passed(&what, ordered, limits.drain_timeout)
            }
            _ => Ok(()),
        }
    }

    fn is_askable(&self) -> bool {
        self.kernel.borrow().nature.acks != Acks::Unaskable
    }

    fn has_passed(&self, what: &str, since: Instant, timeout: Option<Duration>) -> Result<(), String> {
        let passed = self.now().saturating_duration_since(since);
        match timeout {
            Some(timeout) if passed >= timeout => Ok(()),
            _ => Err(format!("'{what}' after {passed:?}, and not after {timeout:?}")),
        }
    }
}
