//! Messages between connections, and from other threads to them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Connections;
use crate::{
    close_reason::CloseReason,
    connection::Connection,
    connection_id::ConnectionId,
    outbox::{Broadcast, Connected, Mail},
    peer::{Local, Origin, Peer},
    protocol::Protocol,
    system::{Poller, transport::Transport},
};

impl<P: Protocol, T: Transport> Connections<P, T> {
    /// Hands a message to a connection. False if it is gone, or not made yet.
    pub fn message(&mut self, id: ConnectionId, message: P::Message, poller: &mut impl Poller<T>) -> bool {
        self.call(id, poller, |connection, shared| connection.message(message, shared))
    }

    /// Hands a message from outside the loop to a connection: behind what was sent to all before. One for a connection
    /// that is gone is counted.
    pub fn post(&mut self, id: ConnectionId, message: P::Message, poller: &mut impl Poller<T>) {
        let undelivered = if self.shared.outbox.has_mail() {
            self.shared.outbox.send(id, message).is_err()
        } else {
            !self.message(id, message, poller)
        };
        if undelivered {
            self.shared.counters.messages_undeliverable.add(1);
        }
    }

    /// Sends a message from outside the loop to all connections. False if there is no room for it.
    pub fn message_all(&mut self, message: P::Message, clone: fn(&P::Message) -> P::Message) -> bool {
        self.shared.outbox.send_all(None, message, clone).is_ok()
    }

    /// Whether a message would be taken.
    pub fn has_mail_room(&self) -> bool {
        self.shared.outbox.has_room()
    }

    /// Delivers what callbacks have sent to other connections, `left` of it at most: messages, and slots that are looked at
    /// for one to all. It stops at a client whose handshake is over, so that it can [get](Self::admit) its protocol.
    pub fn run_mail(&mut self, left: &mut usize, poller: &mut impl Poller<T>) -> Option<ConnectionId> {
        while *left > 0 {
            match self.shared.outbox.next_mail() {
                None => break,
                Some(Mail::To(id, message)) => {
                    if !self.message(id, message, poller) {
                        self.shared.counters.messages_undeliverable.add(1);
                    }
                    *left -= 1;
                }
                Some(Mail::All(broadcast)) => *left = self.send_all(broadcast, *left, poller),
                Some(Mail::Prestop(from)) => *left = self.tell_prestop(from, *left, poller),
                Some(Mail::Secured(id)) => {
                    *left -= 1;
                    return Some(id);
                }
                Some(Mail::Connected(id, connected)) => {
                    self.tell_connected(id, &connected, poller);
                    *left -= 1;
                }
                Some(Mail::ConnectFailed(id, label, reason)) => {
                    self.tell_connect_failed(id, label, reason, poller);
                    *left -= 1;
                }
            }
        }
        None
    }

    /// Goes through so many slots at most, and says how many fewer that were.
    fn send_all(
        &mut self,
        mut broadcast: Broadcast<P::Message>,
        slots: usize,
        poller: &mut impl Poller<T>,
    ) -> usize {
        let end = broadcast.next.saturating_add(slots).min(self.slots_used);
        let visited = end.saturating_sub(broadcast.next);
        for index in broadcast.next..end {
            let Some(slot) = self.slots.get(index) else { continue };
            let id = slot.connection.id();
            if Some(id) == broadcast.from || slot.connection.state().is_closed() {
                continue;
            }
            let clone = catch_unwind(AssertUnwindSafe(|| (broadcast.clone)(&broadcast.message)));
            let Ok(message) = clone else {
                self.shared.counters.panics.add(1);
                log::error!("a message to all panicked when it was cloned");
                return slots - 1;
            };
            self.message(id, message, poller);
        }
        if end < self.slots_used {
            broadcast.next = end;
            self.shared.outbox.go_on_with(broadcast);
        }
        // Where there are no slots at all it still was a piece of work.
        slots - visited.max(1)
    }

    /// The server may stop soon, or may not any more.
    pub fn set_stopping(&mut self, is_stopping: bool) {
        if std::mem::replace(&mut self.shared.is_stopping, is_stopping) != is_stopping && is_stopping {
            self.shared.outbox.prestop();
        }
    }

    /// The same as `send_all`, for that.
    fn tell_prestop(&mut self, from: usize, slots: usize, poller: &mut impl Poller<T>) -> usize {
        let end = from.saturating_add(slots).min(self.slots_used);
        for index in from..end {
            if let Some(slot) = self.slots.get(index) {
                let id = slot.connection.id();
                self.call(id, poller, Connection::prestop);
            }
        }
        if end < self.slots_used {
            self.shared.outbox.go_on_with_prestop(end);
        }
        slots - end.saturating_sub(from).max(1)
    }

    /// Hands what came of work that blocks to the one who wanted it. Work that came to nothing has panicked.
    pub fn answer(&mut self, id: ConnectionId, message: Option<P::Message>, poller: &mut impl Poller<T>) {
        let is_message = message.is_some();
        if !is_message {
            self.shared.counters.panics.add(1);
        }
        let is_there = self.call(id, poller, |connection, shared| connection.answer(message, shared));
        if is_message && !is_there {
            self.shared.counters.messages_undeliverable.add(1);
        }
    }

    fn tell_connected(&mut self, id: ConnectionId, connected: &Connected, poller: &mut impl Poller<T>) {
        let peer = Peer {
            id: connected.id,
            origin: Origin::Connect(connected.label),
            address: &connected.address,
            requested_by: Some(id),
            local: connected
                .local
                .as_ref()
                .map_or(Local::None, |local| Local::Known(local, connected.tls.as_ref())),
        };
        self.call(id, poller, |connection, shared| connection.connected(connected.label, &peer, shared));
        // What came for the other meanwhile is dealt with now, by its protocol or the relay.
        self.call(connected.id, poller, Connection::note_answer);
    }

    fn tell_connect_failed(
        &mut self,
        id: ConnectionId,
        label: u64,
        reason: CloseReason,
        poller: &mut impl Poller<T>,
    ) {
        self.call(id, poller, |connection, shared| connection.connect_failed(label, reason, shared));
    }

    /// Drops what callbacks have asked of others: nobody is there any more.
    pub fn refuse_mail(&mut self) {
        while let Some(mail) = self.shared.outbox.next_mail() {
            if let Mail::To(..) = mail {
                self.shared.counters.messages_undeliverable.add(1);
            }
        }
        while self.shared.outbox.next_dial().is_some() {}
        while self.shared.outbox.next_unresolved().is_some() {}
        if let Some(names) = &mut self.names {
            names.lookups.clear();
        }
    }
}
