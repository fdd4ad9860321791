//! The other end of a connection, which the test plays.

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use super::{
    engine::{Buffer, Engine},
    pace::Pace,
    secure::Secure,
    socket::SharedSocket,
};
use crate::{
    address::Address,
    close_reason::CloseReason,
    connection_id::ConnectionId,
    protocol::{Protocol, timeout::TimerKey},
    tls::{TlsInfo, toy::ToyTls},
};

/// The peer of one connection: a client that has connected to the server, or the upstream that the server has
/// connected to. The test plays it.
///
/// A handle, cheap to clone. Dropping it changes nothing: the connection goes on until one side ends it.
///
/// Whatever is done here, the loop then runs until it has nothing more to do at this time. What the server sends is
/// received at once, unless the client has [stopped reading](Self::stop_reading).
///
/// # Panics
///
/// Methods that let the loop run, or look into it, panic when they are called from within a callback of a protocol or
/// from the factory. For what else makes the loop panic see [`Loop`](super::Loop).
///
/// ```
/// use echoloop::{CloseReason, Echo, testing::Loop};
///
/// let net = Loop::new(|_| Some(Echo));
/// let client = net.connect();
/// client.send(b"this is a test");
/// assert_eq!(client.received(), b"this is a test");
/// client.end();
/// assert!(client.has_fin());
/// assert_eq!(client.close_reason(), Some(CloseReason::Peer));
/// ```
pub struct Client<'f, P: Protocol + 'f> {
    engine: Rc<RefCell<Engine<'f, P>>>,
    socket: SharedSocket,
}

