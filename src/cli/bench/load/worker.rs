//! What the connections of one event loop share: what is to be done, and what was measured.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Sender},
    time::Instant,
};

use echoloop::{Address, ConnectionId, Handle, SendError, TlsInfo};

use super::{event::LoadEvent, instruction::Instruction, rotation::Rotation, timetable::Timetable};
use crate::cli::bench::{
    clock,
    measure::{
        ends::{End, Ends},
        handshakes::Handshakes,
        measured_time::MeasuredTime,
        outcome::ConnectionCounts,
        tally::{Start, Tally},
    },
    plan::Plan,
};

/// The most connects that may be in progress at once. Most servers' backlogs hold this many.
const CONNECTING_MAX: usize = 128;

/// The lower bits of a label number the connections of a worker; the upper bits are the number of the worker.
const LABEL_BITS: u32 = 40;

/// How far the load is, as a worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerStage {
    Connecting,
    Running,
    Stopping,
}

/// A worker, shared by its event loop and the thread that runs the load. Each locks it for a moment only.
#[derive(Clone, Debug)]
pub(super) struct SharedWorker {
    worker: Arc<Mutex<Worker>>,
    handle: Handle<Instruction>,
}

impl SharedWorker {
    pub(super) fn new(worker: Worker) -> Self {
        let handle = worker.handle.clone();
        Self { worker: Arc::new(Mutex::new(worker)), handle }
    }

    /// A panic while it was locked costs the connection that panicked, and no figures.
    pub(super) fn lock(&self) -> MutexGuard<'_, Worker> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker's event loop.
    pub(super) const fn handle(&self) -> &Handle<Instruction> {
        &self.handle
    }
}

/// What the connections of one event loop share.
#[derive(Debug)]
pub(super) struct Worker {
    plan: Arc<Plan>,
    /// Its event loop.
    handle: Handle<Instruction>,
    events: Sender<LoadEvent>,
    /// Its number among the workers, for the labels of its connections.
    number: u64,
    stage: WorkerStage,
    /// What is measured; `None` before the load begins.
    measured_time: Option<MeasuredTime>,
    /// How many messages may still begin; `None` is without end.
    budget: Option<u64>,
    /// The most connections that may be open or connecting at once.
    capacity: usize,
    /// For each connection that is wanted and not requested yet, when it was due.
    wanted: VecDeque<Instant>,
    /// For each connection that the loop was requested to make and has not begun, when it was due and requested.
    requested: VecDeque<Start>,
    /// How many connections were requested so far.
    labels: u64,
    /// Connections requested and not established yet.
    connecting: usize,
    /// Connections established and not ended.
    open: usize,
    open_max: usize,
    made: u64,
    /// How many of the first connections are neither established nor failed.
    unsettled: usize,
    /// The open connections that instructions can be sent to.
    ids: Rotation<ConnectionId>,
    /// Open loop: the connection of the pacer, and when the messages are due that it is to hand out.
    pacer: Option<ConnectionId>,
    timetables: Vec<Timetable>,
    tally: Tally,
    ends: Ends,
    handshakes: Handshakes,
}

impl Worker {
    /// The worker of this number, with its share of the connections and of the messages.
    pub(super) fn new(
        plan: Arc<Plan>,
        handle: Handle<Instruction>,
        events: Sender<LoadEvent>,
        number: u64,
    ) -> Self {
        let capacity = plan.connections_of(number);
        Self {
            handle,
            events,
            number,
            stage: WorkerStage::Connecting,
            measured_time: None,
            budget: plan.messages_of(number),
            capacity,
            wanted: VecDeque::new(),
            requested: VecDeque::new(),
            labels: 0,
            connecting: 0,
            open: 0,
            open_max: 0,
            made: 0,
            unsettled: capacity,
            ids: Rotation::new(),
            pacer: None,
            timetables: Vec::new(),
            tally: Tally::new(plan.is_open_loop()),
            ends: Ends::default(),
            handshakes: Handshakes::default(),
            plan,
        }
    }

