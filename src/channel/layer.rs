//! The layer between a connection and its socket: what is written is sealed, what comes is opened.
//!
//! Nothing counts as written before the socket has taken the last byte of the record that it is in. So the queue of the
//! connection holds it until then, and all that the connection knows about output that waits is true here too: a write
//! that is told `WouldBlock` comes again with the same bytes, which are sealed already.

use std::{
    cell::Cell,
    fmt,
    io::{self, ErrorKind, IoSlice},
    mem,
    rc::Rc,
};

use crate::{
    system::transport::{Stirred, Transport},
    tls::{
        TlsInfo,
        scratch::Scratch,
        session::{Plaintext, RECORD_BYTES, RECORD_PLAINTEXT, Session},
    },
};

/// One end of TLS on a socket that is handed to each call. What is called for every message is not to be inlined: the way of
/// those who have no layer would become longer.
pub(crate) struct Layer {
    session: Box<dyn Session>,
    scratch: Rc<Scratch>,
    /// None where nothing is, as in most that are idle: many are.
    left: Option<Box<Left>>,
    input: Input,
    output: Output,
    /// A write has failed: an end that is read behind that is not the peer's.
    fault_below: Option<ErrorKind>,
    /// The socket's own end was read.
    is_ended_below: bool,
    /// The last read was one of the socket, and that has brought less than it had room for.
    was_short: bool,
    /// A turn was over before the socket was empty.
    has_more: bool,
    /// The handshake is over, and who has wanted it was told so.
    has_agreed: bool,
    stirred: Stirred,
    /// How many bytes of records there were to be sent since the last look, less what was written.
    overhead: isize,
    ledger: Cell<Ledger>,
}

/// What one call leaves for the next.
#[derive(Debug, Default)]
struct Left {
    /// The beginning of what a record holds, or a message of the handshake.
    incoming: Vec<u8>,
    /// What was opened, and had no room in the reader's buffer.
    plaintext: Buffered,
    /// What was sealed, and the socket has not taken.
    outgoing: Buffered,
    /// How much of what is written next is among it: a write that was told `WouldBlock` had it sealed.
    sealed: usize,
}

/// What the peer has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    /// close_notify has come.
    Closed,
    /// And the reader was told so, behind everything before it.
    Ended,
    /// The reader was told of an end, but it was only the socket's.
    Truncated,
    /// What came is no TLS; what came before it is still to be read.
    Faulty(ErrorKind),
    /// And the reader was told so.
    Failed,
}

/// What we have to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Open,
    /// close_notify is sealed, if there is to be one, and may not be sent yet.
    Closing,
    /// FIN is sent too.
    Closed,
}

/// What there is to know about the bytes that are not acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Ledger {
    /// Bytes of plaintext that were sent since all was seen to be acknowledged.
    given: usize,
    /// The most that one record has held of it.
    largest: u16,
    /// Bytes of records behind it that hold none.
    behind: u32,
}

/// Bytes in use from some point on.
#[derive(Debug, Default)]
struct Buffered {
    bytes: Vec<u8>,
    used: usize,
}

/// Room for what is left of a record, or of a message of the handshake (64 KiB at most, in rustls), and a read behind it.
const SCRATCH_BYTES: usize = 160 << 10;

/// What is read at once.
const READ_BYTES: usize = 64 << 10;

/// What is sealed at once: it waits here if the socket does not take it.
const SEAL_BYTES: usize = 4 * RECORD_PLAINTEXT;

/// What is read in one go where there is no plaintext in it: after that it is somebody else's turn.
const EMPTY_READ_BYTES: usize = 64 << 10;

impl Layer {
    /// The end that begins has its first words ready.
    pub(crate) fn new(session: Box<dyn Session>, scratch: &Rc<Scratch>) -> io::Result<Self> {
        let mut layer = Self {
            session,
            scratch: Rc::clone(scratch),
            left: None,
            input: Input::Open,
            output: Output::Open,
            fault_below: None,
            is_ended_below: false,
            was_short: false,
            has_more: false,
            has_agreed: false,
            stirred: Stirred::default(),
            overhead: 0,
            ledger: Cell::default(),
        };
        layer.open(&mut [], &mut [])?;
        Ok(layer)
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        !self.has_agreed && self.session.is_handshaking()
    }

