//! Sockets without a system: two buffers, two ends, and edge-triggered readiness.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{ErrorKind, Read},
    mem,
    rc::Rc,
};

use mio::Interest;

use super::{events::Events, secure::Secure};
use crate::{
    address::Address, close_reason::CloseReason, connection_id::ConnectionId, system::readiness::Readiness,
};

pub(super) type SharedSocket = Rc<RefCell<Socket>>;

/// What becomes of the connection itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Outbound, and not answered yet.
    Connecting,
    /// A client that the loop has not accepted yet.
    InBacklog,
    Made,
    /// Outbound, and refused.
    Refused,
}

/// What the client has done about its own sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientEnd {
    Open,
    /// It has sent FIN, and still receives.
    Ended,
    /// It has closed its socket: what comes is answered with a reset.
    Closed,
    Reset,
}

/// One connection, as the system between both ends would see it.
#[derive(Debug)]
pub(super) struct Socket {
    events: Events,
    pub(super) stage: Stage,
    pub(super) client: Address,
    pub(super) server: Address,
    /// What the server calls it, once it has accepted it.
    pub(super) id: Option<ConnectionId>,
    /// How it ended for the server.
    pub(super) close_reason: Option<CloseReason>,
    /// Bytes from the client that the server has not read.
    pub(super) inbound: VecDeque<u8>,
    pub(super) client_end: ClientEnd,
    /// Bytes for the client that it has not read.
    pub(super) outbound: VecDeque<u8>,
    /// How many of those there may be.
    pub(super) capacity: usize,
    /// FIN is behind them.
    pub(super) outbound_fin: bool,
    /// Whether the client's system acknowledges whatever comes.
    acknowledges: bool,
    /// What it has not, in bytes, FIN counted as one.
    unacknowledged: usize,
    /// Whether the client reads whatever comes.
    pub(super) reads: bool,
    /// What it has read by that.
    received: Vec<u8>,
    reset_by_server: bool,
    /// The server's end is closed.
    pub(super) closed: bool,
    pub(super) reset_on_close: bool,
    pub(super) pending_error: Option<ErrorKind>,
    interest: Option<Interest>,
    /// A write has found no room; when there is some, an event follows.
    pub(super) write_blocked: bool,
    /// The client's end of TLS, if it speaks it.
    pub(super) secure: Option<Secure>,
}

/// How many bytes wait for a client that does not read, unless the test says otherwise.
const CAPACITY: usize = 1 << 20;

impl Socket {
    /// A client in the backlog.
    pub(super) fn inbound(events: &Events, client: Address, server: Address) -> Self {
        Self::new(events, Stage::InBacklog, client, server)
    }

    /// An outbound connection that nobody has answered; the client's part is that of whoever does.
    pub(super) fn outbound(events: &Events, client: Address, server: Address) -> Self {
        Self::new(events, Stage::Connecting, client, server)
    }

    fn new(events: &Events, stage: Stage, client: Address, server: Address) -> Self {
        Self {
            events: events.clone(),
            stage,
            client,
            server,
            id: None,
            close_reason: None,
            inbound: VecDeque::new(),
            client_end: ClientEnd::Open,
            outbound: VecDeque::new(),
            capacity: CAPACITY,
            outbound_fin: false,
            acknowledges: true,
            unacknowledged: 0,
            reads: true,
            received: Vec::new(),
            reset_by_server: false,
            closed: false,
            reset_on_close: false,
            pending_error: None,
            interest: None,
            write_blocked: false,
            secure: None,
        }
    }

    pub(super) fn set_capacity(&mut self, bytes: usize) {
        self.capacity = bytes;
    }

    pub(super) fn set_accepted(&mut self) {
        self.stage = Stage::Made;
    }

    /// Whether it is outbound and can still be answered.
    pub(super) fn is_connecting(&self) -> bool {
        self.stage == Stage::Connecting && !self.closed
    }

