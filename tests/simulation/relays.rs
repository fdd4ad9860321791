//! Pairs of clients that are relayed with each other.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use echoloop::{
    CloseReason, Config, ConnectionId, Context, EndedBy, Input, Origin, Peer, Protocol, Timeout,
    internals::Connections,
};

use super::{
    choices::Choices,
    client::{Client, Manner, Seen},
    kernel::{FAR, Kernel, Nature, SharedKernel, socket::SharedSocket, system::client_at},
    secure::{Meter, Secure, TlsEnd, TlsManner},
    stage::{Failure, Stage},
    world::{Plan, Tls, elsewhere, elsewhere_secure, limits, nature},
};

/// What a connection's protocol has seen.
#[derive(Debug, Default)]
struct Record {
    /// The factory was asked for it.
    is_made: bool,
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

    fn on_timeout(&mut self, _: Timeout, cx: &mut Context<'_>) {
        self.record.borrow_mut().has_finished = true;
        cx.finish();
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) {
        self.record.borrow_mut().has_finished = true;
        cx.finish();
    }

    fn on_close(&mut self, reason: &CloseReason, _: &mut Context<'_>) {
        self.record.borrow_mut().closed = Some(*reason);
    }
}

const MANNERS: [Manner; 6] = [
    Manner::Proper,
    Manner::LateReader,
    Manner::Resetter,
    Manner::Careless,
    Manner::NeverReads,
    Manner::Silent,
];

/// One client with its connection.
struct End {
    client: Client,
    record: Rc<RefCell<Record>>,
    /// Whom it wants to be relayed with.
    with: Option<ConnectionId>,
    pauses: bool,
    is_late: bool,
}

impl End {
    fn id(&self) -> Option<ConnectionId> {
        self.client.socket.borrow().id
    }
}

/// What makes the clients, and their protocols.
struct Maker {
    kernel: SharedKernel,
    choices: Choices,
    ends: Rc<RefCell<Vec<End>>>,
    /// Whom the next one is to be relayed with.
    with: Cell<Option<ConnectionId>>,
    /// The first two are proper.
    manners: Vec<Manner>,
    only_proper: Cell<bool>,
    /// What each client sends; `None`: any number.
    bytes: Option<u64>,
    /// What is spoken with those of [`SECURE_LISTENER`], and some of those that are connected to.
    tls: Option<Tls>,
}

const LISTENER: usize = 0;
const SECURE_LISTENER: usize = 1;

impl Maker {
    /// The client has yet to arrive at this listener.
    fn add_inbound(&self, listener: usize) -> usize {
        let socket = {
            let mut kernel = self.kernel.borrow_mut();
            let (inbound, outbound) = (kernel.buffer_size(), kernel.buffer_size());
            kernel.add_socket(inbound, outbound)
        };
        let secure = (listener == SECURE_LISTENER).then(|| self.secure(false));
        self.add(socket, secure)
    }

    /// One end of TLS; the server is the other one.
    fn secure(&self, is_server: bool) -> Secure {
        let choices = &self.choices;
        let end = choices.of(&[TlsEnd::CloseNotify, TlsEnd::CloseNotifyAndFin]).expect("there are some");
        let manner = TlsManner { end, changes_keys: choices.u8(..3) == 0, ..TlsManner::PROPER };
        let record_bytes = if choices.bool() { choices.usize(1..=8) } else { choices.usize(1..=100) };
        Secure::new(is_server, record_bytes, manner)
    }

    fn add(&self, socket: SharedSocket, secure: Option<Secure>) -> usize {
        if secure.is_some() {
            socket.borrow_mut().meter = Some(Meter::new(0));
        }
        let manners = if self.only_proper.get() { &self.manners[..2] } else { &self.manners[..] };
        let manner = self.choices.of(manners).expect("there are some");
        let to_send = self.bytes.unwrap_or_else(|| self.choices.u64(..2000));
        let mut client = Client::new(manner, socket, to_send, self.choices.key());
        client.secure = secure;
        let is_late = self.choices.bool();
        let pauses = !is_late && self.choices.bool();
        let with = self.with.take();
        let mut ends = self.ends.borrow_mut();
        let record = Rc::new(RefCell::new(Record::default()));
        ends.push(End { client, record, with, pauses, is_late });
        let (last, before) = ends.split_last_mut().expect("one was just pushed");
        if let Some(other) = before.iter_mut().find(|other| with.is_some() && other.id() == with) {
            last.client.relay_with(&mut other.client);
        }
        before.len()
    }

    /// The factory of the server.
    fn protocol(&self, peer: &Peer<'_>) -> Option<Relayed> {
        let number = match peer.origin {
            Origin::Listener(_) => client_at(peer.address),
            _ => self.outbound(peer),
        };
        let end = &self.ends.borrow()[number];
        let record = Rc::clone(&end.record);
        record.borrow_mut().is_made = true;
        Some(Relayed { with: end.with, pauses: end.pauses, is_late: end.is_late, record })
    }

