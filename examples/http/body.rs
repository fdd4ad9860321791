//! The body of a request: of a known length, or in chunks (RFC 9112 §7.1).

use echoloop::Input;
use httparse::{
    EMPTY_HEADER,
    Status::{Complete, Partial},
};

use super::{reply::Status, request::has_bare_line_feed};

/// Of the whole body, in bytes.
pub(crate) const BODY_LIMIT: usize = 64 << 10;

/// Of all the chunk extensions of a body, which mean nothing here.
const EXTENSIONS_LIMIT: usize = 1 << 10;

/// Of the fields behind the last chunk, which are dropped.
const TRAILERS_LIMIT: usize = 4 << 10;
const TRAILERS_MAX: usize = 16;

/// Of a chunk's size, in hexadecimal digits.
const SIZE_DIGITS_MAX: usize = 16;

/// How long a body is, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Known(usize),
    Chunked,
}

/// A body, as far as it has come.
#[derive(Debug)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    next: Next,
    /// How long further chunk extensions may be.
    extensions_left: usize,
}

/// What comes next, with the number of bytes left of it.
///
/// ```text
/// chunked:  ChunkSize ──▶ Chunk ──▶ ChunkEnd ──▶ ChunkSize … ──▶ the size 0 ──▶ Trailers
/// ```
#[derive(Clone, Copy, Debug)]
enum Next {
    Bytes(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailers,
}

impl Body {
    pub(crate) fn new(length: Length) -> Self {
        let next = match length {
            Length::Known(length) => Next::Bytes(length),
            Length::Chunked => Next::ChunkSize,
        };
        Self { bytes: Vec::new(), next, extensions_left: EXTENSIONS_LIMIT }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes what has come of it. True when it is complete.
    pub(crate) fn receive(&mut self, input: &mut Input<'_>) -> Result<bool, Status> {
        loop {
            self.next = match self.next {
                Next::Bytes(0) => return Ok(true),
                Next::Chunk(0) => Next::ChunkEnd,
                Next::Trailers => return skip_trailers(input),
                _ if input.bytes().is_empty() => return Ok(false),
                Next::Bytes(left) => Next::Bytes(left - self.take(left, input)),
                Next::Chunk(left) => Next::Chunk(left - self.take(left, input)),
                Next::ChunkSize => match self.chunk_size(input)? {
                    None => return Ok(false),
                    Some(0) => Next::Trailers,
                    Some(size) if size > BODY_LIMIT - self.bytes.len() => {
                        return Err(Status::CONTENT_TOO_LARGE);
                    }
                    Some(size) => Next::Chunk(size),
                },
                Next::ChunkEnd => match input.bytes() {
                    [b'\r', b'\n', ..] => {
                        input.consume(2);
                        Next::ChunkSize
                    }
                    [] | [b'\r'] => return Ok(false),
                    [..] => return Err(Status::BAD_REQUEST),
                },
            };
        }
    }

    /// Takes at most `most` bytes of content.
    fn take(&mut self, most: usize, input: &mut Input<'_>) -> usize {
        let bytes = input.bytes();
        let taken = bytes.len().min(most);
        self.bytes.extend_from_slice(&bytes[..taken]);
        input.consume(taken);
        taken
    }

    /// The line before a chunk, once it is there. Not by httparse, which takes no digit at all for 0, and any control
    /// character for a part of an extension: a LF too, which others take for the end of the line.
    fn chunk_size(&mut self, input: &mut Input<'_>) -> Result<Option<usize>, Status> {
        let bytes = input.bytes();
        let longest = SIZE_DIGITS_MAX + self.extensions_left + b"\r\n".len();
        let line = &bytes[..bytes.len().min(longest)];
        let end = line.iter().position(|&b| b.is_ascii_control() && b != b'\t').unwrap_or(line.len());
        match &line[end..] {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] if line.len() < longest => return Ok(None),
            [..] => return Err(Status::BAD_REQUEST),
        }
        let (size, extensions) = match line[..end].iter().position(|&b| b == b';') {
            Some(at) => (line[..at].trim_ascii_end(), end - at),
            None => (&line[..end], 0),
        };
        self.extensions_left = self.extensions_left.checked_sub(extensions).ok_or(Status::BAD_REQUEST)?;
        input.consume(end + b"\r\n".len());
        hexadecimal(size).ok_or(Status::BAD_REQUEST).map(Some)
    }
}

/// The standard parser would take a sign.
fn hexadecimal(digits: &[u8]) -> Option<usize> {
    let is_number = digits.len() <= SIZE_DIGITS_MAX && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = str::from_utf8(digits).ok().filter(|_| is_number)?;
    usize::from_str_radix(digits, 16).ok()
}

/// True when all the fields, which may be none, and the empty line behind them were there.
fn skip_trailers(input: &mut Input<'_>) -> Result<bool, Status> {
    let bytes = input.bytes();
    let bytes = &bytes[..bytes.len().min(TRAILERS_LIMIT)];
    match httparse::parse_headers(bytes, &mut [EMPTY_HEADER; TRAILERS_MAX]) {
        Ok(Complete((length, _))) if !has_bare_line_feed(&bytes[..length]) => {
            input.consume(length);
            Ok(true)
        }
        Ok(Partial) if bytes.len() < TRAILERS_LIMIT => Ok(false),
        Ok(Partial) | Err(httparse::Error::TooManyHeaders) => Err(Status::FIELDS_TOO_LARGE),
        Ok(Complete(_)) | Err(_) => Err(Status::BAD_REQUEST),
    }
}
