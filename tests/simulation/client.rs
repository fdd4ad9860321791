//! The clients: what they do is decided by the seed.

use std::{rc::Rc, time::Duration};

use super::{
    kernel::{
        Acks, Kernel, Rearm,
        socket::{Attempt, SharedSocket},
    },
    secure::{Breach, Secure, TlsEnd},
};

/// What a client is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Manner {
    /// Sends, half-closes, reads to the end, closes.
    Proper,
    /// The same, but reads only after it has sent everything or can send no more.
    LateReader,
    /// Ends only when everything that it sent has come back.
    Waiting,
    /// Sends a part, resets.
    Resetter,
    /// Closes without reading what comes.
    Careless,
    /// Sends as much as it can and never reads.
    NeverReads,
    /// Sends a part and then nothing more, not even FIN; reads.
    Silent,
    /// Reads, and sends for ever.
    Endless,
}

pub const MANNERS: [Manner; 8] = [
    Manner::Proper,
    Manner::LateReader,
    Manner::Waiting,
    Manner::Resetter,
    Manner::Careless,
    Manner::NeverReads,
    Manner::Silent,
    Manner::Endless,
];

/// How the server's end looked to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    Open,
    Fin,
    /// FIN, over TLS, and no close_notify before it.
    Cut,
    Reset,
}

/// How long the server's kernel goes on sending to a host that does not answer: about `net.ipv4.tcp_retries2`.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(900);

/// Bytes that are for ever to a client of a schedule, beyond those that it wants to send.
const FOR_EVER: u64 = 5000;

/// Marks what a protocol says beside the echo.
const ASIDE: u8 = 0x80;

/// The `n`th byte that a protocol says beside the echo.
pub fn aside(n: u64) -> u8 {
    ASIDE | n.to_le_bytes()[0]
}

#[derive(Debug)]
pub struct Client {
    pub manner: Manner,
    pub socket: SharedSocket,
    pub to_send: u64,
    pub sent: u64,
    pub received: u64,
    /// Bytes that are no echo: see [`aside`].
    pub asides: u64,
    pub seen: Seen,
    /// It has closed its socket.
    pub gone: bool,
    /// It has sent FIN.
    pub finished: bool,
    /// It does not end yet.
    pub hesitates: bool,
    /// Its end of TLS, if it speaks it.
    pub secure: Option<Secure>,
    key: u64,
    /// Whose stream comes back: its own, or that of the one that it is relayed with.
    expected: u64,
}

impl Client {
    pub fn new(manner: Manner, socket: SharedSocket, to_send: u64, key: u64) -> Self {
        Self {
            manner,
            socket,
            to_send,
            sent: 0,
            received: 0,
            asides: 0,
            seen: Seen::Open,
            gone: false,
            finished: false,
            hesitates: false,
            secure: None,
            key,
            expected: key,
        }
    }

    /// What this one sends comes to another, and what that one sends to this.
    pub fn relay_with(&mut self, other: &mut Self) {
        (self.expected, other.expected) = (other.key, self.key);
    }

    /// Whether what `other` sends comes to this one.
    pub const fn expects(&self, other: &Self) -> bool {
        self.expected == other.key
    }

    /// The byte at this place of a stream: one of 7 bits.
    fn byte(key: u64, at: u64) -> u8 {
        let mixed = (at ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed.to_le_bytes()[7] ^ mixed.to_le_bytes()[3]) & 0x7f
    }

    /// False if it is known that [`act`](Self::act) would do nothing.
    pub fn may_act(&self, kernel: &Kernel) -> bool {
        let socket = self.socket.borrow();
        if socket.has_vanished {
            return false;
        }
        if kernel.nature.acks == Acks::Late && socket.ackable() > 0 {
            return true;
        }
        let is_reset = socket.reset_by_server || socket.reset_by_client;
        let has_something_to_read = !socket.outbound.is_empty() || socket.outbound_fin || is_reset;
        let has_all_sent = self.sent >= self.to_send;
        let can_seal = self.secure.as_ref().is_none_or(|secure| secure.to_send() > 0 || secure.is_agreed());
        let can_send = !self.finished && can_seal && (has_all_sent || socket.closed || socket.room_in() > 0);
        let is_waiting = self.seen == Seen::Open && !(self.wants_to_read() && has_something_to_read);
        !self.gone && (socket.attempt == Attempt::Pending || can_send || !is_waiting)
    }

