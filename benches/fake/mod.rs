//! What a core without sockets is given in place of a poller.

use std::io;

use echoloop::internals::{Poller, Wake};
use mio::{Interest, Token};

/// The benchmark itself makes the events.
pub(crate) struct FakePoller;

impl<T> Poller<T> for FakePoller {
    fn register(&mut self, _: &mut T, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &mut T, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
}

/// Nobody waits for events.
pub(crate) struct NoWaker;

impl Wake for NoWaker {
    fn wake(&self) -> io::Result<()> {
        Ok(())
    }
}
