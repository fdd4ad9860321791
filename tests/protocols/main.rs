//! What a protocol can do with its connection, and what it cannot do to others.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test")]

mod util;

use std::{
    collections::{HashMap, HashSet},
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use echoloop::{
    Address, CloseReason, Config, ConnectionId, Context, Echo, Flow, Handle, Input, Origin, Protocol,
    SendError, Server, Stats, Timeout,
};
use util::{DEADLINE, Running, eventually, finish, is_wine, pattern, ping, read_to_end, read_to_reset};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const ANYWHERE: &[&str] = &["127.0.0.1:0"];
const NEVER: Duration = Duration::from_secs(3600);

/// Its peer is reset, possibly behind some bytes.
#[track_caller]
fn expect_reset(stream: &TcpStream) {
    read_to_reset(stream);
}

#[track_caller]
fn expect_bytes(mut stream: &TcpStream, expected: &[u8]) {
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).expect("bytes");
    let text = |bytes: &[u8]| bytes[..bytes.len().min(99)].escape_ascii().to_string();
    assert!(received == expected, "{} instead of {}", text(&received), text(expected));
}

/// Ends the server once nobody is left.
#[track_caller]
fn last_stats<P: Protocol + 'static>(server: Running<P>) -> Stats {
    server.wait_until_idle();
    server.drain()
}

/// What is called with the input and may answer.
struct OnData<F>(F);

impl<F: FnMut(&mut Input<'_>, &mut Context<'_>)> Protocol for OnData<F> {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        (self.0)(input, cx);
    }
}

// Panics.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    Factory,
    Open,
    Data,
    Writable,
    Eof,
    Timer,
    Message,
    Close,
}

/// Echo that panics at one place, or nowhere.
struct Panics {
    site: Option<Site>,
    opened: Sender<ConnectionId>,
}

impl Panics {
    fn pass(&self, site: Site) {
        assert!(self.site != Some(site), "a panic in {site:?}, as the test wants it");
    }
}

impl Protocol for Panics {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        self.opened.send(cx.id()).unwrap();
        self.pass(Site::Open);
        match self.site {
            Some(Site::Writable) => assert_eq!(cx.write(&[0; 64 * KIB]), Flow::Full),
            Some(Site::Timer) => cx.set_timer(0, Duration::ZERO),
            _ => {}
        }
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.pass(Site::Data);
        cx.forward(input);
    }

    fn on_writable(&mut self, _: &mut Context<'_>) {
        self.pass(Site::Writable);
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        self.pass(Site::Eof);
        cx.finish();
    }

    fn on_timeout(&mut self, _: Timeout, _: &mut Context<'_>) {
        self.pass(Site::Timer);
    }

    fn on_message(&mut self, (): (), _: &mut Context<'_>) {
        self.pass(Site::Message);
    }

    fn on_close(&mut self, _: &CloseReason) {
        self.pass(Site::Close);
    }
}

/// The second of three clients meets a panic at `site`.
fn panic_costs_one_connection(site: Site) -> Stats {
    let (opened, ids) = channel();
    let count = AtomicUsize::new(0);
    let server = Running::start(Config::default(), ANYWHERE, move |_| {
        let is_victim = count.fetch_add(1, SeqCst) == 1;
        assert!(!is_victim || site != Site::Factory, "a panic in the factory, as the test wants it");
        Some(Panics { site: is_victim.then_some(site), opened: opened.clone() })
    });
    let neighbour = server.connect();
    ping(&neighbour, b"before");
    ids.recv_timeout(DEADLINE).unwrap();

    let mut victim = server.connect();
    match site {
        Site::Data => victim.write_all(b"x").unwrap(),
        Site::Message => {
            let id = ids.recv_timeout(DEADLINE).unwrap();
            server.handle.send(id, ()).unwrap();
        }
        Site::Eof => victim.shutdown(Shutdown::Write).unwrap(),
        Site::Factory | Site::Open | Site::Writable | Site::Timer | Site::Close => {}
    }
    match site {
        Site::Factory => assert!(read_to_end(&victim).is_empty()),
        Site::Close => assert!(finish(&victim).is_empty()),
        _ => expect_reset(&victim),
    }
    eventually("the panic is counted", || server.stats().panics == 1 && server.stats().open == 1);

    ping(&neighbour, b"after");
    let another = server.connect();
    ping(&another, b"as if nothing had happened");
    assert!(finish(&another).is_empty());
    assert!(finish(&neighbour).is_empty());
    let stats = last_stats(server);
    assert_eq!((stats.accepted, stats.panics), (3, 1), "{stats}");
    stats
}

#[test]
fn a_panic_in_any_callback_costs_that_connection_only() {
    for site in [Site::Open, Site::Data, Site::Writable, Site::Eof, Site::Timer, Site::Message] {
        let stats = panic_costs_one_connection(site);
        assert_eq!(stats.closed(CloseReason::Panicked), 1, "{site:?}: {stats}");
        assert_eq!(stats.closed(CloseReason::Peer), 2, "{site:?}: {stats}");
    }
}

#[test]
fn a_panic_in_the_factory_costs_that_connection_only() {
    let stats = panic_costs_one_connection(Site::Factory);
    assert_eq!((stats.refused, stats.closed(CloseReason::Peer)), (1, 2), "{stats}");
    assert_eq!(stats.closed_total(), 2, "{stats}");
}

#[test]
fn a_panic_in_on_close_leaves_the_reason_as_it_was() {
    let stats = panic_costs_one_connection(Site::Close);
    assert_eq!((stats.closed(CloseReason::Peer), stats.closed_total()), (3, 3), "{stats}");
}

// Beginning and ending.