    /// Does the next thing. True if it did anything.
    pub fn act(&mut self, kernel: &Kernel, calm: bool) -> Result<bool, String> {
        let rearm = kernel.nature.rearm;
        if self.is_out_of_reach(kernel, calm) {
            return Ok(false);
        }
        let has_acknowledged = self.acknowledge(kernel, calm);
        Ok(self.act_itself(kernel, calm, rearm)? || has_acknowledged)
    }

    /// What its program does.
    fn act_itself(&mut self, kernel: &Kernel, calm: bool, rearm: Rearm) -> Result<bool, String> {
        if self.gone || !self.is_connected(kernel, calm) {
            return Ok(false);
        }
        let read = if self.wants_to_read() { self.read(kernel, calm)? } else { false };
        if self.seen != Seen::Open && self.manner != Manner::NeverReads {
            return Ok(self.leave(rearm) || read);
        }
        let sent =
            if self.secure.is_some() { self.send_records(kernel, calm) } else { self.send(kernel, calm) };
        Ok((!self.gone && self.end(kernel)) || sent || read)
    }

    /// Whether its host is gone, for ever. The server's kernel gives it up in the end.
    fn is_out_of_reach(&self, kernel: &Kernel, calm: bool) -> bool {
        let mut socket = self.socket.borrow_mut();
        if kernel.nature.may_vanish && !calm && kernel.choices.happens(1, 250) {
            socket.has_vanished = true;
        }
        let unanswered = kernel.now.saturating_duration_since(socket.last_acked);
        let is_waiting = socket.unacked() > 0 && !socket.closed && !socket.reset_by_client;
        if socket.has_vanished && is_waiting && unanswered >= GIVEN_UP_AFTER {
            socket.give_up(kernel.nature.rearm);
        }
        socket.has_vanished
    }

    /// What its system does by itself. True if it did anything.
    fn acknowledge(&self, kernel: &Kernel, calm: bool) -> bool {
        let mut socket = self.socket.borrow_mut();
        if kernel.nature.acks != Acks::Late {
            return false;
        }
        if !calm && kernel.choices.happens(1, 30) {
            // The server's kernel takes more, though there is no more room in the client's.
            socket.outbound_capacity += kernel.choices.usize(1..20);
            if socket.attempt == Attempt::Made {
                socket.edge_write(kernel.nature.rearm);
            }
        }
        let ackable = socket.ackable();
        let n = if calm { ackable } else { kernel.choices.u64(..=ackable) };
        if socket.acknowledge(n, kernel.now) && kernel.nature.wakes_at_last_ack {
            socket.edge_read(kernel.nature.rearm);
        }
        n > 0
    }

    /// One that the server connects to takes its time, and refuses or stays silent if that is its manner.
    fn is_connected(&mut self, kernel: &Kernel, calm: bool) -> bool {
        let (now, rearm) = (kernel.now, kernel.nature.rearm);
        let mut socket = self.socket.borrow_mut();
        if socket.attempt == Attempt::Pending && !socket.closed && (calm || kernel.choices.soon(2)) {
            match self.manner {
                Manner::Resetter => {
                    socket.answer(false, now, rearm);
                    self.gone = true;
                    self.seen = Seen::Reset;
                }
                Manner::Silent => {}
                _ => socket.answer(true, now, rearm),
            }
        }
        socket.attempt == Attempt::Made
    }

