//! Talking to a running server, from any thread.

use std::{
    fmt, io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
        mpsc::{
            Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel as channel_without_bound,
            sync_channel,
        },
    },
    time::{Duration, Instant},
};

use crate::{
    address::Address,
    blocking::Found,
    connection_id::ConnectionId,
    connection_status::{ConnectionList, ConnectionStatus},
    peer::Peer,
    protocol::boxed::Boxed,
    stats::{Counters, Stats},
    status::{Accepting, ServerStatus, WorkerStatus},
    system::Wake,
    tls::TlsConnector,
    wake_flag::WakeFlag,
};

/// A remote control for a running [`Server`](crate::Server): cheap to clone, usable from any thread and
/// from inside callbacks. `M` is the protocol's [`Message`](crate::Protocol::Message).
///
/// ```
/// use echoloop::{Echo, Server};
///
/// let server = Server::<Echo>::builder().bind(["127.0.0.1:0"])?;
/// let handle = server.handle();
/// let running = std::thread::spawn(move || server.run(|_| Some(Echo)));
/// handle.drain();
/// let stats = running.join().unwrap()?;
/// assert_eq!(stats.accepted, 0);
/// # Ok::<(), echoloop::Error>(())
/// ```
pub struct Handle<M> {
    workers: Arc<[Arc<Inbox<M>>]>,
}

/// Why a request was not taken. It gives back what was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The loop has too much to do already: its mailbox is full, or what else bounds such requests. Try again later, or
    /// take it as backpressure.
    Full(T),
    /// The loop has ended.
    Closed(T),
    /// The address is one of UDP, which has no connections.
    Connectionless(T),
}

/// Makes the protocol of an outbound connection that another thread asks for.
pub(crate) type SendFactory<M> = Box<dyn FnMut(&Peer<'_>) -> Option<Boxed<M>> + Send>;

/// What other threads ask a loop to do.
pub enum Request<M> {
    /// Hand a message to a connection.
    Send(ConnectionId, M),
    /// Hand clones of a message to all connections.
    SendAll(M, fn(&M) -> M),
    /// Make an outbound connection.
    Connect(Address, u64, Option<SendFactory<M>>, Option<TlsConnector>),
    /// End a connection as if its protocol had.
    End(ConnectionId, End),
    /// Say what the loop is doing.
    Status(SyncSender<WorkerStatus>),
    /// Say what becomes of clients that come now, and by that that it is alive.
    Accepting(SyncSender<Accepting>),
    /// Say what connections are doing: those from this slot on, some of them.
    List(usize, SyncSender<Page>),
}

/// How another thread ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The documented way.
    Finish,
    /// By a reset.
    Abort,
}

/// Some of the connections of a loop, and the slot from which on the others are, if there are more.
pub(crate) type Page = (Vec<ConnectionStatus>, Option<usize>);

/// What comes of work that a loop has left to others.
pub enum Answer<M> {
    /// The message for the connection that wanted it; none if the work came to nothing.
    Work(ConnectionId, Option<M>),
    /// The addresses of a host name, under the number of the question.
    Lookup(u64, Found),
}

/// Where threads wait for room in a mailbox.
#[derive(Default)]
struct Room {
    waiting: AtomicUsize,
    lock: Mutex<()>,
    told: Condvar,
}

/// Whoever waits looks again after this, also if nobody tells it: the loop does not wait for a lock.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Room {
    fn wait(&self, timeout: Duration) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.told.wait_timeout(guard, timeout.min(LOOK_AGAIN)));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.told.notify_all();
        }
    }
}

/// How the whole loop is to go on. Later values win over earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Serve.
    Run,
    /// Serve, and tell everyone that this may end soon.
    Prestop,
    /// End every connection gracefully, then return: after a grace, where there is one.
    Drain,
    /// The same at once.
    DrainNow,
    /// Close everything at once, then return.
    Abort,
}

/// Where the requests for one loop wait, and how it is told of them.
struct Inbox<M> {
    requests: SyncSender<Request<M>>,
    /// As many as there are questions.
    answers: Sender<Answer<M>>,
    order: AtomicU8,
    woken: WakeFlag,
    /// There is room for requests again.
    room: Room,
    waker: Arc<dyn Wake>,
    counters: Arc<Counters>,
}