#[test]
fn whom_the_factory_refuses_is_disconnected_and_counted() {
    let count = AtomicUsize::new(0);
    let server = Running::start(Config::default(), ANYWHERE, move |_| {
        (count.fetch_add(1, SeqCst) != 1).then_some(Echo)
    });
    let first = server.connect();
    ping(&first, b"welcome");
    let refused = server.connect();
    assert!(read_to_end(&refused).is_empty());
    let third = server.connect();
    ping(&third, b"welcome");
    assert!(finish(&first).is_empty() && finish(&third).is_empty());
    let stats = last_stats(server);
    assert_eq!((stats.accepted, stats.refused, stats.closed_total()), (3, 1, 2), "{stats}");
}

#[test]
fn the_factory_knows_who_comes_and_by_which_listener() {
    let (seen, peers) = channel();
    let server = Running::start(Config::default(), &["127.0.0.1:0", "127.0.0.1:0"], move |peer| {
        seen.send((peer.origin, peer.address.clone(), peer.id)).unwrap();
        Some(Echo)
    });
    let mut ids = HashSet::new();
    for position in [1, 0, 1] {
        let Address::Ip(address) = server.addresses[position] else { unreachable!() };
        let client = util::connect(address);
        let (origin, address, id) = peers.recv_timeout(DEADLINE).unwrap();
        assert_eq!(origin, Origin::Listener(position));
        assert_eq!(address, Address::Ip(client.local_addr().unwrap()));
        assert!(finish(&client).is_empty());
        assert!(ids.insert(id), "ids are never used again");
        server.wait_until_idle();
    }
}

/// Finishes as soon as it is made.
struct Greets;

impl Protocol for Greets {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.write(b"hello and goodbye to ");
        cx.write(cx.peer_addr().unwrap().to_string().as_bytes());
        cx.finish();
        assert_eq!(cx.write(b"?"), Flow::Closed);
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {
        panic!("what comes after finish() is discarded");
    }
}

#[test]
fn a_protocol_can_finish_as_soon_as_it_is_made() {
    let server = Running::start(Config::default(), ANYWHERE, |_| Some(Greets));
    let mut client = server.connect();
    let expected = format!("hello and goodbye to {}", client.local_addr().unwrap());
    assert_eq!(read_to_end(&client), expected.as_bytes());
    client.write_all(b"too late").unwrap();
    drop(client);
    let stats = last_stats(server);
    assert_eq!((stats.closed(CloseReason::Finished), stats.closed_total()), (1, 1), "{stats}");
    assert_eq!((stats.panics, stats.bytes_discarded), (0, 8), "{stats}");
}

#[test]
fn an_abort_resets_the_client() {
    let server = Running::start(Config::default(), ANYWHERE, |_| {
        Some(OnData(|_: &mut Input<'_>, cx: &mut Context<'_>| {
            cx.write(b"never mind");
            cx.abort();
        }))
    });
    let mut client = server.connect();
    client.write_all(b"?").unwrap();
    expect_reset(&client);
    let stats = last_stats(server);
    assert_eq!((stats.closed(CloseReason::Aborted), stats.closed_total()), (1, 1), "{stats}");
}

#[test]
fn an_abort_of_the_server_resets_every_client() {
    let server = Running::echo(Config::default());
    let clients = [server.connect(), server.connect(), server.connect()];
    for client in &clients {
        ping(client, b"?");
    }
    server.handle.abort();
    let stats = server.join();
    clients.iter().for_each(expect_reset);
    assert_eq!((stats.closed(CloseReason::Aborted), stats.closed_total()), (3, 3), "{stats}");
}

/// Tells how it ends, and that it is dropped.
struct TellsTheEnd(Sender<Option<CloseReason>>);

impl Protocol for TellsTheEnd {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_close(&mut self, reason: &CloseReason) {
        self.0.send(Some(*reason)).unwrap();
    }
}

impl Drop for TellsTheEnd {
    fn drop(&mut self) {
        self.0.send(None).unwrap();
    }
}

#[test]
fn on_close_comes_once_with_the_reason_and_then_the_protocol_is_dropped() {
    let (tell, told) = channel();
    let server = Running::start(Config::default(), ANYWHERE, move |_| Some(TellsTheEnd(tell.clone())));
    let expect = |reason| {
        assert_eq!(told.recv_timeout(DEADLINE), Ok(Some(reason)));
        assert_eq!(told.recv_timeout(DEADLINE), Ok(None));
    };
    drop(server.connect());
    expect(CloseReason::Peer);
    let client = server.connect();
    ping(&client, b"?");
    util::reset(client);
    expect(if is_wine() { CloseReason::Peer } else { CloseReason::Reset });
    let client = server.connect();
    ping(&client, b"?");
    server.handle.drain();
    assert!(read_to_end(&client).is_empty());
    drop(client);
    expect(CloseReason::Drained);
    server.join();
    assert!(told.recv().is_err(), "nothing more is told");
}

/// Takes its own time in a drain, or for ever.
struct OnDrain {
    goes_on: bool,
}

impl Protocol for OnDrain {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) {
        cx.write(b"closing time");
        if !self.goes_on {
            cx.finish();
        }
    }
}

#[test]
fn a_protocol_can_say_goodbye_in_a_drain() {
    let server = Running::start(Config::default(), ANYWHERE, |_| Some(OnDrain { goes_on: false }));
    let client = server.connect();
    ping(&client, b"?");
    server.handle.drain();
    assert_eq!(read_to_end(&client), b"closing time");
    drop(client);
    let stats = server.join();
    assert_eq!((stats.closed(CloseReason::Drained), stats.closed_total()), (1, 1), "{stats}");
}

#[test]
fn a_protocol_that_goes_on_in_a_drain_is_cut_off_by_its_deadline() {
    let mut config = Config::default();
    config.drain_timeout = Some(Duration::from_millis(600));
    let server = Running::start(config, ANYWHERE, |_| Some(OnDrain { goes_on: true }));
    let client = server.connect();
    ping(&client, b"?");
    server.handle.drain();
    expect_bytes(&client, b"closing time");
    expect_reset(&client);
    let stats = server.join();
    assert_eq!((stats.closed(CloseReason::DrainTimeout), stats.closed_total()), (1, 1), "{stats}");
}

