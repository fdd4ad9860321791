//! Every rule of the disconnect, on a fake transport and in virtual time.

mod framing;
mod mail;
mod relay;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::Interest;

use super::*;
use crate::{
    address::Address,
    connections::Connections,
    handle::channel,
    outbox::Dial,
    pipes::Pipe,
    protocol::{Timeout, context::Flow, echo::Echo, input::Input},
    stats::{Counters, Stats},
    system::{Poller, Wake, transport::Addresses},
};

/// What the fake kernel holds of one socket, shared with the test.
#[derive(Debug, Default)]
struct Wire {
    /// What reads give, in order. When there is nothing they would block.
    incoming: VecDeque<Incoming>,
    /// How many bytes writes take before they would block.
    room: usize,
    /// Errors of the next writes.
    write_errors: VecDeque<ErrorKind>,
    shutdown_error: Option<ErrorKind>,
    pending_error: Option<ErrorKind>,
    connecting: bool,
    short_read_drains: bool,
    has_pipes: bool,
    sent: Vec<u8>,
    /// What was called, in order: `read N`, `write N`, `shutdown`, `reset`, `close`; would-blocks left out.
    calls: Vec<String>,
    reads: usize,
    writes: usize,
    interest: Option<Interest>,
}

#[derive(Clone, Debug)]
enum Incoming {
    Bytes(Vec<u8>),
    Fin,
    Error(ErrorKind),
}

#[derive(Clone, Debug)]
struct Fake(Rc<RefCell<Wire>>);

impl Read for Fake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        wire.reads += 1;
        match wire.incoming.pop_front() {
            None => Err(ErrorKind::WouldBlock.into()),
            Some(Incoming::Error(kind)) => Err(kind.into()),
            Some(Incoming::Fin) => {
                wire.incoming.push_front(Incoming::Fin);
                wire.calls.push("read 0".to_owned());
                Ok(0)
            }
            Some(Incoming::Bytes(mut bytes)) => {
                let n = bytes.len().min(buffer.len());
                let rest = bytes.split_off(n);
                buffer[..n].copy_from_slice(&bytes);
                if !rest.is_empty() {
                    wire.incoming.push_front(Incoming::Bytes(rest));
                }
                wire.calls.push(format!("read {n}"));
                Ok(n)
            }
        }
    }
}

impl Write for Fake {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        wire.writes += 1;
        if let Some(kind) = wire.write_errors.pop_front() {
            return Err(kind.into());
        }
        if wire.room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = bytes.len().min(wire.room);
        wire.room -= n;
        wire.sent.extend_from_slice(&bytes[..n]);
        wire.calls.push(format!("write {n}"));
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Addresses for Fake {
    fn peer_addr(&self) -> io::Result<Address> {
        if self.0.borrow().connecting { Err(ErrorKind::NotConnected.into()) } else { self.local_addr() }
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Unix("fake".into()))
    }
}

impl Transport for Fake {
    type Pipe = FakePipe;

    fn new_pipe(&self) -> io::Result<FakePipe> {
        let wire = self.0.borrow();
        if wire.has_pipes { Ok(FakePipe::default()) } else { Err(ErrorKind::Unsupported.into()) }
    }

    fn splice_in(&mut self, pipe: &mut FakePipe, most: usize) -> io::Result<usize> {
        assert!(pipe.is_empty());
        let wire = &mut *self.0.borrow_mut();
        if let Some(&Incoming::Error(kind)) = wire.incoming.front() {
            wire.incoming.pop_front();
            return Err(kind.into());
        }
        let bytes = match wire.incoming.front_mut() {
            Some(Incoming::Bytes(bytes)) => bytes,
            Some(Incoming::Fin | Incoming::Error(_)) => return Ok(0),
            None => return Err(ErrorKind::WouldBlock.into()),
        };
        pipe.0 = bytes.drain(..most.min(bytes.len())).collect();
        if bytes.is_empty() {
            wire.incoming.pop_front();
        }
        wire.calls.push(format!("move {}", pipe.len()));
        Ok(pipe.len())
    }

    fn splice_out(&mut self, pipe: &mut FakePipe, most: usize) -> io::Result<usize> {
        let most = most.min(pipe.len());
        let n = self.write(&pipe.0[..most])?;
        pipe.0.drain(..n);
        Ok(n)
    }

    fn short_read_drains(&self) -> bool {
        self.0.borrow().short_read_drains
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut wire = self.0.borrow_mut();
        wire.calls.push("shutdown".to_owned());
        wire.shutdown_error.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(self.0.borrow_mut().pending_error.take().map(io::Error::from))
    }

    fn reset_on_close(&mut self) {
        self.0.borrow_mut().calls.push("reset".to_owned());
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.0.borrow_mut().calls.push("close".to_owned());
    }
}

#[derive(Debug, Default)]
struct FakePipe(Vec<u8>);

impl Pipe for FakePipe {
    fn len(&self) -> usize {
        self.0.len()
    }
}

/// Keeps what each socket is watched for.
struct FakePoller;

impl Poller<Fake> for FakePoller {
    fn register(&mut self, transport: &mut Fake, _: ConnectionId, interest: Interest) -> io::Result<()> {
        transport.0.borrow_mut().interest = Some(interest);
        Ok(())
    }

    fn reregister(&mut self, transport: &mut Fake, _: ConnectionId, interest: Interest) -> io::Result<()> {
        transport.0.borrow_mut().interest = Some(interest);
        Ok(())
    }
}

/// The connections of a loop, without the loop.
struct World<P: Protocol> {
    connections: Connections<P, Fake>,
    counters: Arc<Counters>,
    now: Instant,
    /// Outbound connections that protocols want.
    dials: Vec<Dial>,
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
        let waker: Box<dyn Wake> = Box::new(());
        let (handle, _) = channel(1, vec![(waker, Arc::clone(&counters))]);
        let connections = Connections::new(0, 1000, now, limits, Arc::clone(&counters), handle);
        Self { connections, counters, now, dials: Vec::new() }
    }

    fn accept(&mut self, protocol: P, room: usize) -> Peer {
        self.add(protocol, State::Reading, Wire { room, ..Wire::default() })
    }

    fn add(&mut self, protocol: P, state: State, wire: Wire) -> Peer {
        let wire = Rc::new(RefCell::new(wire));
        let id = self.connections.next_id();
        self.connections.add(id, state, Fake(Rc::clone(&wire)), protocol, &mut FakePoller).unwrap();
        Peer { id, wire }
    }

    /// Notes an event and lets everyone work until nobody has anything to do.
    fn event(&mut self, peer: &Peer, ready: Readiness) {
        self.connections.notice(peer.id.token(), ready);
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.connections.audit().expect("every connection is where it belongs");
            if !self.connections.has_work() {
                self.connections.reap(|_, _| {});
                return;
            }
            self.connections.run_ready(&mut FakePoller);
            self.dials.extend(std::iter::from_fn(|| self.connections.next_dial()));
            self.connections.run_mail(&mut FakePoller);
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
        std::mem::take(&mut self.wire.borrow_mut().calls)
    }

    fn is_watched_for_writing(&self) -> bool {
        self.wire.borrow().interest.is_some_and(Interest::is_writable)
    }
}

