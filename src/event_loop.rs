//! The loop: wait for events, let everyone have their turn, and again.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Waker, event::Event};

use crate::{
    Address, CloseReason, Config, ConnectionId, Error, Handle, Origin, Peer, Protocol,
    connection::{Readiness, State},
    connection_id::{reserved, reserved_token},
    connections::Connections,
    handle::{Mailbox, Order, Request, Wake},
    listener::{Attempt, ListenSocket, Listener},
    outbox::Dial,
    stats::Counters,
    transport::{Stream, Transport},
};

/// The reserved token of the waker; the listeners' follow.
const WAKER: usize = 0;

/// Requests taken from the mailbox before the connections have their turn.
pub(crate) const REQUESTS_PER_TURN: usize = 256;

/// What a loop is made of before it runs, while it can still go to another thread.
#[derive(Debug)]
pub(crate) struct Parts<M> {
    pub(crate) worker: u32,
    pub(crate) poll: Poll,
    pub(crate) listeners: Vec<ListenSocket>,
    pub(crate) mailbox: Mailbox<M>,
    pub(crate) handle: Handle<M>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Config,
    /// This worker's share of the connections.
    pub(crate) capacity: usize,
}

/// One thread's loop and all that is on it.
pub(crate) struct EventLoop<'a, P: Protocol> {
    poll: Poll,
    events: Events,
    /// By position in the server's list of addresses; closed ones are gone.
    listeners: Vec<Option<Listener<ListenSocket>>>,
    connections: Connections<P, Stream>,
    mailbox: Mailbox<P::Message>,
    factory: &'a dyn Fn(&Peer<'_>) -> Option<P>,
    counters: Arc<Counters>,
    limits: Config,
    /// How many connections may still be accepted.
    accepts_left: u64,
    now: Instant,
    mailbox_has_more: bool,
    /// The listener that is served first in this turn.
    first_listener: usize,
}

/// Wakes a loop from another thread.
#[derive(Debug)]
pub(crate) struct LoopWaker(pub(crate) Waker);

impl Wake for LoopWaker {
    fn wake(&self) -> io::Result<()> {
        self.0.wake()
    }
}

/// A poller with its waker.
pub(crate) fn poll_with_waker() -> io::Result<(Poll, LoopWaker)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), reserved_token(WAKER))?;
    Ok((poll, LoopWaker(waker)))
}

/// The one place that reads the clock.
#[expect(clippy::disallowed_methods, reason = "everything below takes this as an argument")]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

