//! What systemd is told, what it passes, and the units.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

#[cfg(feature = "cli-tls")]
#[allow(dead_code, reason = "it uses a part of it")]
#[path = "../tls/files.rs"]
mod files;
mod notify;
#[path = "../util/mod.rs"]
mod util;
