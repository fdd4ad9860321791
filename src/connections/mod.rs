//! The connections of one loop: who is where, whose turn it is, and whose time is up.

use std::{
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Interest, Token};
use slab::Slab;

mod audit;
mod dials;
mod mail;
mod ready;
mod relays;

use self::{dials::Names, ready::ReadyQueue};
use crate::{
    address::Address,
    blocking::Blocking,
    close_reason::CloseReason,
    config::Config,
    connection::{
        Connection, call,
        drain::Drain,
        shared::{HANDSHAKES_IN_TURN, Shared},
        state::State,
    },
    connection_id::{self, ConnectionId},
    deadlines::{Deadlines, earliest},
    handle::{End, Handle, Page},
    networks::Counted,
    places::Places,
    protocol::Protocol,
    stats::{Counters, Stats},
    status::{Accepting, WorkerStatus},
    system::{
        Poller,
        readiness::Readiness,
        transport::{Addresses, Transport},
    },
    tls::scratch::Scratch,
};

/// All connections of one loop, in a slab, with the queue of those that have work.
///
/// Like everything below, it sees neither sockets nor a clock: the transport is a type parameter, and
/// [`set_now`](Self::set_now) tells the time.
#[derive(Debug)]
pub struct Connections<P: Protocol, T: Transport> {
    slots: Slab<Slot<P, T>>,
    ready: ReadyQueue,
    /// Those that ended; their slots are freed by `reap`.
    ended: Vec<u32>,
    deadlines: Deadlines,
    /// Those whose deadline has come: empty but while they are dealt with.
    due: Vec<u32>,
    shared: Shared<P::Message, T::Pipe>,
    places: Arc<Places>,
    /// Once an outbound connection was wanted by name.
    names: Option<Box<Names<P::Message>>>,
    /// Address space for the table of slots.
    table_bytes: usize,
    worker: u32,
    next_generation: u64,
    /// No slot from here on has been in use since the table was empty.
    slots_used: usize,
    /// When there was none yet.
    epoch: Instant,
}

#[derive(Debug)]
struct Slot<P, T: Transport> {
    connection: Connection<P, T>,
    place: Place,
    interest: Interest,
    since: Since,
}

/// When a connection began: in microseconds since the first could, which wrap after nine years. It takes no more room
/// in a slot than there is anyway.
#[derive(Clone, Copy, Debug)]
struct Since([u8; 6]);

impl Since {
    fn new(epoch: Instant, now: Instant) -> Self {
        let [a, b, c, d, e, f, ..] = Self::micros(epoch, now).to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    /// How long ago it was.
    fn elapsed(self, epoch: Instant, now: Instant) -> Duration {
        let [a, b, c, d, e, f] = self.0;
        let since = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        let micros = Self::micros(epoch, now).wrapping_sub(since) & ((1 << 48) - 1);
        Duration::from_micros(micros)
    }

    fn micros(epoch: Instant, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(epoch);
        elapsed.as_secs().wrapping_mul(1_000_000).wrapping_add(elapsed.subsec_micros().into())
    }
}

/// Which of the lists a slot is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Resting,
    Ready,
    Ended,
}

/// What every connection is watched for. Urgent data must not go unnoticed where a read stops short of it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const INPUT: Interest = Interest::READABLE.add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const INPUT: Interest = Interest::READABLE;

/// When all connections have ended, tables that have held more than these give their memory back.
const SLOTS_KEPT: usize = 256;

/// Deadlines of so many slots have their place from the beginning: a list that grows leaves holes in the heap.
const SLOTS_RESERVED: usize = 1 << 16;

/// The address space of the table of slots, unless it is small anyway. Memory is taken page by page as slots are used, and the
/// table is never copied while it grows. An allocation of more than 32 MiB goes back to the system when it is dropped,
/// whatever the allocator of glibc has seen before; see mallopt(3), M_MMAP_THRESHOLD.
const TABLE_BYTES: usize = 33 << 20;

/// Elsewhere a table takes memory when it is made, not as slots are used.
const RESERVES_TABLE: bool = cfg!(target_os = "linux");

