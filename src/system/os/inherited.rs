//! Sockets that another process has bound.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use socket2::{Domain, SockAddr, Socket, Type};

use super::unix_listener::SocketFile;
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
    /// The file of its path.
    pub(crate) file: Option<SocketFile>,
    /// Besides the process that gave it there is one more that has it, and keeps it.
    pub(crate) is_kept: bool,
    /// What comes to 0.0.0.0 comes to it too, though it is bound to `[::]`.
    is_dual: bool,
}

impl Inherited {
    /// What it is bound to: getsockname(2).
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Whether clients of this address come to it as well, as those of 0.0.0.0 do to `[::]` where both are one.
    pub(crate) fn covers(&self, asked: &Address) -> bool {
        let covers = |asked: &SocketAddr, has: &SocketAddr| {
            let are_all = asked.ip().is_unspecified() && has.ip().is_unspecified();
            are_all && asked.is_ipv4() && asked.port() == has.port()
        };
        self.is_dual
            && match (asked, &self.address) {
                (Address::Ip(asked), Address::Ip(has)) | (Address::Udp(asked), Address::Udp(has)) => {
                    covers(asked, has)
                }
                _ => false,
            }
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
        let file = if let Address::Unix(path) = &address { SocketFile::at(path).ok() } else { None };
        let is_ipv6 = matches!(&address, Address::Ip(ip) | Address::Udp(ip) if ip.is_ipv6());
        let is_dual = is_ipv6 && !socket.only_v6()?;
        Ok(Self { address, socket, file, is_kept: false, is_dual })
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
    fn a_socket_for_both_families_covers_all_addresses_of_ipv4() {
        let bound = |only_v6| {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
            socket.set_only_v6(only_v6).unwrap();
            socket.bind(&SocketAddr::from(([0_u16; 8], 0)).into()).unwrap();
            socket.listen(1).unwrap();
            Inherited::try_from(OwnedFd::from(socket)).unwrap()
        };
        for only_v6 in [false, true] {
            let inherited = bound(only_v6);
            let Address::Ip(address) = inherited.address else { panic!("it is TCP") };
            let all = format!("0.0.0.0:{}", address.port()).parse().unwrap();
            assert_eq!(inherited.covers(&all), !only_v6);
            assert!(!inherited.covers(&"127.0.0.1:0".parse().unwrap()));
        }
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
