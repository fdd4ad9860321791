//! The client that measures: one thread, one loop on mio, the same for every peer. It compares every byte,
//! unless it is told to discard them.

pub(crate) mod arrivals;
pub(crate) mod churn;
mod connection;
pub(crate) mod group;
pub(crate) mod pacer;
mod pattern;
mod stream;
pub(crate) mod tls;
mod visitor;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;

use crate::client::{
    arrivals::{Arrivals, Schedule},
    churn::STALL,
    connection::{Connection, TURN_BYTES, Turn},
    group::{Group, Reading, Sending, Tally},
    pacer::{Idling, Pacer},
    pattern::Pattern,
    stream::Stream,
    visitor::Visitors,
};

/// Connections, and a loop that drives them.
pub(crate) struct Client {
    /// What its connections speak on TCP.
    tls: Option<Arc<ClientConfig>>,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    ready: Ready,
    tallies: Vec<Tally>,
    pacers: Vec<Pacer>,
    arrivals: Option<Arrivals>,
    idling: Idling,
    pattern: Pattern,
    buffer: Vec<u8>,
    /// Bytes that are yet to come back.
    expected: u64,
}

/// The tokens of visitors begin here, behind those of connections.
const VISITORS: usize = 1 << 31;

/// The connections that may be able to go on, each once. Between the turns of two in bulk every other one has its
/// own: what a small message waits for is to be the server, not this client.
#[derive(Debug, Default)]
struct Ready {
    small: VecDeque<usize>,
    bulk: VecDeque<usize>,
}

impl Ready {
    fn is_empty(&self) -> bool {
        self.small.is_empty() && self.bulk.is_empty()
    }

    fn insert(&mut self, connection: &mut Connection, index: usize) {
        if connection.become_queued() {
            let queue = if connection.is_bulk() { &mut self.bulk } else { &mut self.small };
            queue.push_back(index);
        }
    }
}

impl Client {
    pub(crate) fn new(idling: Idling, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        Ok(Self {
            tls,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            connections: Vec::new(),
            ready: Ready::default(),
            tallies: Vec::new(),
            pacers: Vec::new(),
            arrivals: None,
            idling,
            pattern: Pattern::new(TURN_BYTES),
            // The part that only a turn without a copy uses is never touched, and so takes no memory.
            buffer: vec![0; stream::BUFFER_BYTES],
            expected: 0,
        })
    }

    /// Connects one more group.
    pub(crate) fn connect(&mut self, address: SocketAddr, group: Group, reading: Reading) -> io::Result<()> {
        let tally = self.tallies.len();
        self.tallies.push(Tally::default());
        if let Sending::Every(period) = group.sending {
            let first = self.connections.len();
            self.pacers.push(Pacer::new(first..first + group.connections, period));
        }
        for _ in 0..group.connections {
            self.connect_one(address, group, reading, tally)?;
        }
        Ok(())
    }

    fn connect_one(
        &mut self,
        address: SocketAddr,
        group: Group,
        reading: Reading,
        tally: usize,
    ) -> io::Result<()> {
        let mut stream = Stream::connect(address, self.tls.as_ref())?;
        let index = self.connections.len();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(stream.socket(), Token(index), interest)?;
        self.connections.push(Connection::new(stream, group, reading, tally, index));
        Ok(())
    }

    /// Has visitors come while it runs, each with a message of `size` bytes.
    pub(crate) fn expect(&mut self, address: SocketAddr, schedule: Schedule, size: usize) {
        let visitors = Visitors::new(address, self.tls.clone(), size, VISITORS);
        self.arrivals = Some(Arrivals::new(visitors, schedule));
    }

    /// What the visitors of the last run have brought.
    pub(crate) fn take_visits(&mut self) -> Tally {
        self.arrivals.as_mut().map(Arrivals::take_tally).unwrap_or_default()
    }

