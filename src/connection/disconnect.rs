//! The disconnect: everything is sent, then FIN, then input is read until the peer has ended too, then the socket is
//! closed. See <https://learn.microsoft.com/en-us/windows/win32/winsock/disconnecting-the-server>.

use std::{
    io::{self, ErrorKind},
    time::Instant,
};

use super::{
    Connection, Extra,
    drain::DrainStage,
    halves::{RecvHalf, SendHalf},
    shared::Shared,
    state::State,
};
use crate::{
    close_reason::CloseReason,
    protocol::Protocol,
    system::{readiness::Readiness, transport::Transport},
};

impl<P: Protocol, T: Transport> Connection<P, T> {
    /// Nothing more will be written.
    pub(super) fn end_send(&mut self, reason: CloseReason) {
        match self.send {
            SendHalf::Open => {
                // The first cause counts: where the peer has ended, it is that.
                let reason = if self.recv == RecvHalf::Ended {
                    self.peers_end()
                } else if reason == CloseReason::Finished && self.drain == DrainStage::Told {
                    CloseReason::Drained
                } else {
                    reason
                };
                self.set_send(SendHalf::Ending(reason));
            }
            SendHalf::Ending(_) | SendHalf::Broken(_) => {}
        }
        self.awaits_writable = false;
    }

    /// What the peer's end is counted as.
    pub(super) fn peers_end(&self) -> CloseReason {
        if self.transport.is_truncated() { CloseReason::Truncated } else { CloseReason::Peer }
    }

    /// Nothing more will be written, and what still comes is of no interest.
    pub(super) fn finish(&mut self, reason: CloseReason) {
        self.end_send(reason);
        if self.recv.matters() {
            self.set_recv(RecvHalf::Discarded);
        }
        if let Some(extra) = &mut self.extra {
            extra.unconsumed = Vec::new();
            extra.timers = Vec::new();
        }
    }

    /// Takes the steps of the disconnect that are due: FIN when everything is sent, close when the peer has
    /// ended too.
    #[inline]
    pub(super) fn settle(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        if !self.send.is_open() || self.extra.is_some() {
            self.settle_ending(shared);
        }
    }

    fn settle_ending(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        self.begin_tls_if_wanted(shared);
        match self.send {
            SendHalf::Open => {}
            SendHalf::Ending(reason) => self.close_step(reason, shared),
            SendHalf::Broken(reason) => {
                if !self.input_waits() {
                    self.close(reason, shared);
                }
            }
        }
        self.trim();
    }

    /// Whether there is input for the protocol that came before it.
    fn input_waits(&self) -> bool {
        self.recv == RecvHalf::Resumed || (self.recv == RecvHalf::Open && self.can_read())
    }

    /// The next steps of a connection whose output has an end.
    fn close_step(&mut self, reason: CloseReason, shared: &Shared<P::Message, T::Pipe>) {
        if self.state == State::Reading {
            self.shut_write(shared);
        }
        if self.state == State::HalfClosed {
            match self.recv {
                _ if !self.all_acknowledged => {}
                RecvHalf::Ended if self.transport.is_open_below() => {
                    // Bytes that are left unread would make a reset of the close.
                    self.set_recv(RecvHalf::Discarded);
                    self.ready.insert(Readiness::READ);
                    self.begin_linger(shared.now);
                }
                RecvHalf::Ended => self.close(reason, shared),
                RecvHalf::Discarded if self.discarded() > self.limits.linger_limit_bytes => {
                    self.close(CloseReason::LingerBytes, shared);
                }
                RecvHalf::Discarded => self.begin_linger(shared.now),
                RecvHalf::Open | RecvHalf::Resumed | RecvHalf::Paused => {}
            }
        }
    }

    /// Sends our FIN: everything before it was sent.
    fn shut_write(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        if (self.transport.has_output() && !self.ready.has(Readiness::WRITE)) || self.held() > 0 {
            return;
        }
        match self.transport.shutdown_write() {
            Ok(()) => {
                self.set_state(self.state.write_shut());
                self.last_activity = shared.now;
                self.look_after_fin(shared.now);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // There is something of its own to be sent before.
                self.ready.remove(Readiness::WRITE);
                self.note_stirred(shared.now);
                self.note_owed();
            }
            Err(error) => {
                log::debug!("{}: shutdown failed: {error}", self.id);
                self.close(reason_of(&error), shared);
            }
        }
    }

    /// Bytes that were owed will not be delivered.
    pub(super) fn lose(&mut self, bytes: usize, shared: &Shared<P::Message, T::Pipe>) {
        shared.counters.bytes_undelivered.add(bytes);
        if let SendHalf::Broken(reason) = self.send {
            self.set_send(SendHalf::Broken(reason.with_loss(bytes)));
        }
    }

    /// Bytes discarded since our FIN.
    fn discarded(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.discarded)
    }

    fn begin_linger(&mut self, now: Instant) {
        let extra = self.extra.get_or_insert_default();
        if extra.lingers_since.is_none() {
            extra.lingers_since = Some(now);
            self.last_activity = now;
        }
    }

    /// Whether it only waits for the peer's end: everything was delivered, with our FIN behind it.
    pub fn only_lingers(&mut self, shared: &Shared<P::Message, T::Pipe>) -> bool {
        let may_be_owed_more = self.recv.matters() || (self.partner().is_some() && !self.is_discarding());
        if self.state != State::HalfClosed || may_be_owed_more {
            return false;
        }
        self.look(shared.now);
        self.all_acknowledged
    }

    /// Ends the connection now. The first reason stays.
    pub fn close(&mut self, reason: CloseReason, shared: &Shared<P::Message, T::Pipe>) {
        if self.state.is_closed() {
            return;
        }
        let undelivered = self.undelivered();
        let had_last_word = self.state == State::HalfClosed && self.all_acknowledged;
        let (reason, is_whole) = match self.send {
            // However the rest of it went. What the peer was told of it is not to be taken from it again.
            SendHalf::Ending(CloseReason::HandshakeFailed) => (CloseReason::HandshakeFailed, had_last_word),
            SendHalf::Open | SendHalf::Ending(_) | SendHalf::Broken(_) => {
                let reason = reason.with_loss(undelivered);
                (reason, reason.is_complete())
            }
        };
        self.log_end(reason, undelivered, shared.now);
        self.set_state(self.state.close(reason));
        self.queue = None;
        if let Some(extra) = &mut self.extra {
            **extra = Extra { relay: extra.relay, outbound: extra.outbound.take(), ..Extra::default() };
        }
        self.trim();
        let was_refused = reason == CloseReason::ConnectFailed(ErrorKind::InvalidData);
        if !is_whole && !was_refused {
            // No peer is to take a truncated stream for a whole one. A server that was told why TLS is refused is to read that.
            self.transport.reset_on_close();
        }
        shared.counters.bytes_undelivered.add(undelivered);
        shared.counters.count_closed(reason);
        self.owes_close = true;
    }
}

/// What an error on the socket says about how the connection ended.
pub(super) fn reason_of(error: &io::Error) -> CloseReason {
    let peer_is_gone = matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
    );
    if peer_is_gone { CloseReason::Reset } else { CloseReason::Failed(error.kind()) }
}
