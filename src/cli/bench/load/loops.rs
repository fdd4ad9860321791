//! The event loops of a load, each on a thread of its own with its worker.

use std::{
    sync::{Arc, mpsc::Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use echoloop::{Config, ConnectionId, Error, Handle, Origin, SendError, Server, Stats};

use super::{
    event::LoadEvent,
    instruction::Instruction,
    pacer::{NotHandedOut, Pacer},
    pattern::Pattern,
    protocol::{LoadConnection, QUEUE_MAX_BYTES},
    schedule::Schedule,
    worker::{SharedWorker, Worker},
};
use crate::cli::{
    bench::{
        clock,
        measure::{
            ends::Ends, measured_time::MeasuredTime, outcome::ConnectionCounts, samples::Source, tally::Tally,
        },
        plan::{Extent, Plan},
    },
    failure::Failure,
};

/// How long to wait for a loop whose mailbox is full.
const MAILBOX_FULL_DELAY: Duration = Duration::from_millis(1);

/// The running event loops.
#[derive(Debug)]
pub(super) struct Loops {
    plan: Arc<Plan>,
    /// One for each loop.
    workers: Vec<SharedWorker>,
    threads: Vec<JoinHandle<Result<Stats, Error>>>,
}

impl Loops {
    /// Starts the loops. They have no connections yet.
    pub(super) fn start(plan: &Arc<Plan>, events: &Sender<LoadEvent>) -> Result<Self, Failure> {
        let mut loops = Self { plan: Arc::clone(plan), workers: Vec::new(), threads: Vec::new() };
        let pattern = Arc::new(Pattern::new(plan.seed));
        for number in 0..plan.threads {
            loops.start_one(number, &pattern, events.clone())?;
        }
        Ok(loops)
    }

    fn start_one(
        &mut self,
        number: u64,
        pattern: &Arc<Pattern>,
        events: Sender<LoadEvent>,
    ) -> Result<(), Failure> {
        let (plan, pattern) = (Arc::clone(&self.plan), Arc::clone(pattern));
        let config = config(&plan, plan.connections_of(number));
        let server = Server::<LoadConnection>::builder().config(config).bind::<&str>([])?;
        let worker = SharedWorker::new(Worker::new(Arc::clone(&plan), server.handle(), events, number));
        self.workers.push(worker.clone());
        let thread = thread::Builder::new().name(format!("bench-{number}")).spawn(move || {
            server.run(|peer| match peer.origin {
                Origin::Connect(label) => {
                    Some(LoadConnection::new(Arc::clone(&plan), Arc::clone(&pattern), worker.clone(), label))
                }
                Origin::Listener(_) | _ => None,
            })
        });
        self.threads.push(thread.map_err(cannot_start)?);
        Ok(())
    }

    /// Handles that can abort the loops.
    pub(super) fn handles(&self) -> Vec<Handle<Instruction>> {
        self.workers.iter().map(|worker| worker.handle().clone()).collect()
    }

    pub(super) const fn len(&self) -> usize {
        self.workers.len()
    }

    /// Makes another connection. The loops take turns.
    pub(super) fn want_connection(&self, turn: u64) {
        let index = turn % self.workers.len() as u64;
        let index = usize::try_from(index).unwrap_or(0);
        self.workers[index].lock().want_connection(clock::now());
    }

    /// Begins the load, whose schedule counts from `begin`. An open loop has a pacer from now on.
    pub(super) fn begin_load(
        &self,
        begin: Instant,
        measured_time: MeasuredTime,
        events: &Sender<LoadEvent>,
    ) -> Result<Option<Pacer>, Failure> {
        for (worker, number) in self.workers.iter().zip(0..) {
            let connections = worker.lock().begin_load(measured_time);
            match (self.plan.is_open_loop(), self.plan.churn) {
                (true, _) => {}
                (false, true) => self.begin_churn(worker, number),
                (false, false) => instruct(worker.handle(), &connections, Instruction::FillPipeline),
            }
        }
        let Some(rate) = self.plan.rate else { return Ok(None) };
        let limit = match self.plan.extent {
            Extent::Messages(messages) => Some(messages),
            Extent::Time { .. } => None,
        };
        let mut schedule = Schedule::new(rate, limit);
        if let Some(until) = measured_time.until() {
            schedule.end_at(until.saturating_duration_since(begin));
        }
        let workers = self.workers.clone();
        let pacer = Pacer::start(schedule, begin, measured_time, self.plan.churn, workers, events.clone());
        pacer.map(Some).map_err(cannot_start)
    }

    /// Ends the measured time now, unless it has ended before. What was due within it still counts.
    pub(super) fn end_measured_time(&self, now: Instant) {
        self.workers.iter().for_each(|worker| worker.lock().end_measured_time(now));
    }

    /// Whether every connection that was due was requested.
    pub(super) fn all_requested(&self) -> bool {
        self.workers.iter().all(|worker| worker.lock().all_requested())
    }

    /// Counts messages that were due and never handed to a worker.
    pub(super) fn count_not_handed_out(&self, groups: &[NotHandedOut]) {
        let now = clock::now();
        let mut worker = self.workers[0].lock();
        groups.iter().for_each(|group| worker.gave_up(group.due, group.count, now));
    }

    /// The first connections of a closed loop. When one of them ends, another follows.
    fn begin_churn(&self, worker: &SharedWorker, number: u64) {
        let mut worker = worker.lock();
        for _ in 0..self.plan.connections_of(number) {
            if worker.claim_message() {
                worker.want_connection(clock::now());
            }
        }
    }

    /// Begins no more messages, and ends each connection when its messages are back. With `send_due`, messages that are
    /// due already are still sent.
    pub(super) fn stop_load(&self, send_due: bool) {
        for worker in &self.workers {
            let connections = worker.lock().stop_load();
            instruct(worker.handle(), &connections, Instruction::Stop { send_due });
        }
    }

    /// Whether no worker has anything left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.workers.iter().all(|worker| worker.lock().is_idle())
    }

    /// Requests the connections again that found a mailbox full. Fails if a loop has ended.
    pub(super) fn retry_connects(&mut self) -> Result<(), Failure> {
        if self.threads.iter().any(JoinHandle::is_finished) {
            // Nobody has told them to end, so there is an error.
            self.workers.iter().for_each(|worker| worker.handle().abort());
            return self.join();
        }
        self.workers.iter().for_each(|worker| worker.lock().request_connections());
        Ok(())
    }

    /// Ends the loops. One whose connections still wait for an answer has waited long enough, and is aborted.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        for worker in &self.workers {
            if worker.lock().is_idle() {
                worker.handle().drain();
            } else {
                worker.handle().abort();
            }
        }
        self.join()
    }

    fn join(&mut self) -> Result<(), Failure> {
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    }

    pub(super) fn connections(&self) -> ConnectionCounts {
        let mut sum = ConnectionCounts::default();
        for worker in &self.workers {
            let counts = worker.lock().connections();
            sum.made += counts.made;
            sum.open_max += counts.open_max;
        }
        sum
    }

    pub(super) fn ends(&self) -> Ends {
        let mut sum = Ends::default();
        self.workers.iter().for_each(|worker| sum += worker.lock().ends());
        sum
    }
}