// ---- the disconnect ----

#[test]
fn reading_data_all_sent_goes_out_in_one_write() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.data(&peer, b"this is a test");
    assert_eq!(peer.calls(), ["read 14", "write 14"]);
    assert!(!peer.is_watched_for_writing());
    world.assert_open();
}

#[test]
fn reading_fin_shuts_down_then_closes() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.data(&peer, b"abc");
    world.fin(&peer);
    assert_eq!(peer.calls(), ["read 3", "write 3", "read 0", "shutdown", "close"]);
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn data_and_fin_in_one_event_are_both_taken() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"abc".to_vec()));
    world.fin(&peer);
    assert_eq!(peer.sent(), b"abc");
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn reading_data_partly_sent_queues_the_tail_and_waits_for_room() {
    let (mut world, peer) = World::with_one(Config::default(), 4);
    world.data(&peer, b"0123456789");
    assert_eq!(peer.sent(), b"0123");
    assert!(peer.is_watched_for_writing());
    world.make_room(&peer, 100);
    assert_eq!(peer.sent(), b"0123456789");
    assert!(!peer.is_watched_for_writing());
}

#[test]
fn echoing_fin_waits_for_the_flush() {
    let (mut world, peer) = World::with_one(Config::default(), 4);
    world.data(&peer, b"0123456789");
    world.fin(&peer);
    world.assert_open();
    world.make_room(&peer, 3);
    world.assert_open();
    world.make_room(&peer, 3);
    let calls = peer.calls();
    assert_eq!(calls, ["read 10", "write 4", "read 0", "write 3", "write 3", "shutdown", "close"]);
    assert_eq!(peer.sent(), b"0123456789");
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn half_closed_input_is_discarded_until_the_peers_fin() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 100);
    world.data(&peer, b"first");
    assert_eq!(peer.calls(), ["read 5", "write 5", "shutdown"]);
    world.data(&peer, b"more");
    world.data(&peer, b"and more");
    world.assert_open();
    world.fin(&peer);
    assert_eq!(peer.calls(), ["read 4", "read 8", "read 0", "close"]);
    assert_eq!(world.stats().bytes_discarded, 12);
    world.assert_ended(CloseReason::Finished);
}

#[test]
fn half_closed_waits_for_the_linger_timeout_in_all() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 100);
    world.data(&peer, b"x");
    for _ in 0..9 {
        world.pass(seconds(3));
        world.data(&peer, b"drip");
    }
    world.assert_open();
    world.pass(seconds(3));
    world.assert_ended(CloseReason::LingerTimeout);
    assert!(!peer.calls().contains(&"reset".to_owned()), "everything was sent");
}

#[test]
fn half_closed_waits_for_the_linger_silence() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 100);
    world.data(&peer, b"x");
    world.pass(Duration::from_millis(4999));
    world.assert_open();
    world.pass(Duration::from_millis(1));
    world.assert_ended(CloseReason::LingerSilence);
}

#[test]
fn half_closed_discards_up_to_the_cap() {
    let mut world = World::new(Config { linger_limit_bytes: 10, ..Config::default() });
    let peer = world.accept(OneReply, 100);
    world.data(&peer, b"x");
    world.data(&peer, b"0123456789");
    world.assert_open();
    world.data(&peer, b"!");
    world.assert_ended(CloseReason::LingerBytes);
}

#[test]
fn a_flush_that_makes_progress_is_never_cut_by_the_linger_clock() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 0);
    world.data(&peer, &[7; 100]);
    for _ in 0..100 {
        world.pass(seconds(50));
        world.make_room(&peer, 1);
    }
    assert_eq!(peer.sent(), [7; 100]);
    world.fin(&peer);
    world.assert_ended(CloseReason::Finished);
}

#[test]
fn input_behind_finish_is_discarded_while_the_reply_is_flushed() {
    let mut world = World::new(Config::default());
    let peer = world.accept(OneReply, 0);
    world.data(&peer, b"question");
    world.data(&peer, &[0; 100_000]);
    assert_eq!(world.stats().bytes_discarded, 100_000);
    world.make_room(&peer, 100);
    assert_eq!(peer.sent(), b"question");
    world.fin(&peer);
    world.assert_ended(CloseReason::Finished);
}

#[test]
fn echoing_without_progress_is_a_write_stall_and_reset() {
    let (mut world, peer) = World::with_one(Config::default(), 4);
    world.data(&peer, b"0123456789");
    world.pass(seconds(59));
    world.make_room(&peer, 1);
    world.pass(seconds(59));
    world.assert_open();
    world.pass(seconds(1));
    world.assert_ended(CloseReason::WriteStall);
    assert_eq!(world.stats().bytes_unsent, 5);
    assert!(peer.calls().ends_with(&["reset".to_owned(), "close".to_owned()]));
}

#[test]
fn a_peer_that_is_gone_at_shutdown_is_counted_as_reset() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().shutdown_error = Some(ErrorKind::NotConnected);
    world.fin(&peer);
    world.assert_ended(CloseReason::Reset);
}

#[test]
fn a_shutdown_that_fails_closes_the_socket() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().shutdown_error = Some(ErrorKind::Other);
    world.fin(&peer);
    world.assert_ended(CloseReason::Failed(ErrorKind::Other));
    assert_eq!(peer.calls(), ["read 0", "shutdown", "reset", "close"]);
}

// ---- errors ----

#[test]
fn on_an_error_event_what_came_before_is_read_first() {
    let mut world = World::new(Config::default());
    let received = Rc::default();
    let peer = world.accept(Sink(Rc::clone(&received)), 100);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"last words".to_vec()));
    peer.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::ConnectionReset));
    world.event(&peer, READ | WRITE | Readiness::ERROR);
    assert_eq!(*received.borrow(), b"last words");
    world.assert_ended(CloseReason::Reset);
}

#[test]
fn after_a_failed_write_the_end_of_input_is_no_clean_end() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::BrokenPipe);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"abc".to_vec()));
    world.fin(&peer);
    world.assert_ended(CloseReason::ResetUnsent);
    assert_eq!(world.stats().bytes_unsent, 3);
    assert!(!peer.calls().contains(&"shutdown".to_owned()));
}

#[test]
fn after_a_failed_write_what_the_peer_had_sent_is_still_handed_over() {
    let mut world = World::new(small());
    let received = Rc::default();
    let peer = world.accept(Sink(Rc::clone(&received)), 0);
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::ConnectionReset);
    for piece in [b"one", b"two", b"six"] {
        peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(piece.to_vec()));
    }
    world.event(&peer, READ);
    assert_eq!(*received.borrow(), b"onetwosix");
    world.assert_ended(CloseReason::ResetUnsent);
}

