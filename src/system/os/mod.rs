//! The operating system, through mio.

mod listener;
#[cfg(target_os = "linux")]
mod pipe;
pub(crate) mod stream;
mod unacknowledged;
#[cfg(unix)]
mod unix_listener;

use std::{io, sync::Arc, time::Instant};

use mio::{Events, Interest, Poll, Registry, Token, Waker, event::Event, event::Source};

pub(crate) use self::listener::{ListenSocket, bind, is_unavailable};
use self::stream::{SocketOptions, Stream};
use super::{Poller, System, Wait, Wake, readiness::Readiness};
use crate::{
    config::Config,
    connection_id::{ConnectionId, WAKER, reserved_token},
    peer::Peer,
};

/// Sockets, a poller and the clock.
#[derive(Debug)]
pub(crate) struct Os {
    poll: Poll,
    events: Events,
    options: SocketOptions,
}

impl Os {
    /// A poller for one loop, and what wakes it.
    pub(crate) fn new(config: &Config) -> io::Result<(Self, Arc<dyn Wake>)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), reserved_token(WAKER))?;
        let events = Events::with_capacity(config.event_batch);
        Ok((Self { poll, events, options: SocketOptions::of(config) }, Arc::new(waker)))
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

    fn now(&mut self) -> Instant {
        clock()
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        let timeout = match wait {
            Wait::No => Some(std::time::Duration::ZERO),
            Wait::Until(at) => Some(at.saturating_duration_since(clock())),
            Wait::Forever => None,
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
        self.poll.registry().register(listener, token, Interest::READABLE)
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
