//! Which address a datagram was sent to, and answering from it: `IP_PKTINFO` of ip(7), `IPV6_PKTINFO` of RFC 3542.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
};

use mio::net::UdpSocket;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::Socket;

use crate::system::datagrams::{Arrival, Destination};

/// Room for what a socket that is bound to every address tells of a datagram.
#[derive(Debug)]
pub(super) struct PacketInfo {
    space: Vec<u8>,
}

impl PacketInfo {
    /// Has the system tell it of all datagrams that come.
    pub(super) fn ask_for(socket: &Socket, bound_to: SocketAddr) -> io::Result<Option<Self>> {
        let space = match bound_to {
            SocketAddr::V4(_) => {
                setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
                nix::cmsg_space!(libc::in_pktinfo)
            }
            SocketAddr::V6(_) => {
                setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                nix::cmsg_space!(libc::in6_pktinfo)
            }
        };
        Ok(Some(Self { space }))
    }

    /// recvmsg(2).
    pub(super) fn receive(&mut self, socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Arrival> {
        let mut buffers = [IoSliceMut::new(buffer)];
        let space = Some(&mut self.space[..]);
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut buffers, space, MsgFlags::empty())?;
        let from = message.address.as_ref().and_then(socket_address).ok_or(io::ErrorKind::InvalidData)?;
        let to = message.cmsgs()?.find_map(|message| destination(&message));
        Ok(Arrival { length: message.bytes, from, to: to.unwrap_or(Destination::Bound) })
    }

    /// sendmsg(2), from an address of an interface.
    #[expect(clippy::unused_self, reason = "whoever sends was told where from")]
    pub(super) fn send(
        &self,
        socket: &UdpSocket,
        bytes: &[u8],
        to: SocketAddr,
        (ip, interface): (IpAddr, u32),
    ) -> io::Result<()> {
        let (v4, v6);
        let message = match ip {
            IpAddr::V4(ip) => {
                v4 = in_pktinfo(ip);
                ControlMessage::Ipv4PacketInfo(&v4)
            }
            IpAddr::V6(ip) => {
                v6 = in6_pktinfo(ip, interface);
                ControlMessage::Ipv6PacketInfo(&v6)
            }
        };
        let to = SockaddrStorage::from(to);
        sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], &[message], MsgFlags::empty(), Some(&to))?;
        Ok(())
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|&v4| SocketAddr::V4(v4.into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|&v6| SocketAddr::V6(v6.into())))
}

/// Where a datagram was sent to, if the message says so.
#[expect(clippy::wildcard_enum_match_arm, reason = "what there is besides depends on the system")]
fn destination(message: &ControlMessageOwned) -> Option<Destination> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let ip = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
            // Linux says which of its own addresses it would answer from: another one if all in the network were meant.
            let own = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
            let is_to_network = cfg!(any(target_os = "linux", target_os = "android")) && own != ip;
            let is_to_many = is_to_network || ip.is_broadcast() || ip.is_multicast();
            // The way back is the routing table's choice.
            let local = Destination::Local { ip: ip.into(), interface: 0 };
            Some(if is_to_many { Destination::Group } else { local })
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            if ip.is_multicast() {
                return Some(Destination::Group);
            }
            // A link-local address is one of an interface; any other may be answered through another one.
            let interface = if ip.is_unicast_link_local() { interface_index(info) } else { 0 };
            Some(Destination::Local { ip: ip.into(), interface })
        }
        _ => None,
    }
}

/// Its type is another one on Android.
#[allow(clippy::unnecessary_fallible_conversions, clippy::useless_conversion, reason = "not on every system")]
fn interface_index(info: &libc::in6_pktinfo) -> u32 {
    u32::try_from(info.ipi6_ifindex).unwrap_or(0)
}

const fn in_pktinfo(from: Ipv4Addr) -> libc::in_pktinfo {
    let any = libc::in_addr { s_addr: 0 };
    let from = libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
    libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: any }
}

#[allow(clippy::useless_conversion, reason = "not on every system")]
fn in6_pktinfo(from: Ipv6Addr, interface: u32) -> libc::in6_pktinfo {
    let from = libc::in6_addr { s6_addr: from.octets() };
    libc::in6_pktinfo { ipi6_addr: from, ipi6_ifindex: interface.try_into().unwrap_or_default() }
}
