//! A fake kernel: sockets with small buffers, edge-triggered readiness, time, and faults.
//!
//! Each socket is shared between the transport that the server holds and the client that the test plays. What
//! the real kernel promises holds here too, and nothing more: an event comes for every change from
//! blocked to ready, sooner or later, perhaps merged with others, perhaps also without cause.

pub mod datagrams;
pub mod other_worker;
pub mod socket;
pub mod system;
pub mod transport;

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::ErrorKind,
    rc::Rc,
    time::{Duration, Instant},
};

use echoloop::{ConnectionId, internals::Readiness};
use mio::Token;

use self::{
    datagrams::DatagramQueue,
    other_worker::OtherWorker,
    socket::{Attempt, SharedSocket, Socket},
};
use super::{choices::Choices, secure::Handshakes};

/// How the poller arms itself again after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rearm {
    /// Each arrival is an event (epoll, kqueue).
    EveryEdge,
    /// Only after the operation said `WouldBlock` (mio on AFD and on poll(2)).
    AfterWouldBlock,
}

/// What the kernel knows of what the clients' systems have acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acks {
    /// It cannot say.
    Unaskable,
    /// They acknowledge everything at once, as far as there is room for it.
    AtOnce,
    /// Late, in part, or never.
    Late,
}

/// How likely each fault is, in percent of calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub partial: u8,
    pub would_block: u8,
    pub interrupted: u8,
    pub error: u8,
    /// Of accept(2) only.
    pub accept: u8,
}

/// How the kernel of a schedule is.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    pub rearm: Rearm,
    /// A read that brings less than it has room for has brought everything.
    pub short_read_drains: bool,
    pub acks: Acks,
    /// When both sides have ended, an event tells of the last acknowledgement (EPOLLHUP).
    pub wakes_at_last_ack: bool,
    /// A client's host may be gone from one moment to the next.
    pub may_vanish: bool,
    pub faults: Faults,
    /// What a call fails with when it fails by itself.
    pub errors: &'static [ErrorKind],
    pub planned: Option<Planned>,
    /// Time may pass while the loop waits for events, and not only between its turns.
    pub time_passes_in_waits: bool,
    /// The size of each buffer of a socket; `None`: any.
    pub buffer_bytes: Option<usize>,
    /// Clients that wait in a backlog, less one, at most.
    pub backlog: usize,
    /// Events that one wait brings, at most.
    pub event_batch: usize,
    /// Outbound connections that it makes, at most.
    pub outbound_most: usize,
    /// How many clients another worker accepts and leaves to the loop, in percent; `None`: the loop is the only one.
    pub left_percent: Option<u8>,
}

/// What all sockets share.
#[derive(Debug)]
pub struct Kernel {
    pub choices: Choices,
    pub nature: Nature,
    pub now: Instant,
    /// The time only moves where the test moves it, and every event is reported.
    pub is_calm: bool,
    /// Counts the calls, so that the Nth can be made to fail.
    pub calls: u64,
    /// A call has failed by itself.
    pub has_failed: bool,
    /// Sockets open on the server's side.
    pub open: usize,
    /// Bytes that moved or other changes that the server brought about.
    pub progress: u64,
    /// Bytes that the server received and sent in all.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// By number; the clients have the other ends.
    pub sockets: Vec<SharedSocket>,
    pub listeners: Vec<Backlog>,
    /// Where datagrams come, if the server has a socket for them.
    pub datagrams: Option<DatagramQueue>,
    pub other_worker: Option<OtherWorker>,
    /// Connections that went from one worker to the other, in either direction.
    pub changed_worker: u64,
    /// The server may leave clients unserved.
    may_drop_clients: bool,
    /// Events that are reported without a cause.
    pub stray_events: Vec<Token>,
    /// When the server was told to drain.
    pub drain_ordered: Option<Instant>,
    /// Connections that the server may have at once.
    pub capacity: usize,
    /// Outbound connections that callbacks may have begun in one turn.
    pub dials_most: usize,
    dials_in_turn: usize,
    /// Watched sockets that the server has closed.
    pub freed: u64,
    pub violation: Option<String>,
    /// The server's sessions, where TLS is spoken.
    pub handshakes: Option<Handshakes>,
}

