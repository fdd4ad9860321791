//! The loop: wait for events, let everyone have their turn, and again.
//!
//! There is this one only. It runs on any [`System`]: the operating system, the kernel of the test kit, the one of the
//! simulator.

use std::{
    collections::HashMap,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use crate::{
    accept::{Attempt, Listener},
    address::Address,
    blocking::Blocking,
    channel::Channel,
    close_reason::CloseReason,
    complaints::Complaints,
    config::Config,
    connection::state::State,
    connection_id::{ConnectionId, LAST_RESERVED, WAKER, reserved, reserved_token},
    connections::Connections,
    datagrams::DatagramEcho,
    deadlines::earliest,
    error::Error,
    handle::{Answer, Handle, Mailbox, Order, Request},
    networks::{Counted, Networks, TooMany},
    outbox::{Dial, Factory},
    peer::{Local, Origin, Peer},
    places::Places,
    protocol::Protocol,
    proxy_protocol::Cidr,
    stats::Counters,
    status::{Accepting, WorkerStatus},
    system::{
        Accepted, System, Wait,
        endpoint::Endpoint,
        transport::{Addresses, Transport},
    },
    tls::{TlsAcceptor, TlsConnector, session::Session},
};

/// What a loop is made of before it runs, while it can still go to another thread.
pub struct Parts<M, S: System> {
    /// The loop's number among those of the server.
    pub worker: u32,
    /// The world around it.
    pub system: S,
    /// Where its clients come from, by position in the server's list of addresses.
    pub endpoints: Vec<Endpoint<S::Listener, S::DatagramSocket>>,
    /// What it is asked for.
    pub mailbox: Mailbox<M>,
    /// How it is asked, for the protocols.
    pub handle: Handle<M>,
    /// Where it leaves what blocks.
    pub blocking: Arc<dyn Blocking>,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Its limits.
    pub limits: Config,
    /// How many clients come from each address, which is counted over all workers, if that is limited.
    pub networks: Option<Arc<Networks>>,
    /// The places for connections, which it shares with the other workers.
    pub places: Arc<Places>,
    /// Address space for the table of connections; `None`: as much as is useful.
    pub table_bytes: Option<usize>,
}

/// A turn is long if it takes more than this part of the silence after which a drain ends a connection.
const LONG_TURN: u32 = 16;

/// One thread's loop and all that is on it. `F` makes a protocol for each new connection, or refuses it.
pub struct EventLoop<P: Protocol, F, S: System> {
    system: S,
    /// By position in the server's list of addresses; closed ones are gone, and where datagrams come there is none.
    listeners: Vec<Option<Listener<S::Listener>>>,
    /// Clients may have come to one of them since all were found to have none.
    may_have_clients: bool,
    /// Only where there is a socket for them: the others have nothing to ask it.
    datagrams: Option<Box<DatagramEcho<S::DatagramSocket>>>,
    connections: Connections<P, Channel<S::Transport>>,
    mailbox: Mailbox<P::Message>,
    factory: F,
    networks: Option<Arc<Networks>>,
    /// The limits of clients of listeners that have their own, by position.
    listener_limits: HashMap<usize, Rc<Config>>,
    /// The server's end of TLS where clients of a listener speak it, by position.
    acceptors: HashMap<usize, TlsAcceptor>,
    counters: Arc<Counters>,
    limits: Config,
    /// How many connections may still be accepted.
    accepts_left: u64,
    now: Instant,
    /// When the drain begins that was ordered.
    grace_ends: Option<Instant>,
    mailbox_has_more: bool,
    setup_complaints: Complaints,
    fullness: Fullness,
    /// The listener that is served first in this turn.
    first_listener: usize,
}

impl<P: Protocol, F: Fn(&Peer<'_>) -> Option<P>, S: System> EventLoop<P, F, S> {
    /// A loop that watches its listeners.
    ///
    /// # Errors
    ///
    /// [`Error::Loop`] if one cannot be watched.
    pub fn new(parts: Parts<P::Message, S>, factory: F) -> Result<Self, Error> {
        let Parts {
            worker,
            mut system,
            endpoints,
            mailbox,
            handle,
            blocking,
            counters,
            limits,
            networks,
            places,
            table_bytes,
        } = parts;
        let now = system.now();
        let mut connections =
            Connections::new(worker, places, now, limits.clone(), Arc::clone(&counters), handle, blocking);
        if let Some(bytes) = table_bytes {
            connections.limit_table(bytes);
        }
        let mut event_loop = Self {
            system,
            listeners: Vec::with_capacity(endpoints.len()),
            may_have_clients: true,
            datagrams: None,
            connections,
            mailbox,
            factory,
            networks,
            listener_limits: HashMap::new(),
            acceptors: HashMap::new(),
            counters,
            accepts_left: limits.accept_limit.unwrap_or(u64::MAX),
            fullness: Fullness { prefix: limits.log_prefix, ..Fullness::default() },
            limits,
            now,
            grace_ends: None,
            mailbox_has_more: false,
            setup_complaints: Complaints::default(),
            first_listener: 0,
        };
        for endpoint in endpoints {
            match endpoint {
                Endpoint::Listener(listener) => event_loop.listen(listener)?,
                Endpoint::Datagrams(sockets) => {
                    event_loop.listeners.push(None);
                    sockets.into_iter().try_for_each(|socket| event_loop.echo_datagrams(socket))?;
                }
            }
        }
        Ok(event_loop)
    }

    /// Accepts clients from one more listener.
    ///
    /// # Errors
    ///
    /// [`Error::Loop`] if it cannot be watched.
    pub fn listen(&mut self, mut listener: S::Listener) -> Result<(), Error> {
        let token = reserved_token(WAKER + 1 + self.listeners.len());
        self.system
            .watch_listener(&mut listener, token)
            .map_err(|source| Error::Loop { what: "cannot watch a listener", source })?;
        self.listeners.push(Some(Listener::new(listener)));
        self.may_have_clients = true;
        Ok(())
    }

    /// Clients of the listener of this position have these limits.
    pub fn set_listener_limits(&mut self, position: usize, limits: Config) {
        self.listener_limits.insert(position, Rc::new(limits));
    }

    /// Clients of the listener of this position speak TLS.
    pub fn set_listener_tls(&mut self, position: usize, acceptor: TlsAcceptor) {
        self.acceptors.insert(position, acceptor);
    }

    /// Echoes the datagrams of one more socket.
    ///
    /// # Errors
    ///
    /// [`Error::Loop`] if it cannot be watched.
    pub fn echo_datagrams(&mut self, mut socket: S::DatagramSocket) -> Result<(), Error> {
        let datagrams = self.datagrams.get_or_insert_default();
        let token = reserved_token(LAST_RESERVED - datagrams.added());
        self.system
            .watch_datagrams(&mut socket, token)
            .map_err(|source| Error::Loop { what: "cannot watch a datagram socket", source })?;
        datagrams.add(socket);
        self.counters.datagram_sockets.add(1);
        Ok(())
    }

    /// Serves until there is nothing left to do; see [`is_finished`](Self::is_finished).
    ///
    /// # Errors
    ///
    /// [`Error::Loop`] if the system fails the loop. Every connection is then reset.
    pub fn run(mut self) -> Result<(), Error> {
        let mut result = Ok(());
        while result.is_ok() && !self.is_finished() {
            result = self.turn();
        }
        self.finish();
        result
    }

    /// One turn: waits for events, and does what there is to do, a bounded amount for each connection.
    ///
    /// # Errors
    ///
    /// [`Error::Loop`] if the system fails the loop. Everything is then closed: the loop is finished.
    pub fn turn(&mut self) -> Result<(), Error> {
        let wait = self.next_wait();
        let mut since = self.now;
        if let Err(source) = self.wait(wait) {
            self.abort(CloseReason::Failed(source.kind()));
            // Those that were to have a turn leave the ready queue by it.
            self.connections.run_ready(&mut self.system);
            self.reap();
            return Err(Error::Loop { what: "cannot wait for events", source });
        }
        let begin = self.now;
        if self.connections.is_draining() {
            since = begin;
        }
        self.connections.run_ready(&mut self.system);
        if self.has_mail() {
            self.read_mailbox();
        }
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.take_turns(self.now, &self.counters);
        }
        if wait.may_be_over(self.now) {
            self.connections.run_deadlines(&mut self.system);
            if self.grace_ends.is_some_and(|at| at <= self.now) {
                self.begin_drain();
            }
        }
        if self.connections.has_requests() {
            self.run_outbox();
        }
        if self.awaits_accept() || self.connections.is_draining() || self.accepts_left == 0 {
            self.accept();
        }
        self.reap();
        if self.connections.is_draining() {
            // If the drain began in it, how long the turn before took is not known: it may have ended just now.
            self.end_turn_of_drain(since);
        }
        if self.limits.measure_turns {
            let took = self.system.now().saturating_duration_since(begin);
            self.counters.turn_durations.observe(took);
        }
        Ok(())
    }

    /// Whether nothing is left to do: no listener, no datagram socket, no connection and no request, nor any to come.
    pub fn is_finished(&self) -> bool {
        let connections = &self.connections;
        if !connections.is_empty() {
            return false;
        }
        let has_datagrams = self.datagrams.as_ref().is_some_and(|datagrams| !datagrams.is_empty());
        let has_sockets = has_datagrams || !self.listeners.iter().all(Option::is_none);
        let has_work = connections.has_work() || connections.has_lookups() || self.has_mail();
        let has_nothing = !has_sockets && !has_work;
        has_nothing && !(self.limits.keep_running && self.mailbox.order() < Order::Drain)
    }

    /// The end of the loop. What was sent to it meanwhile reaches nobody, and is counted.
    pub fn finish(self) {
        while let Some(answer) = self.mailbox.next_answer() {
            if let Answer::Work(_, Some(_)) = answer {
                self.counters.messages_undeliverable.add(1);
            }
        }
        while let Some(request) = self.mailbox.next() {
            if let Request::Send(..) = request {
                self.counters.messages_undeliverable.add(1);
            }
        }
    }

    /// How long the next turn waits for events if none is there: not at all while there is work.
    pub fn next_wait(&self) -> Wait {
        let awaits_accept = self.awaits_accept();
        if awaits_accept || self.connections.dials() > 0 {
            // Other workers may give a place back. What is seen from here on is no older.
            self.connections.wait_for_place();
        }
        if self.connections.has_work() || self.has_mail() {
            return Wait::No;
        }
        let mut until = self.connections.next_deadline();
        if !self.connections.is_draining() {
            until = earliest(until, self.grace_ends);
        }
        if let Some(datagrams) = &self.datagrams {
            if datagrams.is_ready(self.now) {
                return Wait::No;
            }
            until = earliest(until, datagrams.retry_at());
        }
        if self.connections.is_draining() && self.listeners().next().is_some() {
            // Those in the backlogs are cut off too.
            until = earliest(until, self.connections.drain_deadline());
        }
        if awaits_accept && self.connections.has_room_for_clients() {
            if self.listeners().any(|listener| listener.is_ready(self.now)) {
                return Wait::No;
            }
            until = self.listeners().filter_map(Listener::retry_at).fold(until, |a, b| earliest(a, Some(b)));
        }
        until.map_or(Wait::Forever, Wait::Until)
    }

    /// The connections.
    pub const fn connections(&self) -> &Connections<P, Channel<S::Transport>> {
        &self.connections
    }

    /// Whether clients that come now are accepted, sooner or later.
    pub const fn takes_clients(&self) -> bool {
        !self.connections.is_draining() && self.accepts_left > 0
    }

    /// Those that are not closed.
    fn listeners(&self) -> impl Iterator<Item = &Listener<S::Listener>> {
        self.listeners.iter().flatten()
    }

    /// Whether there may be clients in a backlog.
    fn awaits_accept(&self) -> bool {
        self.may_have_clients && self.listeners().any(Listener::awaits_accept)
    }

    /// What others ask for, as far as it is known.
    fn has_mail(&self) -> bool {
        self.mailbox_has_more || self.mailbox.is_woken()
    }

    /// Waits for events and notes what is ready.
    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        self.system.wait(wait)?;
        self.read_clock();
        for (token, ready) in self.system.events() {
            match reserved(token) {
                None => self.connections.notice(token, ready),
                Some(WAKER) => {}
                Some(n) => match self.listeners.get_mut(n - WAKER - 1) {
                    Some(Some(listener)) => {
                        listener.set_ready();
                        self.may_have_clients = true;
                    }
                    Some(None) => {}
                    None => {
                        if let Some(datagrams) = &mut self.datagrams {
                            datagrams.set_ready(LAST_RESERVED - n);
                        }
                    }
                },
            }
        }
        Ok(())
    }

    fn read_clock(&mut self) {
        self.now = self.system.now();
        self.connections.set_now(self.now);
    }

    /// Does what other threads have asked for.
    fn read_mailbox(&mut self) {
        self.mailbox.open();
        match self.mailbox.order() {
            Order::Run => self.connections.set_stopping(false),
            Order::Prestop => self.connections.set_stopping(true),
            Order::DrainNow => self.begin_drain(),
            Order::Drain => self.begin_grace(),
            Order::Abort => return self.abort(CloseReason::ServerAborted),
        }
        self.take_over();
        self.mailbox_has_more = true;
        for _ in 0..self.limits.event_batch {
            if let Some(answer) = self.mailbox.next_answer() {
                self.take_answer(answer);
                continue;
            }
            if !self.connections.has_mail_room() {
                break;
            }
            match self.mailbox.next() {
                Some(Request::Send(id, message)) => {
                    self.connections.post(id, message, &mut self.system);
                }
                Some(Request::SendAll(message, clone)) => {
                    self.connections.message_all(message, clone);
                }
                Some(Request::Connect(address, label, factory, tls)) => {
                    let factory = factory.map(|factory| factory as Factory<P::Message>);
                    let dial = Dial { tls, ..Dial::by_nobody(address, label, factory, self.now) };
                    self.connect_for_others(dial);
                }
                Some(Request::End(id, end)) => {
                    self.connections.end(id, end, &mut self.system);
                }
                Some(Request::List(from, reply)) => {
                    let _ = reply.try_send(self.connections.list(from));
                }
                Some(Request::Status(reply)) => {
                    // Whoever asked may have lost patience.
                    let _ = reply.try_send(self.status());
                }
                Some(Request::Accepting(reply)) => {
                    let _ = reply.try_send(self.accepting());
                }
                None => {
                    self.mailbox_has_more = false;
                    break;
                }
            }
        }
    }

    fn take_answer(&mut self, answer: Answer<P::Message>) {
        match answer {
            Answer::Work(id, message) => self.connections.answer(id, message, &mut self.system),
            Answer::Lookup(ticket, found) => self.connections.looked_up(ticket, found),
        }
    }

    /// Makes a connection that another thread asks for. Where there is no room, it fails at once.
    fn connect_for_others(&mut self, dial: Dial<P::Message>) {
        if matches!(dial.address, Address::Host { .. }) {
            self.connections.look_up(dial);
        } else {
            let has_place = self.connections.take_place();
            self.connect(dial, has_place);
        }
    }

    fn status(&self) -> WorkerStatus {
        let stats = self.counters.snapshot();
        WorkerStatus { accepting: self.accepting(), ..self.connections.status(stats) }
    }

    fn accepting(&self) -> Accepting {
        let mut listeners = self.listeners.iter().flatten().peekable();
        if !self.takes_clients() || listeners.peek().is_none() {
            Accepting::No
        } else if !self.connections.has_room_for_clients() {
            Accepting::Full
        } else if listeners.any(|listener| listener.retry_at().is_some()) {
            Accepting::Short
        } else {
            Accepting::Yes
        }
    }

    /// Does what callbacks asked of others.
    fn run_outbox(&mut self) {
        self.connections.run_lookups();
        while let Some((dial, reason)) = self.connections.next_unfounded() {
            self.tell_unfounded(dial, reason);
        }
        for _ in 0..self.limits.accept_burst {
            let Some(dial) = self.connections.next_dial() else { break };
            self.connect(dial, true);
        }
        let mut left = self.limits.event_batch;
        while let Some(id) = self.connections.run_mail(&mut left, &mut self.system) {
            self.admit_secured(id);
        }
    }

    /// The drain begins now, or after the grace.
    fn begin_grace(&mut self) {
        if self.grace_ends.is_some() {
            return;
        }
        let Some(grace) = self.limits.grace else { return self.begin_drain() };
        self.read_clock();
        self.grace_ends = Some(self.now + grace);
        self.connections.set_stopping(true);
        let (prefix, open) = (self.limits.log_prefix, self.connections.len());
        log::info!("{prefix}a drain follows in {grace:?}, connections open: {open}");
    }

    fn begin_drain(&mut self) {
        if self.connections.is_draining() {
            return;
        }
        log::info!("{}drain begins, connections open: {}", self.limits.log_prefix, self.connections.len());
        // The turn may have begun a while ago, and the drain deadline must not come early by it.
        self.read_clock();
        self.connections.begin_drain();
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.begin_drain();
        }
        // Clients that are in the backlog now are served. Those that come later are not counted on, and must not take
        // the places of others.
        for listener in self.listeners.iter_mut().flatten() {
            listener.stop_taking_over();
            listener.retry();
            self.may_have_clients = true;
            listener.set_limit(u64::from(self.limits.backlog) + 1);
        }
    }

    /// In a drain a short silence ends a connection. What the loop itself has taken since then is no silence of those who
    /// had their turns meanwhile: it had no ear for them.
    fn end_turn_of_drain(&mut self, since: Instant) {
        self.read_clock();
        if self.now.duration_since(since) > self.limits.drain_silence / LONG_TURN {
            self.connections.restart_silence(since);
        }
    }

    fn abort(&mut self, reason: CloseReason) {
        self.listeners.fill_with(|| None);
        self.datagrams = None;
        self.mailbox_has_more = false;
        self.connections.close_all(reason, &mut self.system);
        self.connections.refuse_mail();
    }

    /// Accepts from each listener, a burst at most, as long as there is room for connections.
    fn accept(&mut self) {
        if self.connections.is_past_drain() {
            return self.cut_off_backlogs();
        }
        let listeners = self.listeners.len();
        for position in (self.first_listener..listeners).chain(0..self.first_listener) {
            for _ in 0..self.limits.accept_burst {
                let Some(listener) = &mut self.listeners[position] else { break };
                if !listener.is_ready(self.now) || self.accepts_left == 0 {
                    break;
                }
                if !self.connections.reserve_place_for_client() {
                    self.fullness.note_full(self.now, self.connections.len());
                    break;
                }
                let attempt = listener.accept(self.now, &self.counters);
                if !matches!(attempt, Attempt::Accepted(..)) {
                    self.connections.release_place();
                }
                match attempt {
                    Attempt::Accepted(transport, address) => {
                        self.fullness.note_place();
                        // The others are first next time: none is starved of the last places.
                        self.first_listener = (position + 1) % listeners;
                        self.share((transport, address), position);
                    }
                    Attempt::Lost => {}
                    Attempt::Pause => break,
                }
            }
            self.close_listener_if_done(position);
        }
        self.may_have_clients = self.awaits_accept();
    }

    /// Leaves what was accepted to a worker that has fewer connections, or serves it here. Whoever it is has its place.
    fn share(&mut self, accepted: Accepted<S::Transport>, position: usize) {
        let (places, worker) = self.connections.places();
        // In a drain everyone ends what it has.
        let other = if self.connections.is_draining() { None } else { places.with_fewer(worker) };
        let (Some(other), Some(listener)) = (other, &mut self.listeners[position]) else {
            places.assign(worker);
            return self.admit_client(accepted, position);
        };
        places.assign(other);
        match listener.hand_over(accepted, other) {
            Ok(()) => places.wake(other),
            Err(accepted) => {
                places.pass(other, worker);
                self.admit_client(accepted, position);
            }
        }
    }

    /// Serves what others have accepted and left to this worker. They have their places, and the others have woken it.
    fn take_over(&mut self) {
        for position in 0..self.listeners.len() {
            while let Some(accepted) = self.listeners[position].as_mut().and_then(Listener::handed_over) {
                self.admit_client(accepted, position);
            }
        }
    }

    /// Stops listening when no more clients are to come, or in a drain when the backlog is empty.
    fn close_listener_if_done(&mut self, position: usize) {
        let Some(listener) = &self.listeners[position] else { return };
        if (self.connections.is_draining() && listener.is_drained()) || self.accepts_left == 0 {
            self.listeners[position] = None;
        }
    }

    /// At the drain deadline: the clients that waited for a place get none. They are told, and counted.
    fn cut_off_backlogs(&mut self) {
        if !self.connections.is_empty() {
            // Accepting may need the descriptors that they have. They end in this turn.
            return;
        }
        for mut listener in self.listeners.iter_mut().filter_map(Option::take) {
            let mut left = u64::from(self.limits.backlog) + 1;
            while left > 0 {
                match listener.accept(self.now, &self.counters) {
                    Attempt::Accepted(mut transport, address) => {
                        log::debug!(peer:% = address; "{address}: cut off in the backlog");
                        self.counters.accepted.add(1);
                        self.counters.count_closed(CloseReason::DrainTimeout);
                        transport.reset_on_close();
                        left -= 1;
                    }
                    Attempt::Lost => {}
                    // Closing the listener resets those who are still there, if any.
                    Attempt::Pause => break,
                }
            }
        }
    }

    /// Gives a client that was accepted its protocol. One that gets none is reset.
    fn admit_client(&mut self, (mut transport, address): Accepted<S::Transport>, position: usize) {
        self.accepts_left = self.accepts_left.saturating_sub(1);
        self.counters.accepted.add(1);
        let limits = Rc::clone(self.listener_limits.get(&position).unwrap_or(self.connections.limits()));
        let has_preface = !limits.proxy_protocol.is_empty();
        if has_preface && !is_trusted(&address, &limits.proxy_protocol) {
            log::debug!(peer:% = address; "{address}: it is none of the proxies through which clients come");
            self.connections.give_place_back();
            self.counters.count_closed(CloseReason::ProxyRefused);
            return transport.reset_on_close();
        }
        // Who comes through a proxy is counted when it is known who that is.
        let counted = if has_preface { Ok(None) } else { self.count(&address) };
        let Ok(counted) = counted else {
            log::debug!(peer:% = address; "{address}: there are as many connections from there as there may be");
            self.connections.give_place_back();
            self.counters.over_ip_limit.add(1);
            return transport.reset_on_close();
        };
        let id = self.connections.next_id();
        let session = self.acceptors.get(&position).map(TlsAcceptor::session);
        let added = if has_preface || session.is_some() {
            // It gets its protocol when it is known who it is, and its handshake is over.
            let mut channel = Channel::new(transport);
            if has_preface {
                channel.expect_preface(address.clone());
            }
            self.begin_client_handshake(id, channel, session, &address, position, &limits)
        } else {
            let (origin, local) = (Origin::Listener(position), Local::Ask(&transport));
            let peer = Peer { id, origin, address: &address, requested_by: None, local };
            let Some(protocol) = self.make_protocol(&peer) else {
                self.connections.give_place_back();
                self.counters.refused.add(1);
                return transport.reset_on_close();
            };
            let channel = Channel::new(transport);
            self.connections.add(id, State::Reading, channel, protocol, &limits, &mut self.system)
        };
        match added {
            Ok(()) => {
                if let Some(counted) = counted {
                    self.connections.set_counted(id, counted);
                }
                let prefix = self.limits.log_prefix;
                log::debug!(
                    connection:% = format_args!("{prefix}{id}"), peer:% = address;
                    "{prefix}{id}: {address}, accepted by listener {position}"
                );
            }
            Err(error) => {
                log::debug!("{address}: cannot register with the poller: {error}");
                if self.setup_complaints.is_due(self.now) {
                    log::warn!("cannot register a client with the poller: {error}; such clients are reset");
                }
            }
        }
    }

    fn begin_client_handshake(
        &mut self,
        id: ConnectionId,
        mut channel: Channel<S::Transport>,
        session: Option<io::Result<Box<dyn Session>>>,
        address: &Address,
        position: usize,
        limits: &Rc<Config>,
    ) -> io::Result<()> {
        let mut secure = |session| channel.secure(session, self.connections.scratch());
        if let Some(Err(error)) = session.map(|session| session.and_then(&mut secure)) {
            self.connections.give_place_back();
            self.counters.setup_failures.add(1);
            channel.reset_on_close();
            return Err(error);
        }
        self.connections.add(id, State::Connecting, channel, None, limits, &mut self.system)?;
        self.connections.begin_handshake(id, (address.clone(), position));
        Ok(())
    }

    /// Gives a client whose handshake is over its protocol.
    fn admit_secured(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let Some((address, position)) = connection.client() else { return };
        let channel = connection.transport();
        if let Some(tls) = channel.tls() {
            self.counters.handshakes.add(1);
            self.counters.handshakes_resumed.add(usize::from(tls.is_resumed));
        }
        self.counters.proxied.add(usize::from(channel.proxied().is_some()));
        let said = channel.proxied().and_then(|proxied| proxied.header.addresses);
        let address = said.as_ref().map_or(address, |said| &said.source);
        let counted =
            if connection.limits().proxy_protocol.is_empty() { Ok(None) } else { self.count(address) };
        let Ok(counted) = counted else {
            log::debug!("{id}: there are as many connections from {address} as there may be");
            self.counters.over_ip_limit.add(1);
            return self.connections.drop_client(id, &mut self.system);
        };
        let (origin, local) = (Origin::Listener(*position), Local::Ask(channel));
        let peer = Peer { id, origin, address, requested_by: None, local };
        let Some(protocol) = self.make_protocol(&peer) else {
            self.counters.refused.add(1);
            return self.connections.drop_client(id, &mut self.system);
        };
        self.connections.admit(id, protocol, &mut self.system);
        if let Some(counted) = counted {
            self.connections.set_counted(id, counted);
        }
    }

    /// Counts the client of this address among those from there.
    fn count(&self, address: &Address) -> Result<Option<Counted>, TooMany> {
        match &self.networks {
            None => Ok(None),
            Some(networks) => Networks::count(networks, address),
        }
    }

    /// The factory's answer; none too if it panicked.
    fn make_protocol(&self, peer: &Peer<'_>) -> Option<P> {
        self.caught(peer, || (self.factory)(peer))
    }

    fn caught(&self, peer: &Peer<'_>, factory: impl FnOnce() -> Option<P>) -> Option<P> {
        catch_unwind(AssertUnwindSafe(factory)).unwrap_or_else(|_| {
            self.counters.panics.add(1);
            log::error!("{}: the factory panicked", peer.address);
            None
        })
    }

    /// Begins an outbound connection. Whatever becomes of it, its protocol is told of its end, and so is the one that
    /// asked for it.
    fn connect(&mut self, mut dial: Dial<P::Message>, has_place: bool) {
        self.counters.connects.add(1);
        let id = self.connections.next_id();
        let (origin, factory) = (Origin::Connect(dial.label), dial.factory.take());
        let peer = Peer { id, origin, address: &dial.address, requested_by: dial.by, local: Local::None };
        let (protocol, factory) = self.make_outbound_protocol(&peer, factory);
        let outcome = match protocol {
            Some(protocol) => self.begin_connecting(&peer, protocol, dial.tls.as_ref(), has_place),
            None => {
                self.counters.refused.add(1);
                if has_place {
                    self.connections.give_place_back();
                }
                Err(io::ErrorKind::PermissionDenied.into())
            }
        };
        dial.factory = factory;
        match outcome {
            Ok(()) => self.connections.set_dial(id, dial),
            Err(error) => {
                log::debug!("{}: cannot connect: {error}", dial.address);
                self.connections.dial_failed(dial, CloseReason::ConnectFailed(error.kind()));
            }
        }
    }

    /// Nobody but its protocol learns that there was no address for an outbound connection.
    fn tell_unfounded(&mut self, mut dial: Dial<P::Message>, reason: CloseReason) {
        self.counters.connects.add(1);
        let (id, factory) = (self.connections.next_id(), dial.factory.take());
        let origin = Origin::Connect(dial.label);
        let peer = Peer { id, origin, address: &dial.address, requested_by: None, local: Local::None };
        match self.make_outbound_protocol(&peer, factory).0 {
            Some(protocol) => self.connections.tell_not_made(id, protocol, reason),
            None => self.counters.refused.add(1),
        }
    }

    /// What the connection's own factory answers, if it has one, or the server's.
    fn make_outbound_protocol(
        &self,
        peer: &Peer<'_>,
        factory: Option<Factory<P::Message>>,
    ) -> (Option<P>, Option<Factory<P::Message>>) {
        let Some(mut factory) = factory else { return (self.make_protocol(peer), None) };
        let made = self.caught(peer, || factory(peer).and_then(P::from_boxed));
        (made, Some(factory))
    }

    fn begin_connecting(
        &mut self,
        peer: &Peer<'_>,
        protocol: P,
        tls: Option<&TlsConnector>,
        has_place: bool,
    ) -> io::Result<()> {
        let attempt = if has_place {
            self.system.connect(peer).and_then(|transport| {
                let mut channel = Channel::new(transport);
                if let Some(connector) = tls {
                    channel.secure(connector.session()?, self.connections.scratch())?;
                }
                Ok(channel)
            })
        } else {
            Err(io::ErrorKind::QuotaExceeded.into())
        };
        match attempt {
            Ok(transport) => {
                let limits = Rc::clone(self.connections.limits());
                self.connections.add(
                    peer.id,
                    State::Connecting,
                    transport,
                    protocol,
                    &limits,
                    &mut self.system,
                )
            }
            Err(error) => {
                if has_place {
                    self.connections.give_place_back();
                }
                let reason = CloseReason::ConnectFailed(error.kind());
                self.connections.tell_not_made(peer.id, protocol, reason);
                Err(error)
            }
        }
    }

    /// Frees the slots of the connections that ended. What they held may be what accepting waits for.
    fn reap(&mut self) {
        let system = &mut self.system;
        let has_ended = self.connections.reap(|channel, reason| system.note_end(channel.socket(), reason));
        if has_ended {
            if self.connections.has_room_for_clients() {
                self.fullness.note_place();
            }
            for listener in self.listeners.iter_mut().flatten() {
                if listener.retry_at().is_some() {
                    listener.retry();
                    self.may_have_clients = true;
                }
            }
        }
    }
}

