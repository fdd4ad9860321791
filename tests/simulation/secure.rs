//! TLS in the simulation: the toy's, from the client's end, and what is seen of it on the wire.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use echoloop::{
    TlsAcceptor, TlsConnector,
    internals::{Plaintext, RecordKind, Session, TOY_HEADER, ToySession, toy_record},
    testing::ToyTls,
};

use super::choices::Choices;

/// What a client asks for before TLS begins, where the listener speaks none.
pub const REQUEST: &[u8] = b"TLS";

/// What it is answered.
pub const REPLY: &[u8] = b"OK";

/// How a client says that it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsEnd {
    /// By close_notify, and FIN when its socket is closed.
    CloseNotify,
    /// By both.
    CloseNotifyAndFin,
    /// By FIN alone: its stream is truncated.
    Fin,
}

/// What a client does that no other does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breach {
    /// It sends something that is no TLS.
    Garbage,
    /// FIN, wherever it is.
    Fin,
    /// Nothing more.
    Silence,
    Reset,
    /// Key updates without end.
    Flood,
    /// Plaintext right behind its wish for TLS.
    Injection,
}

/// What a client is like over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsManner {
    pub end: TlsEnd,
    /// And after how many bytes on the wire it does so.
    pub breach: Option<(Breach, usize)>,
    pub changes_keys: bool,
}

impl TlsManner {
    /// One without a fault.
    pub const PROPER: Self = Self { end: TlsEnd::CloseNotifyAndFin, breach: None, changes_keys: false };

    pub fn new(choices: &Choices) -> Self {
        use Breach as B;
        let breaches = [B::Garbage, B::Fin, B::Silence, B::Reset, B::Flood, B::Injection];
        let ends = [TlsEnd::CloseNotify, TlsEnd::CloseNotifyAndFin, TlsEnd::Fin];
        let breach = choices.of(&breaches).filter(|_| choices.u8(..4) == 0);
        let after = if choices.bool() { choices.usize(..60) } else { choices.usize(..2000) };
        Self {
            end: choices.of(&ends).expect("there are some"),
            breach: breach.map(|breach| (breach, after)),
            changes_keys: choices.u8(..3) == 0,
        }
    }

    fn breaks_with(&self, breach: Breach) -> bool {
        self.breach.is_some_and(|(it, _)| it == breach)
    }
}

/// A client's end.
#[derive(Debug)]
pub struct Secure {
    session: ToySession,
    pub manner: TlsManner,
    /// Sealed, and not on the wire.
    outgoing: VecDeque<u8>,
    /// The beginning of a record.
    incoming: Vec<u8>,
    /// Bytes of the reply to its wish for TLS that have not come.
    reply_left: usize,
    has_begun: bool,
    /// Its close_notify is sealed.
    pub has_closed: bool,
    /// The server's has come.
    pub has_close_notify: bool,
    /// The server has refused what it has sent, with an alert.
    pub is_refused: bool,
    /// Bytes that are on the wire.
    sent: usize,
    pub has_broken: bool,
}

impl Secure {
    /// The end of a client, or of a server that the loop connects to.
    pub fn new(is_server: bool, record_bytes: usize, manner: TlsManner) -> Self {
        let toy = ToyTls::new().record_bytes(record_bytes);
        let session = if is_server {
            ToySession::server(toy)
        } else {
            ToySession::client(toy.server_name("simulated").alpn(["echo"]))
        };
        let mut secure = Self {
            session,
            manner,
            outgoing: VecDeque::new(),
            incoming: Vec::new(),
            reply_left: 0,
            has_begun: false,
            has_closed: false,
            has_close_notify: false,
            is_refused: false,
            sent: 0,
            has_broken: false,
        };
        secure.begin();
        secure
    }

    /// The same of one that asks for it first.
    pub fn starttls(record_bytes: usize, manner: TlsManner) -> Self {
        let mut secure = Self::new(false, record_bytes, manner);
        secure.outgoing = REQUEST.iter().copied().collect();
        if manner.breaks_with(Breach::Injection) {
            secure.outgoing.extend(b"EVIL");
        }
        secure.session = ToySession::client(ToyTls::new().record_bytes(record_bytes));
        (secure.reply_left, secure.has_begun) = (REPLY.len(), false);
        secure
    }

    fn begin(&mut self) {
        self.has_begun = true;
        let mut outgoing = Vec::new();
        let mut rest = Vec::new();
        let begun = self.session.receive(&mut [], &mut Plaintext::new(&mut [], &mut rest), &mut outgoing);
        begun.expect("nothing has come");
        self.outgoing.extend(outgoing);
    }

    /// Whether it does what its manner as a client is.
    pub const fn is_proper(&self) -> bool {
        self.manner.breach.is_none()
    }

