//! Tiny worlds of which every schedule is explored, not some: every order in which clients act, events come and deadlines
//! pass, and every fate of every call, with few faults in one schedule.
//!
//! First all schedules of one step, then all of two, and so on until the time is used up: `ECHOLOOP_EXHAUSTIVE=1h`.
//! After the steps each world calms down, as the random ones do, and everything must come to its end.
//! `ECHOLOOP_PATH=...` replays a schedule with its trace, as a failure says.

use std::{
    env,
    fmt::Write,
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
    kernel::{Faults, Nature, Rearm},
    protocol::{Callback, Habit, hush_planned_panics},
    stage::Failure,
    world::{Moves, Plan, World},
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
    /// Faults of one schedule, at most.
    faults: u8,
    /// Bytes are moved in the kernel as soon as they can be.
    is_pure: bool,
}

/// One client, an echo, and one fault.
const ECHO: Tiny = Tiny {
    name: "echo",
    clients: 1,
    bytes: 3,
    manners: &[Manner::Proper],
    habits: &[Habit::Echo],
    capacity: 2,
    moves: Moves {
        waits: 0,
        messages: 0,
        strays: 0,
        dials: 0,
        may_drain: false,
        may_abort: false,
        begins_connected: true,
    },
    faults: 1,
    is_pure: false,
};

const fn worlds() -> [Tiny; 16] {
    let with = ECHO.moves;
    let waits = Moves { waits: 2, ..with };
    let arrivals = Moves { begins_connected: false, ..with };
    [
        ECHO,
        Tiny { name: "two-faults", bytes: 2, faults: 2, ..ECHO },
        Tiny { name: "long-stream", bytes: 6, manners: &[Manner::Proper, Manner::LateReader], ..ECHO },
        Tiny { name: "waiting", manners: &[Manner::Waiting], moves: Moves { strays: 1, ..with }, ..ECHO },
        Tiny { name: "resets", manners: &[Manner::Resetter, Manner::Careless], ..ECHO },
        Tiny {
            name: "deadlines",
            bytes: 2,
            manners: &[Manner::Proper, Manner::NeverReads, Manner::Silent],
            moves: waits,
            ..ECHO
        },
        Tiny {
            name: "server-ends",
            bytes: 4,
            manners: &[Manner::Proper, Manner::Endless],
            habits: &[Habit::FinishAfter(1), Habit::ShutdownAfter(2), Habit::AbortAfter(2)],
            moves: Moves { waits: 1, ..with },
            ..ECHO
        },
        Tiny { name: "piecewise", bytes: 4, habits: &[Habit::Piecewise], ..ECHO },
        Tiny { name: "timers", habits: &[Habit::Hesitant, Habit::Deferring], moves: waits, ..ECHO },
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
            moves: arrivals,
            ..ECHO
        },
        Tiny {
            name: "drain",
            bytes: 2,
            manners: &[Manner::Proper, Manner::Waiting],
            moves: Moves { may_drain: true, waits: 2, ..arrivals },
            ..ECHO
        },
        Tiny { name: "abort", bytes: 2, moves: Moves { may_drain: true, may_abort: true, ..with }, ..ECHO },
        Tiny { name: "two-clients", clients: 2, bytes: 2, ..ECHO },
        Tiny { name: "one-place", clients: 2, bytes: 1, capacity: 1, moves: arrivals, ..ECHO },
        Tiny {
            name: "messages",
            clients: 2,
            bytes: 1,
            habits: &[Habit::Echo, Habit::Talkative],
            moves: Moves { messages: 2, ..with },
            ..ECHO
        },
        Tiny {
            name: "dials",
            bytes: 1,
            habits: &[Habit::Dialling],
            moves: Moves { dials: 1, ..with },
            ..ECHO
        },
    ]
}

impl Tiny {
    fn plan(&self, steps: usize, choices: &Choices) -> Plan {
        let (rearm, short_read_drains) = choices
            .of(&[(Rearm::EveryEdge, false), (Rearm::EveryEdge, true), (Rearm::AfterWouldBlock, false)])
            .expect("there are some");
        let (buffer_bytes, turn_budget_bytes) =
            choices.of(&[(1, 8), (2, 8), (2, 1)]).expect("there are some");
        let limits = self.limits(turn_budget_bytes);
        Plan {
            clients: self.clients,
            steps,
            nature: Nature {
                rearm,
                short_read_drains,
                faults: Faults { partial: 1, would_block: 1, interrupted: 1, error: 1, accept: 1 },
                errors: &[ErrorKind::ConnectionReset, ErrorKind::OutOfMemory],
                planned: None,
                time_passes_in_waits: false,
                buffer_bytes: Some(buffer_bytes),
                backlog: limits.backlog as usize,
                event_batch: limits.event_batch,
                outbound_most: 2,
            },
            limits,
            capacity: self.capacity,
            listeners: 1,
            manners: self.manners.to_vec(),
            bytes: Some(self.bytes),
            is_pure: self.is_pure,
            habits: self.habits.to_vec(),
        }
    }

