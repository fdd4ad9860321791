//! What can go wrong in setting up a server, or in its loop.

use std::{convert::Infallible, fmt, io};

use crate::address::Address;

/// Why a server could not be set up, or why its loop had to stop.
///
/// How single connections end is not an error: see [`CloseReason`](crate::CloseReason).
///
/// `Display` gives one line, `what: why`.
///
/// ```
/// let error = "localhost".parse::<echoloop::Address>().unwrap_err();
/// assert_eq!(error.to_string(), "address 'localhost': expected HOST:PORT, [V6]:PORT or unix:PATH");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The text is not an address that echoloop understands.
    Address {
        /// The text as it was given.
        text: String,
        /// What was expected instead.
        why: &'static str,
    },
    /// A host name could not be resolved.
    Resolve {
        /// The host and port that were asked for.
        address: Address,
        /// What the resolver said.
        source: io::Error,
    },
    /// A listening socket could not be created, bound or put to listen.
    Bind {
        /// The address that was asked for.
        address: Address,
        /// What the operating system said.
        source: io::Error,
    },
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
            Self::Address { text, why } => write!(f, "address '{text}': {why}"),
            Self::Resolve { address, source } => write!(f, "cannot resolve {address}: {source}"),
            Self::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Config(why) => write!(f, "configuration: {why}"),
            Self::Loop { what, source } => write!(f, "event loop: {what}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address { .. } | Self::Config(_) => None,
            Self::Resolve { source, .. } | Self::Bind { source, .. } | Self::Loop { source, .. } => {
                Some(source)
            }
        }
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
