//! The floor: the bare loop on mio with rustls, by the API of it that has no buffers of its own. Buffers are shared by all,
//! with one recv and one send per message; no deadlines, no limits, no fairness, no counters.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    sync::Arc,
};

use mio::{
    Events, Interest, Poll, Token,
    event::Event,
    net::{TcpListener, TcpStream},
};
use rustls::{
    ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, UnbufferedStatus},
};
use slab::Slab;

use crate::servers::{
    common::{ACCEPT_RETRY, BUFFER_BYTES, announce, listen_nonblocking},
    tls::config_with_tickets,
};

const LISTENER: Token = Token(usize::MAX);

/// The longest message of a handshake that rustls takes, and the beginning of a record behind it.
const LEFT_BYTES: usize = 96 << 10;

pub(super) fn run() -> io::Result<()> {
    let config = config_with_tickets()?;
    let mut listener = TcpListener::from_std(listen_nonblocking()?);
    announce(listener.local_addr()?)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut server = Server { config, clients: Slab::new(), buffers: Buffers::new(), accept_failed: false };
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
    config: Arc<ServerConfig>,
    clients: Slab<Client>,
    buffers: Buffers,
    /// Clients wait, and no event will say so.
    accept_failed: bool,
}

/// What all clients share.
struct Buffers {
    incoming: Vec<u8>,
    plaintext: Vec<u8>,
    outgoing: Outgoing,
}

/// What is to be sent: the first `used` bytes. None is ever zeroed again.
struct Outgoing {
    bytes: Vec<u8>,
    used: usize,
}

struct Client {
    stream: TcpStream,
    session: UnbufferedServerConnection,
    /// The beginning of a record.
    left: Vec<u8>,
    /// What the socket did not take, from `sent` on.
    tail: Vec<u8>,
    sent: usize,
    readable: bool,
    read_closed: bool,
    /// close_notify is the last of what is sent.
    ends: bool,
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
                // A client that cannot be set up is dropped.
                Ok((stream, _)) => drop(self.set_up(stream, poll)),
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
        };
    }

    fn set_up(&mut self, mut stream: TcpStream, poll: &Poll) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let session = UnbufferedServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        let entry = self.clients.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(entry.key()), interest)?;
        let (left, tail) = (Vec::new(), Vec::new());
        entry.insert(Client {
            stream,
            session,
            left,
            tail,
            sent: 0,
            readable: false,
            read_closed: false,
            ends: false,
        });
        Ok(())
    }

    fn serve(&mut self, event: &Event) {
        let Some(client) = self.clients.get_mut(event.token().0) else { return };
        client.readable |= event.is_readable();
        client.read_closed |= event.is_read_closed();
        if !matches!(client.echo(&mut self.buffers), Ok(Next::Wait)) {
            self.clients.remove(event.token().0);
        }
    }
}

impl Client {
    fn echo(&mut self, buffers: &mut Buffers) -> io::Result<Next> {
        self.flush()?;
        while self.readable && self.tail.is_empty() && !self.ends {
            let left = self.left.len();
            buffers.incoming[..left].copy_from_slice(&self.left);
            match self.stream.read(&mut buffers.incoming[left..][..BUFFER_BYTES]) {
                // Without close_notify.
                Ok(0) => return Ok(Next::Close),
                Ok(n) => {
                    // A short read has emptied the socket, unless the end is behind it.
                    self.readable = n == BUFFER_BYTES || self.read_closed;
                    let used = self.answer(left + n, buffers)?;
                    self.keep(&buffers.incoming[used..left + n]);
                    self.send(&buffers.outgoing.bytes[..buffers.outgoing.used])?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) => return Err(error),
            }
        }
        if !self.ends || !self.tail.is_empty() {
            return Ok(Next::Wait);
        }
        self.stream.shutdown(Shutdown::Write)?;
        Ok(Next::Close)
    }

    /// Makes of the first `came` incoming bytes what is sent in return. Says how many it has dealt with.
    fn answer(&mut self, came: usize, buffers: &mut Buffers) -> io::Result<usize> {
        let Buffers { incoming, plaintext, outgoing } = buffers;
        plaintext.clear();
        outgoing.used = 0;
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.session.process_tls_records(&mut incoming[used..came]);
            used += discard;
            match state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        plaintext.extend_from_slice(record.payload);
                        used += record.discard;
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => outgoing.encode(|room| data.encode(room))?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.ends = true,
                ConnectionState::WriteTraffic(mut traffic) => {
                    if !plaintext.is_empty() {
                        let sealed = traffic.encrypt(plaintext, &mut outgoing.bytes[outgoing.used..]);
                        outgoing.used += sealed.map_err(io::Error::other)?;
                    }
                    if self.ends {
                        let sealed = traffic.queue_close_notify(&mut outgoing.bytes[outgoing.used..]);
                        outgoing.used += sealed.map_err(io::Error::other)?;
                    }
                    return Ok(used);
                }
                ConnectionState::BlockedHandshake => return Ok(used),
                ConnectionState::Closed | ConnectionState::ReadEarlyData(_) | _ => {
                    return Err(ErrorKind::InvalidData.into());
                }
            }
        }
    }

    /// Keeps the beginning of a record until the rest of it comes.
    fn keep(&mut self, left: &[u8]) {
        if left.is_empty() {
            self.left = Vec::new();
        } else {
            self.left.clear();
            self.left.extend_from_slice(left);
        }
    }

    /// Sends, and keeps what the socket does not take.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
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

impl Buffers {
    /// Room for all that can come of what is left and a read behind it.
    fn new() -> Self {
        let longest = LEFT_BYTES + BUFFER_BYTES;
        let outgoing = Outgoing { bytes: vec![0; 2 * longest], used: 0 };
        Self { incoming: vec![0; longest], plaintext: Vec::with_capacity(longest), outgoing }
    }
}

impl Outgoing {
    fn encode(&mut self, encode: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>) -> io::Result<()> {
        self.used += encode(&mut self.bytes[self.used..]).map_err(io::Error::other)?;
        Ok(())
    }
}
