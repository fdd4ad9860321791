//! The loops of a load, each on a thread with its worker, and what is said to all of them.

use std::{
    sync::{Arc, mpsc::Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use echoloop::{ConnectionId, Error, Handle, Origin, SendError, Server, Stats};

use super::{
    args::Extent,
    clock,
    connection::Connection,
    ends::Ends,
    pace::Schedule,
    pacer::{Pacer, Target},
    plan::Plan,
    worker::{Event, Order, Shared, Worker},
};
use crate::cli::failure::Failure;

/// How long a loop whose mailbox is full gets to take some of it.
const FULL_DELAY: Duration = Duration::from_millis(1);

/// Loops that run.
#[derive(Debug)]
pub(crate) struct Crew {
    plan: Arc<Plan>,
    targets: Vec<Target>,
    threads: Vec<JoinHandle<Result<Stats, Error>>>,
}

/// How many connections were made, and open at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(crate) made: u64,
    pub(crate) open_max: u64,
}

impl Crew {
    /// Starts the loops, which wait for orders.
    pub(crate) fn start(plan: &Arc<Plan>, events: &Sender<Event>) -> Result<Self, Failure> {
        let mut crew = Self { plan: Arc::clone(plan), targets: Vec::new(), threads: Vec::new() };
        for number in 0..plan.threads {
            crew.start_one(number, events.clone())?;
        }
        Ok(crew)
    }

    fn start_one(&mut self, number: u64, events: Sender<Event>) -> Result<(), Failure> {
        let plan = Arc::clone(&self.plan);
        let config = plan.config(plan.connections_of(number));
        let server = Server::<Connection>::builder().config(config).bind::<&str>([])?;
        let handle = server.handle();
        let worker = Shared::new(Worker::new(Arc::clone(&plan), handle.clone(), events, number));
        self.targets.push(Target { worker: worker.clone(), handle });
        let thread = thread::Builder::new().name(format!("bench-{number}")).spawn(move || {
            server.run(|peer| match peer.origin {
                Origin::Connect(label) => Some(Connection::new(Arc::clone(&plan), worker.clone(), label)),
                Origin::Listener(_) | _ => None,
            })
        });
        self.threads.push(thread.map_err(cannot_start)?);
        Ok(())
    }

    /// Who can end the loops at once.
    pub(crate) fn handles(&self) -> Vec<Handle<Order>> {
        self.targets.iter().map(|target| target.handle.clone()).collect()
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &Shared> {
        self.targets.iter().map(|target| &target.worker)
    }

    pub(crate) const fn len(&self) -> usize {
        self.targets.len()
    }

    /// Makes another connection, on the loop whose turn it is.
    pub(crate) fn want(&self, turn: u64) {
        let place = turn % self.targets.len() as u64;
        let place = usize::try_from(place).unwrap_or(0);
        self.targets[place].worker.lock().want(clock::now());
    }

    /// Begins the load. An open loop has a pacer from now on.
    pub(crate) fn begin(&self, events: &Sender<Event>) -> Result<Option<Pacer>, Failure> {
        for (target, number) in self.targets.iter().zip(0..) {
            let connections = target.worker.lock().run();
            match (self.plan.is_paced(), self.plan.churn) {
                (true, _) => {}
                (false, true) => self.begin_churn(&target.worker, number),
                (false, false) => tell(target, &connections, Order::Begin),
            }
        }
        let Some(rate) = self.plan.rate else { return Ok(None) };
        let limit = match self.plan.extent {
            Extent::Messages(messages) => Some(messages),
            Extent::Time { .. } => None,
        };
        let schedule = Schedule::new(rate, limit);
        let pacer = Pacer::start(schedule, self.plan.churn, self.targets.clone(), events.clone());
        pacer.map(Some).map_err(cannot_start)
    }

    /// The first connections of a closed loop; each that ends has a successor.
    fn begin_churn(&self, worker: &Shared, number: u64) {
        let mut worker = worker.lock();
        for _ in 0..self.plan.connections_of(number) {
            if worker.claim() {
                worker.want(clock::now());
            }
        }
    }

    /// Begins no more messages, and ends each connection when its own are back. `keep`: what is due already is
    /// still sent, or connected.
    pub(crate) fn stop(&self, keep: bool) {
        for target in &self.targets {
            let connections = target.worker.lock().stop(keep);
            tell(target, &connections, Order::Stop { keep });
        }
    }

    /// Whether nothing can come from any worker any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.workers().all(|worker| worker.lock().is_idle())
    }

    /// Tries again what found no place in a mailbox, and sees to it that all loops run.
    pub(crate) fn look_after(&mut self) -> Result<(), Failure> {
        if self.threads.iter().any(JoinHandle::is_finished) {
            // Only an error ends a loop before it is told to.
            self.targets.iter().for_each(|target| target.handle.abort());
            return self.join();
        }
        self.workers().for_each(|worker| worker.lock().dial());
        Ok(())
    }

    /// Ends the loops. Those that still wait for an answer have waited long enough.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        for target in &self.targets {
            if target.worker.lock().is_idle() {
                target.handle.drain();
            } else {
                target.handle.abort();
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

    pub(crate) fn connections(&self) -> Connections {
        let mut sum = Connections::default();
        for worker in self.workers() {
            let (made, open_max) = worker.lock().connections();
            sum.made += made;
            sum.open_max += open_max as u64;
        }
        sum
    }

    pub(crate) fn ends(&self) -> Ends {
        let mut sum = Ends::default();
        self.workers().for_each(|worker| sum += worker.lock().ends());
        sum
    }
}

/// Tells connections what to do, however long the loop takes to hear it.
fn tell(target: &Target, connections: &[ConnectionId], order: Order) {
    for &id in connections {
        while let Err(SendError::Full(_)) = target.handle.send(id, order) {
            thread::park_timeout(FULL_DELAY);
        }
    }
}

fn cannot_start(error: std::io::Error) -> Failure {
    Failure::new(format!("cannot start a thread: {error}"))
}
