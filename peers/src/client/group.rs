//! What a group of connections does, and what comes back to it.

use std::time::Duration;

/// Connections that do the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) connections: usize,
    /// The bytes of a message.
    pub(crate) size: usize,
    pub(crate) sending: Sending,
}

/// When a connection sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sending {
    /// A closed loop: so many messages are under way at once, and each that comes back makes room for another.
    Window(usize),
    /// An open loop: one message in this time, whatever came back. Latency counts from when it was due.
    Every(Duration),
}

/// What is done with the bytes that come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Each is compared to what was sent.
    Verify,
    /// They are counted and discarded in the kernel, without a copy: the client costs less, so a server on the same core
    /// gets more of it, and one on another core waits less for it.
    Discard,
}

/// What came back to the connections of a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// From the sending of each message to its last byte, in nanoseconds.
    pub(crate) latencies: Vec<u64>,
}
