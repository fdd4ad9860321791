//! Datagram sockets, on mio.

use std::{io, net::SocketAddr, sync::Arc};

use mio::{Registry, Token, net::UdpSocket};
use socket2::{Domain, Protocol, Socket, Type};

#[cfg(unix)]
use super::inherited::Inherited;
use super::{
    bound_socket::BoundSocket,
    packet_info::PacketInfo,
    shared_port::{PortUse, one_for_each},
    watched::Watched,
};
use crate::{
    address::Address,
    system::datagrams::{Arrival, Datagrams, Destination},
};

/// A worker's datagram socket on an address.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    socket: Watched<UdpSocket>,
    #[cfg_attr(not(unix), expect(dead_code, reason = "no other process can have it"))]
    bound: Arc<BoundSocket>,
    port: u16,
    /// Tells where datagrams were sent to, if it is bound to more than one address and the system says so.
    packet_info: Option<PacketInfo>,
}

/// Binds `address` once for each of the workers, or for one of them alone: where the kernel does not spread datagrams over
/// sockets that share a port, each one would wake every worker. Returns the sockets with the address that they really have.
pub(super) fn bind(address: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<DatagramSocket>)> {
    let (real, sockets) = one_for_each(workers, address, bound)?;
    let bound = |socket: &Socket| BoundSocket::new(socket, Address::Udp(real), None);
    let sockets = sockets.into_iter().map(|socket| DatagramSocket::new(socket, real, bound));
    Ok((real, sockets.collect::<io::Result<_>>()?))
}

/// Takes what another process has bound to an address.
#[cfg(unix)]
pub(super) fn inherit(real: SocketAddr, inherited: Vec<Inherited>) -> io::Result<Vec<DatagramSocket>> {
    let sockets = inherited.into_iter().map(|one| {
        let bound = BoundSocket::inherited(&one)?;
        one.socket.set_nonblocking(true)?;
        DatagramSocket::new(one.socket, real, |_| Ok(bound))
    });
    sockets.collect()
}

/// Where bursts wait while the loop serves others. Systems have limits of their own for it (net.core.rmem_max).
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// A bound socket. SO_REUSEADDR is not set: of datagram sockets it lets others take the port over.
fn bound(address: SocketAddr, port_use: PortUse) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // The same on every system: [::] is IPv6 alone, and 0.0.0.0 can be listened on beside it.
        socket.set_only_v6(true)?;
    }
    port_use.apply_to(&socket)?;
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
        log::debug!("cannot set SO_RCVBUF: {error}");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl DatagramSocket {
    fn new(
        socket: Socket,
        real: SocketAddr,
        bound: impl FnOnce(&Socket) -> io::Result<Arc<BoundSocket>>,
    ) -> io::Result<Self> {
        let packet_info = if real.ip().is_unspecified() { PacketInfo::ask_for(&socket, real)? } else { None };
        let bound = bound(&socket)?;
        let socket = Watched::new(UdpSocket::from_std(socket.into()));
        Ok(Self { socket, bound, port: real.port(), packet_info })
    }

    /// What those see of it who have it too.
    #[cfg(unix)]
    pub(crate) const fn bound(&self) -> &Arc<BoundSocket> {
        &self.bound
    }

    pub(super) fn watch(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()> {
        self.socket.watch(registry, token)
    }
}

impl Datagrams for DatagramSocket {
    fn port(&self) -> u16 {
        self.port
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Arrival> {
        let socket = self.socket.get();
        if let Some(packet_info) = &mut self.packet_info {
            return socket.try_io(|| packet_info.receive(socket, buffer));
        }
        let (length, from) = socket.recv_from(buffer)?;
        Ok(Arrival { length, from, to: Destination::Bound })
    }

    fn answer(&mut self, bytes: &[u8], arrival: &Arrival) -> io::Result<()> {
        let socket = self.socket.get();
        match (&self.packet_info, arrival.to) {
            (Some(packet_info), Destination::Local { ip, interface }) => {
                socket.try_io(|| packet_info.send(socket, bytes, arrival.from, (ip, interface)))
            }
            (None, _) | (_, Destination::Bound | Destination::Group) => {
                socket.send_to(bytes, arrival.from).map(drop)
            }
        }
    }
}