    fn wants_to_read(&self) -> bool {
        if self.secure.as_ref().is_some_and(|secure| !secure.is_agreed()) {
            return true;
        }
        match self.manner {
            Manner::Proper | Manner::Waiting | Manner::Silent | Manner::Endless | Manner::Resetter => true,
            Manner::LateReader => {
                let socket = self.socket.borrow();
                self.finished || socket.closed || socket.room_in() == 0
            }
            Manner::Careless | Manner::NeverReads => false,
        }
    }

    fn read(&mut self, kernel: &Kernel, calm: bool) -> Result<bool, String> {
        if self.seen != Seen::Open {
            return Ok(false);
        }
        let socket = Rc::clone(&self.socket);
        let mut socket = socket.borrow_mut();
        if socket.outbound.is_empty() {
            self.seen = if socket.reset_by_server || socket.reset_by_client {
                Seen::Reset
            } else if socket.outbound_fin && self.secure.as_ref().is_some_and(|tls| !tls.has_close_notify) {
                Seen::Cut
            } else if socket.outbound_fin {
                Seen::Fin
            } else {
                return Ok(false);
            };
            return Ok(true);
        }
        let available = socket.outbound.len();
        let n = if calm { available } else { kernel.choices.usize(1..=available) };
        let bytes: Vec<u8> = socket.outbound.drain(..n).collect();
        let bytes = match &mut self.secure {
            Some(secure) => secure.open(bytes)?,
            None => bytes,
        };
        for byte in bytes {
            self.take_in(byte)?;
        }
        if !socket.closed {
            socket.edge_write(kernel.nature.rearm);
        }
        if kernel.acknowledges_at_once() {
            let ackable = socket.ackable();
            if socket.acknowledge(ackable, kernel.now) && kernel.nature.wakes_at_last_ack {
                socket.edge_read(kernel.nature.rearm);
            }
        }
        Ok(true)
    }

    fn take_in(&mut self, byte: u8) -> Result<(), String> {
        if byte & ASIDE != 0 {
            if byte != aside(self.asides) {
                return Err(format!("aside {} came wrong", self.asides));
            }
            self.asides += 1;
            return Ok(());
        }
        if byte != Self::byte(self.expected, self.received) {
            return Err(format!("byte {} came back wrong", self.received));
        }
        self.received += 1;
        if self.expected == self.key && self.received > self.sent {
            return Err("more came back than was sent".to_owned());
        }
        Ok(())
    }

    /// Seals something, or sends some of what is sealed.
    fn send_records(&mut self, kernel: &Kernel, calm: bool) -> bool {
        let Some(mut secure) = self.secure.take() else { return false };
        let has_acted = !self.finished && self.send_records_of(&mut secure, kernel, calm);
        self.secure = Some(secure);
        has_acted
    }

    fn send_records_of(&mut self, secure: &mut Secure, kernel: &Kernel, calm: bool) -> bool {
        let (choices, rearm) = (&kernel.choices, kernel.nature.rearm);
        let mut has_acted = false;
        if let Some(breach) = secure.breach() {
            let mut socket = self.socket.borrow_mut();
            match breach {
                Breach::Fin => {
                    socket.inbound_fin = true;
                    if !socket.closed {
                        socket.edge_read(rearm);
                    }
                }
                Breach::Reset => {
                    socket.reset(rearm);
                    self.gone = true;
                }
                Breach::Silence | Breach::Garbage | Breach::Flood | Breach::Injection => {}
            }
            self.finished = matches!(breach, Breach::Fin | Breach::Silence | Breach::Reset);
            return true;
        }
        let limit = if self.sends_for_ever() { self.to_send + FOR_EVER } else { self.to_send };
        if secure.may_seal() && self.sent < limit {
            if secure.manner.changes_keys && choices.happens(1, 4) {
                secure.update_key(choices.bool());
            }
            let most = (limit - self.sent).min(100);
            let n = if calm { most } else { choices.u64(1..=most) };
            let bytes: Vec<u8> = (self.sent..self.sent + n).map(|at| Self::byte(self.key, at)).collect();
            secure.seal(&bytes);
            self.sent += n;
            has_acted = true;
        }
        let socket = Rc::clone(&self.socket);
        let mut socket = socket.borrow_mut();
        let n = secure.to_send();
        if n > 0 && socket.closed {
            let had_output = !socket.outbound.is_empty();
            if !socket.reset_by_server {
                socket.reset_by_server = true;
                socket.outbound.clear();
            }
            return had_output || has_acted;
        }
        let most = n.min(socket.room_in());
        if most == 0 {
            return has_acted;
        }
        let n = if calm { most } else { choices.usize(1..=most) };
        socket.inbound.extend(secure.take(n));
        socket.edge_read(rearm);
        true
    }

