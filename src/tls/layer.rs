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

use super::{
    TlsInfo,
    scratch::Scratch,
    session::{Plaintext, RECORD_BYTES, RECORD_PLAINTEXT, Session},
};
use crate::system::transport::{Stirred, Transport};

/// One end of TLS on a socket that is handed to each call. What is called for every message is not to be inlined: the way of
/// those who have no layer would become longer.
pub(crate) struct Layer {
    session: Box<dyn Session>,
    scratch: Rc<Scratch>,
    /// The beginning of what a record holds, or a message of the handshake.
    incoming: Vec<u8>,
    /// What was opened, and had no room in the reader's buffer.
    plaintext: Buffered,
    /// What was sealed, and the socket has not taken.
    outgoing: Buffered,
    /// How much of what is written next is among it: a write that was told `WouldBlock` had it sealed.
    sealed: usize,
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
    largest: usize,
    /// Bytes of records behind it that hold none.
    behind: usize,
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
const SEAL_BYTES: usize = 2 * RECORD_PLAINTEXT;

/// What is read in one go where there is no plaintext in it: after that it is somebody else's turn.
const EMPTY_READ_BYTES: usize = 64 << 10;

impl Layer {
    /// The end that begins has its first words ready.
    pub(crate) fn new(session: Box<dyn Session>, scratch: &Rc<Scratch>) -> io::Result<Self> {
        let mut layer = Self {
            session,
            scratch: Rc::clone(scratch),
            incoming: Vec::new(),
            plaintext: Buffered::default(),
            outgoing: Buffered::default(),
            sealed: 0,
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
        self.session.is_handshaking()
    }

    /// See [`Transport::handshake`].
    #[inline(never)]
    pub(crate) fn handshake(&mut self, socket: &mut impl Transport) -> io::Result<bool> {
        // What the peer has to say comes first, whatever becomes of this.
        let _ = self.flush(socket);
        let mut read = 0;
        self.has_more = false;
        while self.session.is_handshaking() {
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
        if self.session.is_handshaking() && !self.has_failed() {
            // Who has begun it is told first when it is over.
            self.has_more |= self.handshake(socket)?;
            return Err(ErrorKind::WouldBlock.into());
        }
        self.has_more = false;
        // An event may have come since the socket was last read.
        self.was_short = false;
        let n = self.plaintext.read(buffer);
        if n > 0 {
            return Ok(n);
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
        let held = self.incoming.len();
        bytes[..held].copy_from_slice(&self.incoming);
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
            if self.session.is_handshaking() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            return Ok(Filled { came, plaintext: 0 });
        }
        let opened = self.open(&mut bytes[..held + came], buffer);
        // After a fault it is what tells the peer. That it cannot be told is no reason not to read what it has sent.
        let _ = self.flush(socket);
        Ok(Filled { came, plaintext: opened? })
    }

    /// Opens the records in `bytes`, and keeps what is left. Returns how much of the buffer is filled.
    fn open(&mut self, bytes: &mut [u8], buffer: &mut [u8]) -> io::Result<usize> {
        self.take_scratch();
        let before = self.outgoing.bytes.len();
        let mut plaintext = Plaintext::new(buffer, &mut self.plaintext.bytes);
        let result = self.session.receive(bytes, &mut plaintext, &mut self.outgoing.bytes);
        let filled = plaintext.filled();
        if self.output != Output::Open {
            // Nothing follows our close_notify.
            self.outgoing.bytes.truncate(before);
        }
        self.note_behind(self.outgoing.bytes.len() - before);
        if self.outgoing.is_empty() {
            self.give_scratch_back();
        }
        if self.session.has_peer_closed() && self.input == Input::Open {
            self.input = Input::Closed;
        }
        let left = match &result {
            Ok(used) if self.input == Input::Open => &bytes[*used..],
            Ok(_) | Err(_) => &[],
        };
        if left.is_empty() {
            self.incoming = Vec::new();
        } else {
            self.incoming.clear();
            self.incoming.extend_from_slice(left);
        }
        match result {
            // What came before it is still good.
            Err(error) if filled > 0 || !self.plaintext.is_empty() => {
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
        self.flush(socket)?;
        if self.session.is_handshaking() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.output != Output::Open {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.has_failed() {
            return Err(ErrorKind::InvalidData.into());
        }
        if self.sealed == 0 {
            self.take_scratch();
            let before = self.outgoing.bytes.len();
            self.sealed = self.seal(slices)?;
            self.overhead = self.overhead.saturating_add_unsigned(self.outgoing.bytes.len() - before);
            self.flush(socket)?;
        }
        let offered = slices.iter().map(|slice| slice.len()).sum();
        let n = self.sealed.min(offered);
        let record = self.sealed.min(RECORD_PLAINTEXT);
        self.sealed -= n;
        self.overhead = self.overhead.saturating_sub_unsigned(n);
        let mut ledger = self.ledger.get();
        ledger.given += n;
        ledger.largest = ledger.largest.max(record);
        ledger.behind = 0;
        self.ledger.set(ledger);
        Ok(n)
    }

    /// Seals the first of it. Returns how much.
    fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut slices = slices.iter().filter(|slice| !slice.is_empty()).peekable();
        let Some(first) = slices.next() else { return Ok(0) };
        if first.len() >= RECORD_PLAINTEXT || slices.peek().is_none() {
            let n = first.len().min(SEAL_BYTES);
            self.session.seal(&mut self.incoming, &first[..n], &mut self.outgoing.bytes)?;
            return Ok(n);
        }
        // One record is better than several.
        let mut gathered = self.scratch.gathered.borrow_mut();
        gathered.clear();
        for slice in std::iter::once(first).chain(slices) {
            let n = slice.len().min(SEAL_BYTES - gathered.len());
            gathered.extend_from_slice(&slice[..n]);
        }
        self.session.seal(&mut self.incoming, &gathered, &mut self.outgoing.bytes)?;
        Ok(gathered.len())
    }

    /// Sends what is sealed.
    #[inline(never)]
    pub(crate) fn flush(&mut self, socket: &mut impl Transport) -> io::Result<()> {
        if let Some(fault) = self.fault_below {
            return Err(fault.into());
        }
        while !self.outgoing.is_empty() {
            match socket.write(self.outgoing.bytes()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.outgoing.used += n;
                    self.stirred.sent = true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        self.fault_below = Some(error.kind());
                    }
                    return Err(error);
                }
            }
        }
        self.give_scratch_back();
        Ok(())
    }

    /// See [`Transport::take_stirred`].
    pub(crate) fn take_stirred(&mut self) -> Stirred {
        mem::take(&mut self.stirred)
    }

    /// See [`Transport::unsent`].
    pub(crate) fn unsent(&self) -> usize {
        self.outgoing.bytes().len()
    }

    /// See [`Transport::take_overhead`].
    pub(crate) fn take_overhead(&mut self) -> isize {
        mem::take(&mut self.overhead)
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.outgoing.is_empty()
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
            if !self.has_failed() && !self.session.is_handshaking() {
                self.take_scratch();
                let before = self.outgoing.bytes.len();
                self.session.close(&mut self.incoming, &mut self.outgoing.bytes);
                self.note_behind(self.outgoing.bytes.len() - before);
            }
        }
        self.flush(socket)?;
        self.output = Output::Closed;
        socket.shutdown_write()
    }

    /// See [`Transport::short_read_drains`].
    pub(crate) fn short_read_drains(&self) -> bool {
        self.was_short && !self.has_more && self.plaintext.is_empty() && self.input == Input::Open
    }

    pub(crate) fn unacknowledged(&self, socket: &impl Transport) -> Option<usize> {
        let unsent = self.outgoing.bytes().len();
        let below = socket.unacknowledged();
        let all = below.unwrap_or(0) + unsent;
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
        let sealed = unacknowledged.saturating_sub(self.outgoing.bytes().len().max(behind));
        if sealed == 0 { 0 } else { given.min(sealed + largest) }
    }

    pub(crate) fn info(&self) -> Option<TlsInfo> {
        if self.session.is_handshaking() { None } else { Some(self.session.info()) }
    }

    fn note_behind(&mut self, bytes: usize) {
        self.overhead = self.overhead.saturating_add_unsigned(bytes);
        let mut ledger = self.ledger.get();
        ledger.behind += bytes;
        self.ledger.set(ledger);
    }

    fn take_scratch(&mut self) {
        if self.outgoing.bytes.capacity() == 0 {
            self.outgoing.bytes = self.scratch.outgoing.take();
        }
    }

    /// The next who has something to send needs no memory of its own.
    fn give_scratch_back(&mut self) {
        if self.outgoing.bytes.capacity() > 0 {
            let mut bytes = mem::take(&mut self.outgoing).bytes;
            bytes.clear();
            self.scratch.outgoing.replace(bytes);
        }
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
