//! A test kit for protocols: the loop without sockets, with clients that the test plays and time that it moves.
//!
//! A [`Loop`] runs a [`Protocol`] on the same event loop as a [`Server`](crate::Server) does: the same states, deadlines,
//! limits and backpressure, the same messages, outbound connections and relays, the same way of dealing with panics.
//! Only what is below is replaced: sockets by buffers, and the clock by [`Loop::advance`]. So a test needs no port
//! and no thread, never waits, and finds the same every time.
//!
//! # Bytes and time
//!
//! After everything that a test does, the loop runs until it has nothing more to do at that time.
//!
//! ```
//! use std::time::Duration;
//! use echoloop::{CloseReason, Context, Input, Protocol, Timeout, framing::Lines, testing::Loop};
//!
//! /// Greets by name, and does not wait for more than 5 s for one.
//! struct Greet(Lines);
//!
//! impl Protocol for Greet {
//!     type Message = ();
//!
//!     fn on_open(&mut self, cx: &mut Context<'_>) {
//!         cx.set_timer(1, Duration::from_secs(5));
//!     }
//!
//!     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
//!         while let Ok(Some(name)) = input.frame(&mut self.0) {
//!             cx.write(&[b"hello ", name, b"\n"].concat());
//!             cx.set_timer(1, Duration::from_secs(5));
//!         }
//!     }
//!
//!     fn on_timeout(&mut self, _: Timeout, cx: &mut Context<'_>) {
//!         cx.write(b"bye\n");
//!         cx.finish();
//!     }
//! }
//!
//! let net = Loop::new(|_peer| Some(Greet(Lines::new(80))));
//! let client = net.connect();
//! client.send_bytewise(b"Ann\nBo");
//! assert_eq!(client.received(), b"hello Ann\n");
//!
//! net.advance(Duration::from_secs(3));
//! assert_eq!(client.timers(), [(1, Duration::from_secs(2))]);
//! client.send(b"b\n");
//! assert_eq!(client.received(), b"hello Bob\n");
//!
//! net.advance(Duration::from_secs(5));
//! assert_eq!(client.received(), b"bye\n");
//! assert!(client.has_fin());
//! client.end();
//! assert_eq!(client.close_reason(), Some(CloseReason::Finished));
//! ```
//!
//! # A client that does not read
//!
//! ```
//! use std::time::Duration;
//! use echoloop::{CloseReason, Config, Echo, testing::Loop};
//!
//! let mut config = Config::default();
//! config.set_high_water(100);
//! config.write_timeout = Some(Duration::from_secs(60));
//! let net = Loop::with_config(config, |_| Some(Echo));
//! let client = net.client().buffer_bytes(10).stopped().connect();
//!
//! client.send([b'x'; 1000]);
//! assert_eq!((client.queued(), client.unread()), (100, 890)); // 10 wait in the client's buffer
//! assert_eq!(client.read(500).len(), 500);
//! assert_eq!(client.queued() + client.unread(), 490);
//!
//! net.advance(Duration::from_secs(59));
//! assert!(client.is_open());
//! net.advance(Duration::from_secs(1));
//! assert_eq!(client.close_reason(), Some(CloseReason::WriteStall));
//! assert!(client.was_reset() && !client.has_fin());
//! ```
//!
//! # However the stream is cut
//!
//! [`every_cut`] tests a protocol with every way to cut what it is sent, and every order of ends, in one call. A client that
//! [reads slowly](Connector::slow), and whose network [loses](Connector::lossy) some of what it acknowledges, is one line too:
//!
//! ```
//! use std::time::Duration;
//! use echoloop::{CloseReason, Echo, testing::Loop};
//!
//! let net = Loop::new(|_| Some(Echo));
//! let client = net.client().slow(10, Duration::from_millis(100)).lossy(1).connect();
//! client.send([b'x'; 1000]);
//! client.end();
//! net.advance(Duration::from_secs(9));
//! assert!(client.is_open() && client.received().len() < 1000);
//! net.advance(Duration::from_secs(30));
//! assert_eq!(client.close_reason(), Some(CloseReason::Peer));
//! ```
//!
//! # Clients that have to do with each other
//!
//! ```
//! use echoloop::{Context, Input, Protocol, testing::Loop};
//!
//! /// What one says, all others hear.
//! struct Chat;
//!
//! impl Protocol for Chat {
//!     type Message = Vec<u8>;
//!
//!     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Vec<u8>>) {
//!         let _ = cx.send_all(input.take().to_vec());
//!     }
//!
//!     fn on_message(&mut self, said: Vec<u8>, cx: &mut Context<'_, Vec<u8>>) {
//!         cx.write(&said);
//!     }
//! }
//!
//! let net = Loop::new(|_| Some(Chat));
//! let (alice, bob) = (net.connect(), net.connect());
//! alice.send(b"hi\n");
//! assert_eq!(bob.received(), b"hi\n");
//! assert_eq!(alice.received(), b"");
//! ```
//!
//! # Outbound connections
//!
//! The server's attempts to connect wait for the test's answer, and where it accepts, it plays the upstream.
//!
//! ```
//! use std::io::ErrorKind;
//! use echoloop::{CloseReason, ConnectionId, Context, Input, Origin, Protocol, testing::Loop};
//!
//! /// Passes everything on to an upstream.
//! enum Proxy {
//!     Client,
//!     Upstream(ConnectionId),
//! }
//!
//! impl Protocol for Proxy {
//!     type Message = ();
//!
//!     fn on_open(&mut self, cx: &mut Context<'_>) {
//!         match self {
//!             Self::Client => {
//!                 cx.pause_reading();
//!                 let upstream = "192.0.2.80:80".parse().expect("an address");
//!                 cx.connect(upstream, 0).expect("there is room");
//!             }
//!             Self::Upstream(client) => cx.relay(*client),
//!         }
//!     }
//!
//!     fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
//!
//!     fn on_connect_failed(&mut self, _: u64, reason: &CloseReason, cx: &mut Context<'_>) {
//!         cx.write(format!("{reason}\n").as_bytes());
//!         cx.finish();
//!     }
//! }
//!
//! let net = Loop::new(|peer| match peer.origin {
//!     Origin::Connect(_) => peer.requested_by.map(Proxy::Upstream),
//!     _ => Some(Proxy::Client),
//! });
//!
//! let client = net.connect();
//! let attempt = net.next_connect().expect("the proxy connects");
//! assert_eq!(attempt.address().to_string(), "192.0.2.80:80");
//! attempt.refuse(ErrorKind::ConnectionRefused);
//! assert_eq!(client.received(), b"connect failed: connection refused\n");
//! assert!(client.has_fin());
//!
//! let client = net.connect();
//! client.send(b"GET /\r\n");
//! let upstream = net.next_connect().expect("the proxy connects").accept();
//! assert_eq!(upstream.received(), b"GET /\r\n");
//! upstream.send(b"hello");
//! upstream.reset();
//! assert_eq!(client.received(), b"hello");
//! assert_eq!(client.close_reason(), Some(CloseReason::RelayBroken));
//! ```
//!
//! # TLS
//!
//! Clients and upstreams speak a TLS without cryptography, [`ToyTls`]: its handshake, its records and its ends are like
//! those of TLS, so that protocols are tested that want to know who has come, and how it ended.
//!
//! ```
//! use echoloop::{CloseReason, Context, Input, Protocol, testing::{Loop, ToyTls}};
//!
//! /// Says whether all has come.
//! struct Count(usize);
//!
//! impl Protocol for Count {
//!     type Message = ();
//!
//!     fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
//!         self.0 += input.take().len();
//!     }
//!
//!     fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
//!         let what = if cx.is_truncated() { "or more" } else { "in all" };
//!         cx.write(format!("{} {what}", self.0).as_bytes());
//!         cx.finish();
//!     }
//! }
//!
//! let net = Loop::new(|peer| {
//!     let name = peer.tls()?.server_name?;
//!     (name == "count.example").then_some(Count(0))
//! });
//! let position = net.listen_tls(ToyTls::new());
//! let connect = |name| net.client().listener(position).tls(name).connect();
//! assert!(connect("other.example").was_reset());
//!
//! let client = connect("count.example");
//! client.send(b"hello");
//! client.end();
//! assert_eq!(client.received_text(), "5 in all");
//! assert!(client.has_close_notify() && client.has_fin());
//! assert_eq!(client.close_reason(), Some(CloseReason::Peer));
//!
//! let client = connect("count.example");
//! client.send(b"hello");
//! client.truncate();
//! assert_eq!(client.received_text(), "5 or more");
//! assert_eq!(client.close_reason(), Some(CloseReason::Truncated));
//! ```
//!
//! # What is different from sockets
//!
//! - What one side sends, the other has at once: there is no network in between. The server's receive buffer has no end.
//! - A reset destroys everything that the client has not read. Some systems still hand it over.
//! - No bytes are moved inside the kernel, so [`Protocol::on_data`] is called for all of them
//!   ([`Config::splice_threshold_bytes`] is without effect).
//! - There is one worker, whatever [`Config::workers`] says, and no limit of descriptors.

