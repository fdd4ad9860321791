//! Connections that come and go: connect, one message, half-close, read to the end, close.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::client::{group::Tally, pattern::Pattern};

/// How long a server may do nothing at all before the client gives up.
pub(super) const STALL: Duration = Duration::from_secs(10);

/// A connection of which nothing is left to do but receive to the end, once it is made.
struct Visitor {
    stream: TcpStream,
    begun: Instant,
    connecting: bool,
    received: usize,
}

/// Makes `total` connections, `parallel` at a time, each with a message of `size` bytes.
pub(crate) fn churn(address: SocketAddr, parallel: usize, total: usize, size: usize) -> io::Result<Tally> {
    let pattern = Pattern::new(size);
    let message = pattern.piece(0, 0, size);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(parallel);
    let mut tally = Tally::default();
    let mut visitors = Vec::new();
    for place in 0..parallel.min(total) {
        visitors.push(Some(Visitor::come(address, &poll, place)?));
    }
    let mut come = visitors.len();
    let mut buffer = vec![0; size + 1];
    while tally.messages < total as u64 {
        poll.poll(&mut events, Some(STALL))?;
        if events.is_empty() {
            return Err(io::Error::other("nothing came for 10 s"));
        }
        for event in &events {
            let place = event.token().0;
            let Some(visitor) = &mut visitors[place] else { continue };
            if !visitor.go_on(message, &mut buffer)? {
                continue;
            }
            tally.messages += 1;
            tally.bytes += size as u64;
            tally.latencies.push(u64::try_from(visitor.begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            visitors[place] = None;
            if come < total {
                visitors[place] = Some(Visitor::come(address, &poll, place)?);
                come += 1;
            }
        }
    }
    Ok(tally)
}

impl Visitor {
    fn come(address: SocketAddr, poll: &Poll, place: usize) -> io::Result<Self> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        poll.registry().register(&mut stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, begun, connecting: true, received: 0 })
    }

    /// Whether it has ended, with its whole message.
    fn go_on(&mut self, message: &[u8], buffer: &mut [u8]) -> io::Result<bool> {
        if self.connecting {
            match self.stream.write(message) {
                Ok(n) if n == message.len() => self.stream.shutdown(Shutdown::Write)?,
                Ok(_) => return Err(io::Error::other("a new connection takes no whole message")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
                Err(error) => return Err(error),
            }
            self.connecting = false;
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) if self.received == message.len() => return Ok(true),
                Ok(n) if n > 0 && message[self.received..].starts_with(&buffer[..n]) => self.received += n,
                Ok(_) => return Err(io::Error::other("the echo is not what was sent")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}
