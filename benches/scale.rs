//! Whether the core's cost depends on how many connections there are: the same work among 1 thousand to 1 million
//! connections over a fake transport. `cargo bench --bench scale`, about 20 seconds.
//!
//! - **event**: an event comes, the connection has its turn, which echoes 64 bytes. In batches, as from a poller.
//! - **deadline**: one that comes too early, because its connection moved bytes meanwhile: it is taken out of the queue,
//!   the connection is looked at, and it goes back for later. That is the fate of nearly all idle timeouts.
//! - **status**: the look at a connection when somebody asks what all are doing ([`Handle::status`](echoloop::Handle::status)),
//!   as each scrape of metrics does. Times the number of connections it is how long the loop takes for it.
//! - **memory**: resident memory per connection, of the core alone (Linux).
//!
//! Events come in the order of the table and in random order. No step of an event depends on the number of
//! connections, so in order the cost is flat. In random order a connection among very many is in no cache when its
//! event comes, and the processor waits for the memory, whatever the program does there. How long is measured as
//! **memory alone**: as many bytes as a connection has are read and changed in the same order. That is the least:
//! these accesses overlap, those of an event follow each other. What an event costs beyond it is the program's
//! part. A deadline takes a step more for each fourfold number of deadlines, and waits for the memory at most of
//! them.
//!
//! Memory has a part that is shared by all, the read buffer above all, which shows among few connections.
//!
//! Each number of connections is measured in processes of its own, round by round; the figures are medians.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

mod fake;

