//! What a server does for its clients.

/// What a server does with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Sends every byte back, and ends when the client has ended.
    Echo,
    /// Waits for the first bytes, sends a reply of [`REPLY_BYTES`], and ends, whatever the client does.
    Reply,
}

/// The length of the reply. It consists of [`REPLY_BYTE`].
pub(crate) const REPLY_BYTES: usize = 2 << 20;

/// The reply's every byte.
pub(crate) const REPLY_BYTE: u8 = b'r';

/// What is sent in [`Mode::Reply`].
pub(super) fn reply() -> Vec<u8> {
    vec![REPLY_BYTE; REPLY_BYTES]
}