    /// Answers an outbound connection: it is made, or it fails for this reason.
    pub(super) fn answer(&mut self, answer: Result<(), ErrorKind>) {
        match answer {
            Ok(()) => {
                self.stage = Stage::Made;
                self.announce(Readiness::WRITE);
            }
            Err(kind) => {
                self.stage = Stage::Refused;
                self.pending_error = Some(kind);
                self.announce(error());
            }
        }
    }

    /// Nobody listens: the client is refused.
    pub(super) fn refuse_client(&mut self) {
        self.closed = true;
        self.reset_by_server = true;
    }

    // What the client does.

    /// Sends, over TLS if it speaks it.
    ///
    /// # Panics
    ///
    /// If the client has ended.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        match &mut self.secure {
            Some(secure) => {
                secure.write(bytes);
                self.send_records();
            }
            None => self.send_raw(bytes),
        }
    }

    /// Sends what its end of TLS has to say.
    fn send_records(&mut self) {
        if let Some(secure) = &mut self.secure {
            let bytes = secure.take_outgoing();
            if self.client_end == ClientEnd::Open && !bytes.is_empty() {
                self.send_raw(&bytes);
            }
        }
    }

    /// Speaks TLS from here on.
    pub(super) fn begin_tls(&mut self, secure: Secure) {
        self.secure = Some(secure);
        self.send_records();
    }

    /// Sends close_notify, if both have agreed.
    pub(super) fn close_notify(&mut self) {
        if let Some(secure) = &mut self.secure {
            secure.close();
            self.send_records();
        }
    }

    /// Sends bytes as they are on the wire.
    ///
    /// # Panics
    ///
    /// If the client has ended.
    pub(super) fn send_raw(&mut self, bytes: &[u8]) {
        assert!(self.client_end == ClientEnd::Open, "this client has ended, it cannot send any more");
        if self.closed {
            // Bytes for a socket that is closed are answered with a reset.
            self.reset_from_server();
        } else if !bytes.is_empty() {
            self.inbound.extend(bytes);
            self.announce(Readiness::READ);
        }
    }

    pub(super) fn end(&mut self) {
        if self.client_end == ClientEnd::Open {
            self.client_end = ClientEnd::Ended;
            self.announce(Readiness::READ | Readiness::MORE);
        }
    }

    pub(super) fn close(&mut self) {
        match self.client_end {
            ClientEnd::Open | ClientEnd::Ended if self.outbound.is_empty() => {
                self.client_end = ClientEnd::Closed;
                self.announce(Readiness::READ | Readiness::MORE);
            }
            // As where bytes are left unread when a socket is closed.
            ClientEnd::Open | ClientEnd::Ended => self.reset(),
            ClientEnd::Closed | ClientEnd::Reset => {}
        }
    }

    pub(super) fn reset(&mut self) {
        if self.client_end == ClientEnd::Reset {
            return;
        }
        self.client_end = ClientEnd::Reset;
        self.outbound.clear();
        if !self.closed {
            self.pending_error = Some(ErrorKind::ConnectionReset);
            self.announce(error());
        }
    }

    pub(super) const fn stop_acknowledging(&mut self) {
        self.acknowledges = false;
    }

    pub(super) fn resume_acknowledging(&mut self) {
        self.acknowledges = true;
        self.acknowledge(usize::MAX);
    }

    /// The client's system acknowledges up to `most` bytes.
    pub(super) fn acknowledge(&mut self, most: usize) {
        let has_all = self.unacknowledged > 0 && self.unacknowledged <= most;
        self.unacknowledged = self.unacknowledged.saturating_sub(most);
        if has_all && self.outbound_fin && self.client_end != ClientEnd::Open {
            // Both have ended, and know it: EPOLLHUP.
            self.announce(Readiness::READ | Readiness::WRITE | Readiness::MORE);
        }
    }

    pub(super) const fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    pub(super) fn stop_reading(&mut self) {
        self.reads = false;
    }

    pub(super) fn resume_reading(&mut self) {
        self.reads = true;
        self.read_all();
    }

    pub(super) fn read_all(&mut self) {
        if self.wants_to_read() {
            self.take_in(self.outbound.len());
        }
    }

    /// Whether it reads whatever comes. A handshake goes on in any case.
    pub(super) fn wants_to_read(&self) -> bool {
        self.reads || self.secure.as_ref().is_some_and(|secure| !secure.is_agreed())
    }

    /// Reads `n` bytes.
    fn take_in(&mut self, n: usize) {
        let bytes = take_first(&mut self.outbound, n);
        match &mut self.secure {
            Some(secure) => {
                self.received.extend(secure.open(&bytes));
                self.send_records();
            }
            None => self.received.extend(bytes),
        }
        self.make_room(n);
    }

    /// The client reads up to `most` bytes, and acknowledges as many.
    pub(super) fn read_some(&mut self, most: usize) {
        self.take_in(most.min(self.outbound.len()));
        self.acknowledge(most);
    }

    /// Whether nothing more comes for the client, and nothing waits for it.
    pub(super) fn is_over(&self) -> bool {
        self.closed && self.outbound.is_empty()
    }

    /// Takes up to `most` bytes, those first that have been read already.
    pub(super) fn read(&mut self, most: usize) -> Vec<u8> {
        let missing = most.saturating_sub(self.received.len());
        self.take_in(missing.min(self.outbound.len()));
        self.received.drain(..most.min(self.received.len())).collect()
    }

    fn make_room(&mut self, n: usize) {
        if n > 0 && mem::take(&mut self.write_blocked) {
            self.announce(Readiness::WRITE);
        }
    }

    pub(super) fn take_received(&mut self) -> Vec<u8> {
        mem::take(&mut self.received)
    }

    pub(super) fn has_fin(&self) -> bool {
        self.outbound_fin && self.outbound.is_empty()
    }

    pub(super) const fn was_reset(&self) -> bool {
        self.reset_by_server
    }

    /// Bytes that the server has not read.
    pub(super) fn unread(&self) -> usize {
        self.inbound.len()
    }

    pub(super) const fn client_address(&self) -> &Address {
        &self.client
    }

    // What the server does.

    /// It has sent `n` bytes, or FIN, which counts as one.
    pub(super) const fn note_sent(&mut self, n: usize) {
        if !self.acknowledges {
            self.unacknowledged += n;
        }
    }

    pub(super) fn reset_from_server(&mut self) {
        self.reset_by_server = true;
        self.inbound.clear();
        if !self.outbound.is_empty() {
            self.outbound.clear();
            self.outbound_fin = false;
        }
    }

    pub(super) fn is_reset_by_client(&self) -> bool {
        self.client_end == ClientEnd::Reset
    }

    pub(super) fn watch(&mut self, interest: Interest) {
        self.interest = Some(interest);
        // Watching reports what is ready by then.
        let mut ready = Readiness::NONE;
        if !self.inbound.is_empty() {
            ready.insert(Readiness::READ);
        }
        if self.client_end != ClientEnd::Open {
            ready.insert(Readiness::READ | Readiness::MORE);
        }
        if self.stage != Stage::Connecting && self.outbound.len() < self.capacity {
            ready.insert(Readiness::WRITE);
        }
        if self.pending_error.is_some() {
            ready.insert(error());
        }
        self.announce(ready);
    }

    /// Queues an event, as far as the server watches for it. Errors are always reported.
    fn announce(&self, ready: Readiness) {
        let (Some(id), Some(interest)) = (self.id, self.interest) else { return };
        let mut ready = ready;
        if !interest.is_writable() && !ready.has(Readiness::ERROR) {
            ready.remove(Readiness::WRITE);
        }
        if ready != Readiness::NONE && !self.closed {
            self.events.announce(id.token(), ready);
        }
    }
}

fn take_first(queue: &mut VecDeque<u8>, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    queue.read_exact(&mut bytes).expect("there are so many");
    bytes
}

/// What an error is reported as.
fn error() -> Readiness {
    Readiness::READ | Readiness::WRITE | Readiness::ERROR | Readiness::MORE
}