impl<P: Protocol, T: Transport> Connections<P, T> {
    /// No connections yet, and never more than there are places.
    pub fn new(
        worker: u32,
        places: Arc<Places>,
        now: Instant,
        limits: Config,
        counters: Arc<Counters>,
        handle: Handle<P::Message>,
        blocking: Arc<dyn Blocking>,
    ) -> Self {
        Self {
            slots: Slab::new(),
            ready: ReadyQueue::default(),
            ended: Vec::new(),
            deadlines: Deadlines::with_capacity(now, places.total().min(SLOTS_RESERVED)),
            due: Vec::new(),
            shared: Shared::new(now, limits, counters, handle, blocking),
            places,
            names: None,
            table_bytes: TABLE_BYTES,
            worker,
            next_generation: 1,
            slots_used: 0,
            epoch: now,
        }
    }

    /// Reserves no more address space than this for the table of slots, which then grows by being copied.
    pub fn limit_table(&mut self, bytes: usize) {
        self.table_bytes = bytes.min(TABLE_BYTES);
    }

    /// Sets the time that holds until the next call.
    pub fn set_now(&mut self, now: Instant) {
        self.shared.now = now;
    }

    /// Connections open, including those that linger and those whose slot is not freed yet.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// For tests.
    #[cfg(test)]
    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.places = Places::alone(capacity);
        (0..self.slots.len()).for_each(|_| assert!(self.places.take(0)));
    }

    /// Whether another connection may be added.
    pub fn has_room(&self) -> bool {
        self.places.free() > 0
    }

    /// Whether there would still be room when the outbound connections that callbacks want are added too.
    pub fn has_room_for_clients(&self) -> bool {
        self.places.free() > self.shared.outbox.dials()
    }

    /// Takes a place for the connection that is added next. If there is none, the loop is woken when another worker has
    /// given one back.
    pub fn take_place(&self) -> bool {
        self.has_slot() && self.places.take(self.worker)
    }

    /// Reserves one for a client that may be accepted, unless the outbound connections that callbacks want need it.
    pub fn reserve_place_for_client(&self) -> bool {
        if !self.has_slot() || !self.places.reserve(self.worker) {
            return false;
        }
        let is_left = self.places.free() >= self.shared.outbox.dials();
        if !is_left {
            self.release_place();
        }
        is_left
    }

    /// No client was accepted.
    pub fn release_place(&self) {
        self.places.release();
    }

    fn has_slot(&self) -> bool {
        self.slots.len() < connection_id::RESERVED_INDEX
    }

    /// Has the loop woken when another worker gives a place back. To be called before it is seen whether there is one.
    pub fn wait_for_place(&self) {
        self.places.wait(self.worker);
    }

    /// When a drain cuts off whoever is left, also in the backlogs.
    pub fn drain_deadline(&self) -> Option<Instant> {
        self.shared.drain?.deadline
    }

    /// How many outbound connections callbacks want that are not begun.
    pub fn dials(&self) -> usize {
        self.shared.outbox.dials()
    }

    /// No connection came of it.
    pub fn give_place_back(&self) {
        self.places.give_back(self.worker);
    }

    /// The places, and this loop's number among the workers that share them.
    pub fn places(&self) -> (&Places, u32) {
        (&self.places, self.worker)
    }

    /// Whether there is work that waits for no event.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() || (self.has_requests() && self.has_requests_to_do())
    }

    /// Whether callbacks have asked something of other connections that is not done.
    pub fn has_requests(&self) -> bool {
        !self.shared.outbox.is_quiet() || self.has_unfounded()
    }

    /// Whether some of it can be done now.
    fn has_requests_to_do(&self) -> bool {
        let outbox = &self.shared.outbox;
        let can_dial = outbox.dials() > 0 && self.has_room();
        can_dial || outbox.has_mail() || outbox.has_unresolved() || self.has_unfounded()
    }

    /// When a connection must be looked at if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let cut = self.shared.drain.and_then(|drain| drain.deadline).filter(|_| !self.is_empty());
        let dial = self.dial_deadline();
        earliest(earliest(self.deadlines.earliest(), cut), earliest(dial, self.shared.trim_at()))
    }

    /// Whether a drain is going on.
    pub const fn is_draining(&self) -> bool {
        self.shared.drain.is_some()
    }

    /// Whether a drain has come to its deadline.
    pub fn is_past_drain(&self) -> bool {
        let deadline = self.shared.drain.and_then(|drain| drain.deadline);
        deadline.is_some_and(|deadline| deadline <= self.shared.now)
    }

    /// A name for the next connection that is added. If none comes of it, the name is never used.
    pub fn next_id(&mut self) -> ConnectionId {
        let index = u32::try_from(self.slots.vacant_key()).expect("capacity is below 2^32");
        let generation = self.next_generation;
        self.next_generation += 1;
        ConnectionId { generation, worker: self.worker, index }
    }

    /// Adds the connection of the latest [`next_id`](Self::next_id), in the state `Reading` or `Connecting`,
    /// and tells its protocol if it is made. Its place is taken.
    ///
    /// # Errors
    ///
    /// What the poller says. The connection is then dropped; a protocol that waited for it to be made is told.
    pub fn add(
        &mut self,
        id: ConnectionId,
        state: State,
        transport: T,
        protocol: impl Into<Option<P>>,
        limits: &Rc<Config>,
        poller: &mut impl Poller<T>,
    ) -> io::Result<()> {
        let protocol = protocol.into();
        let interest = match state {
            State::Connecting if protocol.is_some() => INPUT | Interest::WRITABLE,
            // A client that has no protocol yet has the first word.
            State::Connecting | State::Reading | State::Echoing | State::HalfClosed | State::Closed(_) => {
                INPUT
            }
        };
        let mut connection =
            Connection::new(id, state, transport, protocol, self.shared.now, Rc::clone(limits));
        if let Err(error) = poller.register(connection.transport_mut(), id, interest) {
            if state == State::Connecting && connection.protocol().is_some() {
                connection.close(CloseReason::ConnectFailed(error.kind()), &self.shared);
                connection.tell_close(&mut self.shared);
            } else {
                self.shared.counters.setup_failures.add(1);
                connection.transport_mut().reset_on_close();
            }
            self.give_place_back();
            drop_safely(id, connection, &self.shared.counters);
            return Err(error);
        }
        if self.slots.capacity() == 0 {
            self.slots = table(self.places.total(), self.table_bytes);
        }
        let since = Since::new(self.epoch, self.shared.now);
        let slot = self.slots.insert(Slot { connection, place: Place::Resting, interest, since });
        assert_eq!(slot, id.index as usize, "the name is for the next vacant slot");
        self.slots_used = self.slots_used.max(slot + 1);
        self.count_open();
        let connection = &mut self.slots[slot].connection;
        if state == State::Reading {
            connection.open(&mut self.shared);
        }
        if self.shared.drain.is_some() {
            connection.begin_drain();
        }
        self.follow_up(id.index, poller);
        Ok(())
    }

    /// The connection that was just added is that of a client, from this address to the listener of this position, and has
    /// its handshake before it.
    pub fn begin_handshake(&mut self, id: ConnectionId, client: (Address, usize)) {
        let now = self.shared.now;
        let Some(connection) = self.get_mut(id) else { return };
        connection.begin_handshake(Some(client), now);
        if let Some(at) = self.get(id).and_then(|connection| connection.deadline(&self.shared)) {
            self.deadlines.arm(id.index, at);
        }
    }

    /// It gets its protocol.
    pub fn admit(&mut self, id: ConnectionId, protocol: P, poller: &mut impl Poller<T>) {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.connection.id() == id);
        let Some(slot) = slot else { return };
        slot.connection.admit(protocol, &mut self.shared);
        self.follow_up(id.index, poller);
    }

    /// It gets none, and is reset. Whoever says so has counted it.
    pub fn drop_client(&mut self, id: ConnectionId, poller: &mut impl Poller<T>) {
        if let Some(connection) = self.get_mut(id) {
            connection.drop_client();
            self.follow_up(id.index, poller);
        }
    }

    /// Where connections over TLS seal and open.
    pub(crate) const fn scratch(&self) -> &Rc<Scratch> {
        &self.shared.scratch
    }

    /// An attempt to connect that failed at once ends like one that fails later: its protocol is told.
    pub fn tell_not_made(&mut self, id: ConnectionId, mut protocol: P, reason: CloseReason) {
        self.shared.counters.count_closed(reason);
        let mut context = self.shared.context(id, &NotMade);
        context.requests.output_closed = true;
        if call(&mut protocol, context, |protocol, cx| protocol.on_close(&reason, cx)).is_err() {
            self.shared.counters.panics.add(1);
        }
        drop_safely(id, protocol, &self.shared.counters);
    }

    /// Notes an event. One for a connection that is gone is ignored.
    pub fn notice(&mut self, token: Token, ready: Readiness) {
        let index = connection_id::slot(token);
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.connection.id().owns(token)) else {
            log::trace!("stale event {token:?}");
            return;
        };
        slot.connection.set_ready(ready);
        if slot.place == Place::Resting {
            slot.place = Place::Ready;
            self.ready.push(slot.connection.id().index, slot.connection.had_much_to_do());
        }
    }

    /// Gives each connection that has work one turn; but of those that had much to do in their last turn, only one. So
    /// what comes for others waits for one such turn at most: the poller is asked again between two of them.
    pub fn run_ready(&mut self, poller: &mut impl Poller<T>) {
        self.shared.handshakes_left = HANDSHAKES_IN_TURN;
        // Who comes to be in bulk by this turn has the next later.
        let in_bulk = self.ready.in_bulk.len();
        for _ in 0..self.ready.usual.len() {
            let Some(index) = self.ready.usual.pop_front() else { break };
            self.run(index, poller);
        }
        for _ in 0..in_bulk {
            let Some(index) = self.ready.in_bulk.pop_front() else { break };
            // One that has ended only leaves the queue.
            let has_ended = self.slots[index as usize].connection.state().is_closed();
            self.run(index, poller);
            if !has_ended {
                break;
            }
        }
    }

    fn run(&mut self, index: u32, poller: &mut impl Poller<T>) {
        self.slots[index as usize].place = Place::Resting;
        self.with_partner(index, Connection::turn);
        self.follow_up(index, poller);
    }

    /// Does what is due, for a batch of connections at most: the others follow in the next turn.
    pub fn run_deadlines(&mut self, poller: &mut impl Poller<T>) {
        // A deadline that is armed anew for now waits for the next turn of the loop.
        let mut due = mem::take(&mut self.due);
        let come = std::iter::from_fn(|| self.deadlines.pop_due(self.shared.now));
        due.extend(come.take(self.shared.limits.event_batch));
        for index in due.drain(..) {
            self.with_partner(index, Connection::expire);
            self.follow_up(index, poller);
        }
        self.due = due;
        self.expire_dials();
        self.shared.trim();
        if self.is_past_drain() {
            self.close_all(CloseReason::DrainTimeout, poller);
        }
    }

    /// Calls a connection's protocol. False if it is gone, or not made yet.
    fn call(
        &mut self,
        id: ConnectionId,
        poller: &mut impl Poller<T>,
        callback: impl FnOnce(&mut Connection<P, T>, &mut Shared<P::Message, T::Pipe>),
    ) -> bool {
        let slot = self.slots.get_mut(id.index as usize);
        let Some(slot) = slot.filter(|slot| slot.connection.id() == id) else { return false };
        match slot.connection.state() {
            State::Closed(_) | State::Connecting => return false,
            State::Reading | State::Echoing | State::HalfClosed => {}
        }
        if slot.connection.protocol().is_none() {
            // Its handshake has failed, and it is told so.
            return false;
        }
        callback(&mut slot.connection, &mut self.shared);
        self.follow_up(id.index, poller);
        true
    }

    /// Begins to end every connection gracefully; those added from now on too.
    pub fn begin_drain(&mut self) {
        self.shared.drain = Some(Drain::begin(self.shared.now, &self.shared.limits));
        self.give_up_lookups_for_nobody();
        for (_, slot) in &mut self.slots {
            slot.connection.begin_drain();
            if slot.place == Place::Resting {
                slot.place = Place::Ready;
                self.ready.push(slot.connection.id().index, false);
            }
        }
    }

    /// Those that were active since then are silent from now on at the earliest.
    pub fn restart_silence(&mut self, since: Instant) {
        for (_, slot) in &mut self.slots {
            slot.connection.restart_silence(since, self.shared.now);
        }
    }

    /// Closes every connection now. One whose output is all sent, with our FIN behind it, does not count as
    /// cut off by a drain: its linger time is over, no more.
    pub fn close_all(&mut self, reason: CloseReason, poller: &mut impl Poller<T>) {
        let open: Vec<usize> = self.slots.iter().map(|(index, _)| index).collect();
        for &index in &open {
            let connection = &mut self.slots[index].connection;
            let only_lingers = reason == CloseReason::DrainTimeout && connection.only_lingers(&self.shared);
            let reason = if only_lingers { CloseReason::LingerTimeout } else { reason };
            connection.close(reason, &self.shared);
        }
        for index in open {
            let index = self.slots[index].connection.id().index;
            self.follow_up(index, poller);
        }
    }

    /// Frees the slots of the connections that ended, which closes their sockets, after `note_end` was told of each.
    /// To be called when no event of the current batch is left. True if there were any.
    pub fn reap(&mut self, mut note_end: impl FnMut(&T, CloseReason)) -> bool {
        if self.ended.is_empty() {
            return false;
        }
        for index in self.ended.drain(..) {
            self.deadlines.disarm(index);
            let slot = self.slots.remove(index as usize);
            self.places.give_back(self.worker);
            let id = slot.connection.id();
            let open = slot.since.elapsed(self.epoch, self.shared.now);
            self.shared.counters.connection_durations.observe(open);
            if let State::Closed(reason) = slot.connection.state() {
                note_end(slot.connection.transport(), reason);
            }
            drop_safely(id, slot, &self.shared.counters);
        }
        self.count_open();
        if self.slots.is_empty() && mem::take(&mut self.slots_used) > SLOTS_KEPT {
            self.slots = Slab::new();
            self.ready.shrink();
            self.ended.shrink_to_fit();
            self.due.shrink_to_fit();
            self.deadlines.shrink();
        }
        true
    }

    /// After anything was done with a connection: does what follows from it for others, and puts all of them into the
    /// lists where they belong now.
    fn follow_up(&mut self, index: u32, poller: &mut impl Poller<T>) {
        if self.slots[index as usize].connection.has_relay() {
            self.follow_up_relay(index, poller);
        } else {
            self.place(index, poller);
        }
    }

    /// Watches a connection for what it waits for, and puts it into the lists where it belongs.
    fn place(&mut self, index: u32, poller: &mut impl Poller<T>) {
        let slot = &mut self.slots[index as usize];
        update_interest(slot, &self.shared, poller);
        let connection = &mut slot.connection;
        if connection.state().is_closed() {
            connection.tell_close(&mut self.shared);
            let (id, attempts) = (connection.id(), connection.take_attempts());
            self.follow_up_attempt(index);
            self.forget_dials_of(id);
            let slot = &mut self.slots[index as usize];
            // One that is still in the ready queue is put here when its turn comes.
            if slot.place == Place::Resting {
                slot.place = Place::Ended;
                self.ended.push(index);
            }
            attempts.into_iter().for_each(|attempt| self.cancel(attempt, poller));
            return;
        }
        if connection.take_deadline_moved()
            && let Some(at) = connection.deadline(&self.shared)
        {
            self.deadlines.arm(index, at);
        }
        if slot.place == Place::Resting && connection.has_work() {
            slot.place = Place::Ready;
            self.ready.push(index, connection.had_much_to_do());
        }
        if self.names.is_some() {
            self.follow_up_attempt(index);
        }
    }

    /// The connection that was just added counts among those from its address until it ends.
    pub(crate) fn set_counted(&mut self, id: ConnectionId, counted: Counted) {
        if let Some(connection) = self.get_mut(id) {
            connection.set_counted(counted);
        }
    }

    /// The limits of connections that have none of their own.
    pub fn limits(&self) -> &Rc<Config> {
        &self.shared.connection_limits
    }

    /// The connection of this name, if it is still there.
    pub fn get(&self, id: ConnectionId) -> Option<&Connection<P, T>> {
        let slot = self.slots.get(id.index as usize)?;
        Some(&slot.connection).filter(|connection| connection.id() == id)
    }

    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<P, T>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        Some(&mut slot.connection).filter(|connection| connection.id() == id)
    }

    /// Ends a connection for another thread. One that is gone is none of it.
    pub fn end(&mut self, id: ConnectionId, end: End, poller: &mut impl Poller<T>) {
        let shared = &mut self.shared;
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.connection.id() == id);
        if let Some(slot) = slot {
            slot.connection.end(end, shared);
            self.follow_up(id.index, poller);
        }
    }

    /// What those from this slot on are doing, some of them.
    pub fn list(&self, from: usize) -> Page {
        let to = from.saturating_add(self.shared.limits.event_batch);
        let slots = (from..to.min(self.slots_used)).filter_map(|index| self.slots.get(index));
        let page = slots.filter_map(|slot| slot.connection.status(self.shared.now)).collect();
        (page, Some(to).filter(|&to| to < self.slots_used))
    }

    /// What they are doing, with the counters so far.
    pub fn status(&self, stats: Stats) -> WorkerStatus {
        let mut status = WorkerStatus {
            worker: self.worker as usize,
            connecting: 0,
            reading: 0,
            echoing: 0,
            half_closed: 0,
            paused: 0,
            queued_bytes: 0,
            unacknowledged_bytes: 0,
            accepting: Accepting::No,
            stats,
        };
        for (_, slot) in &self.slots {
            let connection = &slot.connection;
            match connection.state() {
                State::Connecting => status.connecting += 1,
                State::Reading => status.reading += 1,
                State::Echoing => status.echoing += 1,
                State::HalfClosed => status.half_closed += 1,
                State::Closed(_) => {}
            }
            status.paused += usize::from(connection.is_paused());
            status.queued_bytes += connection.queued();
            status.unacknowledged_bytes += connection.unacknowledged_bytes();
        }
        status
    }

    fn count_open(&self) {
        self.shared.counters.open.set(self.slots.len());
    }
}

