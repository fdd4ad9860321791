//! The examples against software that others wrote: each is started as a program, as its documentation says.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "tests wait for states, with deadlines by the real clock")]

mod chat;
mod embed;
mod http;
mod proxy;
mod resp;
mod rfc;
#[path = "../util/mod.rs"]
mod util;
mod without_sockets;

use std::process::Command;

/// Whether the shell finds a program of this name; where it does not, the test is skipped.
fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").arg("-c").arg("command -v \"$0\" >/dev/null").arg(program).status();
    let found = found.expect("a shell").success();
    if !found {
        util::skip(&format!("no {program} here"));
    }
    found
}
