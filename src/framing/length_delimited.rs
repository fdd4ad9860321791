//! Frames behind a field with their length.

use super::{Frame, FrameError, Framing};
use crate::protocol::context::{Context, Flow};

/// The size of a length field. For an example see [`LengthDelimited`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One byte: up to 255.
    U8,
    /// Two bytes: up to 65,535.
    U16,
    /// Four bytes: up to 4,294,967,295.
    U32,
}

impl Width {
    const fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }

    const fn max(self) -> u32 {
        match self {
            Self::U8 => u8::MAX as u32,
            Self::U16 => u16::MAX as u32,
            Self::U32 => u32::MAX,
        }
    }
}

/// The order of the bytes in a length field. For an example see [`LengthDelimited`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// The most significant byte first: network order.
    Big,
    /// The least significant byte first.
    Little,
}

/// Frames behind a field that says how long they are.
///
/// ```
/// use echoloop::framing::{Endian, FrameError, Framing, LengthDelimited, Width};
///
/// let mut frames = LengthDelimited::new(Width::U16, Endian::Big, 1000);
/// assert_eq!(frames.next(b"\x00\x05hel")?, None);
/// assert_eq!(frames.next(b"\x00\x05hello\x00")?.unwrap().payload(), b"hello");
/// // What is too long is known before any of it has come.
/// assert_eq!(frames.next(b"\x03\xe9"), Err(FrameError::TooLong { limit: 1000 }));
/// # Ok::<(), FrameError>(())
/// ```
///
/// [`encode`](Self::encode) and [`write`](Self::write) are the other direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthDelimited {
    width: Width,
    endian: Endian,
    adjustment: i64,
    max: usize,
}

impl LengthDelimited {
    /// Frames of up to `max` bytes, not counting the field.
    #[must_use]
    pub const fn new(width: Width, endian: Endian, max: usize) -> Self {
        Self { width, endian, adjustment: 0, max }
    }

    /// The same, but the payload has `adjustment` bytes more than the field says: -4, for example, where the field has
    /// four bytes and counts itself.
    ///
    /// ```
    /// use echoloop::framing::{Endian, FrameError, Framing, LengthDelimited, Width};
    ///
    /// let mut frames = LengthDelimited::new(Width::U32, Endian::Little, 1000).adjusted_by(-4);
    /// assert_eq!(frames.next(b"\x09\0\0\0hello")?.unwrap().payload(), b"hello");
    /// assert_eq!(frames.next(b"\x03\0\0\0"), Err(FrameError::NegativeLength { length: -1 }));
    /// # Ok::<(), FrameError>(())
    /// ```
    #[must_use]
    pub const fn adjusted_by(mut self, adjustment: i64) -> Self {
        self.adjustment = adjustment;
        self
    }

    /// Appends `payload` as a frame to `output`.
    ///
    /// # Errors
    ///
    /// If it is longer than the limit or than the field can say, or so short that the field would be negative.
    /// Nothing is appended then.
    ///
    /// ```
    /// use echoloop::framing::{Endian, FrameError, LengthDelimited, Width};
    ///
    /// let frames = LengthDelimited::new(Width::U8, Endian::Big, 1000);
    /// let mut output = Vec::new();
    /// frames.encode(b"hello", &mut output)?;
    /// assert_eq!(output, b"\x05hello");
    /// assert_eq!(frames.encode(&[0; 256], &mut output), Err(FrameError::TooLong { limit: 255 }));
    /// # Ok::<(), FrameError>(())
    /// ```
    pub fn encode(&self, payload: &[u8], output: &mut Vec<u8>) -> Result<(), FrameError> {
        let field = self.field(payload.len())?;
        output.extend_from_slice(self.in_order(&field));
        output.extend_from_slice(payload);
        Ok(())
    }

    /// Sends `payload` as a frame, behind everything written before; see [`Context::write`].
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode). Nothing is written then.
    ///
    /// ```
    /// use echoloop::{Context, framing::{FramedProtocol, LengthDelimited}};
    ///
    /// /// Sends every frame back.
    /// struct EchoFrames(LengthDelimited);
    ///
    /// impl FramedProtocol for EchoFrames {
    ///     type Framing = LengthDelimited;
    ///     type Message = ();
    ///
    ///     fn framing(&mut self) -> &mut LengthDelimited {
    ///         &mut self.0
    ///     }
    ///
    ///     fn on_frame(&mut self, frame: &[u8], cx: &mut Context<'_>) {
    ///         self.0.write(frame, cx).expect("what was received can be sent");
    ///     }
    /// }
    /// ```
    pub fn write<M>(&self, payload: &[u8], cx: &mut Context<'_, M>) -> Result<Flow, FrameError> {
        let field = self.field(payload.len())?;
        cx.write(self.in_order(&field));
        Ok(cx.write(payload))
    }

    /// The length field of a payload of this length.
    fn field(&self, length: usize) -> Result<[u8; 4], FrameError> {
        let too_long = FrameError::TooLong { limit: self.limit() };
        let field = i64::try_from(length).ok().and_then(|length| length.checked_sub(self.adjustment));
        let field = match field {
            Some(length) if length < 0 => return Err(FrameError::NegativeLength { length }),
            Some(field) => u32::try_from(field).map_err(|_| too_long)?,
            None => return Err(too_long),
        };
        if length > self.max || field > self.width.max() {
            return Err(too_long);
        }
        Ok(match self.endian {
            Endian::Big => field.to_be_bytes(),
            Endian::Little => field.to_le_bytes(),
        })
    }

    /// Those bytes of a field of four that the width has room for.
    fn in_order<'a>(&self, field: &'a [u8; 4]) -> &'a [u8] {
        match self.endian {
            Endian::Big => &field[4 - self.width.bytes()..],
            Endian::Little => &field[..self.width.bytes()],
        }
    }

    /// The longest payload that is allowed and that the field can say.
    fn limit(&self) -> usize {
        let sayable = i64::from(self.width.max()).saturating_add(self.adjustment).max(0);
        usize::try_from(sayable).unwrap_or(usize::MAX).min(self.max)
    }

    /// The length of the payload behind this field.
    fn length(&self, field: &[u8]) -> Result<usize, FrameError> {
        let append = |value: u32, &byte: &u8| value << 8 | u32::from(byte);
        let value = match self.endian {
            Endian::Big => field.iter().fold(0, append),
            Endian::Little => field.iter().rev().fold(0, append),
        };
        // A sum past the range of 64 bits is too long as well: only a positive adjustment can lead there.
        let length = i64::from(value).checked_add(self.adjustment).unwrap_or(i64::MAX);
        if length < 0 {
            return Err(FrameError::NegativeLength { length });
        }
        let length = usize::try_from(length).ok().filter(|&length| length <= self.max);
        length.ok_or(FrameError::TooLong { limit: self.max })
    }
}

impl Framing for LengthDelimited {
    fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let Some((field, rest)) = input.split_at_checked(self.width.bytes()) else { return Ok(None) };
        let length = self.length(field)?;
        Ok(rest.get(..length).map(|payload| Frame::new(payload, field.len() + length)))
    }
}
