//! What the program logs, as text and as JSON: whatever happens, each line on stderr is in the format that was asked for.
#![cfg(feature = "cli")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    process::Stdio,
    sync::mpsc::Receiver,
};

use serde_json::Value;
use util::{DEADLINE, Ended, Program, connect, echoloop, finish, lines, ping};

/// A server that logs so much, its address, and the lines of its stderr.
fn serve(level: &str, args: &[&str]) -> (Program, SocketAddr, Receiver<String>) {
    let mut command = echoloop(&[&["serve", "127.0.0.1:0"], args].concat());
    command.env("RUST_LOG", level).stderr(Stdio::piped());
    let mut program = Program::spawn(command);
    let stderr = lines(program.child.stderr.take().unwrap());
    let address = program.listening();
    (program, address, stderr)
}

#[track_caller]
fn parsed(line: &str) -> Value {
    let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    for name in ["time", "level", "target", "message"] {
        assert!(object[name].is_string(), "{name}: {line}");
    }
    object
}

/// The next line in which `of` holds; all before it are JSON too.
#[track_caller]
fn hear(stderr: &Receiver<String>, of: impl Fn(&Value) -> bool) -> Value {
    loop {
        let object = parsed(&stderr.recv_timeout(DEADLINE).expect("it goes on"));
        if of(&object) {
            return object;
        }
    }
}

fn message_has(what: &str) -> impl Fn(&Value) -> bool {
    move |object| object["message"].as_str().unwrap().contains(what)
}

#[test]
fn every_line_of_a_server_is_an_object() {
    let (mut server, address, stderr) = serve("trace", &["--log-format", "json", "--workers", "2"]);
    let client = connect(address);
    ping(&client, b"hello");
    let accepted = hear(&stderr, message_has("accepted by listener"));
    assert_eq!(accepted["peer"], client.local_addr().unwrap().to_string());
    finish(&client);
    let closed = hear(&stderr, message_has("closed: peer"));
    assert_eq!((&closed["level"], &closed["connection"]), (&"DEBUG".into(), &accepted["connection"]));
    #[cfg(unix)]
    {
        server.signal("USR1");
        hear(&stderr, message_has("worker 0: "));
        hear(&stderr, message_has("worker 1: "));
        server.signal("TERM");
        hear(&stderr, message_has("drain begins"));
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
        stderr.iter().for_each(|line| drop(parsed(&line)));
    }
    #[cfg(not(unix))]
    server.child.kill().unwrap();
}

#[test]
fn a_closed_connection_has_its_figures_as_fields() {
    let (_server, address, stderr) = serve("info", &["--log-format=json", "--log-closed"]);
    let client = connect(address);
    ping(&client, b"hello");
    finish(&client);
    let closed = hear(&stderr, message_has("closed"));
    assert_eq!((&closed["level"], &closed["reason"]), (&"INFO".into(), &"peer".into()));
    assert_eq!(closed["peer"], client.local_addr().unwrap().to_string());
    assert_eq!(closed["complete"], true);
    let bytes = ["received_bytes", "sent_bytes", "undelivered_bytes"].map(|name| closed[name].as_u64());
    assert_eq!(bytes, [Some(5), Some(5), Some(0)]);
    assert!(closed["open_seconds"].as_f64().is_some_and(|open| open > 0.0), "{closed}");
    let begin = format!(
        "{}: closed: peer: {}, 5 bytes received, ",
        closed["connection"].as_str().unwrap(),
        client.local_addr().unwrap()
    );
    assert!(closed["message"].as_str().unwrap().starts_with(&begin), "{closed}");
}

#[test]
fn closed_connections_are_logged_when_that_is_asked_for() {
    for (level, option, expected) in [
        ("info", Some("--log-closed"), Some(" INFO ")),
        ("warn", Some("--log-closed"), None),
        ("debug", None, Some(" DEBUG ")),
        ("info", None, None),
    ] {
        let (mut server, address, stderr) = serve(level, option.as_slice());
        let client = connect(address);
        ping(&client, b"hello");
        finish(&client);
        if let Some(expected) = expected {
            let mut lines = stderr.iter();
            let line = lines.find(|line| line.contains("closed: ")).unwrap();
            assert!(line.starts_with('[') && line.contains(expected), "{line}");
            assert!(
                line.contains(": closed: peer: 127.0.0.1:") && !line.contains("received_bytes"),
                "{line}"
            );
        }
        #[cfg(unix)]
        {
            server.signal("TERM");
            assert_eq!(server.wait(DEADLINE).code(), Some(0));
            assert_eq!(stderr.iter().find(|line| line.contains("closed: ")), None, "{level} {option:?}");
        }
        #[cfg(not(unix))]
        server.child.kill().unwrap();
    }
}

/// A health check that only connects has an address all the same.
#[cfg(feature = "cli-tls")]
#[test]
fn whoever_ends_before_a_handshake_is_named() {
    let args = ["--tls-self-signed", "--log-closed", "--log-format", "json"];
    let (_server, address, stderr) = serve("info", &args);
    let client = connect(address);
    let name = client.local_addr().unwrap().to_string();
    drop(client);
    let closed = hear(&stderr, message_has("closed"));
    assert_eq!((&closed["reason"], &closed["peer"]), (&"handshake abandoned".into(), &name.into()));
    assert!(closed["open_seconds"].is_f64(), "{closed}");
}

#[track_caller]
fn error(args: &[&str], status: i32) -> String {
    let ended = Ended::run(&mut echoloop(args));
    assert_eq!(ended.status.code(), Some(status), "{ended:?}");
    let lines: Vec<Value> = ended.stderr.lines().map(parsed).collect();
    let line = lines.last().expect("a line");
    assert_eq!(line["level"], "ERROR");
    line["message"].as_str().unwrap().to_owned()
}

#[test]
fn failures_are_objects_too() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let said = error(&["serve", &at, "--log-format", "json"], 1);
    assert!(said.starts_with(&format!("cannot listen on {at}: ")), "{said}");
    let said = error(&["--log-format=json", "serve", "--no-such-option"], 2);
    assert!(said.starts_with("unexpected argument '--no-such-option'"), "{said}");
    assert!(error(&["--log-format=json"], 2).starts_with("a command is missing"));
    drop(taken);
    let said = error(&["bench", &at, "--log-format", "json", "-n", "1", "--timeout", "1s"], 1);
    assert!(said.contains(&at), "{said}");
}

#[test]
fn what_the_client_says_on_stderr_is_an_object() {
    let (_server, address, _stderr) = serve("warn", &[]);
    let address = address.to_string();
    let mut command = echoloop(&["client", &address, "-", "--log-format", "json"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), &ended.stdout[..]), (Some(0), &b"hello"[..]));
    let said: Vec<Value> = String::from_utf8(ended.stderr).unwrap().lines().map(parsed).collect();
    let messages: Vec<_> = said.iter().map(|line| line["message"].as_str().unwrap()).collect();
    let counts = ["Bytes sent: 5", "Bytes received: 5", "Connection closed"];
    assert!(messages.ends_with(&counts), "{messages:?}");
}