#[test]
fn a_reset_that_no_read_would_show_is_found() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Pausing, 100);
    world.data(&peer, b"x");
    peer.wire.borrow_mut().pending_error = Some(ErrorKind::ConnectionReset);
    world.event(&peer, READ | WRITE | Readiness::ERROR);
    world.assert_ended(CloseReason::Reset);
}

#[test]
fn a_reset_while_output_is_queued_loses_it_and_says_so() {
    let (mut world, peer) = World::with_one(small(), 0);
    world.data(&peer, b"0123456789");
    peer.wire.borrow_mut().pending_error = Some(ErrorKind::ConnectionReset);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Fin);
    world.event(&peer, READ | WRITE | Readiness::ERROR);
    world.assert_ended(CloseReason::ResetUnsent);
    assert_eq!(world.stats().bytes_unsent, 10);
}

#[test]
fn interrupted_calls_are_tried_again() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::Interrupted));
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::Interrupted);
    world.data(&peer, b"abc");
    assert_eq!(peer.sent(), b"abc");
    world.assert_open();
}

#[test]
fn another_error_keeps_its_name() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::TimedOut));
    world.event(&peer, READ);
    world.assert_ended(CloseReason::Failed(ErrorKind::TimedOut));
}

// ---- rules of the loop ----

#[test]
fn spurious_events_do_nothing() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    for _ in 0..3 {
        world.event(&peer, READ | WRITE | Readiness::ERROR);
    }
    world.assert_open();
    assert_eq!(peer.calls(), [""; 0]);
}

#[test]
fn an_event_never_reaches_the_connection_that_took_over_the_slot() {
    let (mut world, old) = World::with_one(Config::default(), 100);
    world.fin(&old);
    let new = world.accept(Echo, 100);
    assert_eq!(new.id.index, old.id.index, "the slot is used again");
    new.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"new".to_vec()));
    world.event(&old, READ);
    assert_eq!(new.wire.borrow().reads, 0);
    world.event(&new, READ);
    assert_eq!(new.sent(), b"new");
}

#[test]
fn a_slot_is_not_used_again_before_the_batch_is_over() {
    let (mut world, old) = World::with_one(Config::default(), 100);
    old.wire.borrow_mut().incoming.push_back(Incoming::Fin);
    world.connections.notice(old.id.token(), READ);
    world.connections.run_ready(&mut FakePoller);
    assert!(!world.connections.is_empty());
    assert_ne!(world.accept(Echo, 100).id.index, old.id.index);
    assert!(world.connections.reap(|_, _| {}));
}

#[test]
fn above_the_high_water_mark_reading_stops_until_the_low_water_mark() {
    let (mut world, peer) = World::with_one(small(), 0);
    world.data(&peer, &[1; 25]);
    assert_eq!(peer.calls(), ["read 10"], "no more is read than may be queued");
    world.make_room(&peer, 5);
    assert_eq!(peer.calls(), ["write 5"], "5 are queued: still above the low-water mark");
    world.make_room(&peer, 1);
    assert_eq!(peer.calls(), ["write 1", "read 6"], "4 are queued: reading starts again");
    world.make_room(&peer, 100);
    assert_eq!(peer.sent(), [1; 25]);
}

#[test]
fn a_connection_with_much_to_do_lets_others_have_their_turn() {
    let limits = Config { turn_budget_bytes: 100, ..Config::default() };
    let mut world = World::echo(limits);
    let (hog, other) = (world.accept(Echo, 1 << 20), world.accept(Echo, 100));
    hog.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![0; 10_000]));
    other.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"ping".to_vec()));
    world.connections.notice(hog.id.token(), READ);
    world.connections.notice(other.id.token(), READ);
    world.connections.run_ready(&mut FakePoller);
    assert_eq!(other.sent(), b"ping");
    assert!(hog.sent().len() <= 100);
    assert!(world.connections.has_work(), "no event will come for what was left unread");
    world.settle();
    assert_eq!(hog.sent().len(), 10_000);
}

#[test]
fn no_heap_buffer_stays_with_an_idle_connection() {
    let (mut world, peer) = World::with_one(small(), 0);
    world.data(&peer, &[1; 10]);
    world.make_room(&peer, 10);
    use crate::system::os::stream::Stream;
    // Some back ends of mio keep more with a socket than its descriptor.
    let size = size_of::<Connection<Echo, Stream>>() - size_of::<Stream>();
    assert!(size <= 80, "a connection takes {size} bytes");
    let mut connection: Connection<Echo, Fake> =
        Connection::new(peer.id, State::Reading, Fake(Rc::clone(&peer.wire)), Echo, world.now);
    connection.extra.get_or_insert_default();
    connection.trim();
    assert!(connection.extra.is_none());
}

// ---- deadlines ----

#[test]
fn idle_connections_are_ended_the_documented_way() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.pass(seconds(599));
    world.data(&peer, b"x");
    world.pass(seconds(599));
    world.assert_open();
    world.pass(seconds(1));
    assert_eq!(peer.calls(), ["read 1", "write 1", "shutdown"]);
    world.fin(&peer);
    world.assert_ended(CloseReason::Idle);
}

#[test]
fn a_peer_whose_bytes_wait_unread_is_not_idle() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    // The loop was held up: the bytes are there, the event was not taken yet.
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"in time".to_vec()));
    world.pass(seconds(600));
    assert_eq!(peer.sent(), b"in time");
    world.pass(seconds(599));
    world.assert_open();
}

#[test]
fn timeouts_that_are_off_or_past_the_clock_never_come() {
    for timeout in [None, Some(Duration::MAX)] {
        let limits = Config { idle_timeout: timeout, write_timeout: timeout, ..Config::default() };
        let (mut world, peer) = World::with_one(limits, 0);
        world.pass(seconds(1 << 30));
        world.data(&peer, b"x");
        world.pass(seconds(1 << 30));
        world.assert_open();
    }
}

#[test]
fn slow_is_neither_idle_nor_stalled_and_each_of_these_has_its_own_end() {
    let limits = Config { idle_timeout: Some(seconds(10)), write_timeout: Some(seconds(15)), ..small() };
    let (mut world, peer) = World::with_one(limits.clone(), 0);
    world.data(&peer, b"01234567");
    for _ in 0..7 {
        // Longer than the idle timeout, shorter than the write timeout.
        world.pass(seconds(12));
        world.make_room(&peer, 1);
    }
    world.assert_open();
    world.make_room(&peer, 1);
    assert_eq!(peer.sent(), b"01234567");
    world.pass(seconds(10));
    world.fin(&peer);
    world.assert_ended(CloseReason::Idle);

    let (mut world, peer) = World::with_one(limits, 0);
    world.data(&peer, b"0");
    world.pass(seconds(15));
    assert_eq!(peer.calls(), ["read 1", "reset", "close"]);
    world.assert_ended(CloseReason::WriteStall);
}