/// The loop's end of a [`Handle`].
pub struct Mailbox<M> {
    requests: Receiver<Request<M>>,
    answers: Receiver<Answer<M>>,
    inbox: Arc<Inbox<M>>,
}

/// A handle for workers, each given by how to wake it and what it counts, and a mailbox for each of them, for at
/// most `capacity` requests.
pub fn channel<M>(
    capacity: usize,
    workers: Vec<(Arc<dyn Wake>, Arc<Counters>)>,
) -> (Handle<M>, Vec<Mailbox<M>>) {
    let mailboxes: Vec<_> = workers
        .into_iter()
        .map(|(waker, counters)| {
            let (sender, requests) = sync_channel(capacity);
            let (answerer, answers) = channel_without_bound();
            let order = AtomicU8::new(Order::Run as u8);
            let woken = WakeFlag::new();
            let inbox = Inbox {
                requests: sender,
                answers: answerer,
                order,
                woken,
                room: Room::default(),
                waker,
                counters,
            };
            Mailbox { requests, answers, inbox: Arc::new(inbox) }
        })
        .collect();
    let workers = mailboxes.iter().map(|mailbox| Arc::clone(&mailbox.inbox)).collect();
    (Handle { workers }, mailboxes)
}

impl<M> Handle<M> {
    /// Ends the server gracefully: takes the clients that are already in the backlog, stops
    /// listening, and gives every connection what it is owed and the documented disconnect.
    /// [`Server::run`](crate::Server::run) returns when the last one has ended, or with the drain timeout.
    ///
    /// Where there is a [`grace`](crate::Config::grace), it begins with that: as [`prestop`](Self::prestop), for so long.
    pub fn drain(&self) {
        self.order(Order::Drain);
    }

    /// As [`drain`](Self::drain), without a grace: also if one has begun.
    pub fn drain_now(&self) {
        self.order(Order::DrainNow);
    }

    /// Announces that the server may stop soon, and goes on as before: [`is_ready`](Self::is_ready) is false from now on, so
    /// that a load balancer can send its clients elsewhere, and protocols are told by
    /// [`on_prestop`](crate::Protocol::on_prestop).
    pub fn prestop(&self) {
        self.order(Order::Prestop);
    }

    /// Takes [`prestop`](Self::prestop) back, unless a drain was ordered since.
    pub fn cancel_prestop(&self) {
        for inbox in self.workers.iter() {
            let (stopping, serving) = (Order::Prestop as u8, Order::Run as u8);
            // Whatever came since is stronger.
            let _ = inbox.order.compare_exchange(stopping, serving, Ordering::SeqCst, Ordering::SeqCst);
            inbox.wake_once();
        }
    }

