//! A protocol's own timers, and the idle timeout.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Sender, channel},
    },
    time::{Duration, Instant},
};

use echoloop::{CloseReason, Config, Context, Input, Protocol, Timeout};

use crate::{
    ANYWHERE, ms,
    util::{DEADLINE, Running, eventually, expect_bytes, finish, ping},
};

const NEVER: Duration = Duration::from_secs(3600);

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
    assert_eq!(server.last_stats().panics, 0);
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
    assert_eq!(server.last_stats().closed(CloseReason::Peer), 1);
}