/// The kernel's side of a listening socket.
#[derive(Debug, Default)]
pub struct Backlog {
    /// The numbers of the clients that wait.
    waiting: VecDeque<usize>,
    token: Option<Token>,
    has_event: bool,
    is_armed: bool,
    pub is_closed: bool,
    /// The last attempt to accept failed for a reason of the kernel's own.
    has_failed: bool,
    /// Clients that were there when the server was told to drain.
    owed_a_place: Vec<usize>,
    /// The numbers of the clients that another worker has left to this one.
    inbox: VecDeque<usize>,
    has_closed_inbox: bool,
    /// How many lay there when the listener was closed.
    dropped_from_inbox: usize,
    pub violation: Option<String>,
}

/// A call that fails: the Nth, with one of the errors of its man page.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub call: u64,
    /// Which of the errors; the call does not fail if it has not so many.
    pub choice: usize,
    /// All later ones on the same socket fail too.
    pub sticky: bool,
}

/// The calls that the server makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Write,
    Shutdown,
    Accept,
    Connect,
    Watch,
    /// getsockopt(2) with `SO_ERROR`, and getpeername(2).
    Ask,
    /// pipe(2) and fcntl(2).
    Pipe,
    /// epoll_wait(2).
    Wait,
}

/// The most errors that a call has.
pub const CHOICES: usize = 16;

impl Call {
    /// The errors that recv(2), send(2), shutdown(2), accept(2), connect(2), epoll_ctl(2), getsockopt(2),
    /// getpeername(2), pipe(2) and epoll_wait(2) list, and those that tcp(7) adds.
    const fn errors(self) -> &'static [ErrorKind] {
        use ErrorKind as E;
        match self {
            Self::Read => &[
                E::WouldBlock,
                E::Interrupted,
                E::ConnectionReset,
                E::ConnectionRefused,
                E::TimedOut,
                E::NotConnected,
                E::HostUnreachable,
                E::NetworkUnreachable,
                E::OutOfMemory,
                E::InvalidInput,
                // EBADF, EFAULT, ENOTSOCK and other bugs have no kind of their own.
                E::Other,
            ],
            Self::Write => &[
                E::WouldBlock,
                E::Interrupted,
                E::ConnectionReset,
                E::BrokenPipe,
                E::TimedOut,
                E::NotConnected,
                E::HostUnreachable,
                E::NetworkUnreachable,
                E::NetworkDown,
                E::OutOfMemory,
                E::PermissionDenied,
                E::AddrNotAvailable,
                E::InvalidInput,
                E::Unsupported,
                E::Other,
            ],
            Self::Shutdown => &[E::NotConnected, E::InvalidInput, E::Other],
            // No WouldBlock: it would be a lie while clients wait, and no event would follow.
            Self::Accept => &[
                E::Interrupted,
                E::ConnectionAborted,
                E::ConnectionReset,
                E::NotConnected,
                E::NetworkDown,
                E::NetworkUnreachable,
                E::HostUnreachable,
                E::TimedOut,
                E::PermissionDenied,
                E::Unsupported,
                E::OutOfMemory,
                E::InvalidInput,
                // EMFILE, ENFILE, ENOBUFS have no kind of their own.
                E::Other,
            ],
            Self::Connect => &[
                E::ConnectionRefused,
                E::NetworkUnreachable,
                E::AddrNotAvailable,
                E::AddrInUse,
                E::PermissionDenied,
                E::WouldBlock,
                E::TimedOut,
                E::Other,
            ],
            Self::Watch => &[E::OutOfMemory, E::StorageFull, E::AlreadyExists, E::InvalidInput, E::Other],
            // No NotConnected: it would be a lie about a connection that is made.
            // EMFILE, ENFILE have no kind of their own.
            Self::Pipe => &[E::OutOfMemory, E::PermissionDenied, E::Other],
            Self::Ask => &[E::OutOfMemory, E::InvalidInput, E::Other],
            // A signal is no error to the loop: there are no events.
            Self::Wait => &[E::Interrupted, E::InvalidInput, E::Other],
        }
    }
}

impl Kernel {
    pub fn new(choices: &Choices, nature: Nature, now: Instant, listeners: usize) -> SharedKernel {
        Rc::new(RefCell::new(Self {
            choices: choices.clone(),
            nature,
            now,
            is_calm: false,
            calls: 0,
            has_failed: false,
            open: 0,
            progress: 0,
            bytes_in: 0,
            bytes_out: 0,
            sockets: Vec::new(),
            datagrams: None,
            other_worker: None,
            changed_worker: 0,
            may_drop_clients: false,
            stray_events: Vec::new(),
            drain_ordered: None,
            capacity: usize::MAX,
            dials_most: usize::MAX,
            dials_in_turn: 0,
            freed: 0,
            violation: None,
            handshakes: None,
            listeners: (0..listeners).map(|_| Backlog { is_armed: true, ..Backlog::default() }).collect(),
        }))
    }

