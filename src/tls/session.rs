//! One end of TLS, without input or output of its own.
//!
//! This is all that the rest of the crate knows of it. Rustls is one implementation, in a module of its own; the test kit
//! and the simulator have one without cryptography.

use std::io;

use super::TlsInfo;

/// One end of a connection over TLS: it opens what has come and seals what is to be sent. It moves no bytes itself.
pub trait Session {
    /// Takes the records that are complete out of `incoming`, which is changed, and says how many bytes they had: what is
    /// left is the beginning of the next. What was in them goes to `plaintext`, what is to be sent in return behind
    /// `outgoing`. To be called once with nothing at the beginning of a handshake: one end begins.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the peer, or who pretends to be it, broke the protocol. What says so to the peer is in `outgoing`.
    /// There is nothing to be received any more.
    fn receive(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut Plaintext<'_>,
        outgoing: &mut Vec<u8>,
    ) -> io::Result<usize>;

    /// Seals `plaintext`, in records that go behind `outgoing`. The handshake is over. `incoming` is what the last `receive`
    /// has left.
    ///
    /// # Errors
    ///
    /// If so much was sent that the keys must not be used any more.
    fn seal(&mut self, incoming: &mut [u8], plaintext: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()>;

    /// The clean end of what is sent, close_notify, goes behind `outgoing`. Nothing is sealed after that. `incoming` is what
    /// the last `receive` has left.
    fn close(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>);

    /// Whether nothing can be sealed, or received, yet.
    fn is_handshaking(&self) -> bool;

    /// Whether the peer's close_notify has come.
    fn has_peer_closed(&self) -> bool;

    /// What the handshake has agreed on.
    fn info(&self) -> TlsInfo;
}

/// What one record holds at most (RFC 8446, section 5.1).
pub const RECORD_PLAINTEXT: usize = 1 << 14;

/// What it takes on the wire at most: RFC 5246, section 6.2.3, which allows more than RFC 8446 does.
pub const RECORD_BYTES: usize = RECORD_PLAINTEXT + 2048 + 5;

/// Where plaintext goes: into the reader's buffer, and what has no room there behind.
#[derive(Debug)]
pub struct Plaintext<'a> {
    buffer: &'a mut [u8],
    filled: usize,
    rest: &'a mut Vec<u8>,
}

impl<'a> Plaintext<'a> {
    /// Fills `buffer` first, then `rest`.
    pub const fn new(buffer: &'a mut [u8], rest: &'a mut Vec<u8>) -> Self {
        Self { buffer, filled: 0, rest }
    }

    /// Takes what was in a record.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = bytes.len().min(self.buffer.len() - self.filled);
        let (first, rest) = bytes.split_at(room);
        self.buffer[self.filled..][..room].copy_from_slice(first);
        self.filled += room;
        self.rest.extend_from_slice(rest);
    }

    /// How much of the buffer is filled.
    pub const fn filled(&self) -> usize {
        self.filled
    }
}
