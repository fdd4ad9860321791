//! Outbound connections that are wanted: their host names are looked up, they wait for room, and whoever asked is told what
//! came of it.

use std::{
    collections::{BTreeMap, HashMap},
    io::ErrorKind,
    mem,
    time::Instant,
};

use super::Connections;
use crate::{
    address::{Address, interleave},
    blocking::{Found, Job},
    close_reason::CloseReason,
    connection::state::State,
    connection_id::ConnectionId,
    deadlines::earliest,
    handle::{Answer, Handle},
    outbox::Dial,
    protocol::Protocol,
    system::{Poller, transport::Transport},
};

/// Outbound connections that are wanted by the name of a host.
#[derive(Debug)]
pub(super) struct Names<M> {
    /// Those whose host names are being looked up, in their order.
    pub(super) lookups: BTreeMap<u64, Dial<M>>,
    next_ticket: u64,
    /// Those that other threads have wanted and of which no address was found.
    unfounded: Vec<(Dial<M>, CloseReason)>,
    /// Those that are being made and have other addresses to try, by slot.
    attempts: HashMap<u32, Dial<M>>,
}

impl<M> Default for Names<M> {
    fn default() -> Self {
        let (lookups, unfounded, attempts) = (BTreeMap::new(), Vec::new(), HashMap::new());
        Self { lookups, next_ticket: 0, unfounded, attempts }
    }
}

impl<P: Protocol, T: Transport> Connections<P, T> {
    /// Wants an outbound connection that another thread asks for, of which the host name is to be looked up.
    pub fn look_up(&mut self, dial: Dial<P::Message>) {
        if self.shared.drain.is_some() && dial.by.is_none() {
            return self.dial_failed(dial, CloseReason::ServerAborted);
        }
        if matches!(&dial.address, Address::Host { name, .. } if name.is_empty()) {
            // Every interface of this machine is a place to listen, not to connect to.
            return self.dial_failed(dial, CloseReason::ConnectFailed(ErrorKind::NotFound));
        }
        if !self.shared.outbox.blocking().reserve() {
            return self.dial_failed(dial, CloseReason::ConnectFailed(ErrorKind::QuotaExceeded));
        }
        let names = self.names.get_or_insert_default();
        let ticket = names.next_ticket;
        names.next_ticket += 1;
        let outbox = &self.shared.outbox;
        let answer =
            LookupAnswer { handle: outbox.handle().clone(), worker: self.worker, ticket, found: None };
        let name = dial.address.clone();
        names.lookups.insert(ticket, dial);
        outbox.blocking().submit(Job::Lookup(name, Box::new(move |found| answer.finish(found))));
    }

    /// Begins to look up the host names of connections that callbacks want.
    pub fn run_lookups(&mut self) {
        while let Some(dial) = self.shared.outbox.next_unresolved() {
            self.look_up(dial);
        }
    }

    /// A host name was looked up. Nobody may wait for it any more.
    pub fn looked_up(&mut self, ticket: u64, found: Found) {
        let dial = self.names.as_mut().and_then(|names| names.lookups.remove(&ticket));
        let Some(mut dial) = dial else { return };
        match found {
            Ok(addresses) => {
                dial.others = interleave(addresses).into();
                dial.until =
                    self.shared.limits.connect_timeout.and_then(|limit| dial.since.checked_add(limit));
                if dial.go_on() {
                    self.shared.outbox.dial_again(dial);
                } else {
                    self.dial_failed(dial, CloseReason::ConnectFailed(ErrorKind::NotFound));
                }
            }
            Err(kind) => self.dial_failed(dial, CloseReason::ConnectFailed(kind)),
        }
    }

    /// Whether host names are being looked up.
    pub fn has_lookups(&self) -> bool {
        self.names.as_ref().is_some_and(|names| !names.lookups.is_empty())
    }

    /// The next outbound connection that is wanted, if there is a place for it, which is then taken.
    pub fn next_dial(&mut self) -> Option<Dial<P::Message>> {
        let is_possible = self.shared.outbox.dials() == 0 || self.take_place();
        if is_possible { self.shared.outbox.next_dial() } else { None }
    }

    /// Gives those up that have waited for room, or for the addresses of their hosts, for too long.
    pub(super) fn expire_dials(&mut self) {
        let is_due = |at: Option<Instant>, now| at.is_some_and(|at| at <= now);
        while is_due(self.room_deadline(), self.shared.now) {
            let Some(dial) = self.shared.outbox.next_dial() else { return };
            self.dial_failed(dial, CloseReason::ConnectTimeout);
        }
        while is_due(self.lookup_deadline(), self.shared.now) {
            let oldest = self.names.as_mut().and_then(|names| names.lookups.pop_first());
            let Some((_, dial)) = oldest else { return };
            self.dial_failed(dial, CloseReason::ConnectTimeout);
        }
    }

    /// When the first of them has waited for too long.
    pub(super) fn dial_deadline(&self) -> Option<Instant> {
        let has_none = self.shared.outbox.dials() == 0 && self.names.is_none();
        if has_none { None } else { earliest(self.room_deadline(), self.lookup_deadline()) }
    }

    fn room_deadline(&self) -> Option<Instant> {
        self.shared.outbox.oldest_dial()?.checked_add(self.shared.limits.connect_timeout?)
    }

    fn lookup_deadline(&self) -> Option<Instant> {
        let (_, oldest) = self.names.as_ref()?.lookups.first_key_value()?;
        oldest.since.checked_add(self.shared.limits.connect_timeout?)
    }