    /// Whether clients should be sent here: no stop, drain or abort was ordered or announced, and no worker has ended.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.workers.iter().all(|inbox| inbox.order.load(Ordering::SeqCst) == Order::Run as u8)
    }

    /// Ends the server at once: every connection is reset.
    pub fn abort(&self) {
        self.order(Order::Abort);
    }

    /// Hands `message` to a connection, which gets it in [`on_message`](crate::Protocol::on_message).
    /// If the connection is gone by then the message is dropped and counted
    /// ([`Stats::messages_undeliverable`]). Never blocks.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if the loop has not kept up with
    /// [`mailbox_capacity`](crate::Config::mailbox_capacity) requests, [`SendError::Closed`] if it has
    /// ended. Both give the message back.
    pub fn send(&self, id: ConnectionId, message: M) -> Result<(), SendError<M>> {
        let Some(inbox) = self.workers.get(id.worker as usize) else {
            return Err(SendError::Closed(message));
        };
        inbox.request(Request::Send(id, message)).map_err(|error| {
            error.map(|request| match request {
                Request::Send(_, message) => message,
                Request::SendAll(..)
                | Request::Connect(..)
                | Request::End(..)
                | Request::Status(_)
                | Request::Accepting(_)
                | Request::List(..) => {
                    unreachable!("the channel gives back what it was given")
                }
            })
        })
    }

    /// As [`send`](Self::send), but waits for room in the mailbox for at most `timeout`. Not for callbacks, which must not
    /// block.
    ///
    /// ```
    /// use std::time::Duration;
    /// use echoloop::{Echo, SendError, Server, testing::Loop};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// let client = net.connect();
    /// let handle = net.handle();
    /// let id = client.id().expect("it is accepted");
    /// assert_eq!(handle.send_timeout(id, (), Duration::from_secs(5)), Ok(()));
    /// ```
    ///
    /// # Errors
    ///
    /// As `send`: [`SendError::Full`] if there was no room in time.
    pub fn send_timeout(&self, id: ConnectionId, message: M, timeout: Duration) -> Result<(), SendError<M>> {
        let begin = now();
        let mut message = message;
        loop {
            match self.send(id, message) {
                Err(SendError::Full(back)) => message = back,
                result => return result,
            }
            let left = timeout.saturating_sub(now().saturating_duration_since(begin));
            let Some(inbox) = self.workers.get(id.worker as usize).filter(|_| !left.is_zero()) else {
                return Err(SendError::Full(message));
            };
            inbox.room.wait(left);
        }
    }

    /// Ends a connection as its protocol does with [`Context::finish`](crate::Context::finish): everything written is sent,
    /// then FIN. One that is gone is none of it. Never blocks.
    ///
    /// ```
    /// use echoloop::{CloseReason, Echo, testing::Loop};
    ///
    /// let net = Loop::new(|_| Some(Echo));
    /// let (one, other) = (net.connect(), net.connect());
    /// net.handle().finish_connection(one.id().expect("it is accepted"))?;
    /// net.handle().abort_connection(other.id().expect("it is accepted"))?;
    /// net.run();
    /// assert!(one.has_fin() && other.was_reset());
    /// # Ok::<(), echoloop::SendError<()>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn finish_connection(&self, id: ConnectionId) -> Result<(), SendError<()>> {
        self.end_connection(id, End::Finish)
    }

    /// Resets a connection, as its protocol does with [`Context::abort`](crate::Context::abort). Never blocks.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn abort_connection(&self, id: ConnectionId) -> Result<(), SendError<()>> {
        self.end_connection(id, End::Abort)
    }

    fn end_connection(&self, id: ConnectionId, end: End) -> Result<(), SendError<()>> {
        let inbox = self.workers.get(id.worker as usize).ok_or(SendError::Closed(()))?;
        inbox.request(Request::End(id, end)).map_err(|error| error.map(|_| ()))
    }

    /// Hands a clone of `message` to every connection of every worker; see [`Context::send_all`](crate::Context::send_all).
    /// Never blocks.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), if a worker did not take it; others may have.
    pub fn send_all(&self, message: M) -> Result<(), SendError<M>>
    where
        M: Clone,
    {
        let mut failure = None;
        for inbox in self.workers.iter() {
            match inbox.request(Request::SendAll(message.clone(), M::clone)) {
                // Of two failures the one that may pass is told.
                Err(SendError::Closed(_)) if failure.is_some() => {}
                Err(error) => failure = Some(error),
                Ok(()) => {}
            }
        }
        match failure {
            None => Ok(()),
            Some(error) => Err(error.map(|_| message)),
        }
    }

    /// Makes an outbound connection on the loop of the first worker. The server's factory is asked
    /// for its protocol, with [`Origin::Connect`](crate::Origin::Connect)`(label)`. If it cannot be made the
    /// protocol learns it from [`on_close`](crate::Protocol::on_close). A host name is looked up as
    /// [`Context::connect`](crate::Context::connect) does it. Never blocks.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`SendError::Connectionless`] for an address of UDP.
    pub fn connect(&self, address: Address, label: u64) -> Result<(), SendError<Address>> {
        self.request_connection(address, label, None, None)
    }

    /// Makes an outbound connection on the loop of the first worker, with a protocol of its own; see
    /// [`Context::connect_with`](crate::Context::connect_with).
    ///
    /// # Errors
    ///
    /// As `connect`.
    pub fn connect_with(
        &self,
        address: Address,
        label: u64,
        factory: impl FnMut(&Peer<'_>) -> Option<Boxed<M>> + Send + 'static,
    ) -> Result<(), SendError<Address>> {
        self.request_connection(address, label, Some(Box::new(factory)), None)
    }

    /// Makes an outbound connection over TLS on the loop of the first worker; see
    /// [`Context::connect_tls`](crate::Context::connect_tls).
    ///
    /// # Errors
    ///
    /// As `connect`.
    pub fn connect_tls(
        &self,
        address: Address,
        label: u64,
        tls: TlsConnector,
    ) -> Result<(), SendError<Address>> {
        self.request_connection(address, label, None, Some(tls))
    }

    fn request_connection(
        &self,
        address: Address,
        label: u64,
        factory: Option<SendFactory<M>>,
        tls: Option<TlsConnector>,
    ) -> Result<(), SendError<Address>> {
        let address = connectable(address)?;
        self.workers[0].request(Request::Connect(address, label, factory, tls)).map_err(|error| {
            error.map(|request| match request {
                Request::Connect(address, ..) => address,
                Request::Send(..)
                | Request::SendAll(..)
                | Request::End(..)
                | Request::Status(_)
                | Request::Accepting(_)
                | Request::List(..) => {
                    unreachable!("the channel gives back what it was given")
                }
            })
        })
    }

    /// How many workers the server has; see [`Config::workers`](crate::Config::workers).
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The counters of this moment, summed over the workers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for inbox in self.workers.iter() {
            sum += &inbox.counters.snapshot();
        }
        sum
    }

    /// What each worker is doing. Waits for `patience` at most, and says how many workers have not answered by then. Not for
    /// callbacks: a loop does not answer itself. The answer takes a look at every connection.
    ///
    /// ```
    /// use std::time::Duration;
    /// use echoloop::{Echo, Server};
    ///
    /// let server = Server::<Echo>::builder().bind(["127.0.0.1:0"])?;
    /// let handle = server.handle();
    /// let running = std::thread::spawn(move || server.run(|_| Some(Echo)));
    /// for worker in handle.status(Duration::from_secs(10)).workers {
    ///     println!("{worker}");
    /// }
    /// handle.drain();
    /// # running.join().unwrap()?;
    /// # Ok::<(), echoloop::Error>(())
    /// ```
    #[must_use]
    pub fn status(&self, patience: Duration) -> ServerStatus {
        let mut status = ServerStatus::default();
        for (_, answer) in self.survey(|_, reply| Some(Request::Status(reply)), patience) {
            match answer {
                Ok(worker) => status.workers.push(worker),
                Err(RecvTimeoutError::Timeout) => status.workers_silent += 1,
                Err(RecvTimeoutError::Disconnected) => {}
            }
        }
        status
    }

    /// What each worker makes of clients that come now, in their order: a sign of life that costs a loop next to nothing,
    /// however many connections it has. `None` for one that has not answered within `patience`; one that has ended takes
    /// [no clients](Accepting::No). Not for callbacks: a loop does not answer itself.
    ///
    /// ```
    /// use std::time::Duration;
    /// use echoloop::{Accepting, Echo, Server};
    ///
    /// let server = Server::<Echo>::builder().bind(["127.0.0.1:0"])?;
    /// let handle = server.handle();
    /// assert_eq!(handle.accepting(Duration::from_millis(10)), [None]); // it does not run
    /// let running = std::thread::spawn(move || server.run(|_| Some(Echo)));
    /// assert_eq!(handle.accepting(Duration::from_secs(10)), [Some(Accepting::Yes)]);
    /// handle.drain();
    /// running.join().unwrap()?;
    /// assert_eq!(handle.accepting(Duration::from_secs(10)), [Some(Accepting::No)]);
    /// # Ok::<(), echoloop::Error>(())
    /// ```
    #[must_use]
    pub fn accepting(&self, patience: Duration) -> Vec<Option<Accepting>> {
        let answers = self.survey(|_, reply| Some(Request::Accepting(reply)), patience);
        let accepting = |(_, answer)| match answer {
            Ok(accepting) => Some(accepting),
            Err(RecvTimeoutError::Timeout) => None,
            // The loop has ended, and what was asked of it with it.
            Err(RecvTimeoutError::Disconnected) => Some(Accepting::No),
        };
        answers.into_iter().map(accepting).collect()
    }

    /// What each connection is doing, worker by worker. Each loop is asked for some at a time, so that nobody waits for a
    /// long answer; connections that come or end meanwhile may be left out. Waits for `patience` at most, and says how many
    /// workers have not answered by then. Not for callbacks: a loop does not answer itself.
    ///
    /// ```
    /// use std::{net::TcpStream, time::Duration};
    /// use echoloop::{Address, Echo, Server};
    ///
    /// let server = Server::<Echo>::builder().bind(["127.0.0.1:0"])?;
    /// let (address, handle) = (server.local_addrs()[0].to_string(), server.handle());
    /// let running = std::thread::spawn(move || server.run(|_| Some(Echo)));
    /// let client = TcpStream::connect(address)?;
    /// while handle.stats().accepted == 0 {
    ///     std::thread::yield_now();
    /// }
    /// let list = handle.connections(Duration::from_secs(10));
    /// assert_eq!(list.connections[0].peer, Some(Address::from(client.local_addr()?)));
    /// handle.drain();
    /// # running.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn connections(&self, patience: Duration) -> ConnectionList {
        let (begin, workers) = (now(), self.workers.len());
        let mut workers_silent = 0;
        let mut found = vec![Vec::new(); workers];
        let mut from = vec![Some(0); workers];
        while from.iter().any(Option::is_some) {
            let left = patience.saturating_sub(now().saturating_duration_since(begin));
            // Not all of it: one that falls silent leaves time to the others, who may have more to say.
            let pages =
                self.survey(|worker, reply| from[worker].map(|slot| Request::List(slot, reply)), left / 2);
            for (worker, page) in pages {
                from[worker] = match page {
                    Ok((page, next)) => {
                        found[worker].extend(page);
                        next
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        workers_silent += 1;
                        None
                    }
                    // A loop that has ended has none.
                    Err(RecvTimeoutError::Disconnected) => None,
                };
            }
        }
        ConnectionList { connections: found.into_iter().flatten().collect(), workers_silent }
    }

    /// Asks workers, all at the same time, those for whose number there is a question. What each answers;
    /// [`Disconnected`](RecvTimeoutError::Disconnected) is one that has ended.
    fn survey<T>(
        &self,
        question: impl Fn(usize, SyncSender<T>) -> Option<Request<M>>,
        patience: Duration,
    ) -> Vec<(usize, Result<T, RecvTimeoutError>)> {
        let begin = now();
        let left = || patience.saturating_sub(now().saturating_duration_since(begin));
        let mut full = Vec::new();
        let mut asked = Vec::with_capacity(self.workers.len());
        for (worker, inbox) in self.workers.iter().enumerate() {
            let (reply, answer) = sync_channel(1);
            let Some(request) = question(worker, reply) else { continue };
            if let Err(SendError::Full(request)) = inbox.request(request) {
                full.push((inbox, request));
            }
            asked.push((worker, answer));
        }
        // Those whose mailbox is full have the same time to make room. One that has none has not ended.
        let mut unasked = Vec::new();
        for (inbox, mut request) in full {
            while let Err(SendError::Full(back)) = inbox.request(request) {
                if left().is_zero() {
                    unasked.push(back);
                    break;
                }
                request = back;
                inbox.room.wait(left());
            }
        }
        asked.into_iter().map(|(worker, answer)| (worker, answer.recv_timeout(left()))).collect()
    }

    /// Tells a loop what came of work that it has left to others.
    pub(crate) fn answer(&self, worker: u32, answer: Answer<M>) {
        let inbox = &self.workers[worker as usize];
        // A loop that has ended wants to know nothing.
        if inbox.answers.send(answer).is_ok() {
            inbox.wake_once();
        }
    }

    fn order(&self, order: Order) {
        for inbox in self.workers.iter() {
            inbox.order.fetch_max(order as u8, Ordering::SeqCst);
            inbox.wake_once();
        }
    }
}