    pub(super) const fn stage(&self) -> WorkerStage {
        self.stage
    }

    /// Begins the load. Returns the connections that are to be instructed.
    pub(super) fn begin_load(&mut self, measured_time: MeasuredTime) -> Vec<ConnectionId> {
        self.stage = WorkerStage::Running;
        self.measured_time = Some(measured_time);
        self.ids.values().collect()
    }

    /// The pacer can be instructed from now on.
    pub(super) const fn pacer_opened(&mut self, id: ConnectionId) {
        self.pacer = Some(id);
    }

    /// Gives the pacer messages to hand out when they are due. Returns whom to instruct.
    pub(super) fn add_timetables(&mut self, timetables: Vec<Timetable>) -> Option<ConnectionId> {
        self.timetables.extend(timetables);
        self.pacer
    }

    /// Takes messages away that it has no connections for. With churn it makes connections.
    pub(super) fn take_orphans(&mut self) -> Vec<Timetable> {
        if self.can_hand_out() { Vec::new() } else { mem::take(&mut self.timetables) }
    }

    /// Whether messages that are due can be handed out.
    pub(super) fn can_hand_out(&self) -> bool {
        self.plan.churn || self.open > 0
    }

    /// Takes the next message if it is due and can be handed out. Returns when it was due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Instant> {
        if !self.can_hand_out() {
            return None;
        }
        let next = self.timetables.iter_mut().filter(|timetable| timetable.next().is_some());
        next.min_by_key(|timetable| timetable.next())?.take(now)
    }

    /// When the next message is due; `None` if there is none, or nobody to hand it to.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timetables.iter().filter_map(Timetable::next).min().filter(|_| self.can_hand_out())
    }

    /// Whether every message was handed out.
    pub(super) fn all_handed_out(&self) -> bool {
        self.timetables.iter().all(|timetable| timetable.next().is_none())
    }

    /// There is nothing to hand out any more. Notifies of it once.
    pub(super) fn note_handed_out(&mut self) {
        if !self.timetables.is_empty() && self.all_handed_out() {
            self.timetables.clear();
            self.notify(LoadEvent::HandedOut);
        }
    }

    /// Hands out nothing more. What was due and not handed out is unanswered.
    pub(super) fn stop_pacing(&mut self, now: Instant) {
        for group in mem::take(&mut self.timetables).into_iter().flat_map(Timetable::left) {
            self.gave_up(group.due, group.count, now);
        }
    }

    /// Ends the measured time now, unless it has ended before. What was due within it still counts, and in an open loop
    /// nothing is due any more.
    pub(super) fn end_measured_time(&mut self, now: Instant) {
        if let Some(measured_time) = &mut self.measured_time {
            measured_time.end(now);
        }
        self.timetables.iter_mut().for_each(|timetable| timetable.end_at(now));
    }

    /// Begins no more messages, and requests no more connections. Returns the connections that are to be instructed.
    pub(super) fn stop_load(&mut self) -> Vec<ConnectionId> {
        self.stage = WorkerStage::Stopping;
        let wanted = mem::take(&mut self.wanted);
        // In a closed loop nothing is due before there is room for it.
        if self.plan.is_open_loop() {
            let now = clock::now();
            wanted.into_iter().for_each(|due| self.gave_up(due, 1, now));
        }
        self.ids.values().collect()
    }

    /// Whether every wanted connection was requested.
    pub(super) fn all_requested(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Bytes have come back.
    pub(super) fn received(&mut self, bytes: usize, now: Instant) {
        if self.measured_time.is_some_and(|measured_time| measured_time.contains(now)) {
            self.tally.bytes += bytes as u64;
        }
    }

    /// A message has come back.
    pub(super) fn answered(&mut self, start: Start, now: Instant) {
        let Some(measured_time) = self.measured_time else { return };
        if measured_time.contains(now) {
            self.tally.returned += 1;
        }
        if measured_time.contains(start.due) {
            self.tally.record(start, now);
        }
    }

    /// Messages that were due at about this time will not come back.
    pub(super) fn gave_up(&mut self, due: Instant, count: u64, now: Instant) {
        if self.measured_time.is_some_and(|measured_time| measured_time.contains(due)) {
            self.tally.record_unanswered(due, count, now);
        }
    }

    /// Takes a message out of the budget. False if no more may begin.
    pub(super) const fn claim_message(&mut self) -> bool {
        match (self.stage, &mut self.budget) {
            (WorkerStage::Stopping, _) | (_, Some(0)) => false,
            (WorkerStage::Connecting | WorkerStage::Running, None) => true,
            (WorkerStage::Connecting | WorkerStage::Running, Some(left)) => {
                *left -= 1;
                true
            }
        }
    }

    /// Makes another connection as soon as there is room for it. It was due at this time.
    pub(super) fn want_connection(&mut self, due: Instant) {
        if self.measured_time.is_some_and(|measured_time| measured_time.contains(due)) {
            self.tally.wanted_late += clock::now().saturating_duration_since(due);
        }
        self.wanted.push_back(due);
        self.request_connections();
    }

    /// Requests the wanted connections from the loop, as far as there is room.
    pub(super) fn request_connections(&mut self) {
        self.forget_warmup();
        while self.connecting < CONNECTING_MAX && self.live() < self.capacity {
            let Some(&due) = self.wanted.front() else { return };
            let label = (self.number << LABEL_BITS) | self.labels;
            match self.request_connection(label) {
                Ok(()) => {}
                // Tried again when a connection ends, or when the next sample is taken.
                Err(SendError::Full(_)) => return,
                Err(_) => {
                    self.wanted.clear();
                    return;
                }
            }
            self.wanted.pop_front();
            self.requested.push_back(Start { due, sent: clock::now() });
            self.labels += 1;
            self.connecting += 1;
        }
    }

    fn request_connection(&self, label: u64) -> Result<(), SendError<Address>> {
        let Plan { address, tls, .. } = &*self.plan;
        match tls {
            Some(tls) => self.handle.connect_tls(address.clone(), label, tls.clone()),
            None => self.handle.connect(address.clone(), label),
        }
    }

    /// Forgets the connections that were due in the warm-up and are late for the measured time, which is to have the
    /// load that was asked for, and not what is left of another.
    fn forget_warmup(&mut self) {
        let Some(from) =
            self.measured_time.map(|measured_time| measured_time.from()).filter(|_| !self.wanted.is_empty())
        else {
            return;
        };
        if self.plan.is_open_loop() && from <= clock::now() {
            let late = self.wanted.partition_point(|&due| due < from);
            self.wanted.drain(..late);
        }
    }

    /// The loop begins the connection that was requested first. Returns when it was due and requested.
    pub(super) fn connect_started(&mut self) -> Start {
        self.requested.pop_front().unwrap_or_else(|| Start::at(clock::now()))
    }

    /// A connection is established.
    pub(super) fn opened(&mut self, id: ConnectionId, label: u64, requested: Start, now: Instant) {
        // With churn making connections is part of the load; otherwise they are made before it.
        if !self.plan.churn
            || self.measured_time.is_some_and(|measured_time| measured_time.contains(requested.due))
        {
            self.tally.record_connect(now.saturating_duration_since(requested.sent));
        }
        self.connecting -= 1;
        self.open += 1;
        self.made += 1;
        self.open_max = self.open_max.max(self.open);
        if !self.plan.churn {
            self.ids.insert(place_of(label), id);
        }
        self.settle();
        self.request_connections();
    }

    /// A connection over TLS has agreed on this with the server.
    pub(super) fn secured(&mut self, info: &TlsInfo) {
        self.handshakes.count(info);
    }

    /// A connection has ended, or could not be established.
    pub(super) fn closed(&mut self, label: u64, was_open: bool, end: End) {
        self.ends.count(end);
        if was_open {
            self.open -= 1;
            self.ids.remove(place_of(label));
        } else {
            self.connecting -= 1;
            self.settle();
        }
        self.want_next(was_open);
        if self.is_idle() {
            self.notify(LoadEvent::Idle);
        }
    }

    /// In a closed loop with churn, another connection follows one that has ended.
    fn want_next(&mut self, was_open: bool) {
        let follows = self.plan.churn && !self.plan.is_open_loop() && (was_open || self.made > 0);
        if follows && self.stage == WorkerStage::Running && self.claim_message() {
            self.wanted.push_back(clock::now());
        }
        // After a failure not at once: that would be a busy loop.
        if was_open {
            self.request_connections();
        }
    }

    /// One of the first connections is established or has failed.
    fn settle(&mut self) {
        if self.unsettled > 0 {
            self.unsettled -= 1;
            if self.unsettled == 0 {
                self.notify(LoadEvent::Settled);
            }
        }
    }

    /// Whether no more messages can be sent or received.
    pub(super) fn is_idle(&self) -> bool {
        // If nobody has reached the server, there is no point in going on.
        let may_answer = self.made > 0 || self.ends.failures.total() == 0;
        let more_to_come = self.plan.churn && self.plan.is_open_loop() && may_answer;
        self.live() == 0 && self.wanted.is_empty() && (self.stage == WorkerStage::Stopping || !more_to_come)
    }

    /// Connections that are open or connecting.
    const fn live(&self) -> usize {
        self.connecting + self.open
    }

    /// The open connection whose turn it is to send a message; `None` if there is none.
    pub(super) fn next_in_turn(&mut self) -> Option<ConnectionId> {
        self.ids.next()
    }

    /// Exchanges what was measured for `empty`.
    pub(super) const fn swap_tally(&mut self, empty: &mut Tally) {
        mem::swap(&mut self.tally, empty);
    }

    pub(super) const fn ends(&self) -> &Ends {
        &self.ends
    }

    pub(super) const fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    pub(super) const fn connections(&self) -> ConnectionCounts {
        ConnectionCounts { made: self.made, open_max: self.open_max as u64 }
    }

    fn notify(&self, event: LoadEvent) {
        // Nobody listens when the program is about to end.
        let _ = self.events.send(event);
    }
}

