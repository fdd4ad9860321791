//! The event loops of a load, each on a thread of its own with its worker.

use std::{
    net::TcpListener,
    sync::{Arc, mpsc::Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use echoloop::{Config, ConnectionId, Error, Handle, Origin, SendError, Server, Stats};

use super::{
    event::LoadEvent,
    instruction::Instruction,
    pacer::{self, PACER_LABEL, Pacer},
    pattern::Pattern,
    protocol::{LoadConnection, QUEUE_MAX_BYTES},
    role::Role,
    schedule::Schedule,
    timetable::Timetable,
    worker::{SharedWorker, Worker},
};
use crate::cli::{
    bench::{
        clock,
        measure::{
            ends::Ends, handshakes::Handshakes, measured_time::MeasuredTime, outcome::ConnectionCounts,
            samples::Source, tally::Tally,
        },
        plan::{Extent, Plan},
        rate::Rate,
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
    /// What the pacers of an open loop are connected to, one for each loop.
    pacer_peers: Vec<TcpListener>,
    threads: Vec<JoinHandle<Result<Stats, Error>>>,
}

impl Loops {
    /// Starts the loops. They have no connections yet.
    pub(super) fn start(plan: &Arc<Plan>, events: &Sender<LoadEvent>) -> Result<Self, Failure> {
        let plan = Arc::clone(plan);
        let mut loops = Self { plan, workers: Vec::new(), pacer_peers: Vec::new(), threads: Vec::new() };
        let pattern = Arc::new(Pattern::new(loops.plan.seed));
        for number in 0..loops.plan.threads {
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
        let server = Server::<Role>::builder().config(config).bind::<&str>([])?;
        let worker = SharedWorker::new(Worker::new(Arc::clone(&plan), server.handle(), events, number));
        if plan.is_open_loop() {
            let (listener, address) = pacer::listen().map_err(cannot_pace)?;
            server.handle().connect(address, PACER_LABEL).expect("a loop that does not run yet has room");
            self.pacer_peers.push(listener);
        }
        self.workers.push(worker.clone());
        let thread = thread::Builder::new().name(format!("bench-{number}")).spawn(move || {
            server.run(|peer| match peer.origin {
                Origin::Connect(PACER_LABEL) => Some(Role::Pacer(Pacer::new(worker.clone(), plan.churn))),
                Origin::Connect(label) => Some(Role::Load(LoadConnection::new(
                    Arc::clone(&plan),
                    Arc::clone(&pattern),
                    worker.clone(),
                    label,
                ))),
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

    /// Begins the load, whose schedule counts from `begin`.
    pub(super) fn begin_load(&self, begin: Instant, measured_time: MeasuredTime) {
        for (worker, number) in self.workers.iter().zip(0..) {
            let connections = worker.lock().begin_load(measured_time);
            match (self.plan.rate, self.plan.churn) {
                (Some(rate), _) => {
                    let share = self.schedule(rate).share(number, self.plan.threads);
                    let mut timetable = Timetable::new(share, begin, measured_time.from());
                    if let Some(until) = measured_time.until() {
                        timetable.end_at(until);
                    }
                    pace(worker, vec![timetable]);
                }
                (None, true) => self.begin_churn(worker, number),
                (None, false) => instruct(worker.handle(), &connections, Instruction::FillPipeline),
            }
        }
        self.reassign_orphans();
    }

    /// The messages of an open loop.
    fn schedule(&self, rate: Rate) -> Schedule {
        match self.plan.extent {
            Extent::Messages(messages) => Schedule::new(rate, Some(messages)),
            Extent::Time { .. } => Schedule::new(rate, None),
        }
    }

    /// Messages of workers that have lost all their connections go to one that has some.
    pub(super) fn reassign_orphans(&self) {
        let Some(heir) = self.workers.iter().find(|worker| worker.lock().can_hand_out()) else { return };
        for worker in &self.workers {
            let orphans = worker.lock().take_orphans();
            if !orphans.is_empty() {
                pace(heir, orphans);
            }
        }
    }

    /// Whether every message of an open loop was handed out.
    pub(super) fn all_handed_out(&self) -> bool {
        self.workers.iter().all(|worker| worker.lock().all_handed_out())
    }

    /// Hands out no more messages of an open loop. Those that were due are unanswered.
    pub(super) fn stop_pacing(&self) {
        let now = clock::now();
        self.workers.iter().for_each(|worker| worker.lock().stop_pacing(now));
    }

    /// Ends the measured time, unless it has ended before, for all loops at the time that it returns: what they have
    /// handed out until then was due before. It still counts, and in an open loop nothing is due any more.
    pub(super) fn end_measured_time(&self) -> Instant {
        let mut workers: Vec<_> = self.workers.iter().map(SharedWorker::lock).collect();
        let now = clock::now();
        workers.iter_mut().for_each(|worker| worker.end_measured_time(now));
        now
    }

    /// Whether every connection that was due was requested.
    pub(super) fn all_requested(&self) -> bool {
        self.workers.iter().all(|worker| worker.lock().all_requested())
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

    /// Ends the loops. Connections that still wait for an answer have waited long enough, and are aborted.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.workers.iter().for_each(|worker| worker.handle().abort());
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

    /// Of a load over TLS.
    pub(super) fn handshakes(&self) -> Option<Handshakes> {
        self.plan.tls.as_ref()?;
        let mut sum = Handshakes::default();
        self.workers.iter().for_each(|worker| sum += worker.lock().handshakes());
        Some(sum)
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
    config.handshake_timeout = Some(plan.timeout);
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

/// Gives the pacer of a worker messages to hand out.
fn pace(worker: &SharedWorker, timetables: Vec<Timetable>) {
    // A pacer that is not connected yet looks what is due when it is.
    let pacer = worker.lock().add_timetables(timetables);
    instruct(worker.handle(), pacer.as_slice(), Instruction::Pace);
}

fn cannot_pace(error: std::io::Error) -> Failure {
    Failure::new(format!("cannot listen on the loopback interface, which an open loop needs: {error}"))
}

fn cannot_start(error: std::io::Error) -> Failure {
    Failure::new(format!("cannot start a thread: {error}"))
}
