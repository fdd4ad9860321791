//! `websocket` with clients that others wrote, with Autobahn's test suite, and byte by byte.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use super::{clients, is_installed};
use crate::util::{self, Ended, Program};

/// The longest message.
const MAX_MESSAGE: usize = 16 << 20;

/// The opening handshake of RFC 6455, section 1.3, and the answer's proof.
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const FIELDS: &str =
    "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13";

/// A frame's first byte: whether it is the last of its message, and what it is.
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

fn start() -> Option<(Program, SocketAddr)> {
    super::server("websocket")
}

/// A client that speaks no more of the protocol than the test wants it to.
struct Client {
    stream: TcpStream,
}

impl Client {
    /// Behind the opening handshake.
    #[track_caller]
    fn open(address: SocketAddr) -> Self {
        let mut client = Self { stream: util::connect(address) };
        client.send(&upgrade());
        client.receive_upgrade();
        client
    }

    #[track_caller]
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
    }

    #[track_caller]
    fn receive_upgrade(&mut self) {
        let head = read_head(&mut self.stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let fields: Vec<String> = head.lines().map(str::to_lowercase).collect();
        assert!(fields.contains(&"upgrade: websocket".to_owned()), "{head}");
        assert!(fields.contains(&"connection: upgrade".to_owned()), "{head}");
        assert!(head.contains(PROOF), "{head}");
        assert!(!head.to_lowercase().contains("sec-websocket-extensions"), "{head}");
    }

    /// The next frame: its first byte, and what it carries.
    #[track_caller]
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).expect("a frame");
        let [first, length] = head;
        let length = match length {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).expect("a length");
                u16::from_be_bytes(length).into()
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length).expect("a length");
                usize::try_from(u64::from_be_bytes(length)).expect("a length")
            }
            _ => length.into(),
        };
        assert!(length <= MAX_MESSAGE, "a masked frame, or {length} bytes");
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).expect("the whole frame");
        (first, payload)
    }

    #[track_caller]
    fn expect(&mut self, first: u8, payload: &[u8]) {
        let (kind, received) = self.receive();
        assert_eq!(
            (kind, received.len()),
            (first, payload.len()),
            "{:?}",
            &received[..received.len().min(99)]
        );
        assert!(received == payload, "the payload differs");
    }

    /// The code of the close frame that comes next, and that the end follows it.
    #[track_caller]
    fn expect_close(&mut self) -> Option<u16> {
        let (first, payload) = self.receive();
        assert_eq!(first, FIN | CLOSE);
        assert_eq!(util::read_to_end(&self.stream), b"");
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        assert!(code.is_some() || payload.is_empty(), "{payload:?}");
        assert!(std::str::from_utf8(payload.get(2..).unwrap_or_default()).is_ok(), "{payload:?}");
        code
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

fn upgrade() -> Vec<u8> {
    format!("GET /chat HTTP/1.1\r\n{FIELDS}\r\n{KEY}\r\n\r\n").into_bytes()
}

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len() as u64);
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.into_iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// What is before the mask.
fn head(first: u8, length: u64) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    let mut bytes = vec![first];
    if let Some(length) = u8::try_from(length).ok().filter(|length| *length < 126) {
        bytes.push(MASKED | length);
    } else if let Ok(length) = u16::try_from(length) {
        bytes.push(MASKED | 126);
        bytes.extend(length.to_be_bytes());
    } else {
        bytes.push(MASKED | 127);
        bytes.extend(length.to_be_bytes());
    }
    bytes
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// The code with which the server ends a client that sends this.
#[track_caller]
fn code_for(address: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut client = Client::open(address);
    client.send(bytes);
    client.expect_close()
}

/// Each gets this code, whole and byte by byte.
#[track_caller]
fn each_is_closed_with(code: u16, violations: &[Vec<u8>]) {
    let Some((_program, address)) = start() else { return };
    for bytes in violations {
        let shown = bytes[..bytes.len().min(40)].escape_ascii();
        assert_eq!(code_for(address, bytes), Some(code), "{shown}");
        let mut client = Client::open(address);
        for byte in bytes {
            client.send(&[*byte]);
        }
        assert_eq!(client.expect_close(), Some(code), "byte by byte: {shown}");
    }
}

#[test]
fn the_client_of_pythons_websockets_gets_its_echo() {
    let Some(python) = clients::python("websockets") else { return };
    let Some((_program, address)) = start() else { return };
    let script = clients::script("websockets_client.py");
    let ended = Ended::run_within(LIMIT, Command::new(python).arg(script).arg(address.to_string()));
    assert!(ended.status.success(), "{}", ended.stderr);
}