#[test]
fn a_protocol_may_live_on_after_an_idle_timeout() {
    let mut world = World::new(Config::default());
    let log: Rc<RefCell<Vec<Timeout>>> = Rc::default();
    let _peer = world.accept(Ticking { log: Rc::clone(&log), rearm: None }, 100);
    world.pass(seconds(1800));
    assert_eq!(*log.borrow(), [Timeout::Idle; 3]);
    world.assert_open();
}

#[test]
fn timers_fire_once_in_order_and_may_be_set_again() {
    let mut world = World::new(Config { idle_timeout: None, ..Config::default() });
    let log: Rc<RefCell<Vec<Timeout>>> = Rc::default();
    let peer = world.accept(Ticking { log: Rc::clone(&log), rearm: Some(seconds(7)) }, 100);
    world.data(&peer, b"\x05\x02\x09");
    world.pass(seconds(6));
    assert_eq!(*log.borrow(), [2, 5].map(Timeout::Timer));
    world.pass(seconds(6));
    assert_eq!(*log.borrow(), [2, 5, 9, 2, 5].map(Timeout::Timer));
}

#[test]
fn a_timer_set_for_now_in_its_own_callback_does_not_hold_up_the_loop() {
    let mut world = World::new(Config { idle_timeout: None, ..Config::default() });
    let log: Rc<RefCell<Vec<Timeout>>> = Rc::default();
    let peer = world.accept(Ticking { log: Rc::clone(&log), rearm: Some(Duration::ZERO) }, 100);
    world.data(&peer, b"\x01");
    world.now += seconds(1);
    world.connections.set_now(world.now);
    for round in 1..=3 {
        world.connections.run_deadlines(&mut FakePoller);
        assert_eq!(log.borrow().len(), round);
    }
}

// ---- drain ----

#[test]
fn a_drain_echoes_what_has_arrived_then_ends() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.pass(seconds(10));
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"unannounced".to_vec()));
    world.begin_drain();
    assert_eq!(peer.sent(), b"unannounced");
    world.pass(Duration::from_millis(250));
    assert_eq!(peer.calls(), ["read 11", "write 11", "shutdown"]);
    world.fin(&peer);
    world.assert_ended(CloseReason::Drained);
}

#[test]
fn a_drain_ends_a_silent_connection_without_delay() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.pass(seconds(10));
    world.begin_drain();
    world.pass(Duration::ZERO);
    assert_eq!(peer.calls(), ["shutdown"]);
}

#[test]
fn a_drain_does_not_wait_for_ever_for_a_peer_that_sends_for_ever() {
    let (mut world, peer) = World::with_one(Config::default(), usize::MAX);
    world.begin_drain();
    for _ in 0..150 {
        world.data(&peer, b"x");
        world.pass(Duration::from_millis(100));
    }
    assert!(peer.calls().contains(&"shutdown".to_owned()));
    world.fin(&peer);
    world.assert_ended(CloseReason::Drained);
}

#[test]
fn the_drain_deadline_cuts_off_what_cannot_be_flushed() {
    let (mut world, peer) = World::with_one(Config::default(), 4);
    world.data(&peer, b"0123456789");
    world.begin_drain();
    world.pass(Duration::from_millis(29_999));
    world.assert_open();
    world.pass(Duration::from_millis(1));
    world.assert_ended(CloseReason::DrainTimeout);
    assert!(peer.calls().contains(&"reset".to_owned()));
}

#[test]
fn at_the_drain_deadline_a_connection_that_only_lingers_is_not_cut_off() {
    let limits = Config { drain_timeout: Some(seconds(1)), ..Config::default() };
    let (mut world, peer) = World::with_one(limits, 100);
    world.data(&peer, b"x");
    world.begin_drain();
    world.pass(seconds(1));
    world.assert_ended(CloseReason::LingerTimeout);
    assert!(peer.calls().contains(&"shutdown".to_owned()));
}

#[test]
fn a_connection_accepted_during_a_drain_is_served() {
    let mut world = World::echo(Config::default());
    world.begin_drain();
    let peer = world.accept(Echo, 100);
    world.data(&peer, b"from the backlog");
    assert_eq!(peer.sent(), b"from the backlog");
    world.pass(seconds(1));
    world.fin(&peer);
    world.assert_ended(CloseReason::Drained);
}

// ---- outbound ----

#[test]
fn connecting_succeeds_when_writable_without_error() {
    let mut world = World::echo(Config::default());
    let peer = world.add(Echo, State::Connecting, Wire { room: 100, connecting: true, ..Wire::default() });
    assert!(peer.is_watched_for_writing());
    world.event(&peer, WRITE);
    assert_eq!(peer.wire.borrow().reads, 0, "a spurious event: it is still being made");
    peer.wire.borrow_mut().connecting = false;
    world.event(&peer, WRITE);
    assert!(!peer.is_watched_for_writing());
    world.data(&peer, b"abc");
    assert_eq!(peer.sent(), b"abc");
}

#[test]
fn connecting_may_fail_or_time_out() {
    let mut world = World::echo(Config::default());
    let wire = Wire { pending_error: Some(ErrorKind::ConnectionRefused), ..Wire::default() };
    let peer = world.add(Echo, State::Connecting, wire);
    world.event(&peer, READ | WRITE | Readiness::ERROR);
    world.assert_ended(CloseReason::ConnectFailed(ErrorKind::ConnectionRefused));

    let mut world = World::echo(Config::default());
    world.add(Echo, State::Connecting, Wire { connecting: true, ..Wire::default() });
    world.pass(seconds(10));
    world.assert_ended(CloseReason::ConnectTimeout);
}

// ---- protocols ----

/// Sends the first input back and finishes.
struct OneReply;

impl Protocol for OneReply {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
        cx.finish();
    }
}

/// Keeps what comes, and writes a byte for each input.
struct Sink(Rc<RefCell<Vec<u8>>>);

impl Protocol for Sink {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.0.borrow_mut().extend_from_slice(input.take());
        cx.write(b".");
    }
}

/// Takes one byte, then pauses; resumes on a message.
struct Pausing;

impl Protocol for Pausing {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.write(&input.bytes()[..1]);
        input.consume(1);
        cx.pause_reading();
    }

    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        cx.resume_reading();
    }
}

/// Sets a timer of so many seconds, with that key, for each byte, and again when one fires.
struct Ticking {
    log: Rc<RefCell<Vec<Timeout>>>,
    rearm: Option<Duration>,
}

impl Protocol for Ticking {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        for &byte in input.take() {
            cx.set_timer(byte.into(), seconds(byte.into()));
        }
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_>) {
        self.log.borrow_mut().push(which);
        if let (Timeout::Timer(key), Some(delay)) = (which, self.rearm) {
            cx.set_timer(key, delay);
        }
    }
}

