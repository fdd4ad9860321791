//! What the connections of one loop share: what is to be done, and what was measured.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Sender},
    time::Instant,
};

use echoloop::{ConnectionId, Handle, SendError};

use super::{
    clock,
    ends::{End, Ends},
    plan::Plan,
    tally::{Start, Tally},
};

/// Attempts to connect that may be under way at once: as many as most servers' backlogs hold.
const ATTEMPTS_MAX: usize = 128;

/// The lower bits of a label count the connections of a worker; the others are its number.
const LABEL_BITS: u32 = 40;

/// What a connection is told to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Closed loop: fill the pipeline.
    Begin,
    /// Open loop: send a message, which was due then.
    Send(Instant),
    /// Begin no more messages, and end when all are back. Those that are due and not sent yet are still sent, or
    /// not.
    Stop { keep: bool },
}

/// What the one who runs the load is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// All connections of a loop are made, or have failed.
    Settled,
    /// A loop has nothing to do any more.
    Idle,
    /// Every message of an open loop was handed out.
    HandedOut,
    /// The first Ctrl-C.
    Interrupted,
    /// The second.
    Aborted,
}

/// How far the load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Running,
    Stopping,
}

/// A worker as its loop, the pacer and the one who runs the load see it. Whoever holds it does so for a moment.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Worker>>);

impl Shared {
    pub(super) fn new(worker: Worker) -> Self {
        Self(Arc::new(Mutex::new(worker)))
    }

    /// A panic elsewhere costs the connection where it was, and no figures.
    pub(super) fn lock(&self) -> MutexGuard<'_, Worker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the connections of one loop share.
#[derive(Debug)]
pub(super) struct Worker {
    plan: Arc<Plan>,
    handle: Handle<Order>,
    events: Sender<Event>,
    /// Its place among the workers, for the labels of its connections.
    number: u64,
    stage: Stage,
    /// Messages that may still begin; `None` is without end.
    budget: Option<u64>,
    /// Connections open or being made at once, at most.
    capacity: usize,
    /// For each connection that is wanted, when it was.
    wanted: VecDeque<Instant>,
    /// For each connection that was asked of the loop and not begun, when it was wanted and when asked for.
    asked: VecDeque<Start>,
    /// Connections asked for so far.
    labels: u64,
    /// Connections asked for and not made yet.
    attempts: usize,
    /// Connections made and not ended.
    open: usize,
    open_max: usize,
    made: u64,
    /// First attempts that have not come to an end.
    unsettled: usize,
    /// By label, the connections that orders can be sent to.
    ids: Vec<Option<ConnectionId>>,
    /// The one whose turn it is to send a message.
    turn: usize,
    tally: Tally,
    ends: Ends,
}

impl Worker {
    /// The worker of this number, with its shares of the connections and of the messages.
    pub(super) fn new(plan: Arc<Plan>, handle: Handle<Order>, events: Sender<Event>, number: u64) -> Self {
        let capacity = plan.connections_of(number);
        Self {
            handle,
            events,
            number,
            stage: Stage::Connecting,
            budget: plan.messages_of(number),
            capacity,
            wanted: VecDeque::new(),
            asked: VecDeque::new(),
            labels: 0,
            attempts: 0,
            open: 0,
            open_max: 0,
            made: 0,
            unsettled: capacity,
            ids: Vec::new(),
            turn: 0,
            tally: Tally::new(plan.is_paced()),
            ends: Ends::default(),
            plan,
        }
    }

    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) const fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Begins the load, and says whom to tell.
    pub(super) fn run(&mut self) -> Vec<ConnectionId> {
        self.stage = Stage::Running;
        self.ids.iter().flatten().copied().collect()
    }

    /// Begins no more messages, and says whom to tell. `keep`: connections that are due already are still made.
    pub(super) fn stop(&mut self, keep: bool) -> Vec<ConnectionId> {
        self.stage = Stage::Stopping;
        if !keep {
            self.wanted.clear();
        }
        self.ids.iter().flatten().copied().collect()
    }

    /// Takes a message out of the budget. False if no more may begin.
    pub(super) fn claim(&mut self) -> bool {
        match (self.stage, &mut self.budget) {
            (Stage::Stopping, _) | (_, Some(0)) => false,
            (Stage::Connecting | Stage::Running, None) => true,
            (Stage::Connecting | Stage::Running, Some(left)) => {
                *left -= 1;
                true
            }
        }
    }

