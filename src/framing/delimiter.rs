//! Frames that end with a delimiter.

use std::borrow::Cow;

use super::{Frame, FrameError, Framing, search::find};

/// Frames that end with a delimiter of one or more bytes, which is not part of the payload.
///
/// ```
/// use echoloop::framing::{Delimiter, FrameError, Framing};
///
/// let mut heads = Delimiter::new(b"\r\n\r\n", 8192);
/// assert_eq!(heads.next(b"GET / HTTP/1.1\r\nHost: a\r\n\r")?, None);
/// let head = heads.next(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?.unwrap();
/// assert_eq!(head.payload(), b"GET / HTTP/1.1\r\nHost: a");
/// # Ok::<(), FrameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Delimiter {
    delimiter: Cow<'static, [u8]>,
    max: usize,
    /// Where the search goes on: no delimiter begins before it.
    searched: usize,
}

impl Delimiter {
    /// Frames of up to `max` bytes, not counting the delimiter. Its first occurrence ends a frame. The search takes
    /// time in proportion to the input, at worst times the length of the delimiter.
    ///
    /// # Panics
    ///
    /// If the delimiter is empty.
    #[must_use]
    pub fn new(delimiter: impl Into<Cow<'static, [u8]>>, max: usize) -> Self {
        let delimiter = delimiter.into();
        assert!(!delimiter.is_empty(), "a delimiter has at least one byte");
        Self { delimiter, max, searched: 0 }
    }

    /// Whether a delimiter may begin at `max` or before, though there is no whole one in `input`.
    fn may_still_fit(&self, input: &[u8]) -> bool {
        let first = (input.len() + 1).saturating_sub(self.delimiter.len());
        let last = self.max.min(input.len());
        (first..=last).rev().any(|start| self.delimiter.starts_with(&input[start..]))
    }
}

impl Framing for Delimiter {
    fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let window = &input[..input.len().min(self.max.saturating_add(self.delimiter.len()))];
        if let Some(end) = find(&self.delimiter, self.searched, window) {
            self.searched = 0;
            return Ok(Some(Frame::new(&input[..end], end + self.delimiter.len())));
        }
        if !self.may_still_fit(window) {
            return Err(FrameError::TooLong { limit: self.max });
        }
        self.searched = (window.len() + 1).saturating_sub(self.delimiter.len());
        Ok(None)
    }
}