// Messages.

/// Tells its id and writes the messages that it gets.
struct Writes(Sender<ConnectionId>);

impl Protocol for Writes {
    type Message = String;

    fn on_open(&mut self, cx: &mut Context<'_, String>) {
        self.0.send(cx.id()).unwrap();
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, String>) {
        cx.forward(input);
    }

    fn on_message(&mut self, message: String, cx: &mut Context<'_, String>) {
        cx.write(message.as_bytes());
    }
}

fn start_writes(config: Config) -> (Running<Writes>, Receiver<ConnectionId>) {
    let (opened, ids) = channel();
    (Running::start(config, ANYWHERE, move |_| Some(Writes(opened.clone()))), ids)
}

#[test]
fn a_message_reaches_the_connection_that_it_is_for() {
    let (server, ids) = start_writes(Config::default());
    let clients: Vec<(TcpStream, ConnectionId)> =
        (0..20).map(|_| (server.connect(), ids.recv_timeout(DEADLINE).unwrap())).collect();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    thread::scope(|scope| {
        for sender in 0..3 {
            let (handle, clients) = (server.handle.clone(), &clients);
            scope.spawn(move || {
                let mut order: Vec<usize> = (0..clients.len()).collect();
                fastrand::Rng::with_seed(seed + sender).shuffle(&mut order);
                for n in order {
                    handle.send(clients[n].1, format!("[{n:02}]")).unwrap();
                }
            });
        }
    });
    for (n, (client, _)) in clients.iter().enumerate() {
        expect_bytes(client, format!("[{n:02}]").repeat(3).as_bytes());
        assert!(finish(client).is_empty(), "nothing that was for others");
    }
    let handle = server.handle.clone();
    let stats = last_stats(server);
    assert_eq!(stats.messages_undeliverable, 0);
    let (_, id) = clients[0];
    assert_eq!(handle.send(id, "?".to_owned()), Err(SendError::Closed("?".to_owned())));
}

#[test]
fn a_message_for_a_connection_that_is_gone_never_reaches_its_successor() {
    let (server, ids) = start_writes(Config::default());
    let gone = server.connect();
    let gone_id = ids.recv_timeout(DEADLINE).unwrap();
    assert!(finish(&gone).is_empty());
    server.wait_until_idle();
    let successor = server.connect();
    let id = ids.recv_timeout(DEADLINE).unwrap();
    assert_ne!(id, gone_id);
    server.handle.send(gone_id, "for the dead".to_owned()).unwrap();
    server.handle.send(id, "for the living".to_owned()).unwrap();
    expect_bytes(&successor, b"for the living");
    assert_eq!(server.stats().messages_undeliverable, 1);
    assert!(finish(&successor).is_empty());
    assert_eq!(last_stats(server).messages_undeliverable, 1);
}

/// Asks itself to write, many times at once.
struct AsksItself;

const REQUESTS: usize = 200;

impl Protocol for AsksItself {
    type Message = String;

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, String>) {
        input.take();
        for n in 0..REQUESTS {
            cx.handle().send(cx.id(), format!("[{n:03}]").repeat(600)).unwrap();
        }
    }

    fn on_message(&mut self, message: String, cx: &mut Context<'_, String>) {
        cx.write(message.as_bytes());
    }
}

#[test]
fn messages_are_written_in_their_order_beyond_the_budget_of_a_turn() {
    let mut config = Config::default();
    config.turn_budget_bytes = KIB;
    let server = Running::start(config, ANYWHERE, |_| Some(AsksItself));
    let mut client = server.connect();
    client.write_all(b"?").unwrap();
    let expected: String = (0..REQUESTS).map(|n| format!("[{n:03}]").repeat(600)).collect();
    expect_bytes(&client, expected.as_bytes());
    assert!(finish(&client).is_empty());
    assert_eq!(last_stats(server).messages_undeliverable, 0);
}

/// Sends what it hears to all others, as in a chat.
struct Chat(Arc<Mutex<HashSet<ConnectionId>>>, Option<ConnectionId>);

impl Protocol for Chat {
    type Message = Vec<u8>;

    fn on_open(&mut self, cx: &mut Context<'_, Vec<u8>>) {
        self.1 = Some(cx.id());
        self.0.lock().unwrap().insert(cx.id());
        cx.write(b"*");
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Vec<u8>>) {
        let said = input.take();
        for &id in self.0.lock().unwrap().iter().filter(|&&id| id != cx.id()) {
            cx.handle().send(id, said.to_vec()).unwrap();
        }
    }

    fn on_message(&mut self, said: Vec<u8>, cx: &mut Context<'_, Vec<u8>>) {
        cx.write(&said);
    }

    fn on_close(&mut self, _: &CloseReason) {
        self.0.lock().unwrap().remove(&self.1.unwrap());
    }
}

#[test]
fn connections_can_talk_to_each_other_across_workers() {
    let mut config = Config::default();
    config.workers = 2;
    let present = Arc::default();
    let server = Running::start(config, ANYWHERE, move |_| Some(Chat(Arc::clone(&present), None)));
    let clients: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
    for client in &clients {
        expect_bytes(client, b"*");
    }
    for (n, mut speaker) in clients.iter().enumerate() {
        let said = format!("this is {n}");
        speaker.write_all(said.as_bytes()).unwrap();
        for (_, listener) in clients.iter().enumerate().filter(|&(other, _)| other != n) {
            expect_bytes(listener, said.as_bytes());
        }
    }
    for client in &clients {
        assert!(finish(client).is_empty(), "nobody hears himself");
    }
    assert_eq!(last_stats(server).messages_undeliverable, 0);
}

// Timers.

