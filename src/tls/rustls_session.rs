//! Sessions of rustls: nothing else in the crate knows it.

use std::{
    cell::RefCell,
    io::{self, ErrorKind},
    rc::Rc,
    sync::Arc,
};

use rustls::{
    ClientConfig, HandshakeKind, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::ServerName,
    server::{Acceptor, ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus},
};

use super::{
    TlsInfo,
    session::{Plaintext, RECORD_PLAINTEXT, Session},
};

/// One end of TLS, by rustls.
pub(super) struct RustlsSession {
    end: End,
    has_peer_closed: bool,
}

enum End {
    /// The client's first words have not come as a whole. So many bytes of them were looked at.
    Accepting(Box<Acceptor>, usize, Arc<ServerConfig>),
    // Not in memory of its own: a session has one piece.
    Server(UnbufferedServerConnection, Option<Rc<str>>),
    Client(UnbufferedClientConnection),
}

/// Rustls makes of records what it has to say, in steps.
type Process<D> =
    for<'c, 'i> fn(&'c mut UnbufferedConnectionCommon<D>, &'i mut [u8]) -> UnbufferedStatus<'c, 'i, D>;

const SERVER: Process<ServerConnectionData> =
    UnbufferedConnectionCommon::<ServerConnectionData>::process_tls_records;
const CLIENT: Process<ClientConnectionData> =
    UnbufferedConnectionCommon::<ClientConnectionData>::process_tls_records;

/// What a record takes besides what is in it, at most, in any cipher suite of rustls.
const OVERHEAD: usize = 64;

impl RustlsSession {
    pub(super) fn server(config: Arc<ServerConfig>) -> Self {
        Self { end: End::Accepting(Box::default(), 0, config), has_peer_closed: false }
    }

    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let connection = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
        Ok(Self { end: End::Client(connection), has_peer_closed: false })
    }

    /// Looks whether the client has said which server it wants, which the unbuffered connection does not tell.
    fn accept(&mut self, incoming: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        let End::Accepting(acceptor, seen, config) = &mut self.end else { return Ok(()) };
        let mut unseen = &incoming[*seen..];
        while !unseen.is_empty() {
            if acceptor.read_tls(&mut unseen)? == 0 {
                break;
            }
        }
        *seen = incoming.len();
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(shared);
                let connection = UnbufferedServerConnection::new(Arc::clone(config)).map_err(invalid)?;
                self.end = End::Server(connection, name);
            }
            Err((error, mut alert)) => {
                while alert.write(outgoing)? > 0 {}
                return Err(invalid(error));
            }
        }
        Ok(())
    }
}

thread_local! {
    /// The server that the last client of this loop wanted.
    static LAST_NAME: RefCell<Rc<str>> = RefCell::new(Rc::from(""));
}

/// Most want the same server as the one before: its name is kept once for them.
fn shared(name: &str) -> Rc<str> {
    LAST_NAME.with_borrow_mut(|last| {
        if **last != *name {
            *last = Rc::from(name);
        }
        Rc::clone(last)
    })
}

impl Session for RustlsSession {
    fn receive(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut Plaintext<'_>,
        outgoing: &mut Vec<u8>,
    ) -> io::Result<usize> {
        self.accept(incoming, outgoing)?;
        let closed = &mut self.has_peer_closed;
        match &mut self.end {
            End::Accepting(..) => Ok(0),
            End::Server(connection, _) => receive(connection, SERVER, incoming, plaintext, outgoing, closed),
            End::Client(connection) => receive(connection, CLIENT, incoming, plaintext, outgoing, closed),
        }
    }

    fn seal(&mut self, incoming: &mut [u8], plaintext: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.end {
            End::Accepting(..) => Err(ErrorKind::NotConnected.into()),
            End::Server(connection, _) => seal(connection, SERVER, incoming, plaintext, outgoing),
            End::Client(connection) => seal(connection, CLIENT, incoming, plaintext, outgoing),
        }
    }

    fn close(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) {
        match &mut self.end {
            End::Accepting(..) => {}
            End::Server(connection, _) => close(connection, SERVER, incoming, outgoing),
            End::Client(connection) => close(connection, CLIENT, incoming, outgoing),
        }
    }

    fn is_handshaking(&self) -> bool {
        match &self.end {
            End::Accepting(..) => true,
            End::Server(connection, _) => connection.is_handshaking(),
            End::Client(connection) => connection.is_handshaking(),
        }
    }

    fn has_peer_closed(&self) -> bool {
        self.has_peer_closed
    }

