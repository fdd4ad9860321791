//! A blocking connection over TLS, of which one thread has the sending direction and another the receiving one.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use socket2::Socket;

use super::trouble::Trouble;

/// A connection whose handshake is over.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: Socket,
    /// Nobody has it while the socket is waited for.
    tls: Mutex<ClientConnection>,
    /// Whoever has it sends what is sealed, in its order. What waits for the socket is in here.
    sealed: Mutex<Vec<u8>>,
}

impl TlsStream {
    /// Agrees with the server, within this time.
    pub(super) fn handshake(
        socket: Socket,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        timeout: Option<Duration>,
    ) -> Result<Self, Trouble> {
        let mut tls = ClientConnection::new(config, name).map_err(|error| Trouble::of(&error))?;
        shake_hands(&mut tls, &socket, timeout).map_err(|error| Trouble::of_handshake(&error))?;
        let suite = tls.negotiated_cipher_suite().map(|suite| suite.suite());
        log::debug!("TLS: {:?}, {suite:?}", tls.protocol_version());
        Ok(Self { socket, tls: Mutex::new(tls), sealed: Mutex::default() })
    }

    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Reads at least one byte; none after the server's close_notify.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the stream ended without one, `InvalidData` in plain words if it is no TLS, or as the socket.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls().reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            let mut records = [0; READ_BYTES];
            let n = (&self.socket).read(&mut records)?;
            self.take(&records[..n])?;
        }
    }

    /// Takes records. None say that the stream has ended.
    fn take(&self, mut records: &[u8]) -> io::Result<()> {
        loop {
            let (taken, result) = {
                let mut tls = self.tls();
                (tls.read_tls(&mut records)?, tls.process_new_packets())
            };
            self.answer();
            result.map_err(|error| Trouble::of(&error).into_io())?;
            // What comes behind close_notify means nothing.
            if records.is_empty() || taken == 0 {
                return Ok(());
            }
        }
    }

    /// Sends all of it.
    pub(crate) fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = self.tls().writer().write(bytes)?;
            bytes = &bytes[n..];
            self.flush()?;
        }
        Ok(())
    }

    /// Sends close_notify: the server gets nothing more, and may go on.
    pub(crate) fn close_notify(&self) -> io::Result<()> {
        self.tls().send_close_notify();
        self.flush()
    }

    /// Sends what is sealed, and waits for whoever is at it.
    fn flush(&self) -> io::Result<()> {
        loop {
            self.flush_with(&mut self.sealed.lock().unwrap_or_else(PoisonError::into_inner))?;
            // The other thread may have had something to say just when this one was done.
            if !self.tls().wants_write() {
                return Ok(());
            }
        }
    }

    fn flush_with(&self, sealed: &mut Vec<u8>) -> io::Result<()> {
        loop {
            sealed.clear();
            {
                let mut tls = self.tls();
                while tls.wants_write() {
                    tls.write_tls(sealed)?;
                }
            }
            if sealed.is_empty() {
                return Ok(());
            }
            (&self.socket).write_all(sealed)?;
        }
    }

    /// Sends what TLS itself has to say. Whoever is sending does so too, and must not be waited for: the server may wait for
    /// us to read.
    fn answer(&self) {
        while self.tls().wants_write() {
            let Ok(mut sealed) = self.sealed.try_lock() else { return };
            if let Err(error) = self.flush_with(&mut sealed) {
                // Reading tells how the connection ended.
                log::debug!("TLS: cannot answer: {error}");
                return;
            }
        }
    }

    fn tls(&self) -> MutexGuard<'_, ClientConnection> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is read at once: the records that rustls has room for.
const READ_BYTES: usize = 4096;

/// Goes on until the handshake is over.
fn shake_hands(tls: &mut ClientConnection, mut socket: &Socket, timeout: Option<Duration>) -> io::Result<()> {
    let deadline = timeout.and_then(|timeout| now().checked_add(timeout));
    let left = || match deadline.map(|deadline| deadline.saturating_duration_since(now())) {
        Some(Duration::ZERO) => Err(io::Error::from(ErrorKind::TimedOut)),
        left => Ok(left),
    };
    while tls.is_handshaking() || tls.wants_write() {
        if tls.wants_write() {
            socket.set_write_timeout(left()?)?;
            tls.write_tls(&mut socket)?;
            continue;
        }
        socket.set_read_timeout(left()?)?;
        match tls.read_tls(&mut socket) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if let Err(error) = tls.process_new_packets() {
            // Why, for the server.
            let _ = tls.write_tls(&mut socket);
            let _ = socket.shutdown(Shutdown::Write);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
    }
    socket.set_write_timeout(None)
}

#[expect(clippy::disallowed_methods, reason = "a server is waited for in real time")]
fn now() -> Instant {
    Instant::now()
}
