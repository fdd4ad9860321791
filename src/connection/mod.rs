//! One client: the state machine, between a protocol and a transport.
//!
//! A connection never sees a socket, a poller or a clock. It is told what may be ready and what time
//! it is, does what can be done without blocking, and says what it waits for.

mod account;
mod acknowledgement;
mod bulk;
mod deadline;
mod disconnect;
pub(crate) mod drain;
mod halves;
mod idle;
mod outbound;
mod queue;
mod recv;
mod relay;
mod send;
pub(crate) mod shared;
pub(crate) mod state;
#[cfg(test)]
mod tests;
mod tls;
mod turn;

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Instant,
};

use self::{
    account::Account,
    acknowledgement::Unacknowledged,
    bulk::Bulk,
    drain::DrainStage,
    halves::{RecvHalf, SendHalf},
    idle::Stamps,
    outbound::Outbound,
    queue::Queue,
    shared::Shared,
    state::State,
    tls::Handshake,
};
use crate::{
    close_reason::CloseReason,
    config::Config,
    connection_id::ConnectionId,
    connection_status::{ConnectionState, ConnectionStatus},
    handle::End,
    networks::Counted,
    peer::Peer,
    protocol::{
        Protocol,
        context::Context,
        requests::{Ending, RareRequests, Reading, Requests},
        timeout::TimerKey,
    },
    system::{readiness::Readiness, transport::Transport},
};

/// One connection: what it is, where it is in its life, and what it waits for.
#[derive(Debug)]
pub struct Connection<P, T: Transport> {
    id: ConnectionId,
    /// Its limits: those of all, of its listener, or its own.
    limits: Rc<Config>,
    /// When the last byte moved in either direction, or the connection changed in another way that
    /// restarts its idle time or its linger silence.
    last_activity: Instant,
    transport: T,
    /// While output waits to be sent.
    queue: Option<Box<Queue<T::Pipe>>>,
    /// What most connections have none of most of the time.
    extra: Option<Box<Extra>>,
    state: State,
    recv: RecvHalf,
    send: SendHalf,
    ready: Readiness,
    /// The queue reached the high-water mark and has not come down to the low-water mark.
    throttled: bool,
    /// The protocol waits for `on_writable`.
    awaits_writable: bool,
    drain: DrainStage,
    /// The peer's system had acknowledged everything when ours was last asked, or ours cannot say; nothing was sent
    /// since.
    all_acknowledged: bool,
    /// The deadline may be earlier than it was when it was last armed.
    deadline_moved: bool,
    /// How much it has sent in bulk lately, see `bulk`.
    bulk: Bulk,
    /// Its last turn took at least half of the budget.
    had_much_to_do: bool,
    /// It has ended, and its protocol was not told yet.
    owes_close: bool,
    /// None as long as a client's handshake is under way.
    protocol: Option<P>,
}

/// What a connection has only while it needs it: no idle connection owns any.
#[derive(Debug, Default)]
struct Extra {
    /// Input that the protocol left unconsumed.
    unconsumed: Vec<u8>,
    /// Timers of the protocol, by key.
    timers: Vec<(TimerKey, Instant)>,
    /// How many answers its protocol waits for: input that it leaves meanwhile is kept.
    answers_due: u32,
    /// What the last look found on its way to the peer.
    unacknowledged: Option<Unacknowledged>,
    /// When our FIN was seen to be acknowledged, while input is discarded.
    lingers_since: Option<Instant>,
    /// Bytes discarded since our FIN.
    discarded: u64,
    /// When it last received and sent.
    stamps: Option<Stamps>,
    /// The connection that everything is passed on to, or is to be from the next opportunity on.
    relay: Option<Relay>,
    /// That connection has output queued.
    partner_owes: bool,
    /// Who waits for whom to be made.
    outbound: Option<Box<Outbound>>,
    /// A TLS handshake that is under way, or to begin.
    handshake: Option<Box<Handshake>>,
    /// It counts among those from its address.
    counted: Option<Counted>,
    /// Where its end is logged.
    account: Option<Box<Account>>,
}

impl Extra {
    /// So many bytes came.
    const fn note_received(&mut self, n: usize, now: Instant) {
        self.stamp_received(now);
        if let Some(account) = &mut self.account {
            account.note_received(n);
        }
    }