    /// No more faults, and no time passes by itself.
    pub fn calm_down(&mut self) {
        self.is_calm = true;
        self.nature.faults = Faults::default();
        self.nature.planned = None;
        self.choices.freeze();
        if let Some(other) = &mut self.other_worker {
            other.close_inbox();
        }
    }

    /// A new connection, with buffers of these sizes.
    pub fn add_socket(&mut self, inbound: usize, outbound: usize) -> SharedSocket {
        let mut socket = Socket::new(inbound, outbound, self.now);
        if self.nature.acks == Acks::Late {
            socket.window = self.choices.usize(..=outbound);
        }
        let socket = Rc::new(RefCell::new(socket));
        self.sockets.push(Rc::clone(&socket));
        socket
    }

    /// The place for an outbound connection of this name. If the server does not connect, it stays as it is.
    pub fn add_unconnected(&mut self, id: ConnectionId) -> SharedSocket {
        let (inbound, outbound) = (self.buffer_size(), self.buffer_size());
        let socket = self.add_socket(inbound, outbound);
        {
            let mut socket = socket.borrow_mut();
            (socket.dialled_as, socket.attempt, socket.closed) = (Some(id), Attempt::Refused, true);
        }
        socket
    }

    /// If any will do: small ones, and often one of a single byte.
    pub fn buffer_size(&self) -> usize {
        match self.nature.buffer_bytes {
            Some(size) => size,
            None if self.choices.u8(..3) == 0 => 1,
            None => self.choices.usize(1..200),
        }
    }

    /// Whether a client that comes to a listener would be let in.
    pub fn has_place(&self, listener: usize) -> bool {
        let backlog = &self.listeners[listener];
        !backlog.is_closed && backlog.waiting.len() <= self.nature.backlog
    }

    /// A client comes to a listener.
    pub fn arrive(&mut self, listener: usize, client: usize) {
        assert!(self.has_place(listener), "see has_place");
        if self.is_accepted_elsewhere(listener, client) {
            return;
        }
        let rearm = self.nature.rearm;
        let backlog = &mut self.listeners[listener];
        backlog.waiting.push_back(client);
        if rearm == Rearm::EveryEdge || backlog.is_armed {
            backlog.is_armed = false;
            backlog.has_event = true;
        }
    }

    /// What the server has sent in all, over TLS in plaintext.
    pub fn plaintext_sent(&self) -> u64 {
        let of = |socket: &SharedSocket| {
            let socket = socket.borrow();
            socket.meter.as_ref().map_or(socket.taken, |meter| meter.whole(socket.taken) + meter.plain())
        };
        self.sockets.iter().map(of).sum()
    }

    /// Whether clients wait in a backlog.
    pub fn has_waiting(&self) -> bool {
        self.listeners.iter().any(|backlog| !backlog.is_closed && !backlog.waiting.is_empty())
    }

    /// Whether clients wait in a backlog to which no event will call the server back.
    pub fn has_failed_backlog(&self) -> bool {
        let mut backlogs = self.listeners.iter();
        backlogs.any(|backlog| !backlog.is_closed && backlog.has_failed && !backlog.waiting.is_empty())
    }

    pub fn is_listening(&self) -> bool {
        self.listeners.iter().any(|backlog| !backlog.is_closed)
    }

    /// The server is told to drain: who waits now is still to be served.
    pub fn note_drain(&mut self) {
        if self.drain_ordered.is_some() {
            return;
        }
        self.drain_ordered = Some(self.now);
        for backlog in &mut self.listeners {
            backlog.owed_a_place.extend(backlog.waiting.iter());
        }
        if let Some(queue) = &mut self.datagrams {
            queue.note_drain();
        }
    }

    /// From here on the server may leave those who wait unserved.
    pub fn forgive_backlogs(&mut self) {
        self.may_drop_clients = true;
        for backlog in &mut self.listeners {
            backlog.owed_a_place.clear();
        }
    }

    /// The listening socket is closed: who waits is reset.
    fn close_listener(&mut self, listener: usize) {
        let backlog = &mut self.listeners[listener];
        backlog.is_closed = true;
        backlog.has_closed_inbox = true;
        backlog.dropped_from_inbox = backlog.inbox.len();
        for number in std::mem::take(&mut backlog.inbox) {
            if !self.may_drop_clients {
                backlog.violation = Some(format!("client {number} was left to it, and was not served"));
            }
            self.sockets[number].borrow_mut().close_unaccepted();
        }
        for number in std::mem::take(&mut backlog.waiting) {
            if backlog.owed_a_place.contains(&number) && !backlog.has_failed {
                backlog.violation = Some(format!("client {number} was in the backlog, and was not served"));
            }
            self.sockets[number].borrow_mut().close_unaccepted();
        }
    }

