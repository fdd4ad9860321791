//! The client's end of TLS, without cryptography.

use std::{io::ErrorKind, mem};

use crate::tls::{
    TlsInfo,
    session::{Plaintext, Session},
    toy::{ToySession, ToyTls},
};

/// One end of a connection over TLS, which the test plays.
#[derive(Debug)]
pub(super) struct Secure {
    session: ToySession,
    /// The beginning of a record.
    incoming: Vec<u8>,
    /// What is to be sealed when both have agreed.
    waiting: Vec<u8>,
    /// Records that are to be sent.
    outgoing: Vec<u8>,
    has_closed: bool,
    /// The server has said that it will not go on.
    has_failed: bool,
}

impl Secure {
    pub(super) fn client(toy: ToyTls) -> Self {
        Self::new(ToySession::client(toy))
    }

    pub(super) fn server(toy: ToyTls) -> Self {
        Self::new(ToySession::server(toy))
    }

    fn new(session: ToySession) -> Self {
        let mut secure = Self {
            session,
            incoming: Vec::new(),
            waiting: Vec::new(),
            outgoing: Vec::new(),
            has_closed: false,
            has_failed: false,
        };
        secure.open(&[]);
        secure
    }

    /// What was in the records that are complete by now.
    ///
    /// # Panics
    ///
    /// If they are no TLS.
    pub(super) fn open(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (mut plaintext, mut outgoing) = (Vec::new(), Vec::new());
        if self.has_failed {
            return plaintext;
        }
        self.incoming.extend(bytes);
        let mut room = Plaintext::new(&mut [], &mut plaintext);
        match self.session.receive(&mut self.incoming, &mut room, &mut outgoing) {
            Ok(used) => drop(self.incoming.drain(..used)),
            Err(error) => {
                let is_alert = error.kind() == ErrorKind::InvalidData && outgoing.is_empty();
                assert!(is_alert, "what the server has sent is no TLS of this kind: {error}");
                self.has_failed = true;
            }
        }
        if !self.has_closed {
            self.outgoing.append(&mut outgoing);
        }
        if self.is_agreed() && !self.waiting.is_empty() {
            let waiting = mem::take(&mut self.waiting);
            self.write(&waiting);
        }
        plaintext
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        assert!(!self.has_closed, "this client has sent close_notify, it cannot send any more");
        if self.is_agreed() {
            self.session.seal(&mut [], bytes, &mut self.outgoing).expect("the toy's keys last for ever");
        } else {
            self.waiting.extend(bytes);
        }
    }

    pub(super) fn close(&mut self) {
        if self.is_agreed() && !mem::replace(&mut self.has_closed, true) {
            self.session.close(&mut [], &mut self.outgoing);
        }
    }

    pub(super) fn take_outgoing(&mut self) -> Vec<u8> {
        mem::take(&mut self.outgoing)
    }

    pub(super) fn is_agreed(&self) -> bool {
        !self.session.is_handshaking()
    }

    pub(super) fn has_close_notify(&self) -> bool {
        self.session.has_peer_closed()
    }

    pub(super) fn info(&self) -> Option<TlsInfo> {
        self.is_agreed().then(|| self.session.info())
    }
}
