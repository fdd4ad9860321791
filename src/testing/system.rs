//! The world of a test: sockets that are buffers, clients that the test plays, and time that it moves.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    io::{self, ErrorKind},
    mem,
    net::Ipv4Addr,
    rc::{Rc, Weak},
    time::Instant,
};

use mio::{Interest, Token};

use super::socket::{ServerEnd, SharedSocket, Socket};
use crate::{
    address::Address,
    close_reason::CloseReason,
    connection_id::ConnectionId,
    peer::{Origin, Peer},
    system::{Accept, Poller, System, Wait, readiness::Readiness},
};

/// What the sockets of one loop tell it, and what the test asks of it.
#[derive(Clone)]
pub(super) struct Kernel(Rc<State>);

struct State {
    now: Cell<Instant>,
    /// Events that the next wait brings.
    events: RefCell<Vec<(Token, Readiness)>>,
    /// Sockets that hold bytes for clients that read.
    readable: RefCell<Vec<SharedSocket>>,
    /// Outbound connections that the test has not taken.
    outbound: RefCell<VecDeque<Outgoing>>,
}

/// An outbound connection that the test is to answer.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) socket: SharedSocket,
    pub(super) label: u64,
    pub(super) requested_by: Option<ConnectionId>,
}

impl Kernel {
    #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
    pub(super) fn new() -> Self {
        Self(Rc::new(State {
            now: Cell::new(Instant::now()),
            events: RefCell::default(),
            readable: RefCell::default(),
            outbound: RefCell::default(),
        }))
    }

    pub(super) fn now(&self) -> Instant {
        self.0.now.get()
    }

    pub(super) fn set_now(&self, now: Instant) {
        self.0.now.set(now);
    }

    pub(super) fn announce(&self, token: Token, ready: Readiness) {
        self.0.events.borrow_mut().push((token, ready));
    }

    pub(super) fn note_readable(&self, socket: &SharedSocket) {
        self.0.readable.borrow_mut().push(Rc::clone(socket));
    }

    /// Lets the clients read what has come for them.
    pub(super) fn let_clients_read(&self) {
        // Reading makes room, which is an event.
        let readable = self.0.readable.take();
        for socket in readable {
            socket.borrow_mut().read_all();
        }
    }

    /// Whether nobody has anything to be told.
    pub(super) fn is_at_rest(&self) -> bool {
        self.0.events.borrow().is_empty() && self.0.readable.borrow().is_empty()
    }

    /// The next outbound connection that can still be answered.
    pub(super) fn next_outbound(&self) -> Option<Outgoing> {
        loop {
            let outgoing = self.0.outbound.borrow_mut().pop_front()?;
            if outgoing.socket.borrow().is_connecting() {
                return Some(outgoing);
            }
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("now", &self.0.now).finish_non_exhaustive()
    }
}

/// Clients that wait to be accepted by one listener.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: RefCell<VecDeque<(SharedSocket, Address)>>,
    token: Cell<Option<Token>>,
}

/// The loop's end of a backlog.
#[derive(Debug, Default)]
pub(super) struct KitListener(Rc<Backlog>);

impl KitListener {
    /// The clients' end. It is gone when the loop does not listen any more.
    pub(super) fn backlog(&self) -> Weak<Backlog> {
        Rc::downgrade(&self.0)
    }
}

impl Backlog {
    /// A client comes.
    pub(super) fn push(&self, socket: SharedSocket, address: Address, kernel: &Kernel) {
        self.waiting.borrow_mut().push_back((socket, address));
        if let Some(token) = self.token.get() {
            kernel.announce(token, Readiness::READ);
        }
    }
}

impl Drop for Backlog {
    /// A listener that is closed resets those whom it has not accepted.
    fn drop(&mut self) {
        for (socket, _) in self.waiting.take() {
            drop(ServerEnd(socket));
        }
    }
}

impl Accept for KitListener {
    type Transport = ServerEnd;

    fn accept(&mut self) -> io::Result<(ServerEnd, Address)> {
        let next = self.0.waiting.borrow_mut().pop_front();
        let (socket, address) = next.ok_or(ErrorKind::WouldBlock)?;
        socket.borrow_mut().set_accepted();
        Ok((ServerEnd(socket), address))
    }
}

/// The kit's world, as the loop sees it.
#[derive(Debug)]
pub(super) struct KitSystem {
    kernel: Kernel,
    /// What the last wait brought.
    events: Vec<(Token, Readiness)>,
}

impl KitSystem {
    pub(super) fn new(kernel: &Kernel) -> Self {
        Self { kernel: kernel.clone(), events: Vec::new() }
    }
}

impl System for KitSystem {
    type Transport = ServerEnd;
    type Listener = KitListener;

    fn now(&mut self) -> Instant {
        self.kernel.now()
    }

    /// Never waits: the test moves the time.
    fn wait(&mut self, _: Wait) -> io::Result<()> {
        self.events.clear();
        mem::swap(&mut self.events, &mut self.kernel.0.events.borrow_mut());
        Ok(())
    }

    fn events(&self) -> impl Iterator<Item = (Token, Readiness)> {
        self.events.iter().copied()
    }

    fn watch_listener(&mut self, listener: &mut KitListener, token: Token) -> io::Result<()> {
        listener.0.token.set(Some(token));
        Ok(())
    }

    /// Begins an outbound connection, which the test is to answer.
    fn connect(&mut self, peer: &Peer<'_>) -> io::Result<ServerEnd> {
        let socket = Socket::outbound(&self.kernel, peer.address.clone(), local_address());
        let socket = Rc::new(RefCell::new(socket));
        if let Origin::Connect(label) = peer.origin {
            let outgoing = Outgoing { socket: Rc::clone(&socket), label, requested_by: peer.requested_by };
            self.kernel.0.outbound.borrow_mut().push_back(outgoing);
        }
        Ok(ServerEnd(socket))
    }

    fn note_end(&mut self, transport: &ServerEnd, reason: CloseReason) {
        transport.0.borrow_mut().close_reason = Some(reason);
    }
}

impl Poller<ServerEnd> for KitSystem {
    fn register(
        &mut self,
        transport: &mut ServerEnd,
        id: ConnectionId,
        interest: Interest,
    ) -> io::Result<()> {
        let mut socket = transport.0.borrow_mut();
        socket.id = Some(id);
        socket.watch(interest);
        Ok(())
    }

    fn reregister(
        &mut self,
        transport: &mut ServerEnd,
        _: ConnectionId,
        interest: Interest,
    ) -> io::Result<()> {
        transport.0.borrow_mut().watch(interest);
        Ok(())
    }
}

/// The first of the dynamic ports of RFC 6335.
pub(super) const FIRST_PORT: u16 = 49_152;

/// What outbound connections come from.
fn local_address() -> Address {
    Address::Ip((Ipv4Addr::new(192, 0, 2, 1), FIRST_PORT).into())
}
