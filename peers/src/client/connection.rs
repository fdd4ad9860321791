//! One connection of the client.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    time::Instant,
};

use mio::event::Event;

use crate::client::{
    group::{Group, Reading, Sending, Tally},
    pattern::Pattern,
    stream::Stream,
    tls::Received,
};

/// What a connection receives in one turn, and sends, at most.
pub(super) const TURN_BYTES: usize = 128 << 10;

/// What a connection discards in one turn, at most. It takes less time than [`TURN_BYTES`] with their copy and comparison.
pub(super) const DISCARD_BYTES: usize = 1 << 20;

/// The distance between the beginnings of two streams in the pattern.
const STRIDE: usize = 7919;

pub(super) struct Connection {
    stream: Stream,
    group: Group,
    reading: Reading,
    tally: usize,
    /// Where its bytes begin in the pattern.
    start: usize,
    /// Bytes that may be sent, that are, and that came back.
    allowed: u64,
    sent: u64,
    received: u64,
    /// When each message under way was begun.
    begun: VecDeque<Instant>,
    readable: bool,
    writable: bool,
    queued: bool,
}

/// What came back in one turn.
pub(super) struct Turn {
    pub(super) received: u64,
    /// Messages that are complete now.
    pub(super) complete: usize,
    pub(super) now: Instant,
}

impl Connection {
    pub(super) const fn new(
        stream: Stream,
        group: Group,
        reading: Reading,
        tally: usize,
        index: usize,
    ) -> Self {
        Self {
            stream,
            group,
            reading,
            tally,
            start: index * STRIDE,
            allowed: 0,
            sent: 0,
            received: 0,
            begun: VecDeque::new(),
            readable: false,
            writable: true,
            queued: false,
        }
    }

    pub(super) const fn sending(&self) -> Sending {
        self.group.sending
    }

    pub(super) const fn tally(&self) -> usize {
        self.tally
    }

    /// Whether a turn of it takes long.
    pub(super) const fn is_bulk(&self) -> bool {
        self.group.size >= TURN_BYTES
    }

    /// Lets it send so many messages more, and says how many bytes that is.
    pub(super) fn allow(&mut self, messages: usize, now: Instant) -> u64 {
        let bytes = (messages * self.group.size) as u64;
        self.allowed += bytes;
        self.begun.extend(std::iter::repeat_n(now, messages));
        bytes
    }

    pub(super) fn notice(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_error();
        self.writable |= event.is_writable();
    }

    /// Whether it was not in the queue of those that may go on; it is from now on.
    pub(super) const fn become_queued(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// Whether it can go on without an event.
    pub(super) const fn has_work(&self) -> bool {
        self.readable || (self.writable && self.sent < self.allowed)
    }

    /// Receives once and compares. To be called when it has left the queue.
    pub(super) fn receive(
        &mut self,
        pattern: &Pattern,
        buffer: &mut [u8],
        tally: &mut Tally,
    ) -> io::Result<Turn> {
        self.queued = false;
        let n = if self.readable { self.read(pattern, buffer)? } else { 0 };
        self.received += n as u64;
        let now = Instant::now();
        // Messages of one group are equally long, so the bytes under way say how many messages are.
        let under_way = (self.allowed - self.received).div_ceil(self.group.size as u64);
        let complete = self.begun.len() - usize::try_from(under_way).expect("no more than were begun");
        for begun in self.begun.drain(..complete) {
            let latency = u64::try_from((now - begun).as_nanos()).unwrap_or(u64::MAX);
            tally.latencies.push(latency);
        }
        tally.messages += complete as u64;
        tally.bytes += n as u64;
        Ok(Turn { received: n as u64, complete, now })
    }

    fn read(&mut self, pattern: &Pattern, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match self.reading {
            Reading::Verify => self.stream.receive(buffer),
            Reading::Discard => self.stream.discard(buffer),
        };
        match result {
            Ok(Received { has_ended: true, .. }) => Err(io::Error::other("the server ended a connection")),
            Ok(Received { bytes: n, is_drained, .. }) => {
                self.readable = !is_drained;
                let is_ours = self.received + n as u64 <= self.sent
                    && match self.reading {
                        Reading::Verify => buffer[..n] == *pattern.piece(self.start, self.received, n),
                        Reading::Discard => true,
                    };
                if is_ours { Ok(n) } else { Err(io::Error::other("a wrong byte came back")) }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends once what may be sent.
    pub(super) fn send(&mut self, pattern: &Pattern) -> io::Result<()> {
        if !self.writable {
            return Ok(());
        }
        self.writable = self.stream.flush()?;
        if !self.writable || self.sent == self.allowed {
            return Ok(());
        }
        let length =
            usize::try_from(self.allowed - self.sent).map_or(TURN_BYTES, |left| left.min(TURN_BYTES));
        match self.stream.send(pattern.piece(self.start, self.sent, length)) {
            Ok(n) => {
                self.writable = n == length;
                self.sent += n as u64;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
