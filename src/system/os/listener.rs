//! Creating, binding and listening: the first steps of a server.

use std::{io, net::SocketAddr, sync::Arc};

#[cfg(unix)]
use mio::net::UnixListener;
use mio::{Interest, Registry, Token, event::Source, net::TcpListener};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{
    bound_socket::BoundSocket,
    hand_over::HandOver,
    shared_port::{PortUse, one_for_each},
    stream::{SocketOptions, Stream},
    watched::Watched,
};
#[cfg(unix)]
use super::{
    inherited::Inherited,
    stream::{inline_urgent_data, unix_address},
    unix_listener,
};
use crate::{
    address::Address,
    config::Config,
    system::{Accept, Accepted},
};

/// A worker's listener on an address.
#[derive(Debug)]
pub(crate) struct ListenSocket {
    /// One; several where another process had more workers.
    sockets: Vec<Watched<FamilySocket>>,
    /// Which of them is asked first.
    next: usize,
    bound: Vec<Arc<BoundSocket>>,
    hand_over: HandOver,
}

/// A listening socket of one of the families.
#[derive(Debug)]
enum FamilySocket {
    Tcp(TcpListener, SocketOptions),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// A socket that listens, and what those see of it who have it too.
type Listening = (FamilySocket, Arc<BoundSocket>);

/// Listens on `address`, which is resolved, once per worker. Returns the sockets with the address that they
/// really have.
pub(super) fn bind(address: &Address, config: &Config) -> io::Result<(Address, Vec<ListenSocket>)> {
    match address {
        Address::Ip(ip) => {
            let make = |address, port_use| tcp_socket(address, port_use, config);
            let (real, sockets) = one_for_each(config.workers, *ip, make)?;
            let real = Address::Ip(real);
            let bound = |socket: &Socket| BoundSocket::new(socket, real.clone(), None);
            let sockets = spread(sockets, bound, config)?;
            Ok((real, sockets))
        }
        #[cfg(unix)]
        Address::Unix(path) => {
            let (socket, file) = unix_listener::bind(path, backlog(config), None)?;
            let mut file = Some(file);
            let bound = |socket: &Socket| BoundSocket::new(socket, address.clone(), file.take());
            Ok((address.clone(), spread(vec![socket], bound, config)?))
        }
        #[cfg(not(unix))]
        Address::Unix(_) => {
            let why = "Unix sockets are not available on this system";
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
        Address::Host { .. } | Address::Udp(_) | Address::UdpHost { .. } => {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }
}

/// Takes over a socket that listens already, for each worker.
pub(super) fn adopt(
    listener: std::net::TcpListener,
    config: &Config,
) -> io::Result<(Address, Vec<ListenSocket>)> {
    SocketOptions::of(config).apply_to(SockRef::from(&listener))?;
    listener.set_nonblocking(true)?;
    let real = Address::Ip(listener.local_addr()?);
    let bound = |socket: &Socket| BoundSocket::new(socket, real.clone(), None);
    let sockets = spread(vec![listener.into()], bound, config)?;
    Ok((real, sockets))
}

/// Takes what another process has bound to an address, all of it: whoever the kernel gives to a socket is served.
#[cfg(unix)]
pub(super) fn inherit(inherited: Vec<Inherited>, config: &Config) -> io::Result<Vec<ListenSocket>> {
    let mut bound = Vec::with_capacity(inherited.len());
    for one in &inherited {
        if matches!(one.address, Address::Ip(_)) {
            SocketOptions::of(config).apply_to(SockRef::from(&one.socket))?;
        }
        one.socket.set_nonblocking(true)?;
        bound.push(BoundSocket::inherited(one)?);
    }
    let mut bound = bound.into_iter();
    let sockets = inherited.into_iter().map(|one| one.socket).collect();
    spread(sockets, |_| Ok(bound.next().expect("one for each")), config)
}

/// Gives each worker some of the sockets, or duplicates if there are fewer of them.
fn spread(
    sockets: Vec<Socket>,
    bound: impl FnMut(&Socket) -> io::Result<Arc<BoundSocket>>,
    config: &Config,
) -> io::Result<Vec<ListenSocket>> {
    let (n, workers) = (sockets.len(), config.workers);
    let bound = sockets.iter().map(bound).collect::<io::Result<Vec<_>>>()?;
    let duplicates = (n..workers).map(|i| sockets[i % n].try_clone()).collect::<io::Result<Vec<_>>>()?;
    let mut spread: Vec<_> = HandOver::among(workers).map(ListenSocket::new).collect();
    for (i, socket) in sockets.into_iter().chain(duplicates).enumerate() {
        let listening = (FamilySocket::new(socket, config)?, Arc::clone(&bound[i % n]));
        spread[i % workers].add(listening);
    }
    Ok(spread)
}

impl FamilySocket {
    fn new(socket: Socket, config: &Config) -> io::Result<Self> {
        #[cfg(unix)]
        if socket.local_addr()?.is_unix() {
            return Ok(Self::Unix(UnixListener::from_std(socket.into())));
        }
        Ok(Self::Tcp(TcpListener::from_std(socket.into()), SocketOptions::of(config)))
    }

    fn accept(&self) -> io::Result<Accepted<Stream>> {
        match self {
            Self::Tcp(listener, options) => {
                let (stream, address) = listener.accept()?;
                let stream = Stream::Tcp(stream);
                if !INHERITS_OPTIONS {
                    stream.set_options(*options);
                }
                Ok((stream, Address::Ip(address)))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let (stream, address) = listener.accept()?;
                inline_urgent_data(&stream);
                Ok((Stream::Unix(stream), unix_address(&address)))
            }
        }
    }
}

impl FamilySocket {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener, _) => listener,
            #[cfg(unix)]
            Self::Unix(listener) => listener,
        }
    }
}