#[test]
fn the_client_of_nodes_ws_gets_its_echo() {
    let Some(mut node) = clients::node("ws") else { return };
    let Some((_program, address)) = start() else { return };
    let script = clients::script("ws_client.js");
    let ended = Ended::run_within(LIMIT, node.arg(script).arg(address.to_string()));
    assert!(ended.status.success(), "{}", ended.stderr);
}

/// How long clients that send many large messages may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs these cases of Autobahn's test suite, of which there are `count`.
#[track_caller]
fn autobahn(count: usize, cases: &[&str]) {
    let Some(python2) = clients::autobahn() else { return };
    let Some((_program, address)) = start() else { return };
    let folder = TempDir::new().expect("a folder");
    let mut command = Command::new(python2);
    command.arg(clients::script("autobahn.py")).arg(folder.path()).arg(address.to_string()).args(cases);
    let ended = Ended::run_within(LIMIT, &mut command);
    assert!(ended.status.success(), "{}", ended.stderr);
    let mut lines = ended.stdout.lines();
    let summary = lines.next().expect("a summary");
    assert_eq!(lines.collect::<Vec<_>>(), [""; 0], "{summary}");
    assert!(summary.starts_with(&format!("{count} cases: ")), "{summary}");
    println!("{summary}");
}

#[test]
fn autobahn_finds_nothing_wrong_with_frames_and_closing() {
    autobahn(102, &["1.*", "2.*", "3.*", "4.*", "5.*", "7.*", "10.*"]);
}

#[test]
fn autobahn_finds_nothing_wrong_with_texts() {
    autobahn(145, &["6.*"]);
}

#[test]
fn autobahn_finds_nothing_wrong_with_large_messages() {
    autobahn(54, &["9.*"]);
}

#[test]
fn curl_is_told_that_this_is_no_web_server() {
    if !is_installed("curl") {
        return;
    }
    let Some((_program, address)) = start() else { return };
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*", "--output", "/dev/null"]);
    let ended = Ended::run(curl.args(["--write-out", "%{http_code}", &format!("http://{address}/")]));
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stdout == "400" || ended.stdout == "426", "{ended:?}");
}

#[test]
fn opening_handshakes_are_read_as_http() {
    let Some((_program, address)) = start() else { return };
    let requests = [
        format!("GET / HTTP/1.1\r\n{FIELDS}\r\n{KEY}\r\n\r\n"),
        format!("GET /path?query HTTP/1.1\r\n{KEY}\r\nOrigin: http://example.com\r\n{FIELDS}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{}\r\n{}\r\n\r\n", FIELDS.to_uppercase(), KEY),
        format!("GET / HTTP/1.1\r\n{FIELDS}\r\n{KEY}\r\nSec-WebSocket-Protocol: chat, superchat\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\n{FIELDS}\r\n{KEY}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        ),
        format!(
            "GET / HTTP/1.1\r\nHost:x\r\nUpgrade:websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version:\t13 \r\n{KEY}\r\n\r\n"
        ),
    ];
    for request in requests {
        for piece in [usize::MAX, 1] {
            let mut client = Client { stream: util::connect(address) };
            for bytes in request.as_bytes().chunks(piece) {
                client.send(bytes);
            }
            client.receive_upgrade();
            client.send(&frame(FIN | TEXT, b"hello"));
            client.expect(FIN | TEXT, b"hello");
        }
    }
}

#[test]
fn requests_that_are_no_opening_handshake_are_refused() {
    let Some((_program, address)) = start() else { return };
    let without = |field: &str| {
        let whole = format!("GET / HTTP/1.1\r\n{FIELDS}\r\n{KEY}\r\n\r\n");
        let lines = whole.split_inclusive("\r\n").filter(|line| !line.starts_with(field));
        lines.collect::<String>()
    };
    let with = |from: &str, to: &str| {
        let whole = format!("GET / HTTP/1.1\r\n{FIELDS}\r\n{KEY}\r\n\r\n");
        assert!(whole.contains(from));
        whole.replace(from, to)
    };
    for request in [
        without("Host"),
        without("Upgrade"),
        without("Connection"),
        without("Sec-WebSocket-Version"),
        without("Sec-WebSocket-Key"),
        with("GET", "POST"),
        with("HTTP/1.1", "HTTP/1.0"),
        with("websocket", "h2c"),
        with("Connection: Upgrade", "Connection: close"),
        with("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
        with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j!!=="),
        with("dGhlIHNhbXBsZSBub25jZQ==", ""),
        with("GET / HTTP/1.1", "hello"),
    ] {
        let mut stream = util::connect(address);
        // More behind it must not turn into a reset that destroys the reply.
        stream.write_all(&[request.as_bytes(), &[b'x'; 50_000]].concat()).expect("send");
        let reply = String::from_utf8(util::finish(&stream)).expect("text");
        assert!(reply.starts_with("HTTP/1.1 4"), "{request}{reply}");
    }
    let mut stream = util::connect(address);
    stream.write_all(with("Version: 13", "Version: 8").as_bytes()).expect("send");
    let reply = String::from_utf8(util::finish(&stream)).expect("text");
    assert!(
        reply.starts_with("HTTP/1.1 426 ") && reply.contains("\r\nSec-WebSocket-Version: 13\r\n"),
        "{reply}"
    );
}

#[test]
fn a_head_without_an_end_is_not_kept() {
    let Some((_program, address)) = start() else { return };
    let mut stream = util::connect(address);
    stream.write_all(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(64 << 10)).as_bytes()).expect("send");
    let reply = String::from_utf8(util::read_to_end(&stream)).expect("text");
    assert!(reply.starts_with("HTTP/1.1 4"), "{reply}");
}

#[test]
fn messages_of_every_length_come_back() {
    let Some((_program, address)) = start() else { return };
    let mut client = Client::open(address);
    for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 1 << 20] {
        for kind in [TEXT, BINARY] {
            let payload = if kind == TEXT { vec![b'x'; length] } else { util::pattern(1, length) };
            client.send(&frame(FIN | kind, &payload));
            client.expect(FIN | kind, &payload);
        }
    }
}