impl<'f, P: Protocol + 'f> Client<'f, P> {
    pub(super) const fn new(engine: Rc<RefCell<Engine<'f, P>>>, socket: SharedSocket) -> Self {
        Self { engine, socket }
    }

    /// Sends all of `bytes` at once. The protocol gets them in one piece, as far as the limits allow, unless it has
    /// left some that came before, or does not read just now: then they wait, and [`unread`](Self::unread) counts them.
    ///
    /// When the server's end is closed already, the answer is a reset: [`was_reset`](Self::was_reset).
    ///
    /// # Panics
    ///
    /// After [`end`](Self::end), [`close`](Self::close) or [`reset`](Self::reset).
    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        self.socket.borrow_mut().send(bytes.as_ref());
        self.run();
    }

    /// Sends `bytes` in pieces of `chunk` bytes; the loop comes to rest after each.
    ///
    /// ```
    /// use echoloop::{Echo, testing::Loop};
    ///
    /// // A protocol must not care how the stream was cut.
    /// for chunk in 1..=5 {
    ///     let client = Loop::new(|_| Some(Echo)).connect();
    ///     client.send_in_chunks(b"hello", chunk);
    ///     assert_eq!(client.received(), b"hello");
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// If `chunk` is 0, and as [`send`](Self::send).
    pub fn send_in_chunks(&self, bytes: impl AsRef<[u8]>, chunk: usize) {
        for piece in bytes.as_ref().chunks(chunk) {
            self.send(piece);
        }
    }

    /// Sends `bytes` one by one: [`send_in_chunks`](Self::send_in_chunks) of 1.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub fn send_bytewise(&self, bytes: impl AsRef<[u8]>) {
        self.send_in_chunks(bytes, 1);
    }

    /// Sends all of `bytes` with FIN right behind: the server gets both at once.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub fn send_and_end(&self, bytes: impl AsRef<[u8]>) {
        self.socket.borrow_mut().send(bytes.as_ref());
        self.end();
    }

    /// Sends FIN behind everything sent, and goes on receiving: shutdown(2) of the sending side. Over TLS close_notify is
    /// before it, unless the handshake is not over.
    pub fn end(&self) {
        self.socket.borrow_mut().close_notify();
        self.truncate();
    }

    /// Over TLS: sends close_notify behind everything sent, and no FIN.
    ///
    /// ```
    /// use echoloop::{Echo, testing::{Loop, ToyTls}};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// let position = net.listen_tls(ToyTls::new());
    /// let client = net.client().listener(position).tls("echo.example").connect();
    /// client.send(b"hello");
    /// client.close_notify();
    /// assert_eq!(client.received(), b"hello");
    /// assert!(client.has_close_notify() && client.has_fin());
    /// assert!(client.is_open(), "the server waits for the FIN");
    /// ```
    pub fn close_notify(&self) {
        self.socket.borrow_mut().close_notify();
        self.run();
    }

    /// Sends FIN alone, as [`end`](Self::end) does where there is no TLS: the stream is truncated. For an example see [the
    /// module](super#tls).
    pub fn truncate(&self) {
        self.socket.borrow_mut().end();
        self.run();
    }

    /// Begins TLS as a client, on a connection that had none: STARTTLS.
    ///
    /// ```
    /// use echoloop::{Context, Input, Protocol, TlsInfo, testing::{Loop, ToyTls}};
    ///
    /// struct Upgrade;
    ///
    /// impl Protocol for Upgrade {
    ///     type Message = ();
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
    ///         input.take();
    ///         cx.write(b"go ahead");
    ///         cx.start_tls(ToyTls::new().acceptor());
    ///     }
    ///
    ///     fn on_tls(&mut self, tls: &TlsInfo, cx: &mut Context<'_>) {
    ///         cx.write(tls.server_name.as_deref().unwrap_or("nobody").as_bytes());
    ///     }
    /// }
    ///
    /// let net = Loop::new(|_| Some(Upgrade));
    /// let client = net.connect();
    /// client.send(b"STARTTLS\r\n");
    /// assert_eq!(client.received(), b"go ahead");
    /// client.start_tls("mail.example");
    /// assert_eq!(client.received(), b"mail.example");
    /// ```
    pub fn start_tls(&self, tls: impl Into<ToyTls>) {
        self.socket.borrow_mut().begin_tls(Secure::client(tls.into()));
        self.run();
    }

    /// What the handshake has agreed on, as this end sees it. `None` without TLS, and before.
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo> {
        self.socket.borrow().secure.as_ref()?.info()
    }

    /// Whether the server's close_notify was read, behind everything that it sent.
    #[must_use]
    pub fn has_close_notify(&self) -> bool {
        self.socket.borrow().secure.as_ref().is_some_and(Secure::has_close_notify)
    }

    /// The records that [`send`](Self::send) would send, to be cut and sent with [`send_raw`](Self::send_raw).
    ///
    /// ```
    /// use echoloop::{Echo, testing::{Loop, ToyTls}};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// let position = net.listen_tls(ToyTls::new());
    /// let client = net.client().listener(position).tls("echo.example").connect();
    /// let records = client.seal(b"hello");
    /// let (last, first) = records.split_last().unwrap();
    /// client.send_raw(first);
    /// assert_eq!(client.received(), b"");
    /// client.send_raw([*last]);
    /// assert_eq!(client.received(), b"hello");
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no TLS, or its handshake is not over.
    #[must_use]
    pub fn seal(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut socket = self.socket.borrow_mut();
        let secure = socket.secure.as_mut().filter(|secure| secure.is_agreed()).expect("both have agreed");
        secure.write(bytes.as_ref());
        secure.take_outgoing()
    }

    /// Sends bytes as they are on the wire.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub fn send_raw(&self, bytes: impl AsRef<[u8]>) {
        self.socket.borrow_mut().send_raw(bytes.as_ref());
        self.run();
    }

    /// Closes the socket, as a program does that wants no more answers: sends FIN, and answers what still comes with a
    /// reset. If it has stopped reading and leaves bytes unread, this is a [`reset`](Self::reset).
    pub fn close(&self) {
        self.socket.borrow_mut().close();
        self.run();
    }

    /// Resets the connection. What was on its way to this client is lost, and so is what it has sent to a protocol that
    /// does not read just now; one that is not accepted yet still gets it.
    pub fn reset(&self) {
        self.socket.borrow_mut().reset();
        self.run();
    }

    /// Takes what has been received since the last call.
    #[must_use]
    pub fn received(&self) -> Vec<u8> {
        self.socket.borrow_mut().take_received()
    }

    /// What [`received`](Self::received) takes, as text.
    ///
    /// # Panics
    ///
    /// If it is not UTF-8.
    #[must_use]
    pub fn received_text(&self) -> String {
        String::from_utf8(self.received()).expect("what was received is UTF-8")
    }

    /// Acknowledges nothing until [`resume_acknowledging`](Self::resume_acknowledging), like a client whose network is
    /// gone, though what the server sends still comes. Until then the server owes it: its connection does not count as
    /// delivered, and ends as a write stall if it takes too long.
    ///
    /// ```
    /// use echoloop::{CloseReason, Echo, testing::Loop};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// let client = net.connect();
    /// client.stop_acknowledging();
    /// client.send(b"hello");
    /// client.end();
    /// // The server's FIN counts as a byte.
    /// assert_eq!(client.unacknowledged(), 6);
    /// client.acknowledge(5);
    /// assert!(client.is_open());
    /// client.acknowledge(1);
    /// assert_eq!(client.close_reason(), Some(CloseReason::Peer));
    /// ```
    pub fn stop_acknowledging(&self) {
        self.socket.borrow_mut().stop_acknowledging();
    }

    /// Acknowledges up to `bytes` bytes of what the server has sent, in order; its FIN counts as one.
    pub fn acknowledge(&self, bytes: usize) {
        self.socket.borrow_mut().acknowledge(bytes);
        self.run();
    }

    /// Acknowledges everything, and from now on whatever comes.
    pub fn resume_acknowledging(&self) {
        self.socket.borrow_mut().resume_acknowledging();
        self.run();
    }

    /// What the server has sent and this client has not acknowledged, in bytes; its FIN counts as one.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.socket.borrow().unacknowledged()
    }

    /// Receives nothing until [`resume_reading`](Self::resume_reading): what the server sends waits in its buffer, up
    /// to [`Connector::buffer_bytes`], and then with the server. For an example see [the module](super).
    pub fn stop_reading(&self) {
        self.socket.borrow_mut().stop_reading();
    }

    /// Receives what has waited, and from now on whatever comes.
    pub fn resume_reading(&self) {
        self.socket.borrow_mut().resume_reading();
        self.run();
    }

    /// Reads up to `most` bytes: first what [`received`](Self::received) would take, then, while it has stopped
    /// reading, what waits. The server sends what there is room for by that.
    ///
    /// ```
    /// use echoloop::{Echo, testing::Loop};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// let client = net.client().buffer_bytes(4).stopped().connect();
    /// client.send(b"0123456789");
    /// assert_eq!(client.queued(), 6);
    /// assert_eq!(client.read(3), b"012");
    /// assert_eq!(client.queued(), 3);
    /// assert_eq!(client.read(100), b"3456789");
    /// ```
    #[must_use]
    pub fn read(&self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let more = self.socket.borrow_mut().read(most - bytes.len());
            if more.is_empty() {
                return bytes;
            }
            bytes.extend(more);
            self.run();
        }
    }

    /// Whether the server's FIN has come, behind everything that it sent.
    #[must_use]
    pub fn has_fin(&self) -> bool {
        self.socket.borrow().has_fin()
    }

    /// Whether the server has reset the connection, or answered with a reset, or nobody listened any more. What this
    /// client had not read by then is lost.
    #[must_use]
    pub fn was_reset(&self) -> bool {
        self.socket.borrow().was_reset()
    }

    /// The name that the connection has on the loop. `None` while this client waits to be accepted, and if the factory
    /// refused it.
    #[must_use]
    pub fn id(&self) -> Option<ConnectionId> {
        self.socket.borrow().id
    }

    /// The address that the server sees.
    #[must_use]
    pub fn address(&self) -> Address {
        self.socket.borrow().client_address().clone()
    }

    /// Whether the server has taken the connection and not closed it. While it waits for this client's FIN behind its
    /// own it has not.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.id().is_some() && self.close_reason().is_none()
    }

    /// How the connection ended for the server, once it has. `None` too if the factory refused it.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.socket.borrow().close_reason
    }

    /// Bytes that the protocol has written and this client has no room for: what
    /// [`Context::queued`](crate::Context::queued) says.
    #[must_use]
    pub fn queued(&self) -> usize {
        let Some(id) = self.id() else { return 0 };
        self.engine.borrow().connection(id).map_or(0, |connection| connection.queued() + connection.held())
    }

    /// Bytes that this client has sent and the server has not read: the protocol has paused, or its output is full.
    ///
    /// ```
    /// use echoloop::{Config, Echo, testing::Loop};
    ///
    /// let mut config = Config::default();
    /// config.set_high_water(8);
    /// let net = Loop::with_config(config, |_| Some(Echo));
    /// let client = net.client().buffer_bytes(0).stopped().connect();
    /// client.send([b'x'; 100]);
    /// assert_eq!((client.queued(), client.unread()), (8, 92));
    /// ```
    #[must_use]
    pub fn unread(&self) -> usize {
        self.socket.borrow().unread()
    }

    /// The protocol's timers, each with its key and the time left, the next first. For an example see [the
    /// module](super).
    #[must_use]
    pub fn timers(&self) -> Vec<(u64, Duration)> {
        let engine = self.engine.borrow();
        let connection = self.id().and_then(|id| engine.connection(id));
        let timers = connection.map_or(&[][..], |connection| connection.timers());
        let left = |&(timer, at): &(TimerKey, _)| (timer.key, engine.left_until(at));
        let mut timers: Vec<_> = timers.iter().map(left).collect();
        timers.sort_by_key(|&(_, left)| left);
        timers
    }

    /// Looks at the protocol of this connection. `None` if it has ended, or not begun.
    ///
    /// ```
    /// use echoloop::{Echo, testing::Loop};
    ///
    /// let client = Loop::new(|_| Some(Echo)).connect();
    /// assert_eq!(client.protocol(|&echo| echo), Some(Echo));
    /// ```
    ///
    /// # Panics
    ///
    /// If `look` does anything that lets the loop run.
    pub fn protocol<R>(&self, look: impl FnOnce(&P) -> R) -> Option<R> {
        let engine = self.engine.borrow();
        let connection = self.id().and_then(|id| engine.connection(id))?;
        connection.protocol().map(look)
    }

    /// Hands a message to the protocol of this connection, as [`Handle::send`](crate::Handle::send) does. False if it
    /// has ended or is not made yet, which is counted as undeliverable, and if it has no [name](Self::id). For an example
    /// see [`Loop::message_all`](super::Loop::message_all).
    pub fn message(&self, message: P::Message) -> bool {
        let Some(id) = self.id() else { return false };
        let is_there = self.engine.borrow_mut().message(id, message);
        self.run();
        is_there
    }

    fn run(&self) {
        self.engine.borrow_mut().run();
    }
}

