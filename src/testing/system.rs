//! The world of a test: sockets that are buffers, clients that the test plays, and time that it moves.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, ErrorKind},
    net::Ipv4Addr,
    rc::{Rc, Weak},
    time::Instant,
};

use mio::{Interest, Token};

use super::{
    datagrams::KitDatagramSocket,
    kernel::{Kernel, Outgoing},
    server_end::ServerEnd,
    socket::{SharedSocket, Socket},
};
use crate::{
    address::Address,
    close_reason::CloseReason,
    connection_id::ConnectionId,
    peer::{Origin, Peer},
    system::{Accept, Poller, System, Wait, readiness::Readiness},
};

/// Clients that wait to be accepted by one listener.
#[derive(Debug)]
pub(super) struct Backlog {
    kernel: Kernel,
    waiting: RefCell<VecDeque<(SharedSocket, Address)>>,
    token: Cell<Option<Token>>,
}

/// The loop's end of a backlog.
#[derive(Debug)]
pub(super) struct KitListener(Rc<Backlog>);

impl KitListener {
    pub(super) fn new(kernel: &Kernel) -> Self {
        let (waiting, token) = (RefCell::default(), Cell::default());
        Self(Rc::new(Backlog { kernel: kernel.clone(), waiting, token }))
    }

    /// The clients' end. It is gone when the loop does not listen any more.
    pub(super) fn backlog(&self) -> Weak<Backlog> {
        Rc::downgrade(&self.0)
    }
}

impl Backlog {
    /// A client comes.
    pub(super) fn push(&self, socket: SharedSocket, address: Address) {
        self.waiting.borrow_mut().push_back((socket, address));
        if let Some(token) = self.token.get() {
            self.kernel.events().announce(token, Readiness::READ);
        }
    }
}

impl Drop for Backlog {
    /// A listener that is closed resets those whom it has not accepted.
    fn drop(&mut self) {
        for (socket, _) in self.waiting.take() {
            drop(ServerEnd::new(socket, &self.kernel));
        }
    }
}

impl Accept for KitListener {
    type Transport = ServerEnd;

    fn accept(&mut self) -> io::Result<(ServerEnd, Address)> {
        let next = self.0.waiting.borrow_mut().pop_front();
        let (socket, address) = next.ok_or(ErrorKind::WouldBlock)?;
        socket.borrow_mut().set_accepted();
        Ok((ServerEnd::new(socket, &self.0.kernel), address))
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
    type DatagramSocket = KitDatagramSocket;

    fn now(&mut self) -> Instant {
        self.kernel.now()
    }

    /// Never waits: the test moves the time.
    fn wait(&mut self, _: Wait) -> io::Result<()> {
        self.events = self.kernel.events().take();
        Ok(())
    }

    fn events(&self) -> impl Iterator<Item = (Token, Readiness)> {
        self.events.iter().copied()
    }

    fn watch_listener(&mut self, listener: &mut KitListener, token: Token) -> io::Result<()> {
        listener.0.token.set(Some(token));
        Ok(())
    }

    fn watch_datagrams(&mut self, socket: &mut KitDatagramSocket, token: Token) -> io::Result<()> {
        socket.watch(token);
        Ok(())
    }

    /// Begins an outbound connection, which the test is to answer.
    fn connect(&mut self, peer: &Peer<'_>) -> io::Result<ServerEnd> {
        let socket = Socket::outbound(self.kernel.events(), peer.address.clone(), local_address());
        let socket = Rc::new(RefCell::new(socket));
        if let Origin::Connect(label) = peer.origin {
            let outgoing = Outgoing { socket: Rc::clone(&socket), label, requested_by: peer.requested_by };
            self.kernel.add_outbound(outgoing);
        }
        Ok(ServerEnd::new(socket, &self.kernel))
    }

    fn note_end(&mut self, transport: &ServerEnd, reason: CloseReason) {
        transport.socket.borrow_mut().close_reason = Some(reason);
    }
}

impl Poller<ServerEnd> for KitSystem {
    fn register(
        &mut self,
        transport: &mut ServerEnd,
        id: ConnectionId,
        interest: Interest,
    ) -> io::Result<()> {
        let mut socket = transport.socket.borrow_mut();
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
        transport.socket.borrow_mut().watch(interest);
        Ok(())
    }
}

/// The first of the dynamic ports of RFC 6335.
pub(super) const FIRST_PORT: u16 = 49_152;

/// What outbound connections come from.
fn local_address() -> Address {
    Address::Ip((Ipv4Addr::new(192, 0, 2, 1), FIRST_PORT).into())
}