/// Panics when it sees an exclamation mark.
struct Nervous;

impl Protocol for Nervous {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        assert!(!input.bytes().contains(&b'!'), "as the test wants it");
        cx.forward(input);
    }
}

/// Writes 5 bytes at a time while it may.
struct Generator(Rc<Cell<usize>>);

impl Generator {
    fn generate(&self, cx: &mut Context<'_>) {
        while self.0.get() > 0 {
            self.0.set(self.0.get() - 1);
            if cx.write(b"12345") != Flow::Open {
                return;
            }
        }
        cx.finish();
    }
}

impl Protocol for Generator {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        self.generate(cx);
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        self.generate(cx);
    }
}

/// Waits for four bytes, then sends them back.
struct Fours;

impl Protocol for Fours {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        while let Some(four) = input.bytes().get(..4) {
            cx.write(four);
            input.consume(4);
        }
    }
}

/// Half-closes at the first input, and keeps what comes after.
struct HalfCloser(Rc<RefCell<Vec<u8>>>);

impl Protocol for HalfCloser {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.0.borrow_mut().extend_from_slice(input.take());
        cx.write(b"bye");
        cx.shutdown_write();
    }
}

#[test]
fn a_protocol_that_pauses_gets_the_rest_when_it_resumes() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Pausing, 100);
    world.data(&peer, b"abc");
    world.data(&peer, b"def");
    assert_eq!(peer.sent(), b"a");
    for expected in [&b"ab"[..], b"abc", b"abcd", b"abcde"] {
        assert!(world.connections.message(peer.id, (), &mut FakePoller));
        world.settle();
        assert_eq!(peer.sent(), expected);
    }
}

#[test]
fn a_panic_costs_its_own_connection_only() {
    let mut world = World::new(Config::default());
    let (nervous, calm) = (world.accept(Nervous, 100), world.accept(Nervous, 100));
    world.data(&nervous, b"!");
    assert_eq!(world.stats().closed(CloseReason::Panicked), 1);
    assert_eq!(world.stats().panics, 1);
    assert_eq!(nervous.calls(), ["read 1", "reset", "close"]);
    world.data(&calm, b"fine");
    assert_eq!(calm.sent(), b"fine");
}

#[test]
fn a_protocol_writes_as_the_queue_has_room() {
    let mut world = World::new(small());
    let left = Rc::new(Cell::new(1000));
    let peer = world.accept(Generator(Rc::clone(&left)), 0);
    assert_eq!(left.get(), 998, "it stops at the high-water mark");
    while left.get() > 0 {
        let before = left.get();
        world.make_room(&peer, 7);
        assert!(before - left.get() <= 4);
    }
    world.make_room(&peer, 100);
    world.fin(&peer);
    assert_eq!(peer.sent(), b"12345".repeat(1000));
    world.assert_ended(CloseReason::Finished);
}

#[test]
fn a_generator_with_all_the_room_in_the_world_is_bounded_by_its_turn() {
    let mut world = World::new(Config { turn_budget_bytes: 100, ..small() });
    let left = Rc::new(Cell::new(1000));
    let peer = world.accept(Generator(Rc::clone(&left)), usize::MAX);
    world.connections.run_ready(&mut FakePoller);
    assert!(left.get() > 900);
    world.settle();
    assert_eq!(peer.sent().len(), 5000);
}

#[test]
fn what_is_left_unconsumed_comes_again_with_more_behind_it() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Fours, 100);
    for piece in [&b"a"[..], b"bc", b"defg", b"hij", b"k"] {
        world.data(&peer, piece);
    }
    assert_eq!(peer.sent(), b"abcdefgh");
}

#[test]
fn input_left_unconsumed_is_limited() {
    let mut world = World::new(Config { input_limit_bytes: 3, ..Config::default() });
    let peer = world.accept(Fours, 100);
    world.data(&peer, b"abcd");
    world.assert_ended(CloseReason::InputLimit);
}

#[test]
fn after_shutdown_write_input_still_comes() {
    let mut world = World::new(Config::default());
    let received = Rc::default();
    let peer = world.accept(HalfCloser(Rc::clone(&received)), 100);
    world.data(&peer, b"one");
    world.pass(seconds(60));
    world.data(&peer, b"two");
    world.fin(&peer);
    assert_eq!(*received.borrow(), b"onetwo");
    assert_eq!(peer.sent(), b"bye");
    world.assert_ended(CloseReason::Finished);
}

#[test]
fn a_message_for_a_connection_that_is_gone_is_not_delivered() {
    let mut world = World::new(Config::default());
    let old = world.accept(Pausing, 100);
    world.fin(&old);
    let new = world.accept(Pausing, 100);
    assert_eq!(new.id.index, old.id.index);
    assert!(!world.connections.message(old.id, (), &mut FakePoller));
}

/// Writes at once, and keeps what it is told of input and its end.
#[derive(Clone, Default)]
struct Greeter {
    received: Rc<RefCell<Vec<u8>>>,
    saw_eof: Rc<Cell<bool>>,
}

impl Protocol for Greeter {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.write(b"hello");
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        self.received.borrow_mut().extend_from_slice(input.take());
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        self.saw_eof.set(true);
        cx.finish();
    }
}

#[test]
fn what_came_before_a_write_that_fails_at_once_is_handed_over_and_its_end_is_no_eof() {
    let mut world = World::new(Config::default());
    let greeter = Greeter::default();
    let wire = Wire {
        incoming: [Incoming::Bytes(b"request".to_vec()), Incoming::Fin].into(),
        write_errors: [ErrorKind::BrokenPipe].into(),
        ..Wire::default()
    };
    world.add(greeter.clone(), State::Reading, wire);
    world.settle();
    assert_eq!(*greeter.received.borrow(), b"request");
    assert!(!greeter.saw_eof.get(), "an upload that was cut off must not look whole");
    world.assert_ended(CloseReason::ResetUnsent);
}

#[test]
fn what_is_written_after_a_reset_is_counted_as_lost() {
    let (mut world, peer) = World::with_one(Config::default(), 0);
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::BrokenPipe);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![0; 200_000]));
    world.fin(&peer);
    let stats = world.stats();
    assert_eq!((stats.bytes_received, stats.bytes_sent, stats.bytes_unsent), (200_000, 0, 200_000));
}

/// Leaves everything unconsumed; messages pause and resume.
struct Moody(Rc<Cell<u32>>);

impl Protocol for Moody {
    type Message = bool;

    fn on_data(&mut self, _: &mut Input<'_>, cx: &mut Context<'_, bool>) {
        self.0.set(self.0.get() + 1);
        cx.pause_reading();
    }

    fn on_message(&mut self, resume: bool, cx: &mut Context<'_, bool>) {
        if resume { cx.resume_reading() } else { cx.pause_reading() }
    }
}

