//! Lines of text.

use super::{Frame, FrameError, Framing, search::find};

/// Frames that end with `\n` or `\r\n`, which are not part of the payload. A `\r` anywhere else is.
///
/// ```
/// use echoloop::framing::{FrameError, Framing, Lines};
///
/// let mut lines = Lines::new(4);
/// assert_eq!(lines.next(b"over")?, None);
/// assert_eq!(lines.next(b"over\r")?, None);
/// assert_eq!(lines.next(b"over\r\nover")?.unwrap().payload(), b"over");
/// assert_eq!(lines.next(b"overl"), Err(FrameError::TooLong { limit: 4 }));
/// # Ok::<(), FrameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lines {
    max: usize,
    /// Where the search goes on.
    searched: usize,
}

impl Lines {
    /// Lines of up to `max` bytes, not counting `\n` or `\r\n`.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, searched: 0 }
    }
}

impl Framing for Lines {
    fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let window = &input[..input.len().min(self.max.saturating_add(2))];
        let end = find(b"\n", self.searched, window);
        let line = chomp(&window[..end.unwrap_or(window.len())]);
        if line.len() > self.max {
            return Err(FrameError::TooLong { limit: self.max });
        }
        match end {
            Some(end) => {
                self.searched = 0;
                Ok(Some(Frame::new(line, end + 1)))
            }
            None => {
                self.searched = window.len();
                Ok(None)
            }
        }
    }
}

/// Without a `\r` at the end: it belongs to the terminator, or will if `\n` comes next.
fn chomp(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
