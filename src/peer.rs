//! Who is at the other end of a connection.

use std::{fmt, io};

use crate::{
    address::Address, connection_id::ConnectionId, proxy_protocol::Proxied, system::transport::Addresses,
    tls::TlsInfo,
};

/// A connection that wants a protocol: what [`Server::run`](crate::Server::run) hands to the factory.
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
    pub(crate) local: Local<'a>,
}

/// Our address on a connection.
pub(crate) enum Local<'a> {
    /// The connection is not made yet.
    None,
    Known(&'a Address, Option<&'a TlsInfo>),
    /// The system is asked when someone wants to know.
    Ask(&'a dyn Addresses),
}

impl Peer<'_> {
    /// Our address on this connection, asked of the operating system: which one a client has come to where we listen on
    /// every interface.
    ///
    /// ```
    /// use echoloop::{Echo, testing::Loop};
    ///
    /// let net = Loop::new(|peer| {
    ///     let is_public = peer.local_addr().is_ok_and(|address| address.to_string() == "192.0.2.1:27015");
    ///     is_public.then_some(Echo)
    /// });
    /// assert!(net.connect().is_open());
    /// ```
    ///
    /// # Errors
    ///
    /// `NotConnected` for an outbound connection that is only asked for, or what the operating system says.
    pub fn local_addr(&self) -> io::Result<Address> {
        match self.local {
            Local::None => Err(io::ErrorKind::NotConnected.into()),
            Local::Known(address, _) => Ok(address.clone()),
            Local::Ask(addresses) => addresses.local_addr(),
        }
    }

    /// What a proxy in front has said, where clients come through one that speaks the PROXY protocol
    /// ([`Config::proxy_protocol`](crate::Config::proxy_protocol)). [`address`](Self::address) is the client's then.
    #[must_use]
    pub fn proxied(&self) -> Option<Proxied> {
        match self.local {
            Local::None | Local::Known(..) => None,
            Local::Ask(addresses) => addresses.proxied(),
        }
    }

    /// What the TLS handshake has agreed on, of a client that came to a listener with TLS, or of an outbound connection with
    /// TLS that is made.
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo> {
        match self.local {
            Local::None => None,
            Local::Known(_, tls) => tls.cloned(),
            Local::Ask(addresses) => addresses.tls(),
        }
    }
}

impl fmt::Debug for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("id", &self.id)
            .field("origin", &self.origin)
            .field("address", &self.address.to_string())
            .field("requested_by", &self.requested_by)
            .finish_non_exhaustive()
    }
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