    /// See [`Transport::handshake`].
    #[inline(never)]
    pub(crate) fn handshake(&mut self, socket: &mut impl Transport) -> io::Result<bool> {
        // What the peer has to say comes first, whatever becomes of this.
        let _ = self.flush(socket);
        let mut read = 0;
        self.has_more = false;
        while self.is_handshaking() {
            if read >= EMPTY_READ_BYTES {
                self.has_more = true;
                return Ok(false);
            }
            match self.fill(socket, &mut []) {
                Ok(n) => read += n.came,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // If it cannot be told anything, there is nothing to wait for.
                    return match self.flush(socket) {
                        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                        Ok(()) | Err(_) => Ok(false),
                    };
                }
                Err(error) => return Err(error),
            }
        }
        self.has_agreed = true;
        Ok(true)
    }

    #[inline(never)]
    pub(crate) fn read(&mut self, socket: &mut impl Transport, buffer: &mut [u8]) -> io::Result<usize> {
        self.has_more = false;
        if self.is_handshaking() && !self.has_failed() {
            // Who has begun it is told first when it is over.
            self.has_more |= self.handshake(socket)?;
            return Err(ErrorKind::WouldBlock.into());
        }
        // An event may have come since the socket was last read.
        self.was_short = false;
        if let Some(left) = &mut self.left {
            let n = left.plaintext.read(buffer);
            if n > 0 {
                self.trim();
                return Ok(n);
            }
        }
        let mut read = 0;
        loop {
            match self.input {
                Input::Open => {}
                Input::Closed => {
                    self.input = Input::Ended;
                    return Ok(0);
                }
                Input::Faulty(kind) => {
                    self.input = Input::Failed;
                    return Err(kind.into());
                }
                Input::Ended | Input::Truncated | Input::Failed => return self.read_below(socket, buffer),
            }
            if read >= EMPTY_READ_BYTES {
                self.has_more = true;
                return Err(ErrorKind::WouldBlock.into());
            }
            match self.fill(socket, buffer)? {
                Filled { came: 0, .. } => {
                    self.input = Input::Truncated;
                    return Ok(0);
                }
                Filled { plaintext: 0, came } => read += came,
                Filled { plaintext, .. } => return Ok(plaintext),
            }
        }
    }

    /// The stream has ended, and the socket has not: what still comes means nothing.
    fn read_below(&mut self, socket: &mut impl Transport, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_ended_below {
            return Ok(0);
        }
        let n = socket.read(buffer)?;
        self.is_ended_below = n == 0;
        Ok(n)
    }

    /// Reads once, and opens what came.
    fn fill(&mut self, socket: &mut impl Transport, buffer: &mut [u8]) -> io::Result<Filled> {
        let scratch = Rc::clone(&self.scratch);
        let mut bytes = scratch.incoming.borrow_mut();
        if bytes.is_empty() {
            *bytes = vec![0; SCRATCH_BYTES];
        }
        let left = self.left_incoming();
        let held = left.len();
        bytes[..held].copy_from_slice(left);
        // A reader with little room still gets the whole of a record.
        let room = buffer.len().clamp(RECORD_BYTES, READ_BYTES).min(bytes.len() - held);
        if room == 0 {
            self.input = Input::Failed;
            return Err(ErrorKind::InvalidData.into());
        }
        let came = loop {
            match socket.read(&mut bytes[held..held + room]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.was_short = came < room;
        self.stirred.received |= came > 0;
        if came == 0 {
            self.is_ended_below = true;
            if let Some(fault) = self.fault_below {
                return Err(fault.into());
            }
            if self.is_handshaking() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            return Ok(Filled { came, plaintext: 0 });
        }
        let opened = self.open(&mut bytes[..held + came], buffer);
        let is_answered = matches!(opened, Ok(n) if n > 0 || self.has_plaintext());
        if !is_answered || self.has_failed() || self.is_handshaking() {
            // After a fault it is what tells the peer. That it cannot be told is no reason not to read what it has sent.
            let _ = self.flush(socket);
        } // Otherwise it goes with the answer, or at the end of the turn.
        Ok(Filled { came, plaintext: opened? })
    }

    /// Opens the records in `bytes`, and keeps what is left. Returns how much of the buffer is filled.
    fn open(&mut self, bytes: &mut [u8], buffer: &mut [u8]) -> io::Result<usize> {
        let mut outgoing = self.take_outgoing();
        let before = outgoing.bytes.len();
        let mut rest = Vec::new();
        let mut plaintext = Plaintext::new(buffer, &mut rest);
        let result = self.session.receive(bytes, &mut plaintext, &mut outgoing.bytes);
        let filled = plaintext.filled();
        if self.output != Output::Open {
            // Nothing follows our close_notify.
            outgoing.bytes.truncate(before);
        }
        self.note_behind(outgoing.bytes.len() - before);
        self.put_outgoing(outgoing);
        if self.session.has_peer_closed() && self.input == Input::Open {
            self.input = Input::Closed;
        }
        let left = match &result {
            Ok(used) if self.input == Input::Open => &bytes[*used..],
            Ok(_) | Err(_) => &[],
        };
        self.keep(left, rest);
        match result {
            // What came before it is still good.
            Err(error) if filled > 0 || self.has_plaintext() => {
                log::debug!("TLS: {error}");
                self.input = Input::Faulty(error.kind());
                Ok(filled)
            }
            Err(error) => {
                self.input = Input::Failed;
                Err(error)
            }
            Ok(_) => Ok(filled),
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.input, Input::Faulty(_) | Input::Failed)
    }

    /// Seals what is written, unless that has happened, and sends it.
    #[inline(never)]
    pub(crate) fn write(&mut self, socket: &mut impl Transport, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let is_handshaking = self.is_handshaking();
        if is_handshaking
            || self.fault_below.is_some()
            || self.left.as_ref().is_some_and(|left| left.sealed > 0)
        {
            self.flush(socket)?;
        }
        if is_handshaking {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.output != Output::Open {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.has_failed() {
            return Err(ErrorKind::InvalidData.into());
        }
        let (sealed, n) = match self.left.as_mut().filter(|left| left.sealed > 0) {
            None => {
                let n = self.seal_and_send(socket, slices)?;
                (n, n)
            }
            Some(left) => {
                let sealed = left.sealed;
                let n = sealed.min(slices.iter().map(|slice| slice.len()).sum());
                left.sealed -= n;
                self.trim();
                (sealed, n)
            }
        };
        self.overhead = self.overhead.saturating_sub_unsigned(n);
        let record = sealed.min(RECORD_PLAINTEXT);
        let mut ledger = self.ledger.get();
        ledger.given += n;
        ledger.largest = ledger.largest.max(u16::try_from(record).unwrap_or(u16::MAX));
        ledger.behind = 0;
        self.ledger.set(ledger);
        Ok(n)
    }

    /// What nobody has written, and waits, goes with it: the answer to a client's first words with the tickets for its next
    /// visit.
    fn seal_and_send(&mut self, socket: &mut impl Transport, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut outgoing = self.take_outgoing();
        let before = outgoing.bytes.len();
        let sealed = self.seal(slices, &mut outgoing.bytes);
        self.overhead = self.overhead.saturating_add_unsigned(outgoing.bytes.len() - before);
        let sent = self.send(socket, outgoing);
        let n = sealed?;
        if sent.is_err() {
            self.left.get_or_insert_default().sealed = n;
        }
        sent.map(|()| n)
    }

    /// Seals the first of it. Returns how much.
    fn seal(&mut self, slices: &[IoSlice<'_>], outgoing: &mut Vec<u8>) -> io::Result<usize> {
        let incoming = self.left.as_mut().map_or(&mut [][..], |left| &mut left.incoming);
        let mut slices = slices.iter().filter(|slice| !slice.is_empty()).peekable();
        let Some(first) = slices.next() else { return Ok(0) };
        if first.len() >= RECORD_PLAINTEXT || slices.peek().is_none() {
            let n = first.len().min(SEAL_BYTES);
            self.session.seal(incoming, &first[..n], outgoing)?;
            return Ok(n);
        }
        // One record is better than several.
        let mut gathered = self.scratch.gathered.borrow_mut();
        gathered.clear();
        for slice in std::iter::once(first).chain(slices) {
            let n = slice.len().min(SEAL_BYTES - gathered.len());
            gathered.extend_from_slice(&slice[..n]);
        }
        self.session.seal(incoming, &gathered, outgoing)?;
        Ok(gathered.len())
    }

    /// Sends what is sealed.
    pub(crate) fn flush(&mut self, socket: &mut impl Transport) -> io::Result<()> {
        match self.fault_below {
            Some(fault) => Err(fault.into()),
            None if self.has_output() => self.send_what_waits(socket),
            None => Ok(()),
        }
    }

    #[inline(never)]
    fn send_what_waits(&mut self, socket: &mut impl Transport) -> io::Result<()> {
        let outgoing = self.take_outgoing();
        let result = self.send(socket, outgoing);
        self.trim();
        result
    }

    /// Sends what was taken to be sent, and puts back what the socket does not take.
    fn send(&mut self, socket: &mut impl Transport, mut outgoing: Buffered) -> io::Result<()> {
        let before = outgoing.used;
        let result = outgoing.send(socket);
        self.stirred.sent |= outgoing.used > before;
        if let Err(error) = &result
            && error.kind() != ErrorKind::WouldBlock
        {
            self.fault_below = Some(error.kind());
        }
        self.put_outgoing(outgoing);
        result
    }

    /// See [`Transport::take_stirred`].
    pub(crate) fn take_stirred(&mut self) -> Stirred {
        mem::take(&mut self.stirred)
    }

    /// See [`Transport::unsent`].
    pub(crate) fn unsent(&self) -> usize {
        self.waiting()
    }

    /// See [`Transport::take_overhead`].
    pub(crate) fn take_overhead(&mut self) -> isize {
        mem::take(&mut self.overhead)
    }

    pub(crate) fn has_output(&self) -> bool {
        self.waiting() > 0
    }

    /// How many sealed bytes the socket has not taken.
    fn waiting(&self) -> usize {
        self.left.as_ref().map_or(0, |left| left.outgoing.bytes().len())
    }

    pub(crate) const fn has_input(&self) -> bool {
        self.has_more
    }

    pub(crate) fn is_open_below(&self) -> bool {
        matches!(self.input, Input::Ended | Input::Failed) && !self.is_ended_below
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.input == Input::Truncated
    }

    /// After a handshake that has failed there is nothing to be closed cleanly: the peer gets what says so, and FIN. A fault behind a
    /// handshake is no end that is clean.
    #[inline(never)]
    pub(crate) fn shutdown_write(&mut self, socket: &mut impl Transport) -> io::Result<()> {
        if self.has_failed() && self.has_agreed {
            return Err(ErrorKind::InvalidData.into());
        }
        if self.output == Output::Open {
            self.output = Output::Closing;
            if !self.has_failed() && !self.is_handshaking() {
                let mut outgoing = self.take_outgoing();
                let before = outgoing.bytes.len();
                let incoming = self.left.as_mut().map_or(&mut [][..], |left| &mut left.incoming);
                self.session.close(incoming, &mut outgoing.bytes);
                self.note_behind(outgoing.bytes.len() - before);
                self.put_outgoing(outgoing);
            }
        }
        self.flush(socket)?;
        self.output = Output::Closed;
        socket.shutdown_write()
    }

    /// See [`Transport::short_read_drains`].
    pub(crate) fn short_read_drains(&self) -> bool {
        self.was_short && !self.has_more && !self.has_plaintext() && self.input == Input::Open
    }

    pub(crate) fn unacknowledged(&self, socket: &impl Transport) -> Option<usize> {
        let below = socket.unacknowledged();
        let all = below.unwrap_or(0) + self.waiting();
        if all == 0 {
            self.ledger.take();
            return below;
        }
        Some(all)
    }

    /// Of a record of which a byte is not acknowledged, none is. What waits here is still in the queue of the connection.
    pub(crate) fn undelivered(&self, unacknowledged: usize) -> usize {
        let Ledger { given, largest, behind } = self.ledger.get();
        // What waits here may be among what is behind, or what is behind it.
        let sealed = unacknowledged.saturating_sub(self.waiting().max(behind as usize));
        if sealed == 0 { 0 } else { given.min(sealed + usize::from(largest)) }
    }

    pub(crate) fn info(&self) -> Option<TlsInfo> {
        if self.is_handshaking() { None } else { Some(self.session.info()) }
    }

    fn note_behind(&mut self, bytes: usize) {
        self.overhead = self.overhead.saturating_add_unsigned(bytes);
        let mut ledger = self.ledger.get();
        ledger.behind = ledger.behind.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.ledger.set(ledger);
    }

    /// Whether something was opened that the reader had no room for.
    fn has_plaintext(&self) -> bool {
        self.left.as_ref().is_some_and(|left| !left.plaintext.is_empty())
    }

    fn left_incoming(&self) -> &[u8] {
        self.left.as_ref().map_or(&[], |left| &left.incoming)
    }

    /// Keeps what was not dealt with: `incoming` bytes, and opened ones behind those that are kept already.
    fn keep(&mut self, incoming: &[u8], opened: Vec<u8>) {
        if incoming.is_empty() && opened.is_empty() && self.left.is_none() {
            return;
        }
        let left = self.left.get_or_insert_default();
        left.incoming.clear();
        left.incoming.extend_from_slice(incoming);
        if left.plaintext.is_empty() {
            left.plaintext = Buffered { bytes: opened, used: 0 };
        } else {
            left.plaintext.bytes.extend(opened);
        }
        self.trim();
    }

    /// Frees what has nothing in it.
    fn trim(&mut self) {
        let Some(left) = &mut self.left else { return };
        let Left { incoming, plaintext, outgoing, sealed } = &**left;
        if incoming.is_empty() && plaintext.is_empty() && outgoing.is_empty() && *sealed == 0 {
            self.left = None;
        }
    }

    /// What waits to be sent, or nothing, in memory that all share: to be put back.
    fn take_outgoing(&mut self) -> Buffered {
        match &mut self.left {
            Some(left) if !left.outgoing.is_empty() => mem::take(&mut left.outgoing),
            Some(_) | None => Buffered { bytes: self.scratch.outgoing.take(), used: 0 },
        }
    }

    /// The next who has something to send needs no memory of its own.
    fn put_outgoing(&mut self, mut outgoing: Buffered) {
        if !outgoing.is_empty() {
            self.left.get_or_insert_default().outgoing = outgoing;
            return;
        }
        outgoing.bytes.clear();
        self.scratch.outgoing.replace(outgoing.bytes);
    }
}

/// What a read has brought.
struct Filled {
    /// Bytes of records; none at the end.
    came: usize,
    /// Bytes in the reader's buffer.
    plaintext: usize,
}

impl Buffered {
    fn bytes(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// Sends it.
    fn send(&mut self, socket: &mut impl Transport) -> io::Result<()> {
        while !self.is_empty() {
            match socket.write(self.bytes()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.used += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands out the first of it.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let n = buffer.len().min(self.bytes.len() - self.used);
        buffer[..n].copy_from_slice(&self.bytes[self.used..][..n]);
        self.used += n;
        if self.is_empty() {
            *self = Self::default();
        }
        n
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("input", &self.input)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}
