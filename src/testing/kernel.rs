//! What the sockets of one loop tell it, and what the test asks of it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    rc::Rc,
    time::Instant,
};

use super::{events::Events, socket::SharedSocket};
use crate::connection_id::ConnectionId;

/// Time, events, and what is on its way between both ends.
#[derive(Clone)]
pub(super) struct Kernel(Rc<State>);

struct State {
    now: Cell<Instant>,
    /// Events that the next wait brings.
    events: Events,
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
            events: Events::default(),
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

    pub(super) fn events(&self) -> &Events {
        &self.0.events
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
        self.0.events.is_empty() && self.0.readable.borrow().is_empty()
    }

    pub(super) fn add_outbound(&self, outgoing: Outgoing) {
        self.0.outbound.borrow_mut().push_back(outgoing);
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
