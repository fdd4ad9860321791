//! What a protocol can do with its connection.

use std::{
    fmt, io,
    ops::Range,
    time::{Duration, Instant},
};

use super::Input;
use crate::{
    address::Address,
    connection_id::ConnectionId,
    handle::{Handle, SendError, connectable},
    outbox::{Dial, Outbox},
    system::transport::Addresses,
};

/// Whether a connection can take more output now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// More can be written.
    Open,
    /// The bytes were taken, but the queue has reached the high-water mark. Write no more until
    /// [`on_writable`](super::Protocol::on_writable); past
    /// [`queue_limit_bytes`](crate::Config::queue_limit_bytes) the connection is aborted.
    Full,
    /// The bytes were not taken: this end of the connection is finished, or the peer is gone.
    Closed,
}

/// What a protocol can do with its connection during a callback.
///
/// Everything takes effect when the callback has returned: what was written goes out in one write, then
/// the requests are applied. So no callback is ever called from within another.
pub struct Context<'a, M = ()> {
    pub(crate) id: ConnectionId,
    pub(crate) now: Instant,
    pub(crate) handle: &'a Handle<M>,
    pub(crate) addresses: &'a dyn Addresses,
    pub(crate) output: &'a mut Vec<u8>,
    pub(crate) outbox: &'a mut Outbox<M>,
    pub(crate) queued: usize,
    pub(crate) high_water: usize,
    pub(crate) is_draining: bool,
    pub(crate) requests: Requests,
}

/// What a callback asked for.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// The range of the input that is sent as it is, before the output.
    pub(crate) forward: Range<usize>,
    /// The protocol was told [`Flow::Full`] and waits for `on_writable`.
    pub(crate) told_full: bool,
    /// Nothing more can be written.
    pub(crate) output_closed: bool,
    /// How many bytes were written all the same.
    pub(crate) refused: usize,
    pub(crate) reading: Option<Reading>,
    pub(crate) ending: Option<Ending>,
    /// The connection that this one is to be relayed with.
    pub(crate) relay: Option<ConnectionId>,
    /// Timers to set, or to cancel where there is no instant.
    pub(crate) timers: Vec<(u64, Option<Instant>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Pause,
    Resume,
}

/// Ways to end, the stronger later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    ShutdownWrite,
    Finish,
    GiveUp,
    Abort,
}

