//! What a connection needs of a socket, and what a loop needs of a poller: TCP and Unix sockets on mio
//! here, fake ones in simulations.

mod pipe;

#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, BorrowedFd};
use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
    time::Duration,
};

#[cfg(unix)]
use mio::net::UnixStream;
use mio::{Interest, Registry, Token, event::Source, net::TcpStream};
use socket2::SockRef;

pub use self::pipe::{NoPipe, Pipe};
use crate::Address;

/// Both ends of a connection, asked of the operating system when someone wants to know.
pub trait Addresses {
    /// The peer's address.
    ///
    /// # Errors
    ///
    /// What the operating system says, for example that the peer is gone.
    fn peer_addr(&self) -> io::Result<Address>;

    /// Our address.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn local_addr(&self) -> io::Result<Address>;
}

/// A non-blocking byte stream whose two directions end separately.
///
/// Dropping it takes it off its poller and closes it.
pub trait Transport: Read + Write + Addresses {
    /// Where bytes can wait in the kernel on their way back to this transport.
    type Pipe: Pipe;

    /// Makes a pipe.
    ///
    /// # Errors
    ///
    /// `Unsupported` where there are none, or what the system says, for example that there are no descriptors left.
    fn new_pipe(&self) -> io::Result<Self::Pipe> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Moves up to `most` bytes that have come into an empty pipe, and says how many. None means that the next is no
    /// ordinary byte: the end, or urgent data. A read tells which.
    ///
    /// # Errors
    ///
    /// Those of a read; it may be the only call that is told of them. `Unsupported` if the socket's bytes cannot be
    /// moved at all.
    fn splice_in(&mut self, pipe: &mut Self::Pipe, most: usize) -> io::Result<usize> {
        let _ = (pipe, most);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends up to `most` bytes out of the pipe, as a write would.
    ///
    /// # Errors
    ///
    /// Those of a write; `WouldBlock` is one of them.
    fn splice_out(&mut self, pipe: &mut Self::Pipe, most: usize) -> io::Result<usize> {
        let _ = (pipe, most);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether a read that brings less than it has room for has brought everything, and an event follows when more
    /// comes; unless [`Readiness::MORE`](crate::internals::Readiness::MORE) was reported.
    fn short_read_drains(&self) -> bool {
        false
    }

    /// Sends FIN behind everything written: shutdown(2) with `SHUT_WR`.
    ///
    /// # Errors
    ///
    /// `NotConnected` if the peer is gone, or what else the system says.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Takes the pending error, `SO_ERROR` of socket(7).
    ///
    /// # Errors
    ///
    /// What the system says when it cannot be asked.
    fn take_error(&mut self) -> io::Result<Option<io::Error>>;

    /// Makes the close to come a reset, which drops what is not yet sent.
    fn reset_on_close(&mut self);
}

/// Tells a loop when transports are ready. Edge-triggered: an event may come once only, until the
/// operation has said `WouldBlock`; events may also come without cause.
pub trait Poller<T> {
    /// Begins to watch `transport`.
    ///
    /// # Errors
    ///
    /// What the system says, for example for want of memory.
    fn register(&mut self, transport: &mut T, token: Token, interest: Interest) -> io::Result<()>;

    /// Changes what is watched for. What is ready by then is reported again.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn reregister(&mut self, transport: &mut T, token: Token, interest: Interest) -> io::Result<()>;
}

impl<T: Source> Poller<T> for &Registry {
    fn register(&mut self, transport: &mut T, token: Token, interest: Interest) -> io::Result<()> {
        Registry::register(self, transport, token, interest)
    }

    fn reregister(&mut self, transport: &mut T, token: Token, interest: Interest) -> io::Result<()> {
        match Registry::reregister(self, transport, token, interest) {
            // The poll(2) back end forgets a socket of which both directions have ended, or which
            // failed: there is nothing more to be told about it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

/// A stream socket of one of the families that a server can listen on.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

macro_rules! each {
    ($self:expr, $stream:ident => $do:expr) => {
        match $self {
            Stream::Tcp($stream) => $do,
            #[cfg(unix)]
            Stream::Unix($stream) => $do,
        }
    };
}

impl Stream {
    /// Begins to connect to a resolved address. It is made once it is writable and no error is pending.
    pub(crate) fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Ip(address) => Ok(Self::Tcp(TcpStream::connect(*address)?)),
            #[cfg(unix)]
            Address::Unix(path) => Ok(Self::Unix(UnixStream::connect(path)?)),
            #[cfg(not(unix))]
            Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Address::Host { .. } => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Sets the options that a TCP connection of ours has.
    pub(crate) fn set_options(&self, nodelay: bool, keepalive: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(nodelay)?;
                let socket = SockRef::from(stream);
                socket.set_keepalive(keepalive)?;
                socket.set_out_of_band_inline(true)
            }
            #[cfg(unix)]
            Self::Unix(_) => Ok(()),
        }
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
            Self::Unix(stream) => stream.peer_addr().map(|address| unix_address(&address)),
        }
    }

    fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(stream) => stream.local_addr().map(Address::Ip),
            #[cfg(unix)]
            Self::Unix(stream) => stream.local_addr().map(|address| unix_address(&address)),
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
    type Pipe = pipe::KernelPipe;
    #[cfg(not(target_os = "linux"))]
    type Pipe = NoPipe;

    #[cfg(target_os = "linux")]
    fn new_pipe(&self) -> io::Result<Self::Pipe> {
        pipe::KernelPipe::new()
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
