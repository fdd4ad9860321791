//! A client with what is known of its connection.

use std::{cell::RefCell, panic, rc::Rc, time::Duration};

use echoloop::{Address, Config, ConnectionId, Origin, Peer};

use crate::{
    client::{Client, Manner},
    kernel::{SharedKernel, socket::SharedSocket, system::client_at},
    protocol::{Callback, Habit, PlannedPanic, Record, SharedNeighbours, SharedRecord, Simulated},
    witness::Witness,
};

pub struct Pair {
    pub client: Client,
    pub record: SharedRecord,
    pub habit: Habit,
    /// The server connects to it, not it to the server.
    pub is_outbound: bool,
    /// The factory was asked for its protocol.
    pub was_asked_for: bool,
    /// Whose protocol asked for it.
    pub requested_by: Option<ConnectionId>,
}

impl Pair {
    /// Bytes of the echo that the client is to get back, so far.
    pub fn owed(&self) -> u64 {
        self.record.borrow().echoed + self.client.socket.borrow().moved
    }

    /// The name of its connection, once it is in its slot.
    pub fn id(&self) -> Option<ConnectionId> {
        self.client.socket.borrow().id
    }
}

/// All clients of a world, by number.
pub type Pairs = Rc<RefCell<Vec<Pair>>>;

/// What makes the clients of a world, and their protocols.
pub struct Maker {
    pub kernel: SharedKernel,
    pub pairs: Pairs,
    pub neighbours: SharedNeighbours,
    pub manners: Vec<Manner>,
    pub habits: Vec<Habit>,
    /// What each client sends; `None`: any number.
    pub bytes: Option<u64>,
    pub limits: Rc<Config>,
}

impl Maker {
    /// A client that is to come to a listener.
    pub fn add_inbound(&self) -> usize {
        let socket = {
            let mut kernel = self.kernel.borrow_mut();
            let (inbound, outbound) = (kernel.buffer_size(), kernel.buffer_size());
            kernel.add_socket(inbound, outbound)
        };
        self.add(socket, false, None)
    }

    fn add(&self, socket: SharedSocket, is_outbound: bool, requested_by: Option<ConnectionId>) -> usize {
        let choices = self.kernel.borrow().choices.clone();
        let manner = choices.of(&self.manners).expect("there are some");
        let habit = choices.of(&self.habits).expect("there are some");
        let to_send = match self.bytes {
            Some(bytes) => bytes,
            None if choices.u8(..4) == 0 => choices.u64(..3),
            None => choices.u64(..2000),
        };
        let client = Client::new(manner, socket, to_send, choices.key());
        let record = Rc::new(RefCell::new(Record::default()));
        let mut pairs = self.pairs.borrow_mut();
        pairs.push(Pair { client, record, habit, is_outbound, was_asked_for: false, requested_by });
        pairs.len() - 1
    }

    /// The factory of the server.
    pub fn protocol<const PURE: bool>(&self, peer: &Peer<'_>) -> Option<Simulated<PURE>> {
        let number = match peer.origin {
            Origin::Listener(_) => client_at(peer.address),
            _ => self.outbound(peer),
        };
        let pair = &mut self.pairs.borrow_mut()[number];
        pair.was_asked_for = true;
        match pair.habit {
            Habit::Refused => return None,
            Habit::PanicIn(Callback::Factory) => panic::panic_any(PlannedPanic),
            _ => {}
        }
        let number = u8::try_from(number).expect("few clients");
        let mut limits = Rc::clone(&self.limits);
        if [by_name(), found()].contains(peer.address) {
            // All attempts share the time, and nobody knows here when the first began.
            Rc::make_mut(&mut limits).connect_timeout = Some(Duration::ZERO);
        }
        let witness = Witness::new(&self.kernel, &pair.client.socket, &limits);
        let neighbours = Rc::clone(&self.neighbours);
        let protocol = Simulated::new(pair.habit, Rc::clone(&pair.record), number, neighbours);
        Some(protocol.watched_by(witness))
    }

    /// The client that the server is about to connect to.
    fn outbound(&self, peer: &Peer<'_>) -> usize {
        let socket = self.kernel.borrow_mut().add_unconnected(peer.id);
        self.add(socket, true, peer.requested_by)
    }
}

/// The same by a name that has to be looked up.
pub fn by_name() -> Address {
    Address::Host { name: "elsewhere".to_owned(), port: 1 }
}

/// Each address of that name.
pub fn found() -> Address {
    Address::Unix("found".into())
}

/// Where outbound connections go.
pub fn elsewhere() -> Address {
    Address::Unix("elsewhere".into())
}
