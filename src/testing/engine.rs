//! The loop of a test, and its clients.

use std::{
    cell::RefCell,
    collections::HashMap,
    mem,
    net::{Ipv4Addr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    datagrams::{DatagramClients, KitDatagramSocket},
    jobs::Jobs,
    kernel::{Kernel, Outgoing},
    pace::{Pace, Paced},
    secure::Secure,
    server_end::ServerEnd,
    socket::{SharedSocket, Socket},
    system::{Backlog, FIRST_PORT, KitListener, KitSystem},
};
use crate::{
    address::Address,
    channel::Channel,
    config::Config,
    connection::Connection,
    connection_id::ConnectionId,
    connection_status::ConnectionStatus,
    event_loop::{EventLoop, Parts},
    handle::{Handle, channel},
    networks::Networks,
    peer::{Origin, Peer},
    places::Places,
    protocol::Protocol,
    stats::{Counters, Stats},
    system::{Wait, Wake},
    tls::TlsAcceptor,
};

/// One loop, with whatever is on it.
pub(super) struct Engine<'f, P: Protocol + 'f> {
    kernel: Kernel,
    /// Gone when it has come to its end.
    event_loop: Option<EventLoop<P, Box<Factory<'f, P>>, KitSystem>>,
    /// The clients' side of the listeners, by position.
    backlogs: Vec<Weak<Backlog>>,
    /// The factories of listeners that have their own.
    own: Rc<RefCell<Factories<'f, P>>>,
    /// The clients' side of the datagram socket, if a test has sent to it.
    datagrams: Option<Weak<DatagramClients>>,
    /// Clients that take their time.
    paced: Vec<Paced>,
    handle: Handle<P::Message>,
    jobs: Jobs,
    counters: Arc<Counters>,
    clients_made: u32,
}

pub(super) type Factory<'f, P> = dyn Fn(&Peer<'_>) -> Option<P> + 'f;

/// Factories of listeners, by position.
type Factories<'f, P> = HashMap<usize, Box<Factory<'f, P>>>;

/// Asks the listener's own factory if it has one.
fn by_listener<'f, P: Protocol + 'f>(
    own: Rc<RefCell<Factories<'f, P>>>,
    others: Box<Factory<'f, P>>,
) -> Box<Factory<'f, P>> {
    Box::new(move |peer| match peer.origin {
        Origin::Listener(position) => match own.borrow().get(&position) {
            Some(factory) => factory(peer),
            None => others(peer),
        },
        Origin::Connect(_) => others(peer),
    })
}

/// Turns without a byte in which the loop must come to rest.
const TURNS_MAX: u32 = 10_000;

/// Bytes that the server may move, in and out together, until it does.
const BYTES_MAX: u64 = 256 << 20;

/// As many connections as a server has without a descriptor limit.
const CAPACITY: usize = 65_536;

