//! TLS, as the client speaks it: 1.3, by rustls with *ring*.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream as BlockingStream},
    sync::{Arc, Mutex, PoisonError},
};

use mio::net::TcpStream;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore,
    client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};

use crate::servers::tls::certificate::{Certificate, SERVER_NAME};

/// What is received at once, before it is opened.
pub(super) const RAW_BYTES: usize = 64 << 10;

/// The keys that new connections begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Each has its own.
    New,
    /// Each continues a session of an earlier one, as soon as there is one.
    Resumed,
}

/// For connections that trust the certificate that all peers show.
pub(crate) fn config(keys: Keys) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in Certificate::load()?.chain {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = match keys {
        Keys::New => Resumption::disabled(),
        Keys::Resumed => Resumption::store(Arc::new(Tickets::default())),
    };
    Ok(Arc::new(config))
}

/// A connection over TLS.
#[derive(Debug)]
pub(super) struct Secure {
    stream: TcpStream,
    session: ClientConnection,
}

/// What a connection has received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) bytes: usize,
    /// The socket was emptied: what comes later is a new event.
    pub(super) is_drained: bool,
    pub(super) has_ended: bool,
}

impl Secure {
    /// One that is being made: its handshake goes on with [`Secure::receive`].
    pub(super) fn connecting(stream: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Self> {
        Ok(Self { stream, session: session(config)? })
    }

    /// One whose handshake is over.
    pub(super) fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let mut stream = BlockingStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut session = session(config)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        stream.set_nonblocking(true)?;
        Ok(Self { stream: TcpStream::from_std(stream), session })
    }

    pub(super) const fn socket(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Receives once, by way of [`RAW_BYTES`] of `raw`. In `plaintext` there must be room for as much, and a record. What is to
    /// be sent in return is not sent yet.
    pub(super) fn receive(&mut self, raw: &mut [u8], plaintext: &mut [u8]) -> io::Result<Received> {
        let n = self.stream.read(&mut raw[..RAW_BYTES])?;
        let mut unopened = &raw[..n];
        if n == 0 {
            return Err(io::Error::other("the server ended a connection without close_notify"));
        }
        let (mut bytes, mut has_ended) = (0, false);
        while !unopened.is_empty() && !has_ended {
            self.session.read_tls(&mut unopened)?;
            let state = self.session.process_new_packets().map_err(io::Error::other)?;
            let came = state.plaintext_bytes_to_read();
            self.session.reader().read_exact(&mut plaintext[bytes..][..came])?;
            bytes += came;
            has_ended = state.peer_has_closed();
        }
        Ok(Received { bytes, is_drained: n < RAW_BYTES, has_ended })
    }

    /// Takes all of it, to be sent when the handshake is over.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.session.writer().write_all(bytes)
    }

    /// Sends everything, close_notify and FIN. False if it could not send everything.
    pub(super) fn end(&mut self) -> io::Result<bool> {
        self.session.send_close_notify();
        let sent = self.flush()?;
        if sent {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(sent)
    }

    /// Sends what can be sent. Whether that was all.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn session(config: &Arc<ClientConfig>) -> io::Result<ClientConnection> {
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    session.set_buffer_limit(None);
    Ok(session)
}

/// The tickets of the one server that there is: more than rustls keeps for each, for many connections at once. The newest
/// is used first, as a server that keeps sessions itself forgets the oldest.
#[derive(Debug, Default)]
struct Tickets(Mutex<Vec<Tls13ClientSessionValue>>);

impl ClientSessionStore for Tickets {
    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
}
