//! The server's end of a socket.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, Read, Write},
};

use echoloop::{
    Address,
    internals::{Addresses, Pipe, Readiness, Transport},
};

use super::{
    Acks, Call, SharedKernel,
    socket::{Attempt, SharedSocket, Socket},
};

/// Errors that recv(2), send(2) and their kin may give for reasons of their own.
pub const ERRORS: [ErrorKind; 6] = [
    ErrorKind::ConnectionReset,
    ErrorKind::BrokenPipe,
    ErrorKind::TimedOut,
    ErrorKind::HostUnreachable,
    ErrorKind::OutOfMemory,
    ErrorKind::NotConnected,
];

/// The server's end.
#[derive(Debug)]
pub struct FakeTransport {
    pub(super) socket: SharedSocket,
    pub(super) kernel: SharedKernel,
}

impl FakeTransport {
    /// The fate of this call, if it is not its own.
    fn fate(&self, call: Call) -> Result<(), io::Error> {
        let would_block_is = match call {
            Call::Read => Readiness::READ,
            Call::Write => Readiness::WRITE,
            Call::Shutdown
            | Call::Accept
            | Call::Connect
            | Call::Watch
            | Call::Ask
            | Call::Pipe
            | Call::Wait => Readiness::NONE,
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
        let faults = kernel.nature.faults;
        if kernel.hits(faults.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        if would_block_is != Readiness::NONE && kernel.hits(faults.would_block) {
            return Err(fail(socket, ErrorKind::WouldBlock, false, would_block_is));
        }
        if kernel.fails() {
            let error = match kernel.choices.of(kernel.nature.errors).expect("there are some") {
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
        let percent = kernel.nature.faults.partial;
        if n > 1 && kernel.hits(percent) { kernel.choices.usize(1..n) } else { n }
    }

    /// The fate of a call that neither blocks nor is interrupted.
    fn ask(&self) -> io::Result<()> {
        match self.fate(Call::Ask) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Notes a change that the server brought about, and when. Never while the socket is borrowed.
    fn progress(&self) {
        let mut kernel = self.kernel.borrow_mut();
        kernel.progress += 1;
        self.socket.borrow_mut().stirred = kernel.now;
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
                    drop(socket);
                    self.progress();
                    return Err(kind.into());
                }
                if socket.inbound_fin || socket.reset_by_client {
                    // After a reset whose error was taken, the kernel says end of input.
                    drop(socket);
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
        self.kernel.borrow_mut().bytes_in += n as u64;
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
                drop(socket);
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
        let rearm = self.kernel.borrow().nature.rearm;
        self.kernel.borrow_mut().bytes_out += n as u64;
        let (now, acknowledges_at_once) =
            (self.kernel.borrow().now, self.kernel.borrow().acknowledges_at_once());
        let mut socket = self.socket.borrow_mut();
        socket.note_sending();
        socket.taken += n as u64;
        socket.last_taken = socket.stirred;
        if let Some(Err(violation)) = socket.meter.as_mut().map(|meter| meter.note(&bytes[..n])) {
            socket.violation(&violation);
        }
        if socket.client_closed {
            // The bytes are taken; the reset that answers them comes at once on loopback.
            socket.reset(rearm);
        } else {
            socket.outbound.extend(&bytes[..n]);
            if acknowledges_at_once {
                let ackable = socket.ackable();
                socket.acknowledge(ackable, now);
            }
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
        let choices = self.kernel.borrow().choices.clone();
        if choices.happens(1, 40) {
            // Before urgent data, which a read brings.
            return Ok(0);
        }
        if choices.happens(1, 40) {
            return Err(ErrorKind::Unsupported.into());
        }
        if self.socket.borrow().is_at_end() {
            // It does not take the end: a read does.
            return self.fate(Call::Read).map(|()| 0);
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
        self.kernel.borrow().nature.short_read_drains
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self.fate(Call::Shutdown) {
            // shutdown(2) neither blocks nor is interrupted.
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.progress();
        let kernel = self.kernel.borrow();
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
        if socket.meter.as_ref().is_some_and(|meter| meter.has_agreed && !meter.has_closed) {
            socket.violation("FIN without close_notify");
        }
        socket.note_sending();
        socket.write_shut = true;
        socket.shut_at = Some(socket.stirred);
        socket.outbound_fin = true;
        if kernel.acknowledges_at_once() {
            let ackable = socket.ackable();
            socket.acknowledge(ackable, kernel.now);
        }
        Ok(())
    }

    fn unacknowledged(&self) -> Option<usize> {
        let mut socket = self.socket.borrow_mut();
        if socket.closed {
            socket.violation("asked after close");
        }
        let is_askable = self.kernel.borrow().nature.acks != Acks::Unaskable;
        is_askable.then(|| usize::try_from(socket.unacked()).expect("little is on its way"))
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
        let is_reset = socket.linger_zero || socket.sticky.is_some() || socket.reset_by_client;
        let is_askable = self.kernel.borrow().nature.acks != Acks::Unaskable;
        if is_askable && !is_reset && socket.write_shut && socket.unacked() > 0 {
            // The kernel gives up such a socket when the client takes its time.
            let unacked = socket.unacked();
            socket.violation(&format!("closed with {unacked} bytes unacknowledged"));
        }
        socket.closed = true;
        // Closing with unread input, or with SO_LINGER 0, resets: what is under way is destroyed. So does
        // closing a socket that failed.
        if !socket.inbound.is_empty() || socket.linger_zero || socket.sticky.is_some() {
            socket.reset_by_server = true;
            socket.outbound.clear();
            socket.closed_over_input = !socket.linger_zero && socket.sticky.is_none();
        } else if !socket.write_shut {
            // An ordinary close sends FIN behind what is queued in the kernel.
            socket.outbound_fin = true;
        }
        let was_watched = socket.id.is_some();
        drop(socket);
        let mut kernel = self.kernel.borrow_mut();
        kernel.open -= 1;
        kernel.freed += u64::from(was_watched);
        kernel.progress += 1;
    }
}