#[test]
fn frames_may_come_with_the_handshake_and_byte_by_byte() {
    let Some((_program, address)) = start() else { return };
    let frames =
        [frame(FIN | TEXT, "grüße".as_bytes()), frame(FIN | PING, b"ping"), close(1000, b"done")].concat();
    let bytes = [upgrade(), frames].concat();
    for piece in [usize::MAX, 1] {
        let mut client = Client { stream: util::connect(address) };
        for bytes in bytes.chunks(piece) {
            client.send(bytes);
        }
        client.receive_upgrade();
        client.expect(FIN | TEXT, "grüße".as_bytes());
        client.expect(FIN | PONG, b"ping");
        assert_eq!(client.expect_close(), Some(1000));
    }
}

#[test]
fn fragments_are_joined_and_pings_between_them_answered_at_once() {
    let Some((_program, address)) = start() else { return };
    let mut client = Client::open(address);
    // Split within a character.
    client.send(&frame(TEXT, b"gr\xc3"));
    client.send(&frame(FIN | PING, b"1"));
    client.expect(FIN | PONG, b"1");
    client.send(&frame(CONTINUATION, b""));
    client.send(&frame(FIN | PONG, b"not asked for"));
    client.send(&frame(FIN | PING, b"2"));
    client.expect(FIN | PONG, b"2");
    client.send(&frame(FIN | CONTINUATION, b"\xbc\xc3\x9fe"));
    let (first, whole) = client.receive();
    // An echo may come as it went.
    let whole =
        if first & FIN == 0 { [whole, client.receive().1, client.receive().1].concat() } else { whole };
    assert_eq!((first & 0x0f, &whole[..]), (TEXT, "grüße".as_bytes()));
}