impl<'f, P: Protocol + 'f> Clone for Client<'f, P> {
    fn clone(&self) -> Self {
        Self { engine: Rc::clone(&self.engine), socket: Rc::clone(&self.socket) }
    }
}

impl<'f, P: Protocol + 'f> fmt::Debug for Client<'f, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address().to_string())
            .field("id", &self.id())
            .field("close_reason", &self.close_reason())
            .finish_non_exhaustive()
    }
}

/// Says how a client connects; see [`Loop::client`](super::Loop::client).
///
/// ```
/// use echoloop::{Echo, testing::Loop};
///
/// // Only local clients, and only through the second listener.
/// let net = Loop::new(|peer| {
///     let is_local = peer.address.to_string().starts_with("127.0.0.1:");
///     (is_local && peer.origin == echoloop::Origin::Listener(1)).then_some(Echo)
/// });
/// assert!(net.client().listener(1).address("127.0.0.1:5000".parse()?).connect().is_open());
/// assert!(!net.client().listener(1).connect().is_open());
/// assert_eq!(net.stats().refused, 1);
/// # Ok::<(), echoloop::Error>(())
/// ```
pub struct Connector<'f, P: Protocol + 'f> {
    engine: Rc<RefCell<Engine<'f, P>>>,
    listener: usize,
    address: Option<Address>,
    buffer: Buffer,
    pace: Option<Pace>,
    tls: Option<ToyTls>,
}