/// An address to which a connection can be made, or why not.
fn connectable(address: Address) -> Result<Address, SendError<Address>> {
    match address {
        Address::Ip(_) | Address::Unix(_) | Address::Host { .. } => Ok(address),
        Address::Udp(_) | Address::UdpHost { .. } => Err(SendError::Connectionless(address)),
    }
}

#[expect(clippy::disallowed_methods, reason = "it waits in real time, on whichever thread asks")]
fn now() -> Instant {
    Instant::now()
}

impl<M> Inbox<M> {
    fn request(&self, request: Request<M>) -> Result<(), SendError<Request<M>>> {
        self.requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(request) => SendError::Full(request),
            TrySendError::Disconnected(request) => SendError::Closed(request),
        })?;
        self.wake_once();
        Ok(())
    }

    /// Wakes the loop unless that was already done and the loop has not looked since.
    fn wake_once(&self) {
        if self.woken.raise()
            && let Err(error) = self.waker.wake()
        {
            log::debug!("cannot wake the loop, which looks at its next event: {error}");
        }
    }
}

/// A wake that the poller may lose is not lost by this: see [`Mailbox::is_woken`].
impl<M: Send> Wake for Inbox<M> {
    fn wake(&self) -> io::Result<()> {
        self.wake_once();
        Ok(())
    }
}

