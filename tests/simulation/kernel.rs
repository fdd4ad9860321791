//! A fake kernel: sockets with small buffers, edge-triggered readiness, and faults.
//!
//! Each socket is shared between the transport that the server holds and the client that the test plays. What
//! the real kernel promises holds here too, and nothing more: an event comes for every change from
//! blocked to ready, sooner or later, perhaps merged with others, perhaps also without cause.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, Read, Write},
    rc::Rc,
};

use echoloop::{
    Address,
    internals::{Addresses, Pipe, Poller, Readiness, Transport},
};
use mio::{Interest, Token};

use super::choices::Choices;

/// How the poller arms itself again after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rearm {
    /// Each arrival is an event (epoll, kqueue).
    EveryEdge,
    /// Only after the operation said `WouldBlock` (mio on AFD and on poll(2)).
    AfterWouldBlock,
}

/// How likely each fault is, in percent of calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub partial: u8,
    pub would_block: u8,
    pub interrupted: u8,
    pub error: u8,
}

/// Errors that recv(2), send(2) and their kin may give for reasons of their own.
const ERRORS: [ErrorKind; 6] = [
    ErrorKind::ConnectionReset,
    ErrorKind::BrokenPipe,
    ErrorKind::TimedOut,
    ErrorKind::HostUnreachable,
    ErrorKind::OutOfMemory,
    ErrorKind::NotConnected,
];

/// What all sockets share.
#[derive(Debug)]
pub struct Kernel {
    pub choices: Choices,
    pub faults: Faults,
    pub rearm: Rearm,
    /// A read that brings less than it has room for has brought everything.
    pub short_read_drains: bool,
    /// Counts the calls, so that the Nth can be made to fail.
    pub calls: u64,
    /// The call that fails, and how; `sticky` makes all later ones on the same socket fail too.
    pub planned: Option<Planned>,
    /// Sockets open on the server's side.
    pub open: usize,
    /// Bytes that moved or other changes that the server brought about.
    pub progress: u64,
}

/// A call that fails: the Nth, with one of the errors of its man page.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub call: u64,
    /// Which of the errors; the call does not fail if it has not so many.
    pub choice: usize,
    pub sticky: bool,
}

/// The calls that the server makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Write,
    Shutdown,
    Accept,
    Watch,
    /// getsockopt(2) with `SO_ERROR`, and getpeername(2).
    Ask,
    /// pipe(2) and fcntl(2).
    Pipe,
}

/// The most errors that a call has.
pub const CHOICES: usize = 16;

impl Call {
    /// The errors that recv(2), send(2), shutdown(2), accept(2), epoll_ctl(2), getsockopt(2) and getpeername(2)
    /// list, and those that tcp(7) adds.
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
            Self::Watch => &[E::OutOfMemory, E::StorageFull, E::AlreadyExists, E::InvalidInput, E::Other],
            // No NotConnected: it would be a lie about a connection that is made.
            // EMFILE, ENFILE have no kind of their own.
            Self::Pipe => &[E::OutOfMemory, E::PermissionDenied, E::Other],
            Self::Ask => &[E::OutOfMemory, E::InvalidInput, E::Other],
        }
    }
}

impl Kernel {
    /// The error that the plan has for this call, and whether it stays.
    pub fn planned_error(&self, call: Call) -> Option<(ErrorKind, bool)> {
        let planned = self.planned.filter(|planned| planned.call == self.calls)?;
        Some((*call.errors().get(planned.choice)?, planned.sticky))
    }

    fn hits(&self, percent: u8) -> bool {
        percent > 0 && self.choices.u8(..100) < percent
    }
}

pub type SharedKernel = Rc<RefCell<Kernel>>;

/// What becomes of an outbound connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// Nothing has come back yet.
    Pending,
    Made,
    Refused,
}

/// One connection as the kernel sees it.
#[derive(Debug)]
pub struct Socket {
    pub attempt: Attempt,
    /// Bytes from the client, and whether its FIN is behind them.
    pub inbound: VecDeque<u8>,
    pub inbound_fin: bool,
    pub inbound_capacity: usize,
    /// Bytes for the client, and whether our FIN is behind them.
    pub outbound: VecDeque<u8>,
    pub outbound_fin: bool,
    pub outbound_capacity: usize,
    /// The client reset the connection.
    pub reset_by_client: bool,
    /// The server's kernel reset the connection: the client loses what it has not read.
    pub reset_by_server: bool,
    /// The client's descriptor is closed: whatever comes is answered with a reset.
    pub client_closed: bool,
    pub closed: bool,
    pending_error: Option<ErrorKind>,
    sticky: Option<ErrorKind>,
    linger_zero: bool,
    // The poller's side.
    pub token: Option<Token>,
    interest: Option<Interest>,
    /// Events that the poller will report.
    pub events: Readiness,
    armed_read: bool,
    armed_write: bool,
    /// A read or write said `WouldBlock` though it could have gone on: the event must still come.
    owed: Readiness,
    // What must not happen is noted here.
    pub violations: Vec<String>,
    pub write_shut: bool,
    /// Bytes that the server handed over in all.
    pub taken: u64,
    /// Bytes that it moved into a pipe, to be handed over.
    pub moved: u64,
}

