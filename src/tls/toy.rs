//! Sessions for tests: they have the shape of TLS 1.3, and keep no secret.
//!
//! A record is a kind, the length of what is in it, a checksum, and that, masked with a byte that depends on the number of
//! the record: one that is lost, comes twice, or in another order, breaks the protocol.
//!
//! ```text
//! client                       server
//! ClientHello      ─────────▶             name, ALPN
//!                  ◀─────────  ServerHello  ALPN, certificate
//! Finished         ─────────▶             certificate
//!                  ◀─────────  Ticket, Ticket
//! Data, KeyUpdate  ◀────────▶  Data, KeyUpdate
//! CloseNotify      ◀────────▶  CloseNotify
//! ```

use std::io::{self, ErrorKind};

use super::{
    TlsAcceptor, TlsConnector, TlsInfo,
    session::{Plaintext, RECORD_PLAINTEXT, Session},
};

/// TLS without cryptography, for tests: what both ends of it are like. Only those who speak it understand each other.
///
/// What the two agree on is seen in [`TlsInfo`]: the name of the server, the first protocol of the server's that the client
/// knows too, and certificates, which are any bytes. Where both name protocols and have none in common, the handshake fails.
///
/// ```
/// use echoloop::{CloseReason, Echo, testing::{Loop, ToyTls}};
///
/// let net = Loop::new(|_| Some(Echo));
/// let position = net.listen_tls(ToyTls::new().alpn(["h2"]));
/// let client = net.client().listener(position).tls(ToyTls::new().alpn(["http/1.1"])).connect();
/// assert_eq!(client.close_reason(), None, "it waits for the client's end");
/// client.end();
/// assert_eq!(client.close_reason(), Some(CloseReason::HandshakeFailed));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToyTls {
    server_name: Option<String>,
    alpn: Vec<Vec<u8>>,
    certificate: Option<Vec<u8>>,
    record_bytes: usize,
}

impl Default for ToyTls {
    fn default() -> Self {
        Self { server_name: None, alpn: Vec::new(), certificate: None, record_bytes: RECORD_PLAINTEXT }
    }
}

impl ToyTls {
    /// An end that names no protocols and has no certificate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The name of the server that a client wants (SNI).
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The protocols that it speaks, those first that it likes best (ALPN).
    #[must_use]
    pub fn alpn<A: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = A>) -> Self {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// The certificate that it shows.
    #[must_use]
    pub fn certificate(mut self, certificate: impl AsRef<[u8]>) -> Self {
        self.certificate = Some(certificate.as_ref().to_vec());
        self
    }

    /// How many bytes it puts into one record at most. Default 16 KiB.
    ///
    /// # Panics
    ///
    /// If it is 0, or more than that.
    #[must_use]
    pub fn record_bytes(mut self, bytes: usize) -> Self {
        assert!((1..=RECORD_PLAINTEXT).contains(&bytes), "records of {bytes} bytes");
        self.record_bytes = bytes;
        self
    }

    /// The server's end, for [`Context::start_tls`](crate::Context::start_tls).
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        let toy = self.clone();
        TlsAcceptor::of_sessions(move || Ok(Box::new(ToySession::server(toy.clone()))))
    }

    /// The client's end, for [`Context::connect_tls`](crate::Context::connect_tls) and
    /// [`Context::start_tls`](crate::Context::start_tls).
    #[must_use]
    pub fn connector(&self) -> TlsConnector {
        let toy = self.clone();
        TlsConnector::of_sessions(move || Ok(Box::new(ToySession::client(toy.clone()))))
    }
}

/// A client of the server of this name.
impl From<&str> for ToyTls {
    fn from(server_name: &str) -> Self {
        Self::new().server_name(server_name)
    }
}

impl From<ToyTls> for TlsAcceptor {
    fn from(toy: ToyTls) -> Self {
        toy.acceptor()
    }
}

/// One end of a toy's TLS.
#[derive(Debug)]
pub struct ToySession {
    toy: ToyTls,
    is_server: bool,
    stage: Stage,
    incoming: Direction,
    outgoing: Direction,
    /// Key updates that may still come before data does.
    updates_left: u32,
    has_peer_closed: bool,
    /// The peer has broken the protocol.
    is_broken: bool,
    info: TlsInfo,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// To be called for the first time, as a client.
    Begin,
    ClientHello,
    ServerHello,
    Finished,
    Agreed,
}

/// What the mask of the next record hangs on.
#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    records: u8,
    key: u8,
}

/// What a record is. Unlike in TLS, everyone can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they have the names that they have in TLS")]
#[repr(u8)]
pub enum RecordKind {
    ClientHello = 0xc0,
    ServerHello,
    Finished,
    Ticket,
    Data,
    KeyUpdate,
    Alert,
    CloseNotify,
}

