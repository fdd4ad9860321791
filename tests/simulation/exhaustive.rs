//! Tiny worlds of which every schedule is explored, not some: every order in which clients act, events come and deadlines
//! pass, and every fate of every call, with few faults in one schedule.
//!
//! First all schedules of one step, then all of two, and so on until the time is used up: `ECHOLOOP_EXHAUSTIVE=1h`.
//! After the steps each world calms down, as the random ones do, and everything must come to its end.
//! `ECHOLOOP_PATH=...` replays a schedule with its trace, as a failure says.

use std::{
    env, fmt,
    io::ErrorKind,
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use echoloop::Config;

use crate::{
    choices::Choices,
    client::Manner,
    kernel::{Acks, Faults, Nature, Rearm},
    protocol::{Callback, Habit, hush_planned_panics},
    relays,
    stage::Failure,
    world::{Moves, Plan, TlsPlan, World},
};

/// A world that is small enough. Of manners and habits each client has one.
#[derive(Clone, Debug)]
struct Tiny {
    name: &'static str,
    clients: usize,
    /// What each client sends.
    bytes: u64,
    manners: &'static [Manner],
    habits: &'static [Habit],
    capacity: usize,
    moves: Moves,
    acks: Acks,
    /// See [`Nature::left_percent`]. That a client comes by another worker is as unusual as a fault.
    left_percent: Option<u8>,
    kind: Kind,
    /// The clients speak TLS, and have agreed when it begins.
    is_secure: bool,
}

/// Sizes in bytes that differ from schedule to schedule.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Each buffer of a socket.
    buffer: usize,
    /// What one connection moves in a turn.
    budget: usize,
    low_water: usize,
}

const SIZES: [Sizes; 3] = [
    Sizes { buffer: 1, budget: 8, low_water: 1 },
    Sizes { buffer: 2, budget: 8, low_water: 0 },
    Sizes { buffer: 2, budget: 1, low_water: 1 },
];

/// What is in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Each client has a protocol of its own.
    Alone,
    /// The same, and bytes are moved in the kernel as soon as they can be.
    Moved,
    /// Two clients that are relayed with each other.
    Relayed,
    /// The same, and bytes are moved in the kernel as soon as they can be.
    RelayedMoved,
}

/// The clients are connected when it begins; they act, and the loop has its turns.
const CONNECTED: Moves = Moves {
    waits: 0,
    messages: 0,
    strays: 0,
    dials: 0,
    by_name: false,
    may_drain: false,
    may_abort: false,
    begins_connected: true,
};

/// The same, and they have yet to connect.
const ARRIVALS: Moves = Moves { begins_connected: false, ..CONNECTED };

/// One client and an echo.
const ECHO: Tiny = Tiny {
    name: "echo",
    clients: 1,
    bytes: 3,
    manners: &[Manner::Proper],
    habits: &[Habit::Echo],
    capacity: 2,
    moves: CONNECTED,
    acks: Acks::AtOnce,
    left_percent: None,
    kind: Kind::Alone,
    is_secure: false,
};