impl<M> Context<'_, M> {
    /// Sends `bytes`, behind everything written before.
    pub fn write(&mut self, bytes: &[u8]) -> Flow {
        if self.requests.output_closed {
            return self.refuse(bytes);
        }
        self.output.extend_from_slice(bytes);
        self.note_flow()
    }

    /// Sends all of `input` back, and consumes it. Nothing is copied when the socket takes it all. What
    /// only forwards need not look at the answer: input is not read while the queue is full.
    pub fn forward(&mut self, input: &mut Input<'_>) -> Flow {
        let start = input.consumed();
        let bytes = input.take();
        if self.requests.output_closed {
            return self.refuse(bytes);
        }
        if self.output.is_empty() && self.requests.forward.is_empty() {
            self.requests.forward = start..start + bytes.len();
        } else {
            self.output.extend_from_slice(bytes);
        }
        self.note_flow()
    }

    /// Bytes written and not yet taken by the socket.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued + self.requests.forward.len() + self.output.len()
    }

    /// Whether more can be written: what [`write`](Self::write) says, without writing. After [`Flow::Full`] the
    /// protocol is told when there is room again, by [`on_writable`](super::Protocol::on_writable). So one that makes more of
    /// its input than it gets can stop here, and go on there:
    ///
    /// ```
    /// use echoloop::{Context, Flow, Input, Protocol};
    ///
    /// /// A thousand times each byte.
    /// struct Thousandfold;
    ///
    /// impl Protocol for Thousandfold {
    ///     type Message = ();
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
    ///         while let [byte, ..] = *input.bytes() {
    ///             if cx.flow() == Flow::Full {
    ///                 return cx.pause_reading();
    ///             }
    ///             cx.write(&[byte; 1000]);
    ///             input.consume(1);
    ///         }
    ///     }
    ///
    ///     fn on_writable(&mut self, cx: &mut Context<'_>) {
    ///         cx.resume_reading();
    ///     }
    /// }
    /// # use echoloop::testing::Loop;
    /// # let net = Loop::new(|_| Some(Thousandfold));
    /// # let client = net.client().buffer_bytes(10_000).stopped().connect();
    /// # client.send([b'x'; 500]);
    /// # assert!(client.queued() <= 66_000);
    /// # client.resume_reading();
    /// # assert_eq!(client.received().len(), 500_000);
    /// ```
    pub fn flow(&mut self) -> Flow {
        if self.requests.output_closed { Flow::Closed } else { self.note_flow() }
    }

    /// Writes formatted text: `write!(cx, "{n} members\n")`. Nothing can fail; what is returned is what
    /// [`write`](Self::write) returns.
    pub fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Flow {
        if self.requests.output_closed {
            return self.refuse(text.to_string().as_bytes());
        }
        io::Write::write_fmt(self.output, text).expect("a vector takes all");
        self.note_flow()
    }

    /// Whether the queue has reached the high-water mark. Unlike with [`flow`](Self::flow), nobody is
    /// promised to be told when there is room again.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queued() >= self.high_water
    }

    /// Stops handing over input. Bytes already in the kernel stay there, and the peer is held back by
    /// TCP's flow control. The end of input is not noticed meanwhile.
    pub fn pause_reading(&mut self) {
        self.requests.reading = Some(Reading::Pause);
    }

    /// Hands over input again, beginning with what was left unconsumed.
    pub fn resume_reading(&mut self) {
        self.requests.reading = Some(Reading::Resume);
    }

    /// Sends everything written, then FIN, and goes on receiving: [`on_data`](super::Protocol::on_data)
    /// is called until the peer ends too. Nothing can be written any more.
    pub fn shutdown_write(&mut self) {
        self.end(Ending::ShutdownWrite);
    }

    /// Ends the connection the documented way: sends everything written, then FIN, receives
    /// and discards until the peer ends too or a linger limit is reached, and closes the socket.
    pub fn finish(&mut self) {
        self.end(Ending::Finish);
    }

    /// Resets the connection. What was written and not yet sent is lost, and so may be what was sent.
    pub fn abort(&mut self) {
        self.end(Ending::Abort);
    }

    /// Calls [`on_timeout`](super::Protocol::on_timeout) with [`Timeout::Timer(key)`](super::Timeout::Timer)
    /// once, after `delay`. A timer of the same key that has not fired yet is replaced. A delay
    /// past the range of the clock is never.
    pub fn set_timer(&mut self, key: u64, delay: Duration) {
        self.requests.timers.push((key, self.now.checked_add(delay)));
    }

    /// Forgets the timer of this key, if there is one.
    pub fn cancel_timer(&mut self, key: u64) {
        self.requests.timers.push((key, None));
    }

    /// Hands `message` to another connection, or to this one, which gets it in
    /// [`on_message`](super::Protocol::on_message) after this callback has returned. Messages of one loop are
    /// delivered in the order in which they were sent. One for a connection that is gone by then, or not made yet, is dropped and
    /// counted ([`Stats::messages_undeliverable`](crate::Stats::messages_undeliverable)); it never reaches another.
    ///
    /// Between connections of the same loop nothing is locked and nobody is woken. To one of another
    /// worker it is [`Handle::send`].
    ///
    /// What a receiver does with messages while its own output [`is_full`](Self::is_full) bounds what a slow one costs: it drops
    /// them, it ends with [`give_up`](Self::give_up), or it tells the sender, which stops reading
    /// ([`pause_reading`](Self::pause_reading)) until it is told again.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] while [`mailbox_capacity`](crate::Config::mailbox_capacity) messages wait already, and those
    /// of `Handle::send`. They give the message back.
    ///
    /// ```
    /// use std::sync::Mutex;
    /// use echoloop::{ConnectionId, Context, Input, Protocol, testing::Loop};
    ///
    /// /// Whispers to whoever came before.
    /// struct Whisper {
    ///     to: Option<ConnectionId>,
    /// }
    ///
    /// impl Protocol for Whisper {
    ///     type Message = Vec<u8>;
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Vec<u8>>) {
    ///         let secret = input.take().to_vec();
    ///         if let Some(to) = self.to
    ///             && cx.send(to, secret).is_err()
    ///         {
    ///             cx.write(b"not now\n");
    ///         }
    ///     }
    ///
    ///     fn on_message(&mut self, secret: Vec<u8>, cx: &mut Context<'_, Vec<u8>>) {
    ///         cx.write(&secret);
    ///     }
    /// }
    ///
    /// let last = Mutex::new(None);
    /// let net = Loop::new(move |peer| Some(Whisper { to: last.lock().unwrap().replace(peer.id) }));
    /// let (ann, bob) = (net.connect(), net.connect());
    /// bob.send("psst\n");
    /// assert_eq!(ann.received(), b"psst\n");
    /// ```
    pub fn send(&mut self, id: ConnectionId, message: M) -> Result<(), SendError<M>> {
        if id.worker == self.id.worker {
            self.outbox.send(id, message)
        } else {
            self.handle.send(id, message)
        }
    }

    /// Hands a clone of `message` to every other connection of this loop, after this callback has returned. Where there
    /// are very many this takes several turns of the loop, between which all are served; those that are accepted
    /// meanwhile may get it or not. See [`send`](Self::send) for what becomes of slow receivers.
    ///
    /// The loops of other workers are reached with [`Handle::send_all`].
    ///
    /// # Errors
    ///
    /// [`SendError::Full`], as for `send`.
    pub fn send_all(&mut self, message: M) -> Result<(), SendError<M>>
    where
        M: Clone,
    {
        self.outbox.send_all(Some(self.id), message, M::clone)
    }

    /// Makes an outbound connection on this loop, after this callback has returned. The server's factory is asked for its
    /// protocol, with [`Origin::Connect`](crate::Origin::Connect)`(label)` and
    /// [`Peer::requested_by`](crate::Peer::requested_by). If it cannot be made, or not within
    /// [`connect_timeout`](crate::Config::connect_timeout), this protocol learns it from
    /// [`on_connect_failed`](super::Protocol::on_connect_failed).
    ///
    /// It counts towards [`max_connections`](crate::Config::max_connections). Where there is no room it waits for some, up to
    /// the connect timeout besides, and is served before new clients are accepted. If this connection ends meanwhile, the wish
    /// is forgotten.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] while [`mailbox_capacity`](crate::Config::mailbox_capacity) are wanted already,
    /// [`SendError::Unresolved`] for a host name, as names are not looked up on the loop, and
    /// [`SendError::Connectionless`] for an address of UDP. All give the address back.
    pub fn connect(&mut self, address: Address, label: u64) -> Result<(), SendError<Address>> {
        let address = connectable(address)?;
        self.outbox.dial(Dial { by: self.id, address, label, since: self.now })
    }

    /// From now on the loop passes on to the connection `with` whatever comes on this one, and the other way
    /// round, without asking the protocols: [`on_data`](super::Protocol::on_data) and
    /// [`on_eof`](super::Protocol::on_eof) are not called any more on either. What was not consumed is passed on first.
    ///
    /// - On Linux, what moves in bulk is moved from socket to socket inside the kernel
    ///   ([`splice_threshold_bytes`](crate::Config::splice_threshold_bytes)); it is copied otherwise.
    /// - Input that was paused is read again. While the queue of one is above the high-water mark, the other is not read.
    /// - A FIN is passed on when everything before it is; the other direction goes on.
    /// - When one ends with something still owed (a reset, a stall, an abort), the other is reset too:
    ///   [`CloseReason::RelayBroken`](crate::CloseReason::RelayBroken). No truncated stream looks whole, but to the peer of a
    ///   Unix socket, which cannot be reset.
    /// - When the protocol of one [finishes](Self::finish), in a drain or for idleness, or shuts its sending side, the other
    ///   finishes too. They are idle together or not at all, and never while either has yet to receive something.
    /// - A drain is [told](super::Protocol::on_drain) to them when both are silent. What still flows when its time is over is
    ///   reset.
    ///
    /// With a connection that is gone, not made yet, finished, of another worker or relayed already it cannot be done; then
    /// this one is reset in the same way. One that is relayed already goes on as it is. Usually the outbound connection asks for it in its
    /// [`on_open`](super::Protocol::on_open):
    ///
    /// ```
    /// use echoloop::{Address, CloseReason, ConnectionId, Context, Input, Protocol, testing::Loop};
    ///
    /// /// The two sides of a proxy.
    /// enum Side {
    ///     Client { upstream: Address },
    ///     Upstream { client: ConnectionId },
    /// }
    ///
    /// impl Protocol for Side {
    ///     type Message = ();
    ///
    ///     fn on_open(&mut self, cx: &mut Context<'_>) {
    ///         match self {
    ///             Self::Client { upstream } => {
    ///                 cx.pause_reading();
    ///                 if cx.connect(upstream.clone(), 0).is_err() {
    ///                     cx.abort();
    ///                 }
    ///             }
    ///             Self::Upstream { client } => cx.relay(*client),
    ///         }
    ///     }
    ///
    ///     fn on_connect_failed(&mut self, _: u64, _: &CloseReason, cx: &mut Context<'_>) {
    ///         cx.abort();
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
    /// }
    ///
    /// let net = Loop::new(|peer| {
    ///     Some(match peer.requested_by {
    ///         Some(client) => Side::Upstream { client },
    ///         None => Side::Client { upstream: "192.0.2.1:80".parse().unwrap() },
    ///     })
    /// });
    /// let client = net.connect();
    /// client.send("request");
    /// client.end();
    /// let upstream = net.next_connect().unwrap().accept();
    /// assert_eq!(upstream.received(), b"request");
    /// assert!(upstream.has_fin());
    /// upstream.send("answer");
    /// assert_eq!(client.received(), b"answer");
    /// ```
    pub const fn relay(&mut self, with: ConnectionId) {
        self.requests.relay = Some(with);
    }

    /// Resets the connection because its peer receives too slowly for what the protocol has for it. It is counted as
    /// [`CloseReason::SlowReader`](crate::CloseReason::SlowReader), and else the same as [`abort`](Self::abort).
    pub fn give_up(&mut self) {
        self.end(Ending::GiveUp);
    }

    /// Whether the server drains: a reply that is written now may be the last, and can say so.
    /// [`on_drain`](super::Protocol::on_drain) comes later, when the peer is silent.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// The name of this connection.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The loop's clock: when the current batch of events was fetched.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The peer's address, asked of the operating system.
    ///
    /// # Errors
    ///
    /// What the operating system says, for example that the peer is gone.
    pub fn peer_addr(&self) -> io::Result<Address> {
        self.addresses.peer_addr()
    }

    /// Our address on this connection, asked of the operating system.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.addresses.local_addr()
    }

    /// The server's handle, for example to send messages to other connections.
    #[must_use]
    pub const fn handle(&self) -> &Handle<M> {
        self.handle
    }

    fn end(&mut self, ending: Ending) {
        self.requests.output_closed = true;
        self.requests.ending = self.requests.ending.max(Some(ending));
    }

    fn refuse(&mut self, bytes: &[u8]) -> Flow {
        self.requests.refused += bytes.len();
        Flow::Closed
    }

    fn note_flow(&mut self) -> Flow {
        if !self.is_full() {
            return Flow::Open;
        }
        self.requests.told_full = true;
        Flow::Full
    }
}

impl<M> fmt::Debug for Context<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id)
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}
