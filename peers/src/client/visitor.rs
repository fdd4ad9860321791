//! A connection that comes, sends one message, ends, receives to the end, and leaves.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr},
    sync::Arc,
    time::Instant,
};

use mio::{Interest, Registry, Token, net::TcpStream};
use rustls::ClientConfig;
use slab::Slab;

use crate::client::{
    connection::TURN_BYTES,
    group::Tally,
    pattern::Pattern,
    tls::{RAW_BYTES, Received, Secure},
};

/// Visitors of one server. The event loop is that of who sends them.
pub(crate) struct Visitors {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    pattern: Pattern,
    /// The bytes of the message.
    size: usize,
    inside: Slab<Visitor>,
    /// The token of the first place.
    first: usize,
    buffer: Vec<u8>,
    tally: Tally,
    resumed: u64,
}

/// Of it nothing is left to do but receive to the end, once its message is sent.
struct Visitor {
    link: Link,
    begun: Instant,
    received: usize,
}

enum Link {
    Plain {
        stream: TcpStream,
        connecting: bool,
    },
    Secure {
        secure: Box<Secure>,
        /// FIN is sent.
        ended: bool,
        /// The peer's close_notify has come.
        closed: bool,
    },
}

impl Visitors {
    /// Their tokens are `first` and those behind it. Their message has `size` bytes.
    pub(crate) fn new(
        address: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
        size: usize,
        first: usize,
    ) -> Self {
        Self {
            address,
            tls,
            pattern: Pattern::new(size),
            size,
            inside: Slab::new(),
            first,
            buffer: vec![0; TURN_BYTES + RAW_BYTES],
            tally: Tally::default(),
            resumed: 0,
        }
    }

    /// How many have come and not left.
    pub(super) fn len(&self) -> usize {
        self.inside.len()
    }

    /// What those have brought that have left since this was last asked, and how many of them have resumed a session.
    pub(super) fn take_tally(&mut self) -> (Tally, u64) {
        (std::mem::take(&mut self.tally), std::mem::take(&mut self.resumed))
    }

    /// How many have left since then.
    pub(super) const fn served(&self) -> u64 {
        self.tally.messages
    }

    /// One more comes.
    pub(super) fn come(&mut self, registry: &Registry) -> io::Result<()> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        let place = self.inside.vacant_entry();
        let token = Token(self.first + place.key());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let link = match &self.tls {
            None => Link::Plain { stream, connecting: true },
            Some(config) => {
                let mut secure = Box::new(Secure::connecting(stream, config)?);
                secure.write(self.pattern.piece(0, 0, self.size))?;
                Link::Secure { secure, ended: false, closed: false }
            }
        };
        place.insert(Visitor { link, begun, received: 0 });
        Ok(())
    }

    /// To be called when there is an event for it. Whether it has left.
    pub(super) fn go_on(&mut self, token: usize) -> io::Result<bool> {
        let place = token - self.first;
        let Some(visitor) = self.inside.get_mut(place) else { return Ok(false) };
        let message = self.pattern.piece(0, 0, self.size);
        if !visitor.go_on(message, &mut self.buffer)? {
            return Ok(false);
        }
        let visitor = self.inside.remove(place);
        self.tally.messages += 1;
        self.tally.bytes += self.size as u64;
        self.tally.latencies.push(u64::try_from(visitor.begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        if let Link::Secure { secure, .. } = &visitor.link {
            self.resumed += u64::from(secure.is_resumed());
        }
        Ok(true)
    }
}

impl Visitor {
    /// Whether it has ended, with its whole message.
    fn go_on(&mut self, message: &[u8], buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            if !self.link.send(message)? {
                return Ok(false);
            }
            match self.link.receive(buffer) {
                Ok(Some(0)) if self.received == message.len() => return Ok(true),
                Ok(Some(n)) if n > 0 && message[self.received..].starts_with(&buffer[..n]) => {
                    self.received += n;
                }
                Ok(Some(_)) => return Err(io::Error::other("the echo is not what was sent")),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Link {
    /// Sends what can be sent. Whether it is time to receive.
    fn send(&mut self, message: &[u8]) -> io::Result<bool> {
        match self {
            Self::Plain { connecting: false, .. } | Self::Secure { ended: true, .. } => Ok(true),
            Self::Plain { stream, connecting } => {
                match stream.write(message) {
                    Ok(n) if n == message.len() => stream.shutdown(Shutdown::Write)?,
                    Ok(_) => return Err(io::Error::other("a new connection takes no whole message")),
                    Err(error) if is_too_early(&error) => return Ok(false),
                    Err(error) => return Err(error),
                }
                *connecting = false;
                Ok(true)
            }
            Self::Secure { secure, ended, .. } => {
                if !secure.is_handshaking() {
                    *ended = secure.end()?;
                    return Ok(*ended);
                }
                match secure.flush() {
                    Err(error) if is_too_early(&error) => Ok(false),
                    result => result,
                }
            }
        }
    }

    /// Receives once. 0 at the end; none if what came was not for the visitor.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Self::Plain { stream, .. } => stream.read(buffer).map(Some),
            // Nothing follows close_notify but FIN.
            Self::Secure { secure, closed: true, .. } => secure.socket().read(buffer).map(Some),
            Self::Secure { secure, closed, .. } => {
                let (plaintext, raw) = buffer.split_at_mut(TURN_BYTES);
                let Received { bytes, has_ended, .. } = secure.receive(raw, plaintext)?;
                *closed = has_ended;
                Ok(Some(bytes).filter(|&bytes| bytes > 0))
            }
        }
    }
}

fn is_too_early(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}