impl RecordKind {
    const ALL: [Self; 8] = [
        Self::ClientHello,
        Self::ServerHello,
        Self::Finished,
        Self::Ticket,
        Self::Data,
        Self::KeyUpdate,
        Self::Alert,
        Self::CloseNotify,
    ];
}

/// What is before the bytes of a record.
pub const TOY_HEADER: usize = 4;

/// Key updates in a row that are put up with, as rustls does.
const UPDATES_MAX: u32 = 32;

/// What a server sends after the handshake.
const TICKETS: usize = 2;

/// The kind of the record that these bytes begin with, and the length of what is in it. `None` if there is none yet.
///
/// # Errors
///
/// `InvalidData` if they do not begin like a record.
pub fn toy_record(bytes: &[u8]) -> io::Result<Option<(RecordKind, usize)>> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let kind =
        RecordKind::ALL.into_iter().find(|&kind| kind as u8 == first).ok_or_else(|| broken("no record"))?;
    let Some(&[high, low]) = bytes.get(1..3) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > RECORD_PLAINTEXT {
        return Err(broken("a record that is too long"));
    }
    Ok(Some((kind, length)))
}

impl ToySession {
    /// The server's end.
    #[must_use]
    pub fn server(toy: ToyTls) -> Self {
        Self::new(toy, true, Stage::ClientHello)
    }

    /// The client's.
    #[must_use]
    pub fn client(toy: ToyTls) -> Self {
        Self::new(toy, false, Stage::Begin)
    }

    fn new(toy: ToyTls, is_server: bool, stage: Stage) -> Self {
        Self {
            toy,
            is_server,
            stage,
            incoming: Direction::default(),
            outgoing: Direction::default(),
            updates_left: UPDATES_MAX,
            has_peer_closed: false,
            is_broken: false,
            info: TlsInfo { version: "toy", ..TlsInfo::default() },
        }
    }

    /// Changes the key of what is sent from here on. The peer may be asked to do the same.
    pub fn update_key(&mut self, wants_answer: bool, outgoing: &mut Vec<u8>) {
        self.put(RecordKind::KeyUpdate, &[u8::from(wants_answer)], outgoing);
        self.outgoing.key = self.outgoing.key.wrapping_add(1);
    }

    /// Appends a record.
    fn put(&mut self, kind: RecordKind, bytes: &[u8], outgoing: &mut Vec<u8>) {
        let mask = self.outgoing.next(self.is_server);
        let length = u16::try_from(bytes.len()).expect("a record is short");
        let [high, low] = length.to_be_bytes();
        outgoing.extend([kind as u8, high, low, checksum(mask, kind, bytes)]);
        outgoing.extend(bytes.iter().map(|byte| byte ^ mask));
    }

    /// Deals with one record.
    fn take(
        &mut self,
        kind: RecordKind,
        bytes: &[u8],
        plaintext: &mut Plaintext<'_>,
        outgoing: &mut Vec<u8>,
    ) -> io::Result<()> {
        match (self.stage, kind) {
            (Stage::Agreed, RecordKind::Data) => {
                self.updates_left = UPDATES_MAX;
                plaintext.push(bytes);
            }
            (Stage::Agreed, RecordKind::KeyUpdate) => self.take_key_update(bytes, outgoing)?,
            (Stage::Agreed, RecordKind::Ticket) if !self.is_server => {}
            (Stage::ClientHello, RecordKind::ClientHello) => self.take_client_hello(bytes, outgoing)?,
            (Stage::ServerHello, RecordKind::ServerHello) => self.take_server_hello(bytes, outgoing)?,
            (Stage::Finished, RecordKind::Finished) => {
                self.info.peer_certificates = fields(bytes)?;
                self.stage = Stage::Agreed;
                for _ in 0..TICKETS {
                    self.put(RecordKind::Ticket, b"come back soon", outgoing);
                }
            }
            (_, RecordKind::CloseNotify) => self.has_peer_closed = true,
            (_, RecordKind::Alert) => return Err(io::Error::new(ErrorKind::InvalidData, Alerted)),
            (_, kind) => return Err(broken(format!("{kind:?} at the wrong time"))),
        }
        Ok(())
    }

    fn take_key_update(&mut self, bytes: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        self.updates_left = self.updates_left.checked_sub(1).ok_or_else(|| broken("too many key updates"))?;
        self.incoming.key = self.incoming.key.wrapping_add(1);
        if bytes == [1] {
            self.update_key(false, outgoing);
        }
        Ok(())
    }