    fn send(&mut self, kernel: &Kernel, calm: bool) -> bool {
        let limit = if self.sends_for_ever() { self.to_send + FOR_EVER } else { self.to_send };
        if self.finished || self.sent >= limit {
            return false;
        }
        let socket = Rc::clone(&self.socket);
        let mut socket = socket.borrow_mut();
        if socket.closed {
            // Whatever is sent to a socket that is closed is answered with a reset.
            let had_output = !socket.outbound.is_empty();
            if !socket.reset_by_server {
                socket.reset_by_server = true;
                socket.outbound.clear();
            }
            return had_output;
        }
        let room = socket.room_in();
        let most = usize::try_from(limit - self.sent).unwrap_or(usize::MAX).min(room);
        if most == 0 {
            return false;
        }
        let n = if calm { most } else { kernel.choices.usize(1..=most) };
        for _ in 0..n {
            let byte = Self::byte(self.key, self.sent);
            socket.inbound.push_back(byte);
            self.sent += 1;
        }
        socket.edge_read(kernel.nature.rearm);
        true
    }

    fn sends_for_ever(&self) -> bool {
        matches!(self.manner, Manner::NeverReads | Manner::Endless)
    }

    /// Once everything is sent: ends in its manner.
    fn end(&mut self, kernel: &Kernel) -> bool {
        let rearm = kernel.nature.rearm;
        if self.sent < self.to_send || self.finished || self.hesitates {
            return false;
        }
        match self.manner {
            Manner::Waiting if self.received < self.sent => false,
            Manner::Proper | Manner::LateReader | Manner::Waiting => {
                if let Some(secure) = &mut self.secure {
                    if !secure.is_agreed() || !secure.is_flushed() || secure.is_refused {
                        return false;
                    }
                    match secure.manner.end {
                        TlsEnd::CloseNotify | TlsEnd::CloseNotifyAndFin if !secure.has_closed => {
                            secure.close();
                            return true;
                        }
                        TlsEnd::CloseNotify => {
                            self.finished = true;
                            return true;
                        }
                        TlsEnd::CloseNotifyAndFin | TlsEnd::Fin => {}
                    }
                }
                let mut socket = self.socket.borrow_mut();
                socket.inbound_fin = true;
                if !socket.closed {
                    socket.edge_read(rearm);
                }
                self.finished = true;
                true
            }
            Manner::Resetter => {
                if kernel.choices.soon(4) {
                    self.socket.borrow_mut().reset(rearm);
                    self.gone = true;
                }
                true
            }
            Manner::Careless => self.leave(rearm),
            Manner::NeverReads | Manner::Silent | Manner::Endless => false,
        }
    }

    /// Closes its socket: FIN, or a reset if there is something it has not read.
    fn leave(&mut self, rearm: Rearm) -> bool {
        let mut socket = self.socket.borrow_mut();
        self.gone = true;
        socket.client_closed = true;
        if socket.closed {
            return true;
        }
        if socket.outbound.is_empty() {
            if let Some(secure) = &mut self.secure
                && secure.is_agreed()
                && secure.manner.end != TlsEnd::Fin
                && !socket.inbound_fin
                && !secure.has_broken
            {
                if !secure.has_closed {
                    secure.close();
                }
                let left = secure.to_send();
                socket.inbound.extend(secure.take(left));
            }
            socket.inbound_fin = true;
            socket.edge_read(rearm);
        } else {
            socket.reset(rearm);
        }
        true
    }
}