impl Source for FamilySocket {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.source().register(registry, token, interest)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

/// Whether this machine lacks the address, or the whole family: no interface has it, or IPv6 is turned off.
pub(crate) fn is_unavailable(error: &io::Error) -> bool {
    #[cfg(unix)]
    const FAMILY_NOT_SUPPORTED: i32 = libc::EAFNOSUPPORT;
    // WSAEAFNOSUPPORT.
    #[cfg(not(unix))]
    const FAMILY_NOT_SUPPORTED: i32 = 10047;

    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(FAMILY_NOT_SUPPORTED)
}

fn backlog(config: &Config) -> i32 {
    i32::try_from(config.backlog).unwrap_or(i32::MAX)
}

/// A socket that listens, with the options that Linux hands on to the connections it accepts.
fn tcp_socket(address: SocketAddr, port_use: PortUse, config: &Config) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // The same on every system: [::] is IPv6 alone, and 0.0.0.0 can be listened on beside it.
        socket.set_only_v6(true)?;
    }
    // Not on Windows, where it would let others take the port. SO_EXCLUSIVEADDRUSE is for that, but no safe interface
    // has it (socket2 0.6, mio 1, rustix 1 and std have not): a program of the same user can still take one address
    // from a listener on all of them.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    port_use.apply_to(&socket)?;
    SocketOptions::of(config).apply_to(SockRef::from(&socket))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog(config))?;
    Ok(socket)
}

/// Linux hands a listening socket's options on to the connections that it accepts.
const INHERITS_OPTIONS: bool = cfg!(any(target_os = "linux", target_os = "android"));

impl ListenSocket {
    const fn new(hand_over: HandOver) -> Self {
        Self { sockets: Vec::new(), next: 0, bound: Vec::new(), hand_over }
    }

    fn add(&mut self, (socket, bound): Listening) {
        self.sockets.push(Watched::new(socket));
        self.bound.push(bound);
    }

    /// What those see of its sockets who have them too.
    #[cfg(unix)]
    pub(crate) fn bound(&self) -> &[Arc<BoundSocket>] {
        &self.bound
    }

    pub(super) fn watch(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()> {
        self.sockets.iter_mut().try_for_each(|socket| socket.watch(registry, token))
    }
}

impl Accept for ListenSocket {
    type Transport = Stream;

    fn accept(&mut self) -> io::Result<Accepted<Stream>> {
        for _ in 1..self.sockets.len() {
            self.next = (self.next + 1) % self.sockets.len();
            match self.sockets[self.next].get().accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
        self.next = (self.next + 1) % self.sockets.len();
        self.sockets[self.next].get().accept()
    }

    fn hand_over(&mut self, accepted: Accepted<Stream>, to: u32) -> Result<(), Accepted<Stream>> {
        self.hand_over.give(accepted, to)
    }

    fn handed_over(&mut self) -> Option<Accepted<Stream>> {
        self.hand_over.take()
    }

    fn stop_taking_over(&mut self) {
        self.hand_over.close();
    }

    fn is_left(&self) -> bool {
        self.bound.iter().all(|bound| bound.is_left())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{net::TcpStream, thread, time::Duration};

    use super::*;

    /// Accepts the connection of a client, as soon as it has come.
    fn accept(listener: &mut ListenSocket) -> mio::net::TcpStream {
        loop {
            match listener.accept() {
                Ok((Stream::Tcp(stream), _)) => return stream,
                Ok(_) => panic!("it is TCP"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            thread::yield_now();
        }
    }

    #[test]
    fn connections_have_the_options_that_were_asked_for_however_their_listener_was_made() {
        let config = Config {
            keepalive_time: Some(Duration::from_secs(70)),
            keepalive_interval: Some(Duration::from_secs(7)),
            keepalive_retries: Some(4),
            user_timeout: Some(Duration::from_secs(9)),
            tos: Some(0x28),
            ..Config::default()
        };
        let (bound, sockets) = bind(&"127.0.0.1:0".parse().unwrap(), &config).unwrap();
        let made_elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (adopted, more) = adopt(made_elsewhere, &config).unwrap();
        for (address, mut listener) in [(bound, sockets), (adopted, more)].map(|(a, mut l)| (a, l.remove(0)))
        {
            let Address::Ip(address) = address else { panic!("it is TCP") };
            let _client = TcpStream::connect(address).unwrap();
            let accepted = accept(&mut listener);
            let socket = SockRef::from(&accepted);
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(70));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(9)));
            assert_eq!(socket.tos_v4().unwrap(), 0x28);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        }
    }
}