mod client;
mod cuts;
mod datagrams;
mod engine;
mod events;
mod jobs;
mod kernel;
mod outbound;
mod pace;
mod secure;
mod server_end;
mod socket;
mod system;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    fmt,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

pub use client::{Client, Connector};
pub use cuts::every_cut;
pub use jobs::{Job, Lookup};
pub use outbound::Outbound;

pub use crate::tls::toy::ToyTls;

use self::engine::Engine;
use crate::{
    config::Config, connection_status::ConnectionStatus, handle::Handle, peer::Peer, protocol::Protocol,
    stats::Stats,
};

/// A server's loop for tests; see [the module](self).
///
/// # Panics
///
/// All methods are for the test: from within a callback of a protocol, or the factory, they panic. Those that let the
/// loop run panic if it does not come to rest: a protocol sets a timer of no delay again and again, two send messages
/// to and fro, or one sends without end, more than 256 MiB, to clients that read (see [`Connector::stopped`]).
pub struct Loop<'f, P: Protocol + 'f> {
    engine: Rc<RefCell<Engine<'f, P>>>,
}

impl<'f, P: Protocol + 'f> Loop<'f, P> {
    /// A loop with the default limits. The factory is that of [`Server::run`](crate::Server::run): it is called once
    /// for each connection and makes its protocol, or refuses it with `None`.
    ///
    /// ```
    /// use echoloop::{Echo, testing::Loop};
    ///
    /// let net = Loop::new(|_peer| Some(Echo));
    /// assert!(net.connect().is_open());
    /// ```
    #[must_use]
    pub fn new(factory: impl Fn(&Peer<'_>) -> Option<P> + 'f) -> Self {
        Self::with_config(Config::default(), factory)
    }

    /// A loop with these limits.
    ///
    /// ```
    /// use echoloop::{Config, Echo, testing::Loop};
    ///
    /// let mut config = Config::default();
    /// config.max_connections = Some(1);
    /// let net = Loop::with_config(config, |_peer| Some(Echo));
    /// let (first, second) = (net.connect(), net.connect());
    /// assert!(!second.is_open(), "it waits to be accepted");
    /// first.end();
    /// assert!(second.is_open());
    /// ```
    ///
    /// # Panics
    ///
    /// If a limit is out of its bounds.
    #[must_use]
    pub fn with_config(config: Config, factory: impl Fn(&Peer<'_>) -> Option<P> + 'f) -> Self {
        if let Err(error) = config.validate() {
            panic!("{error}");
        }
        Self { engine: Rc::new(RefCell::new(Engine::new(config, Box::new(factory)))) }
    }

    /// One more listener, with a factory of its own, and limits if there are any; see
    /// [`Builder::listen`](crate::Builder::listen). Returns its position, for [`Connector::listener`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use echoloop::{Config, Echo, testing::Loop};
    ///
    /// let net = Loop::new(|_| None);
    /// let mut hasty = Config::default();
    /// hasty.idle_timeout = Some(Duration::from_secs(5));
    /// let position = net.listen(hasty, |_| Some(Echo));
    /// assert!(net.connect().was_reset());
    /// let client = net.client().listener(position).connect();
    /// net.advance(Duration::from_secs(5));
    /// assert!(client.has_fin());
    /// ```
    ///
    /// # Panics
    ///
    /// If a limit is out of its bounds.
    pub fn listen(
        &self,
        limits: impl Into<Option<Config>>,
        factory: impl Fn(&Peer<'_>) -> Option<P> + 'f,
    ) -> usize {
        let limits = limits.into();
        if let Some(Err(error)) = limits.as_ref().map(Config::validate) {
            panic!("{error}");
        }
        self.engine.borrow_mut().listen_with(limits, Box::new(factory))
    }

    /// One more listener, for clients that speak TLS; see [`Builder::listen_tls`](crate::Builder::listen_tls). Returns its
    /// position, for [`Connector::listener`]. For an example see [the module](self).
    pub fn listen_tls(&self, tls: impl Into<ToyTls>) -> usize {
        self.engine.borrow_mut().listen_tls(tls.into().acceptor())
    }

    /// A client that connects, and reads whatever comes; see [`Client`].
    #[must_use]
    pub fn connect(&self) -> Client<'f, P> {
        self.client().connect()
    }

    /// A client that connects in another way; see [`Connector`].
    #[must_use]
    pub fn client(&self) -> Connector<'f, P> {
        Connector::new(Rc::clone(&self.engine))
    }

    /// The next outbound connection that the server wants to make and that was not taken here yet. Those are left out
    /// for which the server does not wait any more. For an example see [the module](self).
    #[must_use]
    pub fn next_connect(&self) -> Option<Outbound<'f, P>> {
        let outgoing = self.engine.borrow_mut().next_outbound()?;
        Some(Outbound::new(Rc::clone(&self.engine), outgoing))
    }

    /// The next work that a protocol has left to another thread and that was not taken here yet. For an example see
    /// [`Context::spawn_blocking`](crate::Context::spawn_blocking).
    #[must_use]
    pub fn next_job(&self) -> Option<Job<'f, P>> {
        let work = self.engine.borrow().jobs().next_work()?;
        Some(Job::new(Rc::clone(&self.engine), work))
    }

    /// The next host name that the server wants to connect to and that was not taken here yet. For an example see
    /// [`Lookup`].
    #[must_use]
    pub fn next_lookup(&self) -> Option<Lookup<'f, P>> {
        let lookup = self.engine.borrow().jobs().next_lookup()?;
        Some(Lookup::new(Rc::clone(&self.engine), lookup))
    }

    /// Sends a datagram to the server, as over UDP, and returns what comes back. The server echoes datagrams on port 27015,
    /// whatever the protocol is; see [`Builder::bind`](crate::Builder::bind). A finished one returns nothing.
    ///
    /// ```
    /// use echoloop::{Echo, testing::Loop};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// assert_eq!(net.datagram("this is a test").as_deref(), Some(&b"this is a test"[..]));
    /// assert_eq!(net.stats().datagrams_sent, 1);
    /// ```
    ///
    /// # Panics
    ///
    /// If it has more than 65,507 bytes, which UDP over IPv4 does not carry.
    #[must_use]
    pub fn datagram(&self, bytes: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.exchange_datagram(None, bytes.as_ref())
    }

    /// The same from this address, which the server may refuse to answer.
    ///
    /// ```
    /// use echoloop::{Echo, testing::Loop};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// let chargen = "198.51.100.1:19".parse().unwrap();
    /// assert_eq!(net.datagram_from(chargen, "this is a test"), None);
    /// assert_eq!(net.stats().datagrams_refused, 1);
    /// ```
    ///
    /// # Panics
    ///
    /// As [`datagram`](Self::datagram).
    #[must_use]
    pub fn datagram_from(&self, from: SocketAddr, bytes: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.exchange_datagram(Some(from), bytes.as_ref())
    }

    fn exchange_datagram(&self, from: Option<SocketAddr>, bytes: &[u8]) -> Option<Vec<u8>> {
        assert!(bytes.len() <= 65_507, "a datagram of {} bytes", bytes.len());
        self.engine.borrow_mut().datagram(from, bytes)
    }

    /// Lets time pass, from deadline to deadline: timers fire in their order, each at its time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use echoloop::{CloseReason, Echo, testing::Loop};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// let client = net.connect();
    /// net.advance(Duration::from_secs(600));
    /// assert!(client.has_fin(), "it was idle for too long");
    /// net.advance(Duration::from_secs(5));
    /// assert_eq!(client.close_reason(), Some(CloseReason::LingerSilence));
    /// ```
    ///
    /// # Panics
    ///
    /// If it leads past the range of the clock.
    pub fn advance(&self, time: Duration) {
        self.engine.borrow_mut().advance(time);
    }

    /// The time on the loop, as in [`Context::now`](crate::Context::now). It begins anywhere, and only
    /// [`advance`](Self::advance) moves it.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.engine.borrow().now()
    }

    /// Hands a message to every connection, as [`Handle::send_all`] does. For one connection there is
    /// [`Client::message`].
    ///
    /// ```
    /// use echoloop::{Context, Input, Protocol, testing::Loop};
    ///
    /// struct Ticker;
    ///
    /// impl Protocol for Ticker {
    ///     type Message = u32;
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_, u32>) {
    ///         input.take();
    ///     }
    ///
    ///     fn on_message(&mut self, price: u32, cx: &mut Context<'_, u32>) {
    ///         cx.write(format!("{price}\n").as_bytes());
    ///     }
    /// }
    ///
    /// let net = Loop::new(|_| Some(Ticker));
    /// let (one, other) = (net.connect(), net.connect());
    /// net.message_all(17);
    /// assert!(one.message(18));
    /// assert_eq!((one.received_text(), other.received_text()), ("17\n18\n".into(), "17\n".into()));
    /// ```
    ///
    /// # Panics
    ///
    /// If the loop [is finished](Self::is_finished).
    pub fn message_all(&self, message: P::Message)
    where
        P::Message: Clone,
    {
        let handle = self.handle();
        assert!(handle.send_all(message).is_ok(), "the loop has ended, or its mailbox is full");
        self.run();
    }

    /// The handle that other threads, and protocols, have in a server. What is asked for with it is done when the loop
    /// [runs](Self::run) the next time.
    ///
    /// ```
    /// use echoloop::{Echo, Origin, testing::Loop};
    ///
    /// let net = Loop::new(|peer| (peer.origin == Origin::Connect(7)).then_some(Echo));
    /// net.handle().connect("192.0.2.80:80".parse()?, 7)?;
    /// net.run();
    /// let upstream = net.next_connect().expect("it was asked for").accept();
    /// upstream.send(b"hello");
    /// assert_eq!(upstream.received(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> Handle<P::Message> {
        self.engine.borrow().handle().clone()
    }

    /// Lets the loop do what there is to do at this time. Only what was asked for with a [`handle`](Self::handle) needs
    /// it: everything else here runs the loop by itself.
    pub fn run(&self) {
        self.engine.borrow_mut().run();
    }

    /// Ends the server gracefully: [`Handle::drain`]. Protocols are told after a short silence
    /// ([`Config::drain_silence`]).
    ///
    /// ```
    /// use std::time::Duration;
    /// use echoloop::{CloseReason, Echo, testing::Loop};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// let client = net.connect();
    /// net.drain();
    /// client.send(b"one more");
    /// net.advance(Duration::from_millis(250));
    /// assert_eq!(client.received(), b"one more");
    /// assert!(client.has_fin() && net.connect().was_reset());
    /// client.end();
    /// assert_eq!(client.close_reason(), Some(CloseReason::Drained));
    /// assert!(net.is_finished());
    /// ```
    pub fn drain(&self) {
        self.handle().drain();
        self.run();
    }

    /// Ends the server at once: [`Handle::abort`].
    ///
    /// ```
    /// use echoloop::{CloseReason, Echo, testing::Loop};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// let client = net.connect();
    /// net.abort();
    /// assert!(client.was_reset() && net.is_finished());
    /// assert_eq!(client.close_reason(), Some(CloseReason::ServerAborted));
    /// ```
    pub fn abort(&self) {
        self.handle().abort();
        self.run();
    }

    /// Whether [`Server::run`](crate::Server::run) would have returned: after a [drain](Self::drain), an
    /// [abort](Self::abort) or [`Config::accept_limit`] connections, when the last one has ended. Clients that come
    /// later are refused.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.engine.borrow().is_finished()
    }

    /// What each connection is doing, as [`Handle::connections`] says it.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        self.engine.borrow().connections()
    }

    /// What was counted so far.
    ///
    /// ```
    /// use echoloop::{CloseReason, Echo, testing::Loop};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// net.connect().reset();
    /// assert_eq!(net.stats().closed(CloseReason::Reset), 1);
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.borrow().stats()
    }
}

impl<'f, P: Protocol + 'f> fmt::Debug for Loop<'f, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loop").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
