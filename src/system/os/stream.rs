//! Stream sockets, on mio.

#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, BorrowedFd};
use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
    time::Duration,
};

#[cfg(unix)]
use std::path::Path;

#[cfg(unix)]
use mio::net::UnixStream;
use mio::{Interest, Registry, Token, event::Source, net::TcpStream};
#[cfg(unix)]
use socket2::{Domain, SockAddr, Socket, Type};
use socket2::{SockRef, TcpKeepalive};

#[cfg(target_os = "linux")]
use super::pipe::KernelPipe;
use super::unacknowledged::unacknowledged;
#[cfg(not(target_os = "linux"))]
use crate::pipes::NoPipe;
use crate::{
    address::Address,
    config::Config,
    system::transport::{Addresses, Transport},
};

/// A stream socket of one of the families that a server can listen on.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    /// One that could not be connected at once: the backlog of the path was full. Without a path it is connected by now.
    #[cfg(unix)]
    Retrying(UnixStream, Option<Box<Path>>),
}

macro_rules! each {
    ($self:expr, $stream:ident => $do:expr) => {
        match $self {
            Stream::Tcp($stream) => $do,
            #[cfg(unix)]
            Stream::Unix($stream) | Stream::Retrying($stream, _) => $do,
        }
    };
}

impl Stream {
    /// Begins to connect to a resolved address. It is made once it is writable and no error is pending.
    pub(crate) fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Ip(address) => Ok(Self::Tcp(TcpStream::connect(*address)?)),
            #[cfg(unix)]
            Address::Unix(path) => connect_to_path(path),
            #[cfg(not(unix))]
            Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Address::Host { .. } | Address::Udp(_) | Address::UdpHost { .. } => {
                Err(io::ErrorKind::InvalidInput.into())
            }
        }
    }

    /// Sets the options that a TCP connection of ours has. A failure may be a peer that is gone already; reading
    /// tells.
    pub(super) fn set_options(&self, options: SocketOptions) {
        if let Self::Tcp(stream) = self
            && let Err(error) = options.apply_to(SockRef::from(stream))
        {
            log::debug!("cannot set socket options: {error}");
        }
    }
}

/// Whether a socket can be watched from before it is connected. mio's poll(2) back end forgets it at once; there a full
/// backlog is a connection that failed.
#[cfg(unix)]
const WATCHES_UNCONNECTED: bool = !cfg!(mio_unsupported_force_poll_poll);

/// Begins to connect to a path. Where its backlog is full, connect(2) says EAGAIN, and no event tells when it is not.
#[cfg(unix)]
fn connect_to_path(path: &Path) -> io::Result<Stream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let connected = socket.connect(&SockAddr::unix(path)?);
    let stream = UnixStream::from_std(socket.into());
    inline_urgent_data(&stream);
    match connected {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && WATCHES_UNCONNECTED => {
            Ok(Stream::Retrying(stream, Some(path.into())))
        }
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(Stream::Unix(stream)),
    }
}

/// Urgent data is data like any other, where the system has it on Unix sockets at all (Linux 5.15).
#[cfg(unix)]
pub(super) fn inline_urgent_data(stream: &UnixStream) {
    if let Err(error) = SockRef::from(stream).set_out_of_band_inline(true) {
        log::debug!("cannot set SO_OOBINLINE: {error}");
    }
}

/// The options that a TCP connection of ours has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOptions {
    nodelay: bool,
    keepalive: bool,
    keepalive_time: Option<Duration>,
    keepalive_interval: Option<Duration>,
    keepalive_retries: Option<u32>,
    #[cfg(target_os = "linux")]
    user_timeout: Option<Duration>,
    #[cfg(target_os = "linux")]
    tos: Option<u8>,
}

impl SocketOptions {
    pub(super) const fn of(config: &Config) -> Self {
        Self {
            nodelay: config.nodelay,
            keepalive: config.keepalive,
            keepalive_time: config.keepalive_time,
            keepalive_interval: config.keepalive_interval,
            keepalive_retries: config.keepalive_retries,
            #[cfg(target_os = "linux")]
            user_timeout: config.user_timeout,
            #[cfg(target_os = "linux")]
            tos: config.tos,
        }
    }

    /// Sets them on a connection, or on a listener whose connections have them too.
    pub(super) fn apply_to(self, socket: SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(self.nodelay)?;
        socket.set_keepalive(self.keepalive)?;
        if self.keepalive {
            self.set_keepalive_times(&socket)?;
        }
        #[cfg(target_os = "linux")]
        {
            if let Some(timeout) = self.user_timeout {
                socket.set_tcp_user_timeout(Some(timeout))?;
            }
            if let Some(tos) = self.tos {
                match socket.domain()? {
                    Domain::IPV6 => socket.set_tclass_v6(tos.into())?,
                    _ => socket.set_tos_v4(tos.into())?,
                }
            }
        }
        // RFC 6093: urgent data is data like any other.
        socket.set_out_of_band_inline(true)
    }