impl Socket {
    pub fn new(inbound_capacity: usize, outbound_capacity: usize) -> Self {
        Self {
            attempt: Attempt::Made,
            inbound: VecDeque::new(),
            inbound_fin: false,
            inbound_capacity,
            outbound: VecDeque::new(),
            outbound_fin: false,
            outbound_capacity,
            reset_by_client: false,
            reset_by_server: false,
            client_closed: false,
            closed: false,
            pending_error: None,
            sticky: None,
            linger_zero: false,
            token: None,
            interest: None,
            events: Readiness::NONE,
            armed_read: false,
            armed_write: false,
            owed: Readiness::NONE,
            violations: Vec::new(),
            write_shut: false,
            taken: 0,
            moved: 0,
        }
    }

    fn is_readable(&self) -> bool {
        !self.inbound.is_empty() || self.inbound_fin || self.pending_error.is_some() || self.reset_by_client
    }

    fn is_writable(&self) -> bool {
        (self.attempt == Attempt::Made && self.outbound.len() < self.outbound_capacity)
            || self.pending_error.is_some()
            || self.reset_by_client
            || self.write_shut
    }

    /// Something has come in or changed for reading.
    pub fn edge_read(&mut self, rearm: Rearm) {
        if self.interest.is_none() || !(rearm == Rearm::EveryEdge || self.armed_read) {
            return;
        }
        self.armed_read = false;
        self.events.insert(Readiness::READ);
        if self.pending_error.is_some() {
            self.events.insert(Readiness::WRITE | Readiness::ERROR);
        }
    }

    /// There is room to write again.
    pub fn edge_write(&mut self, rearm: Rearm) {
        let is_watched = self.interest.is_some_and(Interest::is_writable);
        if is_watched && (rearm == Rearm::EveryEdge || self.armed_write) {
            self.armed_write = false;
            self.events.insert(Readiness::WRITE);
        }
    }

    /// What the poller reports. The end counts if it is there by now, whatever the event was for.
    pub fn take_events(&mut self) -> Readiness {
        let mut events = std::mem::replace(&mut self.events, Readiness::NONE);
        let has_ended = self.inbound_fin || self.reset_by_client || self.pending_error.is_some();
        if events != Readiness::NONE && has_ended {
            events.insert(Readiness::MORE);
        }
        events
    }

    /// The poller reports the rest of what it took later.
    pub fn put_back(&mut self, events: Readiness) {
        self.events.insert(events);
    }

    /// Whether the poller has something to report, now or when it is asked.
    pub fn has_events_to_come(&self) -> bool {
        self.events != Readiness::NONE || self.owed != Readiness::NONE
    }

    /// What was said to block though it did not, becomes an event.
    pub fn pay_owed(&mut self, rearm: Rearm) {
        if self.owed.has(Readiness::READ) && self.is_readable() {
            self.edge_read(rearm);
        }
        if self.owed.has(Readiness::WRITE) && self.is_writable() {
            self.edge_write(rearm);
        }
        self.owed = Readiness::NONE;
    }

    fn watch(&mut self, interest: Interest) {
        self.interest = Some(interest);
        self.armed_read = true;
        self.armed_write = true;
        // Watching anew reports what is ready by then.
        if self.is_readable() {
            self.edge_read(Rearm::EveryEdge);
        }
        if self.is_writable() {
            self.edge_write(Rearm::EveryEdge);
        }
    }

    fn violation(&mut self, what: &str) {
        self.violations.push(what.to_owned());
    }

    /// The connection is reset from the client's side.
    pub fn reset(&mut self, rearm: Rearm) {
        if self.closed || self.reset_by_client {
            return;
        }
        self.reset_by_client = true;
        self.pending_error = Some(ErrorKind::ConnectionReset);
        self.outbound.clear();
        self.edge_read(rearm);
        self.edge_write(rearm);
    }

    /// The peer of an outbound connection answers.
    pub fn answer(&mut self, is_taken: bool, rearm: Rearm) {
        if is_taken {
            self.attempt = Attempt::Made;
        } else {
            self.attempt = Attempt::Refused;
            self.pending_error = Some(ErrorKind::ConnectionRefused);
            self.edge_read(rearm);
        }
        self.edge_write(rearm);
    }

    /// The client sends: how many of `n` bytes there is room for.
    pub fn room_in(&self) -> usize {
        self.inbound_capacity.saturating_sub(self.inbound.len())
    }
}

