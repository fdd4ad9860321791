//! What can go wrong in setting up a server, or in its loop.

use std::{convert::Infallible, fmt, io};

use crate::address::{Address, AddressError};

/// Why a server could not be set up, or why its loop had to stop.
///
/// How single connections end is not an error: see [`CloseReason`](crate::CloseReason).
///
/// `Display` gives one line, `what: why`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An address is not understood, or its host is not found.
    Address(AddressError),
    /// A listening socket could not be created, bound or put to listen.
    Bind {
        /// The address that was asked for.
        address: Address,
        /// What the operating system said.
        source: io::Error,
    },
    /// A socket was [inherited](crate::Builder::inherit) that is bound to this address, and nobody asked for it. Who comes to it
    /// would never be served.
    Unclaimed(Address),
    /// A value in the [`Config`](crate::Config) is out of its bounds.
    Config(&'static str),
    /// The readiness loop itself failed; no connection of it can be served any more.
    Loop {
        /// What the loop was doing.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Unclaimed(address) => {
                write!(
                    f,
                    "a socket was passed on that listens on {address}, and nobody asked for that address"
                )
            }
            Self::Config(why) => write!(f, "configuration: {why}"),
            Self::Loop { what, source } => write!(f, "event loop: {what}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // It is said already.
            Self::Address(error) => error.source(),
            Self::Config(_) | Self::Unclaimed(_) => None,
            Self::Bind { source, .. } | Self::Loop { source, .. } => Some(source),
        }
    }
}

impl From<AddressError> for Error {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
