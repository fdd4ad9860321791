//! The client that measures: one thread, one loop on mio, the same for every peer. It compares every byte.

mod churn;
mod connection;
mod pattern;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

pub(super) use churn::churn;
use connection::{Connection, Turn};
use pattern::Pattern;

/// How long a server may do nothing at all before it is given up.
const STALL: Duration = Duration::from_secs(10);

/// What a connection receives in one turn, and sends, at most.
const TURN_BYTES: usize = 128 << 10;

/// Connections that do the same: a closed loop, in which each message that comes back makes room for another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) connections: usize,
    /// The bytes of a message.
    pub(super) size: usize,
    /// Messages under way at once on each connection.
    pub(super) depth: usize,
}

/// What came back to the connections of a group.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// From the sending of each message to its last byte, in nanoseconds.
    pub(super) latencies: Vec<u64>,
}

/// Connections, and a loop that drives them.
pub(super) struct Client {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    /// Those that may be able to go on, each once.
    ready: VecDeque<usize>,
    tallies: Vec<Tally>,
    pattern: Pattern,
    buffer: Vec<u8>,
    /// Bytes that are yet to come back.
    expected: u64,
}

impl Client {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            connections: Vec::new(),
            ready: VecDeque::new(),
            tallies: Vec::new(),
            pattern: Pattern::new(TURN_BYTES),
            buffer: vec![0; TURN_BYTES],
            expected: 0,
        })
    }

    /// Connects one more group.
    pub(super) fn connect(&mut self, address: SocketAddr, group: Group) -> io::Result<()> {
        let tally = self.tallies.len();
        self.tallies.push(Tally::default());
        for _ in 0..group.connections {
            self.connect_one(address, group, tally)?;
        }
        Ok(())
    }

    fn connect_one(&mut self, address: SocketAddr, group: Group, tally: usize) -> io::Result<()> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let index = self.connections.len();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest)?;
        self.connections.push(Connection::new(stream, group, tally, index));
        Ok(())
    }

    /// Sends for `duration`, then waits for what is under way; takes what came back, group by group.
    pub(super) fn run(&mut self, duration: Duration) -> io::Result<Vec<Tally>> {
        let end = Instant::now() + duration;
        for index in 0..self.connections.len() {
            self.allow(index, self.connections[index].depth(), Instant::now());
        }
        self.drive(Some(end))
    }

    /// Sends one message on each connection from the `first` on, and waits until all are back.
    pub(super) fn exchange(&mut self, first: usize) -> io::Result<Vec<Tally>> {
        for index in first..self.connections.len() {
            self.allow(index, 1, Instant::now());
        }
        self.drive(None)
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Lets a connection send more messages.
    fn allow(&mut self, index: usize, messages: usize, now: Instant) {
        self.expected += self.connections[index].allow(messages, now);
        self.make_ready(index);
    }

    fn make_ready(&mut self, index: usize) {
        if self.connections[index].become_queued() {
            self.ready.push_back(index);
        }
    }

    fn drive(&mut self, mut end: Option<Instant>) -> io::Result<Vec<Tally>> {
        while self.expected > 0 {
            let timeout = if self.ready.is_empty() { STALL } else { Duration::ZERO };
            self.poll.poll(&mut self.events, Some(timeout))?;
            if self.events.is_empty() && self.ready.is_empty() {
                return Err(io::Error::other("nothing came for 10 s"));
            }
            end = end.filter(|&end| Instant::now() < end);
            for event in &self.events {
                let connection = &mut self.connections[event.token().0];
                connection.notice(event);
                if connection.become_queued() {
                    self.ready.push_back(event.token().0);
                }
            }
            self.run_ready(end.is_some())?;
        }
        Ok(self.tallies.iter_mut().map(std::mem::take).collect())
    }

    /// One turn for each connection that may be able to go on.
    fn run_ready(&mut self, go_on: bool) -> io::Result<()> {
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { break };
            let connection = &mut self.connections[index];
            let tally = &mut self.tallies[connection.tally()];
            let Turn { received, complete, now } =
                connection.receive(&self.pattern, &mut self.buffer, tally)?;
            self.expected -= received;
            if go_on && complete > 0 {
                self.expected += connection.allow(complete, now);
            }
            connection.send(&self.pattern)?;
            if connection.has_work() {
                self.make_ready(index);
            }
        }
        Ok(())
    }
}
