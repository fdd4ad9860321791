//! Frames of one size.

use std::num::NonZero;

use super::{Frame, FrameError, Framing};

/// Frames that all have the same size. It is never an error.
///
/// ```
/// use std::num::NonZero;
/// use echoloop::framing::{FixedSize, Framing};
///
/// let mut records = FixedSize::new(NonZero::new(4).unwrap());
/// assert_eq!(records.next(b"abc")?, None);
/// assert_eq!(records.next(b"abcdefg")?.unwrap().payload(), b"abcd");
/// # Ok::<(), echoloop::framing::FrameError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FixedSize {
    size: NonZero<usize>,
}

impl FixedSize {
    /// Frames of `size` bytes.
    #[must_use]
    pub const fn new(size: NonZero<usize>) -> Self {
        Self { size }
    }
}

impl Framing for FixedSize {
    fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let size = self.size.get();
        Ok(input.get(..size).map(|payload| Frame::new(payload, size)))
    }
}