/// The server's end.
#[derive(Debug)]
pub struct FakeTransport {
    pub socket: Rc<RefCell<Socket>>,
    pub kernel: SharedKernel,
}

impl FakeTransport {
    pub fn new(socket: Rc<RefCell<Socket>>, kernel: SharedKernel) -> Self {
        kernel.borrow_mut().open += 1;
        Self { socket, kernel }
    }

    /// The fate of this call, if it is not its own.
    fn fate(&self, call: Call) -> Result<(), io::Error> {
        let would_block_is = match call {
            Call::Read => Readiness::READ,
            Call::Write => Readiness::WRITE,
            Call::Shutdown | Call::Accept | Call::Watch | Call::Ask | Call::Pipe => Readiness::NONE,
        };
        let kernel = &mut *self.kernel.borrow_mut();
        let socket = &mut *self.socket.borrow_mut();
        kernel.calls += 1;
        if let Some(kind) = socket.sticky {
            return Err(kind.into());
        }
        if let Some((error, sticky)) = kernel.planned_error(call) {
            return Err(fail(socket, error, sticky, would_block_is));
        }
        let faults = kernel.faults;
        if kernel.hits(faults.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        if would_block_is != Readiness::NONE && kernel.hits(faults.would_block) {
            return Err(fail(socket, ErrorKind::WouldBlock, false, would_block_is));
        }
        if kernel.hits(faults.error) {
            let error = match kernel.choices.of(&ERRORS).expect("there are some") {
                // A lie, if the connection is made.
                ErrorKind::NotConnected if call == Call::Ask => ErrorKind::OutOfMemory,
                error => error,
            };
            // A pipe that is refused does the socket no harm.
            return Err(fail(socket, error, call != Call::Pipe, would_block_is));
        }
        Ok(())
    }

    /// How many of `n` bytes a call moves.
    fn part(&self, n: usize) -> usize {
        let kernel = &mut *self.kernel.borrow_mut();
        let percent = kernel.faults.partial;
        if n > 1 && kernel.hits(percent) { kernel.choices.usize(1..=n) } else { n }
    }

    /// The fate of a call that neither blocks nor is interrupted.
    fn ask(&self) -> io::Result<()> {
        match self.fate(Call::Ask) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn progress(&self) {
        self.kernel.borrow_mut().progress += 1;
    }
}

/// An error of the call itself. A socket on which one happened is of no more use, as in the real kernel: the peer
/// gets nothing more.
fn fail(socket: &mut Socket, error: ErrorKind, sticky: bool, direction: Readiness) -> io::Error {
    match error {
        ErrorKind::WouldBlock => {
            socket.owed.insert(direction);
            if direction.has(Readiness::READ) {
                socket.armed_read = true;
            }
            if direction.has(Readiness::WRITE) {
                socket.armed_write = true;
            }
        }
        ErrorKind::Interrupted => {}
        _ if sticky => socket.sticky = Some(error),
        _ => {}
    }
    error.into()
}

impl Read for FakeTransport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fate(Call::Read)?;
        let wanted = {
            let mut socket = self.socket.borrow_mut();
            if socket.closed {
                socket.violation("read after close");
            }
            if socket.attempt != Attempt::Made {
                socket.violation("read before it is connected");
            }
            if buffer.is_empty() {
                socket.violation("read of nothing");
            }
            if socket.inbound.is_empty() {
                if let Some(kind) = socket.pending_error.take() {
                    self.progress();
                    return Err(kind.into());
                }
                if socket.inbound_fin || socket.reset_by_client {
                    // After a reset whose error was taken, the kernel says end of input.
                    self.progress();
                    return Ok(0);
                }
                socket.armed_read = true;
                return Err(ErrorKind::WouldBlock.into());
            }
            buffer.len().min(socket.inbound.len())
        };
        let n = if self.short_read_drains() { wanted } else { self.part(wanted) };
        self.progress();
        let mut socket = self.socket.borrow_mut();
        for (slot, byte) in buffer.iter_mut().zip(socket.inbound.drain(..n)) {
            *slot = byte;
        }
        Ok(n)
    }
}

