//! `memcached` with clients that others wrote, beside the real one, and byte by byte.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

use super::{clients, is_installed};
use crate::util::{self, Ended, Program};

/// The longest value.
const MAX_VALUE: usize = 1 << 20;

fn start() -> Option<(Program, SocketAddr)> {
    super::server("memcached")
}

/// The memcached that everyone uses.
fn start_original() -> Option<(Program, SocketAddr)> {
    if !is_installed("memcached") {
        return None;
    }
    let folder = TempDir::new().expect("a folder");
    let ports = folder.path().join("ports");
    let mut command = Command::new("memcached");
    // Root has to say as whom it is to run.
    command.args(["-u", "root", "-l", "127.0.0.1", "-p", "-1", "-t", "1"]);
    command.env("MEMCACHED_PORT_FILENAME", &ports);
    let program = Program::spawn(command);
    let mut port = None;
    util::eventually("memcached says its port", || {
        let text = fs::read_to_string(&ports).unwrap_or_default();
        port = text.lines().find_map(|line| line.strip_prefix("TCP INET: ")?.parse().ok());
        port.is_some()
    });
    Some((program, ([127, 0, 0, 1], port.expect("it is there")).into()))
}

/// All that the server answers to these bytes, sent at once and then our FIN.
#[track_caller]
fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut client = util::connect(address);
    client.write_all(bytes).expect("write");
    String::from_utf8(util::finish(&client)).expect("text")
}

/// The same, with what each server has of its own made equal: its version, and the numbers of `gets`.
#[track_caller]
fn ask_alike(address: SocketAddr, bytes: &[u8]) -> String {
    let answer = ask(address, bytes);
    let lines = answer.split_inclusive("\r\n").map(|line| match *line.split(' ').collect::<Vec<_>>() {
        ["VERSION", _] => "VERSION …\r\n".to_owned(),
        ["VALUE", key, flags, bytes, _] => format!("VALUE {key} {flags} {bytes} …\r\n"),
        _ => line.to_owned(),
    });
    lines.collect()
}

/// A client that waits for each answer.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        Self(util::connect(address))
    }

    /// The answer of one line.
    #[track_caller]
    fn ask(&mut self, request: &str) -> String {
        self.0.write_all(request.as_bytes()).expect("write");
        self.line()
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("a line");
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text").trim_end().to_owned()
    }

    /// The number that `gets` tells of a value of one line.
    #[track_caller]
    fn version_of(&mut self, key: &str) -> String {
        let head = self.ask(&format!("gets {key}\r\n"));
        self.line();
        assert_eq!(self.line(), "END");
        head.split(' ').nth(4).expect("a number").to_owned()
    }

    fn is_there(&mut self, key: &str) -> bool {
        let is_there = self.ask(&format!("get {key}\r\n")) != "END";
        if is_there {
            self.line();
            assert_eq!(self.line(), "END");
        }
        is_there
    }
}

