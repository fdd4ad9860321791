//! One client: the state machine, between a protocol and a transport.
//!
//! A connection never sees a socket, a poller or a clock. It is told what may be ready and what time
//! it is, does what can be done without blocking, and says what it waits for.

mod bulk;
mod deadline;
mod io;
mod relay;
mod state;
#[cfg(test)]
mod tests;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use self::bulk::Bulk;
pub use self::{deadline::Drain, state::State};
use crate::{
    buffers::Buffers,
    close_reason::CloseReason,
    config::Config,
    connection_id::ConnectionId,
    handle::Handle,
    outbox::Outbox,
    pipes::{Pipe, Pipes, Pooled},
    protocol::{
        Protocol,
        context::{Context, Ending, Reading, Requests},
    },
    send_queue::SendQueue,
    stats::Counters,
    system::{readiness::Readiness, transport::Transport},
};

/// One connection: what it is, where it is in its life, and what it waits for.
#[derive(Debug)]
pub struct Connection<P, T: Transport> {
    id: ConnectionId,
    /// When the last byte moved in either direction, or the connection changed in another way that
    /// restarts its idle time or its linger silence.
    last_activity: Instant,
    transport: T,
    /// While output waits to be sent.
    queue: Option<Box<Queue<T::Pipe>>>,
    /// What most connections have none of most of the time.
    extra: Option<Box<Extra>>,
    state: State,
    /// Why it will have ended if all goes well from here: the first cause wins.
    ended_by: Option<CloseReason>,
    /// A failed write. Input that came before it is still read; then it is the end.
    fault: Option<CloseReason>,
    ready: Readiness,
    input: InputSide,
    output: OutputSide,
    /// The queue reached the high-water mark and has not come down to the low-water mark.
    throttled: bool,
    /// The protocol waits for `on_writable`.
    told_full: bool,
    /// The protocol was told of the drain.
    told_drain: bool,
    /// What was left unconsumed is to be handed over again without waiting for more.
    redeliver: bool,
    /// The deadline may have moved forward since it was last armed.
    deadline_moved: bool,
    /// How much it has sent in bulk lately, see `bulk`.
    bulk: Bulk,
    protocol: P,
}

/// Output that waits, and since when.
#[derive(Debug)]
struct Queue<K> {
    /// What goes out first, if it is in the kernel.
    pipe: Option<Pooled<K>>,
    bytes: SendQueue,
    /// When the socket last took a byte of it, or when it began.
    progress: Instant,
}

impl<K: Pipe> Queue<K> {
    fn new(now: Instant) -> Self {
        Self { pipe: None, bytes: SendQueue::default(), progress: now }
    }

    fn len(&self) -> usize {
        self.pipe.as_ref().map_or(0, |taken| taken.pipe.len()) + self.bytes.len()
    }
}

/// What a connection has only while it needs it: no idle connection owns any.
#[derive(Debug, Default)]
struct Extra {
    /// Input that the protocol left unconsumed.
    unconsumed: Vec<u8>,
    /// Timers of the protocol, by key.
    timers: Vec<(u64, Instant)>,
    /// Since our FIN, while input is discarded.
    linger: Option<Linger>,
    /// The connection that everything is passed on to, or is to be from the next opportunity on.
    relay: Option<Relay>,
    /// That connection has output queued.
    partner_owes: bool,
    /// Who waits for this connection to be made, and under which label.
    requester: Option<(ConnectionId, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relay {
    Wanted(ConnectionId),
    With(ConnectionId),
}

#[derive(Debug)]
struct Linger {
    since: Instant,
    discarded: u64,
}

/// What becomes of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputSide {
    /// It is handed to the protocol.
    Open,
    /// It stays in the kernel until the protocol resumes.
    Paused,
    /// It is read and dropped: the protocol has finished.
    Discarded,
    /// The peer's FIN has come.
    Ended,
}

/// What becomes of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputSide {
    Open,
    /// FIN follows when the queue is flushed, or has followed.
    Ending,
}

