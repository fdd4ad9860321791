//! What the loop needs of a datagram socket.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// A non-blocking datagram socket that is bound to an address.
///
/// Dropping it takes it off its poller and closes it.
pub trait Datagrams {
    /// The port that it is bound to.
    fn port(&self) -> u16;

    /// Receives the next datagram into `buffer`, which has room for the largest.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none, or what recvmsg(2) says: it may be about a datagram that was sent before.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Arrival>;

    /// Sends `bytes` to where a datagram came from, from the address that it was sent to.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room, or what sendmsg(2) says.
    fn answer(&mut self, bytes: &[u8], arrival: &Arrival) -> io::Result<()>;
}

/// What is known of a datagram that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// How many bytes of the buffer it has.
    pub length: usize,
    /// Where it came from, as far as that can be believed.
    pub from: SocketAddr,
    /// Where it was sent to.
    pub to: Destination,
}

/// Which address a datagram was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The one that the socket is bound to, or one of many that the system does not tell.
    Bound,
    /// This one, of many.
    Local {
        /// The address.
        ip: IpAddr,
        /// The interface on which the datagram came, by index.
        interface: u32,
    },
    /// A broadcast or multicast address: others have it too.
    Group,
}
