//! The sockets of a worker.

use std::{io, net::SocketAddr};

use mio::{Interest, Registry, Token, net::UdpSocket};

use crate::cli::udp;

/// Connected sockets that take turns.
#[derive(Debug)]
pub(super) struct Sockets {
    /// By place; those that failed are gone.
    sockets: Vec<Option<LoadSocket>>,
    open: usize,
    next: usize,
}

#[derive(Debug)]
struct LoadSocket {
    socket: UdpSocket,
    has_answered: bool,
}

impl Sockets {
    /// Connects so many sockets to the server. The token of each is its place.
    pub(super) fn connect(server: SocketAddr, count: usize, registry: &Registry) -> io::Result<Self> {
        let mut sockets = Vec::with_capacity(count);
        for place in 0..count {
            let socket = udp::connect(server)?;
            socket.set_nonblocking(true)?;
            let mut socket = UdpSocket::from_std(socket);
            registry.register(&mut socket, Token(place), Interest::READABLE)?;
            sockets.push(Some(LoadSocket { socket, has_answered: false }));
        }
        Ok(Self { sockets, open: count, next: 0 })
    }

    /// How many are open.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// Whether the one at this place is open.
    pub(super) fn is_open(&self, place: usize) -> bool {
        self.sockets[place].is_some()
    }

    /// How many there were.
    pub(super) const fn len(&self) -> usize {
        self.sockets.len()
    }

    /// The place of the open one whose turn it is.
    pub(super) fn next_in_turn(&mut self) -> Option<usize> {
        let all = self.sockets.len();
        let place = (0..all).map(|n| (self.next + n) % all).find(|&place| self.is_open(place))?;
        self.next = (place + 1) % all;
        Some(place)
    }

    /// Sends a datagram on an open one.
    pub(super) fn send(&self, place: usize, datagram: &[u8]) -> io::Result<()> {
        let open = self.sockets[place].as_ref().expect("it is open");
        open.socket.send(datagram).map(drop)
    }

    /// Receives the next datagram on a socket; `None` if it failed.
    pub(super) fn receive(&self, place: usize, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        let open = self.sockets.get(place)?.as_ref()?;
        Some(open.socket.recv(buffer))
    }

    /// Something has come back on this socket.
    pub(super) fn note_answer(&mut self, place: usize) {
        if let Some(open) = &mut self.sockets[place] {
            open.has_answered = true;
        }
    }

    /// Closes a socket, and returns whether anything has come back on it; `None` if it was closed before.
    pub(super) fn close(&mut self, place: usize) -> Option<bool> {
        let closed = self.sockets[place].take()?;
        self.open -= 1;
        Some(closed.has_answered)
    }
}