impl<M> Mailbox<M> {
    /// What wakes the loop, so that it looks what there is to do.
    pub fn waker(&self) -> Arc<dyn Wake>
    where
        M: Send + 'static,
    {
        Arc::clone(&self.inbox) as _
    }

    /// To be called before the requests are taken: from here on a new one wakes the loop again.
    pub fn open(&self) {
        self.inbox.woken.lower();
    }

    /// Whether someone has woken the loop since it last looked. The wake itself may be lost: mio's poll(2) back end
    /// clears it when something is registered meanwhile.
    pub fn is_woken(&self) -> bool {
        self.inbox.woken.is_up()
    }

    /// The next answer, if there is one.
    pub fn next_answer(&self) -> Option<Answer<M>> {
        self.answers.try_recv().ok()
    }

    /// The next request, if there is one.
    pub fn next(&self) -> Option<Request<M>> {
        let request = self.requests.try_recv().ok()?;
        self.inbox.room.tell();
        Some(request)
    }

    /// How the loop is to go on.
    pub fn order(&self) -> Order {
        match self.inbox.order.load(Ordering::SeqCst) {
            0 => Order::Run,
            1 => Order::Prestop,
            2 => Order::Drain,
            3 => Order::DrainNow,
            _ => Order::Abort,
        }
    }
}

