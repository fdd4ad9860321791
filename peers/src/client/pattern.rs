//! The bytes that are sent: cheap to make and to compare, and different at every place of a stream.

/// A prime, so that no message length and no buffer length fits into it.
const PERIOD: usize = 65_521;

/// An endless stream of random bytes that repeats after [`PERIOD`].
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    /// For pieces of at most `longest` bytes.
    pub(super) fn new(longest: usize) -> Self {
        let mut period = vec![0; PERIOD];
        fastrand::Rng::with_seed(1).fill(&mut period);
        Self(period.iter().copied().cycle().take(PERIOD + longest).collect())
    }

    /// So many bytes from a place on. `place` counts from the stream's own beginning, `start`.
    pub(super) fn piece(&self, start: usize, place: u64, length: usize) -> &[u8] {
        let within = place % PERIOD as u64;
        let offset = (start + usize::try_from(within).expect("below the period")) % PERIOD;
        &self.0[offset..offset + length]
    }
}
