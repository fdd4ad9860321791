//! Pairs of clients that are relayed with each other, in a world that is otherwise the same.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use echoloop::{
    CloseReason, Config, ConnectionId, Context, Input, Protocol,
    internals::{Connections, Counters, Readiness, State, Wake, channel},
};

use super::{
    choices::Choices,
    client::{Client, Manner, Seen},
    kernel::{Attempt, FakePoller, FakeTransport, Faults, Kernel, Rearm, SharedKernel, Socket},
    world::{FAR, Failure, limits},
};

/// What a connection's protocol has seen.
#[derive(Debug, Default)]
struct Record {
    closed: Option<CloseReason>,
    /// It has asked to be relayed.
    has_asked: bool,
    /// It was idle, or drained, and has finished.
    has_finished: bool,
    is_relayed: bool,
    violations: Vec<&'static str>,
}

/// Keeps what comes until it is relayed.
#[derive(Debug)]
struct Relayed {
    with: Option<ConnectionId>,
    pauses: bool,
    /// It asks with the first bytes or at the end, not at once.
    is_late: bool,
    record: Rc<RefCell<Record>>,
}

impl Relayed {
    fn check(&self, violation: &'static str) {
        let mut record = self.record.borrow_mut();
        if record.is_relayed || record.has_asked {
            record.violations.push(violation);
        }
    }

    fn ask(&self, cx: &mut Context<'_>) {
        if let Some(with) = self.with {
            self.record.borrow_mut().has_asked = true;
            cx.relay(with);
        }
    }
}

impl Protocol for Relayed {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if self.pauses {
            cx.pause_reading();
        }
        if !self.is_late {
            self.ask(cx);
        }
    }

    fn on_data(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        self.check("bytes came though it is relayed");
        self.ask(cx);
    }

    fn on_eof(&mut self, rest: &mut Input<'_>, cx: &mut Context<'_>) {
        self.check("the end came though it is relayed");
        if self.with.is_some() {
            return self.ask(cx);
        }
        // What a protocol leaves now is gone.
        self.record.borrow_mut().has_finished |= !rest.bytes().is_empty();
    }

    fn on_timeout(&mut self, _: echoloop::Timeout, cx: &mut Context<'_>) {
        self.record.borrow_mut().has_finished = true;
        cx.finish();
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) {
        self.record.borrow_mut().has_finished = true;
        cx.finish();
    }

    fn on_close(&mut self, reason: &CloseReason) {
        self.record.borrow_mut().closed = Some(*reason);
    }
}

struct NoWaker;

impl Wake for NoWaker {
    fn wake(&self) -> io::Result<()> {
        Ok(())
    }
}

struct End {
    client: Client,
    record: Rc<RefCell<Record>>,
    id: ConnectionId,
    /// Whom it wants to be relayed with.
    with: Option<ConnectionId>,
}

struct World {
    choices: Choices,
    kernel: SharedKernel,
    poller: FakePoller,
    connections: Connections<Relayed, FakeTransport>,
    limits: Config,
    rearm: Rearm,
    /// Each even one is relayed with the one behind it.
    ends: Vec<End>,
    now: Instant,
    calm: bool,
    is_faulty: bool,
}

const MANNERS: [Manner; 6] = [
    Manner::Proper,
    Manner::LateReader,
    Manner::Resetter,
    Manner::Careless,
    Manner::NeverReads,
    Manner::Silent,
];