/// Requests whose answers are those of memcached 1.6, on a server of their own.
fn requests() -> Vec<Vec<u8>> {
    let key = |length| "k".repeat(length);
    let many = (0..1000).fold(String::from("get"), |line, index| format!("{line} key{index}"));
    let texts = [
        "get a\r\n",
        "set a 7 0 5\r\nhello\r\nget a\r\ngets a\r\nget nothing a\r\nget a a\r\ngets a nothing\r\n",
        "get a\n",
        " get   a \r\n",
        "set a 0 0 0\r\n\r\nget a\r\n",
        "set a 4294967295 0 4\r\n\r\n\r\n\r\nget a\r\n",
        "add a 0 0 1\r\nx\r\nadd b 1 0 1\r\nx\r\nget a b\r\n",
        "replace zz 0 0 1\r\nx\r\nreplace b 2 0 1\r\ny\r\nget b zz\r\n",
        "set c 5 0 1\r\nb\r\nappend c 7 0 1\r\nc\r\nprepend c 7 0 1\r\na\r\nget c\r\n",
        "append zz 0 0 1\r\nx\r\nprepend zz 0 0 1\r\nx\r\nget zz\r\n",
        "cas zz 0 0 1 1\r\nx\r\ncas c 0 0 1 99999999\r\nx\r\nget c zz\r\n",
        "delete c\r\ndelete c\r\nget c\r\nset c 0 0 1\r\nx\r\ndelete c 0\r\ndelete c 0\r\n",
        "delete c 1\r\ndelete\r\ndelete c 0 0 0\r\n",
        // Numbers.
        "set n 0 0 2\r\n10\r\nincr n 5\r\ndecr n 1\r\ndecr n 100\r\nget n\r\nincr n 0\r\n",
        "set n 3 0 2\r\n10\r\ndecr n 1\r\nget n\r\nincr n 1\r\nget n\r\nincr n 1000\r\nget n\r\n",
        "set n 0 0 20\r\n18446744073709551615\r\nincr n 1\r\nget n\r\nincr n 18446744073709551615\r\nincr n 2\r\n",
        "set n 0 0 3\r\nabc\r\nincr n 1\r\ndecr n 1\r\nset n 0 0 0\r\n\r\nincr n 1\r\nincr zz 1\r\ndecr zz 1\r\n",
        "set n 0 0 2\r\n-1\r\nincr n 1\r\nset n 0 0 3\r\n12x\r\nincr n 1\r\nset n 0 0 3\r\n12 \r\nincr n 1\r\n",
        "set n 0 0 1\r\n1\r\nincr n x\r\nincr n -1\r\nincr n 18446744073709551616\r\nincr n 1.5\r\ndecr n x\r\n",
        "incr\r\nincr n\r\ndecr n\r\nincr n 1 2 3\r\n",
        // Times.
        "set t 0 -1 1\r\nx\r\nget t\r\nset t 0 1000 1\r\nx\r\nget t\r\ntouch t 0\r\nget t\r\ntouch t -1\r\nget t\r\n",
        "touch t 0\r\ntouch zz 0\r\ntouch\r\ntouch zz\r\ntouch zz x\r\ntouch zz 0 0 0\r\n",
        "set t 0 0 1\r\nx\r\ntouch t x\r\nget t\r\nset t 0 1000000000 1\r\nx\r\nget t\r\n",
        // Everything.
        "set a 0 0 1\r\nx\r\nflush_all\r\nget a\r\nset a 0 0 1\r\ny\r\nget a\r\nflush_all 0\r\nget a\r\n",
        "set a 0 0 1\r\nx\r\nflush_all 1000\r\nget a\r\nflush_all x\r\nget a\r\nflush_all 0 0 0\r\nget a\r\n",
        "flush_all 0\r\nset a 0 0 1\r\nx\r\nget a\r\n",
        // What is not answered.
        "set q 0 0 1 noreply\r\nx\r\nget q\r\nadd q 0 0 1 noreply\r\ny\r\nreplace q 0 0 1 noreply\r\nz\r\nget q\r\n",
        "append q 0 0 1 noreply\r\n1\r\nprepend q 0 0 1 noreply\r\n0\r\ncas q 0 0 1 99999999 noreply\r\n!\r\nget q\r\n",
        "set q 0 0 1 noreply\r\n1\r\nincr q 5 noreply\r\ndecr q 2 noreply\r\nget q\r\ntouch q 0 noreply\r\nget q\r\n",
        "delete q noreply\r\ndelete q noreply\r\nget q\r\nset q 0 0 1\r\n1\r\nflush_all noreply\r\nget q\r\n",
        "incr q x noreply\r\ntouch q x noreply\r\nflush_all x noreply\r\ndelete q 1 noreply\r\nverbosity x noreply\r\n",
        "set q 0 x 1 noreply\r\nx\r\nset q 0 0 2 noreply\r\nxyz\r\nget q\r\nverbosity 1 noreply\r\nget noreply\r\n",
        // Errors.
        "\r\nfoo\r\nGET a\r\nget\r\ngets\r\nset\r\nset a\r\nset a 0 0\r\ncas a 0 0 1\r\nverbosity\r\n",
        "set a 0 0 1 noreply x\r\nx\r\ncas a 0 0 1 1 noreply x\r\nx\r\n",
        "set e x 0 1\r\nx\r\nset e 0 x 1\r\nx\r\nset e 0 0 x\r\nset e 0 0 -1\r\nset e -1 0 1\r\nget e\r\n",
        "cas e 0 0 1 x\r\nx\r\ncas e 0 0 1 -1\r\nx\r\nget e\r\n",
        "set e 0 0 1\r\nxy\r\nget e\r\nset e 0 0 1\r\nxyz\r\nget e\r\nset e 0 0 3\r\nx\r\nget e\r\n",
        "set e 0 0 1\r\nx\nget e\r\nset e 0 0 1\nx\r\nget e\r\n",
        "set e 0 0 1\r\nx\r\nset e 0 0 1\r\nyz\r\nget e\r\n",
        "version\r\nverbosity 1\r\nverbosity 1 2 3\r\nverbosity x\r\n",
        "quit\r\nversion\r\n",
        "version\r\nquit\r\nversion\r\n",
        "version\r\nget a",
    ];
    let long_keys = [
        format!("set {0} 0 0 1\r\nx\r\nget {0}\r\n", key(250)),
        format!("get {}\r\n", key(251)),
        format!("get a {}\r\n", key(251)),
        format!("set {} 0 0 1\r\nx\r\nget a\r\n", key(251)),
        format!("delete {0}\r\nincr {0} 1\r\ntouch {0} 0\r\n", key(251)),
        format!("set key999 0 0 1\r\nx\r\n{many}\r\n"),
    ];
    let value = |length| "v".repeat(length);
    let values = [
        // The original's items have heads, and room for both.
        format!("set v 0 0 1048000\r\n{}\r\nget v\r\n", value(1_048_000)),
        format!("set v 0 0 {0}\r\n{1}\r\nget v\r\nversion\r\n", MAX_VALUE + 1, value(MAX_VALUE + 1)),
        format!(
            "set v 0 0 1\r\nx\r\nset v 0 0 {0} noreply\r\n{1}\r\nget v\r\n",
            2 * MAX_VALUE,
            value(2 * MAX_VALUE)
        ),
        format!("set v 0 0 1\r\nx\r\nadd v 0 0 1048000\r\n{}\r\nget v\r\n", value(1_048_000)),
    ];
    let texts = texts.into_iter().map(str::to_owned).chain(long_keys).chain(values);
    texts.map(String::into_bytes).chain([b"set b 0 0 4\r\n\0\xff\r\n\r\nget c\r\n".to_vec()]).collect()
}