/// Whether clients come through whoever has this address. Only this machine's own programs come to a Unix socket.
fn is_trusted(address: &Address, proxies: &[Cidr]) -> bool {
    match address {
        Address::Ip(address) => proxies.iter().any(|network| network.contains(address.ip())),
        Address::Unix(_) | Address::Host { .. } | Address::Udp(_) | Address::UdpHost { .. } => true,
    }
}

impl<M, S: System> fmt::Debug for Parts<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("worker", &self.worker)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What the log says of a full house: when it begins, once a second at most, and when it is over.
#[derive(Debug, Default)]
struct Fullness {
    prefix: &'static str,
    is_said: bool,
    complaints: Complaints,
}

impl Fullness {
    fn note_full(&mut self, now: Instant, connections: usize) {
        if !self.is_said && self.complaints.is_due(now) {
            self.is_said = true;
            let prefix = self.prefix;
            log::warn!(
                "{prefix}max connections reached ({connections} on this worker): new clients wait in the backlog"
            );
        }
    }

    /// There is a place, or was one.
    fn note_place(&mut self) {
        if std::mem::take(&mut self.is_said) {
            log::info!("{}below max connections again", self.prefix);
        }
    }
}

impl<P: Protocol, F, S: System> fmt::Debug for EventLoop<P, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}
