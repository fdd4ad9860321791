//! The examples against software that others wrote: each is started as a program, as its documentation says.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "tests wait for states, with deadlines by the real clock")]

mod chat;
mod clients;
mod embed;
mod http;
mod memcached;
mod proxy;
mod resp;
mod rfc;
mod socks5;
#[path = "../util/mod.rs"]
mod util;
mod websocket;
mod without_sockets;

use std::{
    env,
    io::Write,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// The server `name`, on a port of its own: the program that `ECHOLOOP_EXAMPLE_NAME` names, such as the same server on
/// another library, or else the example. Where there is neither, the test is skipped.
fn server(name: &str) -> Option<(util::Program, SocketAddr)> {
    const ADDRESS: &str = "127.0.0.1:0";
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let sources = [examples.join(name).with_extension("rs"), examples.join(name).join("main.rs")];
    let command = if let Some(program) = env::var_os(format!("ECHOLOOP_EXAMPLE_{}", name.to_uppercase())) {
        let mut command = Command::new(program);
        command.arg(ADDRESS);
        command
    } else if sources.iter().any(|source| source.exists()) {
        util::example(name, &[ADDRESS])
    } else {
        util::skip(&format!("there is no example {name}"));
        return None;
    };
    let program = util::Program::spawn(command);
    let address = program.listening();
    Some((program, address))
}

/// Whether the shell finds a program of this name; where it does not, the test is skipped.
fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").arg("-c").arg("command -v \"$0\" >/dev/null").arg(program).status();
    let found = found.expect("a shell").success();
    if !found {
        util::skip(&format!("no {program} here"));
    }
    found
}

/// `nc`, with the options by which it half-closes at the end of its stdin and then receives until the server ends;
/// programs of three makes have that name. Where there is none that can do so, the test is skipped.
fn netcat(address: SocketAddr) -> Option<Command> {
    if !is_installed("nc") {
        return None;
    }
    let help = Command::new("nc").arg("-h").stdin(Stdio::null()).output().expect("nc -h");
    let help = String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).into_owned();
    let options: &[&str] = if help.contains("Ncat") {
        // It does so anyway.
        &[]
    } else if help.contains("-N") {
        &["-N", "-w", "60"]
    } else if help.contains("-q secs") {
        // The traditional one does so for this time.
        &["-q", "60"]
    } else {
        util::skip("this nc does not half-close");
        return None;
    };
    let mut nc = Command::new("nc");
    nc.args(options).args([address.ip().to_string(), address.port().to_string()]);
    Some(nc)
}

/// What a command that reads `input` writes.
#[track_caller]
fn filter(mut command: Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawn");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        // A command that has all that it wants reads no further.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("the writer does not panic");
    assert!(output.status.success(), "{:?}", output.status);
    output.stdout
}
