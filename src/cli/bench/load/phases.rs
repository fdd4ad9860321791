//! Runs a load phase by phase: connect, warm up, measure, and the documented disconnect of every connection.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant, SystemTime},
};

use echoloop::Handle;

use super::{event::LoadEvent, generator::Generator, loops::Loops, schedule::Schedule, teller};
use crate::cli::{
    bench::{
        clock,
        measure::{
            hdr_writer::LatencyLog,
            latencies,
            measured_time::MeasuredTime,
            outcome::{self, Outcome},
            recorder::Recorder,
            tally::Tally,
        },
        plan::{Extent, Plan},
        units,
    },
    failure::Failure,
};

/// A measurement has about this many intervals, within the limits for their length.
const INTERVALS: u32 = 50;
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// What the load generator itself is late with is still sent for this long after the end, or half of the time for which
/// answers are waited for.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

/// How long answers are waited for after Ctrl-C, unless the timeout is shorter.
pub(super) const INTERRUPTED_MAX: Duration = Duration::from_secs(1);

/// A thread that is woken up so much too late was stopped, and its connections could not answer either.
const STOPPED_MIN: Duration = Duration::from_secs(1);

/// A load whose event loops run.
#[derive(Debug)]
pub(crate) struct Load {
    plan: Arc<Plan>,
    loops: Loops,
    events: Receiver<LoadEvent>,
    sender: Sender<LoadEvent>,
    interval: Duration,
    next_sample: Instant,
    /// How many loops have made all their connections, or failed to.
    settled: usize,
    /// How late the latest wait was over.
    late: Duration,
    /// What is measured; `None` before the load begins.
    measured_time: Option<MeasuredTime>,
    /// The CPU time of this process: when the measured time began, and later how much it took.
    cpu: Option<Duration>,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// What was waited for has happened, or its time is up.
    Done,
    Interrupted,
    Aborted,
}

impl Load {
    /// Starts the event loops.
    pub(crate) fn start(plan: Plan) -> Result<Self, Failure> {
        let plan = Arc::new(plan);
        let (sender, events) = channel();
        let interval = interval(plan.extent);
        let loops = Loops::start(&plan, &sender)?;
        let next_sample = clock::now() + interval;
        Ok(Self {
            plan,
            loops,
            events,
            sender,
            interval,
            next_sample,
            settled: 0,
            late: Duration::ZERO,
            measured_time: None,
            cpu: None,
        })
    }

    /// How long the load was measured: a time, or until the last message came back, or none did.
    fn elapsed(&self, total: &Tally) -> Duration {
        let Some(measured_time) = self.measured_time else { return Duration::ZERO };
        measured_time.length().unwrap_or_else(|| {
            let end = total.latest.unwrap_or_else(clock::now);
            end.saturating_duration_since(measured_time.from())
        })
    }

    fn run_phases(&mut self, recorder: &mut Recorder<'_>) -> Result<Woken, Failure> {
        let mut woken = self.connect(recorder)?;
        recorder.end_connecting(&self.loops)?;
        let mut begin = clock::now();
        if let (Some(time), Woken::Done) = (self.plan.start_at, woken) {
            begin = start_at(time)?;
            recorder.begin_waiting(begin.saturating_duration_since(clock::now()));
            // With churn there are no connections yet.
            woken = self.wait(Some(begin), recorder, |load| !load.plan.churn && load.loops.is_idle())?;
        }
        if woken != Woken::Done {
            return self.finish(woken, recorder);
        }
        let measured_time = self.measured_time_of(begin)?;
        self.measured_time = Some(measured_time);
        self.loops.begin_load(begin, measured_time);
        let woken = self.measure(measured_time, recorder)?;
        self.finish(woken, recorder)
    }

    /// What is measured of a load that begins at this time.
    fn measured_time_of(&self, begin: Instant) -> Result<MeasuredTime, Failure> {
        let Extent::Time { warmup, measured } = self.plan.extent else {
            return Ok(MeasuredTime::new(begin, None));
        };
        let from = begin.checked_add(warmup).ok_or_else(|| Failure::arguments("--warmup is too long"))?;
        Ok(MeasuredTime::new(from, Some(measured)))
    }