impl<T> SendError<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> SendError<U> {
        match self {
            Self::Full(value) => SendError::Full(f(value)),
            Self::Closed(value) => SendError::Closed(f(value)),
            Self::Connectionless(value) => SendError::Connectionless(f(value)),
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the loop has too much to do already",
            Self::Closed(_) => "the loop has ended",
            Self::Connectionless(_) => "UDP has no connections",
        })
    }
}

impl<T: fmt::Debug> std::error::Error for SendError<T> {}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { workers: Arc::clone(&self.workers) }
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for Request<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(id, _) => write!(f, "Send({id})"),
            Self::SendAll(..) => f.write_str("SendAll"),
            Self::Connect(address, label, ..) => write!(f, "Connect({address}, {label})"),
            Self::End(id, end) => write!(f, "{end:?}({id})"),
            Self::Status(_) => f.write_str("Status"),
            Self::Accepting(_) => f.write_str("Accepting"),
            Self::List(from, _) => write!(f, "List({from})"),
        }
    }
}

impl<M> fmt::Debug for Answer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(id, _) => write!(f, "Work({id})"),
            Self::Lookup(ticket, found) => write!(f, "Lookup({ticket}, {found:?})"),
        }
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("order", &self.order).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct CountWakes(Arc<AtomicUsize>);

    impl Wake for CountWakes {
        fn wake(&self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    fn pair(capacity: usize) -> (Handle<u8>, Mailbox<u8>, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let waker: Arc<dyn Wake> = Arc::new(CountWakes(Arc::clone(&wakes)));
        let (handle, mut mailboxes) = channel(capacity, vec![(waker, Arc::default())]);
        (handle, mailboxes.pop().unwrap(), wakes)
    }

    const ID: ConnectionId = ConnectionId { generation: 1, worker: 0, index: 0 };

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let (handle, mailbox, _) = pair(1);
        handle.send(ID, 1).unwrap();
        assert_eq!(handle.send(ID, 2), Err(SendError::Full(2)));
        assert!(matches!(mailbox.next(), Some(Request::Send(ID, 1))));
        handle.send(ID, 3).unwrap();
    }

    #[test]
    fn a_loop_that_ended_gives_the_message_back() {
        let (handle, mailbox, _) = pair(1);
        drop(mailbox);
        assert_eq!(handle.send(ID, 2), Err(SendError::Closed(2)));
        assert_eq!(handle.send(ConnectionId { worker: 9, ..ID }, 2), Err(SendError::Closed(2)));
    }

    #[test]
    fn one_that_does_not_answer_hides_no_other_one() {
        let (handle, silent, answering) = {
            let waker = || -> Arc<dyn Wake> { Arc::new(CountWakes(Arc::default())) };
            let (handle, mut mailboxes) =
                channel::<u8>(1, vec![(waker(), Arc::default()), (waker(), Arc::default())]);
            let answering = mailboxes.pop().unwrap();
            (handle, mailboxes.pop().unwrap(), answering)
        };
        let pages = 5;
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| handle.connections(Duration::from_millis(500)));
            let mut asked = 0;
            while !asking.is_finished() {
                if let Some(Request::List(slot, reply)) = answering.next() {
                    assert_eq!(slot, asked);
                    asked += 1;
                    let _ = reply.try_send((Vec::new(), (asked < pages).then_some(asked)));
                }
                std::thread::yield_now();
            }
            assert_eq!(asking.join().unwrap().workers_silent, 1);
            assert_eq!(asked, pages, "it was asked until there was no more");
        });
        drop(silent);
        assert_eq!(handle.connections(Duration::from_millis(1)).workers_silent, 1, "the first has ended");
    }

    #[test]
    fn whether_a_loop_accepts_is_known_if_it_answers_or_has_ended() {
        let patience = Duration::from_millis(1);
        let (handle, mailbox, _) = pair(1);
        assert_eq!(handle.accepting(patience), [None], "nobody answers");
        assert_eq!(handle.accepting(patience), [None], "its mailbox is full");
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| handle.accepting(Duration::from_secs(60)));
            let mut answers = 0;
            // That of those who have lost patience is the first.
            while answers < 2 {
                if let Some(Request::Accepting(reply)) = mailbox.next() {
                    let _ = reply.try_send(Accepting::Full);
                    answers += 1;
                }
            }
            assert_eq!(asking.join().unwrap(), [Some(Accepting::Full)]);
        });
        drop(mailbox);
        assert_eq!(handle.accepting(Duration::from_secs(60)), [Some(Accepting::No)]);
    }

    #[test]
    fn no_connection_is_made_over_udp() {
        let (handle, mailbox, _) = pair(1);
        let connect = |text: &str| handle.connect(text.parse().unwrap(), 1).unwrap_err().to_string();
        for address in ["udp:127.0.0.1:7", "udp:localhost:7"] {
            assert_eq!(connect(address), "UDP has no connections");
        }
        assert!(mailbox.next().is_none());
    }

    #[test]
    fn the_loop_is_woken_once_until_it_looks() {
        let (handle, mailbox, wakes) = pair(9);
        handle.send(ID, 1).unwrap();
        handle.send(ID, 2).unwrap();
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
        mailbox.open();
        handle.send(ID, 3).unwrap();
        assert_eq!(wakes.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn drain_and_abort_pass_a_full_mailbox_and_abort_wins() {
        let (handle, mailbox, _) = pair(1);
        handle.send(ID, 1).unwrap();
        assert_eq!(mailbox.order(), Order::Run);
        handle.drain();
        assert_eq!(mailbox.order(), Order::Drain);
        handle.abort();
        handle.drain();
        assert_eq!(mailbox.order(), Order::Abort);
    }

    #[test]
    fn what_goes_wrong_is_said_in_a_line_each() {
        let errors = [
            (SendError::Full(()), "the loop has too much to do already"),
            (SendError::Closed(()), "the loop has ended"),
            (SendError::Connectionless(()), "UDP has no connections"),
        ];
        for (error, line) in errors {
            assert_eq!(error.to_string(), line);
        }
    }

    #[test]
    fn a_request_that_is_there_is_known_until_it_is_looked_for() {
        let (handle, mailbox, _) = pair(1);
        assert!(!mailbox.is_woken());
        handle.send(ID, 1).unwrap();
        assert!(mailbox.is_woken());
        mailbox.open();
        assert!(!mailbox.is_woken());
    }
}