#[test]
fn a_protocol_that_resumes_and_pauses_again_is_handed_nothing() {
    let mut world = World::new(Config::default());
    let calls = Rc::default();
    let peer = world.accept(Moody(Rc::clone(&calls)), 0);
    world.data(&peer, b"x");
    assert_eq!(calls.get(), 1);
    for resume in [true, false] {
        assert!(world.connections.message(peer.id, resume, &mut FakePoller));
    }
    world.settle();
    assert_eq!(calls.get(), 1);
}

#[test]
fn a_paused_connection_is_given_half_of_the_drain_to_come_back() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Moody(Rc::default()), 0);
    world.data(&peer, b"x");
    world.begin_drain();
    world.pass(Duration::from_millis(14_999));
    assert!(!peer.calls().contains(&"shutdown".to_owned()));
    world.pass(Duration::from_millis(1));
    assert_eq!(peer.calls(), ["shutdown"]);
}

#[test]
fn a_paused_connection_that_comes_back_in_a_drain_is_told_when_it_is_silent() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Pausing, 100);
    world.data(&peer, b"x");
    world.begin_drain();
    world.pass(seconds(2));
    assert!(world.connections.message(peer.id, (), &mut FakePoller));
    world.settle();
    assert!(!peer.calls().contains(&"shutdown".to_owned()));
    world.pass(Config::default().drain_silence);
    assert!(peer.calls().contains(&"shutdown".to_owned()));
}

/// Asks for reading to be paused or resumed when it cannot matter any more.
struct TooLate;

impl Protocol for TooLate {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        input.take();
        cx.finish();
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.pause_reading();
        cx.finish();
    }

    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        cx.resume_reading();
    }
}

#[test]
fn a_pause_after_the_end_of_input_changes_nothing() {
    let mut world = World::new(Config::default());
    let peer = world.accept(TooLate, 100);
    world.fin(&peer);
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn to_resume_after_finish_does_not_bring_input_back() {
    let mut world = World::new(Config::default());
    let peer = world.accept(TooLate, 100);
    world.data(&peer, b"x");
    assert!(world.connections.message(peer.id, (), &mut FakePoller));
    world.data(&peer, b"dropped");
    assert_eq!(world.stats().bytes_discarded, 7);
    world.pass(Config::default().linger_silence_timeout.unwrap());
    world.assert_ended(CloseReason::LingerSilence);
}

#[test]
fn memory_for_queues_that_was_not_needed_for_a_while_is_given_back() {
    let limits = Config { idle_timeout: None, write_timeout: None, ..Config::default() };
    let (mut world, peer) = World::with_one(limits, 0);
    world.data(&peer, b"waits");
    assert_eq!(world.connections.next_deadline(), None);
    world.make_room(&peer, 5);
    let at = world.connections.next_deadline().expect("a buffer is free");
    world.pass(at - world.now);
    assert_eq!(world.connections.next_deadline(), None);
    world.assert_open();
}

/// Half-closes at once, and finishes when its timer fires.
struct EndsLater;

impl Protocol for EndsLater {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.shutdown_write();
        cx.set_timer(0, seconds(9));
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }
}

#[test]
fn the_linger_silence_begins_when_input_is_discarded() {
    let mut world = World::new(Config::default());
    world.accept(EndsLater, 100);
    world.pass(seconds(9) + Duration::from_millis(4999));
    world.assert_open();
    world.pass(Duration::from_millis(1));
    world.assert_ended(CloseReason::LingerSilence);
}

#[test]
fn a_deadline_that_comes_up_too_early_costs_no_system_call() {
    let (mut world, peer) = World::with_one(Config::default(), 100);
    world.pass(seconds(300));
    world.data(&peer, b"active");
    let before = peer.wire.borrow().reads;
    world.pass(seconds(300));
    assert_eq!(peer.wire.borrow().reads, before);
    world.assert_open();
}

#[test]
fn a_drain_gives_up_an_outbound_connection_that_is_not_made() {
    let mut world = World::echo(Config::default());
    world.add(Echo, State::Connecting, Wire { connecting: true, ..Wire::default() });
    world.begin_drain();
    world.pass(Duration::ZERO);
    world.assert_ended(CloseReason::Aborted);
}

/// Takes a byte, sleeps for 5 s, takes the next.
struct Sleepy;

impl Protocol for Sleepy {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        input.consume(1);
        cx.pause_reading();
        cx.set_timer(0, seconds(5));
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_>) {
        match which {
            Timeout::Timer(_) => cx.resume_reading(),
            Timeout::Idle => cx.finish(),
        }
    }
}

#[test]
fn after_a_stall_of_the_loop_what_a_timer_sets_going_counts_before_idleness() {
    let limits = Config { idle_timeout: Some(seconds(10)), ..Config::default() };
    let mut world = World::new(limits);
    let peer = world.accept(Sleepy, 100);
    world.data(&peer, b"x");
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"y".to_vec()));
    world.connections.set_now(world.now + seconds(20));
    world.connections.run_deadlines(&mut FakePoller);
    world.settle();
    assert_eq!(world.stats().bytes_received, 2);
    assert!(!peer.calls().contains(&"shutdown".to_owned()), "it was not idle");
}

/// Leaves the end of input unanswered.
struct Unmoved;

impl Protocol for Unmoved {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }

    fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
}

#[test]
fn an_end_of_input_that_is_left_unanswered_ends_in_idleness() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Unmoved, 100);
    world.fin(&peer);
    world.pass(Duration::from_millis(599_999));
    world.assert_open();
    world.pass(Duration::from_millis(1));
    // What the peer did first is why.
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn a_drain_ends_what_has_one_direction_left() {
    let mut world = World::new(Config::default());
    let peer = world.accept(Unmoved, 100);
    world.fin(&peer);
    world.begin_drain();
    world.pass(Config::default().drain_silence);
    world.assert_ended(CloseReason::Peer);

    let mut world = World::new(Config::default());
    let peer = world.accept(HalfCloser(Rc::default()), 100);
    world.data(&peer, b"x");
    world.begin_drain();
    world.pass(Config::default().drain_silence);
    world.data(&peer, b"discarded");
    assert_eq!(world.stats().bytes_discarded, 9);
}

/// Goes on in a drain, and counts how often it is told.
struct Stubborn(Rc<Cell<u32>>);

impl Protocol for Stubborn {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_drain(&mut self, _: &mut Context<'_>) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_protocol_that_goes_on_in_a_drain_is_told_once() {
    let mut world = World::new(Config::default());
    let told = Rc::default();
    let peer = world.accept(Stubborn(Rc::clone(&told)), 100);
    world.begin_drain();
    world.pass(seconds(1));
    world.data(&peer, b"still here");
    world.pass(seconds(20));
    assert_eq!((told.get(), peer.sent()), (1, b"still here".to_vec()));
    world.assert_open();
}

/// Finishes with the first input, and counts how often it is told of a drain.
struct Brief(Rc<Cell<u32>>);

impl Protocol for Brief {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
        cx.finish();
    }

