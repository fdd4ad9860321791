//! What a connection of the client sends and receives by: TCP, or TLS on it.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Arc,
};

use mio::net::TcpStream;
use rustix::net::{RecvFlags, recv};
use rustls::ClientConfig;

use crate::client::{
    connection::{DISCARD_BYTES, TURN_BYTES},
    tls::{RAW_BYTES, Received, Secure},
};

/// A connection that is made, and does not block.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<Secure>),
}

/// The memory that all receive in.
pub(super) const BUFFER_BYTES: usize = DISCARD_BYTES;

const _: () = assert!(TURN_BYTES + RAW_BYTES <= BUFFER_BYTES, "plaintext and what it was made of");

impl Stream {
    pub(super) fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        if let Some(config) = tls {
            return Ok(Self::Secure(Box::new(Secure::connect(address, config)?)));
        }
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self::Plain(TcpStream::from_std(stream)))
    }

    pub(super) const fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(secure) => secure.socket(),
        }
    }

    /// Receives up to [`TURN_BYTES`], which then are at the beginning of `buffer`.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Plain(stream) => {
                let bytes = stream.read(&mut buffer[..TURN_BYTES])?;
                Ok(Received { bytes, is_drained: bytes < TURN_BYTES, has_ended: bytes == 0 })
            }
            Self::Secure(secure) => {
                let (plaintext, raw) = buffer.split_at_mut(TURN_BYTES);
                let received = secure.receive(raw, plaintext)?;
                secure.flush()?;
                Ok(received)
            }
        }
    }

    /// Takes up to [`DISCARD_BYTES`] from the kernel without a copy. TLS has to be opened: it is received.
    ///
    /// On TCP and Linux a length of MSG_TRUNC is discarded, and nothing is written to `buffer`: see recv(2) and tcp(7).
    pub(super) fn discard(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Plain(stream) => {
                let (_, bytes) = recv(stream, &mut buffer[..DISCARD_BYTES], RecvFlags::TRUNC)?;
                Ok(Received { bytes, is_drained: bytes < DISCARD_BYTES, has_ended: bytes == 0 })
            }
            Self::Secure(_) => self.receive(buffer),
        }
    }

    /// Takes some of it, and sends what can be sent. Over TLS it takes all.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Secure(secure) => {
                secure.write(bytes)?;
                secure.flush()?;
                Ok(bytes.len())
            }
        }
    }

    /// Sends what it has taken. Whether that was all.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Secure(secure) => secure.flush(),
        }
    }
}
