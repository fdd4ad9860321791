//! The promise: shutdown, then close, for every client, and no byte lost on the way.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test")]

mod client_first;
mod drain;
mod half_closed;
mod sending;
mod server_first;
#[path = "../util/mod.rs"]
mod util;

use std::{io::Read, sync::Arc};

use echoloop::{Address, CloseReason, Context, Input, Protocol};
use socket2::Socket;
use util::{DEADLINE, Running};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A client of any family.
fn connect(address: &Address) -> Socket {
    let socket: Socket = match address {
        Address::Ip(address) => util::connect(*address).into(),
        #[cfg(unix)]
        Address::Unix(path) => std::os::unix::net::UnixStream::connect(path).expect("connect").into(),
        other => panic!("cannot connect to {other}"),
    };
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Reads to the end and compares; an error, such as a reset, fails the test. Returns the length.
#[track_caller]
fn expect_prefix_and_end(mut socket: &Socket, expected: &[u8]) -> usize {
    let mut buffer = vec![0; 256 * KIB];
    let mut length = 0;
    loop {
        let n = socket.read(&mut buffer).expect("a clean end");
        if n == 0 {
            return length;
        }
        assert!(length + n <= expected.len(), "more than was expected");
        assert!(buffer[..n] == expected[length..length + n], "different within {n} bytes from {length}");
        length += n;
    }
}

/// Reads to the end, which has to come exactly behind `expected`.
#[track_caller]
fn expect_and_end(socket: &Socket, expected: &[u8]) {
    assert_eq!(expect_prefix_and_end(socket, expected), expected.len());
}

/// Everything was echoed to `clients` clients that ended first, and nothing is left over.
#[track_caller]
fn expect_all_ended_by_their_peers<P: Protocol + 'static>(server: Running<P>, clients: u64, bytes: usize) {
    let stats = server.last_stats();
    assert_eq!(stats.closed(CloseReason::Peer), clients, "{stats}");
    assert_eq!(stats.closed_total(), clients, "{stats}");
    assert_eq!(stats.accepted, clients, "{stats}");
    assert_eq!(stats.bytes_received, bytes as u64, "{stats}");
    assert_eq!(stats.bytes_sent, bytes as u64, "{stats}");
    assert_eq!((stats.bytes_undelivered, stats.bytes_discarded), (0, 0), "{stats}");
}

/// Answers the first bytes with a reply, and ends.
struct ReplyAndFinish(Arc<Vec<u8>>);

impl Protocol for ReplyAndFinish {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        input.take();
        cx.write(&self.0);
        cx.finish();
    }
}
