//! What must hold between any two calls, for simulations.

use super::{Connections, Place, Slot};
use crate::{connection::state::State, protocol::Protocol, system::transport::Transport};

impl<P: Protocol, T: Transport> Connections<P, T> {
    /// Looks at every slot, for simulations, between two calls of the methods above. So many connections that are not
    /// here yet have places of this loop: those that another worker has left to it.
    ///
    /// # Errors
    ///
    /// The first thing found that must never be: a connection that is in the wrong list, or waits for
    /// something that nobody will tell it.
    pub fn audit(&self, left_to_it: usize) -> Result<(), String> {
        let (places, connections) = (self.places.has(self.worker), self.slots.len());
        if places != connections + left_to_it {
            return Err(format!("{places} places for {connections} connections and {left_to_it} to come"));
        }
        for (place, mut list) in
            [(Place::Ready, self.ready.iter().collect()), (Place::Ended, self.ended.clone())]
        {
            list.sort_unstable();
            let placed = self.slots.iter().filter(|(_, slot)| slot.place == place);
            if !placed.map(|(_, slot)| slot.connection.id().index).eq(list.iter().copied()) {
                return Err(format!("the slots that are {place:?} are not those of the list, {list:?}"));
            }
        }
        self.slots.iter().try_for_each(|(index, slot)| {
            self.audit_slot(index, slot).map_err(|what| format!("{}: {what}", slot.connection.id()))
        })
    }

    fn audit_slot(&self, index: usize, slot: &Slot<P, T>) -> Result<(), String> {
        let connection = &slot.connection;
        let limits = connection.limits();
        let (state, queued) = (connection.state(), connection.queued());
        if connection.id().index as usize != index {
            return Err(format!("it is in slot {index}"));
        }
        // What one turn moves into a pipe comes on top of what a protocol may write, and so does what it left for its
        // relay.
        let passed_on = if connection.partner().is_some() { limits.input_limit_bytes } else { 0 };
        let moved = limits.turn_budget_bytes.saturating_add(1).saturating_mul(4);
        let most = limits.queue_limit_bytes.saturating_add(moved).saturating_add(passed_on);
        if (queued > 0) != (state == State::Echoing) || queued > most {
            return Err(format!("{state} with {queued} bytes queued"));
        }
        if let Some(partner) = connection.partner().filter(|_| !state.is_closed()) {
            let other = self.get(partner).ok_or("it is relayed with one that is gone")?;
            if other.partner() != Some(connection.id()) || other.state().is_closed() {
                return Err(format!("it is relayed with {}, which is not with it", other.id()));
            }
            if connection.is_held_back() && other.lets_others_go_on() {
                return Err(format!("{} bytes are queued, and it does not go on", other.queued()));
            }
        }
        if slot.place != Place::Resting {
            return Ok(());
        }
        if state.is_closed() || connection.has_work() {
            return Err(format!("{state} with something to do, and in no list"));
        }
        if connection.wants_writable() != slot.interest.is_writable() {
            return Err(format!("{state} but watched for {:?}", slot.interest));
        }
        let (due, armed) = (connection.deadline(&self.shared), self.deadlines.of(connection.id().index));
        if due.is_some_and(|due| armed.is_none_or(|armed| armed > due)) {
            return Err(format!("{state} with a deadline at {due:?} and an entry at {armed:?}"));
        }
        Ok(())
    }
}
