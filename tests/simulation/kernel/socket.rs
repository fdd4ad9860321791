//! One connection as the kernel sees it.

use std::{cell::RefCell, collections::VecDeque, io::ErrorKind, rc::Rc, time::Instant};

use echoloop::{ConnectionId, internals::Readiness};
use mio::{Interest, Token};

use super::Rearm;
use crate::secure::Meter;

pub type SharedSocket = Rc<RefCell<Socket>>;

/// What becomes of an outbound connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// Nothing has come back yet.
    Pending,
    Made,
    Refused,
}

/// One connection as the kernel sees it.
#[derive(Debug)]
pub struct Socket {
    pub attempt: Attempt,
    /// The name under which the server asked for it.
    pub dialled_as: Option<ConnectionId>,
    pub is_accepted: bool,
    /// The server has called connect(2) for it.
    pub is_begun: bool,
    // When things happened.
    pub since: Instant,
    /// The last byte moved in either direction, or an end.
    pub stirred: Instant,
    /// The server handed over the last byte.
    pub last_taken: Instant,
    /// The server shut its side.
    pub shut_at: Option<Instant>,
    /// Something was acknowledged, or sent while everything was.
    pub last_acked: Instant,
    /// Everything was acknowledged, the server's FIN included.
    pub all_acked_at: Option<Instant>,
    /// What the client's system has acknowledged in all; FIN counts as one.
    acked: u64,
    /// How many bytes it acknowledges beyond those that the client has read.
    pub window: usize,
    /// The client's host is gone: it does and acknowledges nothing any more.
    pub has_vanished: bool,
    /// Bytes from the client, and whether its FIN is behind them.
    pub inbound: VecDeque<u8>,
    pub inbound_fin: bool,
    pub inbound_capacity: usize,
    /// Bytes for the client, and whether our FIN is behind them.
    pub outbound: VecDeque<u8>,
    pub outbound_fin: bool,
    pub outbound_capacity: usize,
    /// The client reset the connection.
    pub reset_by_client: bool,
    /// The server's kernel reset the connection: the client loses what it has not read.
    pub reset_by_server: bool,
    /// The client's descriptor is closed: whatever comes is answered with a reset.
    pub client_closed: bool,
    pub closed: bool,
    pub(super) pending_error: Option<ErrorKind>,
    pub sticky: Option<ErrorKind>,
    pub(super) linger_zero: bool,
    // The poller's side.
    /// What the server calls it, once it is watched.
    pub id: Option<ConnectionId>,
    pub(super) interest: Option<Interest>,
    /// Events that the poller will report.
    pub events: Readiness,
    pub(super) armed_read: bool,
    pub(super) armed_write: bool,
    /// A read or write said `WouldBlock` though it could have gone on: the event must still come.
    pub(super) owed: Readiness,
    // What must not happen is noted here.
    pub violations: Vec<String>,
    pub write_shut: bool,
    /// Bytes that the server handed over in all.
    pub taken: u64,
    /// Bytes that it moved into a pipe, to be handed over.
    pub moved: u64,
    /// What it has sent over TLS.
    pub meter: Option<Meter>,
    /// It was closed with bytes unread, and reset by that.
    pub closed_over_input: bool,
}

impl Socket {
    pub fn new(inbound_capacity: usize, outbound_capacity: usize, now: Instant) -> Self {
        Self {
            attempt: Attempt::Made,
            inbound: VecDeque::new(),
            inbound_fin: false,
            inbound_capacity,
            outbound: VecDeque::new(),
            outbound_fin: false,
            outbound_capacity,
            reset_by_client: false,
            reset_by_server: false,
            client_closed: false,
            closed: false,
            pending_error: None,
            sticky: None,
            linger_zero: false,
            id: None,
            dialled_as: None,
            is_accepted: false,
            is_begun: false,
            since: now,
            stirred: now,
            last_taken: now,
            shut_at: None,
            last_acked: now,
            all_acked_at: None,
            acked: 0,
            window: outbound_capacity,
            has_vanished: false,
            interest: None,
            events: Readiness::NONE,
            armed_read: false,
            armed_write: false,
            owed: Readiness::NONE,
            violations: Vec::new(),
            write_shut: false,
            taken: 0,
            moved: 0,
            meter: None,
            closed_over_input: false,
        }
    }

    /// The name that the poller has for it.
    pub fn token(&self) -> Option<Token> {
        self.id.map(ConnectionId::token)
    }

    /// connect(2): it is made at once, or the peer has yet to answer.
    pub fn begin_connecting(&mut self, is_pending: bool, now: Instant) {
        self.is_begun = true;
        self.closed = false;
        self.attempt = if is_pending { Attempt::Pending } else { Attempt::Made };
        (self.since, self.stirred, self.last_taken) = (now, now, now);
    }

    /// Nobody will accept it.
    pub fn close_unaccepted(&mut self) {
        self.closed = true;
        self.reset_by_server = true;
    }

    /// What the server has sent in all; FIN counts as one.
    fn given(&self) -> u64 {
        self.taken + u64::from(self.write_shut)
    }

    /// Whether a read would say that the client has ended.
    pub fn is_at_end(&self) -> bool {
        self.inbound.is_empty() && self.pending_error.is_none() && (self.inbound_fin || self.reset_by_client)
    }

    /// What is sent and not acknowledged.
    pub fn unacked(&self) -> u64 {
        self.given() - self.acked
    }

    /// The same without FIN.
    pub fn bytes_unacked(&self) -> u64 {
        self.taken.saturating_sub(self.acked)
    }

