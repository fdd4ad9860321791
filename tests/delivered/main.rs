//! Delivered means acknowledged: as long as the peer's system has yet to acknowledge a byte, nothing counts as an end.
#![cfg(unix)]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test")]

#[cfg(target_os = "linux")]
mod acknowledged;
mod client;
mod drain;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod namespaces;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod network;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod program;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod registration;
mod unix;
#[path = "../util/mod.rs"]
mod util;
mod ways;
