//! The event loop under test, in the fake kernel.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use echoloop::{
    Config, Handle, Peer, Protocol, TlsAcceptor,
    internals::{Channel, Connections, Counters, Endpoint, EventLoop, Parts, Places, Wait, Wake, channel},
};

use super::{
    kernel::{
        Kernel, SharedKernel,
        datagrams::FakeDatagramSocket,
        other_worker::{LOOP, OtherWorker, Woken},
        system::{FakeListener, SimSystem},
        transport::FakeTransport,
    },
    lookups::Lookups,
};

/// Why a schedule fails.
pub type Failure = String;

pub type Factory<P> = Box<dyn Fn(&Peer<'_>) -> Option<P>>;

/// One loop, with whatever is on it.
pub struct Stage<P: Protocol> {
    pub kernel: SharedKernel,
    /// Gone when it has come to its end.
    event_loop: Option<EventLoop<P, Factory<P>, SimSystem>>,
    pub handle: Handle<P::Message>,
    pub lookups: Lookups,
    pub counters: Arc<Counters>,
    capacity: usize,
    /// The kernel has failed the loop.
    pub has_failed: bool,
    woken: Arc<Woken>,
}

impl<P: Protocol> Stage<P> {
    pub fn new(kernel: &SharedKernel, limits: Config, capacity: usize, factory: Factory<P>) -> Self {
        let counters = Arc::new(Counters::default());
        let woken = Arc::new(Woken::default());
        let waker: Arc<dyn Wake> = Arc::clone(&woken) as _;
        let (handle, mut mailboxes) = channel(limits.mailbox_capacity, vec![(waker, Arc::clone(&counters))]);
        let (listeners, has_datagrams) = {
            let mut kernel = kernel.borrow_mut();
            (kernel.capacity, kernel.dials_most) = (capacity, limits.accept_burst);
            (kernel.listeners.len(), kernel.datagrams.is_some())
        };
        let listeners =
            (0..listeners).map(|position| Endpoint::Listener(FakeListener::new(kernel, position)));
        let datagrams = has_datagrams.then(|| Endpoint::Datagrams(vec![FakeDatagramSocket::new(kernel)]));
        let mailbox = mailboxes.pop().expect("there is one loop");
        let places = places(kernel, capacity, mailbox.waker());
        let lookups = Lookups::default();
        let parts = Parts {
            worker: LOOP,
            system: SimSystem::new(kernel),
            endpoints: listeners.chain(datagrams).collect(),
            mailbox,
            handle: handle.clone(),
            blocking: Arc::new(lookups.clone()),
            counters: Arc::clone(&counters),
            limits,
            networks: None,
            places,
            table_bytes: None,
        };
        let event_loop = EventLoop::new(parts, factory).expect("listeners can be watched");
        let kernel = Rc::clone(kernel);
        let event_loop = Some(event_loop);
        Self { kernel, event_loop, handle, lookups, counters, capacity, has_failed: false, woken }
    }

    /// Clients of the listener of this position speak TLS.
    pub fn set_listener_tls(&mut self, position: usize, acceptor: TlsAcceptor) {
        self.event_loop.as_mut().expect("it has just begun").set_listener_tls(position, acceptor);
    }

    pub fn connections(&self) -> Option<&Connections<P, Channel<FakeTransport>>> {
        self.event_loop.as_ref().map(EventLoop::connections)
    }

    pub const fn is_finished(&self) -> bool {
        self.event_loop.is_none()
    }

    pub fn now(&self) -> Instant {
        self.kernel.borrow().now
    }

    pub fn advance(&self, ahead: Duration) {
        self.kernel.borrow_mut().advance(ahead);
    }

    /// How long the loop would wait if nothing came.
    pub fn left_until_deadline(&self) -> Option<Duration> {
        match self.event_loop.as_ref()?.next_wait() {
            Wait::Until(at) => Some(at.saturating_duration_since(self.now())),
            Wait::No | Wait::Forever => None,
        }
    }

    /// Whether the loop would do nothing more without an event and before a deadline.
    pub fn is_at_rest(&self) -> bool {
        let Some(event_loop) = &self.event_loop else { return true };
        let is_idle = match event_loop.next_wait() {
            Wait::No => false,
            Wait::Until(at) => at > self.now(),
            Wait::Forever => true,
        };
        is_idle && !self.kernel.borrow().has_events()
    }

    /// Has the other worker do something. If it gives the loop something to do, it wakes it.
    pub fn other_worker<R>(&self, act: impl FnOnce(&mut Kernel) -> R) -> Result<R, Failure> {
        let sleeps = self.is_at_rest();
        self.woken.forget();
        let result = act(&mut self.kernel.borrow_mut());
        if sleeps && !self.is_at_rest() && !self.woken.is_true() {
            return Err("another worker gives the loop something to do, and does not wake it".to_owned());
        }
        Ok(result)
    }

    /// One turn of the loop, and what must hold after each.
    pub fn turn(&mut self) -> Result<(), Failure> {
        let Some(event_loop) = &mut self.event_loop else { return Ok(()) };
        let freed = self.kernel.borrow().freed;
        self.has_failed = event_loop.turn().is_err();
        if self.has_failed || event_loop.is_finished() {
            self.event_loop.take().expect("it is there").finish();
        }
        if self.kernel.borrow().freed > freed {
            self.check_retry()?;
        }
        self.check()
    }

    /// What was closed may be what accepting waits for.
    fn check_retry(&self) -> Result<(), Failure> {
        let Some(event_loop) = &self.event_loop else { return Ok(()) };
        let can_accept = event_loop.connections().has_room_for_clients();
        if can_accept && self.kernel.borrow().has_failed_backlog() && event_loop.next_wait() != Wait::No {
            return Err("a connection was closed, and it does not try to accept again".to_owned());
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        let kernel = self.kernel.borrow();
        let live = self.connections().map_or(0, Connections::len);
        if live > self.capacity {
            return Err(format!("{live} connections, of {} at most", self.capacity));
        }
        if kernel.open != live {
            return Err(format!("{} descriptors are open for {live} connections", kernel.open));
        }
        let of_listeners = kernel.listeners.iter().find_map(|backlog| backlog.violation.as_ref());
        if let Some(violation) = kernel.violation.as_ref().or(of_listeners) {
            return Err(violation.clone());
        }
        if self.is_finished() && kernel.is_listening() {
            return Err("the loop has ended, and still listens".to_owned());
        }
        let stats = self.counters.snapshot();
        let (read, written) = (kernel.bytes_in, kernel.bytes_out);
        let is_counted = if kernel.handshakes.is_some() {
            // What is sent counts when the whole of its record is; a budget may end before that is known.
            stats.bytes_received <= read && stats.bytes_sent <= kernel.plaintext_sent()
        } else {
            (stats.bytes_received, stats.bytes_sent) == (read, written)
        };
        if !is_counted {
            return Err(format!("{read} bytes were read and {written} written, but {stats:?}"));
        }
        if stats.open != live as u64 {
            return Err(format!("{live} connections, but {stats:?}"));
        }
        let Some(connections) = self.connections() else { return Ok(()) };
        kernel.other_worker.as_ref().map_or(Ok(()), OtherWorker::check)?;
        connections.audit(kernel.left_to_loop())
    }

    /// Changes that the server brought about. Over TLS bytes also come to a protocol without any.
    fn progress(&self) -> u64 {
        let told = || self.counters.bytes_received.get() + self.counters.bytes_sent.get();
        let kernel = self.kernel.borrow();
        kernel.progress + kernel.handshakes.as_ref().map_or(0, |_| told())
    }

    /// Lets everyone act until nobody has anything to do, without any time passing. `act` does for all clients what
    /// they can, and says whether that was anything.
    pub fn settle(&mut self, mut act: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
        let mut idle_turns = 0;
        for _ in 0..200_000 {
            let before = self.progress();
            let has_acted = act()? | self.other_worker(Kernel::other_worker_settles)?;
            self.turn()?;
            if has_acted || self.progress() != before {
                idle_turns = 0;
                continue;
            }
            if self.is_at_rest() {
                if self.kernel.borrow().has_left_one() {
                    return Err("the loop rests, and does not take over what was left to it".to_owned());
                }
                return Ok(());
            }
            idle_turns += 1;
            if idle_turns > 50 {
                return Err("the loop is busy and nothing moves".to_owned());
            }
        }
        Err("the schedule does not settle".to_owned())
    }
}

/// The places for the loop that is woken in this way, and for the other worker, if there is one.
fn places(kernel: &SharedKernel, capacity: usize, waker: Arc<dyn Wake>) -> Arc<Places> {
    let mut kernel = kernel.borrow_mut();
    if kernel.nature.left_percent.is_none() {
        return Places::alone(capacity);
    }
    let woken = Arc::new(Woken::default());
    let other: Arc<dyn Wake> = Arc::clone(&woken) as _;
    let places = Places::new(capacity, [waker, other]);
    kernel.other_worker = Some(OtherWorker::new(Arc::clone(&places), woken));
    places
}
