//! Datagrams of a test, without a network in between.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, ErrorKind},
    net::SocketAddr,
    rc::{Rc, Weak},
};

use mio::Token;

use super::kernel::Kernel;
use crate::system::{
    datagrams::{Arrival, Datagrams, Destination},
    readiness::Readiness,
};

/// What a datagram holds, and whose it is on the client's side.
type Datagram = (SocketAddr, Vec<u8>);

/// The clients' side of a datagram socket.
#[derive(Debug)]
pub(super) struct DatagramClients {
    kernel: Kernel,
    sent: RefCell<VecDeque<Datagram>>,
    returned: RefCell<VecDeque<Datagram>>,
    token: Cell<Option<Token>>,
}

impl DatagramClients {
    /// A client sends a datagram.
    pub(super) fn send(&self, from: SocketAddr, bytes: &[u8]) {
        self.sent.borrow_mut().push_back((from, bytes.to_vec()));
        if let Some(token) = self.token.get() {
            self.kernel.events().announce(token, Readiness::READ);
        }
    }

    /// The next datagram that the server has sent.
    pub(super) fn take_returned(&self) -> Option<Datagram> {
        self.returned.borrow_mut().pop_front()
    }
}

/// The loop's end.
#[derive(Debug)]
pub(super) struct KitDatagramSocket {
    clients: Rc<DatagramClients>,
    port: u16,
}

impl KitDatagramSocket {
    pub(super) fn new(kernel: &Kernel, port: u16) -> Self {
        let (sent, returned, token) = (RefCell::default(), RefCell::default(), Cell::default());
        let clients = DatagramClients { kernel: kernel.clone(), sent, returned, token };
        Self { clients: Rc::new(clients), port }
    }

    /// The clients' end. It is gone when the loop has closed the socket.
    pub(super) fn clients(&self) -> Weak<DatagramClients> {
        Rc::downgrade(&self.clients)
    }

    pub(super) fn watch(&self, token: Token) {
        self.clients.token.set(Some(token));
    }
}

impl Datagrams for KitDatagramSocket {
    fn port(&self) -> u16 {
        self.port
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Arrival> {
        let next = self.clients.sent.borrow_mut().pop_front();
        let (from, bytes) = next.ok_or(ErrorKind::WouldBlock)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(Arrival { length: bytes.len(), from, to: Destination::Bound })
    }

    fn answer(&mut self, bytes: &[u8], arrival: &Arrival) -> io::Result<()> {
        self.clients.returned.borrow_mut().push_back((arrival.from, bytes.to_vec()));
        Ok(())
    }
}
