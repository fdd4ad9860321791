//! Who is at the other end of a connection.

use crate::{address::Address, connection_id::ConnectionId};

/// A connection that wants a protocol: what [`Server::run`](crate::Server::run) hands to the factory.
#[derive(Debug)]
#[non_exhaustive]
pub struct Peer<'a> {
    /// The name that the connection will have.
    pub id: ConnectionId,
    /// Who made the connection.
    pub origin: Origin,
    /// The peer's address.
    pub address: &'a Address,
    /// The connection whose protocol asked for this one with [`Context::connect`](crate::Context::connect).
    pub requested_by: Option<ConnectionId>,
}

/// Who made a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The peer did, through the listener of this position in
    /// [`Server::local_addrs`](crate::Server::local_addrs).
    Listener(usize),
    /// We did, with the label given to [`Handle::connect`](crate::Handle::connect) or
    /// [`Context::connect`](crate::Context::connect).
    Connect(u64),
}