    fn limits(&self, turn_budget_bytes: usize) -> Config {
        let mut limits = Config::default();
        limits.read_buffer_bytes = 2;
        limits.high_water_bytes = 2;
        limits.low_water_bytes = 1;
        limits.input_limit_bytes = 8;
        limits.turn_budget_bytes = turn_budget_bytes;
        limits.splice_threshold_bytes = self.is_pure.then_some(1);
        limits.pipes_max = usize::from(self.is_pure);
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
            if self.is_pure {
                World::<true>::new(plan, choices.clone(), is_verbose).run_steps(self.moves)
            } else {
                World::<false>::new(plan, choices.clone(), is_verbose).run_steps(self.moves)
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
    /// How many those are, and those beyond them that were explored too.
    schedules: u64,
    /// There are no longer ones.
    is_all: bool,
}

/// Explores all schedules of a world, the short ones first, as long as there is time.
fn explore(tiny: &Tiny, until: Instant) -> Result<Explored, Failure> {
    let mut explored = Explored::default();
    loop {
        let steps = explored.steps + 1;
        let before = explored.schedules;
        if !explore_all_of(tiny, steps, until, &mut explored.schedules)? {
            return Ok(explored);
        }
        explored.steps = steps;
        if explored.schedules == before {
            explored.is_all = true;
            return Ok(explored);
        }
    }
}

/// Explores all schedules of so many steps. False if there was not enough time.
fn explore_all_of(tiny: &Tiny, steps: usize, until: Instant, schedules: &mut u64) -> Result<bool, Failure> {
    let choices = Choices::first_path(tiny.faults);
    for run in 0_u64.. {
        if run % 64 == 0 && wall_clock() >= until {
            return Ok(false);
        }
        let is_one = tiny.run(steps, &choices, false).map_err(|failure| {
            let decisions = choices.decisions();
            let list: Vec<String> = decisions.iter().map(u8::to_string).collect();
            let (name, list) = (tiny.name, list.join(","));
            format!(
                "{name}, {steps} steps, decisions {decisions:?}: {failure} \
                 (replay it with ECHOLOOP_PATH={name}/{steps}/{list})"
            )
        })?;
        *schedules += u64::from(is_one);
        if !choices.next_path() {
            break;
        }
    }
    Ok(true)
}

/// Explores all worlds, each for its share of the time, on all processors.
fn explore_worlds(worlds: &[Tiny], budget: Duration) -> Vec<(&'static str, Result<Explored, Failure>)> {
    let end = wall_clock() + budget;
    let threads = thread::available_parallelism().map_or(1, usize::from).min(worlds.len());
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(tiny) = worlds.get(number) else { return };
            let rounds = (worlds.len() - number).div_ceil(threads);
            let now = wall_clock();
            let share = end.saturating_duration_since(now) / u32::try_from(rounds).expect("few worlds");
            let result = explore(tiny, now + share);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((number, tiny.name, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|&(number, ..)| number);
    results.into_iter().map(|(_, name, result)| (name, result)).collect()
}

#[expect(clippy::disallowed_methods, reason = "the exploration ends when its time is used up")]
fn wall_clock() -> Instant {
    Instant::now()
}

/// How long to explore in an ordinary run.
const BUDGET: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 60 });

#[test]
fn every_schedule_of_tiny_worlds_breaks_no_invariant() {
    hush_planned_panics();
    if let Ok(path) = env::var("ECHOLOOP_PATH") {
        return replay(&path);
    }
    let budget = env::var("ECHOLOOP_EXHAUSTIVE").map_or(BUDGET, |text| {
        humantime::parse_duration(&text).unwrap_or_else(|error| panic!("ECHOLOOP_EXHAUSTIVE={text}: {error}"))
    });
    let begin = wall_clock();
    let results = explore_worlds(&worlds(), budget);
    let (mut lines, mut failures) = (String::new(), Vec::new());
    let (mut schedules, mut steps) = (0, usize::MAX);
    for (name, result) in &results {
        match result {
            Ok(explored) => {
                schedules += explored.schedules;
                if !explored.is_all {
                    steps = steps.min(explored.steps);
                }
                writeln!(lines, "  {name:<12} {explored}").expect("a String takes everything");
            }
            Err(failure) => failures.push(failure.as_str()),
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let count = grouped(schedules);
    let worlds = results.len();
    println!(
        "exhaustive: {count} schedules of {worlds} worlds in {seconds:.0} s, every one of up to {steps} steps"
    );
    print!("{lines}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

impl std::fmt::Display for Explored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let schedules = grouped(self.schedules);
        if self.is_all {
            return write!(f, "all {schedules} schedules there are");
        }
        write!(f, "every schedule of up to {} steps; {schedules} in all", self.steps)
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

/// Runs one schedule again: the name of its world, how many steps it has, its decisions.
fn replay(path: &str) {
    let mut parts = path.split('/');
    let mut part = || parts.next().unwrap_or_else(|| panic!("ECHOLOOP_PATH={path} is not like echo/2/0,1"));
    let (name, steps, list) = (part(), part(), part());
    let tiny = worlds().into_iter().find(|tiny| tiny.name == name).expect("a world of this name");
    let steps = steps.parse().expect("a number of steps");
    let decision = |text: &str| text.parse().expect("a number for each decision");
    let decisions: Vec<u8> = list.split(',').filter(|text| !text.is_empty()).map(decision).collect();
    let choices = Choices::path(&decisions, tiny.faults);
    println!("{:#?}", tiny.plan(steps, &Choices::path(&decisions, tiny.faults)));
    if let Err(failure) = tiny.run(steps, &choices, true) {
        panic!("{failure}");
    }
}
