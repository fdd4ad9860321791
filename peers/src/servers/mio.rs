//! The floor: what a loop on mio costs that does nothing but echo. One buffer for all, one recv and one send per
//! message, no deadlines, no limits, no fairness, no counters.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
};

use mio::{
    Events, Interest, Poll, Token,
    event::Event,
    net::{TcpListener, TcpStream},
};
use slab::Slab;

use crate::servers::{
    common::{ACCEPT_RETRY, BUFFER_BYTES, announce, listen_nonblocking},
    mode::{Mode, reply},
};

const LISTENER: Token = Token(usize::MAX);

pub(super) fn run(mode: Mode) -> io::Result<()> {
    let mut listener = TcpListener::from_std(listen_nonblocking()?);
    announce(listener.local_addr()?)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut server =
        Server { mode, clients: Slab::new(), buffer: vec![0; BUFFER_BYTES], accept_failed: false };
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, server.accept_failed.then_some(ACCEPT_RETRY))?;
        let mut accept = server.accept_failed;
        for event in &events {
            if event.token() == LISTENER {
                accept = true;
            } else {
                server.serve(event);
            }
        }
        // Last: an event of this batch is not taken for one of a new client in an old one's place.
        if accept {
            server.accept(&listener, &poll);
        }
    }
}

struct Server {
    mode: Mode,
    clients: Slab<Client>,
    buffer: Vec<u8>,
    /// Clients wait, and no event will say so.
    accept_failed: bool,
}

struct Client {
    stream: TcpStream,
    /// What the socket did not take, from `sent` on.
    tail: Vec<u8>,
    sent: usize,
    readable: bool,
    read_closed: bool,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Wait,
    Close,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) {
        self.accept_failed = loop {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let entry = self.clients.vacant_entry();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let set_up = stream
                        .set_nodelay(true)
                        .and_then(|()| poll.registry().register(&mut stream, Token(entry.key()), interest));
                    if set_up.is_ok() {
                        let (readable, read_closed) = (false, false);
                        entry.insert(Client { stream, tail: Vec::new(), sent: 0, readable, read_closed });
                    }
                }
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
        };
    }

    fn serve(&mut self, event: &Event) {
        let Some(client) = self.clients.get_mut(event.token().0) else { return };
        client.readable |= event.is_readable();
        client.read_closed |= event.is_read_closed();
        let next = match self.mode {
            Mode::Echo => client.echo(&mut self.buffer),
            Mode::Reply => client.reply(&mut self.buffer),
        };
        if !matches!(next, Ok(Next::Wait)) {
            self.clients.remove(event.token().0);
        }
    }
}

impl Client {
    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<Next> {
        self.flush()?;
        while self.readable && self.tail.is_empty() {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.stream.shutdown(Shutdown::Write)?;
                    return Ok(Next::Close);
                }
                Ok(n) => {
                    // A short read has emptied the socket, unless the end is behind it.
                    self.readable = n == buffer.len() || self.read_closed;
                    self.send(&buffer[..n])?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(Next::Wait)
    }

    fn reply(&mut self, buffer: &mut [u8]) -> io::Result<Next> {
        if self.tail.is_empty() {
            match self.stream.read(buffer) {
                Ok(_) => self.send(&reply())?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Wait),
                Err(error) => return Err(error),
            }
        } else {
            self.flush()?;
        }
        if !self.tail.is_empty() {
            return Ok(Next::Wait);
        }
        self.stream.shutdown(Shutdown::Write)?;
        Ok(Next::Close)
    }

    /// Sends, and keeps what the socket does not take.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let n = match self.stream.write(bytes) {
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if n < bytes.len() {
            self.tail.extend_from_slice(&bytes[n..]);
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.tail.len() {
            match self.stream.write(&self.tail[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        (self.tail, self.sent) = (Vec::new(), 0);
        Ok(())
    }
}