/// Sets timers at the first byte; each that fires is written, and may set others.
struct Timers<S, F> {
    set: S,
    fired: F,
}

type Cx<'a> = Context<'a>;

impl<S: FnMut(&mut Cx<'_>), F: FnMut(u64, &mut Cx<'_>)> Protocol for Timers<S, F> {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Cx<'_>) {
        input.take();
        (self.set)(cx);
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Cx<'_>) {
        let Timeout::Timer(key) = which else { panic!("not idle") };
        cx.write(&[b'0' + u8::try_from(key).unwrap()]);
        (self.fired)(key, cx);
    }
}

/// Sets timers with `set`; those that fire, `fired` is called for, and their keys have to be
/// `expected`, in that order, and no others.
#[track_caller]
fn expect_timers(
    set: impl FnMut(&mut Cx<'_>) + Clone + Send + Sync + 'static,
    fired: impl FnMut(u64, &mut Cx<'_>) + Clone + Send + Sync + 'static,
    expected: &str,
) {
    let server = Running::start(Config::default(), ANYWHERE, move |_| {
        Some(Timers { set: set.clone(), fired: fired.clone() })
    });
    let mut client = server.connect();
    client.write_all(b"?").unwrap();
    expect_bytes(&client, expected.as_bytes());
    assert!(finish(&client).is_empty(), "one that was not to fire has fired");
    assert_eq!(last_stats(server).panics, 0);
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn timers_fire_once_each_in_the_order_of_their_time() {
    let set = |cx: &mut Cx<'_>| {
        cx.set_timer(1, ms(60));
        cx.set_timer(2, ms(20));
        cx.set_timer(3, ms(40));
        cx.set_timer(4, Duration::MAX);
        cx.set_timer(5, NEVER);
    };
    expect_timers(set, |_, _| {}, "231");
}

#[test]
fn a_timer_of_the_same_key_is_replaced() {
    let set = |cx: &mut Cx<'_>| {
        cx.set_timer(1, ms(10));
        cx.set_timer(1, NEVER);
        cx.set_timer(2, NEVER);
        cx.set_timer(2, ms(20));
        cx.set_timer(3, ms(40));
    };
    expect_timers(set, |_, _| {}, "23");
}

#[test]
fn a_timer_can_be_cancelled() {
    let set = |cx: &mut Cx<'_>| {
        cx.set_timer(1, ms(10));
        cx.set_timer(2, ms(20));
        cx.cancel_timer(1);
        cx.cancel_timer(7);
    };
    expect_timers(set, |_, _| {}, "2");
}

#[test]
fn a_timer_can_set_itself_again() {
    let mut left = 3;
    let fired = move |key, cx: &mut Cx<'_>| {
        left -= 1;
        if left > 0 {
            cx.set_timer(key, ms(5));
        }
    };
    expect_timers(|cx| cx.set_timer(1, ms(5)), fired, "111");
}

/// Both are due in the same turn: the first takes the second back.
#[test]
fn a_timer_that_is_due_can_still_be_cancelled_by_another() {
    let set = |cx: &mut Cx<'_>| {
        cx.set_timer(1, ms(20));
        cx.set_timer(2, ms(20));
    };
    expect_timers(set, |_, cx| cx.cancel_timer(2), "1");
}

/// Both are due in the same turn: the first puts the second off.
#[test]
fn a_timer_that_is_due_can_still_be_put_off_by_another() {
    let set = |cx: &mut Cx<'_>| {
        cx.set_timer(1, ms(20));
        cx.set_timer(2, ms(20));
    };
    let fired = |key, cx: &mut Cx<'_>| {
        if key == 1 {
            cx.set_timer(2, NEVER);
        }
    };
    expect_timers(set, fired, "1");
}

/// Echo; of the first connection, a timer without delay sets itself again and again.
struct Spins {
    does: bool,
    count: Arc<AtomicUsize>,
    turn: Option<Instant>,
    in_turn: usize,
    most_in_turn: Arc<AtomicUsize>,
}

impl Protocol for Spins {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if self.does {
            cx.set_timer(0, Duration::ZERO);
        }
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_timeout(&mut self, _: Timeout, cx: &mut Context<'_>) {
        if self.turn != Some(cx.now()) {
            (self.turn, self.in_turn) = (Some(cx.now()), 0);
        }
        self.in_turn += 1;
        self.most_in_turn.fetch_max(self.in_turn, SeqCst);
        self.count.fetch_add(1, SeqCst);
        cx.set_timer(0, Duration::ZERO);
    }
}

#[test]
fn a_timer_without_delay_that_sets_itself_again_fires_once_a_turn_and_holds_up_nobody() {
    let (count, most_in_turn) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (counting, noting) = (Arc::clone(&count), Arc::clone(&most_in_turn));
    let connections = AtomicUsize::new(0);
    let server = Running::start(Config::default(), ANYWHERE, move |_| {
        Some(Spins {
            does: connections.fetch_add(1, SeqCst) == 0,
            count: Arc::clone(&counting),
            turn: None,
            in_turn: 0,
            most_in_turn: Arc::clone(&noting),
        })
    });
    let spinner = server.connect();
    ping(&spinner, b"I spin");
    let others: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    for _ in 0..5 {
        for other in &others {
            ping(other, b"and I am served");
        }
    }
    let before = count.load(SeqCst);
    eventually("it goes on spinning", || count.load(SeqCst) > before + 100);
    ping(&spinner, b"I am served too");
    for client in others.iter().chain([&spinner]) {
        assert!(finish(client).is_empty());
    }
    server.wait_until_idle();
    assert_eq!(most_in_turn.load(SeqCst), 1, "times in one turn of the loop");
}

/// Is told of idleness and does not mind.
struct Patient(Sender<()>);

impl Protocol for Patient {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_timeout(&mut self, which: Timeout, _: &mut Context<'_>) {
        assert_eq!(which, Timeout::Idle);
        self.0.send(()).unwrap();
    }
}

