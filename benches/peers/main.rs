//! The peers side by side: echo servers of several kinds do the same work on the same core, each as a process of its
//! own, and one client on another core measures them all. `cargo bench --bench peers`, under 5 minutes.
//!
//! A figure counts only as a ratio of medians from one run: every round visits all peers before the next begins, so
//! that whatever else the machine does meanwhile falls on all of them. See `comparison/args.rs` for the options.
#![allow(clippy::disallowed_methods, reason = "it measures time, and waits for other processes")]

#[cfg(target_os = "linux")]
mod comparison;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    comparison::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("peers: needs Linux, for the kernel's accounting of other processes");
}
