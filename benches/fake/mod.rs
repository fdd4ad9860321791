//! What a core without sockets is given in place of a poller.

use std::io;

use echoloop::{ConnectionId, internals::Poller};
use mio::Interest;

use super::FakeTransport;

/// The benchmark itself makes the events.
pub(crate) struct FakePoller;

impl Poller<FakeTransport> for FakePoller {
    fn register(&mut self, _: &mut FakeTransport, _: ConnectionId, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &mut FakeTransport, _: ConnectionId, _: Interest) -> io::Result<()> {
        Ok(())
    }
}
