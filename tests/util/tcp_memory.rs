//! What the system has left for TCP connections.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use super::skip;

/// Runs a test that fills what the system holds for TCP. If it fails while the machine is short of memory for that, it is
/// skipped: the system then takes less than usual, and drops what comes, so that it is sent again seconds later.
pub fn unless_short_of_tcp_memory(test: impl FnOnce()) {
    let before = tcp_memory();
    let Err(failure) = catch_unwind(AssertUnwindSafe(test)) else { return };
    let after = tcp_memory();
    let is_short = |memory: &TcpMemory| memory.pages >= memory.short_from;
    let has_been_short = before.zip(after).is_some_and(|(before, after)| {
        is_short(&before) || is_short(&after) || after.shortages > before.shortages
    });
    if !has_been_short {
        resume_unwind(failure);
    }
    skip("the machine is short of memory for TCP");
}

/// What the TCP sockets of the machine use, see tcp(7), `tcp_mem`.
struct TcpMemory {
    pages: u64,
    /// The system saves from when it has become short until it uses less than this.
    short_from: u64,
    /// How often it has become short.
    shortages: u64,
}

/// `None` where the system does not say: another one than Linux, a container.
fn tcp_memory() -> Option<TcpMemory> {
    let read = |path| fs::read_to_string(path).ok();
    let sockets = read("/proc/net/sockstat")?;
    let tcp = sockets.lines().find(|line| line.starts_with("TCP:"))?;
    let limits = read("/proc/sys/net/ipv4/tcp_mem")?;
    // Pairs of lines: names, values.
    let counters = read("/proc/net/netstat")?;
    let mut lines = counters.lines();
    let (names, values) = (lines.next()?.split(' '), lines.next()?.split(' '));
    Some(TcpMemory {
        pages: tcp.split_once(" mem ")?.1.parse().ok()?,
        short_from: limits.split_whitespace().next()?.parse().ok()?,
        shortages: names.zip(values).find(|(name, _)| *name == "TCPMemoryPressures")?.1.parse().ok()?,
    })
}