impl Source for Loops {
    fn connections_made(&self) -> u64 {
        self.connections().made
    }

    fn collect(&self, sum: &mut Tally, spare: &mut Tally) {
        for worker in &self.workers {
            worker.lock().swap_tally(spare);
            sum.add(spare);
            spare.clear();
        }
    }
}

/// The limits of a loop that makes this many connections.
fn config(plan: &Plan, connections: usize) -> Config {
    let mut config = Config::default();
    config.keep_running = true;
    // While the next connections are made, some that have ended still wait for their slots to be freed.
    config.max_connections = Some(connections * 2 + 64);
    config.mailbox_capacity = (connections + 1024).min(1 << 20);
    // The loop stops reading above this, and the server may need it to read. So it must never be reached.
    config.set_high_water(QUEUE_MAX_BYTES * 4);
    config.connect_timeout = Some(plan.timeout);
    config.write_timeout = Some(plan.timeout);
    config.idle_timeout = Some(plan.timeout);
    config
}

/// Instructs connections, and waits while the mailbox of their loop is full.
fn instruct(handle: &Handle<Instruction>, connections: &[ConnectionId], instruction: Instruction) {
    for &id in connections {
        while let Err(SendError::Full(_)) = handle.send(id, instruction) {
            thread::park_timeout(MAILBOX_FULL_DELAY);
        }
    }
}

fn cannot_start(error: std::io::Error) -> Failure {
    Failure::new(format!("cannot start a thread: {error}"))
}