const WORLDS: [Tiny; 25] = [
    ECHO,
    Tiny { name: "acks", acks: Acks::Late, moves: Moves { waits: 2, ..CONNECTED }, ..ECHO },
    Tiny {
        name: "acks-end",
        bytes: 2,
        acks: Acks::Late,
        habits: &[Habit::FinishAfter(1), Habit::ShutdownAfter(1)],
        moves: Moves { waits: 2, ..CONNECTED },
        ..ECHO
    },
    Tiny {
        name: "acks-drain",
        bytes: 2,
        acks: Acks::Late,
        manners: &[Manner::Proper, Manner::LateReader],
        moves: Moves { may_drain: true, waits: 2, ..CONNECTED },
        ..ECHO
    },
    Tiny { name: "tls", bytes: 2, is_secure: true, ..ECHO },
    Tiny {
        name: "tls-end",
        bytes: 1,
        acks: Acks::Late,
        habits: &[Habit::FinishAfter(1), Habit::ShutdownAfter(1)],
        moves: Moves { waits: 1, ..CONNECTED },
        is_secure: true,
        ..ECHO
    },
    Tiny { name: "pipes", bytes: 6, kind: Kind::Moved, ..ECHO },
    Tiny { name: "long-stream", bytes: 6, manners: &[Manner::Proper, Manner::LateReader], ..ECHO },
    Tiny { name: "waiting", manners: &[Manner::Waiting], moves: Moves { strays: 1, ..CONNECTED }, ..ECHO },
    Tiny { name: "resets", manners: &[Manner::Resetter, Manner::Careless], ..ECHO },
    Tiny {
        name: "deadlines",
        bytes: 2,
        manners: &[Manner::Proper, Manner::NeverReads, Manner::Silent],
        moves: Moves { waits: 2, ..CONNECTED },
        ..ECHO
    },
    Tiny {
        name: "server-ends",
        bytes: 4,
        manners: &[Manner::Proper, Manner::Endless],
        habits: &[Habit::FinishAfter(1), Habit::ShutdownAfter(2), Habit::AbortAfter(2)],
        moves: Moves { waits: 1, ..CONNECTED },
        ..ECHO
    },
    Tiny { name: "piecewise", bytes: 4, habits: &[Habit::Piecewise], ..ECHO },
    Tiny {
        name: "timers",
        manners: &[Manner::Proper, Manner::Waiting],
        habits: &[Habit::Hesitant, Habit::Deferring],
        moves: Moves { waits: 2, ..CONNECTED },
        ..ECHO
    },
    Tiny {
        name: "panics",
        bytes: 1,
        habits: &[
            Habit::Refused,
            Habit::PanicIn(Callback::Factory),
            Habit::PanicIn(Callback::Open),
            Habit::PanicIn(Callback::Data),
            Habit::PanicIn(Callback::Eof),
            Habit::PanicIn(Callback::Close),
        ],
        moves: ARRIVALS,
        ..ECHO
    },
    Tiny {
        name: "drain",
        bytes: 2,
        manners: &[Manner::Proper, Manner::Waiting],
        moves: Moves { may_drain: true, waits: 2, ..ARRIVALS },
        ..ECHO
    },
    Tiny { name: "abort", bytes: 2, moves: Moves { may_drain: true, may_abort: true, ..CONNECTED }, ..ECHO },
    Tiny { name: "two-clients", clients: 2, bytes: 2, ..ECHO },
    Tiny {
        name: "relay",
        clients: 2,
        bytes: 2,
        manners: &[Manner::Proper, Manner::Resetter],
        moves: Moves { waits: 1, ..CONNECTED },
        kind: Kind::Relayed,
        ..ECHO
    },
    Tiny {
        name: "relay-pipes",
        clients: 2,
        bytes: 6,
        manners: &[Manner::Proper, Manner::LateReader],
        kind: Kind::RelayedMoved,
        ..ECHO
    },
    Tiny { name: "one-place", clients: 2, bytes: 1, capacity: 1, moves: ARRIVALS, ..ECHO },
    Tiny {
        name: "two-workers",
        clients: 2,
        bytes: 1,
        moves: Moves { may_drain: true, ..ARRIVALS },
        left_percent: Some(50),
        ..ECHO
    },
    Tiny {
        name: "messages",
        clients: 2,
        bytes: 1,
        habits: &[Habit::Talkative],
        moves: Moves { messages: 2, ..CONNECTED },
        ..ECHO
    },
    Tiny {
        name: "dials",
        bytes: 1,
        manners: &[Manner::Proper, Manner::Silent, Manner::Resetter],
        habits: &[Habit::Dialling],
        moves: Moves { dials: 1, ..CONNECTED },
        ..ECHO
    },
    Tiny {
        name: "names",
        bytes: 1,
        manners: &[Manner::Proper],
        moves: Moves { dials: 1, by_name: true, waits: 1, may_drain: true, ..CONNECTED },
        ..ECHO
    },
];

impl Tiny {
    fn plan(&self, steps: usize, choices: &Choices) -> Plan {
        let (rearm, short_read_drains) = choices
            .of(&[(Rearm::EveryEdge, false), (Rearm::EveryEdge, true), (Rearm::AfterWouldBlock, false)])
            .expect("there are some");
        let Sizes { buffer, budget, low_water } = choices.of(&SIZES).expect("there are some");
        let limits = self.limits(budget, low_water);
        Plan {
            clients: self.clients,
            steps,
            nature: Nature {
                rearm,
                short_read_drains,
                acks: self.acks,
                wakes_at_last_ack: rearm == Rearm::EveryEdge,
                may_vanish: false,
                faults: Faults { partial: 1, would_block: 1, interrupted: 1, error: 1, accept: 1 },
                errors: &[ErrorKind::ConnectionReset, ErrorKind::OutOfMemory],
                planned: None,
                time_passes_in_waits: false,
                buffer_bytes: Some(buffer),
                backlog: limits.backlog as usize,
                event_batch: limits.event_batch,
                outbound_most: 2,
                left_percent: self.left_percent,
            },
            limits,
            capacity: self.capacity,
            listeners: 1,
            manners: self.manners.to_vec(),
            bytes: Some(self.bytes),
            is_pure: self.is_moved(),
            habits: self.habits.to_vec(),
            tls: self.is_secure.then(|| TlsPlan {
                listeners: vec![true],
                record_bytes: 2,
                client_record_bytes: Some(2),
                is_proper: true,
            }),
        }
    }