    fn on_drain(&mut self, _: &mut Context<'_>) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_drain_says_nothing_to_a_protocol_that_has_finished() {
    let mut world = World::new(Config::default());
    let told = Rc::default();
    let peer = world.accept(Brief(Rc::clone(&told)), 100);
    world.data(&peer, b"bye");
    world.begin_drain();
    world.pass(seconds(1));
    assert_eq!(told.get(), 0);
    world.fin(&peer);
    world.assert_ended(CloseReason::Finished);
}

/// Answers each input with so many bytes.
struct Verbose(usize);

impl Protocol for Verbose {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
        cx.write(&vec![b'.'; self.0]);
    }
}

#[test]
fn as_much_as_the_queue_limit_may_wait_and_not_a_byte_more() {
    let limits = Config { queue_limit_bytes: 20, high_water_bytes: 20, ..small() };
    for (length, is_open) in [(19, true), (20, false)] {
        let mut world = World::new(limits.clone());
        let peer = world.accept(Verbose(length), 0);
        world.data(&peer, b"?");
        assert_eq!(world.connections.len(), usize::from(is_open), "{length}");
        let reasons: Vec<_> = world.stats().close_reasons().collect();
        assert_eq!(reasons.is_empty(), is_open, "{reasons:?}");
    }
}

#[test]
fn a_turn_sends_no_more_than_its_budget() {
    let limits = Config { turn_budget_bytes: 10, ..Config::default() };
    let mut world = World::new(limits);
    let peer = world.accept(Verbose(30), 1000);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"four".to_vec()));
    world.connections.notice(peer.id.token(), READ);
    let mut turns = Vec::new();
    while world.connections.has_work() {
        world.connections.run_ready(&mut FakePoller);
        turns.push(peer.calls());
    }
    assert_eq!(turns, [vec!["read 4", "write 10"], vec!["write 10"], vec!["write 10"], vec!["write 4"]]);
}

#[test]
fn a_reset_that_a_read_shows_while_output_is_queued_says_that_it_is_lost() {
    let (mut world, peer) = World::with_one(Config::default(), 0);
    world.data(&peer, b"queued");
    peer.wire.borrow_mut().incoming.push_back(Incoming::Error(ErrorKind::ConnectionReset));
    world.event(&peer, READ);
    assert_eq!(world.stats().bytes_unsent, 6);
    world.assert_ended(CloseReason::ResetUnsent);
}

/// Writes for ever, and counts what comes.
struct Torrent {
    heard: Rc<Cell<usize>>,
}

impl Torrent {
    fn write(cx: &mut Context<'_>) {
        while cx.write(b"0123456789") == Flow::Open {}
    }
}

impl Protocol for Torrent {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        Self::write(cx);
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        self.heard.set(self.heard.get() + input.take().len());
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        Self::write(cx);
    }
}

#[test]
fn a_protocol_that_writes_for_ever_to_a_peer_that_takes_it_all_still_gets_input_and_its_end() {
    let heard = Rc::new(Cell::new(0));
    let mut world = World::new(small());
    let wire = Wire { room: usize::MAX, ..Wire::default() };
    let peer = world.add(Torrent { heard: Rc::clone(&heard) }, State::Reading, wire);
    world.connections.run_ready(&mut FakePoller);
    peer.wire.borrow_mut().incoming = [Incoming::Bytes(vec![1; 700]), Incoming::Fin].into();
    world.connections.notice(peer.id.token(), READ);
    for _ in 0..100 {
        world.connections.run_ready(&mut FakePoller);
    }
    assert_eq!(heard.get(), 700);
    assert!(peer.calls().contains(&"shutdown".to_owned()));
    world.settle();
    world.assert_ended(CloseReason::Peer);
}

// ---- short reads ----

fn with_short_reads() -> (World<Echo>, Peer) {
    let (world, peer) = World::with_one(Config { read_buffer_bytes: 10, ..Config::default() }, 100);
    peer.wire.borrow_mut().short_read_drains = true;
    (world, peer)
}

