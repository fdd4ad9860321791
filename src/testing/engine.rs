//! The loop of a test: the turns of the event loop, without a poller to wait for and without a clock.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, ErrorKind},
    net::Ipv4Addr,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use super::socket::{Kernel, ServerEnd, SharedSocket, Socket};
use crate::{
    Address, CloseReason, Config, ConnectionId, Handle, Origin, Peer, Protocol, Stats,
    connection::{Connection, State},
    connections::Connections,
    event_loop::REQUESTS_PER_TURN,
    handle::{Mailbox, Order, Request, Wake, channel},
    listener::{Accept, Attempt, Listener},
    outbox::Dial,
    stats::Counters,
};

/// One loop, with whatever is on it.
pub(super) struct Engine<P: Protocol> {
    kernel: Kernel,
    connections: Connections<P, ServerEnd>,
    /// By position; closed ones are gone.
    listeners: Vec<Option<Listener<Backlog>>>,
    /// The clients' side of them.
    backlogs: Vec<Weak<Queue>>,
    /// Gone when the loop has come to its end.
    mailbox: Option<Mailbox<P::Message>>,
    mailbox_has_more: bool,
    handle: Handle<P::Message>,
    factory: Box<Factory<P>>,
    counters: Arc<Counters>,
    limits: Config,
    accepts_left: u64,
    now: Instant,
    /// Outbound connections that the test has not taken.
    outbound: VecDeque<Outgoing>,
    clients_made: u32,
}

pub(super) type Factory<P> = dyn Fn(&Peer<'_>) -> Option<P>;

/// An outbound connection that the test is to answer.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) socket: SharedSocket,
    pub(super) label: u64,
    pub(super) requested_by: Option<ConnectionId>,
}

type Queue = RefCell<VecDeque<(ServerEnd, Address)>>;

/// Clients that wait to be accepted.
struct Backlog(Rc<Queue>);

impl Accept for Backlog {
    type Transport = ServerEnd;

    fn accept(&mut self) -> io::Result<(ServerEnd, Address)> {
        self.0.borrow_mut().pop_front().ok_or_else(|| ErrorKind::WouldBlock.into())
    }
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Turns without a byte in which the loop must come to rest.
const TURNS_MAX: u32 = 10_000;

/// Bytes that the server may move, in and out together, until it does.
const BYTES_MAX: u64 = 256 << 20;

/// As many connections as a server has without a descriptor limit.
const CAPACITY: usize = 65_536;

impl<P: Protocol> Engine<P> {
    #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
    pub(super) fn new(limits: Config, factory: Box<Factory<P>>) -> Self {
        let now = Instant::now();
        let counters = Arc::new(Counters::default());
        let waker: Box<dyn Wake> = Box::new(NoWake);
        let (handle, mut mailboxes) = channel(limits.mailbox_capacity, vec![(waker, Arc::clone(&counters))]);
        let capacity = limits.max_connections.unwrap_or(CAPACITY);
        let connections =
            Connections::new(0, capacity, now, limits.clone(), Arc::clone(&counters), handle.clone());
        let mut engine = Self {
            kernel: Kernel::default(),
            connections,
            listeners: Vec::new(),
            backlogs: Vec::new(),
            mailbox: mailboxes.pop(),
            mailbox_has_more: false,
            handle,
            factory,
            counters,
            accepts_left: limits.accept_limit.unwrap_or(u64::MAX),
            limits,
            now,
            outbound: VecDeque::new(),
            clients_made: 0,
        };
        engine.listen(0);
        engine
    }

    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn left_until(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.now)
    }

    pub(super) const fn handle(&self) -> &Handle<P::Message> {
        &self.handle
    }

    pub(super) fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    pub(super) const fn is_finished(&self) -> bool {
        self.mailbox.is_none()
    }

    pub(super) fn connection(&self, id: ConnectionId) -> Option<&Connection<P, ServerEnd>> {
        self.connections.get(id).filter(|connection| !connection.state().is_closed())
    }

