//! The example `http`, with curl, with wrk, and with clients that mean no good.

/// The example's own code, where a test needs other limits than the program has, its counters, or a drain.
#[path = "../../examples/http"]
pub(crate) mod program {
    pub(super) mod body;
    pub(crate) mod connection;
    pub(super) mod reply;
    pub(super) mod request;
}

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use echoloop::{CloseReason, Config};

use self::program::connection::Http;
use super::is_installed;
use crate::util::{self, Ended, Program, Running};

const PAGE: &str = "This is echoloop's example of HTTP/1.1.\n";

/// What comes behind a request that is refused, and must not be taken for another one.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// The program, on a port of its own.
fn start() -> (Program, SocketAddr) {
    let program = Program::spawn(util::example("http", &["127.0.0.1:0"]));
    let address = program.listening();
    (program, address)
}

/// The same on a thread of this process.
fn run(config: Config, request_timeout: Duration) -> Running<Http> {
    Running::start(config, &["127.0.0.1:0"], move |_| Some(Http::new(request_timeout)))
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

/// The next reply, to a request other than HEAD; `None` at the end.
#[track_caller]
fn receive(stream: &mut impl Read) -> Option<Reply> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).expect("a clean end") == 0 {
            assert!(head.is_empty(), "the end within {:?}", String::from_utf8_lossy(&head));
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let status = head[9..12].parse().expect("a status");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    stream.read_exact(&mut body).expect("the whole body");
    Some(Reply { status, head, body })
}

/// All replies until the server ends the connection, to what is sent in pieces of at most `piece` bytes.
#[track_caller]
fn ask(address: SocketAddr, request: &[u8], piece: usize) -> Vec<Reply> {
    let mut stream = util::connect(address);
    for bytes in request.chunks(piece) {
        stream.write_all(bytes).expect("the server receives until we end");
    }
    let all = util::read_to_end(&stream);
    let mut rest = &all[..];
    std::iter::from_fn(|| receive(&mut rest)).collect()
}