impl<'f, P: Protocol + 'f> Engine<'f, P> {
    pub(super) fn new(limits: Config, factory: Box<Factory<'f, P>>) -> Self {
        let places = Places::alone(limits.max_connections.unwrap_or(CAPACITY));
        Self::with_places(limits, places, factory)
    }

    fn with_places(limits: Config, places: Arc<Places>, factory: Box<Factory<'f, P>>) -> Self {
        let kernel = Kernel::new();
        let counters = Arc::new(Counters::default());
        let jobs = Jobs::new(limits.blocking_jobs_max);
        let waker: Arc<dyn Wake> = Arc::new(());
        let (handle, mut mailboxes) = channel(limits.mailbox_capacity, vec![(waker, Arc::clone(&counters))]);
        let parts = Parts {
            worker: 0,
            system: KitSystem::new(&kernel),
            endpoints: Vec::new(),
            mailbox: mailboxes.pop().expect("there is one loop"),
            handle: handle.clone(),
            blocking: Arc::new(jobs.clone()),
            counters: Arc::clone(&counters),
            networks: limits.max_connections_per_ip.map(Networks::new),
            places,
            table_bytes: None,
            limits,
        };
        let own = Rc::new(RefCell::new(HashMap::new()));
        let factory = by_listener(Rc::clone(&own), factory);
        let event_loop = EventLoop::new(parts, factory).expect("there is no listener to watch");
        let mut engine = Self {
            kernel,
            event_loop: Some(event_loop),
            backlogs: Vec::new(),
            own,
            datagrams: None,
            paced: Vec::new(),
            handle,
            jobs,
            counters,
            clients_made: 0,
        };
        engine.listen(0);
        engine
    }

    pub(super) fn now(&self) -> Instant {
        self.kernel.now()
    }

    pub(super) fn left_until(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.now())
    }

    pub(super) const fn handle(&self) -> &Handle<P::Message> {
        &self.handle
    }

    pub(super) const fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    pub(super) fn connections(&self) -> Vec<ConnectionStatus> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let (Some(event_loop), Some(slot)) = (&self.event_loop, from) {
            let (page, next) = event_loop.connections().list(slot);
            all.extend(page);
            from = next;
        }
        all
    }

    pub(super) fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    pub(super) const fn is_finished(&self) -> bool {
        self.event_loop.is_none()
    }

    pub(super) fn connection(&self, id: ConnectionId) -> Option<&Connection<P, Channel<ServerEnd>>> {
        let connection = self.event_loop.as_ref()?.connections().get(id)?;
        Some(connection).filter(|connection| !connection.state().is_closed())
    }

    /// Lets a client read and acknowledge at its own pace.
    pub(super) fn set_pace(&mut self, socket: &SharedSocket, pace: Pace) {
        socket.borrow_mut().stop_acknowledging();
        self.paced.push(Paced::new(Rc::clone(socket), pace, self.now()));
    }

    /// When something happens next by the time alone.
    fn next_moment(&self) -> Option<Instant> {
        let of_loop = match self.event_loop.as_ref().map(EventLoop::next_wait) {
            Some(Wait::Until(at)) => Some(at),
            Some(Wait::No | Wait::Forever) | None => None,
        };
        self.paced.iter().filter_map(Paced::next).chain(of_loop).min()
    }

    /// A client that comes to the listener of this position.
    pub(super) fn connect(
        &mut self,
        position: usize,
        from: Option<Address>,
        buffer: Buffer,
        secure: Option<Secure>,
    ) -> SharedSocket {
        self.listen(position);
        let address = from.unwrap_or_else(|| Address::Ip(self.next_client_address()));
        let mut socket = Socket::inbound(self.kernel.events(), address.clone(), listener_address(position));
        buffer.apply(&mut socket);
        if let Some(secure) = secure {
            socket.begin_tls(secure);
        }
        let socket = Rc::new(RefCell::new(socket));
        match self.backlogs[position].upgrade() {
            Some(backlog) => backlog.push(Rc::clone(&socket), address),
            None => socket.borrow_mut().refuse_client(),
        }
        socket
    }

    /// Makes a listener with limits and a factory of its own.
    pub(super) fn listen_with(&mut self, limits: Option<Config>, factory: Box<Factory<'f, P>>) -> usize {
        let position = self.backlogs.len();
        self.own.borrow_mut().insert(position, factory);
        self.listen(position);
        if let (Some(event_loop), Some(limits)) = (&mut self.event_loop, limits) {
            event_loop.set_listener_limits(position, limits);
        }
        position
    }

    /// Makes a listener whose clients speak TLS.
    pub(super) fn listen_tls(&mut self, acceptor: TlsAcceptor) -> usize {
        let position = self.backlogs.len();
        self.listen(position);
        if let Some(event_loop) = &mut self.event_loop {
            event_loop.set_listener_tls(position, acceptor);
        }
        position
    }

    /// Makes the listeners up to this position, unless the server takes no more clients.
    fn listen(&mut self, position: usize) {
        while self.backlogs.len() <= position {
            let listener = KitListener::new(&self.kernel);
            self.backlogs.push(listener.backlog());
            if let Some(event_loop) = self.event_loop.as_mut().filter(|event_loop| event_loop.takes_clients())
            {
                event_loop.listen(listener).expect("a listener that is none can always be watched");
            }
        }
    }

    /// Those of RFC 5737, so that nobody takes them for real ones.
    fn next_client_address(&mut self) -> SocketAddr {
        let n = self.clients_made;
        self.clients_made += 1;
        let [.., high, low] = (n % PORTS).to_be_bytes();
        let port = FIRST_PORT + u16::from_be_bytes([high, low]);
        let [.., host] = (n / PORTS).to_be_bytes();
        (Ipv4Addr::new(198, 51, 100, host), port).into()
    }

    /// Sends a datagram, lets the loop run, and returns what came back to its sender.
    pub(super) fn datagram(&mut self, from: Option<SocketAddr>, bytes: &[u8]) -> Option<Vec<u8>> {
        let from = from.unwrap_or_else(|| self.next_client_address());
        if self.datagrams.is_none() {
            self.datagrams = Some(self.echo_datagrams());
        }
        let clients = self.datagrams.as_ref().and_then(Weak::upgrade)?;
        clients.send(from, bytes);
        self.run();
        let (to, bytes) = clients.take_returned()?;
        assert_eq!(to, from, "a datagram went back to another client");
        Some(bytes)
    }

    /// Makes the datagram socket, unless the server has ended or begun to.
    fn echo_datagrams(&mut self) -> Weak<DatagramClients> {
        let socket = KitDatagramSocket::new(&self.kernel, DATAGRAM_PORT);
        let clients = socket.clients();
        if let Some(event_loop) = self.event_loop.as_mut().filter(|event_loop| event_loop.takes_clients()) {
            event_loop.echo_datagrams(socket).expect("a socket that is none can always be watched");
        }
        clients
    }

    pub(super) fn next_outbound(&self) -> Option<Outgoing> {
        self.kernel.next_outbound()
    }

    /// Hands a message to a connection. False if it is gone, or not made yet.
    pub(super) fn message(&mut self, id: ConnectionId, message: P::Message) -> bool {
        // What was asked for before comes first, and leaves room.
        self.run();
        let is_there = self.connection(id).is_some_and(|connection| connection.state().is_made());
        if self.handle.send(id, message).is_err() {
            self.counters.messages_undeliverable.add(1);
        }
        is_there
    }

    /// Lets time pass, from deadline to deadline.
    pub(super) fn advance(&mut self, time: Duration) {
        let until = self.now().checked_add(time).expect("the time is within the range of the clock");
        self.run();
        while let Some(next) = self.next_moment().filter(|&next| next <= until) {
            self.kernel.set_now(next.max(self.now()));
            self.paced.iter_mut().for_each(|paced| paced.act(next));
            self.run();
        }
        self.kernel.set_now(until);
        self.run();
    }

    /// Takes turns until there is nothing to do any more at this time.
    pub(super) fn run(&mut self) {
        let (start, mut moved, mut idle_turns) = (self.bytes_moved(), 0, 0);
        while idle_turns < TURNS_MAX {
            if let Some(event_loop) = &mut self.event_loop {
                event_loop.turn().expect("a system that is none never fails");
            }
            self.kernel.let_clients_read();
            if self.is_at_rest() {
                return;
            }
            let before = mem::replace(&mut moved, self.bytes_moved() - start);
            idle_turns = if moved > before { 0 } else { idle_turns + 1 };
            assert!(
                moved <= BYTES_MAX,
                "the server sends without end: let its clients stop reading, see Connector::stopped"
            );
        }
        panic!("the loop does not come to rest in {TURNS_MAX} turns");
    }

    fn bytes_moved(&self) -> u64 {
        self.counters.bytes_received.get() + self.counters.bytes_sent.get()
    }

    /// Whether nothing happens before the time moves; then a loop that has come to its end is gone.
    fn is_at_rest(&mut self) -> bool {
        let Some(event_loop) = &self.event_loop else { return true };
        if event_loop.is_finished() {
            self.event_loop.take().expect("it is there").finish();
            return true;
        }
        let is_idle = match event_loop.next_wait() {
            Wait::No => false,
            Wait::Until(at) => at > self.kernel.now(),
            Wait::Forever => true,
        };
        let is_at_rest = is_idle && self.kernel.is_at_rest();
        if cfg!(test) && is_at_rest {
            event_loop.connections().audit(0).expect("every connection is where it belongs");
        }
        is_at_rest
    }
}