#[test]
fn violations_of_framing_are_closed_with_1002() {
    let unmasked =
        |first: u8, payload: &[u8]| [&[first, u8::try_from(payload.len()).expect("short")], payload].concat();
    let mut violations =
        vec![unmasked(FIN | TEXT, b"hello"), unmasked(FIN | PING, b""), unmasked(FIN | CLOSE, b"")];
    violations.extend([0x40, 0x20, 0x10, 0x70].map(|reserved| frame(FIN | reserved | TEXT, b"x")));
    violations.push(frame(FIN | 0x40 | PING, b""));
    violations.extend([3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map(|opcode| frame(FIN | opcode, b"")));
    violations.extend([PING, PONG, CLOSE].map(|control| frame(control, b"")));
    violations.extend([PING, PONG, CLOSE].map(|control| frame(FIN | control, &[b'x'; 126])));
    violations.extend([FIN, 0].map(|fin| frame(fin | CONTINUATION, b"nothing to continue")));
    violations.push([frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat());
    violations.push([frame(BINARY, b"a"), frame(FIN | BINARY, b"b")].concat());
    violations.push(frame(FIN | CLOSE, b"\x03"));
    let codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535];
    violations.extend(codes.map(|code| close(code, b"")));
    each_is_closed_with(1002, &violations);
}

#[test]
fn text_that_is_not_utf_8_is_closed_with_1007() {
    let invalid: [&[u8]; 9] = [
        b"\xff",
        b"a\x80",
        b"\xc3",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
    ];
    let mut violations: Vec<_> = invalid.map(|text| frame(FIN | TEXT, text)).into();
    violations.extend(invalid.map(|text| [frame(TEXT, text), frame(FIN | CONTINUATION, b"x")].concat()));
    violations.extend(invalid.map(|text| close(1000, text)));
    // Found before the message is whole.
    violations.push([frame(TEXT, b"\xff"), frame(CONTINUATION, b"x")].concat());
    each_is_closed_with(1007, &violations);
}

#[test]
fn bytes_that_are_not_text_may_be_anything() {
    let Some((_program, address)) = start() else { return };
    let mut client = Client::open(address);
    client.send(&frame(FIN | BINARY, b"\xff\xc3"));
    client.expect(FIN | BINARY, b"\xff\xc3");
}

#[test]
fn the_code_of_a_close_comes_back() {
    let Some((_program, address)) = start() else { return };
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        assert_eq!(code_for(address, &close(code, "grüße".as_bytes())), Some(code));
        assert_eq!(code_for(address, &close(code, b"")), Some(code));
    }
    let longest = [b'x'; 123];
    assert_eq!(code_for(address, &close(1000, &longest)), Some(1000));
    assert!(matches!(code_for(address, &frame(FIN | CLOSE, b"")), None | Some(1000)));
    // Nothing is answered behind it.
    let more = [close(1000, b""), frame(FIN | TEXT, b"x"), frame(FIN | PING, b"")].concat();
    assert_eq!(code_for(address, &more), Some(1000));
}

#[test]
fn a_message_may_have_16_mib() {
    let Some((_program, address)) = start() else { return };
    let payload = util::pattern(2, MAX_MESSAGE);
    let mut client = Client::open(address);
    client.send(&frame(FIN | BINARY, &payload));
    client.expect(FIN | BINARY, &payload);
    // The limit is one of messages, not of connections.
    let (half, other) = payload.split_at(MAX_MESSAGE / 2);
    client.send(&[frame(BINARY, half), frame(CONTINUATION, other)].concat());
    client.send(&[frame(FIN | PING, b"no part of it"), frame(FIN | CONTINUATION, b"")].concat());
    client.expect(FIN | PONG, b"no part of it");
    client.expect(FIN | BINARY, &payload);
}

#[test]
fn a_longer_message_is_closed_with_1009_before_it_has_come() {
    let Some((_program, address)) = start() else { return };
    let mask = [0; 4];
    for length in [MAX_MESSAGE as u64 + 1, 1 << 32, (1 << 63) - 1] {
        let head = [head(FIN | BINARY, length), mask.into()].concat();
        assert_eq!(code_for(address, &head), Some(1009), "{length}");
    }
    let half = vec![0; MAX_MESSAGE / 2 + 1];
    let head = [head(FIN | CONTINUATION, half.len() as u64), mask.into()].concat();
    assert_eq!(code_for(address, &[frame(BINARY, &half), head].concat()), Some(1009));
    // The first bit of 64 must be 0.
    let negative = [&[FIN | BINARY, 0x80 | 127][..], &[0xff; 8], &mask].concat();
    assert!(matches!(code_for(address, &negative), Some(1002 | 1009)));
}

#[test]
fn a_close_arrives_though_the_client_sends_on() {
    let Some((_program, address)) = start() else { return };
    let mut client = Client::open(address);
    client.send(&[frame(FIN | 3, b""), vec![b'x'; 4 << 20]].concat());
    client.stream.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(client.expect_close(), Some(1002));
}

#[test]
fn a_client_that_half_closes_gets_all_of_its_echo() {
    let Some((_program, address)) = start() else { return };
    let mut client = Client::open(address);
    let payload = util::pattern(3, 100_000);
    let sender = client.stream.try_clone().expect("clone");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&sender).write_all(&frame(FIN | BINARY, &payload).repeat(100)).expect("send");
            sender.shutdown(Shutdown::Write).expect("shutdown");
        });
        for _ in 0..100 {
            client.expect(FIN | BINARY, &payload);
        }
    });
    let rest = util::read_to_end(&client.stream);
    assert!(rest.is_empty() || rest.starts_with(&[FIN | CLOSE]), "{rest:?}");
}