/// The ends of a connection that never was.
struct NotMade;

impl Addresses for NotMade {
    fn peer_addr(&self) -> io::Result<Address> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn local_addr(&self) -> io::Result<Address> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

/// Drops what holds a protocol, which may panic.
fn drop_safely<D>(id: ConnectionId, dropped: D, counters: &Counters) {
    if catch_unwind(AssertUnwindSafe(|| drop(dropped))).is_err() {
        counters.panics.add(1);
        log::error!(connection:% = id; "{id}: the protocol panicked when it was dropped");
    }
}

/// An empty table of slots.
fn table<P: Protocol, T: Transport>(places: usize, bytes: usize) -> Slab<Slot<P, T>> {
    let reserved = if RESERVES_TABLE { bytes / size_of::<Slot<P, T>>() } else { 0 };
    Slab::with_capacity(if places <= SLOTS_KEPT { places } else { reserved })
}

/// Watches for room to write only while output waits for it.
fn update_interest<P: Protocol, T: Transport>(
    slot: &mut Slot<P, T>,
    shared: &Shared<P::Message, T::Pipe>,
    poller: &mut impl Poller<T>,
) {
    let connection = &mut slot.connection;
    let wanted = if connection.wants_writable() { INPUT | Interest::WRITABLE } else { INPUT };
    if wanted == slot.interest || connection.state().is_closed() {
        return;
    }
    let id = connection.id();
    match poller.reregister(connection.transport_mut(), id, wanted) {
        Ok(()) => slot.interest = wanted,
        Err(error) => {
            log::debug!("{}: cannot register with the poller: {error}", connection.id());
            connection.close(CloseReason::Failed(error.kind()), shared);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{protocol::echo::Echo, system::os::stream::Stream};

    #[test]
    fn when_a_connection_began_costs_no_memory() {
        assert_eq!(
            size_of::<Slot<Echo, Stream>>(),
            size_of::<Connection<Echo, Stream>>() + align_of::<usize>()
        );
    }

    #[test]
    fn when_a_connection_began_is_known_for_years() {
        #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
        let epoch = Instant::now();
        for (began, took) in [(0, 0), (5, 1_000_000), (999_999, 1), (86_400_000_000, 31_536_000_000_000 * 8)]
        {
            let now = epoch + Duration::from_micros(began);
            let since = Since::new(epoch, now);
            let took = Duration::from_micros(took);
            assert_eq!(since.elapsed(epoch, now + took), took);
        }
    }
}