    /// What the client's system has never acknowledged of what it was sent, in bytes of plaintext: of a record, all or
    /// nothing.
    pub fn lost(&self) -> u64 {
        match &self.meter {
            None => self.bytes_unacked(),
            Some(meter) => meter.begun - meter.whole(self.acked.min(self.taken)),
        }
    }

    /// Whether both sides have ended, and know it. Where no event tells the server, a look does a little later.
    pub fn is_over(&self) -> bool {
        self.all_acked_at.is_some() && self.inbound_fin && self.inbound.is_empty()
    }

    /// The server is about to send.
    pub fn note_sending(&mut self) {
        if self.unacked() == 0 {
            self.last_acked = self.stirred;
        }
    }

    /// How much of it the client's system has room for.
    pub fn ackable(&self) -> u64 {
        if self.has_vanished || self.closed || self.reset_by_client {
            return 0;
        }
        let read = self.taken - self.outbound.len() as u64;
        let received = self.taken.min(read + self.window as u64);
        let fin = u64::from(self.write_shut && received == self.taken);
        (received + fin).saturating_sub(self.acked)
    }

    /// The client's system acknowledges so much more. True if that is an event.
    pub fn acknowledge(&mut self, n: u64, now: Instant) -> bool {
        if n == 0 {
            return false;
        }
        self.acked += n;
        self.last_acked = now;
        let is_all = self.write_shut && self.unacked() == 0;
        if is_all {
            self.all_acked_at = Some(now);
        }
        is_all && self.inbound_fin
    }

    /// The kernel gives up a peer that has vanished.
    pub fn give_up(&mut self, rearm: Rearm) {
        self.pending_error = Some(ErrorKind::TimedOut);
        self.reset_by_client = true;
        self.outbound.clear();
        self.edge_read(rearm);
        self.edge_write(rearm);
    }

    pub fn is_readable(&self) -> bool {
        !self.inbound.is_empty() || self.inbound_fin || self.pending_error.is_some() || self.reset_by_client
    }

    pub fn is_writable(&self) -> bool {
        (self.attempt == Attempt::Made && self.outbound.len() < self.outbound_capacity)
            || self.pending_error.is_some()
            || self.reset_by_client
            || self.write_shut
    }

    /// Something has come in or changed for reading.
    pub fn edge_read(&mut self, rearm: Rearm) {
        if self.interest.is_none() || !(rearm == Rearm::EveryEdge || self.armed_read) {
            return;
        }
        self.armed_read = false;
        self.events.insert(Readiness::READ);
        if self.pending_error.is_some() {
            self.events.insert(Readiness::WRITE | Readiness::ERROR);
        }
    }

    /// There is room to write again.
    pub fn edge_write(&mut self, rearm: Rearm) {
        let is_watched = self.interest.is_some_and(Interest::is_writable);
        if is_watched && (rearm == Rearm::EveryEdge || self.armed_write) {
            self.armed_write = false;
            self.events.insert(Readiness::WRITE);
        }
    }

    /// What the poller reports. The end counts if it is there by now, whatever the event was for.
    pub fn take_events(&mut self) -> Readiness {
        let mut events = std::mem::replace(&mut self.events, Readiness::NONE);
        let has_ended = self.inbound_fin || self.reset_by_client || self.pending_error.is_some();
        if events != Readiness::NONE && has_ended {
            events.insert(Readiness::MORE);
        }
        events
    }

    /// The poller reports the rest of what it took later.
    pub fn put_back(&mut self, events: Readiness) {
        self.events.insert(events);
    }

    /// Whether the poller has something to report, now or when it is asked.
    pub fn has_events_to_come(&self) -> bool {
        self.events != Readiness::NONE || self.owed != Readiness::NONE
    }

    /// Whether the server was told that there is nothing to read though there is.
    pub fn may_still_be_told(&self) -> bool {
        self.owed.has(Readiness::READ)
    }

    /// What was said to block though it did not, becomes an event.
    pub fn pay_owed(&mut self, rearm: Rearm) {
        if self.owed.has(Readiness::READ) && self.is_readable() {
            self.edge_read(rearm);
        }
        if self.owed.has(Readiness::WRITE) && self.is_writable() {
            self.edge_write(rearm);
        }
        self.owed = Readiness::NONE;
    }

    pub fn watch(&mut self, interest: Interest) {
        self.interest = Some(interest);
        self.armed_read = true;
        self.armed_write = true;
        // Watching anew reports what is ready by then.
        if self.is_readable() {
            self.edge_read(Rearm::EveryEdge);
        }
        if self.is_writable() {
            self.edge_write(Rearm::EveryEdge);
        }
    }

    pub fn violation(&mut self, what: &str) {
        self.violations.push(what.to_owned());
    }

    /// The connection is reset from the client's side.
    pub fn reset(&mut self, rearm: Rearm) {
        if self.closed || self.reset_by_client {
            return;
        }
        self.reset_by_client = true;
        self.pending_error = Some(ErrorKind::ConnectionReset);
        self.outbound.clear();
        self.edge_read(rearm);
        self.edge_write(rearm);
    }

    /// The peer of an outbound connection answers.
    pub fn answer(&mut self, is_taken: bool, now: Instant, rearm: Rearm) {
        self.stirred = now;
        self.last_taken = now;
        if is_taken {
            self.attempt = Attempt::Made;
        } else {
            self.attempt = Attempt::Refused;
            self.pending_error = Some(ErrorKind::ConnectionRefused);
            self.edge_read(rearm);
        }
        // Whatever was reported before it, in error.
        self.edge_write(Rearm::EveryEdge);
    }

    /// The client sends: how many of `n` bytes there is room for.
    pub fn room_in(&self) -> usize {
        self.inbound_capacity.saturating_sub(self.inbound.len())
    }
}