    /// A client that comes to the listener of this position.
    pub(super) fn connect(&mut self, position: usize, from: Option<Address>, buffer: Buffer) -> SharedSocket {
        self.listen(position);
        let address = from.unwrap_or_else(|| self.next_client_address());
        let mut socket = Socket::inbound(&self.kernel, address.clone(), listener_address(position));
        buffer.apply(&mut socket);
        let socket = Rc::new(RefCell::new(socket));
        match self.backlogs[position].upgrade() {
            Some(queue) => queue.borrow_mut().push_back((ServerEnd(Rc::clone(&socket)), address)),
            None => socket.borrow_mut().refuse_client(),
        }
        if let Some(listener) = &mut self.listeners[position] {
            listener.set_ready();
        }
        socket
    }

    /// Makes the listeners up to this position, unless the server takes no more clients.
    fn listen(&mut self, position: usize) {
        let takes_clients = !self.is_finished() && !self.connections.is_draining() && self.accepts_left > 0;
        while self.listeners.len() <= position {
            let queue = Rc::default();
            self.backlogs.push(Rc::downgrade(&queue));
            self.listeners.push(takes_clients.then(|| Listener::new(Backlog(queue))));
        }
    }

    /// Those of RFC 5737, so that nobody takes them for real ones.
    fn next_client_address(&mut self) -> Address {
        let n = self.clients_made;
        self.clients_made += 1;
        let [.., high, low] = (n % PORTS).to_be_bytes();
        let port = FIRST_PORT + u16::from_be_bytes([high, low]);
        let [.., host] = (n / PORTS).to_be_bytes();
        Address::Ip((Ipv4Addr::new(198, 51, 100, host), port).into())
    }

    pub(super) fn next_outbound(&mut self) -> Option<Outgoing> {
        loop {
            let outgoing = self.outbound.pop_front()?;
            if outgoing.socket.borrow().is_connecting() {
                return Some(outgoing);
            }
        }
    }

    /// Hands a message to a connection. False if it is gone, or not made yet.
    pub(super) fn message(&mut self, id: ConnectionId, message: P::Message) -> bool {
        let is_there = self.connections.message(id, message, &mut self.kernel);
        if !is_there {
            self.counters.messages_undeliverable.add(1);
        }
        is_there
    }

    /// Lets time pass, from deadline to deadline.
    pub(super) fn advance(&mut self, time: Duration) {
        let until = self.now.checked_add(time).expect("the time is within the range of the clock");
        self.run();
        while let Some(next) = self.next_deadline().filter(|&next| next <= until) {
            self.now = next;
            self.run();
        }
        self.now = until;
        self.run();
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.connections.next_deadline().filter(|_| !self.is_finished())
    }

    /// Takes turns until there is nothing to do any more at this time.
    pub(super) fn run(&mut self) {
        let (start, mut moved, mut idle_turns) = (self.bytes_moved(), 0, 0);
        while idle_turns < TURNS_MAX {
            self.turn();
            self.kernel.let_clients_read();
            if self.is_at_rest() {
                if cfg!(test) {
                    self.connections.audit().expect("every connection is where it belongs");
                }
                return;
            }
            let before = std::mem::replace(&mut moved, self.bytes_moved() - start);
            idle_turns = if moved > before { 0 } else { idle_turns + 1 };
            assert!(
                moved <= BYTES_MAX,
                "the server sends without end: let its clients stop reading, see Connector::stopped"
            );
        }
        panic!("the loop does not come to rest in {TURNS_MAX} turns");
    }

    fn bytes_moved(&self) -> u64 {
        self.counters.bytes_received.get() + self.counters.bytes_sent.get()
    }

    /// In the order of the event loop.
    fn turn(&mut self) {
        if self.is_finished() {
            return;
        }
        self.connections.set_now(self.now);
        for (token, ready) in self.kernel.take_events() {
            self.connections.notice(token, ready);
        }
        self.connections.run_ready(&mut self.kernel);
        self.read_mailbox();
        self.connections.run_deadlines(&mut self.kernel);
        self.run_outbox();
        self.accept();
        self.note_ended();
        self.connections.reap();
        self.finish_if_done();
    }