    /// Whether it has done so.
    pub fn has_broken_by(&self, breach: Breach) -> bool {
        self.has_broken && self.manner.breaks_with(breach)
    }

    /// Whether it may be refused.
    pub fn breaks_the_protocol(&self) -> bool {
        use Breach as B;
        [B::Garbage, B::Flood, B::Injection].into_iter().any(|breach| self.manner.breaks_with(breach))
    }

    pub fn is_agreed(&self) -> bool {
        self.has_begun && !self.session.is_handshaking()
    }

    /// Whether it may say more.
    pub fn may_seal(&self) -> bool {
        let has_sent_garbage = self.has_broken && self.manner.breaks_with(Breach::Garbage);
        self.is_agreed() && self.is_flushed() && !self.has_closed && !self.is_refused && !has_sent_garbage
    }

    /// Whether everything that it has to say is on the wire.
    pub fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Whether its close_notify is on the wire.
    pub fn has_said_so(&self) -> bool {
        self.has_closed && self.outgoing.is_empty()
    }

    /// What it does next that no other does, if it is time.
    pub fn breach(&mut self) -> Option<Breach> {
        let (breach, after) = self.manner.breach.filter(|_| !self.has_broken)?;
        if self.sent < after || self.has_closed || breach == Breach::Injection {
            return None;
        }
        if breach == Breach::Flood && !(self.is_agreed() && self.is_flushed() && !self.has_closed) {
            return None;
        }
        self.has_broken = true;
        match breach {
            Breach::Garbage => self.outgoing.extend(b"GET / HTTP/1.1\r\n\r\n"),
            Breach::Flood => (0..40).for_each(|_| self.update_key(true)),
            Breach::Fin | Breach::Silence | Breach::Reset | Breach::Injection => {}
        }
        Some(breach)
    }

    /// Bytes that may go to the wire: those before it breaks the protocol, if it will.
    pub fn to_send(&self) -> usize {
        let until = match self.manner.breach {
            Some((Breach::Garbage | Breach::Fin | Breach::Silence | Breach::Reset, after))
                if !self.has_broken =>
            {
                after.saturating_sub(self.sent)
            }
            _ => usize::MAX,
        };
        self.outgoing.len().min(until)
    }

    pub fn take(&mut self, n: usize) -> impl Iterator<Item = u8> {
        self.sent += n;
        self.outgoing.drain(..n)
    }

    pub fn seal(&mut self, plaintext: &[u8]) {
        let mut outgoing = Vec::new();
        self.session.seal(&mut [], plaintext, &mut outgoing).expect("the toy's keys last for ever");
        self.outgoing.extend(outgoing);
    }

    pub fn update_key(&mut self, wants_answer: bool) {
        let mut outgoing = Vec::new();
        self.session.update_key(wants_answer, &mut outgoing);
        self.outgoing.extend(outgoing);
    }

    pub fn close(&mut self) {
        self.has_closed = true;
        let mut outgoing = Vec::new();
        self.session.close(&mut [], &mut outgoing);
        self.outgoing.extend(outgoing);
    }

    /// Opens what has come.
    pub fn open(&mut self, mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        if self.is_refused {
            return Ok(Vec::new());
        }
        let reply = self.reply_left.min(bytes.len());
        self.reply_left -= reply;
        bytes.drain(..reply);
        if self.reply_left > 0 {
            return Ok(Vec::new());
        }
        if !self.has_begun {
            self.begin();
        }
        self.incoming.append(&mut bytes);
        let (mut outgoing, mut plaintext) = (Vec::new(), Vec::new());
        let opened = self.session.receive(
            &mut self.incoming,
            &mut Plaintext::new(&mut [], &mut plaintext),
            &mut outgoing,
        );
        if !self.has_closed {
            self.outgoing.extend(outgoing);
        }
        match opened {
            Ok(used) => drop(self.incoming.drain(..used)),
            Err(_) if self.breaks_the_protocol() => self.is_refused = true,
            Err(error) => return Err(format!("what the server has sent is no TLS: {error}")),
        }
        self.has_close_notify = self.session.has_peer_closed();
        Ok(plaintext)
    }
}

/// What the server has sent, as it is on the wire.
#[derive(Debug, Default)]
pub struct Meter {
    /// Bytes that come before the first record.
    plain_left: usize,
    plain: u64,
    /// The header of a record.
    header: Vec<u8>,
    /// What is left of the record.
    left: usize,
    at: u64,
    /// Where records with plaintext end, and how much there is of it by then.
    ends: Vec<(u64, u64)>,
    /// Plaintext of all records that have begun.
    pub begun: u64,
    pub has_closed: bool,
    pub has_agreed: bool,
}

impl Meter {
    pub fn new(plain: usize) -> Self {
        Self { plain_left: plain, ..Self::default() }
    }