use std::{
    cell::Cell,
    env,
    error::Error,
    hint,
    io::{self, ErrorKind, Read, Write},
    process::{Command, ExitCode},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use echoloop::{
    Address, Config, Echo, Stats,
    internals::{Addresses, Connections, Counters, NoPipe, Places, Readiness, State, Transport, channel},
};
use fake::FakePoller;
use mio::Token;

/// The option with which this executable measures one number of connections: `--measure CONNECTIONS EVENTS`.
const MEASURE: &str = "--measure";

const MESSAGE_BYTES: usize = 64;

/// Events that come at a time.
const BATCH: usize = 512;

/// Between two batches when the clock goes on.
const TICK: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [MEASURE, connections, events] => measure_and_print(connections, events),
        _ if words.iter().any(|word| word == "--test") => compare(&[1000, 10_000], 1, 20_000),
        _ => compare(&[1000, 10_000, 100_000, 1_000_000], 5, 1_000_000),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The names of the figures, in their order. All but the last are nanoseconds.
const FIGURES: [&str; 7] = [
    "event, in order",
    "memory alone",
    "event, at random",
    "memory alone",
    "deadline",
    "status",
    "memory/connection",
];

/// Figures of one number of connections; not a number where there is none.
type Figures = [f64; FIGURES.len()];

/// Measures each of the `sizes` in each of the rounds and prints the table.
fn compare(sizes: &[usize], rounds: usize, events: usize) -> Result<(), Box<dyn Error>> {
    let mut measured: Vec<Vec<Figures>> = vec![Vec::new(); sizes.len()];
    for _ in 0..rounds {
        for (figures, &connections) in measured.iter_mut().zip(sizes) {
            figures.push(measure_in_child(connections, events)?);
        }
    }
    print!("{:>11}", "connections");
    for name in FIGURES {
        print!("  {name:>18}");
    }
    println!();
    let medians: Vec<Figures> = measured.iter().map(|rounds| medians(rounds)).collect();
    for (&connections, figures) in sizes.iter().zip(&medians) {
        print!("{connections:>11}");
        for (n, (&figure, first)) in figures.iter().zip(medians[0]).enumerate() {
            let unit = if n + 1 == FIGURES.len() { "B" } else { "ns" };
            let shown = if figure.is_nan() {
                "–".into()
            } else {
                format!("{figure:.0} {unit} {:>6.2}×", figure / first)
            };
            print!("  {shown:>18}");
        }
        println!();
    }
    Ok(())
}

fn medians(rounds: &[Figures]) -> Figures {
    std::array::from_fn(|n| {
        let mut values: Vec<f64> = rounds.iter().map(|figures| figures[n]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    })
}

fn measure_in_child(connections: usize, events: usize) -> Result<Figures, Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    let output = command.args([MEASURE, &connections.to_string(), &events.to_string()]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let line = String::from_utf8(output.stdout)?;
    let figures: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    figures.try_into().map_err(|_| "a process measured something else".into())
}

fn measure_and_print(connections: &str, events: &str) -> Result<(), Box<dyn Error>> {
    for figure in measure(connections.parse()?, events.parse()?) {
        print!("{figure} ");
    }
    println!();
    Ok(())
}

fn measure(connections: usize, events: usize) -> Figures {
    // Not part of what the connections need.
    let mut order = vec![Token(usize::MAX); connections];
    let before = resident_bytes();
    let mut core = Core::new(&mut order);
    core.pass(&order);
    let memory = resident_bytes()
        .zip(before)
        .map_or(f64::NAN, |(after, before)| after.saturating_sub(before) as f64 / connections as f64);

    let in_order = core.events(&order, events);
    let mut places: Vec<usize> = (0..connections).collect();
    let touch_in_order = touch(&places, memory, events);
    let mut random = fastrand::Rng::with_seed(7);
    random.shuffle(&mut order);
    random.shuffle(&mut places);
    let at_random = core.events(&order, events);
    let touch_at_random = touch(&places, memory, events);
    let deadline = core.deadlines(&mut order, events, &mut random);
    let status = core.status(events);
    [in_order, touch_in_order, at_random, touch_at_random, deadline, status, memory]
}

/// The time for reading and changing the memory of a connection, and nothing else.
fn touch(places: &[usize], bytes: f64, events: usize) -> f64 {
    // Whole cache lines, and as many as on a system that says how much memory it is.
    let lines = if bytes.is_nan() { 4 } else { (1..).find(|&n| f64::from(n) * 64.0 >= bytes).unwrap_or(4) };
    let lines = usize::try_from(lines).expect("a few");
    let mut memory = vec![[0_u64; 8]; places.len() * lines];
    let passes = passes(places.len(), events);
    let mut pass = || {
        for &place in places {
            for line in &mut memory[place * lines..][..lines] {
                line[0] = line[0].wrapping_add(1);
            }
        }
        hint::black_box(&mut memory);
    };
    pass();
    let begin = Instant::now();
    (0..passes).for_each(|_| pass());
    nanoseconds(begin.elapsed(), passes * places.len())
}

fn nanoseconds(elapsed: Duration, count: usize) -> f64 {
    elapsed.as_secs_f64() * 1e9 / count as f64
}

/// How often all connections have their turn to make so many events.
const fn passes(connections: usize, events: usize) -> usize {
    events.div_ceil(connections)
}

/// A loop's connections, and the time that they are told.
struct Core {
    connections: Connections<Echo, FakeTransport>,
    wire: Rc<Wire>,
    start: Instant,
    idle_timeout: Duration,
}

impl Core {
    /// As many connections as there is room for in `tokens`, and their tokens.
    fn new(tokens: &mut [Token]) -> Self {
        let start = Instant::now();
        let limits = Config::default();
        let idle_timeout = limits.idle_timeout.expect("there is one by default");
        let (handle, _) = channel(1, vec![(Arc::new(()), Arc::default())]);
        let counters = Arc::new(Counters::default());
        let mut connections =
            Connections::new(0, Places::alone(tokens.len()), start, limits, counters, handle, Arc::new(()));
        let wire = Rc::new(Wire::default());
        for token in tokens {
            let transport = FakeTransport { wire: Rc::clone(&wire), seen: 0 };
            assert!(connections.take_place());
            let id = connections.next_id();
            *token = id.token();
            let limits = Rc::clone(connections.limits());
            connections
                .add(id, State::Reading, transport, Echo, &limits, &mut FakePoller)
                .expect("registered");
        }
        Self { connections, wire, start, idle_timeout }
    }

    /// One event for each of `tokens`.
    fn batch(&mut self, tokens: &[Token]) {
        self.wire.batch.set(self.wire.batch.get() + 1);
        for &token in tokens {
            self.connections.notice(token, Readiness::READ);
        }
        while self.connections.has_work() {
            self.connections.run_ready(&mut FakePoller);
        }
    }

    fn pass(&mut self, order: &[Token]) {
        let before = self.wire.echoed.get();
        order.chunks(BATCH).for_each(|tokens| self.batch(tokens));
        assert_eq!(self.wire.echoed.get() - before, order.len() * MESSAGE_BYTES, "all was echoed");
    }

    /// The time for an event.
    fn events(&mut self, order: &[Token], events: usize) -> f64 {
        let passes = passes(order.len(), events);
        self.pass(order);
        let begin = Instant::now();
        (0..passes).for_each(|_| self.pass(order));
        nanoseconds(begin.elapsed(), passes * order.len())
    }

    /// The time for a deadline that comes too early. Again and again all connections move bytes, in another order each
    /// time, and later the deadlines come that were set the time before.
    fn deadlines(&mut self, order: &mut [Token], events: usize, random: &mut fastrand::Rng) -> f64 {
        let passes = passes(order.len(), events);
        let ticks = u32::try_from(order.len().div_ceil(BATCH)).expect("few batches");
        let mut elapsed = Duration::ZERO;
        let mut due = self.start + self.idle_timeout;
        // The first time they all come at once, as they were all set at once.
        for pass in 0..=passes {
            let moved = due - TICK * (ticks + 1);
            random.shuffle(order);
            for (tokens, tick) in order.chunks(BATCH).zip(0..) {
                self.connections.set_now(moved + TICK * tick);
                self.batch(tokens);
            }
            let took = self.expire(due, ticks, order.len());
            if pass > 0 {
                elapsed += took;
            }
            due = moved + self.idle_timeout;
        }
        nanoseconds(elapsed, passes * order.len())
    }

    /// The time for a connection when all are looked at.
    fn status(&self, events: usize) -> f64 {
        let passes = passes(self.connections.len(), events);
        let begin = Instant::now();
        for _ in 0..passes {
            assert_eq!(self.connections.status(Stats::default()).reading, self.connections.len());
        }
        nanoseconds(begin.elapsed(), passes * self.connections.len())
    }

    /// Lets the time pass while the deadlines come, a batch with each tick, and takes it.
    fn expire(&mut self, from: Instant, ticks: u32, count: usize) -> Duration {
        let begin = Instant::now();
        for tick in 0..=ticks {
            self.connections.set_now(from + TICK * tick);
            self.connections.run_deadlines(&mut FakePoller);
        }
        let elapsed = begin.elapsed();
        let end = from + TICK * ticks;
        assert_eq!(self.connections.len(), count, "none has been idle for so long");
        assert!(self.connections.next_deadline().is_some_and(|next| next > end), "all have come");
        elapsed
    }
}

/// What all transports share.
#[derive(Debug, Default)]
struct Wire {
    /// The batch of events under way: each of its connections has one message to receive.
    batch: Cell<u64>,
    echoed: Cell<usize>,
}

/// Our end of a connection. As large as a socket, nearly.
#[derive(Debug)]
struct FakeTransport {
    wire: Rc<Wire>,
    /// The latest batch of which it had its message.
    seen: u64,
}

impl Read for FakeTransport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.seen == self.wire.batch.get() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.seen = self.wire.batch.get();
        buffer[..MESSAGE_BYTES].fill(7);
        Ok(MESSAGE_BYTES)
    }
}

impl Write for FakeTransport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.echoed.set(self.wire.echoed.get() + bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for FakeTransport {
    type Pipe = NoPipe;

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn unacknowledged(&self) -> Option<usize> {
        None
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn reset_on_close(&mut self) {}
}

impl Addresses for FakeTransport {
    fn peer_addr(&self) -> io::Result<Address> {
        Ok(Address::Ip(([127, 0, 0, 1], 1).into()))
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Ip(([127, 0, 0, 1], 2).into()))
    }
}

/// The resident memory of this process, where the system says it.
#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[cfg(not(target_os = "linux"))]
const fn resident_bytes() -> Option<u64> {
    None
}
