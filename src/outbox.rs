//! What callbacks ask of other connections of their loop. It is done when the callback has returned.

use std::{collections::VecDeque, fmt, sync::Arc, time::Instant};

use crate::{
    address::Address,
    blocking::Blocking,
    close_reason::CloseReason,
    connection_id::ConnectionId,
    handle::{Handle, SendError},
    peer::Peer,
    protocol::boxed::Boxed,
    tls::{TlsConnector, TlsInfo},
};

/// Messages to connections of the same loop, and outbound connections that are wanted.
pub(crate) struct Outbox<M> {
    mail: VecDeque<Mail<M>>,
    dials: VecDeque<Dial<M>>,
    /// Those whose host name is to be looked up first.
    unresolved: VecDeque<Dial<M>>,
    /// How other loops are asked.
    handle: Handle<M>,
    /// Where what blocks is left.
    blocking: Arc<dyn Blocking>,
    capacity: usize,
}

/// A message in flight.
pub(crate) enum Mail<M> {
    /// To one connection.
    To(ConnectionId, M),
    /// To all others.
    All(Broadcast<M>),
    /// To all: the server may stop soon. The first slot that was not told yet.
    Prestop(usize),
    /// The outbound connection that this one wanted is made.
    Connected(ConnectionId, Box<Connected>),
    /// The handshake of this client is over: it is to get its protocol.
    Secured(ConnectionId),
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
    /// From where, if the system says.
    pub(crate) local: Option<Address>,
    /// What its TLS handshake has agreed on.
    pub(crate) tls: Option<TlsInfo>,
}

/// A message to every connection but the one that sends it.
pub(crate) struct Broadcast<M> {
    pub(crate) from: Option<ConnectionId>,
    pub(crate) message: M,
    pub(crate) clone: fn(&M) -> M,
    /// The first slot that has not got it yet.
    pub(crate) next: usize,
}

/// An outbound connection that is wanted.
pub struct Dial<M> {
    /// Whose protocol wants it; none if another thread does.
    pub by: Option<ConnectionId>,
    /// What it is called by the one who wants it.
    pub label: u64,
    /// To where.
    pub address: Address,
    /// Where else, if that fails.
    pub(crate) others: VecDeque<Address>,
    /// Since when.
    pub(crate) since: Instant,
    /// Until when one of its addresses must have answered, if it has more than one.
    pub(crate) until: Option<Instant>,
    /// What makes its protocol, instead of the server's factory.
    pub(crate) factory: Option<Factory<M>>,
    /// The client's end of TLS on it.
    pub(crate) tls: Option<TlsConnector>,
}

/// Makes the protocol of a connection that was asked for together with it.
pub(crate) type Factory<M> = Box<dyn FnMut(&Peer<'_>) -> Option<Boxed<M>>>;

/// A queue that grew past this in a spike is given back when it is empty.
const KEPT: usize = 1024;

impl<M> Outbox<M> {
    /// For at most `capacity` messages, and as many outbound connections.
    pub(crate) fn new(capacity: usize, handle: Handle<M>, blocking: Arc<dyn Blocking>) -> Self {
        let (mail, dials, unresolved) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { mail, dials, unresolved, handle, blocking, capacity }
    }

    /// The server's handle.
    pub(crate) const fn handle(&self) -> &Handle<M> {
        &self.handle
    }

    /// Where what blocks is left.
    pub(crate) fn blocking(&self) -> &dyn Blocking {
        &*self.blocking
    }

    /// Whether nothing is asked for.
    pub(crate) fn is_quiet(&self) -> bool {
        self.mail.len() + self.dials.len() + self.unresolved.len() == 0
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
    pub(crate) fn dial(&mut self, dial: Dial<M>) -> Result<(), SendError<Address>> {
        if self.dials.len() + self.unresolved.len() >= self.capacity {
            return Err(SendError::Full(dial.address));
        }
        match dial.address {
            Address::Host { .. } => self.unresolved.push_back(dial),
            Address::Ip(_) | Address::Unix(_) => self.dials.push_back(dial),
            Address::Udp(_) | Address::UdpHost { .. } => return Err(SendError::Connectionless(dial.address)),
        }
        Ok(())
    }

    /// Puts one back of which the addresses are known now, or the next is to be tried. It has waited for longest.
    pub(crate) fn dial_again(&mut self, dial: Dial<M>) {
        self.dials.push_front(dial);
    }

    /// The next of which the host name is to be looked up.
    pub(crate) fn next_unresolved(&mut self) -> Option<Dial<M>> {
        self.unresolved.pop_front()
    }

    /// Whether there are some.
    pub(crate) fn has_unresolved(&self) -> bool {
        !self.unresolved.is_empty()
    }

    /// Queues the news that a client's handshake is over. There are never more of these than clients.
    pub(crate) fn secured(&mut self, id: ConnectionId) {
        self.mail.push_back(Mail::Secured(id));
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

    /// Queues the news that the server may stop soon.
    pub(crate) fn prestop(&mut self) {
        self.mail.push_back(Mail::Prestop(0));
    }

    /// Goes on with that from this slot on, next.
    pub(crate) fn go_on_with_prestop(&mut self, from: usize) {
        self.mail.push_front(Mail::Prestop(from));
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
    pub(crate) fn next_dial(&mut self) -> Option<Dial<M>> {
        let dial = self.dials.pop_front();
        if dial.is_none() && self.dials.capacity() > KEPT {
            self.dials = VecDeque::new();
        }
        dial
    }

    /// Nobody waits any more for the outbound connections that this one wanted.
    pub(crate) fn forget_dials_of(&mut self, id: ConnectionId) {
        if !self.dials.is_empty() {
            self.dials.retain(|dial| dial.by != Some(id));
        }
        if !self.unresolved.is_empty() {
            self.unresolved.retain(|dial| dial.by != Some(id));
        }
    }

    pub(crate) fn has_mail(&self) -> bool {
        !self.mail.is_empty()
    }
}

impl<M> Dial<M> {
    /// One that another thread wants.
    pub(crate) fn by_nobody(
        address: Address,
        label: u64,
        factory: Option<Factory<M>>,
        since: Instant,
    ) -> Self {
        Self { by: None, label, address, others: VecDeque::new(), since, until: None, factory, tls: None }
    }

    /// Goes on to the next address. False if there is none.
    pub(crate) fn go_on(&mut self) -> bool {
        let next = self.others.pop_front();
        let is_there = next.is_some();
        self.address = next.unwrap_or_else(|| self.address.clone());
        is_there
    }

    /// What it is called as another's wish.
    pub(crate) fn requester(&self) -> Option<(ConnectionId, u64)> {
        Some((self.by?, self.label))
    }
}

impl<M> fmt::Debug for Dial<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").field("by", &self.by).field("address", &self.address).finish_non_exhaustive()
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
