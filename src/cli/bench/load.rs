//! Runs a load: connect, warm up, measure, and the documented end for every connection.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use echoloop::{ConnectionId, Error, Handle, Origin, SendError, Server, Stats};

use super::{
    args::Extent,
    clock,
    connection::Connection,
    ends::Ends,
    hdr::Log,
    outcome::Outcome,
    pace::Schedule,
    pacer::{Pacer, Target},
    plan::Plan,
    progress::{Progress, steps},
    samples::Samples,
    worker::{Event, Order, Shared, Stage, Worker},
};
use crate::cli::failure::Failure;

/// How long a loop whose mailbox is full gets to take some of it.
const FULL_DELAY: Duration = Duration::from_millis(1);

/// Intervals in a measurement, as far as they are neither too short nor too long.
const INTERVALS: u32 = 50;
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Workers with their loops running, and what they say.
pub(super) struct Load {
    plan: Arc<Plan>,
    targets: Vec<Target>,
    threads: Vec<JoinHandle<Result<Stats, Error>>>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    interval: Duration,
    next_sample: Instant,
    handed_out: bool,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// What was waited for is there.
    Done,
    TimeIsUp,
    Interrupted,
    Aborted,
}

/// What is shown and written while the load runs.
struct Figures<'a> {
    samples: Samples,
    progress: Progress,
    log: Option<Log<'a>>,
    /// Whether what is sampled counts.
    measuring: bool,
    extent: Extent,
    messages: u64,
}

impl Load {
    /// Starts the loops, which wait for orders.
    pub(super) fn start(plan: Plan) -> Result<Self, Failure> {
        let plan = Arc::new(plan);
        let (sender, events) = channel();
        let interval = match plan.extent {
            Extent::Time { measured, .. } => (measured / INTERVALS).clamp(INTERVAL_MIN, INTERVAL_MAX),
            Extent::Messages(_) => INTERVAL_MIN,
        };
        let mut load = Self {
            targets: Vec::new(),
            threads: Vec::new(),
            events,
            sender,
            interval,
            next_sample: clock::now() + interval,
            handed_out: false,
            plan,
        };
        for number in 0..load.plan.threads {
            load.start_worker(number)?;
        }
        Ok(load)
    }