#[test]
fn idleness_that_a_protocol_does_not_mind_begins_anew() {
    let mut config = Config::default();
    config.idle_timeout = Some(ms(50));
    let (tell, told) = channel();
    let server = Running::start(config, ANYWHERE, move |_| Some(Patient(tell.clone())));
    let begin = Instant::now();
    let client = server.connect();
    for _ in 0..4 {
        told.recv_timeout(DEADLINE).expect("idle once more");
    }
    assert!(begin.elapsed() >= ms(4 * 50 - 10), "each time waits for the timeout");
    ping(&client, b"still here");
    assert!(finish(&client).is_empty());
    assert_eq!(last_stats(server).closed(CloseReason::Peer), 1);
}

// Input.

/// Echo that pauses after each piece of input until it is told to go on.
struct Pauses {
    opened: Sender<ConnectionId>,
    calls: Arc<AtomicUsize>,
}

impl Protocol for Pauses {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        self.opened.send(cx.id()).unwrap();
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        if input.bytes().starts_with(b"#") {
            cx.forward(input);
            return;
        }
        self.calls.fetch_add(1, SeqCst);
        cx.forward(input);
        cx.pause_reading();
    }

    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        cx.resume_reading();
    }
}

#[test]
fn input_waits_while_reading_is_paused_and_so_does_its_end() {
    let (opened, ids) = channel();
    let calls = Arc::<AtomicUsize>::default();
    let counting = Arc::clone(&calls);
    let server = Running::start(Config::default(), ANYWHERE, move |_| {
        Some(Pauses { opened: opened.clone(), calls: Arc::clone(&counting) })
    });
    let mut client = server.connect();
    let id = ids.recv_timeout(DEADLINE).unwrap();
    let neighbour = server.connect();
    // The loop has had many turns since, and would have noticed anything.
    let pass_time = || (0..20).for_each(|_| ping(&neighbour, b"#"));
    ping(&client, b"first");
    client.write_all(b"second").unwrap();
    pass_time();
    assert_eq!(calls.load(SeqCst), 1, "the second piece waits");
    server.handle.send(id, ()).unwrap();
    expect_bytes(&client, b"second");
    client.write_all(b"third").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    pass_time();
    assert_eq!((calls.load(SeqCst), server.stats().open), (2, 2), "so do the third and the end");
    server.handle.send(id, ()).unwrap();
    expect_bytes(&client, b"third");
    pass_time();
    assert_eq!((calls.load(SeqCst), server.stats().open), (3, 2), "the end waits still");
    server.handle.send(id, ()).unwrap();
    assert!(read_to_end(&client).is_empty());
    assert!(finish(&neighbour).is_empty());
    assert_eq!(last_stats(server).closed(CloseReason::Peer), 2);
}

/// Echoes one byte at a time and pauses in between.
struct OneByOne;

impl Protocol for OneByOne {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.write(&input.bytes()[..1]);
        input.consume(1);
        cx.pause_reading();
        cx.set_timer(0, ms(1));
    }

    fn on_timeout(&mut self, _: Timeout, cx: &mut Context<'_>) {
        cx.resume_reading();
    }
}

#[test]
fn resuming_hands_over_what_was_left_unconsumed() {
    let server = Running::start(Config::default(), ANYWHERE, |_| Some(OneByOne));
    let mut client = server.connect();
    client.write_all(b"no more bytes come than these").unwrap();
    expect_bytes(&client, b"no more bytes come than these");
    client.write_all(b"and then the end").unwrap();
    assert_eq!(finish(&client), b"and then the end");
    assert_eq!(last_stats(server).closed(CloseReason::Peer), 1);
}

/// Echoes whole lines, and tells what it is handed; at the end, the rest.
struct Lines(Sender<Vec<u8>>);

impl Protocol for Lines {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.0.send(input.bytes().to_vec()).unwrap();
        while let Some(end) = input.bytes().iter().position(|&byte| byte == b'\n') {
            cx.write(&input.bytes()[..=end]);
            input.consume(end + 1);
        }
    }

    fn on_eof(&mut self, rest: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.write(b"rest: ");
        cx.forward(rest);
        cx.finish();
    }
}

#[test]
fn unconsumed_input_comes_again_with_more_behind_it() {
    let (tell, told) = channel();
    let server = Running::start(Config::default(), ANYWHERE, move |_| Some(Lines(tell.clone())));
    let mut client = server.connect();
    for (send, expected) in [
        ("a", "a"),
        ("bc", "abc"),
        ("d\ne", "abcd\ne"),
        ("f", "ef"),
        ("\n\ng\n", "ef\n\ng\n"),
        ("h", "h"),
        ("i", "hi"),
    ] {
        client.write_all(send.as_bytes()).unwrap();
        let handed = told.recv_timeout(DEADLINE).unwrap();
        assert_eq!(String::from_utf8(handed).unwrap(), expected);
    }
    assert_eq!(finish(&client), b"abcd\nef\n\ng\nrest: hi");
    assert_eq!(last_stats(server).closed(CloseReason::Peer), 1);
}

#[test]
fn input_left_unconsumed_up_to_the_limit_ends_the_connection() {
    const LIMIT: usize = 1000;
    let mut config = Config::default();
    config.input_limit_bytes = LIMIT;
    let (tell, _told) = channel();
    let server = Running::start(config, ANYWHERE, move |_| Some(Lines(tell.clone())));
    let (neighbour, mut client) = (server.connect(), server.connect());
    ping(&neighbour, b"before\n");
    let mut line = vec![b'x'; LIMIT];
    line[LIMIT - 1] = b'\n';
    ping(&client, &line);
    line[LIMIT - 1] = b'x';
    client.write_all(&line[1..]).unwrap();
    eventually("it has come", || server.stats().bytes_received == (7 + 2 * LIMIT - 1) as u64);
    ping(&neighbour, b"meanwhile\n");
    assert_eq!(server.stats().open, 2, "one byte below the limit is fine");
    client.write_all(b"x").unwrap();
    expect_reset(&client);
    ping(&neighbour, b"after\n");
    assert_eq!(finish(&neighbour), b"rest: ");
    let stats = last_stats(server);
    assert_eq!((stats.closed(CloseReason::InputLimit), stats.closed_total()), (1, 2), "{stats}");
}

