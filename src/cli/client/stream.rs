//! A connection to the server, over TLS or not.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    time::Duration,
};

use socket2::Socket;

use crate::cli::tls::TlsStream;

/// A blocking connection, of which one thread has the sending direction and another the receiving one.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

impl Stream {
    pub(super) const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Reads at least one byte; none after the server's clean end: FIN, or over TLS close_notify.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => (&mut &*socket).read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    /// Reads fail with `WouldBlock` or `TimedOut` when nothing comes for so long.
    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket().set_read_timeout(timeout)
    }

    pub(super) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => (&mut &*socket).write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes),
        }
    }

    /// Half-close: everything is sent. Over TLS close_notify says so, and FIN can wait.
    pub(super) fn end_sending(&self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown(Shutdown::Write),
            Self::Tls(stream) => stream.close_notify(),
        }
    }

    /// Whoever still sends fails from now on, and waits for nobody.
    pub(super) fn stop_sending(&self) {
        // If that fails, the server is gone, and so does sending.
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    const fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.socket(),
        }
    }
}