    fn take_client_hello(&mut self, bytes: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        let mut fields = fields(bytes)?.into_iter();
        let name = fields.next().ok_or_else(|| broken("no name"))?;
        let name = String::from_utf8(name).map_err(|_| broken("a name that is no text"))?;
        self.info.server_name = Some(name).filter(|name| !name.is_empty());
        let offered: Vec<_> = fields.collect();
        self.info.alpn = self.toy.alpn.iter().find(|ours| offered.contains(ours)).cloned();
        if self.info.alpn.is_none() && !self.toy.alpn.is_empty() && !offered.is_empty() {
            return Err(broken("no protocol in common"));
        }
        let mut hello = Vec::new();
        put_field(self.info.alpn.as_deref().unwrap_or_default(), &mut hello);
        self.toy.certificate.iter().for_each(|certificate| put_field(certificate, &mut hello));
        self.put(RecordKind::ServerHello, &hello, outgoing);
        self.stage = Stage::Finished;
        Ok(())
    }

    fn take_server_hello(&mut self, bytes: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        let mut fields = fields(bytes)?.into_iter();
        self.info.alpn = fields.next().filter(|chosen| !chosen.is_empty());
        self.info.peer_certificates = fields.collect();
        let mut finished = Vec::new();
        self.toy.certificate.iter().for_each(|certificate| put_field(certificate, &mut finished));
        self.put(RecordKind::Finished, &finished, outgoing);
        self.stage = Stage::Agreed;
        Ok(())
    }

    fn begin(&mut self, outgoing: &mut Vec<u8>) {
        let mut hello = Vec::new();
        put_field(self.toy.server_name.as_deref().unwrap_or_default().as_bytes(), &mut hello);
        self.toy.alpn.iter().for_each(|protocol| put_field(protocol, &mut hello));
        self.put(RecordKind::ClientHello, &hello, outgoing);
        self.stage = Stage::ServerHello;
    }

    /// Takes the records that are complete. Returns how many bytes they had.
    fn take_all(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut Plaintext<'_>,
        outgoing: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let mut used = 0;
        while let Some((kind, length)) = toy_record(&incoming[used..])? {
            let all = used + TOY_HEADER + length;
            if self.has_peer_closed || incoming.len() < all {
                break;
            }
            let mask = self.incoming.next(!self.is_server);
            let (header, bytes) = incoming[used..all].split_at_mut(TOY_HEADER);
            bytes.iter_mut().for_each(|byte| *byte ^= mask);
            if header[3] != checksum(mask, kind, bytes) {
                return Err(broken("a record that was lost or changed"));
            }
            used = all;
            self.take(kind, bytes, plaintext, outgoing)?;
        }
        Ok(used)
    }
}

impl Session for ToySession {
    fn receive(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut Plaintext<'_>,
        outgoing: &mut Vec<u8>,
    ) -> io::Result<usize> {
        if self.is_broken {
            return Err(broken("it is broken already"));
        }
        if self.stage == Stage::Begin {
            self.begin(outgoing);
        }
        self.take_all(incoming, plaintext, outgoing).inspect_err(|error| {
            if !error.get_ref().is_some_and(|inner| inner.is::<Alerted>()) {
                self.put(RecordKind::Alert, b"!", outgoing);
            }
            self.is_broken = true;
        })
    }

    fn seal(&mut self, _: &mut [u8], plaintext: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        for piece in plaintext.chunks(self.toy.record_bytes) {
            self.put(RecordKind::Data, piece, outgoing);
        }
        Ok(())
    }

    fn close(&mut self, _: &mut [u8], outgoing: &mut Vec<u8>) {
        self.put(RecordKind::CloseNotify, &[], outgoing);
    }

    fn is_handshaking(&self) -> bool {
        self.stage != Stage::Agreed
    }

    fn has_peer_closed(&self) -> bool {
        self.has_peer_closed
    }

    fn info(&self) -> TlsInfo {
        self.info.clone()
    }
}

impl Direction {
    /// The mask of the next record.
    fn next(&mut self, is_from_server: bool) -> u8 {
        let mask = self.records.wrapping_mul(37) ^ self.key.wrapping_mul(101) ^ u8::from(is_from_server) << 7;
        self.records = self.records.wrapping_add(1);
        mask ^ 0x5a
    }
}

fn checksum(mask: u8, kind: RecordKind, bytes: &[u8]) -> u8 {
    let sum = bytes.iter().fold(kind as u8, |sum, byte| sum.rotate_left(3) ^ byte);
    sum.wrapping_add(mask)
}

fn put_field(bytes: &[u8], all: &mut Vec<u8>) {
    let length = u16::try_from(bytes.len()).expect("a field is short");
    all.extend(length.to_be_bytes());
    all.extend(bytes);
}

fn fields(mut bytes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (field, rest) = rest.split_at_checked(length).ok_or_else(|| broken("a field is cut"))?;
        all.push(field.to_vec());
        bytes = rest;
    }
    if bytes.is_empty() { Ok(all) } else { Err(broken("a length is cut")) }
}

fn broken(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// The peer says that the protocol was broken. There is no answer to that.
#[derive(Debug)]
struct Alerted;

impl std::fmt::Display for Alerted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the peer has sent an alert")
    }
}

impl std::error::Error for Alerted {}