/// How a client receives.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Buffer {
    pub(super) bytes: Option<usize>,
    pub(super) is_stopped: bool,
}

impl Buffer {
    pub(super) fn apply(self, socket: &mut Socket) {
        if let Some(bytes) = self.bytes {
            socket.set_capacity(bytes);
        }
        if self.is_stopped {
            socket.stop_reading();
        }
    }
}

/// The port of the datagram socket.
const DATAGRAM_PORT: u16 = 27_015;

/// How many dynamic ports there are.
const PORTS: u32 = 16_384;

fn listener_address(position: usize) -> Address {
    let offset = u16::try_from(position % 1024).expect("below 1024");
    Address::Ip((Ipv4Addr::new(192, 0, 2, 1), 27_015 + offset).into())
}

#[cfg(test)]
mod tests {
    use std::{
        cell::OnceCell,
        io,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::protocol::{context::Context, echo::Echo, input::Input};

    #[derive(Default)]
    struct CountWakes(AtomicUsize);

    impl Wake for CountWakes {
        fn wake(&self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[test]
    fn a_loop_that_goes_to_sleep_beside_a_full_house_is_woken_when_another_worker_gives_a_place_back() {
        let wakes = Arc::new(CountWakes::default());
        let places = Places::new(2, [Arc::clone(&wakes) as Arc<dyn Wake>]);
        let limits = Config { accept_burst: 1, ..Config::default() };
        let mut engine = Engine::with_places(limits, Arc::clone(&places), Box::new(|_| Some(Echo)));
        assert!(places.take(1), "the other worker has a client");
        let clients = [(); 2].map(|()| engine.connect(0, None, Buffer::default(), None));
        let event_loop = engine.event_loop.as_mut().expect("it runs");
        // The burst ends with the last place: it has not tried in vain.
        event_loop.turn().unwrap();
        assert_eq!(clients.map(|client| client.borrow().id.is_some()), [true, false]);
        assert_ne!(event_loop.next_wait(), Wait::No);
        places.give_back(1);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert_eq!(event_loop.next_wait(), Wait::No);
    }

    /// Takes longer to answer than a drain takes for silence.
    struct Slow(Rc<OnceCell<Kernel>>);

    impl Protocol for Slow {
        type Message = ();

        fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
            let kernel = self.0.get().expect("it is set before a client comes");
            kernel.set_now(kernel.now() + 2 * Config::default().drain_silence);
            cx.forward(input);
        }
    }

    /// A server that answers slowly, and a client that has just got an answer: in the drain, or in the turn before.
    #[track_caller]
    fn is_ended_after_a_silence_of_its_own(is_draining: bool) {
        let kernel = Rc::new(OnceCell::new());
        let slow = Rc::clone(&kernel);
        let mut engine = Engine::new(Config::default(), Box::new(move |_| Some(Slow(Rc::clone(&slow)))));
        assert!(kernel.set(engine.kernel.clone()).is_ok());
        let client = engine.connect(0, None, Buffer::default(), None);
        engine.run();
        if is_draining {
            engine.handle.drain();
            engine.run();
        }
        client.borrow_mut().send(b"?");
        engine.event_loop.as_mut().expect("it runs").turn().unwrap();
        engine.handle.drain();
        engine.run();
        assert_eq!(client.borrow_mut().take_received(), b"?");
        engine.advance(Config::default().drain_silence - Duration::from_millis(1));
        assert!(!client.borrow().has_fin(), "it had no time to say anything");
        engine.advance(Duration::from_millis(1));
        assert!(client.borrow().has_fin());
    }

    #[test]
    fn what_the_server_takes_in_a_drain_is_no_silence_of_its_client() {
        is_ended_after_a_silence_of_its_own(true);
    }

    #[test]
    fn what_the_server_took_when_a_drain_begins_is_no_silence_of_its_client() {
        is_ended_after_a_silence_of_its_own(false);
    }

    #[test]
    fn a_drain_ends_for_a_loop_whose_clients_wait_for_the_places_of_another() {
        let places = Places::new(1, [Arc::new(()) as Arc<dyn Wake>]);
        let mut engine =
            Engine::with_places(Config::default(), Arc::clone(&places), Box::new(|_| Some(Echo)));
        assert!(places.take(1), "the other worker has a client, for ever");
        let client = engine.connect(0, None, Buffer::default(), None);
        engine.handle.drain();
        let event_loop = engine.event_loop.as_mut().expect("it runs");
        event_loop.turn().unwrap();
        let Wait::Until(deadline) = event_loop.next_wait() else { panic!("it would sleep for ever") };
        engine.kernel.set_now(deadline);
        event_loop.turn().unwrap();
        assert!(event_loop.is_finished());
        assert!(client.borrow().was_reset());
    }
}
