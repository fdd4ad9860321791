//! The messages of one connection: what is still to be sent, what is in flight, and whether what comes back is
//! right.

use std::{collections::VecDeque, sync::Arc};

use super::pattern::{PIECE_MAX, Pattern, Position};
use crate::cli::bench::measure::tally::Start;

/// The messages of one connection, in both directions.
#[derive(Debug)]
pub(super) struct Messages {
    pattern: Arc<Pattern>,
    size: usize,
    send_position: Position,
    receive_position: Position,
    /// Messages that have begun and whose last byte did not come back yet.
    in_flight: VecDeque<Start>,
    /// How many bytes of them are not written to the connection yet.
    unsent: usize,
    /// How many bytes of the first of them came back.
    received: usize,
}

/// The echo is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrupt;

impl Messages {
    /// No messages yet. The label is that of the connection.
    pub(super) fn new(pattern: Arc<Pattern>, size: usize, label: u64) -> Self {
        let position = pattern.start_of(label);
        Self {
            pattern,
            size,
            send_position: position,
            receive_position: position,
            in_flight: VecDeque::new(),
            unsent: 0,
            received: 0,
        }
    }

    /// Begins another message.
    pub(super) fn begin(&mut self, start: Start) {
        self.in_flight.push_back(start);
        self.unsent += self.size;
    }

    /// The next bytes to send, at most [`PIECE_MAX`]; `None` if there are none.
    pub(super) fn next_piece(&mut self) -> Option<&[u8]> {
        if self.unsent == 0 {
            return None;
        }
        let length = self.unsent.min(PIECE_MAX);
        self.unsent -= length;
        Some(self.pattern.next(&mut self.send_position, length))
    }

    /// Forgets the messages of which nothing was sent.
    pub(super) fn forget_unsent(&mut self) {
        let whole = self.unsent / self.size;
        self.unsent -= whole * self.size;
        self.in_flight.truncate(self.in_flight.len() - whole);
    }

    /// The messages that did not come back.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = Start> {
        self.in_flight.iter().copied()
    }

    /// Whether every message that has begun was sent.
    pub(super) const fn all_sent(&self) -> bool {
        self.unsent == 0
    }

    /// Whether every message that has begun came back.
    pub(super) fn all_back(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Checks bytes that came back. Returns how many messages they complete; call
    /// [`take_completed`](Self::take_completed) for each.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<usize, Corrupt> {
        let owed = self.in_flight.len() * self.size - self.unsent - self.received;
        if bytes.len() > owed || !self.pattern.matches(&mut self.receive_position, bytes) {
            return Err(Corrupt);
        }
        let received = self.received + bytes.len();
        self.received = received % self.size;
        Ok(received / self.size)
    }

    /// Takes away the first message, which is complete.
    pub(super) fn take_completed(&mut self) -> Start {
        self.in_flight.pop_front().expect("a completed message had begun")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::clock;

    fn messages(size: usize) -> Messages {
        Messages::new(Arc::new(Pattern::new(1)), size, 5)
    }

    /// Sends all that there is to send.
    fn sent(messages: &mut Messages) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(piece) = messages.next_piece() {
            bytes.extend_from_slice(piece);
        }
        bytes
    }

    #[test]
    fn messages_are_complete_with_their_last_byte_however_they_are_cut() {
        for (size, cut) in [(10, 1), (10, 7), (10, 25), (100_000, 65_536)] {
            let mut messages = messages(size);
            let now = clock::now();
            (0..3).for_each(|_| messages.begin(Start::at(now)));
            let bytes = sent(&mut messages);
            assert_eq!(bytes.len(), 3 * size);
            let mut completed = 0;
            for piece in bytes.chunks(cut) {
                for _ in 0..messages.receive(piece).unwrap() {
                    assert_eq!(messages.take_completed(), Start::at(now));
                    completed += 1;
                }
            }
            assert_eq!(completed, 3, "size {size} in pieces of {cut}");
            assert!(messages.all_back() && messages.all_sent());
        }
    }

    #[test]
    fn wrong_bytes_and_more_than_was_sent_are_corrupt() {
        let mut wrong = messages(10);
        assert_eq!(wrong.receive(b"x"), Err(Corrupt), "nothing was sent");
        wrong.begin(Start::at(clock::now()));
        let mut bytes = sent(&mut wrong);
        bytes[9] ^= 1;
        assert_eq!(wrong.receive(&bytes[..9]), Ok(0));
        assert_eq!(wrong.receive(&bytes[9..]), Err(Corrupt));

        let mut long = messages(10);
        long.begin(Start::at(clock::now()));
        let mut bytes = sent(&mut long);
        bytes.push(0);
        assert_eq!(long.receive(&bytes), Err(Corrupt));
    }

    #[test]
    fn messages_that_were_forgotten_are_not_owed() {
        let size = PIECE_MAX + 1;
        let mut messages = messages(size);
        (0..3).for_each(|_| messages.begin(Start::at(clock::now())));
        let mut bytes = messages.next_piece().unwrap().to_vec();
        messages.forget_unsent();
        bytes.extend(sent(&mut messages));
        assert_eq!(bytes.len(), size, "one was sent in part");
        assert_eq!(messages.receive(&bytes), Ok(1));
        messages.take_completed();
        assert!(messages.all_back() && messages.all_sent());
        assert_eq!(messages.receive(b"x"), Err(Corrupt));
    }

    #[test]
    fn an_echo_of_what_was_not_sent_yet_is_corrupt() {
        let mut messages = messages(PIECE_MAX * 2);
        messages.begin(Start::at(clock::now()));
        let piece = messages.next_piece().unwrap().to_vec();
        assert_eq!(messages.receive(&piece), Ok(0));
        assert_eq!(messages.receive(&piece[..1]), Err(Corrupt));
    }
}
