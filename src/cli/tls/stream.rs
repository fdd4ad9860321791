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
    /// What has come, and rustls had no room for yet.
    records: Mutex<Vec<u8>>,
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
        Ok(Self { socket, tls: Mutex::new(tls), records: Mutex::default(), sealed: Mutex::default() })
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
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // It has room for more only when all of this is read.
            match self.tls().reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            if records.is_empty() {
                let mut read = [0; READ_BYTES];
                let n = (&self.socket).read(&mut read)?;
                records.extend_from_slice(&read[..n]);
            }
            let taken = self.take(&records)?;
            records.drain(..taken);
        }
    }

    /// Takes as many records as there is room for; behind close_notify it takes nothing. None say that the stream has ended.
    fn take(&self, mut records: &[u8]) -> io::Result<usize> {
        let (taken, result) = {
            let mut tls = self.tls();
            (tls.read_tls(&mut records)?, tls.process_new_packets())
        };
        self.answer();
        result.map_err(|error| Trouble::of(&error).into_io())?;
        Ok(taken)
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

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        thread,
    };

    use rustls::{
        RootCertStore, ServerConfig, ServerConnection,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    };

    use super::*;

    /// Both ends of a connection over TLS, after the handshake.
    fn pair() -> (TlsStream, ServerConnection, TcpStream) {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Socket::from(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (mut accepted, _) = listener.accept().unwrap();
        let server = thread::spawn(move || {
            let mut tls = ServerConnection::new(Arc::new(server)).unwrap();
            while tls.is_handshaking() || tls.wants_write() {
                tls.complete_io(&mut accepted).unwrap();
            }
            (tls, accepted)
        });
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsStream::handshake(socket, Arc::new(client), name, None).unwrap();
        let (tls, accepted) = server.join().unwrap();
        (stream, tls, accepted)
    }

    /// A record of the most bytes leaves no room in rustls for those that one read brings behind it.
    #[test]
    fn small_records_behind_a_large_one_wait_until_there_is_room() {
        let (stream, mut server, mut socket) = pair();
        let mut sealed = Vec::new();
        let mut sent = vec![b'a'; 16 << 10];
        server.writer().write_all(&sent).unwrap();
        for _ in 0..60 {
            server.writer().write_all(&[b'b'; 100]).unwrap();
            sent.extend([b'b'; 100]);
        }
        server.send_close_notify();
        while server.wants_write() {
            server.write_tls(&mut sealed).unwrap();
        }
        socket.write_all(&sealed).unwrap();

        let (mut received, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                n => received.extend_from_slice(&buffer[..n]),
            }
        }
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
        assert_eq!(stream.read(&mut buffer).unwrap(), 0, "its end stays");
    }
}