impl<'a, P: Protocol> EventLoop<'a, P> {
    pub(crate) fn new(
        parts: Parts<P::Message>,
        factory: &'a dyn Fn(&Peer<'_>) -> Option<P>,
    ) -> Result<Self, Error> {
        let Parts { worker, poll, listeners, mailbox, handle, counters, limits, capacity } = parts;
        let now = clock();
        let connections =
            Connections::new(worker, capacity, now, limits.clone(), Arc::clone(&counters), handle);
        let mut listening = Vec::with_capacity(listeners.len());
        for (position, mut socket) in listeners.into_iter().enumerate() {
            let token = reserved_token(WAKER + 1 + position);
            poll.registry()
                .register(&mut socket, token, Interest::READABLE)
                .map_err(|source| Error::Loop { what: "cannot watch a listener", source })?;
            listening.push(Some(Listener::new(socket)));
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(limits.event_batch),
            listeners: listening,
            connections,
            mailbox,
            factory,
            counters,
            accepts_left: limits.accept_limit.unwrap_or(u64::MAX),
            limits,
            now,
            mailbox_has_more: false,
            first_listener: 0,
        })
    }

    /// Serves until there is nothing left to do: no listener, no connection and no request, nor any to come.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        self.read_mailbox();
        let mut result = Ok(());
        while !self.is_finished() {
            if let Err(error) = self.wait() {
                result = Err(error);
                self.abort();
            }
            self.connections.run_ready(&mut self.poll.registry());
            self.read_mailbox();
            self.connections.run_deadlines(&mut self.poll.registry());
            self.run_outbox();
            self.accept();
            self.reap();
        }
        self.refuse_mail();
        result
    }

    /// What was sent while the loop came to its end reaches nobody.
    fn refuse_mail(&self) {
        while let Some(request) = self.mailbox.next() {
            if let Request::Send(..) = request {
                self.counters.messages_undeliverable.add(1);
            }
        }
    }

    fn is_finished(&self) -> bool {
        let has_mail = self.mailbox_has_more || self.mailbox.is_woken();
        let has_connections = !self.connections.is_empty() || self.connections.has_work();
        let has_nothing = self.listeners.iter().all(Option::is_none) && !has_connections && !has_mail;
        has_nothing && !(self.limits.keep_running && self.mailbox.order() == Order::Run)
    }

    /// Waits for events, until the next deadline at most, and notes what is ready.
    fn wait(&mut self) -> Result<(), Error> {
        self.set_now(clock());
        let timeout = self.timeout();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(Error::Loop { what: "cannot wait for events", source: error });
            }
            // After a signal there are no events: go on with an ordinary turn.
            Ok(()) | Err(_) => {}
        }
        self.set_now(clock());
        for event in &self.events {
            match reserved(event.token()) {
                None => self.connections.notice(event.token(), readiness(event)),
                Some(WAKER) => {}
                Some(n) => {
                    if let Some(listener) = &mut self.listeners[n - WAKER - 1] {
                        listener.set_ready();
                    }
                }
            }
        }
        Ok(())
    }

    /// How long to wait for events: not at all while there is work.
    fn timeout(&self) -> Option<Duration> {
        let can_accept = self.connections.has_room_for_clients();
        let accept_is_due =
            can_accept && self.listeners.iter().flatten().any(|listener| listener.is_ready(self.now));
        let has_mail = self.mailbox_has_more || self.mailbox.is_woken();
        if self.connections.has_work() || has_mail || accept_is_due {
            return Some(Duration::ZERO);
        }
        let retries = self.listeners.iter().flatten().filter(|_| can_accept).filter_map(Listener::retry_at);
        let next = retries.chain(self.connections.next_deadline()).min()?;
        Some(next.saturating_duration_since(self.now))
    }

    fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.connections.set_now(now);
    }

    /// Does what other threads have asked for.
    fn read_mailbox(&mut self) {
        self.mailbox.open();
        match self.mailbox.order() {
            Order::Run => {}
            Order::Drain => self.begin_drain(),
            Order::Abort => return self.abort(),
        }
        self.mailbox_has_more = true;
        for _ in 0..REQUESTS_PER_TURN {
            if !self.connections.has_mail_room() {
                break;
            }
            match self.mailbox.next() {
                Some(Request::Send(id, message)) => {
                    self.connections.post(id, message, &mut self.poll.registry());
                }
                Some(Request::SendAll(message, clone)) => {
                    self.connections.message_all(message, clone);
                }
                Some(Request::Connect(address, label)) => self.connect(&address, label, None),
                None => {
                    self.mailbox_has_more = false;
                    break;
                }
            }
        }
    }

    /// Does what callbacks asked of others.
    fn run_outbox(&mut self) {
        for _ in 0..self.limits.accept_burst {
            let Some(Dial { by, address, label, .. }) = self.connections.next_dial() else { break };
            self.connect(&address, label, Some(by));
        }
        self.connections.run_mail(&mut self.poll.registry());
    }

    fn begin_drain(&mut self) {
        if self.connections.is_draining() {
            return;
        }
        log::info!("draining {} connections", self.connections.len());
        self.connections.begin_drain();
        // Clients that are in the backlog now are served. Those that come later are not counted on.
        let mut in_backlogs = 0;
        for listener in self.listeners.iter_mut().flatten() {
            listener.retry();
            in_backlogs += u64::from(self.limits.backlog) + 1;
        }
        self.accepts_left = self.accepts_left.min(in_backlogs);
    }

    fn abort(&mut self) {
        self.listeners.fill_with(|| None);
        self.mailbox_has_more = false;
        self.connections.close_all(CloseReason::Aborted, &mut self.poll.registry());
        self.connections.refuse_mail();
    }

    /// Accepts from each listener, a burst at most, as long as there is room for connections.
    fn accept(&mut self) {
        let listeners = self.listeners.len();
        for position in (self.first_listener..listeners).chain(0..self.first_listener) {
            for _ in 0..self.limits.accept_burst {
                if !self.connections.has_room_for_clients() || self.accepts_left == 0 {
                    break;
                }
                let Some(listener) = &mut self.listeners[position] else { break };
                if !listener.is_ready(self.now) {
                    break;
                }
                match listener.accept(self.now, &self.counters) {
                    Attempt::Accepted(stream, address) => {
                        self.accepts_left -= 1;
                        self.counters.accepted.add(1);
                        // The others are first next time: none is starved of the last places.
                        self.first_listener = (position + 1) % listeners;
                        self.admit(stream, &address, Origin::Listener(position), None);
                    }
                    Attempt::Lost => {}
                    Attempt::Pause => break,
                }
            }
            self.close_listener_if_done(position);
        }
    }

    /// Stops listening when no more clients are to come, or in a drain when the backlog is empty.
    fn close_listener_if_done(&mut self, position: usize) {
        if self.connections.is_past_drain() {
            self.cut_off_backlog(position);
        }
        let Some(listener) = &self.listeners[position] else { return };
        if (self.connections.is_draining() && listener.is_drained()) || self.accepts_left == 0 {
            self.listeners[position] = None;
        }
    }

    /// At the drain deadline: the clients that waited for a place get none. They are told, and counted.
    fn cut_off_backlog(&mut self, position: usize) {
        let Some(mut listener) = self.listeners[position].take() else { return };
        for _ in 0..=self.limits.backlog {
            match listener.accept(self.now, &self.counters) {
                Attempt::Accepted(mut stream, address) => {
                    log::debug!("{address}: cut off in the backlog");
                    self.counters.accepted.add(1);
                    self.counters.count_closed(CloseReason::DrainTimeout);
                    stream.reset_on_close();
                }
                Attempt::Lost => {}
                Attempt::Pause => break,
            }
        }
    }

    /// Gives a new connection its protocol and puts it on the loop. Whatever goes wrong here costs this
    /// connection only.
    fn admit(
        &mut self,
        stream: Stream,
        address: &Address,
        origin: Origin,
        requested_by: Option<ConnectionId>,
    ) {
        let state = match origin {
            Origin::Listener(_) => State::Reading,
            Origin::Connect(_) => State::Connecting,
        };
        if state == State::Connecting || !INHERITS_OPTIONS {
            let options = stream.set_options(self.limits.nodelay, self.limits.keepalive);
            if let Err(error) = options {
                // For example a peer that is gone already; reading will tell.
                log::debug!("{address}: cannot set socket options: {error}");
            }
        }
        let id = self.connections.next_id();
        let peer = Peer { id, origin, address, requested_by };
        let protocol = match catch_unwind(AssertUnwindSafe(|| (self.factory)(&peer))) {
            Ok(Some(protocol)) => protocol,
            Ok(None) => {
                self.counters.refused.add(1);
                return self.tell_not_made(origin, requested_by, io::ErrorKind::PermissionDenied);
            }
            Err(_) => {
                self.counters.refused.add(1);
                self.counters.panics.add(1);
                log::error!("{address}: the factory panicked");
                return self.tell_not_made(origin, requested_by, io::ErrorKind::PermissionDenied);
            }
        };
        match self.connections.add(id, state, stream, protocol, &mut self.poll.registry()) {
            Ok(()) => {
                log::debug!("{id}: {address}, {origin:?}");
                if let (Origin::Connect(label), Some(by)) = (origin, requested_by) {
                    self.connections.set_requester(id, by, label);
                }
            }
            Err(error) => {
                log::debug!("{address}: cannot be watched: {error}");
                self.tell_not_made(origin, requested_by, error.kind());
            }
        }
    }

    /// Tells the protocol that asked for a connection that nothing came of it.
    fn tell_not_made(&mut self, origin: Origin, requested_by: Option<ConnectionId>, kind: io::ErrorKind) {
        if let (Origin::Connect(label), Some(by)) = (origin, requested_by) {
            self.connections.dial_failed(by, label, CloseReason::ConnectFailed(kind));
        }
    }

    /// Begins an outbound connection. One that fails at once tells its protocol like one that fails later.
    fn connect(&mut self, address: &Address, label: u64, requested_by: Option<ConnectionId>) {
        self.counters.connects.add(1);
        let attempt = if self.connections.has_room() {
            Stream::connect(address)
        } else {
            Err(io::ErrorKind::QuotaExceeded.into())
        };
        let error = match attempt {
            Ok(stream) => return self.admit(stream, address, Origin::Connect(label), requested_by),
            Err(error) => error,
        };
        let reason = CloseReason::ConnectFailed(error.kind());
        log::debug!("{address}: cannot connect: {error}");
        let origin = Origin::Connect(label);
        let peer = Peer { id: self.connections.next_id(), origin, address, requested_by };
        let told = catch_unwind(AssertUnwindSafe(|| {
            if let Some(mut protocol) = (self.factory)(&peer) {
                protocol.on_close(&reason);
            }
        }));
        if told.is_err() {
            self.counters.panics.add(1);
            log::error!("{address}: the factory or the protocol panicked");
        }
        self.counters.count_closed(reason);
        self.tell_not_made(origin, requested_by, error.kind());
    }

    /// Frees the slots of the connections that ended. What they held may be what accepting waits for.
    fn reap(&mut self) {
        if self.connections.reap() {
            for listener in self.listeners.iter_mut().flatten() {
                if listener.retry_at().is_some() {
                    listener.retry();
                }
            }
        }
    }
}

/// Linux hands a listening socket's options on to the connections that it accepts.
const INHERITS_OPTIONS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Every flag is a hint: an event on a direction means that it is worth a try.
fn readiness(event: &Event) -> Readiness {
    let mut ready = Readiness::NONE;
    let is_error = event.is_error();
    if event.is_read_closed() || event.is_priority() || is_error {
        ready.insert(Readiness::MORE);
    }
    if event.is_readable() || event.is_read_closed() || event.is_priority() || is_error {
        ready.insert(Readiness::READ);
    }
    if event.is_writable() || event.is_write_closed() || is_error {
        ready.insert(Readiness::WRITE);
    }
    if is_error {
        ready.insert(Readiness::ERROR);
    }
    ready
}
