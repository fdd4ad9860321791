//! Every rule of the disconnect, on a fake transport and in virtual time.

mod acknowledgement;
mod budget;
mod bulk;
mod deadlines;
mod disconnect;
mod drain;
mod errors;
mod fake;
mod framing;
mod mail;
mod outbound;
mod protocols;
mod relay;
mod rules;
mod short_reads;
mod speakers;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::Interest;

use self::{
    fake::{Fake, FakePoller, Incoming, Wire},
    speakers::*,
};
use super::*;
use crate::{
    address::Address,
    connections::Connections,
    handle::channel,
    outbox::Dial,
    pipes::Pipe,
    places::Places,
    protocol::{context::Flow, echo::Echo, input::Input, timeout::Timeout},
    stats::{Counters, Stats},
    system::{Poller, Wake, transport::Addresses},
};

/// The connections of a loop, without the loop.
struct World<P: Protocol> {
    connections: Connections<P, Fake>,
    counters: Arc<Counters>,
    now: Instant,
    /// Outbound connections that protocols want.
    dials: Vec<Dial<P::Message>>,
}

/// One client of the world.
struct Peer {
    id: ConnectionId,
    wire: Rc<RefCell<Wire>>,
}

const READ: Readiness = Readiness::READ;
const WRITE: Readiness = Readiness::WRITE;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// 10 bytes of high water, 4 of low water, and the default deadlines.
fn small() -> Config {
    Config { high_water_bytes: 10, low_water_bytes: 4, ..Config::default() }
}

impl World<Echo> {
    fn echo(limits: Config) -> Self {
        Self::new(limits)
    }

    /// An echo connection whose socket takes `room` bytes.
    fn with_one(limits: Config, room: usize) -> (Self, Peer) {
        let mut world = Self::echo(limits);
        let peer = world.accept(Echo, room);
        (world, peer)
    }
}

impl<P: Protocol> World<P> {
    #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
    fn new(limits: Config) -> Self {
        let now = Instant::now();
        let counters = Arc::new(Counters::default());
        let waker: Arc<dyn Wake> = Arc::new(());
        let (handle, _) = channel(1, vec![(waker, Arc::clone(&counters))]);
        let connections = Connections::new(
            0,
            Places::alone(1000),
            now,
            limits,
            Arc::clone(&counters),
            handle,
            Arc::new(()),
        );
        Self { connections, counters, now, dials: Vec::new() }
    }

    fn accept(&mut self, protocol: P, room: usize) -> Peer {
        self.add(protocol, State::Reading, Wire { room, ..Wire::default() })
    }

    fn add(&mut self, protocol: impl Into<Option<P>>, state: State, wire: Wire) -> Peer {
        let wire = Rc::new(RefCell::new(wire));
        assert!(self.connections.take_place());
        let id = self.connections.next_id();
        let limits = Rc::clone(self.connections.limits());
        self.connections.add(id, state, Fake(Rc::clone(&wire)), protocol, &limits, &mut FakePoller).unwrap();
        Peer { id, wire }
    }

    /// The attempt is made for the requester.
    fn set_requester(&mut self, attempt: &Peer, requester: &Peer, label: u64) {
        let dial = Dial {
            by: Some(requester.id),
            ..Dial::by_nobody(Address::Unix("there".into()), label, None, self.now)
        };
        self.connections.set_dial(attempt.id, dial);
    }

    /// Notes an event and lets everyone work until nobody has anything to do.
    fn event(&mut self, peer: &Peer, ready: Readiness) {
        self.connections.notice(peer.id.token(), ready);
        self.settle();
    }

    /// As one turn of the loop does.
    fn run_mail(&mut self) {
        let mut left = self.connections.limits().event_batch;
        let secured = self.connections.run_mail(&mut left, &mut FakePoller);
        assert_eq!(secured, None, "nobody speaks TLS here");
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.connections.audit(0).expect("every connection is where it belongs");
            if !self.connections.has_work() {
                self.connections.reap(|_, _| {});
                return;
            }
            self.connections.run_ready(&mut FakePoller);
            while let Some(dial) = self.connections.next_dial() {
                self.connections.give_place_back();
                self.dials.push(dial);
            }
            self.run_mail();
        }
        panic!("the connections never come to rest");
    }

    /// Bytes come from the peer.
    fn data(&mut self, peer: &Peer, bytes: &[u8]) {
        peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(bytes.to_vec()));
        self.event(peer, READ);
    }

    /// The peer's FIN comes.
    fn fin(&mut self, peer: &Peer) {
        peer.wire.borrow_mut().incoming.push_back(Incoming::Fin);
        self.event(peer, READ);
    }

    /// The peer's side takes `n` more bytes.
    fn make_room(&mut self, peer: &Peer, n: usize) {
        peer.wire.borrow_mut().room += n;
        self.event(peer, WRITE);
    }

    /// Time passes, from deadline to deadline, as the loop would do it.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..10_000 {
            let Some(next) = self.connections.next_deadline().filter(|&next| next <= until) else {
                self.now = until;
                self.connections.set_now(until);
                return;
            };
            self.now = self.now.max(next);
            self.connections.set_now(self.now);
            self.connections.run_deadlines(&mut FakePoller);
            self.settle();
        }
        panic!("the deadlines come for ever");
    }

    /// From now on so many bytes that were sent to the peer are not acknowledged. No event tells of it.
    fn unacknowledged(&self, peer: &Peer, bytes: usize) {
        peer.wire.borrow_mut().unacknowledged = Some(bytes);
    }

    /// The peer's system acknowledges everything, our FIN included, after it has ended too.
    fn acknowledge_end(&mut self, peer: &Peer) {
        self.unacknowledged(peer, 0);
        self.event(peer, READ | WRITE | Readiness::MORE);
    }

    fn begin_drain(&mut self) {
        self.connections.begin_drain();
        self.settle();
    }

    fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    /// The one connection has ended for this reason, and only that.
    #[track_caller]
    fn assert_ended(&self, reason: CloseReason) {
        let reasons: Vec<_> = self.stats().close_reasons().collect();
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert_eq!((reasons[0].0.name(), reasons[0].1), (reason.name(), 1));
        assert!(self.connections.is_empty());
    }

    #[track_caller]
    fn assert_open(&self) {
        assert_eq!(self.stats().closed_total(), 0);
        assert_eq!(self.connections.len(), 1);
    }
}

impl Peer {
    fn sent(&self) -> Vec<u8> {
        self.wire.borrow().sent.clone()
    }

    fn calls(&self) -> Vec<String> {
        mem::take(&mut self.wire.borrow_mut().calls)
    }

    fn is_watched_for_writing(&self) -> bool {
        self.wire.borrow().interest.is_some_and(Interest::is_writable)
    }
}
