//! What a protocol can do with its connection.

use std::{
    fmt, io,
    time::{Duration, Instant},
};

use super::{
    Input,
    boxed::Boxed,
    requests::{Ending, IdleTimeout, Reading, Requests, WantedTls},
    timeout::TimerKey,
};
use crate::{
    address::Address,
    blocking::Job,
    cause::Cause,
    connection_id::ConnectionId,
    handle::{Answer, Handle, SendError},
    outbox::{Dial, Factory, Outbox},
    peer::Peer,
    shared_bytes::SharedBytes,
    system::transport::Addresses,
    tls::{TlsConnector, TlsInfo, TlsRole},
};

/// Fewer bytes are copied faster than shared.
const SHARED_MIN: usize = 1 << 10;

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
    pub(crate) addresses: &'a dyn Addresses,
    pub(crate) output: &'a mut Vec<u8>,
    pub(crate) outbox: &'a mut Outbox<M>,
    pub(crate) queued: usize,
    pub(crate) high_water: usize,
    pub(crate) is_draining: bool,
    /// The connection's timers.
    pub(crate) timers: Option<&'a Vec<(TimerKey, Instant)>>,
    /// How far inside the protocol is: 0 for the one that the loop calls.
    pub(crate) depth: u8,
    /// Whether input can be sent as it is.
    pub(crate) can_forward: bool,
    /// Whether what is written goes to the peer as it is.
    pub(crate) is_direct: bool,
    pub(crate) requests: Requests,
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

    /// Sends `bytes` without copying them, behind everything written before: those that are shared by many connections, or
    /// too large to be copied. Less than 1 KiB is copied all the same, which is cheaper. They count as queued, like others.
    /// It pays where they wait in a queue, which then has no memory of its own, and from about 16 KiB on.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use echoloop::{Context, Input, Protocol, testing::Loop};
    ///
    /// /// Sends the same page to everyone.
    /// struct Page(Arc<[u8]>);
    ///
    /// impl Protocol for Page {
    ///     type Message = ();
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
    ///         input.take();
    ///         cx.write(b"here it is: ");
    ///         cx.write_shared(Arc::clone(&self.0));
    ///     }
    /// }
    ///
    /// let page: Arc<[u8]> = vec![b'x'; 100_000].into();
    /// let net = Loop::new(|_| Some(Page(Arc::clone(&page))));
    /// let client = net.connect();
    /// client.send("please");
    /// assert_eq!(client.received().len(), 100_012);
    /// ```
    pub fn write_shared(&mut self, bytes: impl Into<SharedBytes>) -> Flow {
        let bytes = bytes.into();
        if bytes.len() < SHARED_MIN || !self.is_direct {
            return self.write(&bytes);
        }
        if self.requests.output_closed {
            return self.refuse(&bytes);
        }
        let at = self.output.len();
        let rare = self.requests.rare_mut();
        rare.shared_len += bytes.len();
        rare.shared.push((at, bytes));
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
        let is_possible = self.can_forward && input.is_received() && !self.requests.has_pieces();
        if is_possible && self.output.is_empty() && self.requests.forward.is_empty() {
            self.requests.forward = start..start + bytes.len();
        } else {
            self.output.extend_from_slice(bytes);
        }
        self.note_flow()
    }

    /// Bytes written and not yet taken by the socket.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued + self.requests.forward.len() + self.requests.shared_len() + self.output.len()
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

    /// Writes formatted text: `writeln!(cx, "{n} members")`. Nothing can fail; what is returned is what
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
    /// TCP's flow control. The end of input is not noticed meanwhile; nor need it be paused while this connection waits for
    /// an [outbound](Self::connect) one.
    pub fn pause_reading(&mut self) {
        self.requests.reading = Some(Reading::Pause);
    }

    /// Hands over input again, beginning with what was left unconsumed; also where reading was not paused.
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

    /// Resets the connection as [`abort`](Self::abort) does, and has it counted and logged under this name:
    /// [`CloseReason::AbortedBecause`](crate::CloseReason::AbortedBecause). A name is a word or two, one of a few: there can
    /// be 63.
    ///
    /// ```
    /// use echoloop::{Cause, CloseReason, Context, Input, Protocol, testing::Loop};
    ///
    /// struct Strict;
    ///
    /// impl Protocol for Strict {
    ///     type Message = ();
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
    ///         if input.bytes()[0] != 5 {
    ///             cx.abort_because("bad version");
    ///         }
    ///     }
    /// }
    ///
    /// let net = Loop::new(|_| Some(Strict));
    /// net.connect().send([4]);
    /// assert_eq!(net.stats().closed(CloseReason::AbortedBecause("bad version".into())), 1);
    /// assert!(net.stats().to_string().ends_with("; bad version 1"));
    /// ```
    pub fn abort_because(&mut self, cause: impl Into<Cause>) {
        self.end(Ending::AbortBecause(cause.into()));
    }

    /// Calls [`on_timeout`](super::Protocol::on_timeout) with [`Timeout::Timer(key)`](super::Timeout::Timer)
    /// once, after `delay`. A timer of the same key that has not fired yet is replaced. A delay
    /// past the range of the clock is never.
    pub fn set_timer(&mut self, key: u64, delay: Duration) {
        let timer = (self.timer_key(key), self.now.checked_add(delay));
        self.requests.rare_mut().timers.push(timer);
    }

    /// Forgets the timer of this key, if there is one.
    pub fn cancel_timer(&mut self, key: u64) {
        let timer = (self.timer_key(key), None);
        self.requests.rare_mut().timers.push(timer);
    }

    /// How long it takes until the timer of this key fires; `None` if there is none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use echoloop::{Context, Input, Protocol, testing::Loop};
    ///
    /// /// Says how long one has still to wait.
    /// struct Egg;
    ///
    /// impl Protocol for Egg {
    ///     type Message = ();
    ///
    ///     fn on_open(&mut self, cx: &mut Context<'_>) {
    ///         cx.set_timer(0, Duration::from_secs(300));
    ///     }
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
    ///         input.take();
    ///         writeln!(cx, "{:?}", cx.timer_left(0));
    ///     }
    /// }
    ///
    /// let net = Loop::new(|_| Some(Egg));
    /// let client = net.connect();
    /// net.advance(Duration::from_secs(100));
    /// client.send("?");
    /// assert_eq!(client.received_text(), "Some(200s)\n");
    /// ```
    #[must_use]
    pub fn timer_left(&self, key: u64) -> Option<Duration> {
        let timer = self.timer_key(key);
        let at = match self.requests.timer(timer) {
            Some(at) => at,
            None => self.timers?.iter().find(|(known, _)| *known == timer).map(|&(_, at)| at),
        };
        Some(at?.saturating_duration_since(self.now))
    }

    const fn timer_key(&self, key: u64) -> TimerKey {
        TimerKey { depth: self.depth, key }
    }

    /// Sets the [`idle_timeout`](crate::Config::idle_timeout) of this connection; `None` turns it off. One that sets a
    /// timeout has limits of its own from then on, some 400 bytes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use echoloop::{Context, Input, Protocol, Timeout, testing::Loop};
    ///
    /// /// Waits long for a request, but not for the rest of it.
    /// struct Request;
    ///
    /// impl Protocol for Request {
    ///     type Message = ();
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
    ///         let is_whole = input.bytes().ends_with(b"\n");
    ///         cx.set_read_idle_timeout((!is_whole).then_some(Duration::from_secs(5)));
    ///         if is_whole {
    ///             cx.forward(input);
    ///         }
    ///     }
    ///
    ///     fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_>) {
    ///         writeln!(cx, "{which:?}");
    ///         cx.finish();
    ///     }
    /// }
    ///
    /// let net = Loop::new(|_| Some(Request));
    /// let client = net.connect();
    /// client.send("whole\n");
    /// net.advance(Duration::from_secs(60));
    /// client.send("half");
    /// net.advance(Duration::from_secs(5));
    /// assert_eq!(client.received_text(), "whole\nReadIdle\n");
    /// ```
    pub fn set_idle_timeout(&mut self, timeout: impl Into<Option<Duration>>) {
        self.requests.rare_mut().idle_timeouts.push((IdleTimeout::Idle, timeout.into()));
    }

    /// Sets the [`read_idle_timeout`](crate::Config::read_idle_timeout) of this connection, beginning now; see
    /// [`set_idle_timeout`](Self::set_idle_timeout).
    pub fn set_read_idle_timeout(&mut self, timeout: impl Into<Option<Duration>>) {
        self.requests.rare_mut().idle_timeouts.push((IdleTimeout::ReadIdle, timeout.into()));
    }

    /// Sets the [`write_idle_timeout`](crate::Config::write_idle_timeout) of this connection, beginning now; see
    /// [`set_idle_timeout`](Self::set_idle_timeout).
    pub fn set_write_idle_timeout(&mut self, timeout: impl Into<Option<Duration>>) {
        self.requests.rare_mut().idle_timeouts.push((IdleTimeout::WriteIdle, timeout.into()));
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
            self.outbox.handle().send(id, message)
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
    /// [`Peer::requested_by`](crate::Peer::requested_by). When it is made, this protocol is told by
    /// [`on_connected`](super::Protocol::on_connected), after the other's `on_open`. If it cannot be made, or not within
    /// [`connect_timeout`](crate::Config::connect_timeout), this protocol is told by
    /// [`on_connect_failed`](super::Protocol::on_connect_failed).
    ///
    /// Meanwhile input comes as usual, and so does its end, at which the default
    /// [`on_eof`](super::Protocol::on_eof) finishes: a proxy overrides it. A protocol that cannot deal with it yet leaves it
    /// unconsumed: when [`input_limit_bytes`](crate::Config::input_limit_bytes) are, no more is read until the answer has come.
    /// The protocol of the other connection may do so too, until this one was told.
    ///
    /// It counts towards [`max_connections`](crate::Config::max_connections). Where there is no room it waits for some, up to
    /// the connect timeout besides, and is served before new clients are accepted. If this connection ends meanwhile, the wish
    /// is forgotten.
    ///
    /// A host name is looked up by a [thread for what blocks](Self::spawn_blocking). Its addresses are tried one after the
    /// other, those of both families in turn (RFC 8305, section 4), and share the connect timeout. Each is an attempt of its
    /// own, for which the factory is asked anew; only what comes of the last is told. A name that has no address, or of which
    /// nobody can say it, fails with `NotFound`, and so does an empty one.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] while [`mailbox_capacity`](crate::Config::mailbox_capacity) are wanted already, and
    /// [`SendError::Connectionless`] for an address of UDP. Both give the address back.
    pub fn connect(&mut self, address: Address, label: u64) -> Result<(), SendError<Address>> {
        self.dial(address, label, None, None)
    }

    /// As [`connect`](Self::connect), over TLS: the connection is made when its handshake is over, for which there is
    /// [`handshake_timeout`](crate::Config::handshake_timeout) besides. It fails with `InvalidData` if the server's
    /// certificate, or what else it says, is refused; the log says why at debug.
    ///
    /// # Errors
    ///
    /// As `connect`.
    pub fn connect_tls(
        &mut self,
        address: Address,
        label: u64,
        tls: TlsConnector,
    ) -> Result<(), SendError<Address>> {
        self.dial(address, label, None, Some(tls))
    }

    /// As [`connect`](Self::connect), with a protocol that is made here instead of by the server's factory: `factory` is
    /// asked for each address that is tried. It is for servers whose protocols are [`Boxed`]; with others the connection
    /// counts as refused.
    ///
    /// ```
    /// use echoloop::{Boxed, Context, Input, Protocol, testing::Loop};
    ///
    /// struct Client;
    ///
    /// impl Protocol for Client {
    ///     type Message = ();
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
    ///         input.take();
    ///         let echo = "192.0.2.1:7".parse().expect("an address");
    ///         let _ = cx.connect_with(echo, 0, |_| Some(Boxed::new(echoloop::Echo)));
    ///     }
    /// }
    ///
    /// let net = Loop::new(|_| Some(Boxed::new(Client)));
    /// net.connect().send("!");
    /// let upstream = net.next_connect().unwrap().accept();
    /// upstream.send("hello");
    /// assert_eq!(upstream.received(), b"hello");
    /// ```
    ///
    /// # Errors
    ///
    /// As `connect`.
    pub fn connect_with(
        &mut self,
        address: Address,
        label: u64,
        factory: impl FnMut(&Peer<'_>) -> Option<Boxed<M>> + 'static,
    ) -> Result<(), SendError<Address>> {
        self.dial(address, label, Some(Box::new(factory)), None)
    }

    fn dial(
        &mut self,
        address: Address,
        label: u64,
        factory: Option<Factory<M>>,
        tls: Option<TlsConnector>,
    ) -> Result<(), SendError<Address>> {
        let dial = Dial { by: Some(self.id), tls, ..Dial::by_nobody(address, label, factory, self.now) };
        self.outbox.dial(dial)?;
        self.requests.rare_mut().answers_due += 1;
        Ok(())
    }

    /// Leaves work that blocks to another thread: a file, a password hash, a database. What it returns comes to this
    /// connection as a [message](super::Protocol::on_message). If the connection has ended by then, it is dropped and
    /// counted ([`Stats::messages_undeliverable`](crate::Stats::messages_undeliverable)). If the work panics, the connection is
    /// closed as if a callback had.
    ///
    /// There are [`blocking_threads`](crate::Config::blocking_threads), for all workers. Work that has begun goes on when
    /// the server has ended; nobody waits for it. While it is under way, input that is left unconsumed is kept, as with
    /// [`connect`](Self::connect); [`resume_reading`](Self::resume_reading) hands it over again.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] while [`blocking_jobs_max`](crate::Config::blocking_jobs_max) wait or are under way. It gives the
    /// work back.
    ///
    /// ```
    /// use echoloop::{Context, Input, Protocol, testing::Loop};
    ///
    /// /// Adds numbers up, very thoroughly.
    /// struct Adder;
    ///
    /// impl Protocol for Adder {
    ///     type Message = u64;
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, u64>) {
    ///         let most = u64::from(input.take()[0]);
    ///         if cx.spawn_blocking(move || (1..=most).sum()).is_err() {
    ///             cx.write(b"busy\n");
    ///         }
    ///     }
    ///
    ///     fn on_message(&mut self, sum: u64, cx: &mut Context<'_, u64>) {
    ///         writeln!(cx, "{sum}");
    ///     }
    /// }
    ///
    /// let net = Loop::new(|_| Some(Adder));
    /// let client = net.connect();
    /// client.send([100]);
    /// assert_eq!(client.received_text(), "");
    /// net.next_job().expect("it adds").finish();
    /// assert_eq!(client.received_text(), "5050\n");
    /// ```
    pub fn spawn_blocking<F>(&mut self, work: F) -> Result<(), SendError<F>>
    where
        F: FnOnce() -> M + Send + 'static,
        M: Send + 'static,
    {
        if !self.outbox.blocking().reserve() {
            return Err(SendError::Full(work));
        }
        let answer = WorkAnswer { handle: self.handle().clone(), id: self.id, message: None };
        self.outbox.blocking().submit(Job::Work(Box::new(move || answer.finish(work()))));
        self.requests.rare_mut().answers_due += 1;
        Ok(())
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
    /// A protocol may still write, from a timer or a message: it goes to its own peer, between what is passed on.
    ///
    /// With a connection that is gone, not made yet, finished, of another worker or relayed already it cannot be done; then
    /// this one is reset in the same way. One that is relayed already goes on as it is. Usually the one that has asked for the
    /// other does it when that is [made](super::Protocol::on_connected):
    ///
    /// ```
    /// use echoloop::{CloseReason, Context, Input, Peer, Protocol, testing::Loop};
    ///
    /// /// A proxy's client, and what is done for it.
    /// struct Proxied {
    ///     is_client: bool,
    /// }
    ///
    /// impl Protocol for Proxied {
    ///     type Message = ();
    ///
    ///     fn on_open(&mut self, cx: &mut Context<'_>) {
    ///         let upstream = "192.0.2.1:80".parse().expect("an address");
    ///         if self.is_client && cx.connect(upstream, 0).is_err() {
    ///             cx.abort();
    ///         }
    ///     }
    ///
    ///     fn on_connected(&mut self, _: u64, upstream: &Peer<'_>, cx: &mut Context<'_>) {
    ///         cx.write(b"connected\n");
    ///         cx.relay(upstream.id);
    ///     }
    ///
    ///     fn on_connect_failed(&mut self, _: u64, _: &CloseReason, cx: &mut Context<'_>) {
    ///         cx.abort_because("no upstream");
    ///     }
    ///
    ///     /// What is left is passed on when they are relayed.
    ///     fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
    ///
    ///     /// And so is the end.
    ///     fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
    /// }
    ///
    /// let net = Loop::new(|peer| Some(Proxied { is_client: peer.requested_by.is_none() }));
    /// let client = net.connect();
    /// client.send("request");
    /// client.end();
    /// let upstream = net.next_connect().unwrap().accept();
    /// assert_eq!(upstream.received(), b"request");
    /// assert!(upstream.has_fin());
    /// upstream.send("answer");
    /// assert_eq!(client.received(), b"connected\nanswer");
    /// ```
    pub fn relay(&mut self, with: ConnectionId) {
        self.requests.rare_mut().relay = Some(with);
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

    /// Begins TLS on this connection, when everything written so far is sent: STARTTLS. A server passes its
    /// [`TlsAcceptor`](crate::TlsAcceptor), a client its [`TlsConnector`]. What is written from then on
    /// waits until both have agreed; the protocol is told by [`on_tls`](super::Protocol::on_tls). Input that was paused is
    /// read again.
    ///
    /// Of what the peer sent before, nothing may be left unconsumed: it would be taken for what is said in secret. Such a
    /// connection is reset, as [`HandshakeFailed`](crate::CloseReason::HandshakeFailed), and so is one that speaks TLS
    /// already, or has ended. Layers and relays must not be in its way.
    pub fn start_tls(&mut self, role: impl Into<TlsRole>) {
        let at = self.output.len();
        let rare = self.requests.rare_mut();
        let pieces = rare.shared.len();
        rare.tls.get_or_insert(WantedTls { role: role.into(), at, pieces });
    }

    /// What the TLS handshake of this connection has agreed on, if there was one.
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo> {
        self.addresses.tls()
    }

    /// Whether the peer ended a connection over TLS without saying so (close_notify): in
    /// [`on_eof`](super::Protocol::on_eof), whether what came may be only a part. Where the protocol itself says where its
    /// messages end, that does not matter.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.addresses.is_truncated()
    }

    /// The server's handle, for example to send messages to other connections.
    #[must_use]
    pub const fn handle(&self) -> &Handle<M> {
        self.outbox.handle()
    }

    pub(super) fn end(&mut self, ending: Ending) {
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

/// Tells the connection that has left work to a thread what came of it, also if that is nothing.
struct WorkAnswer<M> {
    handle: Handle<M>,
    id: ConnectionId,
    message: Option<M>,
}

impl<M> WorkAnswer<M> {
    fn finish(mut self, message: M) {
        self.message = Some(message);
    }
}

impl<M> Drop for WorkAnswer<M> {
    fn drop(&mut self) {
        self.handle.answer(self.id.worker, Answer::Work(self.id, self.message.take()));
    }
}

/// For what writes to any writer: `serde_json::to_writer(&mut *cx, &reply)`. All that is written is taken; see
/// [`Context::write`] and [`Context::flow`]. After the end of output it is `BrokenPipe`.
impl<M> io::Write for Context<'_, M> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Context::write(self, bytes) {
            Flow::Open | Flow::Full => Ok(bytes.len()),
            Flow::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
