//! A WebSocket (RFC 6455) echo server on tokio.
//!
//! ```sh
//! cargo run --release --manifest-path peers/Cargo.toml --example websocket -- 127.0.0.1:9001
//! python3 -m websockets ws://127.0.0.1:9001/
//! ```

use std::{env, io, process::ExitCode, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Buf, BufMut, BytesMut};
use futures_util::{SinkExt, StreamExt};
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time,
};
use tokio_util::codec::{Decoder, Encoder, Framed, FramedParts};

/// The longest message, of all its fragments.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// The longest head of an opening handshake.
const MAX_HEAD_BYTES: usize = 8 << 10;
const MAX_FIELDS: usize = 64;
const MAX_CONTROL_BYTES: usize = 125;

/// A client that has not sent its opening handshake within this time is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to end after the closing handshake.
const LINGER_TIMEOUT: Duration = Duration::from_secs(10);

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn of(bits: u8) -> Result<Self, Failure> {
        Ok(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return Err(Failure::Violation(PROTOCOL_ERROR)),
        })
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// A whole message, or a control frame.
#[derive(Debug)]
struct Message {
    opcode: Opcode,
    payload: BytesMut,
}

/// Why a connection fails.
#[derive(Debug)]
enum Failure {
    /// The client is told this code.
    Violation(u16),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The head of a frame.
struct Head {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    head_bytes: usize,
    payload_bytes: usize,
}

impl Head {
    /// `None` if it has not come whole.
    fn parse(mut bytes: &[u8]) -> Result<Option<Self>, Failure> {
        let available = bytes.len();
        let (Ok(first), Ok(second)) = (bytes.try_get_u8(), bytes.try_get_u8()) else { return Ok(None) };
        let (fin, opcode) = (first & FIN != 0, Opcode::of(first & 0x0f)?);
        let short = second & !MASKED;
        let is_control_valid = fin && usize::from(short) <= MAX_CONTROL_BYTES;
        if first & RESERVED != 0 || second & MASKED == 0 || opcode.is_control() && !is_control_valid {
            return Err(Failure::Violation(PROTOCOL_ERROR));
        }
        let length = match short {
            126 => bytes.try_get_u16().map(u64::from),
            127 => bytes.try_get_u64(),
            short => Ok(short.into()),
        };
        let Ok(length) = length else { return Ok(None) };
        let Ok(mask) = bytes.try_get_u32() else { return Ok(None) };
        let payload_bytes = usize::try_from(length).map_err(|_| Failure::Violation(TOO_BIG))?;
        let head_bytes = available - bytes.len();
        Ok(Some(Self { fin, opcode, mask: mask.to_be_bytes(), head_bytes, payload_bytes }))
    }
}

/// Joins frames to messages.
#[derive(Debug, Default)]
struct Codec {
    /// The message whose last fragment has not come.
    fragments: Option<Message>,
    /// How much of its text has been validated.
    valid_bytes: usize,
}

impl Decoder for Codec {
    type Item = Message;
    type Error = Failure;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Message>, Failure> {
        while let Some(head) = Head::parse(source)? {
            let joined_bytes = self.fragments.as_ref().map_or(0, |message| message.payload.len());
            if !head.opcode.is_control() && head.payload_bytes > MAX_MESSAGE_BYTES - joined_bytes {
                return Err(Failure::Violation(TOO_BIG));
            }
            let frame_bytes = head.head_bytes + head.payload_bytes;
            if source.len() < frame_bytes {
                source.reserve(frame_bytes - source.len());
                return Ok(None);
            }
            let mut payload = source.split_to(frame_bytes);
            payload.advance(head.head_bytes);
            unmask(&mut payload, head.mask);
            if head.opcode.is_control() {
                return Ok(Some(Message { opcode: head.opcode, payload }));
            }
            if let Some(message) = self.join(head.opcode, head.fin, payload)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// A client that ends within a frame is gone like any other.
    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Message>, Failure> {
        self.decode(source)
    }
}

impl Codec {
    /// The message, if this frame is its last.
    fn join(&mut self, opcode: Opcode, fin: bool, payload: BytesMut) -> Result<Option<Message>, Failure> {
        let message = match (self.fragments.take(), opcode) {
            (Some(mut message), Opcode::Continuation) => {
                message.payload.unsplit(payload);
                message
            }
            (None, Opcode::Text | Opcode::Binary) => {
                self.valid_bytes = 0;
                Message { opcode, payload }
            }
            _ => return Err(Failure::Violation(PROTOCOL_ERROR)),
        };
        if message.opcode == Opcode::Text {
            self.valid_bytes += validate(&message.payload[self.valid_bytes..], fin)?;
        }
        if fin {
            return Ok(Some(message));
        }
        self.fragments = Some(message);
        Ok(None)
    }
}

/// How much of the text is valid. Only if it goes on may its last character be incomplete.
fn validate(text: &[u8], is_whole: bool) -> Result<usize, Failure> {
    match str::from_utf8(text) {
        Ok(text) => Ok(text.len()),
        Err(error) if error.error_len().is_none() && !is_whole => Ok(error.valid_up_to()),
        Err(_) => Err(Failure::Violation(INVALID_DATA)),
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = payload.as_chunks_mut();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

impl Encoder<Message> for Codec {
    type Error = io::Error;

    fn encode(&mut self, message: Message, target: &mut BytesMut) -> io::Result<()> {
        target.put_u8(FIN | message.opcode as u8);
        let length = message.payload.len();
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ ..126), _) => target.put_u8(length),
            (_, Ok(length)) => {
                target.put_u8(126);
                target.put_u16(length);
            }
            (_, Err(_)) => {
                target.put_u8(127);
                target.put_u64(length as u64);
            }
        }
        target.put(message.payload);
        Ok(())
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(rest) = time::timeout(HANDSHAKE_TIMEOUT, upgrade(&mut stream)).await?? else {
        return linger(stream).await;
    };
    let mut parts = FramedParts::new::<Message>(stream, Codec::default());
    parts.read_buf = rest;
    let mut framed = Framed::from_parts(parts);
    let payload = match echo(&mut framed).await {
        Ok(Some(payload)) => payload,
        Err(Failure::Violation(code)) => BytesMut::from(&code.to_be_bytes()[..]),
        Ok(None) => return Ok(()),
        Err(Failure::Io(error)) => return Err(error),
    };
    framed.send(Message { opcode: Opcode::Close, payload }).await?;
    linger(framed.into_inner()).await
}

/// Echoes until the client closes; returns what the server's close frame says, or `None` where the client has ended
/// without one.
async fn echo(framed: &mut Framed<TcpStream, Codec>) -> Result<Option<BytesMut>, Failure> {
    while let Some(message) = framed.next().await {
        let Message { opcode, payload } = message?;
        match opcode {
            Opcode::Text | Opcode::Binary => framed.send(Message { opcode, payload }).await?,
            Opcode::Ping => framed.send(Message { opcode: Opcode::Pong, payload }).await?,
            Opcode::Pong | Opcode::Continuation => {}
            Opcode::Close => return answer_to_close(payload).map(Some),
        }
    }
    Ok(None)
}

/// The code that the client has sent, if it has.
fn answer_to_close(mut payload: BytesMut) -> Result<BytesMut, Failure> {
    if payload.is_empty() {
        return Ok(payload);
    }
    let reason = payload.split_off(payload.len().min(2));
    let Ok(code) = (&payload[..]).try_get_u16() else { return Err(Failure::Violation(PROTOCOL_ERROR)) };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Failure::Violation(PROTOCOL_ERROR));
    }
    validate(&reason, true)?;
    Ok(payload)
}

/// The opening handshake. Returns what the client has sent behind it, or `None` if it was refused.
async fn upgrade(stream: &mut TcpStream) -> io::Result<Option<BytesMut>> {
    let mut buffer = BytesMut::with_capacity(MAX_HEAD_BYTES);
    let reply = loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&buffer) {
            Ok(httparse::Status::Complete(head_bytes)) => match accept_key(&request) {
                Ok(key) => {
                    let reply = format!(
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: {key}\r\n\r\n"
                    );
                    stream.write_all(reply.as_bytes()).await?;
                    buffer.advance(head_bytes);
                    return Ok(Some(buffer));
                }
                Err(status) => break status,
            },
            Ok(httparse::Status::Partial) if buffer.len() < MAX_HEAD_BYTES => {}
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                break "431 Request Header Fields Too Large";
            }
            Err(_) => break "400 Bad Request",
        }
    };
    let reply = format!(
        "HTTP/1.1 {reply}\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(reply.as_bytes()).await?;
    Ok(None)
}

