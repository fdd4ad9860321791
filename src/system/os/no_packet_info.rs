//! Where no safe interface tells which address a datagram was sent to: the system chooses the one that it answers from.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use mio::net::UdpSocket;
use socket2::Socket;

use crate::system::datagrams::Arrival;

/// There is none.
#[derive(Debug)]
pub(super) enum PacketInfo {}

impl PacketInfo {
    #[expect(clippy::unnecessary_wraps, reason = "where there is one the system may refuse it")]
    pub(super) const fn ask_for(_: &Socket, _: SocketAddr) -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(super) const fn receive(&self, _: &UdpSocket, _: &mut [u8]) -> io::Result<Arrival> {
        match *self {}
    }

    pub(super) const fn send(
        &self,
        _: &UdpSocket,
        _: &[u8],
        _: SocketAddr,
        _: (IpAddr, u32),
    ) -> io::Result<()> {
        match *self {}
    }
}