    fn is_at_rest(&self) -> bool {
        let has_mail = self.mailbox_has_more || self.mailbox.as_ref().is_some_and(Mailbox::is_woken);
        let can_accept = self.connections.has_room_for_clients();
        let accept_is_due =
            can_accept && self.listeners.iter().flatten().any(|listener| listener.is_ready(self.now));
        let is_due = self.connections.next_deadline().is_some_and(|at| at <= self.now);
        let has_work = self.connections.has_work() || has_mail || accept_is_due || is_due;
        self.is_finished() || (self.kernel.is_at_rest() && !has_work)
    }

    fn finish_if_done(&mut self) {
        let Some(mailbox) = &self.mailbox else { return };
        let has_mail = self.mailbox_has_more || mailbox.is_woken();
        let has_connections = !self.connections.is_empty() || self.connections.has_work();
        let has_nothing = self.listeners.iter().all(Option::is_none) && !has_connections && !has_mail;
        if has_nothing && !(self.limits.keep_running && mailbox.order() == Order::Run) {
            self.mailbox = None;
        }
    }

    /// Does what handles have asked for.
    fn read_mailbox(&mut self) {
        let Some(mailbox) = &self.mailbox else { return };
        mailbox.open();
        match mailbox.order() {
            Order::Run => {}
            Order::Drain => self.begin_drain(),
            Order::Abort => return self.abort(),
        }
        self.mailbox_has_more = true;
        for _ in 0..REQUESTS_PER_TURN {
            if !self.connections.has_mail_room() {
                break;
            }
            let Some(request) = self.mailbox.as_ref().and_then(Mailbox::next) else {
                self.mailbox_has_more = false;
                break;
            };
            match request {
                Request::Send(id, message) => self.connections.post(id, message, &mut self.kernel),
                Request::SendAll(message, clone) => {
                    self.connections.message_all(message, clone);
                }
                Request::Connect(address, label) => self.begin_connect(address, label, None),
            }
        }
    }

    /// Does what callbacks asked of others.
    fn run_outbox(&mut self) {
        while let Some(Dial { by, address, label, .. }) = self.connections.next_dial() {
            self.begin_connect(address, label, Some(by));
        }
        self.connections.run_mail(&mut self.kernel);
    }

    fn begin_drain(&mut self) {
        if !self.connections.is_draining() {
            self.connections.begin_drain();
        }
    }

    fn abort(&mut self) {
        self.listeners.fill_with(|| None);
        self.mailbox_has_more = false;
        self.connections.close_all(CloseReason::Aborted, &mut self.kernel);
        self.connections.refuse_mail();
    }

    fn accept(&mut self) {
        for position in 0..self.listeners.len() {
            for _ in 0..self.limits.accept_burst {
                if !self.connections.has_room_for_clients() || self.accepts_left == 0 {
                    break;
                }
                let Some(listener) = &mut self.listeners[position] else { break };
                if !listener.is_ready(self.now) {
                    break;
                }
                match listener.accept(self.now, &self.counters) {
                    Attempt::Accepted(end, address) => {
                        self.accepts_left -= 1;
                        self.counters.accepted.add(1);
                        end.0.borrow_mut().set_accepted();
                        self.admit(end, &address, Origin::Listener(position), None);
                    }
                    Attempt::Lost | Attempt::Pause => break,
                }
            }
            self.close_listener_if_done(position);
        }
    }

    fn close_listener_if_done(&mut self, position: usize) {
        let Some(listener) = &mut self.listeners[position] else { return };
        if self.connections.is_past_drain() {
            while let Attempt::Accepted(..) = listener.accept(self.now, &self.counters) {
                self.counters.accepted.add(1);
                self.counters.count_closed(CloseReason::DrainTimeout);
            }
        }
        if (self.connections.is_draining() && listener.is_drained()) || self.accepts_left == 0 {
            self.listeners[position] = None;
        }
    }