/// What the connections of one loop share.
#[derive(Debug)]
pub struct Shared<M, K> {
    /// The time of this turn of the loop.
    pub now: Instant,
    /// The limits.
    pub limits: Config,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// The server's handle, for the protocols.
    pub handle: Handle<M>,
    /// What callbacks ask of other connections.
    pub(crate) outbox: Outbox<M>,
    /// The drain that is going on.
    pub drain: Option<Drain>,
    /// Memory for the send queues.
    buffers: Buffers,
    /// Pipes for connections that send in bulk.
    pipes: Pipes<K>,
    /// Where input is read into.
    buffer: Vec<u8>,
    /// Where a callback's output is gathered.
    output: Vec<u8>,
}

/// Output buffers that grew past this in a spike are given back.
const OUTPUT_CAPACITY_KEPT: usize = 256 << 10;

impl<M, K: Pipe> Shared<M, K> {
    /// For connections with these limits and counters.
    pub fn new(now: Instant, limits: Config, counters: Arc<Counters>, handle: Handle<M>) -> Self {
        let buffer = vec![0; limits.read_buffer_bytes];
        let buffers = Buffers::new(limits.high_water_bytes);
        let pipes = Pipes::new(limits.pipes_max);
        let outbox = Outbox::new(limits.mailbox_capacity);
        Self {
            now,
            limits,
            counters,
            handle,
            outbox,
            drain: None,
            buffers,
            pipes,
            buffer,
            output: Vec::new(),
        }
    }

    /// When [`trim`](Self::trim) has something to do.
    pub fn trim_at(&self) -> Option<Instant> {
        [self.buffers.trim_at(), self.pipes.trim_at()].into_iter().flatten().min()
    }

    /// Gives memory that was not needed for a while back to the system.
    pub fn trim(&mut self) {
        self.buffers.trim(self.now);
        self.pipes.trim(self.now);
    }
}

impl<P: Protocol, T: Transport> Connection<P, T> {
    /// A connection that is made (`Reading`) or being made (`Connecting`).
    pub fn new(id: ConnectionId, state: State, transport: T, protocol: P, now: Instant) -> Self {
        Self {
            id,
            last_activity: now,
            transport,
            queue: None,
            extra: None,
            state,
            ended_by: None,
            fault: None,
            ready: match state {
                State::Connecting => Readiness::NONE,
                State::Reading | State::Echoing | State::HalfClosed | State::Closed(_) => Readiness::WRITE,
            },
            input: InputSide::Open,
            output: OutputSide::Open,
            throttled: false,
            told_full: false,
            told_drain: false,
            redeliver: false,
            deadline_moved: true,
            bulk: Bulk::default(),
            protocol,
        }
    }

    /// The name of the connection.
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Where it is in its life.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The transport, to be registered with a poller.
    pub const fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// The transport.
    pub(crate) const fn transport(&self) -> &T {
        &self.transport
    }

    /// What is spoken on it.
    pub(crate) const fn protocol(&self) -> &P {
        &self.protocol
    }

