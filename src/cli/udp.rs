//! Datagrams to one server, and from it.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

/// More than any datagram has.
const BUFFER_BYTES: usize = 64 << 10;

/// The most that IPv4 carries: 65,535 bytes less two headers.
pub(crate) const PAYLOAD_MAX: usize = 65_507;

/// A socket that sends to this address, and receives from it only.
pub(crate) fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any_port = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any_port)?;
    socket.connect(address)?;
    if socket.local_addr()? == address {
        // Nobody is there, and the system has chosen that port for our end: a datagram would come back by itself.
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(socket)
}

/// The next datagram; `None` if none comes in time.
pub(crate) fn receive(socket: &UdpSocket, timeout: Option<Duration>) -> io::Result<Option<Vec<u8>>> {
    socket.set_read_timeout(timeout)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) if is_refusal(&error) => return Err(ErrorKind::ConnectionRefused.into()),
            Err(error) => return Err(error),
        }
    }
}

/// Whether nobody is at the other end: an ICMP message says so. Windows makes a reset of it.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset)
}