#[test]
fn a_read_that_brings_less_than_it_could_is_the_last_where_an_event_follows_for_more() {
    let (mut world, peer) = with_short_reads();
    world.data(&peer, b"short");
    assert_eq!(peer.wire.borrow().reads, 1);
    world.data(&peer, b"ten bytes.");
    assert_eq!(peer.wire.borrow().reads, 3, "this one may have left something");
    world.fin(&peer);
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn a_short_read_is_not_the_last_where_the_end_may_be_behind_it() {
    let (mut world, peer) = with_short_reads();
    peer.wire.borrow_mut().incoming = [Incoming::Bytes(b"bye".to_vec()), Incoming::Fin].into();
    world.event(&peer, READ | Readiness::MORE);
    assert_eq!(peer.sent(), b"bye");
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn a_short_read_after_a_failed_write_is_not_the_last() {
    let (mut world, peer) = with_short_reads();
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::BrokenPipe);
    peer.wire.borrow_mut().incoming = [Incoming::Bytes(b"x".to_vec()), Incoming::Bytes(b"y".to_vec())].into();
    world.event(&peer, READ);
    assert_eq!(world.stats().bytes_received, 2);
    world.assert_ended(CloseReason::ResetUnsent);
}

// ---- bulk ----

/// An echo connection with pipes that sends in bulk already; its socket takes `room` bytes.
fn with_bulk(room: usize) -> (World<Echo>, Peer) {
    let limits = Config { splice_threshold_bytes: Some(8), high_water_bytes: 100, ..small() };
    let (mut world, peer) = World::with_one(limits, room + 20);
    peer.wire.borrow_mut().has_pipes = true;
    for _ in 0..2 {
        world.data(&peer, &[1; 10]);
    }
    assert_eq!(peer.calls(), ["read 10", "write 10", "read 10", "write 10"]);
    (world, peer)
}

#[test]
fn what_is_sent_in_bulk_is_moved_until_it_is_small_again() {
    let (mut world, peer) = with_bulk(1000);
    let lengths = [9, 9, 3, 3, 3, 9, 9, 9];
    let calls = ["move 9", "move 9", "move 3", "move 3", "read 3", "read 9", "read 9", "move 9"];
    for (length, call) in lengths.into_iter().zip(calls) {
        world.data(&peer, &vec![2; length]);
        assert_eq!(peer.calls(), [call.to_owned(), format!("write {length}")]);
    }
    let stats = world.stats();
    assert_eq!((stats.bytes_received, stats.bytes_sent), (74, 74));
    world.fin(&peer);
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn a_protocol_that_does_more_than_return_its_input_sees_all_of_it() {
    let limits = Config { splice_threshold_bytes: Some(8), ..Config::default() };
    let mut world = World::new(limits);
    let received = Rc::default();
    let wire = Wire { has_pipes: true, ..Wire::default() };
    let peer = world.add(Sink(Rc::clone(&received)), State::Reading, wire);
    for _ in 0..5 {
        world.data(&peer, &[1; 10]);
    }
    assert_eq!(received.borrow().len(), 50);
}

#[test]
fn what_waits_in_a_pipe_is_sent_before_more_is_taken_and_before_fin() {
    let (mut world, peer) = with_bulk(4);
    world.data(&peer, b"first part");
    world.data(&peer, b"second");
    world.fin(&peer);
    assert_eq!(peer.calls(), ["move 10", "write 4"]);
    assert!(peer.is_watched_for_writing());
    world.make_room(&peer, 100);
    assert_eq!(peer.calls(), ["write 6", "move 6", "write 6", "read 0", "shutdown", "close"]);
    assert_eq!(peer.sent()[20..], *b"first partsecond");
    world.assert_ended(CloseReason::Peer);
}

#[test]
fn where_there_is_no_pipe_bytes_are_copied() {
    let (mut world, peer) = with_bulk(100);
    peer.wire.borrow_mut().has_pipes = false;
    // The one that is free is given back.
    world.pass(seconds(1));
    world.data(&peer, b"just the same");
    assert_eq!(peer.calls(), ["read 13", "write 13"]);
}

#[test]
fn a_pipe_of_which_the_peer_takes_nothing_is_a_write_stall() {
    let (mut world, peer) = with_bulk(0);
    world.data(&peer, b"not wanted");
    world.pass(Config::default().write_timeout.unwrap());
    assert_eq!(peer.calls(), ["move 10", "reset", "close"]);
    assert_eq!(world.stats().bytes_unsent, 10);
    world.assert_ended(CloseReason::WriteStall);
}

#[test]
fn what_is_in_a_pipe_when_a_write_fails_is_counted_as_lost() {
    let (mut world, peer) = with_bulk(0);
    world.data(&peer, b"lost bytes");
    peer.wire.borrow_mut().write_errors.push_back(ErrorKind::BrokenPipe);
    world.fin(&peer);
    world.event(&peer, WRITE);
    assert_eq!(world.stats().bytes_unsent, 10);
    world.assert_ended(CloseReason::ResetUnsent);
}

#[test]
fn a_drain_sends_what_is_in_a_pipe() {
    let (mut world, peer) = with_bulk(4);
    world.data(&peer, b"first part");
    world.begin_drain();
    world.make_room(&peer, 100);
    world.pass(Config::default().drain_silence);
    assert_eq!(peer.calls(), ["move 10", "write 4", "write 6", "shutdown"]);
    world.fin(&peer);
    world.assert_ended(CloseReason::Drained);
}

#[test]
fn an_error_that_only_a_move_was_told_of_is_not_taken_for_an_end() {
    for (kind, reason) in [
        (ErrorKind::ConnectionReset, CloseReason::Reset),
        (ErrorKind::TimedOut, CloseReason::Failed(ErrorKind::TimedOut)),
    ] {
        let (mut world, peer) = with_bulk(100);
        peer.wire.borrow_mut().incoming = [Incoming::Error(kind), Incoming::Fin].into();
        world.event(&peer, READ | WRITE | Readiness::ERROR);
        assert_eq!(peer.calls(), ["read 0", "reset", "close"]);
        world.assert_ended(reason);
    }
}

#[test]
fn where_nothing_is_left_to_move_no_read_asks_again_unless_something_else_may_be_behind_it() {
    for (short_read_drains, ready, reads) in
        [(true, READ, 0), (false, READ, 1), (true, READ | Readiness::MORE, 1)]
    {
        let (mut world, peer) = with_bulk(100);
        let before = peer.wire.borrow().reads;
        peer.wire.borrow_mut().short_read_drains = short_read_drains;
        peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![1; 10]));
        world.event(&peer, ready);
        assert_eq!(peer.calls(), ["move 10", "write 10"]);
        assert_eq!(peer.wire.borrow().reads - before, reads);
        world.data(&peer, b"some more.");
        assert_eq!(peer.calls(), ["move 10", "write 10"]);
    }
}

#[test]
fn where_bytes_cannot_be_moved_they_are_copied_as_before() {
    let (mut world, peer) = with_bulk(1000);
    peer.wire.borrow_mut().incoming =
        [Incoming::Error(ErrorKind::Unsupported), Incoming::Bytes(vec![3; 90])].into();
    world.event(&peer, READ);
    assert_eq!(peer.calls(), ["read 90", "write 90"]);
    world.data(&peer, &[4; 20]);
    assert_eq!(peer.calls(), ["read 20", "write 20"]);
}

#[test]
fn the_end_that_is_announced_with_the_connection_is_not_missed() {
    let mut world = World::echo(Config::default());
    let wire = Wire {
        short_read_drains: true,
        room: 100,
        incoming: [Incoming::Bytes(b"hello".to_vec()), Incoming::Fin].into(),
        ..Wire::default()
    };
    let peer = world.add(Echo, State::Connecting, wire);
    world.event(&peer, READ | WRITE | Readiness::MORE);
    assert_eq!(peer.sent(), b"hello");
    world.assert_ended(CloseReason::Peer);
}

/// Returns its input unchanged, and says something when it is told to.
struct Annotating;

impl Protocol for Annotating {
    type Message = ();
    const RETURNS_INPUT_UNCHANGED: bool = true;

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        cx.write(b"!");
    }
}

#[test]
fn what_a_protocol_writes_goes_out_behind_what_is_in_the_pipe() {
    let limits = Config { splice_threshold_bytes: Some(8), ..Config::default() };
    let mut world = World::new(limits);
    let wire = Wire { has_pipes: true, room: 24, ..Wire::default() };
    let peer = world.add(Annotating, State::Reading, wire);
    for bytes in [b"0123456789", b"0123456789", b"moved part"] {
        world.data(&peer, bytes);
    }
    assert!(world.connections.message(peer.id, (), &mut FakePoller));
    world.make_room(&peer, 100);
    assert_eq!(peer.sent()[20..], *b"moved part!");
}

#[test]
fn a_move_takes_half_as_much_of_the_budget_as_a_copy() {
    let limits = Config { splice_threshold_bytes: Some(8), turn_budget_bytes: 10, ..Config::default() };
    let (mut world, peer) = World::with_one(limits, 1000);
    peer.wire.borrow_mut().has_pipes = true;
    for _ in 0..2 {
        world.data(&peer, &[1; 10]);
    }
    peer.calls();
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(vec![2; 25]));
    world.connections.notice(peer.id.token(), READ);
    let mut turns = Vec::new();
    while world.connections.has_work() {
        world.connections.run_ready(&mut FakePoller);
        turns.push(peer.calls());
    }
    assert_eq!(turns, [vec!["move 10", "write 10"], vec!["move 10", "write 10"], vec!["move 5", "write 5"]]);
}