    pub fn note(&mut self, bytes: &[u8]) -> Result<(), String> {
        for &byte in bytes {
            self.note_byte(byte).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn note_byte(&mut self, byte: u8) -> io::Result<()> {
        self.at += 1;
        if self.plain_left > 0 {
            self.plain_left -= 1;
            self.plain += 1;
            return Ok(());
        }
        if self.has_closed {
            return Err(io::Error::other("something follows its close_notify"));
        }
        if self.left > 0 {
            self.left -= 1;
        } else {
            self.header.push(byte);
            if self.header.len() < TOY_HEADER {
                return Ok(());
            }
            let (kind, length) = toy_record(&self.header)?.expect("it is whole");
            self.left = length;
            match kind {
                RecordKind::Data => self.begun += length as u64,
                RecordKind::CloseNotify => self.has_closed = true,
                // What is told behind a handshake ends like one that has failed, unless there was more.
                RecordKind::Alert if self.begun == 0 => self.has_agreed = false,
                RecordKind::Ticket | RecordKind::Finished => self.has_agreed = true,
                _ => {}
            }
        }
        if self.left == 0 {
            self.header.clear();
            self.ends.push((self.at, self.begun));
        }
        Ok(())
    }

    /// Bytes that came before the first record.
    pub const fn plain(&self) -> u64 {
        self.plain
    }

    /// Plaintext in records of which this many bytes on the wire have the whole.
    pub fn whole(&self, wire: u64) -> u64 {
        let before = self.ends.partition_point(|&(end, _)| end <= wire);
        before.checked_sub(1).map_or(0, |last| self.ends[last].1)
    }
}

/// The server's sessions of a world.
#[derive(Clone, Debug, Default)]
pub struct Handshakes(Arc<Mutex<Worked>>);

/// What handshakes did in a turn.
#[derive(Debug, Default)]
struct Worked {
    now: Option<Instant>,
    timeout: Option<Duration>,
    sessions: u64,
    /// Those that went on with their handshake before its time was up.
    busy: Vec<u64>,
}

/// How many may in one turn.
const IN_TURN: usize = 4;

impl Handshakes {
    pub fn new(timeout: Option<Duration>) -> Self {
        Self(Arc::new(Mutex::new(Worked { timeout, ..Worked::default() })))
    }

    fn with<R>(&self, look: impl FnOnce(&mut Worked) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another turn begins.
    pub fn begin_turn(&self, now: Instant) -> Result<(), String> {
        self.with(|worked| {
            worked.now = Some(now);
            let busy = std::mem::take(&mut worked.busy).len();
            if busy > IN_TURN { Err(format!("{busy} handshakes went on in one turn")) } else { Ok(()) }
        })
    }

    fn session(&self, inner: ToySession) -> Box<dyn Session> {
        let (id, since) = self.with(|worked| {
            worked.sessions += 1;
            (worked.sessions, worked.now)
        });
        Box::new(Watched { inner, id, since, handshakes: self.clone() })
    }

    pub fn acceptor(&self, record_bytes: usize) -> TlsAcceptor {
        let handshakes = self.clone();
        TlsAcceptor::of_sessions(move || {
            let toy = ToyTls::new().alpn(["echo"]).record_bytes(record_bytes);
            Ok(handshakes.session(ToySession::server(toy)))
        })
    }

    pub fn connector(&self, record_bytes: usize) -> TlsConnector {
        let handshakes = self.clone();
        TlsConnector::of_sessions(move || {
            Ok(handshakes.session(ToySession::client(ToyTls::new().record_bytes(record_bytes))))
        })
    }
}

/// A session of the server's.
struct Watched {
    inner: ToySession,
    id: u64,
    since: Option<Instant>,
    handshakes: Handshakes,
}

impl Watched {
    fn note(&self) {
        self.handshakes.with(|worked| {
            let passed = worked.now.zip(self.since).map_or(Duration::ZERO, |(now, since)| now - since);
            let is_due = worked.timeout.is_some_and(|timeout| passed >= timeout);
            if !is_due && !worked.busy.contains(&self.id) {
                worked.busy.push(self.id);
            }
        });
    }
}

impl Session for Watched {
    fn receive(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut Plaintext<'_>,
        outgoing: &mut Vec<u8>,
    ) -> io::Result<usize> {
        if self.inner.is_handshaking() && !incoming.is_empty() {
            self.note();
        }
        self.inner.receive(incoming, plaintext, outgoing)
    }

    fn seal(&mut self, incoming: &mut [u8], plaintext: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        self.inner.seal(incoming, plaintext, outgoing)
    }

    fn close(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) {
        self.inner.close(incoming, outgoing);
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn has_peer_closed(&self) -> bool {
        self.inner.has_peer_closed()
    }

    fn info(&self) -> echoloop::TlsInfo {
        self.inner.info()
    }
}