/// A request with these fields and a body, and that the connection is to end.
fn post(fields: &str, body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

/// Each request, whole and byte by byte, gets this one reply, and no other.
#[track_caller]
fn each_gets(status: u16, requests: &[String]) {
    let (_program, address) = start();
    for request in requests {
        let bytes = format!("{request}{SMUGGLED}");
        for piece in [usize::MAX, 1] {
            let replies = ask(address, bytes.as_bytes(), piece);
            let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
            let shape = request.get(..request.len().min(200));
            assert_eq!(statuses, [status], "{shape:?} in pieces of {piece}");
            assert!(replies[0].head.contains("\r\nConnection: close\r\n"), "{shape:?}: {replies:?}");
        }
    }
}

#[test]
fn lengths_that_can_be_read_in_two_ways_are_refused() {
    let fields = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 5,6",
        "Content-Length: 5 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5.0",
        "Content-Length: 5;",
        "Content-Length: \"5\"",
        "Content-Length:",
        "Content-Length : 5",
        "Content-Length: 5\r\n 6",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: , chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: gzip,\r\n\tchunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\0\r\nTransfer-Encoding: chunked",
        "Transfer\u{a0}Encoding: chunked",
    ];
    each_gets(400, &fields.map(|fields| post(fields, "5\r\nhello\r\n0\r\n\r\n")));
    let of_http_1_0 = "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    each_gets(400, &[of_http_1_0.to_owned()]);
    each_gets(501, &[post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n")]);
}

#[test]
fn chunks_that_can_be_read_in_two_ways_are_refused() {
    let bodies = [
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5g\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5;x\nhello\r\n0\r\n\r\n",
        "5;x\rhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        "5\r\nhello\r\n0\r\n X: y\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
        "5\r\nhello\r\n0\r\nno field\r\n\r\n",
    ];
    each_gets(400, &bodies.map(chunked));
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let long = "x".repeat(5000);
    let many = format!("1;{}\r\nx\r\n", &long[..300]).repeat(4);
    each_gets(
        400,
        &[format!("5;{long}\r\nhello\r\n0\r\n\r\n"), many + "0\r\n\r\n"].map(|body| chunked(&body)),
    );
    let fields = "X: y\r\n".repeat(17);
    each_gets(
        431,
        &[format!("0\r\nX: {long}\r\n\r\n"), format!("0\r\n{fields}\r\n")].map(|body| chunked(&body)),
    );
}

#[test]
fn heads_that_are_not_http_1_1_are_refused() {
    let heads = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@x\r\n\r\n",
        "GET foo HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http:///echo HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://?x HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://user@x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\r\n",
        "GET / http/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTPS/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost\r\n\r\n",
        "\u{16}\u{3}\u{1}\0\u{a5}\u{1}\0\0",
    ];
    each_gets(400, &heads.map(str::to_owned));
    let hosts = [
        "", ":80", "x:y:z", "x:y:80", "x:999999", "x:+80", "[::1", "[::1]x", "[x]", "::1", "%zz", "a%4",
        "\u{e9}",
    ];
    each_gets(400, &hosts.map(|host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")));
    let versions = ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3"];
    each_gets(505, &versions.map(|version| format!("GET / {version}\r\nHost: x\r\n\r\n")));
}

#[test]
fn heads_and_bodies_are_bounded() {
    let long = "x".repeat(9000);
    each_gets(414, &[format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n")]);
    let fields = "X: y\r\n".repeat(64);
    each_gets(431, &[post(&format!("X: {long}"), ""), format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")]);
    each_gets(
        413,
        &[
            post("Content-Length: 65537", ""),
            post("Content-Length: 18446744073709551621", ""),
            chunked("10001\r\n"),
            chunked("FFFFFFFFFFFFFFFF\r\n"),
        ],
    );
    each_gets(413, &[chunked("8000\r\n") + &long[..8192].repeat(4) + "\r\n8001\r\n"]);
    each_gets(417, &[post("Expect: the-unexpected\r\nContent-Length: 5", "hello")]);
}

#[test]
fn every_way_to_write_a_body_is_understood() {
    let (_program, address) = start();
    let requests = [
        post("Content-Length: 5", "hello"),
        post("CONTENT-LENGTH:\t005 ", "hello"),
        post("Content-Length: 5\r\nX:", "hello"),
        format!("\r\n\r\n{}", post("Content-Length: 5", "hello")),
        "POST HtTp://[::1]:80/echo?query HTTP/1.1\r\nHost: a%4a-b:\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello".to_owned(),
        "POST http://x/echo?query HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        chunked("5\r\nhello\r\n0\r\n\r\n"),
        chunked("1\r\nh\r\n4\r\nello\r\n000\r\n\r\n"),
        chunked("0000000000000005\r\nhello\r\n0\r\n\r\n"),
        chunked("5;x\r\nhello\r\n0 ; y=\"z\"\t\r\n\r\n"),
        chunked("5\r\nhello\r\n0\r\nContent-Length: 7\r\nX: y\r\n\r\n"),
        post("transfer-encoding:CHUNKED", "5\r\nhello\r\n0\r\n\r\n"),
    ];
    for request in requests {
        for piece in [usize::MAX, 1] {
            let replies = ask(address, format!("{request}{SMUGGLED}").as_bytes(), piece);
            assert!(
                matches!(&*replies, [Reply { status: 200, body, .. }] if body == b"hello"),
                "{request:?}: {replies:?}"
            );
        }
    }
}

#[test]
fn connections_are_kept_or_ended_as_the_client_wants() {
    let (_program, address) = start();
    let last = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for (request, count) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 2),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade, CLOSE\r\n\r\n", 1),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", 1),
        ("GET / HTTP/1.0\r\n\r\n", 1),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 2),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", 1),
    ] {
        let replies = ask(address, format!("{request}{last}").as_bytes(), usize::MAX);
        assert_eq!(replies.len(), count, "{request:?}: {replies:?}");
        assert_eq!(replies[0].body, PAGE.as_bytes());
        let kept = replies[0].head.contains("\r\nConnection: keep-alive\r\n");
        assert_eq!(kept, count == 2, "{request:?}: {replies:?}");
    }
}

#[test]
fn a_reply_to_head_ends_with_its_head() {
    let (_program, address) = start();
    let mut stream = util::connect(address);
    stream.write_all(b"HEAD /large HTTP/1.1\r\nHost: x\r\n\r\nHEAD /echo HTTP/1.0\r\n\r\n").expect("write");
    let all = String::from_utf8(util::read_to_end(&stream)).expect("text");
    let heads: Vec<&str> = all.split_terminator("\r\n\r\n").collect();
    let [large, echo] = heads[..] else { panic!("{all}") };
    assert!(large.starts_with("HTTP/1.1 200 ") && large.contains("\r\nContent-Length: 1048576\r\n"), "{all}");
    assert!(echo.starts_with("HTTP/1.1 405 ") && echo.contains("\r\nAllow: POST"), "{all}");
}

#[test]
fn a_client_is_told_to_continue_when_it_waits_for_it() {
    let (_program, address) = start();
    let mut stream = util::connect(address);
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("write");
    assert_eq!(receive(&mut stream).expect("an interim reply").status, 100);
    stream.write_all(b"hello").expect("write");
    assert_eq!(receive(&mut stream).expect("a reply").body, b"hello");
    // Who does not wait needs no telling, and HTTP/1.0 knows nothing of it.
    stream.write_all(format!("{head}hello").as_bytes()).expect("write");
    assert_eq!(receive(&mut stream).expect("a reply").body, b"hello");
    let mut stream = util::connect(address);
    stream.write_all(head.replace("/1.1", "/1.0").as_bytes()).expect("write");
    stream.shutdown(Shutdown::Write).expect("shutdown");
    assert!(receive(&mut stream).is_none());
}

/// Limits under which a server that writes `excess` bytes more than it has room for aborts the connection.
fn little_memory(excess: usize) -> Config {
    let mut config = Config::default();
    config.set_high_water(16 << 10);
    config.queue_limit_bytes = config.high_water_bytes + excess;
    config
}

const GET_LARGE: &str = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn replies_are_written_no_faster_than_they_are_received() {
    let server = run(little_memory(20 << 10), util::DEADLINE);
    let mut stream = server.connect();
    stream.write_all(GET_LARGE.repeat(2000).as_bytes()).expect("the kernel's buffers hold as much");
    let large: String = (0..131_072).map(|line| format!("{line:07}\n")).collect();
    for _ in 0..20 {
        let reply = receive(&mut stream).expect("a reply");
        assert!(reply.body == large.as_bytes());
    }
    drop(stream);
    server.wait_until_idle();
    let stats = server.stats();
    assert_eq!(stats.closed(CloseReason::QueueLimit) + stats.closed(CloseReason::InputLimit), 0, "{stats}");
    assert!(stats.bytes_sent < 100 << 20, "{stats}");
}

#[test]
fn requests_wait_while_empty_replies_are_not_received() {
    let server = run(little_memory(1 << 10), util::DEADLINE);
    let (mut stream, neighbour) = (server.connect(), server.connect());
    let request = "POST /echo HTTP/1.1\r\nHost: x\r\n\r\n";
    let requests = request.repeat(1_000_000);
    let mut sent = 0;
    // Until nobody takes any more, though the server serves others.
    stream.set_nonblocking(true).expect("set_nonblocking");
    util::until_nothing_moves(|| {
        (&neighbour).write_all(SMUGGLED.as_bytes()).expect("write");
        assert_eq!(receive(&mut &neighbour).expect("a reply").status, 404);
        match stream.write(&requests.as_bytes()[sent..]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            written => {
                sent += written.expect("the server does not end");
                true
            }
        }
    });
    stream.set_nonblocking(false).expect("set_nonblocking");
    let complete = sent / request.len();
    assert!((2000..1_000_000).contains(&complete), "{complete} requests were taken");
    for _ in 0..2000 {
        assert_eq!(receive(&mut stream).expect("a reply").body, b"");
    }
    let stats = server.stats();
    assert_eq!(stats.open, 2, "{stats}");
}

#[test]
fn whoever_ends_first_gets_every_reply_all_the_same() {
    let server = run(little_memory(80 << 10), util::DEADLINE);
    let mut stream = server.connect();
    let body = "x".repeat(60_000);
    let echo = format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{body}");
    let mut sender = stream.try_clone().expect("a second handle");
    let writing = thread::spawn(move || {
        sender.write_all(format!("{GET_LARGE}{echo}").repeat(10).as_bytes()).expect("write");
        sender.write_all(b"GET / HTTP").expect("write");
        sender.shutdown(Shutdown::Write).expect("shutdown");
    });
    for _ in 0..10 {
        assert_eq!(receive(&mut stream).expect("a reply").body.len(), 1 << 20);
        assert!(receive(&mut stream).expect("a reply").body == body.as_bytes());
    }
    assert!(receive(&mut stream).is_none(), "an incomplete request has no reply");
    writing.join().expect("the writer does not panic");
    server.wait_until_idle();
    assert_eq!(server.stats().closed(CloseReason::Peer), 1, "{}", server.stats());
}

#[test]
fn a_request_that_drips_is_given_up() {
    let server = run(Config::default(), Duration::from_millis(300));
    for part in
        ["G", "GET / HTTP/1.1\r\nHost", &post("Content-Length: 5", "hell"), &chunked("5\r\nhello\r\n")]
    {
        let request = format!("{GET_LARGE}{part}");
        let replies = ask(server.address(), request.as_bytes(), usize::MAX);
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [200, 408], "{part:?}");
    }
}

#[test]
fn the_time_for_a_request_ends_with_the_request() {
    let server = run(Config::default(), Duration::from_millis(300));
    // A client that a busy machine holds up for longer is told so, and tries again.
    let mut in_time = None;
    util::eventually("a request that comes in time", || {
        let mut stream = server.connect();
        let (begin, rest) = GET_LARGE.split_at(10);
        let before = server.stats().bytes_received;
        stream.write_all(begin.as_bytes()).expect("write");
        util::eventually("the beginning has come", || server.stats().bytes_received >= before + 10);
        stream.write_all(rest.as_bytes()).expect("write");
        let status = receive(&mut stream).expect("a reply").status;
        assert!(matches!(status, 200 | 408), "{status}");
        in_time = (status == 200).then_some(stream);
        in_time.is_some()
    });
    let mut in_time = in_time.expect("one came in time");
    // The time of this one began later.
    let late = ask(server.address(), b"GET", usize::MAX);
    assert_eq!(late[0].status, 408);
    in_time.write_all(GET_LARGE.as_bytes()).expect("write");
    assert_eq!(receive(&mut in_time).expect("a reply").status, 200);
}

#[test]
fn a_client_that_is_silent_between_requests_is_left_without_a_word() {
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_millis(100));
    let server = run(config, util::DEADLINE);
    assert!(ask(server.address(), b"", 1).is_empty());
    let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    // A client that a busy machine holds up is ended before its request comes, without a word as well.
    util::eventually("a request that comes in time", || {
        let replies = ask(server.address(), request.as_bytes(), usize::MAX);
        assert!(replies.iter().all(|reply| reply.status == 200) && replies.len() < 2, "{replies:?}");
        replies.len() == 1
    });
}

#[test]
fn a_drain_waits_for_the_request_that_has_begun() {
    let mut config = Config::default();
    config.drain_silence = Duration::from_millis(10);
    let server = run(config, util::DEADLINE);
    let ask_half = |stream: &mut TcpStream| {
        stream.write_all(format!("{SMUGGLED}POST /echo HTTP/1.1\r\n").as_bytes()).expect("write");
        assert_eq!(receive(stream).expect("a reply").status, 404);
    };
    let mut busy = server.connect();
    ask_half(&mut busy);
    // Silent for a shorter time, so that it is told of the drain later.
    let mut idle = server.connect();
    idle.write_all(SMUGGLED.as_bytes()).expect("write");
    assert_eq!(receive(&mut idle).expect("a reply").status, 404);
    server.handle.drain();
    assert!(receive(&mut idle).is_none(), "no request has begun there");
    drop(idle);
    busy.write_all(format!("Host: x\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}").as_bytes()).expect("write");
    let reply = receive(&mut busy).expect("a reply");
    assert_eq!((reply.status, &*reply.body), (200, &b"hello"[..]));
    assert!(reply.head.contains("\r\nConnection: close\r\n"), "{reply:?}");
    assert!(receive(&mut busy).is_none(), "it was the last");
    drop(busy);
    let stats = server.join();
    assert_eq!(stats.closed(CloseReason::DrainTimeout), 0, "{stats}");
}

/// What `curl ARGS…` says, which has to be content.
#[track_caller]
fn curl(args: &[&str]) -> Ended {
    let mut command = Command::new("curl");
    let ended = Ended::run(command.args(["-q", "-sSv", "--noproxy", "*", "--max-time", "50"]).args(args));
    assert!(ended.status.success(), "{ended:?}");
    ended
}

#[test]
fn curl_gets_pages_over_one_connection() {
    if !is_installed("curl") {
        return;
    }
    let (_program, address) = start();
    let url = format!("http://{address}/");
    let ended = curl(&[&url, &url]);
    assert_eq!(ended.stdout, PAGE.repeat(2));
    assert!(ended.stderr.contains("Re-using existing"), "{ended:?}");
    let ended = curl(&["-I", &url, "--next", &url]);
    assert!(ended.stdout.starts_with("HTTP/1.1 200 OK\r\n") && ended.stdout.ends_with(PAGE), "{ended:?}");
    assert!(curl(&["-w", "%{http_code}", "-X", "DELETE", &url]).stdout.ends_with("501"));
    let ended = curl(&["-w", "%{http_code}", "-X", "POST", &url]);
    assert!(ended.stdout.ends_with("405") && ended.stderr.contains("< Allow: GET, HEAD"), "{ended:?}");
    assert!(curl(&["-w", "%{http_code}", &format!("{url}nothing")]).stdout.ends_with("404"));
    assert_eq!(curl(&["-0", &url]).stdout, PAGE);
}

#[test]
fn curl_posts_and_gets_the_same_back() {
    if !is_installed("curl") {
        return;
    }
    let (_program, address) = start();
    let directory = tempfile::tempdir().expect("a directory");
    let (sent, received) = (directory.path().join("sent"), directory.path().join("received"));
    fs::write(&sent, util::pattern(1, 40 << 10)).expect("write");
    let data = format!("@{}", text(&sent));
    let url = format!("http://{address}/echo");
    for field in ["Expect:", "Expect: 100-continue", "Transfer-Encoding: chunked"] {
        let ended = curl(&["--data-binary", &data, "-H", field, "-o", text(&received), &url]);
        assert_eq!(
            ended.stderr.contains("< HTTP/1.1 100 Continue"),
            field.ends_with("continue"),
            "{ended:?}"
        );
        assert!(fs::read(&received).expect("read") == fs::read(&sent).expect("read"), "{field}");
        fs::remove_file(&received).expect("remove");
    }
}

#[test]
fn curl_sees_that_its_upload_is_too_large_while_it_still_sends() {
    if !is_installed("curl") {
        return;
    }
    let (_program, address) = start();
    let directory = tempfile::tempdir().expect("a directory");
    let sent = directory.path().join("sent");
    File::create(&sent).and_then(|file| file.set_len(32 << 20)).expect("a file");
    let data = format!("@{}", text(&sent));
    let url = format!("http://{address}/echo");
    for field in ["Expect:", "Expect: 100-continue", "Transfer-Encoding: chunked"] {
        let ended = curl(&["--data-binary", &data, "-H", field, "-w", " %{http_code}", &url]);
        assert_eq!(ended.stdout, "413 Content Too Large 413", "{}", ended.stderr);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn wrk_runs_clean() {
    if !is_installed("wrk") {
        return;
    }
    let (_program, address) = start();
    for path in ["/", "/large"] {
        let url = format!("http://{address}{path}");
        // On a busy machine a second may pass without a single request.
        util::eventually("wrk makes requests", || {
            let ended =
                Ended::run(Command::new("wrk").args(["-t1", "-c50", "-d1s", "--timeout", "50s", &url]));
            assert!(ended.status.success(), "{ended:?}");
            assert!(!ended.stdout.contains("Socket errors"), "{ended:?}");
            assert!(!ended.stdout.contains("Non-2xx"), "{ended:?}");
            print!("{}", ended.stdout);
            let rate = ended.stdout.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
            rate.and_then(|rate| rate.trim().parse::<f64>().ok()).expect("a rate") > 0.0
        });
    }
}
