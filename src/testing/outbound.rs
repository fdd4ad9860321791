//! A connection that the server wants to make.

use std::{cell::RefCell, fmt, io, rc::Rc};

use super::{
    Client,
    engine::{Buffer, Engine},
    kernel::Outgoing,
    secure::Secure,
};
use crate::{address::Address, connection_id::ConnectionId, protocol::Protocol, tls::toy::ToyTls};

/// A connection that the server wants to make, with [`Context::connect`](crate::Context::connect) or
/// [`Handle::connect`](crate::Handle::connect). The test answers it; unanswered it runs into the
/// [connect timeout](crate::Config::connect_timeout). For an example see [the module](super).
pub struct Outbound<'f, P: Protocol + 'f> {
    engine: Rc<RefCell<Engine<'f, P>>>,
    outgoing: Outgoing,
    buffer: Buffer,
}

impl<'f, P: Protocol + 'f> Outbound<'f, P> {
    pub(super) fn new(engine: Rc<RefCell<Engine<'f, P>>>, outgoing: Outgoing) -> Self {
        Self { engine, outgoing, buffer: Buffer::default() }
    }

    /// Where it is to go.
    #[must_use]
    pub fn address(&self) -> Address {
        self.outgoing.socket.borrow().client_address().clone()
    }

    /// What the server calls it.
    #[must_use]
    pub const fn label(&self) -> u64 {
        self.outgoing.label
    }

    /// The connection whose protocol wants it, if one does.
    #[must_use]
    pub const fn requested_by(&self) -> Option<ConnectionId> {
        self.outgoing.requested_by
    }

    /// The name that the connection has on the loop.
    #[must_use]
    pub fn id(&self) -> Option<ConnectionId> {
        self.outgoing.socket.borrow().id
    }

    /// Whether the server still waits for the answer.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.outgoing.socket.borrow().is_connecting()
    }

    /// As [`Connector::buffer_bytes`](super::Connector::buffer_bytes), for the upstream that accepts.
    #[must_use]
    pub const fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer.bytes = Some(bytes);
        self
    }

    /// As [`Connector::stopped`](super::Connector::stopped), for the upstream that accepts.
    #[must_use]
    pub const fn stopped(mut self) -> Self {
        self.buffer.is_stopped = true;
        self
    }

    /// The connection is made; the test plays the upstream.
    ///
    /// # Panics
    ///
    /// If it is not [pending](Self::is_pending) any more.
    pub fn accept(self) -> Client<'f, P> {
        self.accept_with(None)
    }

    /// The same of an upstream that speaks TLS, as [`Context::connect_tls`](crate::Context::connect_tls) wants it.
    ///
    /// ```
    /// use echoloop::{Context, Input, Origin, Protocol, testing::{Loop, ToyTls}};
    ///
    /// /// Asks an upstream over TLS.
    /// struct Ask;
    ///
    /// impl Protocol for Ask {
    ///     type Message = ();
    ///
    ///     fn on_open(&mut self, cx: &mut Context<'_>) {
    ///         if cx.tls().is_some() {
    ///             cx.write(b"?");
    ///         } else {
    ///             let tls = ToyTls::new().server_name("upstream.example").connector();
    ///             cx.connect_tls("192.0.2.80:443".parse().expect("an address"), 0, tls).expect("there is room");
    ///         }
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
    /// }
    ///
    /// let net = Loop::new(|_| Some(Ask));
    /// let client = net.connect();
    /// let upstream = net.next_connect().expect("it connects").accept_tls(ToyTls::new());
    /// assert_eq!(upstream.received(), b"?");
    /// assert_eq!(upstream.tls().unwrap().server_name.as_deref(), Some("upstream.example"));
    /// ```
    ///
    /// # Panics
    ///
    /// As [`accept`](Self::accept).
    pub fn accept_tls(self, tls: impl Into<ToyTls>) -> Client<'f, P> {
        self.accept_with(Some(Secure::server(tls.into())))
    }

    fn accept_with(self, secure: Option<Secure>) -> Client<'f, P> {
        self.buffer.apply(&mut self.outgoing.socket.borrow_mut());
        self.outgoing.socket.borrow_mut().secure = secure;
        self.answer(Ok(()));
        Client::new(self.engine, self.outgoing.socket)
    }

    /// It cannot be made, for this reason: `ConnectionRefused` where nobody listens.
    ///
    /// # Panics
    ///
    /// If it is not [pending](Self::is_pending) any more.
    pub fn refuse(self, reason: io::ErrorKind) {
        self.answer(Err(reason));
    }

    fn answer(&self, answer: Result<(), io::ErrorKind>) {
        assert!(self.is_pending(), "the server does not wait for {} any more", self.address());
        self.outgoing.socket.borrow_mut().answer(answer);
        self.engine.borrow_mut().run();
    }
}

impl<'f, P: Protocol + 'f> fmt::Debug for Outbound<'f, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("address", &self.address().to_string())
            .field("label", &self.label())
            .field("requested_by", &self.requested_by())
            .finish_non_exhaustive()
    }
}
