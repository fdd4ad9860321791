//! The operating system, through mio.

#[cfg(unix)]
mod bound_socket;
#[cfg(not(unix))]
#[path = "no_bound_socket.rs"]
mod bound_socket;
mod datagram_socket;
mod hand_over;
#[cfg(unix)]
mod inherited;
mod listener;
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
mod packet_info;
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
#[path = "no_packet_info.rs"]
mod packet_info;
#[cfg(target_os = "linux")]
mod pipe;
mod shared_port;
pub(crate) mod stream;
pub(crate) mod threads;
#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
mod timer;
#[cfg(not(all(target_os = "linux", not(mio_unsupported_force_poll_poll))))]
#[path = "no_timer.rs"]
mod timer;
mod unacknowledged;
#[cfg(unix)]
mod unix_listener;
mod watched;

use std::{
    io,
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Registry, Token, Waker, event::Event, event::Source};

#[cfg(all(unix, feature = "ops"))]
use std::{os::unix::net::UnixListener, path::Path};

#[cfg(unix)]
pub(crate) use self::bound_socket::BoundSocket;
#[cfg(unix)]
pub use self::inherited::Inherited;
pub(crate) use self::listener::is_unavailable;
#[cfg(all(unix, feature = "ops"))]
pub(crate) use self::unix_listener::SocketFile;
use self::{
    datagram_socket::DatagramSocket,
    listener::ListenSocket,
    stream::{SocketOptions, Stream},
    timer::Timer,
};
use super::{Poller, System, Wait, Wake, endpoint::Endpoint, readiness::Readiness};
use crate::{
    address::Address,
    config::Config,
    connection_id::{ConnectionId, WAKER, reserved_token},
    error::Error,
    peer::Peer,
};

/// A worker's socket on an address.
pub(crate) type OsEndpoint = Endpoint<ListenSocket, DatagramSocket>;

/// Binds `address`, which is resolved, once per worker. Returns the sockets with the address that they really have.
pub(crate) fn bind(address: &Address, config: &Config) -> Result<(Address, Vec<OsEndpoint>), Error> {
    let failed = |source| Error::Bind { address: address.clone(), source };
    match address {
        Address::Udp(ip) => {
            let (real, sockets) = datagram_socket::bind(*ip, config.workers).map_err(failed)?;
            Ok((Address::Udp(real), datagram_endpoints(sockets, config)))
        }
        Address::Ip(_) | Address::Unix(_) | Address::Host { .. } | Address::UdpHost { .. } => {
            let (real, sockets) = listener::bind(address, config).map_err(failed)?;
            Ok((real, sockets.into_iter().map(Endpoint::Listener).collect()))
        }
    }
}

/// Takes what another process has bound to an address.
#[cfg(unix)]
pub(crate) fn inherit(
    address: &Address,
    inherited: Vec<Inherited>,
    config: &Config,
) -> Result<Vec<OsEndpoint>, Error> {
    let failed = |source| Error::Bind { address: address.clone(), source };
    if let Address::Udp(ip) = address {
        let sockets = datagram_socket::inherit(*ip, inherited).map_err(failed)?;
        return Ok(datagram_endpoints(sockets, config));
    }
    let sockets = listener::inherit(inherited, config).map_err(failed)?;
    Ok(sockets.into_iter().map(Endpoint::Listener).collect())
}

/// A socket that listens on `path` for this user alone, outside of the loops; or that of another process.
#[cfg(all(unix, feature = "ops"))]
pub(crate) fn control_listener(
    path: &Path,
    inherited: Option<Inherited>,
) -> io::Result<(UnixListener, Arc<BoundSocket>)> {
    if let Some(inherited) = inherited {
        let bound = BoundSocket::inherited(&inherited)?;
        return Ok((inherited.socket.into(), bound));
    }
    let (socket, file) = unix_listener::bind(path, CONTROL_BACKLOG, Some(0o600))?;
    let bound = BoundSocket::new(&socket, Address::Unix(path.to_owned()), Some(file))?;
    Ok((socket.into(), bound))
}

#[cfg(all(unix, feature = "ops"))]
const CONTROL_BACKLOG: i32 = 64;

/// For each worker its sockets, if there are so many.
fn datagram_endpoints(sockets: Vec<DatagramSocket>, config: &Config) -> Vec<OsEndpoint> {
    let mut spread: Vec<_> = (0..config.workers).map(|_| Vec::new()).collect();
    for (i, socket) in sockets.into_iter().enumerate() {
        spread[i % config.workers].push(socket);
    }
    spread.into_iter().map(Endpoint::Datagrams).collect()
}

#[cfg(unix)]
impl OsEndpoint {
    /// What those see of its sockets who have them too.
    pub(crate) fn bound(&self) -> Vec<&Arc<BoundSocket>> {
        match self {
            Self::Listener(listener) => listener.bound().iter().collect(),
            Self::Datagrams(sockets) => sockets.iter().map(DatagramSocket::bound).collect(),
        }
    }
}

