//! A client with what is known of its connection.

use std::{cell::RefCell, panic, rc::Rc, time::Duration};

use echoloop::{Address, Config, ConnectionId, Origin, Peer, TlsAcceptor, TlsConnector};

use super::plan::TlsPlan;
use crate::{
    client::{Client, Manner},
    kernel::{SharedKernel, socket::SharedSocket, system::client_at},
    protocol::{Callback, Habit, PlannedPanic, Record, SharedNeighbours, SharedRecord, Simulated},
    secure::{Handshakes, Meter, REPLY, Secure, TlsManner},
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
    pub tls: Option<(TlsPlan, Tls)>,
}

/// What the server speaks TLS with.
#[derive(Clone, Debug)]
pub struct Tls {
    pub acceptor: TlsAcceptor,
    pub connector: TlsConnector,
}

impl Tls {
    /// With records of so many bytes. The kernel watches how many handshakes go on.
    pub fn new(kernel: &SharedKernel, handshake_timeout: Option<Duration>, record_bytes: usize) -> Self {
        let handshakes = Handshakes::new(handshake_timeout);
        let (acceptor, connector) = (handshakes.acceptor(record_bytes), handshakes.connector(record_bytes));
        kernel.borrow_mut().handshakes = Some(handshakes);
        Self { acceptor, connector }
    }
}

/// Who begins, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Plain,
    /// A client of a listener with TLS.
    Client,
    /// The server connects to it.
    Server,
}

impl Maker {
    /// A client that is to come to a listener.
    pub fn add_inbound(&self, listener: usize) -> usize {
        let socket = {
            let mut kernel = self.kernel.borrow_mut();
            let (inbound, outbound) = (kernel.buffer_size(), kernel.buffer_size());
            kernel.add_socket(inbound, outbound)
        };
        let is_secure = self.tls.as_ref().is_some_and(|(plan, _)| plan.listeners[listener]);
        self.add(socket, if is_secure { Start::Client } else { Start::Plain }, false, None)
    }

    fn add(
        &self,
        socket: SharedSocket,
        start: Start,
        is_outbound: bool,
        requested_by: Option<ConnectionId>,
    ) -> usize {
        let choices = self.kernel.borrow().choices.clone();
        let manner = choices.of(&self.manners).expect("there are some");
        let habit = match choices.of(&self.habits).expect("there are some") {
            Habit::StartTls if start != Start::Plain || is_outbound => Habit::Echo,
            habit => habit,
        };
        let to_send = match self.bytes {
            Some(bytes) => bytes,
            None if choices.u8(..4) == 0 => choices.u64(..3),
            None => choices.u64(..2000),
        };
        let mut client = Client::new(manner, socket, to_send, choices.key());
        if let Some((plan, _)) = &self.tls
            && (start != Start::Plain || habit == Habit::StartTls)
        {
            let record_bytes = match plan.client_record_bytes {
                Some(bytes) => bytes,
                None if choices.bool() => choices.usize(1..=8),
                None => choices.usize(1..=100),
            };
            let tls_manner = if plan.is_proper { TlsManner::PROPER } else { TlsManner::new(&choices) };
            let has_wish = habit == Habit::StartTls;
            client.secure = Some(if has_wish {
                Secure::starttls(record_bytes, tls_manner)
            } else {
                Secure::new(start == Start::Server, record_bytes, tls_manner)
            });
            let plain = if has_wish { REPLY.len() } else { 0 };
            client.socket.borrow_mut().meter = Some(Meter::new(plain));
        }
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
        let protocol = protocol.watched_by(witness);
        Some(match &self.tls {
            Some((_, tls)) => protocol.with_tls(tls.clone()),
            None => protocol,
        })
    }

    /// The client that the server is about to connect to.
    fn outbound(&self, peer: &Peer<'_>) -> usize {
        let socket = self.kernel.borrow_mut().add_unconnected(peer.id);
        let is_secure = *peer.address == elsewhere_secure();
        self.add(socket, if is_secure { Start::Server } else { Start::Plain }, true, peer.requested_by)
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

/// The same, over TLS.
pub fn elsewhere_secure() -> Address {
    Address::Unix("elsewhere-secure".into())
}