    /// Makes another connection, as soon as there is a place for it; it was due then.
    pub(super) fn want(&mut self, due: Instant) {
        self.wanted.push_back(due);
        self.dial();
    }

    /// Asks the loop for the connections that are wanted, as far as there are places.
    pub(super) fn dial(&mut self) {
        while self.attempts < ATTEMPTS_MAX && self.live() < self.capacity {
            let Some(&due) = self.wanted.front() else { return };
            let label = (self.number << LABEL_BITS) | self.labels;
            match self.handle.connect(self.plan.address.clone(), label) {
                Ok(()) => {}
                // The next one that ends, or the next look at the figures, tries again.
                Err(SendError::Full(_)) => return,
                Err(_) => {
                    self.wanted.clear();
                    return;
                }
            }
            self.wanted.pop_front();
            self.asked.push_back(Start { due, sent: clock::now() });
            self.labels += 1;
            self.attempts += 1;
        }
    }

    /// The loop begins the connection that was asked for first: when was it wanted, and when asked for?
    pub(super) fn begun(&mut self) -> Start {
        self.asked.pop_front().unwrap_or_else(|| Start::at(clock::now()))
    }

    /// A connection is made.
    pub(super) fn opened(&mut self, id: ConnectionId, label: u64, asked: Instant, now: Instant) {
        self.tally.record_connect(now.saturating_duration_since(asked));
        self.attempts -= 1;
        self.open += 1;
        self.made += 1;
        self.open_max = self.open_max.max(self.open);
        if !self.plan.churn {
            let place = self.place(label);
            if place >= self.ids.len() {
                self.ids.resize(place + 1, None);
            }
            self.ids[place] = Some(id);
        }
        self.settled();
        self.dial();
    }

    /// A connection has ended, or could not be made.
    pub(super) fn closed(&mut self, label: u64, was_open: bool, end: End) {
        self.ends.count(end);
        if was_open {
            self.open -= 1;
            let place = self.place(label);
            if let Some(id) = self.ids.get_mut(place) {
                *id = None;
            }
        } else {
            self.attempts -= 1;
            self.settled();
        }
        self.follow(was_open);
        if self.is_idle() {
            self.tell(Event::Idle);
        }
    }

    /// In a closed loop of connections the next one follows.
    fn follow(&mut self, was_open: bool) {
        let follows = self.plan.churn && self.plan.rate.is_none() && (was_open || self.made > 0);
        if follows && self.stage == Stage::Running && self.claim() {
            self.wanted.push_back(clock::now());
        }
        // After a failure not at once: that would be a loop without a pause.
        if was_open {
            self.dial();
        }
    }

    fn settled(&mut self) {
        if self.unsettled > 0 {
            self.unsettled -= 1;
            if self.unsettled == 0 {
                self.tell(Event::Settled);
            }
        }
    }

    /// Whether there is nothing that could still bring a message.
    pub(super) fn is_idle(&self) -> bool {
        // A server that nobody has reached is not waited for.
        let may_answer = self.made > 0 || self.ends.failures.total() == 0;
        let more_to_come = self.plan.churn && self.plan.rate.is_some() && may_answer;
        self.live() == 0 && self.wanted.is_empty() && (self.stage == Stage::Stopping || !more_to_come)
    }

    const fn live(&self) -> usize {
        self.attempts + self.open
    }

    /// The connection whose turn it is to send a message; `None` if none is open.
    pub(super) fn next_in_turn(&mut self) -> Option<ConnectionId> {
        for _ in 0..self.ids.len() {
            self.turn = (self.turn + 1) % self.ids.len();
            if let Some(id) = self.ids[self.turn] {
                return Some(id);
            }
        }
        None
    }

    /// Gives away what was measured, for an empty tally.
    pub(super) fn take(&mut self, empty: Tally) -> Tally {
        mem::replace(&mut self.tally, empty)
    }

    pub(super) const fn ends(&self) -> &Ends {
        &self.ends
    }

    /// How many connections were made, and how many were open at once.
    pub(super) const fn connections(&self) -> (u64, usize) {
        (self.made, self.open_max)
    }

    fn place(&self, label: u64) -> usize {
        usize::try_from(label & ((1 << LABEL_BITS) - 1)).unwrap_or(usize::MAX)
    }