/// Runs one schedule; how many bytes reached the other client.
pub fn run_seed(seed: u64) -> Result<u64, Failure> {
    let choices = Choices::seeded(seed);
    let mut world = World::new(choices);
    world.connect_pairs();
    for _ in 0..world.choices.usize(20..300) {
        world.step()?;
    }
    world.calm_down()?;
    Ok(world.ends.iter().map(|end| end.client.received).sum())
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    fn new(choices: Choices) -> Self {
        let rearm = if choices.bool() { Rearm::EveryEdge } else { Rearm::AfterWouldBlock };
        let faults = match choices.u8(..3) {
            0 => Faults::default(),
            1 => Faults { partial: 60, would_block: 20, interrupted: 5, error: 0 },
            _ => Faults { partial: 30, would_block: 10, interrupted: 5, error: 1 },
        };
        let mut limits = limits(false, &choices);
        // Nobody sends more before it is relayed.
        limits.input_limit_bytes = 4000;
        let kernel = Rc::new(RefCell::new(Kernel {
            choices: choices.clone(),
            faults,
            rearm,
            short_read_drains: rearm == Rearm::EveryEdge && choices.bool(),
            calls: 0,
            planned: None,
            open: 0,
            progress: 0,
        }));
        let counters = Arc::new(Counters::default());
        let (handle, _) = channel(1, vec![(Box::new(NoWaker) as Box<dyn Wake>, Arc::clone(&counters))]);
        let now = Instant::now();
        Self {
            connections: Connections::new(0, 16, now, limits.clone(), counters, handle),
            poller: FakePoller { kernel: Rc::clone(&kernel) },
            is_faulty: faults.error > 0,
            choices,
            kernel,
            limits,
            rearm,
            ends: Vec::new(),
            now,
            calm: false,
        }
    }

    fn connect_pairs(&mut self) {
        for _ in 0..self.choices.usize(1..=3) {
            let only_proper = self.choices.bool();
            let first = self.add(only_proper, None);
            // The first may have sent something by now, or be gone.
            for _ in 0..self.choices.usize(..20) {
                let _ = self.step();
            }
            let second = self.add(only_proper, first);
            if let (Some(_), Some(_)) = (first, second) {
                let count = self.ends.len();
                if let [one, other] = &mut self.ends[count - 2..] {
                    one.client.relay_with(&mut other.client);
                }
            }
        }
    }

    fn add(&mut self, only_proper: bool, with: Option<ConnectionId>) -> Option<ConnectionId> {
        let size = || if self.choices.u8(..3) == 0 { 1 } else { self.choices.usize(1..200) };
        let socket = Rc::new(RefCell::new(Socket::new(size(), size())));
        let manners = if only_proper { &MANNERS[..2] } else { &MANNERS[..] };
        let manner = self.choices.of(manners)?;
        let to_send = self.choices.u64(..2000);
        let client = Client::new(manner, socket, to_send, self.choices.u64(..));
        let record = Rc::new(RefCell::new(Record::default()));
        let transport = FakeTransport::new(Rc::clone(&client.socket), Rc::clone(&self.kernel));
        let (pauses, is_late) = (self.choices.bool(), self.choices.bool());
        let protocol = Relayed { with, pauses: pauses && !is_late, is_late, record: Rc::clone(&record) };
        let state = if with.is_some() && self.choices.bool() {
            client.socket.borrow_mut().attempt = Attempt::Pending;
            State::Connecting
        } else {
            State::Reading
        };
        let id = self.connections.next_id();
        let added = self.connections.add(id, state, transport, protocol, &mut self.poller);
        added.ok()?;
        self.ends.push(End { client, record, id, with });
        self.note_relays();
        Some(id)
    }

    /// Notes which connections are relayed by now.
    fn note_relays(&self) {
        for end in &self.ends {
            if self.connections.get(end.id).is_some_and(|one| one.partner().is_some()) {
                end.record.borrow_mut().is_relayed = true;
            }
        }
    }

    fn step(&mut self) -> Result<(), Failure> {
        match self.choices.u8(..100) {
            0..50 if !self.ends.is_empty() => {
                let number = self.choices.usize(..self.ends.len());
                self.ends[number].client.act(&self.choices, self.rearm, self.calm)?;
            }
            50..90 => self.turn()?,
            90..93 => {
                let next = self.connections.next_deadline();
                self.advance(next.map_or(Duration::ZERO, |at| at.saturating_duration_since(self.now)));
            }
            _ => self.advance(Duration::from_millis(self.choices.u64(..20))),
        }
        Ok(())
    }

    fn advance(&mut self, ahead: Duration) {
        if ahead < FAR {
            self.now += ahead;
        }
    }

    fn turn(&mut self) -> Result<(), Failure> {
        self.connections.set_now(self.now);
        for end in &self.ends {
            let mut socket = end.client.socket.borrow_mut();
            if socket.closed || (!self.calm && self.choices.bool()) {
                continue;
            }
            socket.pay_owed(self.rearm);
            let ready = socket.take_events();
            let token = socket.token;
            drop(socket);
            if let (Some(token), true) = (token, ready != Readiness::NONE) {
                self.connections.notice(token, ready);
            }
        }
        self.connections.run_ready(&mut self.poller);
        self.note_relays();
        self.connections.run_deadlines(&mut self.poller);
        self.connections.run_mail(&mut self.poller);
        self.connections.reap();
        self.check()
    }

    fn check(&self) -> Result<(), Failure> {
        for (number, end) in self.ends.iter().enumerate() {
            let (socket, record) = (end.client.socket.borrow(), end.record.borrow());
            if let Some(violation) = socket.violations.first() {
                return Err(format!("client {number}: {violation}"));
            }
            if let Some(violation) = record.violations.first() {
                return Err(format!("client {number}: {violation}"));
            }
            if let Some(connection) = self.connections.get(end.id) {
                let most = self.limits.high_water_bytes + self.limits.input_limit_bytes;
                if connection.queued() > most {
                    return Err(format!("client {number}: {} bytes are queued", connection.queued()));
                }
            }
            let Some(other) = self.other(number) else { continue };
            if end.client.received > other.client.sent {
                return Err(format!("client {number}: got more than was sent"));
            }
            let was_cut = record.has_finished || other.record.borrow().has_finished;
            let is_whole = other.client.finished || other.client.socket.borrow().inbound_fin;
            if end.client.seen == Seen::Fin
                && !was_cut
                && !(is_whole && end.client.received == other.client.sent)
            {
                return Err(format!(
                    "client {number}: a clean end after {} of {} bytes",
                    end.client.received, other.client.sent
                ));
            }
        }
        if self.kernel.borrow().open != self.connections.len() {
            return Err("descriptors are lost".to_owned());
        }
        self.connections.audit()
    }

    /// The one that this is relayed with, if it ever was.
    fn other(&self, number: usize) -> Option<&End> {
        let end = &self.ends[number];
        let is_relayed = end.record.borrow().is_relayed;
        let (before, behind) = (number.checked_sub(1), number + 1);
        let mut partners =
            [before, Some(behind)].into_iter().flatten().filter_map(|other| self.ends.get(other));
        partners.find(|other| is_relayed && other.client.expects(&end.client))
    }

    fn calm_down(&mut self) -> Result<(), Failure> {
        self.calm = true;
        self.kernel.borrow_mut().faults = Faults::default();
        self.settle()?;
        for number in 0..self.ends.len() {
            self.check_proper(number)?;
            self.check_not_forgotten(number)?;
        }
        for _ in 0..1000 {
            let Some(at) = self.connections.next_deadline() else { break };
            let ahead = at.saturating_duration_since(self.now);
            if ahead > FAR {
                break;
            }
            self.advance(ahead);
            self.settle()?;
        }
        self.connections.begin_drain();
        self.settle()?;
        self.advance(self.limits.drain_timeout.unwrap_or_default());
        self.settle()?;
        if !self.connections.is_empty() {
            return Err(format!("{} connections do not end", self.connections.len()));
        }
        match self.ends.iter().position(|end| end.record.borrow().closed.is_none()) {
            Some(number) => Err(format!("client {number}: on_close was not called")),
            None => Ok(()),
        }
    }

    /// Two proper clients have everything from each other, without waiting for any deadline.
    fn check_proper(&self, number: usize) -> Result<(), Failure> {
        let is_proper = |end: &End| matches!(end.client.manner, Manner::Proper | Manner::LateReader);
        let end = &self.ends[number];
        let Some(other) = self.other(number) else { return Ok(()) };
        let timed_out = |end: &End| {
            let record = end.record.borrow();
            record.has_finished
                || !matches!(record.closed, None | Some(CloseReason::Peer | CloseReason::Finished))
        };
        if self.is_faulty || !is_proper(end) || !is_proper(other) || timed_out(end) || timed_out(other) {
            return Ok(());
        }
        if !end.client.gone || end.client.seen != Seen::Fin || end.client.received != other.client.sent {
            return Err(format!("client {number} waits for ever: {:?}", end.client));
        }
        Ok(())
    }

    /// Who is to be relayed with one that has ended knows it.
    fn check_not_forgotten(&self, number: usize) -> Result<(), Failure> {
        let end = &self.ends[number];
        let (record, Some(with)) = (end.record.borrow(), end.with) else { return Ok(()) };
        let Some(other) = self.ends.iter().find(|other| other.id == with) else { return Ok(()) };
        let other_is_open = other.record.borrow().closed.is_none() && !other.record.borrow().has_finished;
        let is_proper = matches!(other.client.manner, Manner::Proper | Manner::LateReader);
        if record.has_asked && record.closed.is_some() && other_is_open && is_proper {
            return Err(format!("client {number} is gone, and its partner waits: {:?}", other.client));
        }
        Ok(())
    }

    /// Lets everyone act until nobody has anything to do, without any time passing.
    fn settle(&mut self) -> Result<(), Failure> {
        let mut idle_turns = 0;
        for _ in 0..100_000 {
            let before = self.kernel.borrow().progress;
            let mut acted = false;
            for end in &mut self.ends {
                acted |= end.client.act(&self.choices, self.rearm, true)?;
            }
            self.turn()?;
            let is_quiet = !acted && self.kernel.borrow().progress == before;
            idle_turns = if is_quiet { idle_turns + 1 } else { 0 };
            let events = self.ends.iter().any(|end| {
                let socket = end.client.socket.borrow();
                !socket.closed && socket.has_events_to_come()
            });
            if is_quiet && !self.connections.has_work() && !events {
                return Ok(());
            }
            if idle_turns > 50 {
                return Err("the loop is busy and nothing moves".to_owned());
            }
        }
        Err("the schedule does not settle".to_owned())
    }
}
