//! Compares an echo with what was sent, in little memory however long the stream is.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hasher, RandomState},
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many bytes a digest stands for.
const BLOCK: u64 = 64 << 10;

/// Compares two streams block by block. One thread reports what it sends, another what it receives.
///
/// For each 64 KiB in flight only a digest is kept.
#[derive(Debug)]
pub(super) struct Comparison {
    keys: RandomState,
    sent: Mutex<SentStream>,
}

#[derive(Debug)]
struct SentStream {
    stream: StreamDigest,
    /// Digests of the whole blocks in flight.
    blocks: VecDeque<u64>,
}

/// One direction: its length so far, and the block that it is in.
#[derive(Debug)]
struct StreamDigest {
    hasher: <RandomState as BuildHasher>::Hasher,
    length: u64,
}

/// The receiving side, which only one thread has.
#[derive(Debug)]
pub(super) struct ReceivedStream<'a> {
    comparison: &'a Comparison,
    stream: StreamDigest,
}

/// Where the echo differs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// At least one byte in this range differs.
    Corrupt(Range<u64>),
    /// More came back than was sent.
    TooLong,
}

impl Comparison {
    pub(super) fn new() -> Self {
        let keys = RandomState::new();
        let stream = StreamDigest { hasher: keys.build_hasher(), length: 0 };
        Self { keys, sent: Mutex::new(SentStream { stream, blocks: VecDeque::new() }) }
    }

    /// Adds bytes that are about to be sent. Call it before they are, so that their echo is expected.
    pub(super) fn send(&self, bytes: &[u8]) {
        let sent = &mut *self.lock();
        sent.stream.push(bytes, &self.keys, |digest, _| sent.blocks.push_back(digest));
    }

    /// How many bytes were sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.lock().stream.length
    }

    /// The receiving side. Only one thread may have one.
    pub(super) fn receiver(&self) -> ReceivedStream<'_> {
        ReceivedStream {
            comparison: self,
            stream: StreamDigest { hasher: self.keys.build_hasher(), length: 0 },
        }
    }

    fn lock(&self) -> MutexGuard<'_, SentStream> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReceivedStream<'_> {
    /// Adds bytes that came back, and compares each block that is complete with them.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), Difference> {
        let sent = &mut *self.comparison.lock();
        let mut difference = None;
        self.stream.push(bytes, &self.comparison.keys, |digest, end| {
            if sent.blocks.pop_front() != Some(digest) {
                difference.get_or_insert(Difference::Corrupt(end - BLOCK..end));
            }
        });
        if self.stream.length > sent.stream.length {
            return Err(Difference::TooLong);
        }
        difference.map_or(Ok(()), Err)
    }

    /// How many bytes came back.
    pub(super) const fn length(&self) -> u64 {
        self.stream.length
    }

    /// Compares the last, incomplete block, provided that everything sent so far is back. Only then can it be compared.
    pub(super) fn compare_rest(&self) -> Result<(), Difference> {
        let sent = self.comparison.lock();
        let is_complete = self.stream.length == sent.stream.length;
        if !is_complete || self.stream.hasher.finish() == sent.stream.hasher.finish() {
            return Ok(());
        }
        let end = self.stream.length;
        Err(Difference::Corrupt(end / BLOCK * BLOCK..end))
    }
}

impl StreamDigest {
    /// Adds bytes; calls `complete` with the digest and the end of each block that they complete.
    fn push(&mut self, mut bytes: &[u8], keys: &RandomState, mut complete: impl FnMut(u64, u64)) {
        while !bytes.is_empty() {
            let missing = usize::try_from(BLOCK - self.length % BLOCK).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.hasher.write(now);
            self.length += now.len() as u64;
            if self.length.is_multiple_of(BLOCK) {
                complete(self.hasher.finish(), self.length);
                self.hasher = keys.build_hasher();
            }
            bytes = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `sent` and receives `received` in random pieces.
    fn compare(sent: &[u8], received: &[u8], random: &mut fastrand::Rng) -> Result<(), Difference> {
        let comparison = Comparison::new();
        let mut receiver = comparison.receiver();
        for piece in pieces(sent, random) {
            comparison.send(piece);
        }
        for piece in pieces(received, random) {
            receiver.receive(piece)?;
        }
        assert_eq!(receiver.length(), received.len() as u64);
        assert_eq!(comparison.sent(), sent.len() as u64);
        receiver.compare_rest()
    }

    fn pieces<'a>(mut bytes: &'a [u8], random: &mut fastrand::Rng) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(random.usize(1..=bytes.len().min(100_000)));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }

    #[test]
    fn equal_streams_are_equal_however_they_are_cut() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for length in [0, 1, 14, 65_535, 65_536, 65_537, 1 << 20] {
            let bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            assert_eq!(compare(&bytes, &bytes, &mut random), Ok(()), "{length}");
        }
    }

    #[test]
    fn one_wrong_bit_is_found_in_its_block() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes = vec![0; 200_000];
        for _ in 0..100 {
            let mut other = bytes.clone();
            let position = random.usize(..other.len());
            other[position] ^= 1 << random.u8(..8);
            match compare(&bytes, &other, &mut random) {
                Err(Difference::Corrupt(range)) => assert!(range.contains(&(position as u64))),
                other => panic!("{other:?} for a wrong bit at {position}"),
            }
        }
    }

    #[test]
    fn what_is_not_all_back_yet_is_not_called_different() {
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(compare(b"abc", b"ab", &mut random), Ok(()));
        assert_eq!(compare(b"abc", b"abd", &mut random), Err(Difference::Corrupt(0..3)));
    }

    #[test]
    fn an_echo_that_is_too_long_is_found() {
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(compare(b"abc", b"abcd", &mut random), Err(Difference::TooLong));
    }
}
