//! One connection's messages: what is still to be sent, what is on its way, and whether what comes back is right.

use std::{collections::VecDeque, sync::Arc};

use super::{
    pattern::{PIECE_MAX, Pattern, Place},
    tally::Start,
};

/// The messages of one connection, in both directions.
#[derive(Debug)]
pub(super) struct Echo {
    pattern: Arc<Pattern>,
    size: usize,
    send_at: Place,
    receive_at: Place,
    /// Messages that have begun and whose last byte is not back.
    on_their_way: VecDeque<Start>,
    /// Bytes of them that are not handed to the connection yet.
    unsent: usize,
    /// Bytes of the first of them that are back.
    received: usize,
}

/// The echo is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrupt;

impl Echo {
    /// Nothing yet, of a connection with this label.
    pub(super) fn new(pattern: Arc<Pattern>, size: usize, label: u64) -> Self {
        let place = pattern.start_of(label);
        Self {
            pattern,
            size,
            send_at: place,
            receive_at: place,
            on_their_way: VecDeque::new(),
            unsent: 0,
            received: 0,
        }
    }

    /// Begins another message.
    pub(super) fn begin(&mut self, start: Start) {
        self.on_their_way.push_back(start);
        self.unsent += self.size;
    }

    /// The next bytes to send, a piece of them at most; `None` if there are none.
    pub(super) fn next_piece(&mut self) -> Option<&[u8]> {
        if self.unsent == 0 {
            return None;
        }
        let length = self.unsent.min(PIECE_MAX);
        self.unsent -= length;
        Some(self.pattern.next(&mut self.send_at, length))
    }

    /// Forgets the messages of which nothing is sent.
    pub(super) fn forget_unsent(&mut self) {
        let whole = self.unsent / self.size;
        self.unsent -= whole * self.size;
        self.on_their_way.truncate(self.on_their_way.len() - whole);
    }

    /// Whether everything that has begun is sent.
    pub(super) const fn is_sent(&self) -> bool {
        self.unsent == 0
    }

    /// Whether everything that has begun is back.
    pub(super) fn is_back(&self) -> bool {
        self.on_their_way.is_empty()
    }

    /// Checks what came back, and says how many messages are whole with it; see [`whole`](Self::whole).
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<usize, Corrupt> {
        let owed = self.on_their_way.len() * self.size - self.unsent - self.received;
        if bytes.len() > owed || !self.pattern.matches(&mut self.receive_at, bytes) {
            return Err(Corrupt);
        }
        let received = self.received + bytes.len();
        self.received = received % self.size;
        Ok(received / self.size)
    }

    /// Takes away the first message, which is whole.
    pub(super) fn whole(&mut self) -> Start {
        self.on_their_way.pop_front().expect("what is whole had begun")
    }
}

#[cfg(test)]
mod tests {
    use super::{super::clock, *};

    fn echo(size: usize) -> Echo {
        Echo::new(Arc::new(Pattern::new(1)), size, 5)
    }

    /// Sends all that there is to send.
    fn sent(echo: &mut Echo) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(piece) = echo.next_piece() {
            bytes.extend_from_slice(piece);
        }
        bytes
    }

    #[test]
    fn messages_are_whole_with_their_last_byte_however_they_are_cut() {
        for (size, cut) in [(10, 1), (10, 7), (10, 25), (100_000, 65_536)] {
            let mut echo = echo(size);
            let now = clock::now();
            (0..3).for_each(|_| echo.begin(Start::at(now)));
            let bytes = sent(&mut echo);
            assert_eq!(bytes.len(), 3 * size);
            let mut whole = 0;
            for piece in bytes.chunks(cut) {
                for _ in 0..echo.receive(piece).unwrap() {
                    assert_eq!(echo.whole(), Start::at(now));
                    whole += 1;
                }
            }
            assert_eq!(whole, 3, "size {size} in pieces of {cut}");
            assert!(echo.is_back() && echo.is_sent());
        }
    }

    #[test]
    fn wrong_bytes_and_more_than_was_sent_are_corrupt() {
        let mut wrong = echo(10);
        assert_eq!(wrong.receive(b"x"), Err(Corrupt), "nothing was sent");
        wrong.begin(Start::at(clock::now()));
        let mut bytes = sent(&mut wrong);
        bytes[9] ^= 1;
        assert_eq!(wrong.receive(&bytes[..9]), Ok(0));
        assert_eq!(wrong.receive(&bytes[9..]), Err(Corrupt));

        let mut long = echo(10);
        long.begin(Start::at(clock::now()));
        let mut bytes = sent(&mut long);
        bytes.push(0);
        assert_eq!(long.receive(&bytes), Err(Corrupt));
    }

    #[test]
    fn messages_that_were_forgotten_are_not_owed() {
        let size = PIECE_MAX + 1;
        let mut echo = echo(size);
        (0..3).for_each(|_| echo.begin(Start::at(clock::now())));
        let mut bytes = echo.next_piece().unwrap().to_vec();
        echo.forget_unsent();
        bytes.extend(sent(&mut echo));
        assert_eq!(bytes.len(), size, "one was sent in part");
        assert_eq!(echo.receive(&bytes), Ok(1));
        echo.whole();
        assert!(echo.is_back() && echo.is_sent());
        assert_eq!(echo.receive(b"x"), Err(Corrupt));
    }

    #[test]
    fn an_echo_of_what_was_not_sent_yet_is_corrupt() {
        let mut echo = echo(PIECE_MAX * 2);
        echo.begin(Start::at(clock::now()));
        let piece = echo.next_piece().unwrap().to_vec();
        assert_eq!(echo.receive(&piece), Ok(0));
        assert_eq!(echo.receive(&piece[..1]), Err(Corrupt));
    }
}