    /// Output queued, in bytes.
    pub fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }

    /// Whether what still comes is dropped.
    pub fn is_discarding(&self) -> bool {
        self.input == InputSide::Discarded
    }

    /// Notes what may be ready.
    pub fn set_ready(&mut self, ready: Readiness) {
        self.ready.insert(ready);
    }

    /// Whether it waits for the socket to take bytes.
    pub fn wants_writable(&self) -> bool {
        match self.state {
            State::Connecting => true,
            State::Echoing => !self.ready.has(Readiness::WRITE),
            State::Reading | State::HalfClosed | State::Closed(_) => false,
        }
    }

    /// Whether there is something to do without waiting for an event.
    pub fn has_work(&self, limits: &Config) -> bool {
        match self.state {
            State::Closed(_) => false,
            State::Connecting => self.ready != Readiness::NONE,
            State::Reading | State::Echoing | State::HalfClosed => {
                self.can_read(limits)
                    || self.redeliver
                    || (self.queued() > 0 && self.ready.has(Readiness::WRITE))
                    || self.owes_writable(limits)
            }
        }
    }

    /// Tells the protocol that the connection is made.
    pub fn open(&mut self, shared: &mut Shared<P::Message, T::Pipe>) {
        let requests = self.call(shared, |protocol, cx| protocol.on_open(cx));
        self.obey(shared, requests, &[], CloseReason::Finished);
        self.settle(shared);
    }

    /// Hands a message to the protocol.
    pub fn message(&mut self, message: P::Message, shared: &mut Shared<P::Message, T::Pipe>) {
        let requests = self.call(shared, |protocol, cx| protocol.on_message(message, cx));
        self.obey(shared, requests, &[], CloseReason::Finished);
        self.settle(shared);
    }

    /// Tells the protocol that a connection which it asked for was not made.
    pub fn connect_failed(
        &mut self,
        label: u64,
        reason: CloseReason,
        shared: &mut Shared<P::Message, T::Pipe>,
    ) {
        let requests = self.call(shared, |protocol, cx| protocol.on_connect_failed(label, &reason, cx));
        self.obey(shared, requests, &[], CloseReason::Finished);
        self.settle(shared);
    }

    /// Notes who waits for this connection to be made.
    pub fn set_requester(&mut self, requester: ConnectionId, label: u64) {
        self.extra.get_or_insert_default().requester = Some((requester, label));
    }

    fn has_requester(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.requester.is_some())
    }

    /// Who still waits for this connection to be made, when it has ended.
    pub fn take_requester(&mut self) -> Option<(ConnectionId, u64)> {
        let requester = self.extra.as_mut()?.requester.take();
        self.drop_unneeded();
        requester
    }

    /// Ends the connection now. The first reason stays.
    pub fn close(&mut self, reason: CloseReason, shared: &Shared<P::Message, T::Pipe>) {
        if self.state.is_closed() {
            return;
        }
        let unsent = self.queued();
        self.set_state(self.state.close(reason));
        self.queue = None;
        if let Some(extra) = &mut self.extra {
            **extra = Extra { relay: extra.relay, requester: extra.requester, ..Extra::default() };
        }
        self.drop_unneeded();
        if !reason.is_complete() {
            // No peer is to take a truncated stream for a whole one.
            self.transport.reset_on_close();
        }
        shared.counters.bytes_unsent.add(unsent);
        shared.counters.count_closed(reason);
        log::debug!("{}: closed: {reason}, {unsent} bytes unsent", self.id);
        let told = catch_unwind(AssertUnwindSafe(|| self.protocol.on_close(&reason)));
        if told.is_err() {
            shared.counters.panics.add(1);
            log::error!("{}: the protocol panicked in on_close", self.id);
        }
    }

    /// Runs a callback. What it wrote is in `shared.output`.
    fn call(
        &mut self,
        shared: &mut Shared<P::Message, T::Pipe>,
        callback: impl FnOnce(&mut P, &mut Context<'_, P::Message>),
    ) -> Option<Requests> {
        let queued = self.queued();
        shared.output.clear();
        let mut context = Context {
            id: self.id,
            now: shared.now,
            handle: &shared.handle,
            addresses: &self.transport,
            output: &mut shared.output,
            outbox: &mut shared.outbox,
            queued,
            high_water: shared.limits.high_water_bytes,
            is_draining: shared.drain.is_some(),
            requests: Requests {
                output_closed: self.output != OutputSide::Open || self.fault.is_some(),
                ..Requests::default()
            },
        };
        let protocol = &mut self.protocol;
        match catch_unwind(AssertUnwindSafe(|| callback(protocol, &mut context))) {
            Ok(()) => Some(context.requests),
            Err(_) => {
                shared.counters.panics.add(1);
                log::error!("{}: the protocol panicked", self.id);
                None
            }
        }
    }

    /// Does what a callback asked for: sends first, then the rest. `input` is what it was given, `reason`
    /// the reason of the close if this callback is what ends the connection. Returns how many bytes were sent.
    fn obey(
        &mut self,
        shared: &mut Shared<P::Message, T::Pipe>,
        requests: Option<Requests>,
        input: &[u8],
        reason: CloseReason,
    ) -> usize {
        let Some(requests) = requests else {
            self.close(CloseReason::Panicked, shared);
            return 0;
        };
        if self.fault.is_some() {
            shared.counters.bytes_unsent.add(requests.refused);
        }
        self.told_full |= requests.told_full;
        let sent = self.send(&input[requests.forward], shared);
        for (key, at) in requests.timers {
            self.set_timer(key, at);
        }
        match requests.reading {
            Some(Reading::Pause) if self.input == InputSide::Open => {
                self.input = InputSide::Paused;
                self.redeliver = false;
            }
            Some(Reading::Resume) if self.input == InputSide::Paused => {
                self.input = InputSide::Open;
                self.redeliver = self.unconsumed() > 0;
                // In a drain, one that reads is told earlier.
                self.deadline_moved = true;
            }
            Some(Reading::Pause | Reading::Resume) | None => {}
        }
        if let Some(with) = requests.relay {
            self.want_relay(with);
        }
        match requests.ending {
            Some(Ending::GiveUp) => self.close(CloseReason::SlowReader, shared),
            Some(Ending::Abort) => self.close(CloseReason::Aborted, shared),
            Some(Ending::Finish) => self.finish(reason),
            Some(Ending::ShutdownWrite) => self.end_output(reason),
            None => {}
        }
        sent
    }

    /// Nothing more will be written.
    fn end_output(&mut self, reason: CloseReason) {
        self.ended_by.get_or_insert(reason);
        self.output = OutputSide::Ending;
        self.told_full = false;
        self.deadline_moved = true;
    }

    /// Nothing more will be written, and what still comes is of no interest.
    fn finish(&mut self, reason: CloseReason) {
        self.end_output(reason);
        match self.input {
            InputSide::Open | InputSide::Paused => self.input = InputSide::Discarded,
            InputSide::Discarded | InputSide::Ended => {}
        }
        self.redeliver = false;
        if let Some(extra) = &mut self.extra {
            extra.unconsumed = Vec::new();
            extra.timers = Vec::new();
        }
    }

    /// Takes the steps of the disconnect that are due: FIN when everything is sent, close when the peer has
    /// ended too.
    fn settle(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        if !self.output_is_open() {
            self.take_last_steps(shared);
        }
        self.drop_unneeded();
    }

    /// The same for one whose output has an end.
    fn take_last_steps(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        if self.state.is_closed() {
            return;
        }
        let input_waits = self.input == InputSide::Open && (self.redeliver || self.can_read(&shared.limits));
        if let Some(fault) = self.fault
            && !input_waits
        {
            return self.close(fault, shared);
        }
        if self.state == State::Reading && self.output == OutputSide::Ending && self.fault.is_none() {
            self.shut_write(shared);
        }
        if self.state == State::HalfClosed {
            match self.input {
                InputSide::Ended => {
                    let reason = self.ended_by.expect("our FIN was sent for a reason");
                    self.close(reason, shared);
                }
                InputSide::Discarded => self.begin_linger(shared.now),
                InputSide::Open | InputSide::Paused => {}
            }
        }
    }

    /// Sends our FIN: everything before it was sent.
    fn shut_write(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        match self.transport.shutdown_write() {
            Ok(()) => {
                self.set_state(self.state.write_shut());
                self.last_activity = shared.now;
                self.deadline_moved = true;
            }
            Err(error) => {
                log::debug!("{}: shutdown failed: {error}", self.id);
                self.close(io::reason_of(&error, false), shared);
            }
        }
    }

    fn begin_linger(&mut self, now: Instant) {
        let extra = self.extra.get_or_insert_default();
        if extra.linger.is_none() {
            extra.linger = Some(Linger { since: now, discarded: 0 });
            self.last_activity = now;
            self.deadline_moved = true;
        }
    }

    fn drop_unneeded(&mut self) {
        let unneeded = |extra: &Extra| {
            extra.unconsumed.is_empty()
                && extra.timers.is_empty()
                && extra.linger.is_none()
                && extra.relay.is_none()
                && extra.requester.is_none()
        };
        if self.extra.as_deref().is_some_and(unneeded) {
            self.extra = None;
        }
    }

    /// The one place where the state changes.
    fn set_state(&mut self, next: State) {
        if self.state != next {
            log::trace!("{}: {} -> {next}", self.id, self.state);
            self.state = next;
        }
    }

    fn unconsumed(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.unconsumed.len())
    }
}