impl Write for FakeTransport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.fate(Call::Write)?;
        let room = {
            let mut socket = self.socket.borrow_mut();
            if socket.closed {
                socket.violation("write after close");
            }
            if socket.attempt != Attempt::Made {
                socket.violation("write before it is connected");
            }
            if socket.write_shut {
                socket.violation("write after shutdown");
            }
            if let Some(kind) = socket.pending_error.take() {
                self.progress();
                return Err(kind.into());
            }
            if socket.reset_by_client {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let room = socket.outbound_capacity - socket.outbound.len().min(socket.outbound_capacity);
            if room == 0 {
                socket.armed_write = true;
                return Err(ErrorKind::WouldBlock.into());
            }
            room
        };
        let n = self.part(bytes.len().min(room));
        self.progress();
        let rearm = self.kernel.borrow().rearm;
        let mut socket = self.socket.borrow_mut();
        socket.taken += n as u64;
        if socket.client_closed {
            // The bytes are taken; the reset that answers them comes at once on loopback.
            socket.reset(rearm);
        } else {
            socket.outbound.extend(&bytes[..n]);
        }
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Addresses for FakeTransport {
    fn peer_addr(&self) -> io::Result<Address> {
        self.ask()?;
        let socket = self.socket.borrow();
        if socket.attempt == Attempt::Made && !socket.reset_by_client {
            return self.local_addr();
        }
        Err(ErrorKind::NotConnected.into())
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Unix("simulated".into()))
    }
}

/// Bytes that the server does not see.
#[derive(Debug, Default)]
pub struct FakePipe(VecDeque<u8>);

impl Pipe for FakePipe {
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl Transport for FakeTransport {
    type Pipe = FakePipe;

    fn new_pipe(&self) -> io::Result<FakePipe> {
        self.fate(Call::Pipe)?;
        Ok(FakePipe::default())
    }

    fn splice_in(&mut self, pipe: &mut FakePipe, most: usize) -> io::Result<usize> {
        if most == 0 || !pipe.0.is_empty() {
            self.socket.borrow_mut().violation("a move of nothing, or into a pipe that is not empty");
        }
        match self.kernel.borrow().choices.u8(..40) {
            // Before urgent data, which a read brings.
            0 => return Ok(0),
            1 => return Err(ErrorKind::Unsupported.into()),
            _ => {}
        }
        let mut buffer = vec![0; most];
        // Like a read it takes the pending error with it.
        let n = self.read(&mut buffer)?;
        pipe.0.extend(&buffer[..n]);
        self.socket.borrow_mut().moved += n as u64;
        Ok(n)
    }

    fn splice_out(&mut self, pipe: &mut FakePipe, most: usize) -> io::Result<usize> {
        let bytes: Vec<u8> = pipe.0.iter().copied().take(most).collect();
        let n = self.write(&bytes)?;
        pipe.0.drain(..n);
        Ok(n)
    }

    fn short_read_drains(&self) -> bool {
        self.kernel.borrow().short_read_drains
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self.fate(Call::Shutdown) {
            // shutdown(2) neither blocks nor is interrupted.
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.progress();
        let mut socket = self.socket.borrow_mut();
        if socket.closed {
            socket.violation("shutdown after close");
        }
        if socket.write_shut {
            socket.violation("shutdown twice");
        }
        if socket.reset_by_client {
            return Err(ErrorKind::NotConnected.into());
        }
        socket.write_shut = true;
        socket.outbound_fin = true;
        Ok(())
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        self.ask()?;
        Ok(self.socket.borrow_mut().pending_error.take().map(io::Error::from))
    }

    fn reset_on_close(&mut self) {
        self.socket.borrow_mut().linger_zero = true;
    }
}

impl Drop for FakeTransport {
    fn drop(&mut self) {
        let mut socket = self.socket.borrow_mut();
        if socket.closed {
            socket.violation("closed twice");
        }
        socket.closed = true;
        // Closing with unread input, or with SO_LINGER 0, resets: what is under way is destroyed. So does
        // closing a socket that failed.
        if !socket.inbound.is_empty() || socket.linger_zero || socket.sticky.is_some() {
            socket.reset_by_server = true;
            socket.outbound.clear();
        } else if !socket.write_shut {
            // An ordinary close sends FIN behind what is queued in the kernel.
            socket.outbound_fin = true;
        }
        drop(socket);
        let mut kernel = self.kernel.borrow_mut();
        kernel.open -= 1;
        kernel.progress += 1;
    }
}

/// Registers sockets; the events themselves are with the sockets.
pub struct FakePoller {
    pub kernel: SharedKernel,
}

impl FakePoller {
    fn fate(&self) -> io::Result<()> {
        let mut kernel = self.kernel.borrow_mut();
        kernel.calls += 1;
        if let Some((error, _)) = kernel.planned_error(Call::Watch) {
            return Err(error.into());
        }
        let percent = kernel.faults.error;
        if kernel.hits(percent) { Err(ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }
}

impl Poller<FakeTransport> for FakePoller {
    fn register(
        &mut self,
        transport: &mut FakeTransport,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.fate()?;
        let mut socket = transport.socket.borrow_mut();
        socket.token = Some(token);
        socket.watch(interest);
        Ok(())
    }

    fn reregister(&mut self, transport: &mut FakeTransport, _: Token, interest: Interest) -> io::Result<()> {
        self.fate()?;
        transport.socket.borrow_mut().watch(interest);
        Ok(())
    }
}
