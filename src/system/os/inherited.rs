//! Sockets that another process has bound.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::Address;

/// A socket that was bound by another process, and inherited from it or received over a Unix socket: one that listens, or
/// one for datagrams. For [`Builder::inherit`](crate::Builder::inherit).
///
/// ```
/// use std::{net::TcpListener, os::fd::OwnedFd};
/// use echoloop::{Address, Inherited};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = Address::from(listener.local_addr()?);
/// let inherited = Inherited::try_from(OwnedFd::from(listener))?;
/// assert_eq!(inherited.address(), &address);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Inherited {
    pub(crate) address: Address,
    pub(crate) socket: Socket,
}

impl Inherited {
    /// What it is bound to: getsockname(2).
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it is what is listened on when this address is asked for: the same one, or of port 0 any port.
    pub(crate) fn has(&self, asked: &Address) -> bool {
        let same = |asked: SocketAddr, has: SocketAddr| {
            asked.ip() == has.ip() && [0, has.port()].contains(&asked.port())
        };
        match (asked, &self.address) {
            (Address::Ip(asked), Address::Ip(has)) | (Address::Udp(asked), Address::Udp(has)) => {
                same(*asked, *has)
            }
            (asked, has) => asked == has,
        }
    }
}

impl TryFrom<OwnedFd> for Inherited {
    type Error = io::Error;

    /// # Errors
    ///
    /// If it is none of those sockets, or has an address that this library has no name for: one that is abstract, or of
    /// another family.
    fn try_from(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        let refused = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        let address = socket.local_addr()?;
        let kind = socket.r#type()?;
        if kind == Type::STREAM && !listens(&socket)? {
            return refused("it does not listen");
        }
        let Some(address) = named(&address, kind) else {
            return refused("it is no listener of TCP or on the path of a Unix socket, and no socket of UDP");
        };
        Ok(Self { address, socket })
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn listens(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

/// Elsewhere no crate asks for `SO_ACCEPTCONN`. What is connected does not listen.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn listens(socket: &Socket) -> io::Result<bool> {
    Ok(socket.peer_addr().is_err())
}

fn named(address: &SockAddr, kind: Type) -> Option<Address> {
    match (kind, address.as_socket(), address.as_pathname()) {
        (Type::STREAM, Some(ip), _) => Some(Address::Ip(ip)),
        (Type::DGRAM, Some(ip), _) => Some(Address::Udp(ip)),
        (Type::STREAM, None, Some(path)) if address.domain() == Domain::UNIX => {
            Some(Address::Unix(path.to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream, UdpSocket},
        os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    };

    use super::*;

    fn inherited(descriptor: impl Into<OwnedFd>) -> Result<String, String> {
        let inherited = Inherited::try_from(descriptor.into());
        inherited.map(|one| one.address.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_listens_has_a_name_and_anything_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let address = tcp.local_addr().unwrap().to_string();
        assert_eq!(inherited(tcp), Ok(address));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("udp:{}", udp.local_addr().unwrap());
        assert_eq!(inherited(udp), Ok(address));
        assert_eq!(inherited(UnixListener::bind(&path).unwrap()), Ok(format!("unix:{}", path.display())));
        assert_eq!(inherited(stream), Err("it does not listen".to_owned()));
        assert!(inherited(UnixStream::pair().unwrap().0).is_err());
        assert!(inherited(UnixDatagram::unbound().unwrap()).is_err());
        assert!(inherited(std::fs::File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn port_0_is_any_port_of_the_same_host() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let inherited = Inherited::try_from(OwnedFd::from(tcp)).unwrap();
        let has = |text: &str| inherited.has(&text.parse().unwrap());
        assert!(has("127.0.0.1:0") && has(&format!("127.0.0.1:{port}")));
        let others = [format!("udp:127.0.0.1:{port}"), "127.0.0.2:0".to_owned(), "127.0.0.1:1".to_owned()];
        assert!(!others.iter().any(|other| has(other)));
    }
}
