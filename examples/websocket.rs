//! A WebSocket (RFC 6455) echo server: whole messages, text and binary, of up to 16 MiB.
//!
//! ```sh
//! cargo run --release --example websocket -- 127.0.0.1:9001
//! python3 -m websockets ws://127.0.0.1:9001/
//! ```
//!
//! Frames are taken out of the input as they come, so a message of any size needs no larger limit there. None are taken while
//! the client does not receive its echoes. Text is validated as it comes. Every client is welcome: whoever writes a server
//! for web pages checks the field `Origin` besides. There is no compression. Whatever else than an opening handshake comes is
//! answered with 426 Upgrade Required.

use std::{env, mem, process::ExitCode, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use echoloop::{Context, Error, Flow, Input, Protocol, Server};
use httparse::{EMPTY_HEADER, Request, Status};
use sha1_smol::Sha1;

/// The longest message, of all its fragments.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// So much memory at most is reserved for a payload before it comes: a head alone must not cost more.
const RESERVED_BYTES: usize = 1 << 20;
/// The longest head of an opening handshake.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// A client that has not sent its opening handshake within this time is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
const REFUSED: &[u8] =
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n\r\n";
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// In the first byte of a frame: it is the last of its message. In the second: it is masked.
const FLAG: u8 = 0x80;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const PROTOCOL_ERROR: u16 = 1002;
/// Stands for none.
const NO_CODE: u16 = 1005;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// Why no more is taken of the input.
enum Stop {
    Incomplete,
    /// The connection is closed with this code.
    Close(u16),
}

fn ensure(is_so: bool, code: u16) -> Result<(), Stop> {
    if is_so { Ok(()) } else { Err(Stop::Close(code)) }
}

/// A frame of which the head has come.
struct Frame {
    is_last: bool,
    opcode: u8,
    /// Rotated so that the next byte of the payload is for its first one.
    mask: [u8; 4],
    /// What has not come yet of the payload.
    missing_bytes: usize,
}

/// Takes `N` bytes off the beginning.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Stop> {
    bytes.split_off(..N).and_then(<[u8]>::first_chunk).copied().ok_or(Stop::Incomplete)
}

impl Frame {
    /// Takes the head of a frame.
    fn take(bytes: &mut &[u8]) -> Result<Self, Stop> {
        let [first, second] = take(bytes)?;
        // The bits between are reserved.
        let (is_last, opcode, length) = (first & FLAG != 0, first & !FLAG, second & !FLAG);
        let is_data = matches!(opcode, CONTINUATION | TEXT | BINARY);
        let is_control = matches!(opcode, CLOSE | PING | PONG) && is_last && length < 126;
        ensure((is_data || is_control) && second & FLAG != 0, PROTOCOL_ERROR)?;
        let missing_bytes = match length {
            126 => u16::from_be_bytes(take(bytes)?).into(),
            127 => usize::try_from(u64::from_be_bytes(take(bytes)?)).or(Err(Stop::Close(TOO_BIG)))?,
            length => length.into(),
        };
        Ok(Self { is_last, opcode, mask: take(bytes)?, missing_bytes })
    }

    /// Removes the mask from what has come of the payload.
    fn unmask(&mut self, payload: &mut [u8]) {
        let mask = u32::from_ne_bytes(self.mask);
        let (words, rest) = payload.as_chunks_mut();
        words.iter_mut().for_each(|word| *word = (u32::from_ne_bytes(*word) ^ mask).to_ne_bytes());
        rest.iter_mut().zip(self.mask).for_each(|(byte, key)| *byte ^= key);
        self.mask.rotate_left(rest.len());
        self.missing_bytes -= payload.len();
    }
}

fn write_frame(opcode: u8, payload: Vec<u8>, cx: &mut Context<'_>) {
    let length = (payload.len() as u64).to_be_bytes();
    cx.write(&[FLAG | opcode]);
    match payload.len() {
        ..126 => cx.write(&length[7..]),
        126..=0xffff => cx.write(&[&[126], &length[6..]].concat()),
        _ => cx.write(&[&[127], &length[..]].concat()),
    };
    cx.write_shared(payload);
}

/// How much of the text is valid. Only if it goes on may its last character be incomplete.
fn validate(text: &[u8], is_whole: bool) -> Result<usize, Stop> {
    let Err(error) = str::from_utf8(text) else { return Ok(text.len()) };
    ensure(error.error_len().is_none() && !is_whole, INVALID_DATA)?;
    Ok(error.valid_up_to())
}

/// The code with which a close frame is answered: its own, if it is in order.
fn code_for_close(payload: &[u8]) -> u16 {
    match payload.first_chunk().map(|code| u16::from_be_bytes(*code)) {
        None if payload.is_empty() => NO_CODE,
        Some(_) if str::from_utf8(&payload[2..]).is_err() => INVALID_DATA,
        Some(code @ (1000..=1003 | 1007..=1014 | 3000..=4999)) => code,
        _ => PROTOCOL_ERROR,
    }
}

