//! What callbacks ask of other connections of their loop. It is done when the callback has returned.

use std::{collections::VecDeque, fmt, time::Instant};

use crate::{address::Address, close_reason::CloseReason, connection_id::ConnectionId, handle::SendError};

/// Messages to connections of the same loop, and outbound connections that are wanted.
pub(crate) struct Outbox<M> {
    mail: VecDeque<Mail<M>>,
    dials: VecDeque<Dial>,
    capacity: usize,
}

/// A message in flight.
pub(crate) enum Mail<M> {
    /// To one connection.
    To(ConnectionId, M),
    /// To all others.
    All(Broadcast<M>),
    /// The outbound connection that this one wanted is made.
    Connected(ConnectionId, Box<Connected>),
    /// The outbound connection that this one wanted was not made.
    ConnectFailed(ConnectionId, u64, CloseReason),
}

/// An outbound connection that is made.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) id: ConnectionId,
    /// What it is called by the one who wanted it.
    pub(crate) label: u64,
    /// To where.
    pub(crate) address: Address,
}

/// A message to every connection but the one that sends it.
pub(crate) struct Broadcast<M> {
    pub(crate) from: Option<ConnectionId>,
    pub(crate) message: M,
    pub(crate) clone: fn(&M) -> M,
    /// The first slot that has not got it yet.
    pub(crate) next: usize,
}

/// An outbound connection that a protocol wants.
#[derive(Debug)]
pub struct Dial {
    /// Whose protocol.
    pub by: ConnectionId,
    /// To where.
    pub address: Address,
    /// What it calls it.
    pub label: u64,
    /// Since when.
    pub(crate) since: Instant,
}

/// A queue that grew past this in a spike is given back when it is empty.
const KEPT: usize = 1024;

impl<M> Outbox<M> {
    /// For at most `capacity` messages, and as many outbound connections.
    pub(crate) const fn new(capacity: usize) -> Self {
        Self { mail: VecDeque::new(), dials: VecDeque::new(), capacity }
    }

    /// Queues a message.
    ///
    /// # Errors
    ///
    /// `Full`, with the message.
    pub(crate) fn send(&mut self, id: ConnectionId, message: M) -> Result<(), SendError<M>> {
        if !self.has_room() {
            return Err(SendError::Full(message));
        }
        self.mail.push_back(Mail::To(id, message));
        Ok(())
    }

    /// Queues a message to all.
    ///
    /// # Errors
    ///
    /// `Full`, with the message.
    pub(crate) fn send_all(
        &mut self,
        from: Option<ConnectionId>,
        message: M,
        clone: fn(&M) -> M,
    ) -> Result<(), SendError<M>> {
        if !self.has_room() {
            return Err(SendError::Full(message));
        }
        self.mail.push_back(Mail::All(Broadcast { from, message, clone, next: 0 }));
        Ok(())
    }

    /// Whether a message would be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.mail.len() < self.capacity
    }

    /// Queues the wish for an outbound connection.
    ///
    /// # Errors
    ///
    /// `Full`, with the address.
    pub(crate) fn dial(&mut self, dial: Dial) -> Result<(), SendError<Address>> {
        if self.dials.len() >= self.capacity {
            return Err(SendError::Full(dial.address));
        }
        self.dials.push_back(dial);
        Ok(())
    }

    /// Queues the news that an outbound connection is made. There are never more of these than were asked for.
    pub(crate) fn connected(&mut self, to: ConnectionId, connected: Connected) {
        self.mail.push_back(Mail::Connected(to, Box::new(connected)));
    }

    /// Queues the news that an outbound connection was not made. There are never more of these than were asked for.
    pub(crate) fn connect_failed(&mut self, to: ConnectionId, label: u64, reason: CloseReason) {
        self.mail.push_back(Mail::ConnectFailed(to, label, reason));
    }

    /// The next message.
    pub(crate) fn next_mail(&mut self) -> Option<Mail<M>> {
        let mail = self.mail.pop_front();
        if mail.is_none() && self.mail.capacity() > KEPT {
            self.mail = VecDeque::new();
        }
        mail
    }

    /// Puts a message back that has not reached everyone yet. It stays the next.
    pub(crate) fn go_on_with(&mut self, broadcast: Broadcast<M>) {
        self.mail.push_front(Mail::All(broadcast));
    }

    /// How many outbound connections are wanted.
    pub(crate) fn dials(&self) -> usize {
        self.dials.len()
    }

    /// Since when the one that is next has been wanted.
    pub(crate) fn oldest_dial(&self) -> Option<Instant> {
        self.dials.front().map(|dial| dial.since)
    }

    /// The next outbound connection that is wanted.
    pub(crate) fn next_dial(&mut self) -> Option<Dial> {
        let dial = self.dials.pop_front();
        if dial.is_none() && self.dials.capacity() > KEPT {
            self.dials = VecDeque::new();
        }
        dial
    }

    /// Nobody waits any more for the outbound connections that this one wanted.
    pub(crate) fn forget_dials_of(&mut self, id: ConnectionId) {
        if !self.dials.is_empty() {
            self.dials.retain(|dial| dial.by != id);
        }
    }

    pub(crate) fn has_mail(&self) -> bool {
        !self.mail.is_empty()
    }
}

impl<M> fmt::Debug for Outbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("mail", &self.mail.len())
            .field("dials", &self.dials.len())
            .finish_non_exhaustive()
    }
}