    /// Makes all connections before the load begins. With churn there is nothing to do: there, making connections is
    /// the load.
    fn connect(&mut self, recorder: &mut Recorder<'_>) -> Result<Woken, Failure> {
        if self.plan.churn {
            return Ok(Woken::Done);
        }
        let connections = self.plan.connections;
        recorder.begin_connecting(connections);
        let begin = clock::now();
        let mut schedule = self.plan.connect_rate.map(|rate| Schedule::new(rate, Some(connections)));
        for turn in 0..connections {
            if let Some(due) = schedule.as_mut().and_then(|schedule| schedule.take(Duration::MAX)) {
                let woken = self.wait(begin.checked_add(due), recorder, |_| false)?;
                if woken != Woken::Done {
                    return Ok(woken);
                }
            }
            self.loops.want_connection(turn);
        }
        // Every attempt ends, after the connect timeout at the latest.
        self.wait(None, recorder, |load| load.settled == load.loops.len())
    }

    /// Warms up and measures, until the time is over or the messages are sent.
    fn measure(
        &mut self,
        measured_time: MeasuredTime,
        recorder: &mut Recorder<'_>,
    ) -> Result<Woken, Failure> {
        if let Extent::Time { warmup, .. } = self.plan.extent {
            recorder.begin_warmup(warmup);
            let woken = self.wait(Some(measured_time.from()), recorder, |load| load.loops.is_idle())?;
            if woken != Woken::Done {
                return Ok(woken);
            }
        }
        recorder.begin_measuring(measured_time.from());
        self.cpu = clock::cpu_time();
        self.next_sample = measured_time.from() + self.interval;
        let counts_every_message = self.counts_every_message();
        self.wait(measured_time.until(), recorder, |load| {
            (counts_every_message && load.plan.is_open_loop() && load.loops.all_handed_out())
                || load.loops.is_idle()
        })
    }

    /// Ends the load: what was due is still sent and waited for, within limits, and every connection is ended in the
    /// documented way. What has taken too long is left to [`Loops::end`].
    fn finish(&mut self, mut woken: Woken, recorder: &mut Recorder<'_>) -> Result<Woken, Failure> {
        let now = clock::now();
        self.cpu = self.cpu.and_then(|begin| Some(clock::cpu_time()?.saturating_sub(begin)));
        let all_messages = self.counts_every_message() && woken == Woken::Done;
        let grace = self.grace(woken);
        let (catch_up, deadline) = if all_messages {
            // However long they take: a connection is given up when nothing comes for the timeout.
            (None, None)
        } else {
            self.end_measured_time();
            (now.checked_add(CATCH_UP_MAX.min(grace / 2)), now.checked_add(grace))
        };
        recorder.begin_finishing(
            self.measured_time.and_then(|measured_time| measured_time.length()).unwrap_or_default(),
        );
        if self.plan.is_open_loop() && woken != Woken::Aborted {
            let caught_up = self.wait(catch_up, recorder, Self::has_caught_up)?;
            woken = if caught_up == Woken::Done { woken } else { caught_up };
            self.loops.stop_pacing();
        }
        if woken == Woken::Aborted {
            return Ok(woken);
        }
        self.loops.stop_load(self.plan.is_open_loop() || all_messages);
        self.wait_for_answers(woken, deadline, recorder)
    }

    /// Waits until every connection has ended, or until the deadline, which Ctrl-C brings closer.
    fn wait_for_answers(
        &mut self,
        mut woken: Woken,
        mut deadline: Option<Instant>,
        recorder: &mut Recorder<'_>,
    ) -> Result<Woken, Failure> {
        loop {
            if woken == Woken::Interrupted {
                let soon = clock::now().checked_add(self.grace(woken));
                deadline = [deadline, soon].into_iter().flatten().min();
            }
            match self.wait(deadline, recorder, |load| load.loops.is_idle())? {
                Woken::Done if self.late >= STOPPED_MIN && !self.loops.is_idle() => {
                    deadline = clock::now().checked_add(self.late);
                }
                Woken::Done => return Ok(woken),
                Woken::Interrupted => woken = Woken::Interrupted,
                Woken::Aborted => return Ok(Woken::Aborted),
            }
        }
    }