// Output.

/// Sends all in small pieces, as there is room, and finishes.
struct Pieces {
    all: Arc<Vec<u8>>,
    written: usize,
    most_queued: Arc<AtomicUsize>,
}

const PIECE: usize = 10 * KIB;

impl Pieces {
    fn write_on(&mut self, cx: &mut Context<'_>) {
        while self.written < self.all.len() {
            let end = self.all.len().min(self.written + PIECE);
            let flow = cx.write(&self.all[self.written..end]);
            self.written = end;
            self.most_queued.fetch_max(cx.queued(), SeqCst);
            match flow {
                Flow::Open => {}
                Flow::Full => return,
                other => panic!("{other:?}"),
            }
        }
        cx.finish();
    }
}

impl Protocol for Pieces {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        self.write_on(cx);
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        self.write_on(cx);
    }
}

#[test]
fn a_protocol_that_heeds_the_flow_sends_much_with_a_small_queue() {
    let all = Arc::new(pattern(50, 50 * MIB + 1));
    let most_queued = Arc::<AtomicUsize>::default();
    let config = Config::default();
    let high_water = config.high_water_bytes;
    let (sending, noting) = (Arc::clone(&all), Arc::clone(&most_queued));
    let server = Running::start(config, ANYWHERE, move |_| {
        Some(Pieces { all: Arc::clone(&sending), written: 0, most_queued: Arc::clone(&noting) })
    });
    let client = server.connect();
    // It stops by itself as long as nobody reads.
    let mut last = 0;
    eventually("the server has stopped to send", || {
        thread::park_timeout(ms(50));
        let sent = server.stats().bytes_sent;
        std::mem::replace(&mut last, sent) == sent && sent > 0
    });
    assert!(last < all.len() as u64, "memory is bounded");
    assert!(read_to_end(&client) == *all);
    drop(client);
    let most = most_queued.load(SeqCst);
    assert!((high_water..high_water + PIECE).contains(&most), "{most} bytes queued");
    let stats = last_stats(server);
    assert_eq!((stats.closed(CloseReason::Finished), stats.bytes_unsent), (1, 0), "{stats}");
}

#[test]
fn a_protocol_that_does_not_heed_the_flow_is_ended_at_the_queue_limit() {
    let mut config = Config::default();
    config.queue_limit_bytes = MIB;
    let server = Running::start(config, ANYWHERE, |_| {
        Some(OnData(|input: &mut Input<'_>, cx: &mut Context<'_>| {
            if input.bytes() == b"flood" {
                for _ in 0..64 {
                    cx.write(&[b'x'; MIB]);
                }
            }
            cx.forward(input);
        }))
    });
    let (neighbour, mut client) = (server.connect(), server.connect());
    ping(&neighbour, b"before");
    client.write_all(b"flood").unwrap();
    expect_reset(&client);
    ping(&neighbour, b"after");
    assert!(finish(&neighbour).is_empty());
    let stats = last_stats(server);
    assert_eq!((stats.closed(CloseReason::QueueLimit), stats.closed_total()), (1, 2), "{stats}");
    assert!(stats.bytes_unsent > MIB as u64, "{stats}");
}

// Outbound connections.

/// The label of a call, the answer that came, and how the connection ended.
type Told = (u64, Vec<u8>, CloseReason);

/// Echo for those who come; for those whom we call, a question, and how it went.
enum Node {
    Answers,
    Asks { label: u64, answer: Vec<u8>, told: Sender<Told> },
}

fn question(label: u64) -> Vec<u8> {
    pattern(label, 300 * KIB)
}

impl Protocol for Node {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if let Self::Asks { label, .. } = self {
            cx.write(&question(*label));
        }
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        match self {
            Self::Answers => {
                cx.forward(input);
            }
            Self::Asks { label, answer, .. } => {
                answer.extend_from_slice(input.take());
                if answer.len() >= question(*label).len() {
                    cx.finish();
                }
            }
        }
    }

    fn on_close(&mut self, reason: &CloseReason) {
        if let Self::Asks { label, answer, told } = self {
            told.send((*label, std::mem::take(answer), *reason)).unwrap();
        }
    }
}

fn start_nodes(config: Config) -> (Running<Node>, Receiver<Told>) {
    let (tell, told) = channel();
    let server = Running::start(config, ANYWHERE, move |peer| {
        Some(match peer.origin {
            Origin::Connect(label) => Node::Asks { label, answer: Vec::new(), told: tell.clone() },
            _ => Node::Answers,
        })
    });
    (server, told)
}

#[test]
fn a_server_can_call_itself_on_the_same_loop() {
    const CALLS: u64 = 10;
    let (server, told) = start_nodes(Config::default());
    for label in 0..CALLS {
        server.handle.connect(server.address().into(), label).unwrap();
    }
    let mut answers: HashMap<u64, Vec<u8>> = HashMap::new();
    for _ in 0..CALLS {
        let (label, answer, reason) = told.recv_timeout(DEADLINE).unwrap();
        assert_eq!(reason, CloseReason::Finished);
        assert!(answers.insert(label, answer).is_none(), "each is told once");
    }
    assert!((0..CALLS).all(|label| answers[&label] == question(label)));
    let stats = last_stats(server);
    assert_eq!((stats.connects, stats.accepted), (CALLS, CALLS), "{stats}");
    assert_eq!(stats.closed(CloseReason::Finished), CALLS, "{stats}");
    assert_eq!(stats.closed(CloseReason::Peer), CALLS, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_unsent), (2 * CALLS, 0), "{stats}");
}

