//! A socket, with what is in front of it: the header of a proxy, and TLS.

mod layer;
mod preface;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IoSlice, Read, Write},
    rc::Rc,
};

use mio::Interest;

use self::{layer::Layer, preface::Preface};
use crate::{
    address::Address,
    connection_id::ConnectionId,
    proxy_protocol::Proxied,
    system::{
        Poller,
        transport::{Addresses, Stirred, Transport},
    },
    tls::{TlsInfo, scratch::Scratch, session::Session},
};

/// A socket, plain or with a layer of TLS on it, and perhaps with a header of the PROXY protocol in front.
#[derive(Debug)]
pub struct Channel<T> {
    socket: T,
    layer: Option<Box<Layer>>,
    preface: Option<Box<Preface>>,
}

impl<T> Channel<T> {
    /// A plain one.
    pub const fn new(socket: T) -> Self {
        Self { socket, layer: None, preface: None }
    }

    /// Before anything else comes the header of this proxy.
    pub(crate) fn expect_preface(&mut self, by: Address) {
        self.preface = Some(Box::new(Preface::of(by)));
    }

    /// The socket.
    pub const fn socket(&self) -> &T {
        &self.socket
    }
}

/// Asks the layer, or the socket where there is none.
macro_rules! ask {
    ($self:ident, $layer:ident => $secure:expr, $plain:expr) => {
        match &$self.layer {
            None => $plain,
            Some($layer) => $secure,
        }
    };
    (mut $self:ident, $layer:ident => $secure:expr, $plain:expr) => {
        match &mut $self.layer {
            None => $plain,
            Some($layer) => $secure,
        }
    };
}

impl<T: Transport> Read for Channel<T> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        ask!(mut self, layer => layer.read(&mut self.socket, buffer), self.socket.read(buffer))
    }
}

impl<T: Transport> Write for Channel<T> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        ask!(mut self, layer => layer.write(&mut self.socket, &[IoSlice::new(bytes)]), self.socket.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        ask!(mut self, layer => layer.write(&mut self.socket, slices), self.socket.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        ask!(mut self, layer => layer.flush(&mut self.socket), self.socket.flush())
    }
}

impl<T: Transport> Addresses for Channel<T> {
    /// The client's, if a proxy in front has said it.
    fn peer_addr(&self) -> io::Result<Address> {
        let said = self.preface.as_ref().and_then(|preface| preface.header()?.addresses.as_ref());
        said.map_or_else(|| self.socket.peer_addr(), |addresses| Ok(addresses.source.clone()))
    }

    fn proxied(&self) -> Option<Proxied> {
        self.preface.as_ref()?.proxied()
    }

    fn local_addr(&self) -> io::Result<Address> {
        self.socket.local_addr()
    }

    fn tls(&self) -> Option<TlsInfo> {
        ask!(self, layer => layer.info(), None)
    }

    fn is_truncated(&self) -> bool {
        ask!(self, layer => layer.is_truncated(), false)
    }
}

impl<T: Transport> Transport for Channel<T> {
    type Pipe = T::Pipe;

    fn must_connect_again(&self) -> bool {
        self.socket.must_connect_again()
    }

    fn connect_again(&mut self) -> io::Result<()> {
        self.socket.connect_again()
    }

    fn new_pipe(&self) -> io::Result<Self::Pipe> {
        self.socket.new_pipe()
    }

    fn splice_in(&mut self, pipe: &mut Self::Pipe, most: usize) -> io::Result<usize> {
        ask!(self, _layer => Err(io::ErrorKind::Unsupported.into()), self.socket.splice_in(pipe, most))
    }

    fn splice_out(&mut self, pipe: &mut Self::Pipe, most: usize) -> io::Result<usize> {
        ask!(self, _layer => Err(io::ErrorKind::Unsupported.into()), self.socket.splice_out(pipe, most))
    }

    #[inline]
    fn can_splice(&self) -> bool {
        self.layer.is_none() && self.socket.can_splice()
    }

    #[inline]
    fn short_read_drains(&self) -> bool {
        self.socket.short_read_drains() && ask!(self, layer => layer.short_read_drains(), true)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        ask!(mut self, layer => layer.shutdown_write(&mut self.socket), self.socket.shutdown_write())
    }

    const COUNTS_FIN: bool = T::COUNTS_FIN;

    fn unacknowledged(&self) -> Option<usize> {
        ask!(self, layer => layer.unacknowledged(&self.socket), self.socket.unacknowledged())
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    fn reset_on_close(&mut self) {
        self.socket.reset_on_close();
    }

    #[inline]
    fn is_secure(&self) -> bool {
        self.layer.is_some()
    }

    fn is_handshaking(&self) -> bool {
        ask!(self, layer => layer.is_handshaking(), false)
    }

    fn handshake(&mut self) -> io::Result<bool> {
        if let Some(preface) = &mut self.preface
            && !preface.read(&mut self.socket)?
        {
            return Ok(false);
        }
        ask!(mut self, layer => layer.handshake(&mut self.socket), Ok(true))
    }

    fn secure(&mut self, session: Box<dyn Session>, scratch: &Rc<Scratch>) -> io::Result<()> {
        debug_assert!(self.layer.is_none(), "one layer is enough");
        self.layer = Some(Box::new(Layer::new(session, scratch)?));
        Ok(())
    }

    #[inline]
    fn has_output(&self) -> bool {
        ask!(self, layer => layer.has_output(), false)
    }

    #[inline]
    fn has_input(&self) -> bool {
        ask!(self, layer => layer.has_input(), false)
    }

    #[inline]
    fn take_stirred(&mut self) -> Stirred {
        ask!(mut self, layer => layer.take_stirred(), Stirred::default())
    }

    fn unsent(&self) -> usize {
        ask!(self, layer => layer.unsent(), 0)
    }

    fn take_overhead(&mut self) -> isize {
        ask!(mut self, layer => layer.take_overhead(), 0)
    }

    fn is_open_below(&self) -> bool {
        ask!(self, layer => layer.is_open_below(), false)
    }

    fn undelivered(&self, unacknowledged: usize) -> usize {
        ask!(self, layer => layer.undelivered(unacknowledged), unacknowledged)
    }
}

/// Whoever watches sockets watches these.
impl<T, S: Poller<T>> Poller<Channel<T>> for S {
    fn register(&mut self, channel: &mut Channel<T>, id: ConnectionId, interest: Interest) -> io::Result<()> {
        self.register(&mut channel.socket, id, interest)
    }

    fn reregister(
        &mut self,
        channel: &mut Channel<T>,
        id: ConnectionId,
        interest: Interest,
    ) -> io::Result<()> {
        self.reregister(&mut channel.socket, id, interest)
    }
}