    /// The system took so many bytes.
    const fn note_sent(&mut self, n: usize, now: Instant) {
        self.stamp_sent(now);
        if let Some(unacknowledged) = &mut self.unacknowledged {
            unacknowledged.add(n);
        }
        if let Some(account) = &mut self.account {
            account.note_sent(n);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relay {
    Wanted(ConnectionId),
    With(ConnectionId),
}

impl<P: Protocol, T: Transport> Connection<P, T> {
    /// A connection that is made (`Reading`) or being made (`Connecting`); a client whose handshake is under way has no
    /// protocol yet.
    pub fn new(
        id: ConnectionId,
        state: State,
        transport: T,
        protocol: impl Into<Option<P>>,
        now: Instant,
        limits: Rc<Config>,
    ) -> Self {
        Self {
            id,
            limits,
            last_activity: now,
            transport,
            queue: None,
            extra: None,
            state,
            recv: RecvHalf::Open,
            send: SendHalf::Open,
            ready: match state {
                State::Connecting => Readiness::NONE,
                State::Reading | State::Echoing | State::HalfClosed | State::Closed(_) => Readiness::WRITE,
            },
            throttled: false,
            awaits_writable: false,
            drain: DrainStage::Untold,
            all_acknowledged: false,
            deadline_moved: true,
            bulk: Bulk::default(),
            had_much_to_do: false,
            owes_close: false,
            protocol: protocol.into(),
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

    /// Its limits.
    pub(crate) fn limits(&self) -> &Config {
        &self.limits
    }

    /// What is spoken on it.
    pub(crate) const fn protocol(&self) -> Option<&P> {
        self.protocol.as_ref()
    }

    /// Output queued, in bytes.
    pub fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }

    /// Whether what still comes is dropped.
    pub fn is_discarding(&self) -> bool {
        self.recv == RecvHalf::Discarded
    }

    /// Whether what comes stays in the kernel until the protocol resumes.
    pub fn is_paused(&self) -> bool {
        self.recv == RecvHalf::Paused
    }

    /// What it is doing; nothing any more if it has ended.
    pub fn status(&self, now: Instant) -> Option<ConnectionStatus> {
        let state = match self.state {
            State::Connecting => ConnectionState::Connecting,
            State::Reading => ConnectionState::Reading,
            State::Echoing => ConnectionState::Echoing,
            State::HalfClosed => ConnectionState::HalfClosed,
            State::Closed(_) => return None,
        };
        Some(ConnectionStatus {
            id: self.id,
            state,
            peer: self.transport.peer_addr().ok(),
            quiet: now.saturating_duration_since(self.last_activity),
            queued_bytes: self.queued(),
            unconsumed_bytes: self.unconsumed(),
            is_paused: self.is_paused(),
            relayed_with: self.partner(),
        })
    }

    /// Ends it, as its protocol would. One that is not made yet is given up.
    pub fn end(&mut self, end: End, shared: &mut Shared<P::Message, T::Pipe>) {
        match (self.state, end) {
            (State::Closed(_), _) => {}
            (State::Connecting, _) => self.close(CloseReason::Cancelled, shared),
            (State::Reading | State::Echoing | State::HalfClosed, End::Finish) => {
                self.finish(CloseReason::Finished);
                self.settle(shared);
            }
            (State::Reading | State::Echoing | State::HalfClosed, End::Abort) => {
                self.close(CloseReason::Aborted, shared);
            }
        }
    }

    /// It counts among those from its address until it ends.
    pub(crate) fn set_counted(&mut self, counted: Counted) {
        if !self.state.is_closed() {
            self.extra.get_or_insert_default().counted = Some(counted);
        }
    }

    /// Notes what may be ready.
    pub fn set_ready(&mut self, ready: Readiness) {
        self.ready.insert(ready);
    }

    /// Whether it waits for the socket to take bytes.
    pub fn wants_writable(&self) -> bool {
        match self.state {
            // A client has no protocol yet, and is connected. After its handshake it waits for its protocol only.
            State::Connecting => {
                self.protocol.is_some() || (self.transport.is_handshaking() && self.transport.has_output())
            }
            State::Echoing => !self.ready.has(Readiness::WRITE),
            State::Reading | State::HalfClosed => {
                !self.ready.has(Readiness::WRITE) && self.transport.has_output()
            }
            State::Closed(_) => false,
        }
    }

    /// Whether its last turn took at least half of the budget, so that others would wait for the next.
    pub const fn had_much_to_do(&self) -> bool {
        self.had_much_to_do
    }

    /// Whether there is something to do without waiting for an event.
    pub fn has_work(&self) -> bool {
        match self.state {
            State::Closed(_) => false,
            State::Connecting => self.ready.is_worth_a_try(),
            State::Reading | State::Echoing | State::HalfClosed => {
                self.can_read()
                    || self.recv == RecvHalf::Resumed
                    || (self.queued() > 0 && self.ready.has(Readiness::WRITE))
                    || self.owes_writable()
            }
        }
    }

    /// Tells the protocol that the connection is made.
    pub fn open(&mut self, shared: &mut Shared<P::Message, T::Pipe>) {
        self.begin_account(shared.now);
        self.begin_stamps(shared.now);
        let requests = self.call(shared, |protocol, cx| protocol.on_open(cx));
        self.apply(shared, requests, &[], CloseReason::Finished);
        self.settle(shared);
    }

    /// Hands a message to the protocol.
    pub fn message(&mut self, message: P::Message, shared: &mut Shared<P::Message, T::Pipe>) {
        let requests = self.call(shared, |protocol, cx| protocol.on_message(message, cx));
        self.apply(shared, requests, &[], CloseReason::Finished);
        self.settle(shared);
    }

    /// Tells the protocol that the server may stop soon.
    pub fn prestop(&mut self, shared: &mut Shared<P::Message, T::Pipe>) {
        let requests = self.call(shared, |protocol, cx| protocol.on_prestop(cx));
        self.apply(shared, requests, &[], CloseReason::Finished);
        self.settle(shared);
    }

    /// Hands what came of work that blocks to the protocol; none where that has panicked.
    pub fn answer(&mut self, message: Option<P::Message>, shared: &mut Shared<P::Message, T::Pipe>) {
        let Some(message) = message else { return self.close(CloseReason::Panicked, shared) };
        let requests = self.call(shared, |protocol, cx| protocol.on_message(message, cx));
        self.apply(shared, requests, &[], CloseReason::Finished);
        self.note_answer(shared);
    }

    /// Tells the protocol that a connection which it asked for is made.
    pub fn connected(&mut self, label: u64, peer: &Peer<'_>, shared: &mut Shared<P::Message, T::Pipe>) {
        let requests = self.call(shared, |protocol, cx| protocol.on_connected(label, peer, cx));
        self.apply(shared, requests, &[], CloseReason::Finished);
        self.note_answer(shared);
    }

    /// Tells the protocol that a connection which it asked for was not made.
    pub fn connect_failed(
        &mut self,
        label: u64,
        reason: CloseReason,
        shared: &mut Shared<P::Message, T::Pipe>,
    ) {
        let requests = self.call(shared, |protocol, cx| protocol.on_connect_failed(label, &reason, cx));
        self.apply(shared, requests, &[], CloseReason::Finished);
        self.note_answer(shared);
    }

    /// An answer that it waited for has come. What it left meanwhile must be dealt with now.
    pub fn note_answer(&mut self, shared: &mut Shared<P::Message, T::Pipe>) {
        if let Some(extra) = &mut self.extra {
            extra.answers_due = extra.answers_due.saturating_sub(1);
        }
        self.check_unconsumed(shared);
        self.settle(shared);
    }

    /// Whether the protocol waits for an answer.
    fn awaits_answer(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.answers_due > 0)
    }

    /// Tells the protocol that the connection has ended, once.
    pub fn tell_close(&mut self, shared: &mut Shared<P::Message, T::Pipe>) {
        if let State::Closed(reason) = self.state
            && mem::take(&mut self.owes_close)
        {
            self.call(shared, |protocol, cx| {
                cx.requests.output_closed = true;
                protocol.on_close(&reason, cx);
            });
            shared.trim_output();
        }
    }

    /// Runs a callback. What it wrote is in `shared.output`.
    fn call(
        &mut self,
        shared: &mut Shared<P::Message, T::Pipe>,
        callback: impl FnOnce(&mut P, &mut Context<'_, P::Message>),
    ) -> Option<Requests> {
        let queued = self.queued() + self.held();
        let timers = self.extra.as_ref().map(|extra| &extra.timers);
        let context = Context {
            queued,
            timers,
            high_water: self.limits.high_water_bytes,
            requests: Requests { output_closed: !self.send.is_open(), ..Requests::default() },
            ..shared.context(self.id, &self.transport)
        };
        let Some(protocol) = &mut self.protocol else { return Some(Requests::default()) };
        call(protocol, context, callback).inspect_err(|_| shared.counters.panics.add(1)).ok()
    }

    /// Applies what a callback asked for: sends first, then the rest. `input` is what it was given, `reason`
    /// the reason of the close if this callback is what ends the connection. Returns how many bytes were sent.
    fn apply(
        &mut self,
        shared: &mut Shared<P::Message, T::Pipe>,
        requests: Option<Requests>,
        input: &[u8],
        reason: CloseReason,
    ) -> usize {
        let Some(mut requests) = requests else {
            self.close(CloseReason::Panicked, shared);
            return 0;
        };
        if self.send.fault().is_some() {
            self.lose(requests.refused, shared);
        }
        self.awaits_writable |= requests.told_full;
        if self.extra.is_some() || requests.rare.is_some() {
            self.hold_back_secrets(&mut requests, input, shared);
        }
        let forward = &input[requests.forward.clone()];
        let sent = match &mut requests.rare {
            Some(rare) if !rare.shared.is_empty() => {
                self.send_pieces(forward, mem::take(&mut rare.shared), shared)
            }
            Some(_) | None => self.send_or_queue(forward, shared),
        };
        if let Some(rare) = requests.take_rare() {
            self.apply_rare(*rare, shared.now);
        }
        match requests.reading {
            Some(Reading::Pause) if self.recv.is_open() => self.set_recv(RecvHalf::Paused),
            Some(Reading::Resume) if self.wants_tls() => {}
            Some(Reading::Resume) if self.recv == RecvHalf::Paused || self.recv.is_open() => {
                let has_left = self.unconsumed() > 0;
                self.set_recv(if has_left { RecvHalf::Resumed } else { RecvHalf::Open });
                self.restart_read_idle(shared.now);
            }
            Some(Reading::Pause | Reading::Resume) | None => {}
        }
        match requests.ending {
            Some(Ending::GiveUp) => self.close(CloseReason::SlowReader, shared),
            Some(Ending::Abort) => self.close(CloseReason::Aborted, shared),
            Some(Ending::AbortBecause(cause)) => self.close(CloseReason::AbortedBecause(cause), shared),
            Some(Ending::Finish) => self.finish(reason),
            Some(Ending::ShutdownWrite) => self.end_send(reason),
            None => {}
        }
        sent
    }

    /// The same for what few callbacks ask for.
    #[cold]
    fn apply_rare(&mut self, rare: RareRequests, now: Instant) {
        for (key, at) in rare.timers {
            self.set_timer(key, at);
        }
        for (which, timeout) in rare.idle_timeouts {
            self.set_idle_timeout(which, timeout, now);
        }
        if let Some(with) = rare.relay {
            self.want_relay(with);
        }
        if rare.answers_due > 0 && !self.state.is_closed() {
            self.extra.get_or_insert_default().answers_due += rare.answers_due;
        }
    }

    /// Frees what it has no need of any more.
    fn trim(&mut self) {
        let unneeded = |extra: &Extra| {
            extra.unconsumed.is_empty()
                && extra.timers.is_empty()
                && extra.answers_due == 0
                && extra.stamps.is_none()
                && extra.counted.is_none()
                && extra.unacknowledged.is_none()
                && extra.lingers_since.is_none()
                && extra.discarded == 0
                && extra.relay.is_none()
                && extra.outbound.is_none()
                && extra.handshake.is_none()
                && extra.account.is_none()
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
            self.deadline_moved = true;
        }
    }

    /// The one place where the receiving half changes.
    fn set_recv(&mut self, next: RecvHalf) {
        if self.recv != next {
            log::trace!("{}: receiving: {} -> {next}", self.id, self.recv);
            self.recv = next;
            self.deadline_moved = true;
        }
    }

    /// The one place where the sending half changes.
    fn set_send(&mut self, next: SendHalf) {
        if self.send != next {
            log::trace!("{}: sending: {} -> {next}", self.id, self.send);
            self.send = next;
            self.deadline_moved = true;
        }
    }
}

/// Runs a callback, and says what it asked for.
#[inline]
pub(crate) fn call<P: Protocol>(
    protocol: &mut P,
    mut context: Context<'_, P::Message>,
    callback: impl FnOnce(&mut P, &mut Context<'_, P::Message>),
) -> Result<Requests, Panicked> {
    match catch_unwind(AssertUnwindSafe(|| callback(protocol, &mut context))) {
        Ok(()) => Ok(context.requests),
        Err(_) => {
            log::error!(connection:% = context.id; "{}: the protocol panicked", context.id);
            Err(Panicked)
        }
    }
}

/// A callback of a protocol panicked.
#[derive(Debug)]
pub(crate) struct Panicked;
