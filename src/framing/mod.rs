//! Frames: where one message ends and the next begins, in a stream that knows nothing of messages.
//!
//! TCP hands over bytes in pieces of any size. A [`Framing`] finds the frames in them, and finds the same ones however
//! the stream was cut:
//!
//! | framing | a frame is |
//! | --- | --- |
//! | [`Lines`] | what is before `\n` or `\r\n` |
//! | [`Delimiter`] | what is before a delimiter of one or more bytes |
//! | [`FixedSize`] | so many bytes |
//! | [`LengthDelimited`] | as many bytes as a field of 1, 2 or 4 bytes before them says |
//!
//! A frame is handed over where it lies in the input: nothing is copied, except by the connection while a frame is
//! incomplete. How far an incomplete frame was searched is remembered, so a peer that sends single bytes costs no more
//! than one that sends them all at once.
//!
//! There are two ways to use a framing. [`Framed`] makes a [`Protocol`](crate::Protocol) of a [`FramedProtocol`], which is
//! called once for each frame:
//!
//! ```
//! use std::io::{Read, Write};
//! use echoloop::{Context, Server, framing::{FrameError, Framed, FramedProtocol, Lines}};
//!
//! /// Answers each line with its length.
//! struct Measure(Lines);
//!
//! impl FramedProtocol for Measure {
//!     type Framing = Lines;
//!     type Message = ();
//!
//!     fn framing(&mut self) -> &mut Lines {
//!         &mut self.0
//!     }
//!
//!     fn on_frame(&mut self, line: &[u8], cx: &mut Context<'_>) {
//!         cx.write(format!("{}\n", line.len()).as_bytes());
//!     }
//!
//!     fn on_frame_error(&mut self, error: FrameError, cx: &mut Context<'_>) {
//!         cx.write(format!("error: {error}\n").as_bytes());
//!     }
//! }
//!
//! let server = Server::builder().bind(["127.0.0.1:0"])?;
//! let (address, handle) = (server.local_addrs()[0].to_string(), server.handle());
//! let running = std::thread::spawn(|| server.run(|_| Some(Framed::new(Measure(Lines::new(20))))));
//!
//! let mut client = std::net::TcpStream::connect(address)?;
//! client.write_all(b"this is a test\r\n\nthis one is longer than 20 bytes\n")?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert_eq!(answer, "14\n0\nerror: a frame is longer than 20 bytes\n");
//!
//! handle.drain();
//! running.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! And [`Input::frame`](crate::Input::frame) takes the next frame of what any protocol is handed.
//!
//! # Limits
//!
//! Every framing has a limit for the payload of a frame, without what delimits it. A longer frame is
//! [`FrameError::TooLong`], as soon as no continuation could make it shorter: from the length field alone, or with the
//! first byte that is too many. Behind an error no frame can be found, so [`Framed`] ends the connection then, the
//! documented way.
//!
//! A second limit is the connection's: an incomplete frame is input that is left unconsumed, and a protocol that leaves
//! [`input_limit_bytes`](crate::Config::input_limit_bytes) (64 KiB by default) is aborted with
//! [`CloseReason::InputLimit`](crate::CloseReason::InputLimit). So for larger frames set it to the framing's limit plus
//! the delimiter (two bytes for [`Lines`]) or the length field, or more.
//!
//! ```
//! use echoloop::{Config, framing::Lines};
//!
//! const MAX_LINE: usize = 1 << 20;
//! let mut config = Config::default();
//! config.input_limit_bytes = MAX_LINE + 2;
//! let lines = Lines::new(MAX_LINE);
//! ```

mod delimiter;
mod error;
mod fixed_size;
mod frame;
mod framed;
mod framed_protocol;
mod length_delimited;
mod lines;
mod search;
#[cfg(test)]
mod tests;

pub use delimiter::Delimiter;
pub use error::FrameError;
pub use fixed_size::FixedSize;
pub use frame::Frame;
pub use framed::Framed;
pub use framed_protocol::FramedProtocol;
pub use length_delimited::{Endian, LengthDelimited, Width};
pub use lines::Lines;

/// Finds the frames of a stream, one after the other.
///
/// [`next`](Self::next) is told all bytes that were not consumed yet. When there is no whole frame among them, it is asked
/// again with the same bytes and more behind them. When there is one, its bytes are consumed, and the next call begins
/// behind them. The frames must not depend on where the calls fall in the stream.
///
/// One value is for one stream.
///
/// ```
/// use echoloop::framing::{Frame, FrameError, Framing};
///
/// /// Frames of up to 9 bytes as `5:hello,`; see <https://cr.yp.to/proto/netstrings.txt>.
/// struct Netstrings;
///
/// impl Framing for Netstrings {
///     fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
///         let Some(digit) = input.first() else { return Ok(None) };
///         if !digit.is_ascii_digit() || input.get(1).is_some_and(|&colon| colon != b':') {
///             return Err(FrameError::Malformed("not a netstring"));
///         }
///         let length = usize::from(digit - b'0');
///         match input.get(length + 2) {
///             None => Ok(None),
///             Some(b',') => Ok(Some(Frame::new(&input[2..length + 2], length + 3))),
///             Some(_) => Err(FrameError::Malformed("no comma behind a netstring")),
///         }
///     }
/// }
///
/// assert_eq!(Netstrings.next(b"5:hel"), Ok(None));
/// assert_eq!(Netstrings.next(b"5:hello,0:,"), Ok(Some(Frame::new(b"hello", 8))));
/// assert!(Netstrings.next(b"hello").is_err());
/// ```
pub trait Framing {
    /// The first frame of `input`, or `None` while it is incomplete.
    ///
    /// # Errors
    ///
    /// When what `input` begins with is no frame and cannot become one. As nothing is consumed then, the same is
    /// said again of the same input.
    fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError>;
}