    fn outbound(&self, peer: &Peer<'_>) -> usize {
        let socket = self.kernel.borrow_mut().add_unconnected(peer.id);
        let secure = (*peer.address == elsewhere_secure()).then(|| self.secure(true));
        self.add(socket, secure)
    }
}

struct World {
    choices: Choices,
    kernel: SharedKernel,
    stage: Stage<Relayed>,
    maker: Rc<Maker>,
    ends: Rc<RefCell<Vec<End>>>,
    limits: Config,
}

/// Runs one schedule; how many bytes reached the other client, and how many of them the kernel has moved.
pub fn run_seed(seed: u64) -> Result<(u64, u64), Failure> {
    World::random(Choices::seeded(seed), false).run()
}

/// The same where some of them speak TLS.
pub fn run_tls_seed(seed: u64) -> Result<(u64, u64), Failure> {
    World::random(Choices::seeded(seed), true).run()
}

/// Runs a schedule of a pair, each step of which is one of the few that do something. False if it is as good as a shorter
/// one: a step did nothing, or there was nothing left to do. Time may pass to a deadline so often.
pub fn run_steps(plan: Plan, choices: Choices, waits: u8, is_verbose: bool) -> Result<bool, Failure> {
    let steps = plan.steps;
    let mut world = World::new(choices, plan.limits, plan.nature, plan.manners, plan.bytes, None);
    world.connect_pair()?;
    let (mut before, mut waits) = (None, waits);
    for _ in 0..steps {
        let possible = world.possible_steps(waits, before);
        let Some(step) = world.choices.of(&possible) else { return Ok(false) };
        let has_acted = world.take_step(step)?;
        if is_verbose {
            println!("{step:?}: {:?}", world.clients());
        }
        if !has_acted {
            return Ok(false);
        }
        waits -= u8::from(step == Step::Deadline);
        before = Some(step);
    }
    world.calm_down()?;
    Ok(true)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Turn,
    Client(usize),
    Deadline,
}

impl World {
    fn run(mut self) -> Result<(u64, u64), Failure> {
        self.connect_pairs()?;
        for _ in 0..self.choices.usize(20..300) {
            self.step()?;
        }
        self.calm_down()?;
        let ends = self.ends.borrow();
        let moved = ends.iter().map(|end| end.client.socket.borrow().moved).sum();
        Ok((ends.iter().map(|end| end.client.received).sum(), moved))
    }

