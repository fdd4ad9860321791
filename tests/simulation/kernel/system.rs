//! The world that the loop under test runs in.

use std::{
    io::{self, ErrorKind},
    net::Ipv4Addr,
    rc::Rc,
    time::{Duration, Instant},
};

use echoloop::{
    Address, ConnectionId, Peer,
    internals::{Accept, Poller, Readiness, System, Wait},
};
use mio::{Interest, Token};

use super::{
    Call, Kernel, SharedKernel, datagrams::FakeDatagramSocket, other_worker::OTHER, socket::SharedSocket,
    transport::FakeTransport,
};

/// The fake kernel, as the loop sees it.
pub struct SimSystem {
    kernel: SharedKernel,
    /// What the last wait brought.
    events: Vec<(Token, Readiness)>,
}

impl SimSystem {
    pub fn new(kernel: &SharedKernel) -> Self {
        Self { kernel: Rc::clone(kernel), events: Vec::new() }
    }

    /// The fate of a call on the poller.
    fn watch(&self) -> io::Result<()> {
        let mut kernel = self.kernel.borrow_mut();
        kernel.calls += 1;
        if let Some((error, _)) = kernel.planned_error(Call::Watch) {
            return Err(error.into());
        }
        if kernel.fails() { Err(ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }
}

impl System for SimSystem {
    type Transport = FakeTransport;
    type Listener = FakeListener;
    type DatagramSocket = FakeDatagramSocket;

    fn now(&mut self) -> Instant {
        self.kernel.borrow_mut().read_clock()
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        let kernel = &mut *self.kernel.borrow_mut();
        self.events.clear();
        kernel.calls += 1;
        kernel.dials_in_turn = 0;
        if let Some(Err(violation)) = kernel.handshakes.as_ref().map(|all| all.begin_turn(kernel.now)) {
            kernel.violation = Some(violation);
        }
        if let Some((error, _)) = kernel.planned_error(Call::Wait) {
            if error == ErrorKind::Interrupted {
                // A signal: no events, and no error.
                return Ok(());
            }
            kernel.forgive_backlogs();
            return Err(error.into());
        }
        let interrupted = kernel.nature.faults.interrupted;
        if kernel.hits(interrupted) {
            return Ok(());
        }
        self.events = kernel.take_events();
        if !kernel.is_calm && kernel.nature.time_passes_in_waits && kernel.choices.happens(1, 16) {
            let ahead = match wait {
                Wait::No => Duration::ZERO,
                Wait::Until(at) => at.saturating_duration_since(kernel.now).min(WAIT_MOST),
                Wait::Forever => WAIT_MOST,
            };
            // Events end the wait, at any time; where there are none the deadline does.
            let ahead = if self.events.is_empty() && matches!(wait, Wait::Until(_)) {
                ahead
            } else {
                let nanos = u64::try_from(ahead.as_nanos()).expect("a few seconds");
                Duration::from_nanos(kernel.choices.u64(..=nanos))
            };
            kernel.advance(ahead);
        }
        Ok(())
    }

    fn events(&self) -> impl Iterator<Item = (Token, Readiness)> {
        self.events.iter().copied()
    }

    fn watch_listener(&mut self, listener: &mut FakeListener, token: Token) -> io::Result<()> {
        self.kernel.borrow_mut().listeners[listener.position].token = Some(token);
        Ok(())
    }

    fn watch_datagrams(&mut self, _: &mut FakeDatagramSocket, token: Token) -> io::Result<()> {
        let kernel = &mut *self.kernel.borrow_mut();
        kernel.datagrams.as_mut().expect("there is a socket").token = Some(token);
        Ok(())
    }

    fn connect(&mut self, peer: &Peer<'_>) -> io::Result<FakeTransport> {
        let kernel = &mut *self.kernel.borrow_mut();
        kernel.calls += 1;
        kernel.dials_in_turn += usize::from(peer.requested_by.is_some());
        if kernel.dials_in_turn > kernel.dials_most {
            kernel.violation = Some(format!("{} connections begun in one turn", kernel.dials_in_turn));
        }
        if let Some((error, _)) = kernel.planned_error(Call::Connect) {
            return Err(error.into());
        }
        let is_begun = |socket: &&SharedSocket| socket.borrow().is_begun;
        if kernel.sockets.iter().filter(is_begun).count() >= kernel.nature.outbound_most || kernel.fails() {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let is_it = |socket: &&SharedSocket| socket.borrow().dialled_as == Some(peer.id);
        let socket = Rc::clone(kernel.sockets.iter().find(is_it).expect("its protocol was made first"));
        let is_pending = !kernel.choices.happens(1, 4);
        socket.borrow_mut().begin_connecting(is_pending, kernel.now);
        kernel.open += 1;
        Ok(FakeTransport { socket, kernel: Rc::clone(&self.kernel) })
    }
}

/// The longest wait of a schedule that is not calm.
const WAIT_MOST: Duration = Duration::from_secs(6);

impl Poller<FakeTransport> for SimSystem {
    fn register(
        &mut self,
        transport: &mut FakeTransport,
        id: ConnectionId,
        interest: Interest,
    ) -> io::Result<()> {
        self.watch()?;
        let mut socket = transport.socket.borrow_mut();
        socket.id = Some(id);
        socket.watch(interest);
        Ok(())
    }

    fn reregister(
        &mut self,
        transport: &mut FakeTransport,
        id: ConnectionId,
        interest: Interest,
    ) -> io::Result<()> {
        self.watch()?;
        let mut socket = transport.socket.borrow_mut();
        if socket.id != Some(id) {
            socket.violation("watched again under another name");
        }
        socket.watch(interest);
        Ok(())
    }
}

/// A connection that was accepted, and the address of its client.
type Accepted = (FakeTransport, Address);

/// A listening socket: a queue of clients, and failures; and where another worker leaves what it has accepted.
pub struct FakeListener {
    kernel: SharedKernel,
    position: usize,
}

impl FakeListener {
    pub fn new(kernel: &SharedKernel, position: usize) -> Self {
        Self { kernel: Rc::clone(kernel), position }
    }

    /// The client of this number is the server's from now on.
    fn accepted(&self, number: usize, kernel: &mut Kernel) -> Accepted {
        kernel.progress += 1;
        kernel.open += 1;
        let socket = Rc::clone(&kernel.sockets[number]);
        {
            let mut socket = socket.borrow_mut();
            socket.is_accepted = true;
            (socket.since, socket.stirred, socket.last_taken) = (kernel.now, kernel.now, kernel.now);
        }
        (FakeTransport { socket, kernel: Rc::clone(&self.kernel) }, address_of(number))
    }
}

impl Accept for FakeListener {
    type Transport = FakeTransport;

    fn accept(&mut self) -> io::Result<Accepted> {
        let kernel = &mut *self.kernel.borrow_mut();
        kernel.calls += 1;
        if kernel.open >= kernel.capacity {
            kernel.violation = Some(format!("it accepts with {} sockets open", kernel.open));
        }
        let connections = kernel.open + kernel.left_to_loop();
        if let Some(Err(violation)) =
            kernel.other_worker.as_ref().map(|other| other.check_attempt(connections))
        {
            kernel.violation = Some(violation);
        }
        if let Some((error, _)) = kernel.planned_error(Call::Accept) {
            kernel.listeners[self.position].has_failed = true;
            return Err(error.into());
        }
        let percent = kernel.nature.faults.accept;
        if kernel.hits(percent) {
            kernel.listeners[self.position].has_failed = true;
            let errors = [ErrorKind::ConnectionAborted, ErrorKind::Interrupted, ErrorKind::OutOfMemory];
            return Err(kernel.choices.of(&errors).expect("there are some").into());
        }
        let backlog = &mut kernel.listeners[self.position];
        backlog.has_failed = false;
        let Some(number) = backlog.waiting.pop_front() else {
            backlog.is_armed = true;
            return Err(ErrorKind::WouldBlock.into());
        };
        Ok(self.accepted(number, kernel))
    }

    fn hand_over(&mut self, accepted: Accepted, to: u32) -> Result<(), Accepted> {
        {
            let kernel = &mut *self.kernel.borrow_mut();
            let Some(other) = kernel.other_worker.as_mut().filter(|_| to == OTHER) else {
                kernel.violation = Some(format!("it leaves a connection to worker {to}"));
                return Err(accepted);
            };
            if kernel.choices.happens(1, 8) {
                other.close_inbox();
            }
            if !other.takes_over() {
                return Err(accepted);
            }
            kernel.changed_worker += 1;
        }
        // Its client has nothing to do with the loop any more.
        let (transport, _) = accepted;
        {
            let mut socket = transport.socket.borrow_mut();
            (socket.is_accepted, socket.linger_zero) = (false, true);
        }
        drop(transport);
        Ok(())
    }

    fn handed_over(&mut self) -> Option<Accepted> {
        let kernel = &mut *self.kernel.borrow_mut();
        match kernel.listeners[self.position].inbox.pop_front() {
            Some(number) => {
                kernel.changed_worker += 1;
                Some(self.accepted(number, kernel))
            }
            None => {
                kernel.other_worker_acts_meanwhile();
                None
            }
        }
    }

    fn stop_taking_over(&mut self) {
        let kernel = &mut *self.kernel.borrow_mut();
        kernel.other_worker_acts_meanwhile();
        kernel.listeners[self.position].has_closed_inbox = true;
    }
}

impl Drop for FakeListener {
    fn drop(&mut self) {
        self.kernel.borrow_mut().close_listener(self.position);
    }
}

/// The address that tells which client it is.
fn address_of(number: usize) -> Address {
    let port = u16::try_from(number).expect("few clients");
    Address::Ip((Ipv4Addr::LOCALHOST, port).into())
}

/// Which client has this address.
pub fn client_at(address: &Address) -> usize {
    match address {
        Address::Ip(address) => address.port().into(),
        other => panic!("no client is at {other}"),
    }
}
