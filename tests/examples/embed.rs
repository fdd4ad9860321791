//! `embed`: a program that drives its loop from stdin, with `nc` for a client.

use std::{
    io::Write,
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::Receiver,
};

use super::is_installed;
use crate::util::{self, DEADLINE, Program, example};

/// The program, with somebody at its stdin.
struct Operated {
    program: Program,
    stdin: ChildStdin,
}

/// A process on whose stdin and stdout lines are exchanged.
fn start(mut command: Command) -> (Child, ChildStdin, Receiver<String>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawn");
    let stdin = child.stdin.take().expect("piped");
    let stdout = util::lines(child.stdout.take().expect("piped"));
    (child, stdin, stdout)
}

impl Operated {
    fn start() -> (Self, SocketAddr) {
        let (child, stdin, stdout) = start(example("embed", &["127.0.0.1:0"]));
        let program = Program { child, stdout };
        let address = program.listening();
        (Self { program, stdin }, address)
    }

    #[track_caller]
    fn does(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").expect("it reads commands");
    }

    /// Ends well, with this summary.
    #[track_caller]
    fn ends(mut self, summary: &str) {
        assert_eq!(self.program.line(), summary);
        assert!(self.program.wait(DEADLINE).success());
    }
}

#[test]
fn what_the_program_says_reaches_every_client_and_a_drain_ends_them_all() {
    if !is_installed("nc") {
        return;
    }
    let (mut operated, address) = Operated::start();
    let mut nc = Command::new("nc");
    nc.args(["127.0.0.1", &address.port().to_string()]);
    let (child, mut stdin, heard) = start(nc);
    let mut nc = Program { child, stdout: heard };
    let client = util::connect(address);
    util::ping(&client, b"ping");
    writeln!(stdin, "echo").expect("nc reads");
    assert_eq!(nc.line(), "echo");

    operated.does("say good evening");
    assert_eq!(nc.line(), "good evening");
    operated.does("stats");
    assert!(operated.program.line().starts_with("2 open; 2 connections, 9 bytes received, "));
    operated.does("sing");
    assert_eq!(operated.program.line(), "there are stats, say TEXT, drain and quit");
    operated.does("drain");
    assert_eq!(util::read_to_end(&client), b"good evening\n");
    drop(client);
    drop(stdin);
    nc.wait(DEADLINE);
    operated.ends("2 connections, 9 bytes received, 35 bytes sent, 0 bytes undelivered; drained 2");
}

#[test]
fn the_end_of_stdin_is_a_drain() {
    let (operated, _) = Operated::start();
    let Operated { mut program, stdin } = operated;
    drop(stdin);
    assert_eq!(program.line(), "0 connections, 0 bytes received, 0 bytes sent, 0 bytes undelivered");
    assert!(program.wait(DEADLINE).success());
}

#[test]
fn a_line_that_is_not_utf_8_is_a_line_like_any_other() {
    let (mut operated, address) = Operated::start();
    let client = util::connect(address);
    util::ping(&client, b"ping");
    operated.stdin.write_all(b"say caf\xe9\r\ndrain\n").expect("it reads commands");
    assert_eq!(util::read_to_end(&client), "caf\u{fffd}\n".as_bytes());
    drop(client);
    operated.ends("1 connections, 4 bytes received, 11 bytes sent, 0 bytes undelivered; drained 1");
}

#[test]
fn quit_resets_every_client() {
    let (mut operated, address) = Operated::start();
    let client = util::connect(address);
    util::ping(&client, b"ping");
    operated.does("quit");
    assert!(util::read_to_reset(&client).is_empty());
    operated.ends("1 connections, 4 bytes received, 4 bytes sent, 0 bytes undelivered; server aborted 1");
}