    /// One could not be made. Its next address is tried, if there is one and time is left. Else the protocol that
    /// wanted it is told with the next mail.
    pub fn dial_failed(&mut self, mut dial: Dial<P::Message>, reason: CloseReason) {
        let is_late = dial.until.is_some_and(|at| at <= self.shared.now);
        let is_over = is_late || self.shared.drain.is_some();
        if !is_over && dial.go_on() {
            self.shared.outbox.dial_again(dial);
        } else if let Some((by, label)) = dial.requester() {
            self.shared.outbox.connect_failed(by, label, reason);
        } else if matches!(dial.address, Address::Host { .. }) {
            self.names.get_or_insert_default().unfounded.push((dial, reason));
        }
    }

    /// One that another thread has wanted and for which no address was found. Its protocol is to be told.
    pub fn next_unfounded(&mut self) -> Option<(Dial<P::Message>, CloseReason)> {
        self.names.as_mut()?.unfounded.pop()
    }

    pub(super) fn has_unfounded(&self) -> bool {
        self.names.as_ref().is_some_and(|names| !names.unfounded.is_empty())
    }

    /// In a drain nobody waits for the names that other threads have given.
    pub(super) fn give_up_lookups_for_nobody(&mut self) {
        let Some(names) = &mut self.names else { return };
        for (ticket, dial) in mem::take(&mut names.lookups) {
            if dial.by.is_some() {
                names.lookups.insert(ticket, dial);
            } else {
                names.unfounded.push((dial, CloseReason::ServerAborted));
            }
        }
    }

    /// Notes what the connection that was just added is made for, and how long that may take: what is left is for it and for
    /// the other addresses alike.
    pub fn set_dial(&mut self, id: ConnectionId, dial: Dial<P::Message>) {
        let (now, requester) = (self.shared.now, dial.requester());
        let Some(attempt) = self.get_mut(id) else { return };
        if let Some((by, label)) = requester {
            attempt.set_requester(by, label);
        }
        if let Some(until) = dial.until {
            let attempts = u32::try_from(dial.others.len()).unwrap_or(u32::MAX).saturating_add(1);
            attempt.set_connect_by(now + until.saturating_duration_since(now) / attempts);
        }
        if !dial.others.is_empty() {
            self.names.get_or_insert_default().attempts.insert(id.index, dial);
        }
        if let Some((by, _)) = requester {
            self.note_attempt(by, id);
        }
        if let Some(attempt) = self.get(id)
            && let Some(at) = attempt.deadline(&self.shared)
        {
            self.deadlines.arm(id.index, at);
        }
    }

    fn note_attempt(&mut self, by: ConnectionId, id: ConnectionId) {
        let Some(requester) = self.get_mut(by) else { return };
        let mut attempts = requester.take_attempts();
        attempts.retain(|&attempt| self.get(attempt).is_some_and(|other| other.state() == State::Connecting));
        attempts.push(id);
        if let Some(requester) = self.get_mut(by) {
            requester.set_attempts(attempts);
        }
    }

    /// An outbound connection has ended, with this reason, or is made.
    pub(super) fn follow_up_attempt(&mut self, index: u32) {
        let connection = &mut self.slots[index as usize].connection;
        let reason = match connection.state() {
            State::Connecting => return,
            State::Closed(reason) => Some(reason),
            State::Reading | State::Echoing | State::HalfClosed => None,
        };
        let wanted = self.names.as_mut().and_then(|names| names.attempts.remove(&index));
        let Some(reason) = reason else { return };
        let requester = connection.take_requester();
        match (wanted, reason) {
            (Some(dial), CloseReason::ConnectFailed(_) | CloseReason::ConnectTimeout) => {
                self.dial_failed(dial, reason);
            }
            _ => {
                if let Some((by, label)) = requester {
                    self.shared.outbox.connect_failed(by, label, reason);
                }
            }
        }
    }

    /// Nobody waits any more for what this connection wanted.
    pub(super) fn forget_dials_of(&mut self, id: ConnectionId) {
        self.shared.outbox.forget_dials_of(id);
        if let Some(names) = &mut self.names {
            names.lookups.retain(|_, dial| dial.by != Some(id));
        }
    }

    /// Gives up an outbound connection that is not made yet: who asked for it has ended.
    pub(super) fn cancel(&mut self, attempt: ConnectionId, poller: &mut impl Poller<T>) {
        let shared = &self.shared;
        let slot = self.slots.get_mut(attempt.index as usize).filter(|slot| slot.connection.id() == attempt);
        if let Some(slot) = slot.filter(|slot| slot.connection.state() == State::Connecting) {
            slot.connection.close(CloseReason::Cancelled, shared);
            self.place(attempt.index, poller);
        }
    }
}

/// Tells the loop what addresses a host has, also if nobody could say.
struct LookupAnswer<M> {
    handle: Handle<M>,
    worker: u32,
    ticket: u64,
    found: Option<Found>,
}

impl<M> LookupAnswer<M> {
    fn finish(mut self, found: Found) {
        self.found = Some(found);
    }
}

impl<M> Drop for LookupAnswer<M> {
    fn drop(&mut self) {
        let found = self.found.take().unwrap_or(Err(ErrorKind::NotFound));
        self.handle.answer(self.worker, Answer::Lookup(self.ticket, found));
    }
}