/// The answer to the client's key, or the status with which it is refused.
fn accept_key(request: &httparse::Request<'_, '_>) -> Result<String, &'static str> {
    let values = |name: &str| {
        let fields = request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value.trim_ascii()).collect::<Vec<_>>()
    };
    let has_token = |name, token: &str| {
        let mut tokens = values(name).into_iter().flat_map(|value| value.split(|&byte| byte == b','));
        tokens.any(|value| value.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    if request.method != Some("GET") {
        return Err("405 Method Not Allowed\r\nAllow: GET");
    }
    if !has_token("Upgrade", "websocket") {
        return Err("426 Upgrade Required\r\nUpgrade: websocket");
    }
    if request.version != Some(1) || !has_token("Connection", "upgrade") || values("Host").len() != 1 {
        return Err("400 Bad Request");
    }
    if values("Sec-WebSocket-Version") != [b"13"] {
        return Err("426 Upgrade Required\r\nUpgrade: websocket");
    }
    let keys = values("Sec-WebSocket-Key");
    let &[key] = &keys[..] else { return Err("400 Bad Request") };
    if BASE64_STANDARD.decode(key).is_ok_and(|key| key.len() == 16) {
        Ok(BASE64_STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize()))
    } else {
        Err("400 Bad Request")
    }
}

/// Ends the connection. If it were closed while the client still sends, a reset would destroy the frames in flight.
async fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    time::timeout(LINGER_TIMEOUT, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await??;
    Ok(())
}

async fn run(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            // How a client ends concerns no other.
            Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
            Err(error) => {
                eprintln!("accept: {error}");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [address] = args.as_slice() else {
        eprintln!("usage: websocket ADDR");
        return ExitCode::from(2);
    };
    match run(address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
