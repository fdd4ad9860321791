//! A datagram socket, and the clients that send to it.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::SocketAddr,
    rc::Rc,
};

use echoloop::internals::{Arrival, Datagrams, Destination, Readiness};
use mio::Token;

use super::{Kernel, Rearm, SharedKernel};

/// A datagram, of the client that has this address.
type Datagram = (SocketAddr, Vec<u8>);

/// The kernel's side of a datagram socket.
#[derive(Debug, Default)]
pub struct DatagramQueue {
    waiting: VecDeque<Datagram>,
    pub token: Option<Token>,
    has_event: bool,
    /// No event has come since the queue was found empty.
    is_armed: bool,
    pub is_closed: bool,
    /// How many calls fail, in percent.
    pub receive_fails: u8,
    pub answer_fails: u8,
    /// What the server has received last, unless it has answered it.
    in_hand: Option<Datagram>,
    /// Datagrams that were there when the server was told to drain, and are still.
    owed: usize,
    /// The server could not receive.
    has_failed: bool,
    pub received: u64,
    pub answered: u64,
    pub unsent: u64,
}

/// What recv(2) and udp(7) say of a datagram that was sent before, or of the system.
const RECEIVE_ERRORS: [ErrorKind; 5] = [
    ErrorKind::Interrupted,
    ErrorKind::ConnectionRefused,
    ErrorKind::HostUnreachable,
    ErrorKind::OutOfMemory,
    ErrorKind::Other,
];

/// Those of send(2).
const ANSWER_ERRORS: [ErrorKind; 6] = [
    ErrorKind::WouldBlock,
    ErrorKind::ConnectionRefused,
    ErrorKind::NetworkUnreachable,
    ErrorKind::PermissionDenied,
    ErrorKind::OutOfMemory,
    ErrorKind::Other,
];

impl DatagramQueue {
    pub fn new(receive_fails: u8, answer_fails: u8) -> Self {
        Self { is_armed: true, receive_fails, answer_fails, ..Self::default() }
    }

    /// A datagram comes. It is lost if nobody receives any more.
    pub fn arrive(&mut self, datagram: Datagram, rearm: Rearm) {
        if self.is_closed {
            return;
        }
        self.waiting.push_back(datagram);
        if rearm == Rearm::EveryEdge || self.is_armed {
            self.is_armed = false;
            self.has_event = true;
        }
    }

    /// The poller says that there are datagrams, without a cause perhaps.
    pub const fn stray_event(&mut self) {
        self.has_event = true;
    }

    pub const fn has_event(&self) -> bool {
        self.has_event && !self.is_closed
    }

    /// The event, if there is one.
    pub fn take_event(&mut self) -> Option<(Token, Readiness)> {
        let token = self.token.filter(|_| self.has_event())?;
        self.has_event = false;
        Some((token, Readiness::READ))
    }

    /// The server is told to drain: what waits now is still to be answered.
    pub fn note_drain(&mut self) {
        self.owed = self.waiting.len();
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// The server's end.
pub struct FakeDatagramSocket {
    kernel: SharedKernel,
}

impl FakeDatagramSocket {
    pub fn new(kernel: &SharedKernel) -> Self {
        Self { kernel: Rc::clone(kernel) }
    }

    /// Does something with the queue, and with whether a call of it fails.
    fn call<R>(
        &self,
        percent: impl FnOnce(&DatagramQueue) -> u8,
        errors: &[ErrorKind],
        call: impl FnOnce(&mut DatagramQueue, Option<ErrorKind>) -> R,
    ) -> R {
        let kernel = &mut *self.kernel.borrow_mut();
        kernel.calls += 1;
        let Kernel { datagrams: Some(queue), choices, is_calm, progress, .. } = kernel else {
            panic!("a socket of a kernel that has none");
        };
        let percent = percent(queue);
        let fails = !*is_calm && percent > 0 && choices.happens(percent, 100);
        let error = if fails { choices.of(errors) } else { None };
        let before = queue.waiting.len();
        let result = call(queue, error);
        *progress += u64::from(queue.waiting.len() != before);
        result
    }
}

impl Datagrams for FakeDatagramSocket {
    fn port(&self) -> u16 {
        PORT
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Arrival> {
        self.call(
            |queue| queue.receive_fails,
            &RECEIVE_ERRORS,
            |queue, error| {
                queue.has_failed = error.is_some();
                if let Some(error) = error {
                    return Err(error.into());
                }
                let Some((from, bytes)) = queue.waiting.pop_front() else {
                    queue.is_armed = true;
                    return Err(ErrorKind::WouldBlock.into());
                };
                buffer[..bytes.len()].copy_from_slice(&bytes);
                let length = bytes.len();
                queue.received += 1;
                queue.owed = queue.owed.saturating_sub(1);
                queue.in_hand = Some((from, bytes));
                Ok(Arrival { length, from, to: Destination::Bound })
            },
        )
    }

    fn answer(&mut self, bytes: &[u8], arrival: &Arrival) -> io::Result<()> {
        let is_right = self.call(
            |queue| queue.answer_fails,
            &ANSWER_ERRORS,
            |queue, error| {
                if queue.in_hand.take() != Some((arrival.from, bytes.to_vec())) {
                    return Ok(false);
                }
                if let Some(error) = error {
                    queue.unsent += 1;
                    return Err(io::Error::from(error));
                }
                queue.answered += 1;
                Ok(true)
            },
        )?;
        if !is_right {
            let violation = format!("{} got an answer that is not its own, or another time", arrival.from);
            self.kernel.borrow_mut().violation = Some(violation);
        }
        Ok(())
    }
}

impl Drop for FakeDatagramSocket {
    fn drop(&mut self) {
        let kernel = &mut *self.kernel.borrow_mut();
        let Some(queue) = &mut kernel.datagrams else { return };
        queue.is_closed = true;
        if queue.owed > 0 && !queue.has_failed && !kernel.may_drop_clients {
            kernel.violation = Some(format!("{} datagrams had come before the drain", queue.owed));
        }
    }
}

/// The port of the socket.
pub const PORT: u16 = 27_015;
