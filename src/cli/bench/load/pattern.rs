//! The bytes that are sent. Each follows from its position in the stream, so that the echo can be checked without
//! keeping what was sent.

/// The period of the pattern. A prime number, so that a lost, repeated or swapped buffer never matches.
const PERIOD: usize = 65_521;

/// The longest piece that `next` returns.
pub(super) const PIECE_MAX: usize = 64 << 10;

/// Random bytes from a seed, repeated without end.
#[derive(Debug)]
pub(super) struct Pattern {
    seed: u64,
    /// The period, and the beginning of it again, so that a piece from any position is one slice.
    bytes: Box<[u8]>,
}

/// A position in the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(usize);

impl Pattern {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = SplitMix(seed);
        let mut bytes = vec![0; PERIOD];
        for chunk in bytes.chunks_mut(size_of::<u64>()) {
            chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
        }
        let again: Vec<u8> = bytes.iter().copied().cycle().take(PIECE_MAX).collect();
        bytes.extend_from_slice(&again);
        Self { seed, bytes: bytes.into() }
    }

    /// Where the stream of the connection with this label begins. The streams of two connections differ.
    pub(super) fn start_of(&self, label: u64) -> Position {
        let position = SplitMix(self.seed ^ label.rotate_left(32)).next() % PERIOD as u64;
        Position(usize::try_from(position).unwrap_or(0))
    }

    /// The next `length` bytes, at most [`PIECE_MAX`]. Moves `position` behind them.
    pub(super) fn next(&self, position: &mut Position, length: usize) -> &[u8] {
        let length = length.min(PIECE_MAX);
        let piece = &self.bytes[position.0..position.0 + length];
        position.0 = (position.0 + length) % PERIOD;
        piece
    }

    /// Whether `bytes` are the next ones. Moves `position` behind them.
    pub(super) fn matches(&self, position: &mut Position, bytes: &[u8]) -> bool {
        bytes.chunks(PIECE_MAX).all(|piece| piece == self.next(position, piece.len()))
    }
}

/// SplitMix64, a small generator of random numbers (Steele, Lea, Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first `length` bytes of a stream, in pieces of `piece`.
    fn stream(pattern: &Pattern, label: u64, length: usize, piece: usize) -> Vec<u8> {
        let mut position = pattern.start_of(label);
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let wanted = piece.min(length - bytes.len());
            bytes.extend_from_slice(pattern.next(&mut position, wanted));
        }
        bytes
    }

    #[test]
    fn a_stream_is_the_same_however_it_is_cut() {
        let pattern = Pattern::new(7);
        let whole = stream(&pattern, 3, 300_000, PIECE_MAX);
        for piece in [1, 512, 65_521, usize::MAX] {
            assert!(stream(&pattern, 3, 300_000, piece) == whole, "pieces of {piece}");
        }
        let mut position = pattern.start_of(3);
        assert!(pattern.matches(&mut position, &whole[..100_001]));
        assert!(pattern.matches(&mut position, &whole[100_001..]));
    }

    #[test]
    fn one_wrong_bit_is_found_wherever_it_is() {
        let pattern = Pattern::new(7);
        let whole = stream(&pattern, 3, 200_000, PIECE_MAX);
        for position in [0, 1, 65_520, 65_521, 65_536, 199_999] {
            let mut wrong = whole.clone();
            wrong[position] ^= 1;
            assert!(!pattern.matches(&mut pattern.start_of(3), &wrong), "{position}");
        }
    }

    #[test]
    fn lost_blocks_and_swapped_connections_are_found() {
        let pattern = Pattern::new(7);
        let whole = stream(&pattern, 3, 400_000, PIECE_MAX);
        for lost in [1, 512, 4096, 65_536, 131_072] {
            assert!(!pattern.matches(&mut pattern.start_of(3), &whole[lost..lost + 512]), "{lost}");
        }
        assert!(!pattern.matches(&mut pattern.start_of(4), &whole[..64]));
        assert!(!Pattern::new(8).matches(&mut pattern.start_of(3), &whole[..64]));
    }
}