    fn is_moved(&self) -> bool {
        matches!(self.kind, Kind::Moved | Kind::RelayedMoved)
    }

    fn limits(&self, budget: usize, low_water: usize) -> Config {
        let mut limits = Config::default();
        limits.read_buffer_bytes = 2;
        limits.high_water_bytes = 2;
        limits.low_water_bytes = low_water;
        limits.input_limit_bytes = 8;
        limits.turn_budget_bytes = budget;
        limits.splice_threshold_bytes = self.is_moved().then_some(1);
        limits.pipes_max = usize::from(self.is_moved());
        limits.accept_burst = 2;
        limits.event_batch = 2;
        limits.mailbox_capacity = 2;
        limits.backlog = 2;
        limits.connect_timeout = Some(Duration::from_secs(2));
        limits.idle_timeout = Some(Duration::from_secs(10));
        limits.write_timeout = Some(Duration::from_secs(4));
        limits.linger_timeout = Some(Duration::from_secs(3));
        limits.linger_silence_timeout = Some(Duration::from_secs(1));
        limits.linger_limit_bytes = 2;
        limits.drain_timeout = Some(Duration::from_secs(5));
        limits.drain_silence = Duration::from_millis(100);
        limits
    }

    /// Runs one schedule. False if it is as good as a shorter one.
    fn run(&self, steps: usize, choices: &Choices, is_verbose: bool) -> Result<bool, Failure> {
        let run = || {
            let plan = self.plan(steps, choices);
            let choices = choices.clone();
            match self.kind {
                Kind::Alone => World::<false>::new(plan, choices, is_verbose).run_steps(self.moves),
                Kind::Moved => World::<true>::new(plan, choices, is_verbose).run_steps(self.moves),
                Kind::Relayed | Kind::RelayedMoved => {
                    relays::run_steps(plan, choices, self.moves.waits, is_verbose)
                }
            }
        };
        panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("a panic, see above".to_owned()))
    }
}

/// How far the exploration of a world has come.
#[derive(Clone, Copy, Debug, Default)]
struct Explored {
    /// Every schedule of up to so many steps was explored.
    steps: usize,
    /// How many schedules were explored, without those that have fewer faults.
    schedules: u64,
    /// There are no longer ones.
    is_all: bool,
}

/// All schedules of a world with so many faults at most.
#[derive(Clone, Copy, Debug)]
struct Exploration<'a> {
    tiny: &'a Tiny,
    faults: u8,
}

impl Exploration<'_> {
    /// Explores the short schedules first, as long as there is time.
    fn run(self, until: Instant) -> Result<Explored, Failure> {
        let mut explored = Explored::default();
        loop {
            let steps = explored.steps + 1;
            match self.run_all_of(steps, until, &mut explored.schedules)? {
                Depth::Reached => explored.steps = steps,
                Depth::OutOfReach => return Ok(Explored { is_all: true, ..explored }),
                Depth::OutOfTime => return Ok(explored),
            }
        }
    }

    /// Explores all schedules of so many steps, and adds those with as many faults as there may be.
    fn run_all_of(self, steps: usize, until: Instant, schedules: &mut u64) -> Result<Depth, Failure> {
        let choices = Choices::first_path(self.faults);
        let mut depth = Depth::OutOfReach;
        for run in 0_u64.. {
            if run % 64 == 0 && wall_clock() >= until {
                return Ok(Depth::OutOfTime);
            }
            let result = self.tiny.run(steps, &choices, false);
            if result.map_err(|failure| self.how_to_replay(steps, &choices, &failure))? {
                depth = Depth::Reached;
                *schedules += u64::from(choices.has_all_faults());
            }
            if !choices.next_path() {
                break;
            }
        }
        Ok(depth)
    }

    fn how_to_replay(self, steps: usize, choices: &Choices, failure: &str) -> Failure {
        let Self { tiny: Tiny { name, .. }, faults } = self;
        let decisions = choices.decisions();
        let list = decisions.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        format!(
            "{name}, {steps} steps, at most {faults} faults, decisions {decisions:?}: {failure} \
             (replay it with ECHOLOOP_PATH={name}/{steps}/{faults}/{list})"
        )
    }
}

/// Whether a world has schedules of so many steps.
#[derive(Clone, Copy, Debug)]
enum Depth {
    /// It has, and all were explored.
    Reached,
    /// It has none.
    OutOfReach,
    /// Not all were explored.
    OutOfTime,
}

