//! Pairs of connections that are relayed: what one does has consequences for the other.

use super::Connections;
use crate::{
    connection::{Connection, shared::Shared},
    connection_id::ConnectionId,
    protocol::Protocol,
    system::{Poller, transport::Transport},
};

impl<P: Protocol, T: Transport> Connections<P, T> {
    /// The same where another connection is concerned.
    #[cold]
    pub(super) fn follow_up_relay(&mut self, index: u32, poller: &mut impl Poller<T>) {
        let connection = &mut self.slots[index as usize].connection;
        if let Some(with) = connection.take_wanted_relay() {
            self.relay(index, with, poller);
        }
        self.place(index, poller);
        while let Some(partner) = self.slots[index as usize].connection.partner() {
            self.follow_relay(index, partner.index);
            self.place(partner.index, poller);
            self.place(index, poller);
            // Either may have come to its end by that; then the other must know.
            let has_ended = |index: u32| self.slots[index as usize].connection.state().is_closed();
            if !has_ended(index) && !has_ended(partner.index) {
                break;
            }
        }
    }

    /// Ties two connections together.
    fn relay(&mut self, index: u32, with: ConnectionId, poller: &mut impl Poller<T>) {
        // The slab panics at an index that it never had.
        let both = if self.get(with).is_some() && with.index != index {
            self.slots.get2_mut(index as usize, with.index as usize)
        } else {
            None
        };
        let both = both.map(|(one, other)| (&mut one.connection, &mut other.connection));
        let Some((one, other)) = both.filter(|(_, other)| other.id() == with && other.can_be_relayed())
        else {
            return self.slots[index as usize].connection.break_relay(&self.shared);
        };
        if one.can_be_relayed() {
            one.relay_with(other, &mut self.shared);
        } else {
            // It waits for this one, which has ended by now.
            one.break_relay(&self.shared);
            other.break_relay(&self.shared);
            self.place(with.index, poller);
        }
    }

    fn follow_relay(&mut self, one: u32, other: u32) {
        let both = self.slots.get2_mut(one as usize, other as usize);
        let (one, other) = both.expect("neither is freed before the other was told");
        let (one, other) = (&mut one.connection, &mut other.connection);
        one.follow(other, &self.shared);
        other.follow(one, &self.shared);
    }

    /// Does something with a connection that has not ended, together with the one that it is relayed with.
    pub(super) fn with_partner(
        &mut self,
        index: u32,
        action: impl FnOnce(
            &mut Connection<P, T>,
            Option<&mut Connection<P, T>>,
            &mut Shared<P::Message, T::Pipe>,
        ),
    ) {
        let connection = &mut self.slots[index as usize].connection;
        if connection.state().is_closed() {
            return;
        }
        let Some(partner) = connection.partner() else {
            return action(connection, None, &mut self.shared);
        };
        let both = self.slots.get2_mut(index as usize, partner.index as usize);
        let (one, other) = both.expect("neither is freed before the other was told");
        action(&mut one.connection, Some(&mut other.connection), &mut self.shared);
    }
}
