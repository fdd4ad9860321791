//! Echo over UDP (RFC 862): each datagram goes back to where it came from.
//!
//! A datagram has no connection, so there is no state, no slot in the table and no protocol: what cannot be answered at
//! once is dropped, and counted. That is what UDP promises.

mod echo_socket;
mod refusal;

use std::{fmt, time::Instant};

use self::echo_socket::EchoSocket;
use crate::{stats::Counters, system::datagrams::Datagrams};

/// The datagram sockets of one loop.
pub(crate) struct DatagramEcho<S> {
    /// In the order in which they were added; those that are closed are gone.
    sockets: Vec<Option<EchoSocket<S>>>,
    /// Their ports, also of those that are closed.
    ports: Vec<u16>,
    /// Room for the largest datagram.
    buffer: Box<[u8]>,
    /// Sockets that are closed once they are empty.
    is_draining: bool,
}

/// More than the payload of any datagram: 65,507 bytes over IPv4, 65,527 over IPv6.
const BUFFER_BYTES: usize = 64 << 10;

/// Without a socket.
impl<S> Default for DatagramEcho<S> {
    fn default() -> Self {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Self { sockets: Vec::new(), ports: Vec::new(), buffer, is_draining: false }
    }
}

impl<S: Datagrams> DatagramEcho<S> {
    /// Echoes on one more socket, in which datagrams may wait already.
    pub(crate) fn add(&mut self, socket: S) {
        self.ports.push(socket.port());
        self.sockets.push(Some(EchoSocket::new(socket)));
    }

    /// How many sockets were added.
    pub(crate) const fn added(&self) -> usize {
        self.sockets.len()
    }

    /// Whether no socket is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets().next().is_none()
    }

    /// Notes an event of the nth socket.
    pub(crate) fn set_ready(&mut self, n: usize) {
        if let Some(Some(socket)) = self.sockets.get_mut(n) {
            socket.set_ready();
        }
    }

    /// Whether there may be datagrams to receive now.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.sockets().any(|socket| socket.is_ready(now))
    }

    /// When to try again if no event comes before.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.sockets().filter_map(EchoSocket::retry_at).min()
    }

    /// Sends back what has come, a bounded number of datagrams for each socket.
    pub(crate) fn take_turns(&mut self, now: Instant, counters: &Counters) {
        for place in &mut self.sockets {
            let Some(socket) = place else { continue };
            if socket.is_ready(now) {
                socket.take_turn(now, &mut self.buffer, &self.ports, counters);
            }
            if self.is_draining && socket.is_drained() {
                *place = None;
            }
        }
    }

    /// From now on each socket is closed once what has come is answered.
    pub(crate) fn begin_drain(&mut self) {
        self.is_draining = true;
        self.sockets.iter_mut().flatten().for_each(EchoSocket::begin_drain);
    }

    fn sockets(&self) -> impl Iterator<Item = &EchoSocket<S>> {
        self.sockets.iter().flatten()
    }
}

impl<S> fmt::Debug for DatagramEcho<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramEcho").field("ports", &self.ports).finish_non_exhaustive()
    }
}