    fn info(&self) -> TlsInfo {
        let (state, server_name) = match &self.end {
            End::Accepting(..) => return TlsInfo::default(),
            End::Server(connection, name) => (&***connection, name.as_deref()),
            End::Client(connection) => (&***connection, None),
        };
        TlsInfo {
            server_name: server_name.map(ToOwned::to_owned),
            alpn: state.alpn_protocol().map(ToOwned::to_owned),
            version: match state.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
                Some(_) | None => "TLS 1.3",
            },
            cipher_suite: state
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or_default(),
            peer_certificates: state
                .peer_certificates()
                .map(|chain| chain.iter().map(|certificate| certificate.to_vec()).collect())
                .unwrap_or_default(),
            is_resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// See [`Session::receive`].
fn receive<D>(
    connection: &mut UnbufferedConnectionCommon<D>,
    process: Process<D>,
    incoming: &mut [u8],
    plaintext: &mut Plaintext<'_>,
    outgoing: &mut Vec<u8>,
    has_peer_closed: &mut bool,
) -> io::Result<usize> {
    let mut used = 0;
    loop {
        let UnbufferedStatus { discard, state, .. } = process(connection, &mut incoming[used..]);
        used += discard;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(invalid)?;
                    plaintext.push(record.payload);
                    used += record.discard;
                }
                // Nothing is left to be looked at: the next look would only say so.
                if used == incoming.len() && !connection.wants_write() {
                    return Ok(used);
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => append(outgoing, 0, |room| data.encode(room))?,
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => *has_peer_closed = true,
            Ok(
                ConnectionState::BlockedHandshake
                | ConnectionState::WriteTraffic(_)
                | ConnectionState::Closed,
            ) => {
                return Ok(used);
            }
            // Early data is refused: it can be replayed.
            Ok(_) => return Err(ErrorKind::InvalidData.into()),
            Err(error) => {
                // What tells the peer. Nothing else is asked for after that.
                while connection.wants_write()
                    && let Ok(ConnectionState::EncodeTlsData(mut data)) =
                        process(connection, &mut incoming[used..]).state
                {
                    append(outgoing, 0, |room| data.encode(room))?;
                }
                return Err(invalid(error));
            }
        }
    }
}

/// See [`Session::seal`].
fn seal<D>(
    connection: &mut UnbufferedConnectionCommon<D>,
    process: Process<D>,
    incoming: &mut [u8],
    plaintext: &[u8],
    outgoing: &mut Vec<u8>,
) -> io::Result<()> {
    let records = plaintext.len().div_ceil(RECORD_PLAINTEXT);
    let room = plaintext.len() + records * OVERHEAD;
    write(connection, process, incoming, outgoing, |traffic, outgoing| {
        append(outgoing, room, |room| traffic.encrypt(plaintext, room))
    })
    .unwrap_or(Err(ErrorKind::NotConnected.into()))
}

/// See [`Session::close`].
fn close<D>(
    connection: &mut UnbufferedConnectionCommon<D>,
    process: Process<D>,
    incoming: &mut [u8],
    outgoing: &mut Vec<u8>,
) {
    let result = write(connection, process, incoming, outgoing, |traffic, outgoing| {
        append(outgoing, OVERHEAD, |room| traffic.queue_close_notify(room))
    });
    if let Some(Err(error)) = result {
        log::debug!("TLS: no close_notify: {error}");
    }
}

/// Calls `seal` when everything that comes before is in `outgoing`. `None` if nothing can be sealed. Rustls must see what it
/// has left of `incoming`: it knows places in it.
fn write<D, R>(
    connection: &mut UnbufferedConnectionCommon<D>,
    process: Process<D>,
    incoming: &mut [u8],
    outgoing: &mut Vec<u8>,
    seal: impl FnOnce(&mut rustls::unbuffered::WriteTraffic<'_, D>, &mut Vec<u8>) -> R,
) -> Option<R> {
    loop {
        match process(connection, incoming).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => return Some(seal(&mut traffic, outgoing)),
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                append(outgoing, 0, |room| data.encode(room)).ok()?
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => {}
            Ok(_) | Err(_) => return None,
        }
    }
}

/// Appends what `encode` makes, in so much room, or in as much as it asks for.
fn append<E: TooSmall>(
    outgoing: &mut Vec<u8>,
    mut room: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> io::Result<()> {
    let before = outgoing.len();
    loop {
        outgoing.resize(before + room, 0);
        match encode(&mut outgoing[before..]) {
            Ok(n) => {
                outgoing.truncate(before + n);
                return Ok(());
            }
            Err(error) => {
                let required = error.required().filter(|&required| required > room);
                outgoing.truncate(before);
                room = required.ok_or(ErrorKind::InvalidData)?;
            }
        }
    }
}

/// An error that may say how much room was needed.
trait TooSmall {
    fn required(&self) -> Option<usize>;
}

impl TooSmall for EncodeError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(error) => Some(error.required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl TooSmall for EncryptError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(error) => Some(error.required_size),
            Self::EncryptExhausted => None,
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
