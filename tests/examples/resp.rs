//! `resp` against redis-cli and redis-benchmark, and byte by byte.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr},
    process::{Command, Stdio},
};

use super::{
    filter, is_installed,
    util::{Ended, Program, connect, eventually, example, finish, read_to_end},
};

fn start(args: &[&str]) -> (Program, SocketAddr) {
    let program = Program::spawn(example("resp", &[&["127.0.0.1:0"], args].concat()));
    let address = program.listening();
    (program, address)
}

/// One of the programs of Redis, for the server at this address.
fn redis(program: &str, address: SocketAddr, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]).args(args);
    command.stdin(Stdio::null());
    command
}

/// What `redis-cli ARGS…` prints.
#[track_caller]
fn cli(address: SocketAddr, args: &[&str]) -> String {
    let ended = Ended::run(&mut redis("redis-cli", address, args));
    assert!(ended.stderr.is_empty(), "{ended:?}");
    ended.stdout.trim_end().to_owned()
}

/// All that the server answers to these bytes, sent at once and then our FIN.
#[track_caller]
fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut client = connect(address);
    client.write_all(bytes).expect("write");
    String::from_utf8(finish(&client)).expect("text")
}

/// These words as an array of bulk strings.
fn array(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

#[test]
fn redis_cli_gets_the_answers_of_redis() {
    if !is_installed("redis-cli") {
        return;
    }
    let (_program, address) = start(&[]);
    let table: &[(&[&str], &str)] = &[
        (&["PING"], "PONG"),
        (&["PING", "hello"], "\"hello\""),
        (&["ECHO", "two words"], "\"two words\""),
        (&["GET", "a"], "(nil)"),
        (&["TTL", "a"], "(integer) -2"),
        (&["SET", "a", "1"], "OK"),
        (&["TTL", "a"], "(integer) -1"),
        (&["INCR", "a"], "(integer) 2"),
        (&["EXPIRE", "a", "1000"], "(integer) 1"),
        (&["INCR", "a"], "(integer) 3"),
        (&["TTL", "a"], "(integer) 1000"),
        (&["SET", "a", "x", "NX"], "(nil)"),
        (&["SET", "b", "x", "xx"], "(nil)"),
        (&["SET", "a", "x", "px", "2000000", "xx"], "OK"),
        (&["TTL", "a"], "(integer) 2000"),
        (&["INCR", "a"], "(error) ERR value is not an integer or out of range"),
        (&["MSET", "b", "2", "c", "3"], "OK"),
        (&["MGET", "a", "b", "nothing"], "1) \"x\"\n2) \"2\"\n3) (nil)"),
        (&["EXPIRE", "c", "-1"], "(integer) 1"),
        (&["EXPIRE", "c", "1"], "(integer) 0"),
        (&["DEL", "a", "b", "c", "b"], "(integer) 2"),
        (&["SET", "a", "9223372036854775807"], "OK"),
        (&["INCR", "a"], "(error) ERR increment or decrement would overflow"),
        (&["SET", "a", "1", "EX", "0"], "(error) ERR invalid expire time in 'set' command"),
        (&["SET", "a", "1", "EX", "one"], "(error) ERR value is not an integer or out of range"),
        (&["SET", "a", "1", "EX"], "(error) ERR syntax error"),
        (&["SET", "a", "1", "EX", "1", "PX", "1"], "(error) ERR syntax error"),
        (&["SET", "a", "1", "NX", "XX"], "(error) ERR syntax error"),
        (&["SET", "a", "1", "EX", "one", "NX", "XX"], "(error) ERR syntax error"),
        (&["SET", "a", "1", "NX", "nx"], "(nil)"),
        (&["SET", "a", "1", "XX", "XX"], "OK"),
        (&["SET", "a", "1", "EX", "9223372036854776"], "(error) ERR invalid expire time in 'set' command"),
        (&["SET", "a", "1", "EX", "9223372036854775"], "(error) ERR invalid expire time in 'set' command"),
        (&["SET", "a", "1", "PX", "9223372036854775807"], "(error) ERR invalid expire time in 'set' command"),
        (&["EXPIRE", "a", "9223372036854775807"], "(error) ERR invalid expire time in 'expire' command"),
        (&["EXPIRE", "a", "9223372036854775"], "(error) ERR invalid expire time in 'expire' command"),
        (&["EXPIRE", "a", "-9223372036854775808"], "(error) ERR invalid expire time in 'expire' command"),
        (&["EXPIRE", "a", "-9223372036854775"], "(integer) 1"),
        (&["GET"], "(error) ERR wrong number of arguments for 'get' command"),
        (&["GET", "a", "b"], "(error) ERR wrong number of arguments for 'get' command"),
        (&["MSET", "a", "1", "b"], "(error) ERR wrong number of arguments for 'mset' command"),
        (&["COMMAND", "COUNT"], "(integer) 16"),
        (&["COMMAND"], "(empty array)"),
        (&["COMMAND", "DOCS"], "(error) ERR unknown subcommand 'DOCS'"),
        (&["COMMAND", "COUNT", "x"], "(error) ERR wrong number of arguments for 'command|count' command"),
        (&["CONFIG"], "(error) ERR wrong number of arguments for 'config' command"),
        (&["CONFIG", "GET"], "(error) ERR wrong number of arguments for 'config|get' command"),
        (&["CONFIG", "SET", "a"], "(error) ERR wrong number of arguments for 'config|set' command"),
        (&["CONFIG", "SET", "a", "b"], "(error) ERR Unknown option or number of arguments for CONFIG SET"),
        (&["CONFIG", "RESETSTAT"], "OK"),
        (&["config", "reset"], "(error) ERR unknown subcommand 'reset'"),
        (&["CONFIG", "GET", "appendonly"], "1) \"appendonly\"\n2) \"no\""),
        (&["CLIENT", "SETNAME", "me"], "OK"),
        (&["SELECT", "0"], "OK"),
        (&["SELECT", "1"], "(error) ERR DB index is out of range"),
        (&["SELECT", "one"], "(error) ERR value is not an integer or out of range"),
        (&["SELECT", "0", "0"], "(error) ERR wrong number of arguments for 'select' command"),
        (&["NOTHING", "to", "do"], "(error) ERR unknown command 'NOTHING'"),
    ];
    for (args, answer) in table {
        let said = cli(address, &[&["--no-raw"], *args].concat());
        let is_right = said == *answer || args[0] == "TTL" && is_soon_after(&said, answer);
        assert!(is_right, "{args:?}: {said} instead of {answer}");
    }
}

/// Whether so many seconds are those that were left a while ago: each command is a program to start.
fn is_soon_after(said: &str, answer: &str) -> bool {
    let seconds = |text: &str| text.strip_prefix("(integer) ").and_then(|number| number.parse::<i64>().ok());
    let (Some(said), Some(before)) = (seconds(said), seconds(answer)) else { return false };
    before > 0 && (before - 100..=before).contains(&said)
}

#[test]
fn redis_cli_reads_commands_from_its_stdin() {
    if !is_installed("redis-cli") {
        return;
    }
    let (_program, address) = start(&[]);
    let typed = b"set greeting \"hello world\"\nget greeting\ninfo\nquit\n";
    let printed = filter(redis("redis-cli", address, &[]), typed);
    let printed = String::from_utf8(printed).expect("text");
    assert!(printed.starts_with("OK\nhello world\n# Memory\r\nused_memory:"), "{printed}");
}

#[test]
fn redis_benchmark_runs_clean() {
    if !is_installed("redis-benchmark") {
        return;
    }
    let (_program, address) = start(&[]);
    for pipeline in ["1", "16"] {
        let args = ["-t", "ping,set,get,incr,mset", "-n", "5000", "-P", pipeline, "--csv"];
        let ended = Ended::run(&mut redis("redis-benchmark", address, &args));
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
        // The names of the columns, and two kinds of ping.
        assert_eq!(ended.stdout.lines().count(), 1 + 6, "{ended:?}");
        assert!(ended.stdout.lines().all(|line| line.starts_with('"')), "{ended:?}");
    }
}

/// What comes, and what is answered before the end.
const SHAPES: [(&[u8], &str); 19] = [
    (b"*1\r\n$4\r\nPING\r\n", "+PONG\r\n"),
    (b"*2\r\n$4\r\nping\r\n$0\r\n\r\n", "$0\r\n\r\n"),
    (b"*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\0*\r\n", "$4\r\n\r\n\0*\r\n"),
    (b"PING\r\n  ping   x\t\nPING\n", "+PONG\r\n$1\r\nx\r\n+PONG\r\n"),
    (b"\r\n*0\r\n*-1\r\n\nPING\r\n", "+PONG\r\n"),
    (b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI", "+PONG\r\n"),
    (b"QUIT now\r\nPING\r\n", "+OK\r\n"),
    (b"SET k \"two words\"\r\n", "-ERR Protocol error: quotes in inline request\r\n"),
    (b"SET k it's\r\n", "-ERR Protocol error: quotes in inline request\r\n"),
    (b"*1\r\n+4\r\n", "-ERR Protocol error: expected '$', got '+'\r\n"),
    (b"*1\r\n\r\n", "-ERR Protocol error: expected '$', got '?'\r\n"),
    (b"*4097\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*one\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*00000000000000000000000000000001\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*1\r\n$00000000000000000000000000000004", "-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$1048577\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$4\r\nPINGPING\r\n", "-ERR Protocol error: no line end after a bulk string\r\n"),
    (b"PING\r\n*1\r\n$04\r\nPING\r\n", "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n"),
];

#[test]
fn every_shape_is_answered_the_same_whole_and_byte_by_byte() {
    let (_program, address) = start(&[]);
    for (bytes, answer) in SHAPES {
        let shape = bytes.escape_ascii();
        assert_eq!(ask(address, bytes), answer, "{shape}");
        let mut client = connect(address);
        for byte in bytes {
            client.write_all(&[*byte]).expect("what comes after the end is received too");
        }
        assert_eq!(String::from_utf8(finish(&client)).expect("text"), answer, "{shape}, byte by byte");
    }
}

#[test]
fn a_web_browser_is_closed_with_a_line_in_the_log() {
    let mut command = example("resp", &["127.0.0.1:0"]);
    command.stderr(Stdio::piped());
    let mut program = Program::spawn(command);
    let address = program.listening();
    let mut addresses = Vec::new();
    for request in ["POST / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut client = connect(address);
        addresses.push(client.local_addr().expect("an address"));
        client.write_all(request.as_bytes()).expect("write");
        // It may be reset by now, and is told so once only.
        match client.write_all(b"SET k stolen\r\n") {
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            Ok(()) => {
                let answer = super::util::read_to_reset(&client);
                assert!(!answer.ends_with(b"+OK\r\n"), "{}", answer.escape_ascii());
            }
        }
    }
    assert_eq!(ask(address, b"GET k\r\n"), "$-1\r\n");
    let mut stderr = program.child.stderr.take().expect("piped");
    drop(program);
    let mut log = String::new();
    stderr.read_to_string(&mut log).expect("text");
    let said =
        format!("{}: closed, as it sends HTTP: possibly a web page's attack on this server\n", addresses[0]);
    assert_eq!(log, said, "one line a minute");
}

#[test]
fn what_is_too_long_is_answered_with_an_error() {
    let (_program, address) = start(&[]);
    let long = vec![b'x'; 1 << 20];
    let array_too_long = array(&[b"MSET", b"a", &long, b"b", &long]);
    assert_eq!(ask(address, &array_too_long), "-ERR Protocol error: too big command\r\n");
    assert_eq!(ask(address, &long), "-ERR Protocol error: too big inline request\r\n");
    assert_eq!(ask(address, &array(&[b"SET", b"a", &long])), "+OK\r\n");
    let answer = ask(address, &array(&[b"GET", b"a"]));
    assert!(answer.as_bytes()[b"$1048576\r\n".len()..answer.len() - 2] == long);
    let all = [&[&b"MGET"[..]], &[&b"a"[..]; 9][..]].concat();
    assert_eq!(ask(address, &array(&all)), "-ERR the values have more than 8388608 bytes together\r\n");
}

#[test]
fn a_key_that_has_expired_is_gone_and_its_memory_is_free() {
    let (_program, address) = start(&[]);
    let memory = || ask(address, b"INFO\r\n");
    let empty = memory();
    for key in 0..10 {
        assert_eq!(ask(address, format!("SET {key} value PX 1\r\n").as_bytes()), "+OK\r\n");
    }
    eventually("the last key expires", || ask(address, b"GET 9\r\n") == "$-1\r\n");
    assert_eq!(ask(address, b"TTL 9\r\n"), ":-2\r\n");
    eventually("the others are removed without being asked for", || memory() == empty);
}

#[test]
fn beyond_its_memory_it_refuses_writes_and_goes_on() {
    let (_program, address) = start(&["1"]);
    let value = vec![b'v'; 300_000];
    let mut sets = Vec::new();
    for key in [b"a", b"b", b"c", b"d"] {
        sets.extend(array(&[b"SET", key, &value]));
    }
    let refused = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    assert_eq!(ask(address, &sets), format!("+OK\r\n+OK\r\n+OK\r\n{refused}"));
    assert_eq!(ask(address, &array(&[b"MSET", b"x", b"1", b"y", &value])), refused);
    assert_eq!(ask(address, b"GET x\r\nDEL a\r\n"), "$-1\r\n:1\r\n");
    assert_eq!(ask(address, &array(&[b"SET", b"d", &value])), "+OK\r\n");
}

/// 2000 commands of 7 bytes ask for 200 MB. A client that takes none of it costs little memory; then it gets all.
#[cfg(target_os = "linux")]
#[test]
fn pipelined_commands_wait_for_a_client_that_does_not_read() {
    use super::util::procfs::resident_bytes;

    const GETS: usize = 2000;
    let (program, address) = start(&[]);
    let value = vec![b'v'; 100_000];
    assert_eq!(ask(address, &array(&[b"SET", b"v", &value])), "+OK\r\n");
    let before = resident_bytes(program.child.id());
    let mut client = connect(address);
    client.write_all(&b"GET v\r\n".repeat(GETS)).expect("write");
    client.write_all(b"QUIT\r\n").expect("write");
    client.shutdown(Shutdown::Write).expect("shutdown");
    client.peek(&mut [0]).expect("the first reply");
    // Another client is served as ever, after the first one's turn.
    assert_eq!(ask(address, b"PING\r\n"), "+PONG\r\n");
    let grown = resident_bytes(program.child.id()).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more");
    let answers = read_to_end(&client);
    let one = [b"$100000\r\n", &*value, b"\r\n"].concat();
    assert_eq!(answers.len(), GETS * one.len() + 5);
    assert!(answers.chunks(one.len()).take(GETS).all(|answer| answer == one));
    assert!(answers.ends_with(b"+OK\r\n"));
}

#[test]
fn a_client_that_resets_in_the_middle_of_a_command_harms_nobody() {
    let (_program, address) = start(&[]);
    let mut client = connect(address);
    client.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10").expect("write");
    super::util::reset(client);
    let mut other = connect(address);
    other.write_all(b"GET a\r\n").expect("write");
    let mut answer = [0; 5];
    other.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"$-1\r\n");
    other.set_nonblocking(true).expect("set_nonblocking");
    assert_eq!(other.read(&mut answer).expect_err("nothing more").kind(), ErrorKind::WouldBlock);
}

#[test]
fn what_is_wrong_with_the_arguments_is_said_in_one_line() {
    let mut command = example("resp", &["127.0.0.1:0", "lots"]);
    assert_eq!(Ended::run(&mut command).error(1), "'lots' is no size in MiB");
    assert_eq!(Ended::run(&mut example("resp", &[])).status.code(), Some(2));
}
