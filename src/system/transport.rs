//! What a connection needs of a socket.

use std::{
    io::{self, Read, Write},
    rc::Rc,
};

use crate::{
    address::Address,
    pipes::Pipe,
    tls::{TlsInfo, scratch::Scratch, session::Session},
};

/// Both ends of a connection, asked of the operating system when someone wants to know.
pub trait Addresses {
    /// The peer's address.
    ///
    /// # Errors
    ///
    /// What the operating system says, for example that the peer is gone.
    fn peer_addr(&self) -> io::Result<Address>;

    /// Our address.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn local_addr(&self) -> io::Result<Address>;

    /// What the TLS handshake has agreed on, if there was one.
    fn tls(&self) -> Option<TlsInfo> {
        None
    }

    /// Whether the peer's end came without the mark that a stream over TLS has at its end.
    fn is_truncated(&self) -> bool {
        false
    }
}

/// A non-blocking byte stream whose two directions end separately.
///
/// Dropping it takes it off its poller and closes it.
pub trait Transport: Read + Write + Addresses {
    /// Where the kernel holds bytes between splicing them in and out.
    type Pipe: Pipe;

    /// Whether connecting could not begin yet and is to be tried again a little later: no event will tell when it can.
    /// That is where the backlog of a Unix socket is full.
    fn must_connect_again(&self) -> bool {
        false
    }

    /// Tries again to begin.
    ///
    /// # Errors
    ///
    /// Those of connect(2), but not that the backlog is still full.
    fn connect_again(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Makes a pipe.
    ///
    /// # Errors
    ///
    /// `Unsupported` where there are none, or what the system says, for example that there are no descriptors left.
    fn new_pipe(&self) -> io::Result<Self::Pipe> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Moves up to `most` bytes that have come into an empty pipe, and says how many. None means that the next is no
    /// ordinary byte: the end, or urgent data. A read tells which.
    ///
    /// # Errors
    ///
    /// Those of a read; it may be the only call that is told of them. `Unsupported` if the socket's bytes cannot be
    /// moved at all.
    fn splice_in(&mut self, pipe: &mut Self::Pipe, most: usize) -> io::Result<usize> {
        let _ = (pipe, most);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends up to `most` bytes out of the pipe, as a write would.
    ///
    /// # Errors
    ///
    /// Those of a write; `WouldBlock` is one of them.
    fn splice_out(&mut self, pipe: &mut Self::Pipe, most: usize) -> io::Result<usize> {
        let _ = (pipe, most);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether its bytes can be moved inside the kernel at all.
    fn can_splice(&self) -> bool {
        true
    }

    /// Whether a read that brings less than it has room for has brought everything, and an event follows when more
    /// comes; unless [`Readiness::MORE`](crate::internals::Readiness::MORE) was reported.
    fn short_read_drains(&self) -> bool {
        false
    }

    /// Sends FIN behind everything written: shutdown(2) with `SHUT_WR`.
    ///
    /// # Errors
    ///
    /// `NotConnected` if the peer is gone, or what else the system says. `WouldBlock` if it has something to send before: it
    /// is to be called again.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Whether our FIN counts as a byte that is to be acknowledged.
    const COUNTS_FIN: bool = true;

    /// How much of what was written the peer's system has not acknowledged, in the bytes that were given to `write`, and
    /// our end as one more if [`COUNTS_FIN`](Self::COUNTS_FIN). `None` where the system cannot say: then what it has
    /// taken counts as delivered.
    ///
    /// After a reset it is what was lost by it.
    fn unacknowledged(&self) -> Option<usize>;

    /// Takes the pending error, `SO_ERROR` of socket(7).
    ///
    /// # Errors
    ///
    /// What the system says when it cannot be asked.
    fn take_error(&mut self) -> io::Result<Option<io::Error>>;

    /// Makes the close to come a reset, which drops what is not yet sent.
    fn reset_on_close(&mut self);

    // What differs where there is a layer of TLS between. Without one:

    /// Whether there is a layer, so that the others below are worth a question.
    fn is_secure(&self) -> bool {
        false
    }

    /// Whether nothing can be sent or received yet but what a handshake needs.
    fn is_handshaking(&self) -> bool {
        false
    }

    /// Goes on with the handshake, as far as that is possible without blocking. True when it is over.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it has failed: [`shutdown_write`](Self::shutdown_write) then says so to the peer. `UnexpectedEof` if
    /// the peer has ended. Else what the system says.
    fn handshake(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    /// From now on bytes are sealed and opened by this session. Nothing may be on its way.
    ///
    /// # Errors
    ///
    /// `Unsupported`.
    fn secure(&mut self, session: Box<dyn Session>, scratch: &Rc<Scratch>) -> io::Result<()> {
        let _ = (session, scratch);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether it has something to send that nobody has written: `flush` sends it. What is written meanwhile waits.
    fn has_output(&self) -> bool {
        false
    }

    /// Whether a read is worth a try though no event will come for it.
    fn has_input(&self) -> bool {
        false
    }

    /// Whether the end that a read has told is that of the stream only: the socket has still to be read to its own.
    fn is_open_below(&self) -> bool {
        false
    }

    /// How many of the bytes given to `write` are among so many that are not acknowledged; at most.
    fn undelivered(&self, unacknowledged: usize) -> usize {
        unacknowledged
    }
}
