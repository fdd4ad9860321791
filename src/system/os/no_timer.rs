//! Where the poller cannot watch a timer: each wait for a deadline has a timeout.

use std::{io, time::Instant};

use mio::{Registry, Token};

/// There is none.
#[derive(Debug)]
pub(super) enum Timer {}

impl Timer {
    pub(super) fn new(_: &Registry, _: Token) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn set(&self, _: Instant, _: impl FnOnce() -> Instant) -> io::Result<()> {
        match *self {}
    }

    pub(super) const fn note_time(&self, _: Instant) {
        match *self {}
    }
}