    /// Clients do not see each other: of two steps in a row that lead to the same whichever is first, only one order
    /// is possible.
    fn possible_steps(&self, waits: u8, before: Option<Step>) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.stage.is_at_rest() {
            steps.push(Step::Turn);
        }
        let first = match before {
            Some(Step::Client(number)) => number,
            Some(Step::Turn | Step::Deadline) | None => 0,
        };
        let ends = self.ends.borrow();
        steps.extend(
            (first..ends.len())
                .filter(|&number| ends[number].client.may_act(&self.kernel.borrow()))
                .map(Step::Client),
        );
        if waits > 0 && self.stage.left_until_deadline().is_some_and(|left| left < FAR) {
            steps.push(Step::Deadline);
        }
        steps
    }

    /// False if it did nothing.
    fn take_step(&mut self, step: Step) -> Result<bool, Failure> {
        match step {
            Step::Turn => self.turn()?,
            Step::Client(number) => {
                return self.ends.borrow_mut()[number].client.act(&self.kernel.borrow(), false);
            }
            Step::Deadline => self.stage.advance(self.stage.left_until_deadline().unwrap_or_default()),
        }
        Ok(true)
    }

    /// What each client has sent and received, and how the server's end looks to it.
    fn clients(&self) -> Vec<(u64, u64, Seen)> {
        let of = |end: &End| (end.client.sent, end.client.received, end.client.seen);
        self.ends.borrow().iter().map(of).collect()
    }

    /// Two clients that are accepted, and whose manners are decided. The second asks to be relayed with the first.
    fn connect_pair(&mut self) -> Result<(), Failure> {
        for is_second in [false, true] {
            if is_second {
                self.maker.with.set(self.ends.borrow()[0].id());
            }
            let number = self.maker.add_inbound(LISTENER);
            self.kernel.borrow_mut().arrive(LISTENER, number);
            self.choices.freeze();
            self.turn()?;
            self.choices.thaw();
        }
        Ok(())
    }

    fn random(choices: Choices, with_tls: bool) -> Self {
        // Small messages are in bulk, so that their bytes are moved inside the kernel, or all are copied.
        let is_moved = choices.bool();
        let mut limits = limits(is_moved, &choices);
        // Nobody sends more before it is relayed.
        limits.input_limit_bytes = 4000;
        // All of them may come before one is accepted.
        limits.backlog = 100;
        let nature = nature(&limits, &choices);
        let tls_record_bytes =
            with_tls.then(|| if choices.bool() { choices.usize(1..=8) } else { choices.usize(1..=300) });
        Self::new(choices, limits, nature, MANNERS.to_vec(), None, tls_record_bytes)
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    fn new(
        choices: Choices,
        limits: Config,
        nature: Nature,
        manners: Vec<Manner>,
        bytes: Option<u64>,
        tls_record_bytes: Option<usize>,
    ) -> Self {
        let listeners = if tls_record_bytes.is_some() { 2 } else { 1 };
        let kernel = Kernel::new(&choices, nature, Instant::now(), listeners);
        let tls = tls_record_bytes.map(|bytes| Tls::new(&kernel, limits.handshake_timeout, bytes));
        let ends = Rc::default();
        let maker = Rc::new(Maker {
            kernel: Rc::clone(&kernel),
            choices: choices.clone(),
            ends: Rc::clone(&ends),
            with: Cell::new(None),
            manners,
            only_proper: Cell::new(false),
            bytes,
            tls,
        });
        let factory = Rc::clone(&maker);
        let mut stage = Stage::new(&kernel, limits.clone(), 16, Box::new(move |peer| factory.protocol(peer)));
        if let Some(tls) = &maker.tls {
            stage.set_listener_tls(SECURE_LISTENER, tls.acceptor.clone());
        }
        Self { choices, kernel, stage, maker, ends, limits }
    }

    fn connect_pairs(&mut self) -> Result<(), Failure> {
        for _ in 0..self.choices.usize(1..=3) {
            self.maker.only_proper.set(self.choices.bool());
            let listener = self.any_listener();
            let first = self.maker.add_inbound(listener);
            self.kernel.borrow_mut().arrive(listener, first);
            // The first may have sent something by now, or be gone, or wait to be accepted.
            for _ in 0..self.choices.usize(..20) {
                self.step()?;
            }
            // Before its handshake is over nobody knows it.
            let first = {
                let first = &self.ends.borrow()[first];
                first.id().filter(|_| first.record.borrow().is_made)
            };
            self.maker.with.set(first);
            if self.choices.bool() {
                let listener = self.any_listener();
                let second = self.maker.add_inbound(listener);
                self.kernel.borrow_mut().arrive(listener, second);
            } else {
                // A mailbox that is full is as good as a server that does not answer.
                let _ = match &self.maker.tls {
                    Some(tls) if self.choices.bool() => {
                        self.stage.handle.connect_tls(elsewhere_secure(), 0, tls.connector.clone())
                    }
                    Some(_) | None => self.stage.handle.connect(elsewhere(), 0),
                };
                self.turn()?;
                self.maker.with.set(None);
            }
        }
        Ok(())
    }

    fn any_listener(&self) -> usize {
        if self.maker.tls.is_some() && self.choices.bool() { SECURE_LISTENER } else { LISTENER }
    }

    /// Notes which connections are relayed by now.
    fn note_relays(&self) {
        for end in self.ends.borrow().iter() {
            let connection = self.stage.connections().and_then(|all| all.get(end.id()?));
            if connection.is_some_and(|one| one.partner().is_some()) {
                end.record.borrow_mut().is_relayed = true;
            }
        }
    }

    fn step(&mut self) -> Result<(), Failure> {
        let ends = self.ends.borrow().len();
        match self.choices.u8(..100) {
            0..50 if ends > 0 => {
                let end = &mut self.ends.borrow_mut()[self.choices.usize(..ends)];
                end.client.act(&self.kernel.borrow(), false)?;
            }
            50..90 => self.turn()?,
            90..93 => self.stage.advance(self.stage.left_until_deadline().unwrap_or_default()),
            _ => self.stage.advance(Duration::from_millis(self.choices.u64(..20))),
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        self.stage.turn()?;
        self.note_relays();
        self.check()
    }

    fn check(&self) -> Result<(), Failure> {
        let ends = self.ends.borrow();
        for (number, end) in ends.iter().enumerate() {
            self.check_end(&ends, number, end).map_err(|failure| format!("client {number}: {failure}"))?;
        }
        Ok(())
    }

    fn check_end(&self, ends: &[End], number: usize, end: &End) -> Result<(), Failure> {
        let (socket, record) = (end.client.socket.borrow(), end.record.borrow());
        if let Some(violation) = socket.violations.first() {
            return Err(violation.clone());
        }
        if let Some(violation) = record.violations.first() {
            return Err((*violation).to_owned());
        }
        if let Some(connection) = self.stage.connections().and_then(|all| all.get(end.id()?)) {
            let moved = 4 * (self.limits.turn_budget_bytes + 1);
            let most = self.limits.high_water_bytes + self.limits.input_limit_bytes + moved;
            if connection.queued() > most {
                return Err(format!("{} bytes are queued", connection.queued()));
            }
        }
        let Some(other) = other(ends, number) else { return Ok(()) };
        if end.client.received > other.client.sent {
            return Err("got more than was sent".to_owned());
        }
        let was_cut = record.has_finished || other.record.borrow().has_finished;
        let is_whole = other.client.finished || other.client.socket.borrow().inbound_fin;
        if end.client.seen == Seen::Fin && !was_cut && !(is_whole && end.client.received == other.client.sent)
        {
            return Err(format!("a clean end after {} of {} bytes", end.client.received, other.client.sent));
        }
        Ok(())
    }

    fn calm_down(&mut self) -> Result<(), Failure> {
        self.kernel.borrow_mut().calm_down();
        self.settle()?;
        self.check_all_proper()?;
        for _ in 0..1000 {
            match self.stage.left_until_deadline() {
                Some(ahead) if ahead <= FAR => self.stage.advance(ahead),
                Some(_) | None => break,
            }
            self.settle()?;
        }
        self.stage.handle.drain();
        self.settle()?;
        self.stage.advance(self.limits.drain_timeout.unwrap_or_default());
        self.settle()?;
        if !self.stage.is_finished() {
            let left = self.stage.connections().map_or(0, Connections::len);
            return Err(format!("{left} connections do not end"));
        }
        let is_open = |end: &End| {
            let record = end.record.borrow();
            end.id().is_some() && record.is_made && record.closed.is_none()
        };
        match self.ends.borrow().iter().position(is_open) {
            Some(number) => Err(format!("client {number}: on_close was not called")),
            None => Ok(()),
        }
    }

    fn check_all_proper(&self) -> Result<(), Failure> {
        let ends = self.ends.borrow();
        for number in 0..ends.len() {
            self.check_proper(&ends, number)?;
            check_not_forgotten(&ends, number)?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Failure> {
        let (ends, kernel) = (Rc::clone(&self.ends), Rc::clone(&self.kernel));
        self.stage.settle(|| {
            let mut has_acted = false;
            for end in ends.borrow_mut().iter_mut() {
                has_acted |= end.client.act(&kernel.borrow(), true)?;
            }
            Ok(has_acted)
        })?;
        self.note_relays();
        self.check()
    }

    /// Two proper clients have everything from each other, without waiting for any deadline.
    fn check_proper(&self, ends: &[End], number: usize) -> Result<(), Failure> {
        let is_proper = |end: &End| {
            let is_there = !end.client.socket.borrow().has_vanished;
            is_there && matches!(end.client.manner, Manner::Proper | Manner::LateReader)
        };
        let end = &ends[number];
        let Some(other) = other(ends, number) else { return Ok(()) };
        let timed_out = |end: &End| {
            let record = end.record.borrow();
            let is_over_time = |reason: CloseReason| reason.ended_by() == EndedBy::Deadline;
            record.has_finished || record.closed.is_some_and(is_over_time)
        };
        let has_failed = self.kernel.borrow().has_failed;
        if has_failed || !is_proper(end) || !is_proper(other) || timed_out(end) || timed_out(other) {
            return Ok(());
        }
        if !end.client.gone || end.client.seen != Seen::Fin || end.client.received != other.client.sent {
            return Err(format!("client {number} waits for ever: {:?}", end.client));
        }
        Ok(())
    }
}

/// The one that this is relayed with, if it ever was.
fn other(ends: &[End], number: usize) -> Option<&End> {
    let end = &ends[number];
    let is_relayed = end.record.borrow().is_relayed;
    let mut others = ends.iter().enumerate().filter(|&(other, _)| other != number).map(|(_, other)| other);
    others.find(|other| is_relayed && other.client.expects(&end.client))
}

/// Who is to be relayed with one that has ended knows it.
fn check_not_forgotten(ends: &[End], number: usize) -> Result<(), Failure> {
    let end = &ends[number];
    let (record, Some(with)) = (end.record.borrow(), end.with) else { return Ok(()) };
    let Some(other) = ends.iter().find(|other| other.id() == Some(with)) else { return Ok(()) };
    let other_is_open = {
        let other = other.record.borrow();
        // Whose handshake comes to nothing has never been anybody's partner.
        other.is_made && other.closed.is_none() && !other.has_finished
    };
    let is_there = {
        let socket = other.client.socket.borrow();
        !socket.has_vanished && !socket.is_over()
    };
    let is_proper = is_there && matches!(other.client.manner, Manner::Proper | Manner::LateReader);
    if record.has_asked && record.closed.is_some() && other_is_open && is_proper {
        return Err(format!("client {number} is gone, and its partner waits: {:?}", other.client));
    }
    Ok(())
}
