//! What a core without sockets is given in place of a poller.

use std::io;

use echoloop::{ConnectionId, internals::Poller};
use mio::Interest;

/// The benchmark itself makes the events.
pub(crate) struct FakePoller;

impl<T> Poller<T> for FakePoller {
    fn register(&mut self, _: &mut T, _: ConnectionId, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &mut T, _: ConnectionId, _: Interest) -> io::Result<()> {
        Ok(())
    }
}
