//! A frame in the input.

use super::{FrameError, Framing};
use crate::protocol::input::Input;

/// A whole frame: its payload where it lies in the input, and how many bytes of the input it takes.
///
/// ```
/// use echoloop::framing::{Framing, Lines};
///
/// let frame = Lines::new(80).next(b"GET /\r\nHost:")?.expect("a whole line");
/// assert_eq!(frame.payload(), b"GET /");
/// assert_eq!(frame.consumed(), 7);
/// # Ok::<(), echoloop::framing::FrameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    payload: &'a [u8],
    consumed: usize,
}

impl<'a> Frame<'a> {
    /// A frame that takes the first `consumed` bytes of the input. For an example see [`Framing`].
    ///
    /// # Panics
    ///
    /// If `consumed` is 0: such a frame would come again and again.
    #[must_use]
    pub const fn new(payload: &'a [u8], consumed: usize) -> Self {
        assert!(consumed > 0, "a frame takes at least one byte of the input");
        Self { payload, consumed }
    }

    /// What the peer wanted to say, without what delimits it.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// How many bytes of the input the frame takes, with what delimits it.
    #[must_use]
    pub const fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'a> Input<'a> {
    /// Takes the next frame, or says `None` and takes nothing while it is incomplete.
    ///
    /// ```
    /// use echoloop::{Context, Input, Protocol, framing::Lines};
    ///
    /// /// Sends each line back in upper case.
    /// struct Shout(Lines);
    ///
    /// impl Protocol for Shout {
    ///     type Message = ();
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
    ///         loop {
    ///             match input.frame(&mut self.0) {
    ///                 Ok(Some(line)) => {
    ///                     cx.write(&line.to_ascii_uppercase());
    ///                     cx.write(b"\n");
    ///                 }
    ///                 Ok(None) => return,
    ///                 Err(_) => return cx.finish(),
    ///             }
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// This goes on though the output may be full; [`Framed`](super::Framed) waits then.
    ///
    /// # Errors
    ///
    /// What the framing says; it takes nothing then.
    pub fn frame(&mut self, framing: &mut impl Framing) -> Result<Option<&'a [u8]>, FrameError> {
        let Some(frame) = framing.next(self.bytes())? else { return Ok(None) };
        self.consume(frame.consumed());
        Ok(Some(frame.payload()))
    }
}