#[test]
fn every_answer_is_that_of_the_original() {
    let Some((_original, original)) = start_original() else { return };
    let Some((_program, address)) = start() else { return };
    for request in requests() {
        let (right, answer) = (ask_alike(original, &request), ask_alike(address, &request));
        let shown = |bytes: &[u8]| bytes[..bytes.len().min(300)].escape_ascii().to_string();
        assert!(
            answer == right,
            "{}\n gets {}\n  not {}",
            shown(&request),
            shown(answer.as_bytes()),
            shown(right.as_bytes())
        );
    }
}

#[test]
fn requests_may_come_byte_by_byte() {
    let Some((_program, address)) = start() else { return };
    let Some((_other, whole)) = start() else { return };
    for request in requests().iter().filter(|request| request.len() < 5000) {
        let mut client = util::connect(address);
        for byte in request {
            // After `quit` the server need not receive.
            if client.write_all(&[*byte]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        if let Err(error) = client.read_to_end(&mut answer) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{}", request.escape_ascii());
        }
        let once = ask(whole, request);
        assert_eq!(String::from_utf8_lossy(&answer), once, "{}", request.escape_ascii());
    }
}

#[test]
fn pymemcache_gets_the_answers_of_the_original() {
    let Some(python) = clients::python("pymemcache") else { return };
    let Some((_original, original)) = start_original() else { return };
    let Some((_program, address)) = start() else { return };
    let tell = |address: SocketAddr| {
        let mut command = Command::new(&python);
        Ended::run(command.arg(clients::script("pymemcache_client.py")).arg(address.to_string()))
    };
    let (right, story) = (tell(original), tell(address));
    assert!(right.status.success(), "{}", right.stderr);
    assert!(story.status.success(), "{}\n{}", story.stdout, story.stderr);
    for (right, line) in right.stdout.lines().zip(story.stdout.lines()) {
        assert_eq!(line, right);
    }
    assert_eq!(story.stdout.lines().count(), right.stdout.lines().count());
}

/// libmemcached's tests of a server.
#[test]
fn memccapable_passes() {
    if !is_installed("memccapable") {
        return;
    }
    let Some((_program, address)) = start() else { return };
    let with_noreply =
        ["set", "flush", "add", "replace", "cas", "delete", "incr", "decr", "append", "prepend"];
    let silent = with_noreply.iter().map(|name| format!("{name} noreply"));
    let names = ["version", "quit", "verbosity", "get", "gets", "mget"].iter().chain(&with_noreply);
    for name in names.map(ToString::to_string).chain(silent) {
        let mut command = Command::new("memccapable");
        command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
        let ended = Ended::run(command.args(["-a", "-v", "-t", "50", "-T", &format!("ascii {name}")]));
        assert!(ended.stderr.contains("[pass]") || ended.stdout.contains("[pass]"), "{name}: {ended:?}");
    }
}

#[test]
fn compare_and_swap_stores_what_nobody_has_changed() {
    for (_program, address) in start_original().into_iter().chain(start()) {
        let mut client = Client::connect(address);
        client.ask("set a 0 0 1\r\nx\r\n");
        let first = client.version_of("a");
        assert_eq!(client.version_of("a"), first, "reading changes nothing");
        assert_eq!(client.ask(&format!("cas a 0 0 1 {first}\r\ny\r\n")), "STORED");
        let second = client.version_of("a");
        assert_ne!(second, first);
        assert_eq!(client.ask(&format!("cas a 0 0 1 {first}\r\nz\r\n")), "EXISTS");
        for change in ["append a 0 0 1\r\n1\r\n", "prepend a 0 0 1\r\n1\r\n", "set a 0 0 1\r\n1\r\n"] {
            let before = client.version_of("a");
            assert_eq!(client.ask(change), "STORED");
            assert_eq!(client.ask(&format!("cas a 0 0 1 {before}\r\nz\r\n")), "EXISTS", "{change}");
        }
        let before = client.version_of("a");
        assert_eq!(client.ask("incr a 1\r\n"), "2");
        assert_eq!(client.ask(&format!("cas a 0 0 1 {before}\r\nz\r\n")), "EXISTS");
        let mut other = Client::connect(address);
        let current = other.version_of("a");
        assert_eq!(client.ask("delete a\r\n"), "DELETED");
        assert_eq!(other.ask(&format!("cas a 0 0 1 {current}\r\nz\r\n")), "NOT_FOUND");
        assert_eq!(client.ask("set a 0 0 1\r\nx\r\n"), "STORED");
        assert_eq!(other.ask(&format!("cas a 0 0 1 {current}\r\nz\r\n")), "EXISTS", "of the one before");
    }
}

#[test]
fn what_expires_is_gone() {
    let Some((_program, address)) = start() else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut client = Client::connect(address);
    client.ask("set relative 0 1 1\r\nx\r\n");
    client.ask(&format!("set absolute 0 {} 1\r\nx\r\n", now + 2));
    client.ask("set touched 0 0 1\r\nx\r\n");
    assert_eq!(client.ask("touch touched 1\r\n"), "TOUCHED");
    client.ask("set kept 0 1 1\r\nx\r\n");
    assert_eq!(client.ask("touch kept 0\r\n"), "TOUCHED");
    for key in ["relative", "absolute", "touched"] {
        util::eventually(key, || !client.is_there(key));
        assert_eq!(
            client.ask(&format!("add {key} 0 1000 1\r\ny\r\n")),
            "STORED",
            "there is room for another"
        );
        assert!(client.is_there(key));
    }
    assert!(client.is_there("kept"));
    // Days and more are dates, and those have passed.
    assert_eq!(client.ask(&format!("set date 0 {} 1\r\nx\r\n", 31 * 24 * 60 * 60)), "STORED");
    assert!(!client.is_there("date"));
    assert_eq!(client.ask("set later 0 0 1\r\nx\r\n"), "STORED");
    assert_eq!(client.ask("flush_all 1\r\n"), "OK");
    util::eventually("all is flushed", || !client.is_there("later") && !client.is_there("kept"));
    assert_eq!(client.ask("set later 0 0 1\r\nx\r\n"), "STORED");
    assert!(client.is_there("later"));
}

#[test]
fn a_value_may_have_1_mib() {
    let Some((_program, address)) = start() else { return };
    let value = "v".repeat(MAX_VALUE);
    let answer = ask(address, format!("set v 0 0 {MAX_VALUE}\r\n{value}\r\nget v\r\n").as_bytes());
    assert!(answer == format!("STORED\r\nVALUE v 0 {MAX_VALUE}\r\n{value}\r\nEND\r\n"));
    let answer = ask(address, b"append v 0 0 1\r\nx\r\n");
    assert_ne!(answer, "STORED\r\n");
    assert!(ask(address, b"get v\r\n").starts_with("VALUE v 0 1048576\r\n"), "it is as it was");
}

#[test]
fn a_client_that_half_closes_gets_every_answer() {
    const COUNT: usize = 20_000;
    let Some((_program, address)) = start() else { return };
    ask(address, format!("set v 0 0 1000\r\n{}\r\n", "v".repeat(1000)).as_bytes());
    let stream = util::connect(address);
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&b"get v\r\n".repeat(COUNT)).expect("send");
            stream.shutdown(Shutdown::Write).expect("shutdown");
        });
        util::read_to_end(&stream)
    });
    assert_eq!(answers.len(), COUNT * ("VALUE v 0 1000\r\n".len() + 1000 + "\r\nEND\r\n".len()));
}