/// An address where nobody listens, as long as the socket lives.
fn deaf_address() -> (socket2::Socket, Address) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address.into())
}

#[test]
fn a_call_that_is_refused_is_told_to_its_protocol() {
    let (server, told) = start_nodes(Config::default());
    let (_socket, address) = deaf_address();
    server.handle.connect(address, 7).unwrap();
    let expected = CloseReason::ConnectFailed(ErrorKind::ConnectionRefused);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (7, Vec::new(), expected));
    let client = server.connect();
    ping(&client, b"as if nothing had happened");
    assert!(finish(&client).is_empty());
    let stats = last_stats(server);
    assert_eq!((stats.connects, stats.closed(expected), stats.closed_total()), (1, 1, 2), "{stats}");
}

#[cfg(unix)]
#[test]
fn a_call_to_a_path_where_nothing_is_is_told_to_its_protocol() {
    let (server, told) = start_nodes(Config::default());
    let directory = tempfile::tempdir().unwrap();
    server.handle.connect(Address::Unix(directory.path().join("nothing.sock")), 8).unwrap();
    let expected = CloseReason::ConnectFailed(ErrorKind::NotFound);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (8, Vec::new(), expected));
    let stats = last_stats(server);
    assert_eq!((stats.connects, stats.closed(expected)), (1, 1), "{stats}");
}

/// Linux drops the SYN of a client for whom the backlog has no room.
#[cfg(target_os = "linux")]
#[test]
fn a_call_that_is_not_answered_ends_at_the_connect_timeout() {
    let mut config = Config::default();
    config.connect_timeout = Some(ms(300));
    let (server, told) = start_nodes(config);
    let (full, address) = deaf_address();
    full.listen(0).unwrap();
    let address_in = full.local_addr().unwrap();
    let _crowd: Vec<_> = (0..8)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address_in);
            socket
        })
        .collect();
    server.handle.connect(address, 9).unwrap();
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (9, Vec::new(), CloseReason::ConnectTimeout));
    let stats = last_stats(server);
    assert_eq!((stats.connects, stats.closed(CloseReason::ConnectTimeout)), (1, 1), "{stats}");
}

#[test]
fn a_host_name_is_not_looked_up_on_the_loop() {
    let server = Running::echo(Config::default());
    let host = Address::Host { name: "localhost".to_owned(), port: 1 };
    assert_eq!(server.handle.connect(host.clone(), 1), Err(SendError::Unresolved(host)));
}

// Limits of the server.

#[test]
fn workers_share_the_clients_and_their_counters_add_up() {
    const CLIENTS: u64 = 200;
    let mut config = Config::default();
    config.workers = 4;
    let (seen, ids) = channel();
    let server = Running::start(config, ANYWHERE, move |peer| {
        seen.send(peer.id).unwrap();
        Some(Echo)
    });
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    for (n, client) in clients.iter().enumerate() {
        ping(client, &pattern(n as u64, 1000));
    }
    assert_eq!(server.stats().open, CLIENTS);
    // Bytes are counted once they are sent, and may be there before.
    eventually("all workers have counted", || server.stats().bytes_sent == CLIENTS * 1000);
    // An id is shown as WORKER.NUMBER.
    let ids: Vec<String> = ids.try_iter().map(|id: ConnectionId| id.to_string()).collect();
    let workers: HashSet<&str> = ids.iter().map(|id| id.split_once('.').unwrap().0).collect();
    assert!(!cfg!(target_os = "linux") || workers.len() == 4, "only {workers:?} had clients");
    server.handle.drain();
    for client in clients {
        assert!(read_to_end(&client).is_empty());
    }
    let stats = server.join();
    assert_eq!((stats.accepted, stats.closed(CloseReason::Drained)), (CLIENTS, CLIENTS), "{stats}");
    assert_eq!((stats.closed_total(), stats.open), (CLIENTS, 0), "{stats}");
}

#[test]
fn clients_beyond_the_limit_wait_in_the_backlog_until_places_are_free() {
    let mut config = Config::default();
    config.max_connections = Some(2);
    let server = Running::echo(config);
    let first = [server.connect(), server.connect()];
    first.iter().for_each(|client| ping(client, b"in"));
    let waiting: Vec<TcpStream> = (0..4).map(|_| server.connect()).collect();
    for mut client in &waiting {
        client.write_all(b"me too").unwrap();
    }
    for _ in 0..50 {
        first.iter().for_each(|client| ping(client, b"still in"));
    }
    assert_eq!((server.stats().open, server.stats().accepted), (2, 2), "the others wait");
    first.iter().for_each(|client| assert!(finish(client).is_empty()));
    thread::scope(|scope| {
        for client in &waiting {
            scope.spawn(|| {
                expect_bytes(client, b"me too");
                assert!(server.stats().open <= 2);
                assert!(finish(client).is_empty());
            });
        }
    });
    let stats = last_stats(server);
    assert_eq!((stats.accepted, stats.closed(CloseReason::Peer)), (6, 6), "{stats}");
}

#[test]
fn a_server_for_one_client_serves_it_and_ends() {
    let mut config = Config::default();
    config.accept_limit = Some(1);
    let server = Running::echo(config);
    let client = server.connect();
    ping(&client, b"only me");
    let address = server.address();
    eventually("nobody else is let in", || TcpStream::connect(address).is_err());
    ping(&client, b"still me");
    assert!(!server.has_ended());
    assert!(finish(&client).is_empty());
    let stats = server.join();
    assert_eq!((stats.accepted, stats.closed(CloseReason::Peer)), (1, 1), "{stats}");
}