    /// Nobody listens when the program is about to end.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::ErrorKind,
        sync::mpsc::{Receiver, channel},
    };

    use clap::Parser;
    use echoloop::{Echo, Server};

    use super::{
        super::{args::BenchArgs, connection::Connection},
        *,
    };

    /// A worker, what it tells, and its loop, which never takes what it is asked for.
    fn worker(args: &[&str]) -> (Worker, Receiver<Event>, Server<Connection>) {
        let args = BenchArgs::parse_from([&["bench", "127.0.0.1:7"], args].concat());
        let plan = Arc::new(Plan::new(&args, "127.0.0.1:7".parse().unwrap()));
        let server = Server::<Connection>::builder().bind::<&str>([]).unwrap();
        let (sender, events) = channel();
        (Worker::new(plan, server.handle(), sender, 0), events, server)
    }

    /// Makes the connection that was asked for first.
    fn open(worker: &mut Worker, label: u64) {
        // Of another loop: any name will do.
        let stranger = Server::<Echo>::builder().bind(["127.0.0.1:0"]).unwrap();
        let client = std::net::TcpStream::connect(stranger.local_addrs()[0].to_string()).unwrap();
        let (tell, told) = channel();
        stranger.handle().drain();
        stranger
            .run(move |peer| {
                tell.send(peer.id).unwrap();
                None
            })
            .unwrap();
        drop(client);
        let start = worker.begun();
        worker.opened(told.recv().unwrap(), label, start.sent, clock::now());
    }

    #[test]
    fn connections_are_asked_for_as_far_as_there_are_places() {
        let (mut worker, _events, _server) = worker(&["--connections", "2", "--churn", "--rate", "1"]);
        worker.run();
        (0..3).for_each(|_| worker.want(clock::now()));
        assert_eq!((worker.attempts, worker.wanted.len()), (2, 1));
        open(&mut worker, 0);
        assert_eq!((worker.attempts, worker.wanted.len()), (1, 1));
        worker.closed(0, true, End::Fin);
        assert_eq!((worker.attempts, worker.wanted.len()), (2, 0));
    }

    #[test]
    fn a_budget_is_spent_once() {
        let (mut worker, _events, _server) = worker(&["--requests", "2", "--connections", "1"]);
        worker.run();
        assert_eq!([worker.claim(), worker.claim(), worker.claim()], [true, true, false]);
    }

    #[test]
    fn no_message_begins_when_the_load_is_over() {
        let (mut worker, _events, _server) = worker(&["--connections", "1"]);
        worker.run();
        assert!(worker.claim());
        worker.stop(false);
        assert!(!worker.claim());
    }

    #[test]
    fn a_worker_is_idle_when_its_last_connection_has_ended() {
        let (mut worker, events, _server) = worker(&["--connections", "2"]);
        (0..2).for_each(|_| worker.want(clock::now()));
        open(&mut worker, 0);
        worker.begun();
        worker.closed(1, false, End::Refused);
        assert_eq!(events.try_recv(), Ok(Event::Settled));
        assert!(!worker.is_idle());
        worker.run();
        worker.closed(0, true, End::Reset);
        assert!(worker.is_idle());
        assert_eq!(events.try_recv(), Ok(Event::Idle));
        assert_eq!(worker.ends().first_connect_error, Some(ErrorKind::ConnectionRefused));
    }

    #[test]
    fn a_server_that_refuses_everyone_is_not_called_without_end() {
        let (mut worker, _events, _server) = worker(&["--connections", "1", "--churn"]);
        worker.run();
        worker.want(clock::now());
        worker.begun();
        worker.closed(0, false, End::Refused);
        assert!(worker.is_idle());
    }

    #[test]
    fn messages_go_to_open_connections_in_turn() {
        let (mut worker, _events, _server) = worker(&["--connections", "3", "--rate", "1"]);
        assert_eq!(worker.next_in_turn(), None);
        (0..3).for_each(|_| worker.want(clock::now()));
        (0..3).for_each(|label| open(&mut worker, label));
        let first = worker.ids[0];
        let mut turns = || worker.next_in_turn();
        let three = [turns(), turns(), turns()];
        assert!(three.contains(&first) && turns() == three[0]);
        worker.closed(1, true, End::Reset);
        assert_eq!(worker.ids[1], None);
        assert!((0..4).all(|_| worker.next_in_turn().is_some()));
    }
}
