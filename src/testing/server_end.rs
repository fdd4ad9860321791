//! The server's end of a connection.

use std::io::{self, ErrorKind, IoSlice, Read, Write};

use super::{
    kernel::Kernel,
    socket::{ClientEnd, SharedSocket, Stage},
};
use crate::{
    address::Address,
    pipes::NoPipe,
    system::transport::{Addresses, Transport},
};

/// The server's end of a socket.
#[derive(Debug)]
pub(super) struct ServerEnd {
    pub(super) socket: SharedSocket,
    kernel: Kernel,
}

impl ServerEnd {
    pub(super) fn new(socket: SharedSocket, kernel: &Kernel) -> Self {
        Self { socket, kernel: kernel.clone() }
    }
}

impl Read for ServerEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let socket = &mut *self.socket.borrow_mut();
        if socket.inbound.is_empty() {
            if let Some(kind) = socket.pending_error.take() {
                return Err(kind.into());
            }
            return match socket.client_end {
                ClientEnd::Open => Err(ErrorKind::WouldBlock.into()),
                // Behind an error that was taken comes the end of input too.
                ClientEnd::Ended | ClientEnd::Closed | ClientEnd::Reset => Ok(0),
            };
        }
        socket.inbound.read(buffer)
    }
}

impl Write for ServerEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let socket = &mut *self.socket.borrow_mut();
        if let Some(kind) = socket.pending_error.take() {
            return Err(kind.into());
        }
        if socket.is_reset_by_client() || socket.outbound_fin {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let n = bytes.len().min(socket.capacity - socket.outbound.len().min(socket.capacity));
        if n == 0 {
            socket.write_blocked = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        if socket.client_end == ClientEnd::Closed {
            // The bytes are taken; the reset that answers them comes at once.
            socket.reset();
            return Ok(n);
        }
        socket.outbound.extend(&bytes[..n]);
        socket.note_sent(n);
        if socket.wants_to_read() {
            self.kernel.note_readable(&self.socket);
        }
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut bytes = Vec::new();
        slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        self.write(&bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Addresses for ServerEnd {
    fn peer_addr(&self) -> io::Result<Address> {
        let socket = self.socket.borrow();
        if socket.stage == Stage::Made && !socket.is_reset_by_client() {
            return Ok(socket.client.clone());
        }
        Err(ErrorKind::NotConnected.into())
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(self.socket.borrow().server.clone())
    }
}

impl Transport for ServerEnd {
    type Pipe = NoPipe;

    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let before = self.socket.borrow().inbound.clone();
        let result = self.read(buffer);
        if matches!(result, Ok(n) if n > 0) {
            self.socket.borrow_mut().inbound = before;
        }
        result
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let socket = &mut *self.socket.borrow_mut();
        if socket.is_reset_by_client() {
            return Err(ErrorKind::NotConnected.into());
        }
        socket.outbound_fin = true;
        socket.note_sent(1);
        Ok(())
    }

    fn unacknowledged(&self) -> Option<usize> {
        Some(self.socket.borrow().unacknowledged())
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(self.socket.borrow_mut().pending_error.take().map(io::Error::from))
    }

    fn reset_on_close(&mut self) {
        self.socket.borrow_mut().reset_on_close = true;
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let socket = &mut *self.socket.borrow_mut();
        socket.closed = true;
        match socket.stage {
            Stage::Connecting | Stage::Refused => {}
            // A listener that is closed resets those whom it has not accepted.
            Stage::InBacklog => socket.reset_from_server(),
            Stage::Made if socket.is_reset_by_client() => {}
            // So does a close that was told to, or that leaves bytes unread.
            Stage::Made if socket.reset_on_close || !socket.inbound.is_empty() => socket.reset_from_server(),
            Stage::Made => socket.outbound_fin = true,
        }
    }
}