/// Does all explorations, each in its share of the time, on all processors. The results are in the same order.
fn explore_all(explorations: &[Exploration<'_>], budget: Duration) -> Vec<Result<Explored, Failure>> {
    let end = wall_clock() + budget;
    let threads = thread::available_parallelism().map_or(1, usize::from).min(explorations.len());
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(exploration) = explorations.get(number) else { return };
            let rounds = (explorations.len() - number).div_ceil(threads);
            let now = wall_clock();
            let share = end.saturating_duration_since(now) / u32::try_from(rounds).expect("few worlds");
            let result = exploration.run(now + share);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|&(number, _)| number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[expect(clippy::disallowed_methods, reason = "the exploration ends when its time is used up")]
fn wall_clock() -> Instant {
    Instant::now()
}

/// How long to explore in an ordinary run.
const BUDGET: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 60 });

/// Faults that a schedule has at most, one exploration for each: the fewer there are, the more steps it can have.
const FAULTS: [u8; 3] = [0, 1, 2];

#[test]
fn every_schedule_of_tiny_worlds_breaks_no_invariant() {
    hush_planned_panics();
    if let Ok(path) = env::var("ECHOLOOP_PATH") {
        return replay(&path);
    }
    let budget = env::var("ECHOLOOP_EXHAUSTIVE").map_or(BUDGET, |text| {
        humantime::parse_duration(&text).unwrap_or_else(|error| panic!("ECHOLOOP_EXHAUSTIVE={text}: {error}"))
    });
    let of_world = |tiny| FAULTS.map(|faults| Exploration { tiny, faults });
    let explorations: Vec<_> = WORLDS.iter().flat_map(of_world).collect();
    let begin = wall_clock();
    let results = explore_all(&explorations, budget);
    let seconds = begin.elapsed().as_secs_f64();
    let failures: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    if let [failure, ..] = &failures[..] {
        failures.iter().for_each(|failure| println!("{failure}"));
        panic!("{} explorations failed; the first: {failure}", failures.len());
    }
    let explored: Vec<_> = results.into_iter().flatten().collect();
    let schedules = grouped(explored.iter().map(|one| one.schedules).sum());
    println!("exhaustive: {schedules} schedules of {} worlds in {seconds:.0} s", WORLDS.len());
    println!("every schedule of up to so many steps:");
    println!(
        "  {:<12} {:>9} {:>9} {:>10} {:>12}",
        "world", "no fault", "one fault", "two faults", "schedules"
    );
    for (tiny, row) in WORLDS.iter().zip(explored.chunks(FAULTS.len())) {
        let [none, one, two] = [0, 1, 2].map(|faults| row[faults].to_string());
        let schedules = grouped(row.iter().map(|one| one.schedules).sum());
        println!("  {:<12} {none:>9} {one:>9} {two:>10} {schedules:>12}", tiny.name);
    }
}

#[test]
fn every_path_is_taken_once() {
    let choices = Choices::first_path(1);
    let mut paths = Vec::new();
    loop {
        let first = choices.usize(..3);
        let second = if first == 1 { choices.usize(..2) } else { choices.usize(..1) };
        let faults = [choices.happens(1, 9), choices.happens(1, 9)];
        choices.freeze();
        assert_eq!((choices.usize(..5), choices.happens(1, 9)), (0, false), "nothing is to be decided");
        paths.push((first, second, faults));
        if !choices.next_path() {
            break;
        }
    }
    // Neither fault, the first or the second.
    assert_eq!(paths.len(), 4 * 3);
    assert!(paths.is_sorted_by(|before, after| before < after), "{paths:?}");
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Where there are no longer ones, these are all.
        if self.is_all { write!(f, "all, {}", self.steps) } else { write!(f, "{}", self.steps) }
    }
}

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Runs one schedule again: the name of its world, its steps, the faults that it may have, its decisions.
fn replay(path: &str) {
    let mut parts = path.split('/');
    let mut part =
        || parts.next().unwrap_or_else(|| panic!("ECHOLOOP_PATH={path} is not like echo/2/1/0,0,1"));
    let (name, steps, faults, list) = (part(), part(), part(), part());
    let tiny = WORLDS.iter().find(|tiny| tiny.name == name).expect("a world of this name");
    let steps = steps.parse().expect("a number of steps");
    let faults = faults.parse().expect("a number of faults");
    let decision = |text: &str| text.parse().expect("a number for each decision");
    let decisions: Vec<u8> = list.split(',').filter(|text| !text.is_empty()).map(decision).collect();
    println!("{:#?}", tiny.plan(steps, &Choices::path(&decisions, faults)));
    if let Err(failure) = tiny.run(steps, &Choices::path(&decisions, faults), true) {
        panic!("{failure}");
    }
}
