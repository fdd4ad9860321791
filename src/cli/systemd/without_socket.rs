//! Nobody is told anything on other systems.

use std::{convert::Infallible, ffi::OsStr, io};

#[derive(Debug)]
pub(super) struct Socket(Infallible);

impl Socket {
    pub(super) fn to(_: &OsStr) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) const fn send(&self, _: &str) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) const fn try_send(&self, _: &str) -> io::Result<()> {
        match self.0 {}
    }
}

/// Nobody asks.
pub(super) const fn monotonic_usec() -> u64 {
    0
}