/// The proof that the client's request was understood, if it is an opening handshake.
fn accept(request: &Request<'_, '_>) -> Option<String> {
    let values = |name: &'static str| {
        let fields = request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.flat_map(|field| field.value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
    };
    let has = |name, value: &[u8]| values(name).any(|found| found.eq_ignore_ascii_case(value));
    let is_get = request.method == Some("GET") && request.version == Some(1) && values("Host").count() == 1;
    let is_upgrade = has("Connection", b"upgrade") && has("Upgrade", b"websocket");
    let key = values("Sec-WebSocket-Key").next().filter(|_| has("Sec-WebSocket-Version", b"13"))?;
    let is_key = BASE64.decode(key).is_ok_and(|key| key.len() == 16);
    (is_get && is_upgrade && is_key).then(|| BASE64.encode(Sha1::from([key, GUID].concat()).digest().bytes()))
}

/// One client.
#[derive(Default)]
pub(crate) struct WebSocket {
    /// Whether the opening handshake is over.
    is_open: bool,
    /// The frame whose payload comes.
    frame: Option<Frame>,
    /// The kind of the message that has begun: `TEXT` or `BINARY`.
    kind: Option<u8>,
    /// What has come of it.
    message: Vec<u8>,
    /// How much of that is known to be valid text.
    valid_bytes: usize,
}

impl WebSocket {
    fn shake_hands(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) -> Result<(), Stop> {
        let mut fields = [EMPTY_HEADER; 64];
        let mut request = Request::new(&mut fields);
        let parsed = request.parse(input.bytes());
        let (Ok(Status::Complete(head_bytes)), Some(proof)) = (parsed, accept(&request)) else {
            if parsed != Ok(Status::Partial) || input.bytes().len() >= MAX_HEAD_BYTES {
                cx.write(REFUSED);
                cx.finish();
            }
            return Err(Stop::Incomplete);
        };
        input.consume(head_bytes);
        self.is_open = true;
        cx.cancel_timer(0);
        write!(cx, "{ACCEPTED}Sec-WebSocket-Accept: {proof}\r\n\r\n");
        Ok(())
    }

    /// Takes a control frame, or the head of a frame that belongs to a message.
    fn take_frame(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) -> Result<(), Stop> {
        let mut rest = input.bytes();
        let mut frame = Frame::take(&mut rest)?;
        if frame.opcode >= CLOSE {
            let mut payload = rest.split_off(..frame.missing_bytes).ok_or(Stop::Incomplete)?.to_vec();
            frame.unmask(&mut payload);
            ensure(frame.opcode != CLOSE, code_for_close(&payload))?;
            if frame.opcode == PING {
                write_frame(PONG, payload, cx);
            }
        } else {
            ensure(self.kind.is_some() == (frame.opcode == CONTINUATION), PROTOCOL_ERROR)?;
            ensure(frame.missing_bytes <= MAX_MESSAGE_BYTES - self.message.len(), TOO_BIG)?;
            self.message.reserve(frame.missing_bytes.min(RESERVED_BYTES));
            (self.kind, self.frame) = (self.kind.or(Some(frame.opcode)), Some(frame));
        }
        input.consume(input.bytes().len() - rest.len());
        Ok(())
    }

    /// Takes what has come of the next frame, and echoes its message if that is whole.
    fn take_next(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) -> Result<(), Stop> {
        let Some(frame) = &mut self.frame else { return self.take_frame(input, cx) };
        let (start, count) = (self.message.len(), frame.missing_bytes.min(input.bytes().len()));
        self.message.extend_from_slice(&input.bytes()[..count]);
        input.consume(count);
        frame.unmask(&mut self.message[start..]);
        if self.kind == Some(TEXT) {
            let is_whole = frame.is_last && frame.missing_bytes == 0;
            self.valid_bytes += validate(&self.message[self.valid_bytes..], is_whole)?;
        }
        let frame = self.frame.take_if(|frame| frame.missing_bytes == 0).ok_or(Stop::Incomplete)?;
        if let Some(kind) = self.kind.take_if(|_| frame.is_last) {
            self.valid_bytes = 0;
            write_frame(kind, mem::take(&mut self.message), cx);
        }
        Ok(())
    }
}

impl Protocol for WebSocket {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.set_timer(0, HANDSHAKE_TIMEOUT);
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        while cx.flow() != Flow::Full {
            match if self.is_open { self.take_next(input, cx) } else { self.shake_hands(input, cx) } {
                Ok(()) => {}
                Err(Stop::Incomplete) => return,
                Err(Stop::Close(code)) => {
                    let payload = if code == NO_CODE { vec![] } else { code.to_be_bytes().to_vec() };
                    write_frame(CLOSE, payload, cx);
                    return cx.finish();
                }
            }
        }
        cx.pause_reading();
    }

    /// The frames that were not taken come again.
    fn on_writable(&mut self, cx: &mut Context<'_>) {
        cx.resume_reading();
    }
}

fn run(address: &str) -> Result<(), Error> {
    let server = Server::builder().bind([address])?;
    println!("listening on {}", server.local_addrs()[0]);
    server.run(|_peer| Some(WebSocket::default())).map(drop)
}

fn main() -> ExitCode {
    let Some(address) = env::args().nth(1) else {
        eprintln!("usage: websocket ADDR");
        return ExitCode::from(2);
    };
    if let Err(error) = run(&address) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