/// Workers share nothing, so none could know how many clients the others have served.
#[test]
fn a_server_for_some_clients_has_a_single_worker() {
    let mut config = Config::default();
    config.accept_limit = Some(10);
    config.workers = 2;
    let error = Server::<Echo>::builder().config(config).bind(["127.0.0.1:0"]).unwrap_err();
    assert_eq!(error.to_string(), "configuration: accept_limit needs a single worker");
}

#[test]
fn the_smallest_limits_echo_every_byte_all_the_same() {
    let mut config = Config::default();
    config.read_buffer_bytes = 1;
    config.high_water_bytes = 1;
    config.low_water_bytes = 0;
    config.turn_budget_bytes = 1;
    config.input_limit_bytes = 1;
    config.accept_burst = 1;
    config.event_batch = 1;
    config.mailbox_capacity = 1;
    let server = Running::echo(config);
    let sent = pattern(64, 64 * KIB);
    let clients: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for mut client in &clients {
        client.write_all(&sent).unwrap();
    }
    for client in &clients {
        assert!(finish(client) == sent, "the echo differs");
    }
    let stats = last_stats(server);
    assert_eq!((stats.closed(CloseReason::Peer), stats.bytes_unsent), (3, 0), "{stats}");
}

/// Connects anew, up to three times in all, when it has ended.
struct Persistent {
    handle: Handle<()>,
    peer: Address,
    label: u64,
}

impl Protocol for Persistent {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.set_timer(0, Duration::ZERO);
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    fn on_timeout(&mut self, _: Timeout, cx: &mut Context<'_>) {
        cx.abort();
    }

    fn on_close(&mut self, _: &CloseReason) {
        if self.label < 3 {
            self.handle.connect(self.peer.clone(), self.label + 1).expect("the mailbox has room");
        }
    }
}

#[test]
fn a_server_without_listeners_ends_only_when_no_request_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Address::from(listener.local_addr().unwrap());
    let server = Server::builder().bind([] as [Address; 0]).unwrap();
    let handle = server.handle();
    handle.connect(peer.clone(), 1).unwrap();
    let (sender, factory_handle) = (peer, handle);
    let stats = server
        .run(move |origin| {
            let Origin::Connect(label) = origin.origin else { panic!("nobody listens") };
            Some(Persistent { handle: factory_handle.clone(), peer: sender.clone(), label })
        })
        .unwrap();
    assert_eq!(stats.connects, 3);
    assert_eq!(stats.closed(CloseReason::Aborted), 3);
}

/// Ends as soon as it is open, and tells when it is closed.
struct Passing(Sender<()>);

impl Protocol for Passing {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.finish();
    }

    fn on_data(&mut self, input: &mut Input<'_>, _cx: &mut Context<'_>) {
        input.take();
    }

    fn on_close(&mut self, _reason: &CloseReason) {
        self.0.send(()).unwrap();
    }
}

#[test]
fn a_server_that_keeps_running_waits_for_requests_until_it_is_told_to_end() {
    for abort in [false, true] {
        let echo = Running::echo(Config::default());
        let mut config = Config::default();
        config.keep_running = true;
        let (tell, told) = channel();
        let caller = Running::start(config, &[], move |_| Some(Passing(tell.clone())));
        for label in 0..3 {
            // Nothing is open and nothing is asked for when the next one comes.
            caller.handle.connect(echo.address().into(), label).unwrap();
            told.recv_timeout(DEADLINE).unwrap();
            caller.wait_until_idle();
            assert!(!caller.has_ended());
        }
        if abort {
            caller.handle.abort();
        } else {
            caller.handle.drain();
        }
        assert_eq!(caller.join().closed(CloseReason::Finished), 3);
    }
}

#[test]
fn a_full_server_serves_the_clients_of_all_its_listeners() {
    let mut config = Config::default();
    config.max_connections = Some(1);
    let server = Running::start(config, &["127.0.0.1:0", "127.0.0.1:0"], |_| Some(Echo));
    let Address::Ip(second) = server.addresses[1] else { panic!("an IP address") };
    let first = server.connect();
    ping(&first, b"in");
    // All wait in the two backlogs while the only place is taken.
    let crowd = (0..20).map(|_| server.connect());
    let clients: Vec<TcpStream> = crowd.chain([util::connect(second)]).collect();
    let served = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (number, client) in clients.iter().enumerate() {
            let served = &served;
            scope.spawn(move || {
                ping(client, b"served");
                served.lock().unwrap().push(number);
                assert!(finish(client).is_empty());
            });
        }
        assert!(finish(&first).is_empty());
    });
    let served = served.into_inner().unwrap();
    let place = served.iter().position(|&number| number == 20).unwrap();
    assert!(place < 10, "the only client of the second listener was served after {place} others");
}

/// A message that panics when nobody takes it.
struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("as the test wants it");
        }
    }
}

struct TakesNoMessages;

impl Protocol for TakesNoMessages {
    type Message = Explosive;

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Explosive>) {}

    fn on_message(&mut self, message: Explosive, _: &mut Context<'_, Explosive>) {
        std::mem::forget(message);
    }
}

#[test]
fn a_worker_that_dies_takes_the_others_with_it() {
    let mut config = Config::default();
    config.workers = 2;
    let (ids, id) = channel();
    let server = Server::builder().config(config).bind(["127.0.0.1:0"]).unwrap();
    let Address::Ip(address) = server.local_addrs()[0] else { panic!("an IP address") };
    let handle = server.handle();
    let ids = Mutex::new(ids);
    let running = thread::spawn(move || {
        server.run(move |peer| {
            ids.lock().unwrap().send(peer.id).unwrap();
            Some(TakesNoMessages)
        })
    });
    let client = util::connect(address);
    let id = id.recv().unwrap();
    util::reset(client);
    eventually("the connection is gone", || handle.stats().open == 0 && handle.stats().accepted == 1);
    assert!(handle.send(id, Explosive).is_ok());
    eventually("the server has ended", || running.is_finished());
    assert!(running.join().is_err(), "the panic is handed on");
}