impl<'f, P: Protocol + 'f> Connector<'f, P> {
    pub(super) fn new(engine: Rc<RefCell<Engine<'f, P>>>) -> Self {
        Self { engine, listener: 0, address: None, buffer: Buffer::default(), pace: None, tls: None }
    }

    /// Through the listener of this position: [`Origin::Listener`](crate::Origin::Listener). Default 0. The loop has
    /// as many as are used.
    #[must_use]
    pub const fn listener(mut self, position: usize) -> Self {
        self.listener = position;
        self
    }

    /// From this address. By default one of 198.51.100.0/24, another for each client.
    #[must_use]
    pub fn address(mut self, address: Address) -> Self {
        self.address = Some(address);
        self
    }

    /// How many bytes wait for the client between the server and its own reading: what the buffers of both systems
    /// hold. Default 1 MiB. With 0 nothing ever comes through.
    #[must_use]
    pub const fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer.bytes = Some(bytes);
        self
    }

    /// Without reading from the beginning: [`Client::stop_reading`]. A server that never stops sending could not come
    /// to rest otherwise.
    #[must_use]
    pub const fn stopped(mut self) -> Self {
        self.buffer.is_stopped = true;
        self
    }

    /// Reads up to `bytes` bytes of what has come, and acknowledges as many, each time that `every` has passed; never
    /// otherwise. For an example see [the module](super).
    ///
    /// # Panics
    ///
    /// If `every` is zero.
    #[must_use]
    pub fn slow(mut self, bytes: usize, every: Duration) -> Self {
        assert!(!every.is_zero(), "a slow client takes its time");
        self.buffer.is_stopped = true;
        self.pace = Some(Pace::new(bytes, every));
        self
    }

    /// A [slow](Self::slow) client's network loses one in three of what it acknowledges: nothing comes of it that time. The
    /// same seed gives the same losses.
    #[must_use]
    pub fn lossy(mut self, seed: u64) -> Self {
        if let Some(pace) = &mut self.pace {
            pace.lose(seed);
        }
        self
    }

    /// Speaks TLS, as a listener of [`Loop::listen_tls`](super::Loop::listen_tls) wants it; with a name, of the server of
    /// that name. What it sends before both have agreed waits. One that has [`stopped`](Self::stopped) reading reads as long
    /// as the handshake takes. Its [buffer](Self::buffer_bytes) holds records.
    #[must_use]
    pub fn tls(mut self, tls: impl Into<ToyTls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// Connects.
    #[must_use]
    pub fn connect(self) -> Client<'f, P> {
        let secure = self.tls.map(Secure::client);
        let socket = self.engine.borrow_mut().connect(self.listener, self.address, self.buffer, secure);
        if let Some(pace) = self.pace {
            self.engine.borrow_mut().set_pace(&socket, pace);
        }
        self.engine.borrow_mut().run();
        Client::new(self.engine, socket)
    }
}

impl<'f, P: Protocol + 'f> fmt::Debug for Connector<'f, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("listener", &self.listener)
            .field("address", &self.address)
            .field("buffer", &self.buffer)
            .finish_non_exhaustive()
    }
}