    /// Gives a new connection its protocol and puts it on the loop.
    fn admit(
        &mut self,
        end: ServerEnd,
        address: &Address,
        origin: Origin,
        requested_by: Option<ConnectionId>,
    ) {
        let state = match origin {
            Origin::Listener(_) => State::Reading,
            Origin::Connect(_) => State::Connecting,
        };
        let id = self.connections.next_id();
        let peer = Peer { id, origin, address, requested_by };
        let protocol = match catch_unwind(AssertUnwindSafe(|| (self.factory)(&peer))) {
            Ok(Some(protocol)) => protocol,
            refusal => {
                self.counters.refused.add(1);
                self.counters.panics.add(usize::from(refusal.is_err()));
                return self.tell_not_made(origin, requested_by, ErrorKind::PermissionDenied);
            }
        };
        end.0.borrow_mut().id = Some(id);
        self.connections
            .add(id, state, end, protocol, &mut self.kernel)
            .expect("a socket that is none can always be watched");
        if let (Origin::Connect(label), Some(by)) = (origin, requested_by) {
            self.connections.set_requester(id, by, label);
        }
    }

    /// Tells the protocol that asked for a connection that nothing came of it.
    fn tell_not_made(&mut self, origin: Origin, requested_by: Option<ConnectionId>, kind: ErrorKind) {
        if let (Origin::Connect(label), Some(by)) = (origin, requested_by) {
            self.connections.dial_failed(by, label, CloseReason::ConnectFailed(kind));
        }
    }

    /// Begins an outbound connection, which the test is to answer.
    fn begin_connect(&mut self, address: Address, label: u64, requested_by: Option<ConnectionId>) {
        self.counters.connects.add(1);
        if !self.connections.has_room() {
            // What callbacks ask for waits for room, so this is a handle's: nobody else is to be told.
            return self.cannot_connect(&address, label);
        }
        let socket = Socket::outbound(&self.kernel, address.clone(), local_address());
        let socket = Rc::new(RefCell::new(socket));
        self.outbound.push_back(Outgoing { socket: Rc::clone(&socket), label, requested_by });
        self.admit(ServerEnd(socket), &address, Origin::Connect(label), requested_by);
    }

    /// Tells the protocol of an outbound connection that there is no room for it.
    fn cannot_connect(&mut self, address: &Address, label: u64) {
        let reason = CloseReason::ConnectFailed(ErrorKind::QuotaExceeded);
        let id = self.connections.next_id();
        let peer = Peer { id, origin: Origin::Connect(label), address, requested_by: None };
        let told = catch_unwind(AssertUnwindSafe(|| {
            if let Some(mut protocol) = (self.factory)(&peer) {
                protocol.on_close(&reason);
            }
        }));
        self.counters.panics.add(usize::from(told.is_err()));
        self.counters.count_closed(reason);
    }

    /// Remembers how connections ended, before they are freed.
    fn note_ended(&self) {
        for connection in self.connections.ended() {
            if let State::Closed(reason) = connection.state() {
                connection.transport().0.borrow_mut().close_reason = Some(reason);
            }
        }
    }
}

/// How a client receives.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Buffer {
    pub(super) bytes: Option<usize>,
    pub(super) is_stopped: bool,
}

impl Buffer {
    pub(super) fn apply(self, socket: &mut Socket) {
        if let Some(bytes) = self.bytes {
            socket.set_capacity(bytes);
        }
        if self.is_stopped {
            socket.stop_reading();
        }
    }
}

/// The dynamic ports of RFC 6335.
const FIRST_PORT: u16 = 49_152;
const PORTS: u32 = 16_384;

fn listener_address(position: usize) -> Address {
    let offset = u16::try_from(position % 1024).expect("below 1024");
    Address::Ip((Ipv4Addr::new(192, 0, 2, 1), 27_015 + offset).into())
}

/// What outbound connections come from.
fn local_address() -> Address {
    Address::Ip((Ipv4Addr::new(192, 0, 2, 1), FIRST_PORT).into())
}
