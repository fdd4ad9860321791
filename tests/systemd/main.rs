//! What systemd is told, what it passes, and the units.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

#[cfg(feature = "cli-tls")]
#[allow(dead_code, reason = "it uses a part of it")]
#[path = "../tls/files.rs"]
mod files;
mod notify;
mod passed;
mod units;
#[path = "../util/mod.rs"]
mod util;

use std::sync::mpsc::Receiver;

/// Waits until a line says so, whatever else is said meanwhile.
#[track_caller]
fn hear(stderr: &Receiver<String>, what: &str) {
    util::eventually(what, || stderr.try_iter().any(|line| line.contains(what)));
}