/// The place of a connection among those of its worker.
fn place_of(label: u64) -> usize {
    usize::try_from(label & ((1 << LABEL_BITS) - 1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        io::ErrorKind,
        sync::mpsc::{Receiver, channel},
        time::Duration,
    };

    use echoloop::{Context, Echo, Input, Protocol, Server};

    use super::*;
    use crate::cli::bench::{load::schedule::Schedule, plan::Extent};

    /// The protocol of a loop that never runs.
    struct NeverRun;

    impl Protocol for NeverRun {
        type Message = Instruction;

        fn on_data(&mut self, _input: &mut Input<'_>, _cx: &mut Context<'_, Instruction>) {
            unreachable!("the loop does not run")
        }
    }

    fn plan(connections: u64) -> Plan {
        Plan {
            address: "127.0.0.1:7".parse().unwrap(),
            tls: None,
            connections,
            threads: 1,
            size: 512,
            pipeline: 1,
            rate: None,
            churn: false,
            connect_rate: None,
            start_at: None,
            extent: Extent::Time { warmup: Duration::ZERO, measured: Duration::from_secs(1) },
            timeout: Duration::from_secs(1),
            seed: 1,
        }
    }

    /// A worker, what it notifies of, and its loop, which never makes the connections that are requested.
    fn worker(plan: Plan) -> (Worker, Receiver<LoadEvent>, Server<NeverRun>) {
        let server = Server::<NeverRun>::builder().bind::<&str>([]).unwrap();
        let (sender, events) = channel();
        (Worker::new(Arc::new(plan), server.handle(), sender, 0), events, server)
    }

    /// Establishes the connection that was requested first.
    fn open(worker: &mut Worker, label: u64) {
        // Of another loop: any id will do.
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
        let start = worker.connect_started();
        worker.opened(told.recv().unwrap(), label, start, clock::now());
    }

    /// Begins the load, which is measured from now on.
    fn begin(worker: &mut Worker) -> Instant {
        let now = clock::now();
        worker.begin_load(MeasuredTime::new(now, Some(Duration::from_secs(1))));
        now
    }

    /// What was measured.
    fn tally(worker: &mut Worker) -> Tally {
        let mut tally = Tally::new(worker.plan.is_open_loop());
        worker.swap_tally(&mut tally);
        tally
    }

    #[test]
    fn what_was_due_in_the_measured_time_counts_whenever_it_comes_back() {
        let (mut worker, _events, _server) = worker(plan(1));
        let begin = begin(&mut worker);
        let at = |millis| begin + Duration::from_millis(millis);
        let earlier = begin.checked_sub(Duration::from_millis(5)).unwrap();
        for (due, back) in [(earlier, 10), (at(0), 10), (at(999), 1_001), (at(1_000), 1_002)] {
            worker.answered(Start::at(due), at(back));
        }
        worker.gave_up(at(500), 3, at(2_000));
        worker.gave_up(at(1_000), 1, at(2_000));
        let tally = tally(&mut worker);
        assert_eq!((tally.returned, tally.messages, tally.unanswered.len()), (2, 2, 3));
        assert!(tally.unanswered.max() >= 1_500_000_000);
    }

    #[test]
    fn connections_that_are_late_for_the_measured_time_are_forgotten() {
        let (mut worker, _events, _server) =
            worker(Plan { churn: true, rate: Some("1".parse().unwrap()), ..plan(1) });
        let from = begin(&mut worker);
        let warmup = from.checked_sub(Duration::from_millis(1)).unwrap();
        worker.wanted.extend([warmup, warmup, from, from]);
        worker.request_connections();
        assert_eq!((worker.requested.pop_front().unwrap().due, worker.wanted.len()), (from, 1));
    }

    #[test]
    fn connections_that_were_due_and_never_requested_are_unanswered_in_an_open_loop_only() {
        for (rate, unanswered) in [(None, 0), (Some("1".parse().unwrap()), 1)] {
            let (mut worker, _events, _server) = worker(Plan { churn: true, rate, ..plan(1) });
            let due = begin(&mut worker);
            (0..2).for_each(|_| worker.want_connection(due));
            assert!(!worker.all_requested());
            worker.stop_load();
            assert!(worker.all_requested());
            assert_eq!(tally(&mut worker).unanswered.len(), unanswered);
        }
    }

    #[test]
    fn connections_are_requested_as_far_as_there_is_room() {
        let (mut worker, _events, _server) =
            worker(Plan { churn: true, rate: Some("1".parse().unwrap()), ..plan(2) });
        begin(&mut worker);
        (0..3).for_each(|_| worker.want_connection(clock::now()));
        assert_eq!((worker.connecting, worker.wanted.len()), (2, 1));
        open(&mut worker, 0);
        assert_eq!((worker.connecting, worker.wanted.len()), (1, 1));
        worker.closed(0, true, End::Fin);
        assert_eq!((worker.connecting, worker.wanted.len()), (2, 0));
    }

    #[test]
    fn a_budget_is_spent_once() {
        let (mut worker, _events, _server) = worker(Plan { extent: Extent::Messages(2), ..plan(1) });
        begin(&mut worker);
        assert_eq!(
            [worker.claim_message(), worker.claim_message(), worker.claim_message()],
            [true, true, false]
        );
    }

    #[test]
    fn no_message_begins_when_the_load_is_over() {
        let (mut worker, _events, _server) = worker(plan(1));
        begin(&mut worker);
        assert!(worker.claim_message());
        worker.stop_load();
        assert!(!worker.claim_message());
    }

    #[test]
    fn a_worker_is_idle_when_its_last_connection_has_ended() {
        let (mut worker, events, _server) = worker(plan(2));
        (0..2).for_each(|_| worker.want_connection(clock::now()));
        open(&mut worker, 0);
        worker.connect_started();
        worker.closed(1, false, End::Refused);
        assert_eq!(events.try_recv(), Ok(LoadEvent::Settled));
        assert!(!worker.is_idle());
        begin(&mut worker);
        worker.closed(0, true, End::Reset);
        assert!(worker.is_idle());
        assert_eq!(events.try_recv(), Ok(LoadEvent::Idle));
        assert_eq!(worker.ends().first_connect_error, Some(ErrorKind::ConnectionRefused));
    }

    #[test]
    fn a_server_that_refuses_everyone_is_not_retried_without_end() {
        let (mut worker, _events, _server) = worker(Plan { churn: true, ..plan(1) });
        begin(&mut worker);
        worker.want_connection(clock::now());
        worker.connect_started();
        worker.closed(0, false, End::Refused);
        assert!(worker.is_idle());
    }

    #[test]
    fn messages_go_to_open_connections_in_turn() {
        let (mut worker, _events, _server) = worker(Plan { rate: Some("1".parse().unwrap()), ..plan(3) });
        assert_eq!(worker.next_in_turn(), None);
        (0..3).for_each(|_| worker.want_connection(clock::now()));
        (0..3).for_each(|label| open(&mut worker, label));
        let first = worker.ids.values().next();
        let mut turns = || worker.next_in_turn();
        let three = [turns(), turns(), turns()];
        assert!(three.contains(&first) && turns() == three[0]);
        worker.closed(1, true, End::Reset);
        assert_eq!(worker.ids.values().count(), 2);
        assert!((0..4).all(|_| worker.next_in_turn().is_some()));
    }

    /// An open loop with a connection, whose messages are due 10 ms apart from now on, and a function for times of it.
    fn paced(messages: u64) -> (Worker, Receiver<LoadEvent>, Server<NeverRun>, impl Fn(u64) -> Instant) {
        let rate = "100".parse().unwrap();
        let (mut worker, events, server) = worker(Plan { rate: Some(rate), ..plan(1) });
        worker.want_connection(clock::now());
        open(&mut worker, 0);
        let begin = begin(&mut worker);
        worker.add_timetables(vec![Timetable::new(Schedule::new(rate, Some(messages)), begin, begin)]);
        assert_eq!(events.try_recv(), Ok(LoadEvent::Settled));
        (worker, events, server, move |millis| begin + Duration::from_millis(millis))
    }

    #[test]
    fn messages_are_taken_when_they_are_due_and_the_last_is_notified_of_once() {
        let (mut worker, events, _server, at) = paced(2);
        assert_eq!([at(0), at(9), at(10)].map(|now| worker.take_due(now)), [Some(at(0)), None, Some(at(10))]);
        assert_eq!((worker.take_due(at(99)), worker.next_due()), (None, None));
        (0..2).for_each(|_| worker.note_handed_out());
        assert_eq!([events.try_recv().ok(), events.try_recv().ok()], [Some(LoadEvent::HandedOut), None]);
    }

    #[test]
    fn the_earlier_of_messages_of_several_workers_is_taken_first() {
        let (mut worker, _events, _server, at) = paced(2);
        let other = Schedule::new("100".parse().unwrap(), Some(1));
        worker.add_timetables(vec![Timetable::new(other, at(5), at(0))]);
        let taken: Vec<_> = std::iter::from_fn(|| worker.take_due(at(99))).collect();
        assert_eq!(taken, [0, 5, 10].map(at));
    }

    #[test]
    fn messages_for_which_there_is_no_connection_can_be_taken_away_and_are_not_lost() {
        let (mut worker, events, _server, at) = paced(3);
        assert!(worker.take_orphans().is_empty(), "it has a connection");
        worker.closed(0, true, End::Reset);
        assert_eq!((worker.take_due(at(0)), worker.next_due()), (None, None));
        worker.note_handed_out();
        assert_eq!([events.try_recv().ok(), events.try_recv().ok()], [Some(LoadEvent::Idle), None]);
        assert!(!worker.all_handed_out());
        let orphans = worker.take_orphans();
        assert!(orphans.len() == 1 && worker.all_handed_out());
        worker.add_timetables(orphans);
        worker.end_measured_time(at(20));
        worker.stop_pacing(at(99));
        assert_eq!(tally(&mut worker).unanswered.len(), 2, "the third was not due before the end");
    }
}