    fn start_worker(&mut self, number: u64) -> Result<(), Failure> {
        let plan = Arc::clone(&self.plan);
        let config = plan.config(plan.connections_of(number));
        let server = Server::<Connection>::builder().config(config).bind::<&str>([])?;
        let handle = server.handle();
        let worker = Shared::new(Worker::new(Arc::clone(&plan), handle.clone(), self.sender.clone(), number));
        self.targets.push(Target { worker: worker.clone(), handle });
        let thread = thread::Builder::new().name(format!("bench-{number}")).spawn(move || {
            server.run(|peer| match peer.origin {
                Origin::Connect(label) => Some(Connection::new(Arc::clone(&plan), worker.clone(), label)),
                Origin::Listener(_) | _ => None,
            })
        });
        let thread = thread.map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Who wants to end the load early tells it here.
    pub(super) fn events(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// The loops, for who wants to end the load at once.
    pub(super) fn handles(&self) -> Vec<Handle<Order>> {
        self.targets.iter().map(|target| target.handle.clone()).collect()
    }

    /// Runs the load from beginning to end. `None`: it was aborted.
    pub(super) fn run(mut self, log: Option<Log<'_>>) -> Result<Option<Outcome>, Failure> {
        let mut figures = Figures {
            samples: Samples::new(self.plan.is_paced()),
            progress: Progress::new(),
            log,
            measuring: false,
            extent: self.plan.extent,
            messages: 0,
        };
        let result = self.run_phases(&mut figures);
        figures.progress.end();
        let woken = result?;
        if woken == Woken::Aborted {
            return Ok(None);
        }
        self.join()?;
        let elapsed = if figures.measuring { figures.samples.elapsed() } else { Duration::ZERO };
        if !figures.measuring {
            figures.samples.restart(self.plan.churn);
        }
        let (total, series) = figures.samples.finish();
        Ok(Some(self.outcome(woken == Woken::Interrupted, elapsed, total, series)))
    }

    fn run_phases(&mut self, figures: &mut Figures<'_>) -> Result<Woken, Failure> {
        let woken = self.connect(figures)?;
        if woken != Woken::Done || self.is_idle() && !self.plan.churn {
            return self.finish(woken, figures);
        }
        let every_message_counts = matches!(self.plan.extent, Extent::Messages(_));
        if every_message_counts {
            self.begin_measuring(figures)?;
        }
        let pacer = self.begin()?;
        let woken = self.measure(figures)?;
        if let Some(pacer) = pacer {
            pacer.stop();
        }
        self.finish(woken, figures)
    }

    /// Makes all connections before the load begins, except where they are the load.
    fn connect(&mut self, figures: &mut Figures<'_>) -> Result<Woken, Failure> {
        if self.plan.churn {
            return Ok(Woken::Done);
        }
        figures.progress.begin("connecting", self.plan.connections);
        let begin = clock::now();
        let connections = self.plan.connections;
        let mut schedule = self.plan.connect_rate.map(|rate| Schedule::new(rate, Some(connections)));
        let mut asked = 0;
        while asked < connections {
            if let Some(schedule) = &mut schedule
                && let Some(next) = schedule.next()
                && schedule.take(begin.elapsed()).is_none()
            {
                match self.wait(Some(begin + next), figures, |_| false)? {
                    Woken::Done | Woken::TimeIsUp => continue,
                    woken @ (Woken::Interrupted | Woken::Aborted) => return Ok(woken),
                }
            }
            self.target(asked).worker.lock().want(clock::now());
            asked += 1;
        }
        let mut settled = 0;
        let loops = self.targets.len();
        // Every attempt comes to an end, with the connect timeout at the latest.
        self.wait_counting(figures, |event| {
            settled += usize::from(event == Event::Settled);
            settled == loops
        })
    }

    /// Begins the load.
    fn begin(&self) -> Result<Option<Pacer>, Failure> {
        for target in &self.targets {
            let mut worker = target.worker.lock();
            let connections = worker.run();
            if self.plan.is_paced() {
                continue;
            }
            if self.plan.churn {
                let places = self.plan.connections.div_ceil(self.plan.threads);
                let now = clock::now();
                for _ in 0..places {
                    if worker.claim() {
                        worker.want(now);
                    }
                }
            }
            drop(worker);
            tell_all(target, &connections, Order::Begin);
        }
        let Some(rate) = self.plan.rate else { return Ok(None) };
        let limit = match self.plan.extent {
            Extent::Messages(messages) => Some(messages),
            Extent::Time { .. } => None,
        };
        let schedule = Schedule::new(rate, limit);
        let pacer = Pacer::start(schedule, self.plan.churn, self.targets.clone(), self.sender.clone());
        pacer.map(Some).map_err(|error| Failure::new(format!("cannot start a thread: {error}")))
    }

    /// Warms up and measures, to the end of the time or of the messages.
    fn measure(&mut self, figures: &mut Figures<'_>) -> Result<Woken, Failure> {
        let Extent::Time { warmup, measured } = self.plan.extent else {
            return self.wait(None, figures, |load| load.handed_out || load.is_idle());
        };
        figures.progress.begin("warming up", clock::nanos(warmup));
        let until = clock::now().checked_add(warmup);
        match self.wait(until, figures, Self::is_idle)? {
            Woken::Done | Woken::TimeIsUp => {}
            woken @ (Woken::Interrupted | Woken::Aborted) => return Ok(woken),
        }
        self.begin_measuring(figures)?;
        let until = clock::now().checked_add(measured);
        let woken = self.wait(until, figures, Self::is_idle)?;
        self.sample(figures)?;
        Ok(woken)
    }

    fn begin_measuring(&mut self, figures: &mut Figures<'_>) -> Result<(), Failure> {
        let now = clock::now();
        figures.samples.take(self.targets.iter().map(|target| &target.worker));
        figures.samples.restart(self.plan.churn);
        if let Some(log) = &mut figures.log {
            log.write_connects(figures.samples.connects())?;
        }
        figures.measuring = true;
        figures.messages = 0;
        self.next_sample = now + self.interval;
        figures.progress.begin("measuring", steps(self.plan.extent, Duration::ZERO, 0).0);
        Ok(())
    }

    /// Ends every connection the documented way, and then the loops.
    fn finish(&mut self, woken: Woken, figures: &mut Figures<'_>) -> Result<Woken, Failure> {
        if woken == Woken::Aborted {
            return Ok(woken);
        }
        figures.progress.begin("ending", 1);
        // What comes back now counts only where every message does.
        let counts = matches!(self.plan.extent, Extent::Messages(_)) && figures.measuring;
        for target in &self.targets {
            let connections = target.worker.lock().stop(counts && woken == Woken::Done);
            tell_all(target, &connections, Order::Stop);
        }
        let was_measuring = std::mem::replace(&mut figures.measuring, counts);
        let until = clock::now().checked_add(self.plan.timeout);
        let mut end = woken;
        loop {
            match self.wait(until, figures, Self::is_idle)? {
                Woken::Done | Woken::TimeIsUp => break,
                Woken::Interrupted => end = Woken::Interrupted,
                Woken::Aborted => return Ok(Woken::Aborted),
            }
        }
        if counts {
            self.sample(figures)?;
        }
        figures.measuring = was_measuring;
        for target in &self.targets {
            if target.worker.lock().is_idle() {
                target.handle.drain();
            } else {
                target.handle.abort();
            }
        }
        Ok(end)
    }

    /// Waits until `done`, or until then.
    fn wait(
        &mut self,
        until: Option<Instant>,
        figures: &mut Figures<'_>,
        done: impl Fn(&Self) -> bool,
    ) -> Result<Woken, Failure> {
        loop {
            if done(self) {
                return Ok(Woken::Done);
            }
            let now = clock::now();
            if until.is_some_and(|until| until <= now) {
                return Ok(Woken::TimeIsUp);
            }
            match self.next_event(until, now, figures)? {
                Some(Event::Interrupted) => return Ok(Woken::Interrupted),
                Some(Event::Aborted) => return Ok(Woken::Aborted),
                Some(Event::HandedOut) => self.handed_out = true,
                Some(Event::Settled | Event::Idle) | None => {}
            }
        }
    }

    /// Waits for events until `enough` of them have come.
    fn wait_counting(
        &mut self,
        figures: &mut Figures<'_>,
        mut enough: impl FnMut(Event) -> bool,
    ) -> Result<Woken, Failure> {
        loop {
            match self.next_event(None, clock::now(), figures)? {
                Some(Event::Interrupted) => return Ok(Woken::Interrupted),
                Some(Event::Aborted) => return Ok(Woken::Aborted),
                Some(event) if enough(event) => return Ok(Woken::Done),
                Some(Event::Settled | Event::Idle | Event::HandedOut) | None => {}
            }
        }
    }

    /// The next event, or `None` at `until` or when an interval has ended.
    fn next_event(
        &mut self,
        until: Option<Instant>,
        now: Instant,
        figures: &mut Figures<'_>,
    ) -> Result<Option<Event>, Failure> {
        if self.next_sample <= now {
            self.sample(figures)?;
            self.next_sample = now + self.interval;
        }
        let wake = until.map_or(self.next_sample, |until| until.min(self.next_sample));
        match self.events.recv_timeout(wake.saturating_duration_since(now)) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => unreachable!("a sender is kept here"),
        }
    }

    /// Ends an interval: gathers, shows and writes its figures.
    fn sample(&mut self, figures: &mut Figures<'_>) -> Result<(), Failure> {
        if self.threads.iter().any(JoinHandle::is_finished) {
            // Only an error ends a loop before it is told to.
            self.targets.iter().for_each(|target| target.handle.abort());
            self.join()?;
        }
        let mut made = 0;
        for target in &self.targets {
            let mut worker = target.worker.lock();
            // What found no place in the mailbox is tried again.
            worker.dial();
            made += worker.connections().0;
        }
        let in_finish = !figures.measuring && self.targets[0].worker.lock().stage() == Stage::Stopping;
        if in_finish {
            return Ok(());
        }
        let point = figures.samples.take(self.targets.iter().map(|target| &target.worker));
        if figures.measuring {
            figures.messages += point.messages;
            let (_, done) = steps(figures.extent, figures.samples.elapsed(), figures.messages);
            figures.progress.set(done);
            if let Some(log) = &mut figures.log {
                log.write(figures.samples.interval(), point.length)?;
            }
        } else if self.targets[0].worker.lock().stage() == Stage::Connecting {
            figures.progress.set(made);
            return Ok(());
        } else {
            figures.progress.advance(clock::nanos(point.length));
        }
        figures.progress.show(&point);
        Ok(())
    }

    /// Whether nothing can come from any worker any more.
    fn is_idle(&self) -> bool {
        self.targets.iter().all(|target| target.worker.lock().is_idle())
    }

    fn target(&self, turn: u64) -> &Target {
        let place = turn % self.targets.len() as u64;
        &self.targets[usize::try_from(place).unwrap_or(0)]
    }

    /// Waits for the loops to end.
    fn join(&mut self) -> Result<(), Failure> {
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    }

    fn outcome(
        &self,
        interrupted: bool,
        elapsed: Duration,
        total: super::tally::Tally,
        series: Vec<super::samples::Point>,
    ) -> Outcome {
        let (mut ends, mut made, mut open_max) = (Ends::default(), 0, 0);
        for target in &self.targets {
            let worker = target.worker.lock();
            ends += worker.ends();
            let (worker_made, worker_open_max) = worker.connections();
            made += worker_made;
            open_max += worker_open_max as u64;
        }
        let plan = Arc::clone(&self.plan);
        Outcome { plan, elapsed, interrupted, made, open_max, ends, total, series }
    }
}

/// Tells connections what to do, however long the loop takes to hear it.
fn tell_all(target: &Target, connections: &[ConnectionId], order: Order) {
    for &id in connections {
        while let Err(SendError::Full(_)) = target.handle.send(id, order) {
            thread::park_timeout(FULL_DELAY);
        }
    }
}
