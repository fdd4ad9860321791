//! The name of a connection, and the token under which its events come.

use std::fmt;

use mio::Token;

/// Names one connection for as long as the server lives: ids are never used again, so a message
/// for a connection that is gone never reaches another one in its place.
///
/// A protocol learns its own from [`Context::id`](crate::Context::id); any thread may keep it and use it
/// with [`Handle::send`](crate::Handle::send).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Unique within the worker, in the order in which connections came.
    pub(crate) generation: u64,
    /// The loop that runs the connection.
    pub(crate) worker: u32,
    /// The slot in that loop's slab; used again by later connections.
    pub(crate) index: u32,
}

/// How many bits of a token are the slot; the others are the generation's lowest bits.
const INDEX_BITS: u32 = if usize::BITS >= 64 { 32 } else { 20 };
const INDEX_MASK: usize = (1 << INDEX_BITS) - 1;

/// Slots from here up never hold connections: their tokens are for listeners and the waker.
pub(crate) const RESERVED_INDEX: usize = INDEX_MASK - LAST_RESERVED;

impl ConnectionId {
    /// The token to register the connection's socket with. Within one batch of events it
    /// tells the connections apart that had the same slot.
    pub fn token(self) -> Token {
        let generation =
            usize::try_from(self.generation & (usize::MAX >> INDEX_BITS) as u64).expect("masked to fit");
        Token((generation << INDEX_BITS) | self.index as usize)
    }

    /// Whether `token` is this connection's.
    pub(crate) fn owns(self, token: Token) -> bool {
        self.token() == token
    }
}

/// The slot that a connection's token names.
pub(crate) const fn slot(token: Token) -> usize {
    token.0 & INDEX_MASK
}

/// The event source that wakes the loop. The listeners follow it.
pub(crate) const WAKER: usize = 0;

/// The last event source that is not a connection: the first datagram socket. The others come before it.
pub(crate) const LAST_RESERVED: usize = 0xffff;

/// The token of the `n`th event source that is not a connection; at most 65,536 of them.
pub(crate) const fn reserved_token(n: usize) -> Token {
    Token(INDEX_MASK - n)
}

/// The `n` of a token made by [`reserved_token`].
pub(crate) const fn reserved(token: Token) -> Option<usize> {
    if token.0 >= RESERVED_INDEX && token.0 <= INDEX_MASK { Some(INDEX_MASK - token.0) } else { None }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.worker, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_gives_back_its_slot_and_is_never_reserved(
            generation: u64,
            index in 0..u32::try_from(RESERVED_INDEX).unwrap(),
        ) {
            let id = ConnectionId { generation, worker: 0, index };
            prop_assert_eq!(slot(id.token()), index as usize);
            prop_assert_eq!(reserved(id.token()), None);
            prop_assert!(id.owns(id.token()));
        }
    }

    #[test]
    fn tokens_of_one_slot_differ_by_generation() {
        let old = ConnectionId { generation: 7, worker: 0, index: 3 };
        let new = ConnectionId { generation: 8, ..old };
        assert_eq!(slot(old.token()), 3);
        assert!(old.owns(old.token()));
        assert!(!new.owns(old.token()));
    }

    #[test]
    fn reserved_tokens_are_never_those_of_connections() {
        assert_eq!(reserved(reserved_token(0)), Some(0));
        assert_eq!(reserved(reserved_token(0xffff)), Some(0xffff));
        let index = u32::try_from(RESERVED_INDEX - 1).unwrap();
        for generation in [1, 2, u64::MAX] {
            assert_eq!(reserved(ConnectionId { generation, worker: 0, index }.token()), None);
            assert_eq!(reserved(ConnectionId { generation, worker: 0, index: 0 }.token()), None);
        }
    }

    #[test]
    fn there_are_slots_enough_for_any_machine() {
        let enough = if usize::BITS >= 64 { u32::MAX as usize - 0xffff } else { 900_000 };
        assert!(RESERVED_INDEX >= enough);
    }

    #[test]
    fn an_id_is_printed_as_its_worker_and_its_place_in_line() {
        assert_eq!(ConnectionId { generation: 7, worker: 2, index: 3 }.to_string(), "2.7");
    }
}
