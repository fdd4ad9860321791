//! The PROXY protocol, versions 1 and 2: a proxy says first whom it connects for.
//!
//! See HAProxy's *The PROXY protocol, versions 1 & 2*, `doc/proxy-protocol.txt`; sections are those of it.

mod cidr;
mod v1;
mod v2;

use std::fmt;

pub use self::cidr::{Cidr, CidrError};
use crate::address::Address;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyHeader {
    /// Whom the proxy connects for. `None`: for itself, as for a health check (LOCAL), or for somebody of whom it says nothing
    /// (UNKNOWN, UNSPEC); then the connection's own addresses are the true ones.
    pub addresses: Option<ProxyAddresses>,
    /// The proxy connects for itself (LOCAL, version 2 only).
    pub is_local: bool,
}

/// Both ends of the connection that the proxy has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyAddresses {
    /// The client's address.
    pub source: Address,
    /// Where the client has connected to.
    pub destination: Address,
}

/// What a proxy in front has said, and who it is: [`Peer::proxied`](crate::Peer::proxied).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proxied {
    /// The proxy's address.
    pub by: Address,
    /// What it has said.
    pub header: ProxyHeader,
}

/// The longest header that is read: version 2 allows 64 KiB more than any proxy has to say.
pub(crate) const HEADER_MAX: usize = 4096;

impl ProxyHeader {
    /// Takes a header from the beginning of what has come. `None` as long as it is not complete; else with its length.
    ///
    /// However it was cut, the result is the same: either is clear before the whole header is there, or not before.
    ///
    /// # Errors
    ///
    /// What is wrong with it. Nothing that follows can be trusted then.
    ///
    /// ```
    /// use echoloop::ProxyHeader;
    ///
    /// let received = b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 443\r\nGET / HTTP/1.1\r\n";
    /// let (header, length) = ProxyHeader::parse(received)?.expect("it is complete");
    /// assert_eq!(header.addresses.unwrap().source.to_string(), "192.0.2.7:49152");
    /// assert!(received[length..].starts_with(b"GET"));
    /// assert_eq!(ProxyHeader::parse(&received[..20]), Ok(None));
    /// # Ok::<(), echoloop::ProxyHeaderError>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, ProxyHeaderError> {
        if v2::begins(bytes) { v2::parse(bytes) } else { v1::parse(bytes) }
    }

    /// A header of version 2 (section 2.2), for a proxy to send first.
    ///
    /// Where the families of both addresses differ, or one is a host name, it says nothing of them (UNSPEC).
    ///
    /// ```
    /// use echoloop::{Address, ProxyHeader};
    ///
    /// let client: Address = "192.0.2.7:49152".parse().unwrap();
    /// let server: Address = "198.51.100.1:443".parse().unwrap();
    /// let header = ProxyHeader::encode(&client, &server);
    /// let (parsed, length) = ProxyHeader::parse(&header)?.expect("it is complete");
    /// assert_eq!((parsed.addresses.unwrap().source, length), (client, 28));
    /// # Ok::<(), echoloop::ProxyHeaderError>(())
    /// ```
    #[must_use]
    pub fn encode(source: &Address, destination: &Address) -> Vec<u8> {
        v2::encode(source, destination)
    }

    const fn of(source: Address, destination: Address) -> Self {
        Self { addresses: Some(ProxyAddresses { source, destination }), is_local: false }
    }

    const fn of_nobody() -> Self {
        Self { addresses: None, is_local: false }
    }
}

/// What is wrong with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// It begins like neither version.
    NoHeader,
    /// Version 1: no line end where there must be one, in 107 bytes at most.
    LineEnd,
    /// Version 1: an unknown protocol, or words that are not separated by one space each.
    Words,
    /// An address, or a port, that is none.
    Address,
    /// Version 2: another version, command or family than it has.
    Unknown,
    /// Version 2: it is longer than 4096 bytes, or too short for what is in it.
    Length,
    /// Version 2: its checksum (CRC32C) is wrong.
    Checksum,
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHeader => "no PROXY header",
            Self::LineEnd => "a PROXY header without its line end",
            Self::Words => "a PROXY header with the wrong words",
            Self::Address => "a PROXY header with a wrong address",
            Self::Unknown => "a PROXY header of an unknown version, command or family",
            Self::Length => "a PROXY header with a wrong length",
            Self::Checksum => "a PROXY header with a wrong checksum",
        })
    }
}

impl std::error::Error for ProxyHeaderError {}

#[cfg(test)]
mod tests;