/// Takes over a socket that listens already, for each worker.
pub(crate) fn adopt(listener: TcpListener, config: &Config) -> Result<(Address, Vec<OsEndpoint>), Error> {
    let failed = |source| Error::Loop { what: "cannot take a listener over", source };
    let (real, sockets) = listener::adopt(listener, config).map_err(failed)?;
    Ok((real, sockets.into_iter().map(Endpoint::Listener).collect()))
}

/// Sockets, a poller and the clock.
#[derive(Debug)]
pub(crate) struct Os {
    poll: Poll,
    /// The same, for what is taken off it by itself.
    registry: Arc<Registry>,
    events: Events,
    /// Where there is one; elsewhere each wait has a timeout.
    timer: Option<Timer>,
    options: SocketOptions,
}

impl Os {
    /// A poller for one loop, and what wakes it.
    pub(crate) fn new(config: &Config) -> io::Result<(Self, Arc<dyn Wake>)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), reserved_token(WAKER))?;
        let events = Events::with_capacity(config.event_batch);
        let timer = Timer::new(poll.registry(), reserved_token(WAKER))
            .inspect_err(|error| log::debug!("no timer: {error}; each wait has a timeout instead"))
            .ok();
        let registry = Arc::new(poll.registry().try_clone()?);
        Ok((Self { poll, registry, events, timer, options: SocketOptions::of(config) }, Arc::new(waker)))
    }

    /// For a wait that is to end at `at`: none where the timer sees to that. What is due already needs none.
    fn timeout(&mut self, at: Instant) -> Option<Duration> {
        let left = at.saturating_duration_since(clock());
        if !left.is_zero()
            && let Some(timer) = &mut self.timer
            && timer.set(at, clock).is_ok()
        {
            return None;
        }
        Some(left)
    }
}

impl Wake for Waker {
    fn wake(&self) -> io::Result<()> {
        Self::wake(self)
    }
}

impl System for Os {
    type Transport = Stream;
    type Listener = ListenSocket;
    type DatagramSocket = DatagramSocket;

    fn now(&mut self) -> Instant {
        let now = clock();
        if let Some(timer) = &mut self.timer {
            timer.note_time(now);
        }
        now
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        let timeout = match wait {
            Wait::No => Some(Duration::ZERO),
            Wait::Forever => None,
            Wait::Until(at) => self.timeout(at),
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    fn events(&self) -> impl Iterator<Item = (Token, Readiness)> {
        self.events.iter().map(|event| (event.token(), readiness(event)))
    }

    fn watch_listener(&mut self, listener: &mut ListenSocket, token: Token) -> io::Result<()> {
        listener.watch(&self.registry, token)
    }

    fn watch_datagrams(&mut self, socket: &mut DatagramSocket, token: Token) -> io::Result<()> {
        socket.watch(&self.registry, token)
    }

    fn connect(&mut self, peer: &Peer<'_>) -> io::Result<Stream> {
        let stream = Stream::connect(peer.address)?;
        stream.set_options(self.options);
        Ok(stream)
    }
}

impl<T: Source> Poller<T> for Os {
    fn register(&mut self, transport: &mut T, id: ConnectionId, interest: Interest) -> io::Result<()> {
        Registry::register(self.poll.registry(), transport, id.token(), interest)
    }

    fn reregister(&mut self, transport: &mut T, id: ConnectionId, interest: Interest) -> io::Result<()> {
        match Registry::reregister(self.poll.registry(), transport, id.token(), interest) {
            // The poll(2) back end forgets a socket of which both directions have ended, or which
            // failed: there is nothing more to be told about it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

/// The one place that reads the clock.
#[expect(clippy::disallowed_methods, reason = "everything above takes the time from its system")]
fn clock() -> Instant {
    Instant::now()
}

/// Every flag is a hint: an event on a direction means that it is worth a try.
fn readiness(event: &Event) -> Readiness {
    let mut ready = Readiness::NONE;
    let is_error = event.is_error();
    if event.is_read_closed() || event.is_priority() || is_error {
        ready.insert(Readiness::MORE);
    }
    if event.is_readable() || event.is_read_closed() || event.is_priority() || is_error {
        ready.insert(Readiness::READ);
    }
    if event.is_writable() || event.is_write_closed() || is_error {
        ready.insert(Readiness::WRITE);
    }
    if is_error {
        ready.insert(Readiness::ERROR);
    }
    ready
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_what_is_due_already_is_over_at_once_and_sets_no_timer() {
        let (mut os, _waker) = Os::new(&Config::default()).unwrap();
        let now = os.now();
        os.wait(Wait::Until(now)).unwrap();
        assert_eq!(os.events().count(), 0, "a timer's event is one");
    }
}