    /// Sends for `duration`, then waits for what is under way; takes what came back, group by group.
    pub(crate) fn run(&mut self, duration: Duration) -> io::Result<Vec<Tally>> {
        let now = Instant::now();
        for index in 0..self.connections.len() {
            match self.connections[index].sending() {
                Sending::Window(messages) => self.allow(index, messages, now),
                Sending::Every(_) => {}
            }
        }
        for pacer in &mut self.pacers {
            pacer.begin(now);
        }
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.begin(now);
        }
        self.drive(Some(now + duration))
    }

    /// Sends one message on each connection from the `first` on, and waits until all are back.
    pub(crate) fn exchange(&mut self, first: usize) -> io::Result<Vec<Tally>> {
        for index in first..self.connections.len() {
            self.allow(index, 1, Instant::now());
        }
        self.drive(None)
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Lets a connection send more messages, which are due now.
    fn allow(&mut self, index: usize, messages: usize, now: Instant) {
        self.expected += self.connections[index].allow(messages, now);
        self.ready.insert(&mut self.connections[index], index);
    }

    /// Lets those send whose time has come.
    fn pace(&mut self, now: Instant) {
        for pacer in 0..self.pacers.len() {
            while let Some((index, due)) = self.pacers[pacer].next_until(now) {
                self.allow(index, 1, due);
            }
        }
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.pace(now);
        }
    }

    fn drive(&mut self, mut end: Option<Instant>) -> io::Result<Vec<Tally>> {
        while self.expected > 0 || end.is_some() || self.has_visitors() {
            let follows_clock = end.is_some() && !(self.pacers.is_empty() && self.arrivals.is_none());
            let is_ready = !self.ready.is_empty() || self.arrivals.as_ref().is_some_and(Arrivals::has_work);
            let has_work = is_ready || follows_clock;
            if !is_ready && follows_clock && self.idling == Idling::Yield {
                thread::yield_now();
            }
            self.poll.poll(&mut self.events, Some(if has_work { Duration::ZERO } else { STALL }))?;
            if self.events.is_empty() && !has_work {
                return Err(io::Error::other("nothing came for 10 s"));
            }
            let now = Instant::now();
            end = end.filter(|&end| now < end);
            if end.is_some() {
                self.pace(now);
            } else if let Some(arrivals) = &mut self.arrivals {
                arrivals.end();
            }
            self.notice();
            self.run_ready(end.is_some())?;
        }
        Ok(self.tallies.iter_mut().map(std::mem::take).collect())
    }

    fn has_visitors(&self) -> bool {
        self.arrivals.as_ref().is_some_and(|arrivals| !arrivals.is_empty())
    }

    fn notice(&mut self) {
        for event in &self.events {
            if let Some(arrivals) = &mut self.arrivals
                && event.token().0 >= VISITORS
            {
                arrivals.notice(event.token().0);
                continue;
            }
            let connection = &mut self.connections[event.token().0];
            connection.notice(event);
            self.ready.insert(connection, event.token().0);
        }
    }

    /// One turn for each connection that may be able to go on, but for one only of those in bulk, and of the visitors.
    fn run_ready(&mut self, go_on: bool) -> io::Result<()> {
        for _ in 0..self.ready.small.len() {
            let Some(index) = self.ready.small.pop_front() else { break };
            self.turn(index, go_on)?;
        }
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.turn(self.poll.registry())?;
        }
        self.ready.bulk.pop_front().map_or(Ok(()), |index| self.turn(index, go_on))
    }

    fn turn(&mut self, index: usize, go_on: bool) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let tally = &mut self.tallies[connection.tally()];
        let Turn { received, complete, now } = connection.receive(&self.pattern, &mut self.buffer, tally)?;
        self.expected -= received;
        if go_on && complete > 0 && matches!(connection.sending(), Sending::Window(_)) {
            self.expected += connection.allow(complete, now);
        }
        connection.send(&self.pattern)?;
        if connection.has_work() {
            self.ready.insert(&mut self.connections[index], index);
        }
        Ok(())
    }
}