    fn set_keepalive_times(self, socket: &SockRef<'_>) -> io::Result<()> {
        let mut times = TcpKeepalive::new();
        if let Some(time) = self.keepalive_time {
            times = times.with_time(time);
        }
        if let Some(interval) = self.keepalive_interval {
            times = times.with_interval(interval);
        }
        #[cfg(not(windows))]
        if let Some(retries) = self.keepalive_retries {
            times = times.with_retries(retries);
        }
        if self.keepalive_time.or(self.keepalive_interval).is_none() && self.keepalive_retries.is_none() {
            return Ok(());
        }
        socket.set_tcp_keepalive(&times)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => stream.read(buffer))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(self, stream => stream.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Addresses for Stream {
    fn peer_addr(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(Address::Ip),
            #[cfg(unix)]
            Self::Unix(stream) | Self::Retrying(stream, _) => {
                stream.peer_addr().map(|address| unix_address(&address))
            }
        }
    }

    fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(stream) => stream.local_addr().map(Address::Ip),
            #[cfg(unix)]
            Self::Unix(stream) | Self::Retrying(stream, _) => {
                stream.local_addr().map(|address| unix_address(&address))
            }
        }
    }
}

#[cfg(target_os = "linux")]
impl Stream {
    /// A call on the socket that mio does not know, told to it all the same: it may have to arm itself again.
    fn try_io<R>(&self, call: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>) -> io::Result<R> {
        each!(self, stream => stream.try_io(|| call(stream.as_fd())))
    }
}

impl Transport for Stream {
    #[cfg(target_os = "linux")]
    type Pipe = KernelPipe;
    #[cfg(not(target_os = "linux"))]
    type Pipe = NoPipe;

    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(buffer),
            #[cfg(unix)]
            Self::Unix(stream) | Self::Retrying(stream, _) => {
                stream.try_io(|| Ok(rustix::net::recv(&*stream, buffer, rustix::net::RecvFlags::PEEK)?.0))
            }
        }
    }

    #[cfg(unix)]
    fn must_connect_again(&self) -> bool {
        matches!(self, Self::Retrying(_, Some(_)))
    }

    #[cfg(unix)]
    fn connect_again(&mut self) -> io::Result<()> {
        let Self::Retrying(stream, target) = self else { return Ok(()) };
        let Some(path) = target.as_ref() else { return Ok(()) };
        match SockRef::from(&*stream).connect(&SockAddr::unix(path)?) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            result => result?,
        }
        *target = None;
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn new_pipe(&self) -> io::Result<Self::Pipe> {
        KernelPipe::new()
    }

    #[cfg(target_os = "linux")]
    fn splice_in(&mut self, pipe: &mut Self::Pipe, most: usize) -> io::Result<usize> {
        self.try_io(|socket| pipe.splice_in(socket, most))
    }

    #[cfg(target_os = "linux")]
    fn splice_out(&mut self, pipe: &mut Self::Pipe, most: usize) -> io::Result<usize> {
        self.try_io(|socket| pipe.splice_out(socket, most))
    }

    /// On epoll, and for TCP: a Unix socket stops short where descriptors were passed.
    fn short_read_drains(&self) -> bool {
        const IS_EPOLL: bool =
            cfg!(any(target_os = "linux", target_os = "android")) && !cfg!(mio_unsupported_force_poll_poll);
        IS_EPOLL && matches!(self, Self::Tcp(_))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        each!(self, stream => stream.shutdown(Shutdown::Write))
    }

    const COUNTS_FIN: bool = !cfg!(target_vendor = "apple");

    /// `None` for Unix sockets: what they have taken outlives us.
    fn unacknowledged(&self) -> Option<usize> {
        match self {
            Self::Tcp(stream) => unacknowledged(stream),
            #[cfg(unix)]
            Self::Unix(_) | Self::Retrying(..) => None,
        }
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        each!(self, stream => stream.take_error())
    }

    fn reset_on_close(&mut self) {
        if let Self::Tcp(stream) = self
            && let Err(error) = SockRef::from(&*stream).set_linger(Some(Duration::ZERO))
        {
            log::debug!("cannot set SO_LINGER: {error}");
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        each!(self, stream => stream.register(registry, token, interest))
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        each!(self, stream => stream.reregister(registry, token, interest))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        each!(self, stream => stream.deregister(registry))
    }
}

/// The address of a Unix socket; most have no path.
#[cfg(unix)]
pub(crate) fn unix_address(address: &std::os::unix::net::SocketAddr) -> Address {
    Address::Unix(address.as_pathname().map(ToOwned::to_owned).unwrap_or_default())
}
