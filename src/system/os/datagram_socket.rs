//! Datagram sockets, on mio.

use std::{io, net::SocketAddr};

use mio::{Interest, Registry, Token, event::Source, net::UdpSocket};
use socket2::{Domain, Protocol, Socket, Type};

use super::{listener::SHARES_PORTS, packet_info::PacketInfo};
use crate::system::datagrams::{Arrival, Datagrams, Destination};

/// A worker's datagram socket on an address.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    socket: UdpSocket,
    port: u16,
    /// Tells where datagrams were sent to, if it is bound to more than one address and the system says so.
    packet_info: Option<PacketInfo>,
}

/// Binds `address` once for each of the workers, or for one of them alone: where the kernel does not spread datagrams over
/// sockets that share a port, each one would wake every worker. Returns the sockets with the address that they really have.
pub(super) fn bind(address: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<DatagramSocket>)> {
    let first = bound(address, PortUse::Alone)?;
    let real = first.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    let mut sockets = vec![first];
    if workers > 1 && SHARES_PORTS {
        share_port(&sockets[0])?;
        for _ in 1..workers {
            sockets.push(bound(real, PortUse::Shared)?);
        }
    }
    let sockets = sockets.into_iter().map(|socket| DatagramSocket::new(socket, real));
    Ok((real, sockets.collect::<io::Result<_>>()?))
}

/// Where bursts wait while the loop serves others. Systems have limits of their own for it (net.core.rmem_max).
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Whether a port is for one socket or for those of all workers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PortUse {
    Alone,
    Shared,
}

/// A bound socket. SO_REUSEADDR is not set: of datagram sockets it lets others take the port over.
fn bound(address: SocketAddr, port_use: PortUse) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // The same on every system: [::] is IPv6 alone, and 0.0.0.0 can be listened on beside it.
        socket.set_only_v6(true)?;
    }
    if port_use == PortUse::Shared {
        share_port(&socket)?;
    }
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
        log::debug!("cannot set SO_RCVBUF: {error}");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Lets the sockets of other workers have the same port. The first socket says so only when it has the port: with
/// SO_REUSEPORT from the start it would not be told that another server has it.
fn share_port(socket: &Socket) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_reuse_port(true)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = socket;
    Ok(())
}

impl DatagramSocket {
    fn new(socket: Socket, real: SocketAddr) -> io::Result<Self> {
        let packet_info = if real.ip().is_unspecified() { PacketInfo::ask_for(&socket, real)? } else { None };
        Ok(Self { socket: UdpSocket::from_std(socket.into()), port: real.port(), packet_info })
    }
}

impl Datagrams for DatagramSocket {
    fn port(&self) -> u16 {
        self.port
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Arrival> {
        if let Some(packet_info) = &mut self.packet_info {
            return self.socket.try_io(|| packet_info.receive(&self.socket, buffer));
        }
        let (length, from) = self.socket.recv_from(buffer)?;
        Ok(Arrival { length, from, to: Destination::Bound })
    }

    fn answer(&mut self, bytes: &[u8], arrival: &Arrival) -> io::Result<()> {
        match (&self.packet_info, arrival.to) {
            (Some(packet_info), Destination::Local { ip, interface }) => {
                self.socket.try_io(|| packet_info.send(&self.socket, bytes, arrival.from, (ip, interface)))
            }
            (None, _) | (_, Destination::Bound | Destination::Group) => {
                self.socket.send_to(bytes, arrival.from).map(drop)
            }
        }
    }
}

impl Source for DatagramSocket {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.socket.register(registry, token, interest)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.socket.reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}