#[test]
fn answers_do_not_wait_for_what_has_not_come() {
    let Some((_program, address)) = start() else { return };
    let mut client = Client::connect(address);
    assert!(client.ask("version\r\nget a").starts_with("VERSION"));
    assert_eq!(client.ask("b\r\n"), "END");
    assert!(client.ask("version\r\nset a 0 0 5\r\nhel").starts_with("VERSION"));
    assert_eq!(client.ask("lo\r\n"), "STORED");
}

/// The original loses the answer.
#[test]
fn answers_before_an_end_within_a_command_arrive() {
    let Some((_program, address)) = start() else { return };
    for rest in ["get a", "set a", "set a 0 0 5\r\n", "set a 0 0 5\r\nhel", "set a 0 0 5\r\nhello"] {
        assert_eq!(ask(address, format!("get a\r\n{rest}").as_bytes()), "END\r\n", "{rest:?}");
    }
}

/// Here too.
#[test]
fn answers_before_a_key_that_is_too_long_arrive() {
    let Some((_program, address)) = start() else { return };
    let answer = ask(address, format!("get a\r\nget {}\r\nget b\r\n", "k".repeat(251)).as_bytes());
    assert_eq!(answer, "END\r\nCLIENT_ERROR bad command line format\r\nEND\r\n");
}

#[test]
fn answers_before_quit_arrive_though_the_client_sends_more() {
    let Some((_program, address)) = start() else { return };
    let mut client = util::connect(address);
    let requests = [&b"set a 0 0 1\r\nx\r\nget a\r\nquit\r\n"[..], &b"get a\r\n".repeat(1_000_000)].concat();
    client.write_all(&requests).expect("send");
    let answers = String::from_utf8(util::finish(&client)).expect("text");
    assert_eq!(answers, "STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn a_line_without_an_end_is_not_kept() {
    let Some((_program, address)) = start() else { return };
    let mut client = util::connect(address);
    let mut sent = 0;
    while client.write_all(&[b'x'; 64 << 10]).is_ok() && sent < 64 << 20 {
        sent += 64 << 10;
        // Whoever goes on receiving has said what is wrong, and ended.
        client.set_nonblocking(true).expect("nonblocking");
        let ended = match client.read(&mut [0; 100]) {
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        client.set_nonblocking(false).expect("blocking");
        if ended {
            return;
        }
    }
    assert!(sent < 64 << 20, "it takes all that comes");
}