    /// How long answers are waited for in all after an end of this kind.
    fn grace(&self, woken: Woken) -> Duration {
        match woken {
            Woken::Done => self.plan.timeout,
            Woken::Interrupted | Woken::Aborted => self.plan.timeout.min(INTERRUPTED_MAX),
        }
    }

    /// Ends the measured time now, unless it has ended before.
    fn end_measured_time(&mut self) {
        let now = self.loops.end_measured_time();
        if let Some(measured_time) = &mut self.measured_time {
            measured_time.end(now);
        }
    }

    /// Whether everything that was due is sent, or there is nobody to send it to.
    fn has_caught_up(&self) -> bool {
        (self.loops.all_handed_out() && self.loops.all_requested()) || self.loops.is_idle()
    }

    fn counts_every_message(&self) -> bool {
        matches!(self.plan.extent, Extent::Messages(_))
    }

    /// Waits until `done`, or until this time at the latest. Takes samples meanwhile.
    fn wait(
        &mut self,
        until: Option<Instant>,
        recorder: &mut Recorder<'_>,
        done: impl Fn(&Self) -> bool,
    ) -> Result<Woken, Failure> {
        loop {
            let now = clock::now();
            if done(self) || until.is_some_and(|until| until <= now) {
                return Ok(Woken::Done);
            }
            if self.next_sample <= now {
                self.loops.retry_connects()?;
                recorder.sample(&self.loops)?;
                self.next_sample = now + self.interval;
            }
            let wake = until.map_or(self.next_sample, |until| until.min(self.next_sample));
            let event = self.events.recv_timeout(wake.saturating_duration_since(now));
            self.late = clock::now().saturating_duration_since(wake);
            match event {
                Ok(LoadEvent::Interrupted) => return Ok(Woken::Interrupted),
                Ok(LoadEvent::Aborted) => return Ok(Woken::Aborted),
                Ok(LoadEvent::Settled) => self.settled += 1,
                Ok(LoadEvent::Idle) => self.loops.reassign_orphans(),
                Ok(LoadEvent::HandedOut) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("self.sender exists"),
            }
        }
    }
}

impl Generator for Load {
    fn interrupter(&self) -> impl Fn() + Send + 'static {
        teller(&self.sender, LoadEvent::Interrupted)
    }

    fn aborter(&self) -> impl Fn() + Send + 'static {
        let (tell, handles) = (teller(&self.sender, LoadEvent::Aborted), self.loops.handles());
        move || {
            handles.iter().for_each(Handle::abort);
            tell();
        }
    }

    fn run(mut self, log: Option<LatencyLog<'_>>) -> Result<Outcome, Failure> {
        let mut recorder = Recorder::new(&self.plan, log);
        let result = self.run_phases(&mut recorder);
        recorder.hide_progress();
        let interrupted = match result? {
            Woken::Done => false,
            Woken::Interrupted | Woken::Aborted => true,
        };
        // Now all is counted: what is still in flight is given up.
        self.loops.end()?;
        let (mut total, series) = recorder.finish(&self.loops)?;
        let elapsed = self.elapsed(&total);
        let limited_by = outcome::limit(&self.plan, &total, elapsed, self.cpu);
        latencies::merge(&mut total.latency, &total.unanswered);
        Ok(Outcome {
            elapsed,
            interrupted,
            connections: self.loops.connections(),
            ends: self.loops.ends(),
            tls: self.loops.handshakes(),
            datagrams: None,
            total,
            series,
            limited_by,
            plan: self.plan,
        })
    }
}

/// How long the intervals are in which a load is measured.
pub(super) fn interval(extent: Extent) -> Duration {
    match extent {
        Extent::Time { measured, .. } => (measured / INTERVALS).clamp(INTERVAL_MIN, INTERVAL_MAX),
        Extent::Messages(_) => INTERVAL_MIN,
    }
}

/// When this time of day will be.
pub(super) fn start_at(time: SystemTime) -> Result<Instant, Failure> {
    let now = clock::now();
    let wait = time.duration_since(clock::time_of_day()).map_err(|late| {
        let late = units::duration(late.duration());
        Failure::new(format!("cannot begin at --start-at: the connections were ready {late} too late"))
    })?;
    now.checked_add(wait).ok_or_else(|| Failure::arguments("--start-at is too far away"))
}