    /// Whether the poller has something to report, now or when it is asked.
    pub fn has_events(&self) -> bool {
        let of_listeners = self.listeners.iter().any(|backlog| backlog.has_event && !backlog.is_closed);
        of_listeners
            || self.datagrams.as_ref().is_some_and(DatagramQueue::has_event)
            || self.sockets.iter().any(|socket| {
                let socket = socket.borrow();
                !socket.closed && socket.has_events_to_come()
            })
    }

    /// The events of one wait, in any order, each sooner or later.
    fn take_events(&mut self) -> Vec<(Token, Readiness)> {
        let everything = Readiness::READ | Readiness::WRITE | Readiness::ERROR;
        let mut events: Vec<_> = self.stray_events.drain(..).map(|token| (token, everything)).collect();
        for backlog in &mut self.listeners {
            if let Some(token) = backlog.token.filter(|_| backlog.has_event && !backlog.is_closed)
                && (self.is_calm || !self.choices.happens(1, 2))
            {
                backlog.has_event = false;
                events.push((token, Readiness::READ));
            }
        }
        if let Some(queue) = self.datagrams.as_mut().filter(|queue| queue.has_event())
            && (self.is_calm || !self.choices.happens(1, 2))
        {
            events.extend(queue.take_event());
        }
        let has_events = |number: &usize| {
            let socket = self.sockets[*number].borrow();
            !socket.closed && socket.has_events_to_come()
        };
        let mut places: Vec<usize> = (0..self.sockets.len()).filter(has_events).collect();
        self.choices.shuffle(&mut places);
        for number in places {
            if events.len() >= self.nature.event_batch {
                break;
            }
            if !self.is_calm && self.choices.happens(1, 2) {
                continue;
            }
            let mut socket = self.sockets[number].borrow_mut();
            socket.pay_owed(self.nature.rearm);
            let mut ready = socket.take_events();
            // Not every system gives every hint; and both directions may come apart.
            if ready.has(Readiness::ERROR) && self.choices.happens(1, 4) {
                ready.remove(Readiness::ERROR);
            }
            let both = Readiness::READ | Readiness::WRITE;
            if !self.is_calm && ready.has(both) && self.choices.happens(1, 4) {
                ready.remove(Readiness::WRITE);
                socket.put_back(Readiness::WRITE);
            }
            if let (Some(token), true) = (socket.token(), ready != Readiness::NONE) {
                events.push((token, ready));
            }
        }
        events
    }

    /// The error that the plan has for this call, and whether it stays.
    fn planned_error(&self, call: Call) -> Option<(ErrorKind, bool)> {
        let planned = self.nature.planned.filter(|planned| planned.call == self.calls)?;
        Some((*call.errors().get(planned.choice)?, planned.sticky))
    }

    fn hits(&self, percent: u8) -> bool {
        percent > 0 && self.choices.happens(percent, 100)
    }

    /// Whether a call fails by itself.
    fn fails(&mut self) -> bool {
        let fails = self.hits(self.nature.faults.error);
        self.has_failed |= fails;
        fails
    }

    /// What the server reads off its clock: clock_gettime(2) does not fail, but it can jump, as where the process was
    /// stopped.
    fn read_clock(&mut self) -> Instant {
        self.calls += 1;
        if let Some(planned) = self.nature.planned.filter(|planned| planned.call == self.calls) {
            self.advance(JUMPS.get(planned.choice).copied().unwrap_or_default());
        }
        self.now
    }

    /// Whether the clients' systems acknowledge what they can as soon as it is sent.
    pub fn acknowledges_at_once(&self) -> bool {
        self.is_calm || self.nature.acks == Acks::AtOnce
    }

    /// Moves the time, unless it is so far that it is never.
    pub fn advance(&mut self, ahead: Duration) {
        if ahead < FAR {
            self.now += ahead;
        }
    }
}

/// How far a clock may jump ahead between two looks at it.
const JUMPS: [Duration; 4] =
    [Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(86_400)];

/// A timeout of years is as good as none.
pub const FAR: Duration = Duration::from_secs(1 << 30);

pub type SharedKernel = Rc<RefCell<Kernel>>;
