//! What cannot be a frame.

use std::fmt;

/// Why the input holds no further frame, or a payload cannot be sent as one.
///
/// `Display` gives one line.
///
/// ```
/// use echoloop::framing::{FrameError, Framing, Lines};
///
/// let error = Lines::new(3).next(b"abcd").unwrap_err();
/// assert_eq!(error, FrameError::TooLong { limit: 3 });
/// assert_eq!(error.to_string(), "a frame is longer than 3 bytes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The payload is longer than its framing allows.
    TooLong {
        /// The most bytes that a payload may have.
        limit: usize,
    },
    /// A length is below zero when the [adjustment](super::LengthDelimited::adjusted_by) is applied: that of the payload
    /// when a length field is read, or the field when a payload is to be written.
    NegativeLength {
        /// What comes out.
        length: i64,
    },
    /// What else a framing of your own finds wrong.
    Malformed(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => write!(f, "a frame is longer than {limit} bytes"),
            Self::NegativeLength { length } => write!(f, "a frame has a length of {length} bytes"),
            Self::Malformed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for FrameError {}
