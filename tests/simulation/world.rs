//! The simulated world: a loop in the order of the real one, clients, time, and what must always hold.

use std::{
    cell::RefCell,
    collections::{VecDeque, hash_map::DefaultHasher},
    fmt::Debug,
    hash::{Hash, Hasher},
    io::{self, ErrorKind},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use echoloop::{
    Address, CloseReason, Config, ConnectionId, Handle,
    internals::{
        Accept, Attempt, Connections, Counters, Listener, Mailbox, Order, Readiness, Request, State, Wake,
        channel,
    },
};
use mio::Token;

use super::{
    choices::Choices,
    client::{Client, MANNERS, Manner, Seen},
    kernel::{self, Call, FakePoller, FakeTransport, Faults, Kernel, Planned, Rearm, SharedKernel, Socket},
    protocol::{CALLBACKS, Callback, Habit, Record, SharedNeighbours, SharedRecord, Simulated},
};

/// A timeout of years is as good as none.
pub const FAR: Duration = Duration::from_secs(1 << 30);

/// Why a schedule fails.
pub type Failure = String;

/// Outbound connections of a schedule, at most.
const OUTBOUND_MOST: usize = 6;

/// A schedule: everything that is decided before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clients: usize,
    pub steps: usize,
    pub limits: Config,
    pub rearm: Rearm,
    pub short_read_drains: bool,
    pub faults: Faults,
    pub accept_faults: u8,
    pub capacity: usize,
    pub mailbox: usize,
    pub requests_per_turn: usize,
    pub manners: Vec<Manner>,
    /// Its protocols say that they return what comes unchanged.
    pub is_pure: bool,
    pub habits: Vec<Habit>,
    pub planned: Option<Planned>,
}

impl Plan {
    pub fn new(choices: &Choices) -> Self {
        let faults = match choices.u8(..4) {
            0 => Faults::default(),
            1 => Faults { partial: 50, would_block: 10, interrupted: 5, error: 0 },
            2 => Faults { partial: 90, would_block: 30, interrupted: 20, error: 0 },
            _ => Faults { partial: 30, would_block: 10, interrupted: 5, error: 1 },
        };
        let is_pure = choices.u8(..3) == 0;
        let rearm = if choices.bool() { Rearm::EveryEdge } else { Rearm::AfterWouldBlock };
        Self {
            clients: choices.usize(1..=8),
            steps: choices.usize(20..400),
            limits: limits(is_pure, choices),
            rearm,
            short_read_drains: rearm == Rearm::EveryEdge && choices.bool(),
            faults,
            accept_faults: if choices.bool() { 0 } else { 30 },
            capacity: choices.usize(1..=8),
            mailbox: choices.usize(1..=5),
            requests_per_turn: choices.usize(1..=3),
            manners: if choices.u8(..3) == 0 {
                vec![Manner::Proper, Manner::LateReader, Manner::Waiting]
            } else {
                MANNERS.to_vec()
            },
            is_pure,
            habits: habits(is_pure, choices),
            planned: None,
        }
    }

    /// A small schedule in which nothing fails by itself, for the error sweep.
    pub fn script(choices: &Choices) -> Self {
        Self {
            clients: choices.usize(1..=3),
            steps: choices.usize(20..80),
            faults: Faults { partial: 30, ..Faults::default() },
            accept_faults: 0,
            ..Self::new(choices)
        }
    }
}

/// Sizes from 1 byte up, and timeouts from a millisecond to never.
pub fn limits(is_pure: bool, choices: &Choices) -> Config {
    let size = |most: usize| match choices.u8(..4) {
        0 => 1,
        1 => choices.usize(1..=8.min(most)),
        _ => choices.usize(1..=most),
    };
    let mut config = Config::default();
    config.read_buffer_bytes = size(300);
    config.high_water_bytes = size(300);
    config.low_water_bytes = choices.usize(..config.high_water_bytes);
    config.queue_limit_bytes = config.high_water_bytes + 2000;
    config.input_limit_bytes = choices.usize(8..300);
    config.turn_budget_bytes = if choices.bool() { 1 } else { choices.usize(1..1000) };
    if is_pure {
        config.splice_threshold_bytes = Some(choices.usize(1..20));
        config.pipes_max = choices.usize(..4);
        config.turn_budget_bytes = choices.usize(1..100);
    }
    config.accept_burst = choices.usize(1..4);
    config.event_batch = choices.usize(1..4);
    let timeout = |most: u64| match choices.u8(..6) {
        0 => None,
        1 => Some(Duration::MAX),
        _ => Some(Duration::from_millis(choices.u64(1..most))),
    };
    config.connect_timeout = timeout(5000);
    config.idle_timeout = timeout(5000);
    config.write_timeout = timeout(5000);
    config.linger_timeout = timeout(5000);
    config.linger_silence_timeout = timeout(2000);
    config.linger_limit_bytes = choices.u64(1..1000);
    config.drain_timeout = Some(Duration::from_millis(choices.u64(1..5000)));
    config.drain_silence = Duration::from_millis(choices.u64(..300));
    config
}

fn habits(is_pure: bool, choices: &Choices) -> Vec<Habit> {
    if is_pure {
        return vec![Habit::Echo, Habit::Echo, Habit::Echo, Habit::PanicIn(Callback::Eof)];
    }
    if choices.bool() {
        return vec![Habit::Echo];
    }
    let n = choices.u64(..500);
    vec![
        Habit::Echo,
        Habit::FinishAfter(n),
        Habit::ShutdownAfter(n),
        Habit::AbortAfter(n),
        Habit::PanicAfter(n),
        Habit::Hesitant,
        Habit::Deferring,
        Habit::Piecewise,
        Habit::Talkative,
        Habit::Dialling,
        Habit::PanicIn(choices.of(&CALLBACKS).expect("there are some")),
    ]
}

/// The listening socket: a queue of clients, and failures.
struct Backlog {
    waiting: Rc<RefCell<VecDeque<usize>>>,
    kernel: SharedKernel,
    failures: Rc<RefCell<u8>>,
}

impl Accept for Backlog {
    type Transport = usize;

    fn accept(&mut self) -> io::Result<(usize, Address)> {
        let mut kernel = self.kernel.borrow_mut();
        kernel.calls += 1;
        if let Some((error, _)) = kernel.planned_error(Call::Accept) {
            return Err(error.into());
        }
        let percent = *self.failures.borrow();
        if percent > 0 && kernel.choices.u8(..100) < percent {
            let errors = [ErrorKind::ConnectionAborted, ErrorKind::Interrupted, ErrorKind::OutOfMemory];
            return Err(kernel.choices.of(&errors).expect("there are some").into());
        }
        match self.waiting.borrow_mut().pop_front() {
            Some(client) => {
                kernel.progress += 1;
                Ok((client, Address::Unix("client".into())))
            }
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) -> io::Result<()> {
        Ok(())
    }
}

/// One client with what is known of its connection.
struct Pair {
    client: Client,
    record: SharedRecord,
    habit: Habit,
    id: Option<ConnectionId>,
    /// The server connects to it, not it to the server.
    is_outbound: bool,
    /// Whose protocol asked for it.
    requested_by: Option<ConnectionId>,
}

impl Pair {
    /// Bytes that the client is to get back, so far.
    fn owed(&self) -> u64 {
        self.record.borrow().echoed + self.client.socket.borrow().moved
    }
}

/// `PURE` says what its protocols say of themselves.
pub struct World<const PURE: bool> {
    plan: Plan,
    choices: Choices,
    kernel: SharedKernel,
    poller: FakePoller,
    connections: Connections<Simulated<PURE>, FakeTransport>,
    counters: Arc<Counters>,
    listener: Option<Listener<Backlog>>,
    waiting: Rc<RefCell<VecDeque<usize>>>,
    accept_failures: Rc<RefCell<u8>>,
    handle: Handle<u8>,
    mailbox: Mailbox<u8>,
    mailbox_has_more: bool,
    pairs: Vec<Pair>,
    neighbours: SharedNeighbours,
    old_tokens: Vec<Token>,
    now: Instant,
    begin: Instant,
    trace: DefaultHasher,
    is_verbose: bool,
    calm: bool,
}

/// What a schedule came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub trace: u64,
    pub calls: u64,
    pub echoed: u64,
    /// Bytes that went through pipes.
    pub moved: u64,
}

/// Runs a random schedule.
pub fn run_seed(seed: u64, is_verbose: bool) -> Result<Outcome, Failure> {
    run_choices(Choices::seeded(seed), is_verbose)
}

pub fn run_choices(choices: Choices, is_verbose: bool) -> Result<Outcome, Failure> {
    run(Plan::new(&choices), choices, is_verbose)
}

/// Runs a schedule in which nothing fails but what is planned.
pub fn run_script(seed: u64, planned: Option<Planned>) -> Result<Outcome, Failure> {
    let choices = Choices::seeded(seed);
    run(Plan { planned, ..Plan::script(&choices) }, choices, false)
}

fn run(plan: Plan, choices: Choices, is_verbose: bool) -> Result<Outcome, Failure> {
    if plan.is_pure {
        World::<true>::new(plan, choices, is_verbose).run()
    } else {
        World::<false>::new(plan, choices, is_verbose).run()
    }
}

impl<const PURE: bool> World<PURE> {
    #[allow(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
    pub fn new(plan: Plan, choices: Choices, is_verbose: bool) -> Self {
        let begin = Instant::now();
        let kernel = Rc::new(RefCell::new(Kernel {
            choices: choices.clone(),
            faults: plan.faults,
            rearm: plan.rearm,
            short_read_drains: plan.short_read_drains,
            calls: 0,
            planned: plan.planned,
            open: 0,
            progress: 0,
        }));
        let counters = Arc::new(Counters::default());
        let waker: Box<dyn Wake> = Box::new(NoWake);
        let (handle, mut mailboxes) = channel(plan.mailbox, vec![(waker, Arc::clone(&counters))]);
        let limits = plan.limits.clone();
        let waiting = Rc::new(RefCell::new(VecDeque::new()));
        let accept_failures = Rc::new(RefCell::new(plan.accept_faults));
        let listener = Listener::new(Backlog {
            waiting: Rc::clone(&waiting),
            kernel: Rc::clone(&kernel),
            failures: Rc::clone(&accept_failures),
        });
        Self {
            connections: Connections::new(
                0,
                plan.capacity,
                begin,
                limits,
                Arc::clone(&counters),
                handle.clone(),
            ),
            poller: FakePoller { kernel: Rc::clone(&kernel) },
            choices,
            kernel,
            counters,
            listener: Some(listener),
            waiting,
            accept_failures,
            handle,
            mailbox: mailboxes.pop().expect("there is one worker"),
            mailbox_has_more: false,
            pairs: Vec::new(),
            neighbours: SharedNeighbours::default(),
            old_tokens: Vec::new(),
            now: begin,
            begin,
            trace: DefaultHasher::new(),
            is_verbose,
            calm: false,
            plan,
        }
    }

    /// The whole schedule: first hostile, then calm.
    pub fn run(mut self) -> Result<Outcome, Failure> {
        for _ in 0..self.plan.steps {
            self.step()?;
        }
        self.calm_down()?;
        self.check_end()?;
        let echoed = self.pairs.iter().map(|pair| pair.client.received).sum();
        let moved = self.pairs.iter().map(|pair| pair.client.socket.borrow().moved).sum();
        Ok(Outcome { trace: self.trace.finish(), calls: self.kernel.borrow().calls, echoed, moved })
    }

    /// One client, no faults: how many bytes it gets back, and how it sees the end.
    pub fn converse(plan: Plan, manner: Manner, habit: Habit, to_send: u64) -> Result<(u64, Seen), Failure> {
        let plan = Plan {
            clients: 1,
            faults: Faults::default(),
            accept_faults: 0,
            manners: vec![manner],
            habits: vec![habit],
            ..plan
        };
        let mut world = Self::new(plan, Choices::seeded(0), false);
        world.connect();
        world.pairs[0].client.to_send = to_send;
        world.calm = true;
        world.settle()?;
        world.pass_deadlines()?;
        let client = &world.pairs[0].client;
        Ok((client.received, client.seen))
    }

    fn note(&mut self, what: impl Debug + Hash) {
        what.hash(&mut self.trace);
        if self.is_verbose {
            println!("{:>10?} {what:?}", self.now - self.begin);
        }
    }

    fn step(&mut self) -> Result<(), Failure> {
        match self.choices.u8(..100) {
            0..10 => self.connect(),
            10..50 => self.client_acts()?,
            50..85 => self.turn()?,
            85..95 => self.time_passes(),
            95..97 => self.spurious_event(),
            97 => self.message(),
            98 => self.ask_to_connect(),
            _ => match self.choices.u8(..32) {
                0 => self.abort(),
                1..4 => self.drain(),
                _ => {}
            },
        }
        Ok(())
    }

    fn connect(&mut self) {
        if self.inbound() >= self.plan.clients {
            return;
        }
        let number = self.add_pair(false);
        self.waiting.borrow_mut().push_back(number);
        if let Some(listener) = &mut self.listener {
            listener.set_ready();
        }
    }

    fn inbound(&self) -> usize {
        self.pairs.iter().filter(|pair| !pair.is_outbound).count()
    }

    /// A client, and the protocol that it will have.
    fn add_pair(&mut self, is_outbound: bool) -> usize {
        let number = self.pairs.len();
        let size = || if self.choices.u8(..3) == 0 { 1 } else { self.choices.usize(1..200) };
        let socket = Rc::new(RefCell::new(Socket::new(size(), size())));
        let manner = self.choices.of(&self.plan.manners).expect("there are some");
        let habit = self.choices.of(&self.plan.habits).expect("there are some");
        let to_send =
            if self.choices.u8(..4) == 0 { self.choices.u64(..3) } else { self.choices.u64(..2000) };
        self.note(("connect", number, is_outbound, manner, habit, to_send));
        let client = Client::new(manner, socket, to_send, self.choices.u64(..));
        let record = Rc::new(RefCell::new(Record::default()));
        self.pairs.push(Pair { client, record, habit, id: None, is_outbound, requested_by: None });
        number
    }

    /// What the loop does when it is asked for an outbound connection.
    fn connect_out(&mut self, requested: Option<(ConnectionId, u64)>) {
        let outbound = self.pairs.len() - self.inbound();
        if outbound >= OUTBOUND_MOST || !self.connections.has_room() {
            if let Some((by, label)) = requested {
                let reason = CloseReason::ConnectFailed(ErrorKind::QuotaExceeded);
                self.connections.dial_failed(by, label, reason);
            }
            return;
        }
        let number = self.add_pair(true);
        self.pairs[number].requested_by = requested.map(|(by, _)| by);
        if self.choices.u8(..4) > 0 {
            self.pairs[number].client.socket.borrow_mut().attempt = kernel::Attempt::Pending;
        }
        self.admit(number, State::Connecting);
        let added = self.pairs[number].id;
        if let Some((by, label)) = requested {
            match added {
                Some(id) => self.connections.set_requester(id, by, label),
                None => {
                    let reason = CloseReason::ConnectFailed(ErrorKind::Other);
                    self.connections.dial_failed(by, label, reason);
                }
            }
        }
    }

    /// Does what callbacks asked of others.
    fn run_outbox(&mut self) {
        while let Some(dial) = self.connections.next_dial() {
            self.connect_out(Some((dial.by, dial.label)));
        }
        self.connections.run_mail(&mut self.poller);
    }

    fn client_acts(&mut self) -> Result<(), Failure> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        let number = self.choices.usize(..self.pairs.len());
        let calm = self.calm;
        let client = &mut self.pairs[number].client;
        client.act(&self.choices, self.plan.rearm, calm)?;
        let state = (client.sent, client.received, client.seen, client.gone);
        self.note(("client", number, state));
        Ok(())
    }

    /// Noted without a cause, or for a connection that is gone.
    fn spurious_event(&mut self) {
        if let Some(token) = self.choices.of(&self.old_tokens) {
            self.note(("spurious", token.0));
            self.connections.notice(token, Readiness::READ | Readiness::WRITE | Readiness::ERROR);
        }
    }

    /// From another thread, as it were.
    fn message(&mut self) {
        if self.pairs.is_empty() {
            return;
        }
        let number = self.choices.usize(..self.pairs.len());
        if let Some(id) = self.pairs[number].id {
            let message = u8::try_from(number).expect("few clients");
            let is_taken = self.handle.send(id, message).is_ok();
            self.neighbours.borrow_mut().told += u64::from(is_taken);
            self.note(("message", number, is_taken));
        }
    }

    fn ask_to_connect(&mut self) {
        let is_taken = self.handle.connect(Address::Unix("elsewhere".into()), 0).is_ok();
        self.note(("ask to connect", is_taken));
    }

    fn drain(&mut self) {
        self.note("drain");
        self.handle.drain();
    }

    fn abort(&mut self) {
        self.note("abort");
        self.handle.abort();
    }

    fn is_aborted(&self) -> bool {
        self.mailbox.order() == Order::Abort
    }

    fn read_mailbox(&mut self) {
        self.mailbox.open();
        match self.mailbox.order() {
            Order::Run => {}
            Order::Drain => self.begin_drain(),
            Order::Abort => {
                self.listener = None;
                self.mailbox_has_more = false;
                self.connections.close_all(CloseReason::Aborted, &mut self.poller);
                return self.connections.refuse_mail();
            }
        }
        self.mailbox_has_more = true;
        for _ in 0..self.plan.requests_per_turn {
            if !self.connections.has_mail_room() {
                break;
            }
            match self.mailbox.next() {
                Some(Request::Send(id, message)) => {
                    self.connections.post(id, message, &mut self.poller);
                    self.note(("posted", message));
                }
                Some(Request::SendAll(..)) => unreachable!("nobody outside sends to all"),
                Some(Request::Connect(..)) => self.connect_out(None),
                None => {
                    self.mailbox_has_more = false;
                    return;
                }
            }
            self.kernel.borrow_mut().progress += 1;
        }
    }

    fn begin_drain(&mut self) {
        if !self.connections.is_draining() {
            self.connections.begin_drain();
            if let Some(listener) = &mut self.listener {
                listener.retry();
            }
        }
    }

    fn time_passes(&mut self) {
        let ahead = match self.choices.u8(..20) {
            // The loop is held up.
            0 => Duration::from_millis(self.choices.u64(..20_000)),
            1..5 => match self.connections.next_deadline() {
                Some(at) => at.saturating_duration_since(self.now),
                None => Duration::ZERO,
            },
            _ => Duration::from_millis(self.choices.u64(..20)),
        };
        self.advance(ahead);
    }

    fn advance(&mut self, ahead: Duration) {
        if ahead < FAR {
            self.now += ahead;
            self.note(("time", ahead));
        }
    }

    /// One turn of the loop, in the order of the real one.
    fn turn(&mut self) -> Result<(), Failure> {
        self.connections.set_now(self.now);
        self.deliver_events();
        self.connections.run_ready(&mut self.poller);
        self.read_mailbox();
        self.connections.run_deadlines(&mut self.poller);
        self.run_outbox();
        self.accept();
        if self.connections.reap()
            && let Some(listener) = &mut self.listener
            && listener.retry_at().is_some()
        {
            listener.retry();
        }
        let state = (self.connections.len(), self.kernel.borrow().calls, self.connections.has_work());
        self.note(("turn", state));
        self.check()
    }

    fn deliver_events(&mut self) {
        let mut places: Vec<usize> = (0..self.pairs.len()).collect();
        self.choices.shuffle(&mut places);
        let mut left = self.plan.limits.event_batch;
        let rearm = self.plan.rearm;
        for number in places {
            if !self.calm && self.choices.bool() {
                continue;
            }
            let (token, ready) = {
                let mut socket = self.pairs[number].client.socket.borrow_mut();
                if socket.closed {
                    continue;
                }
                socket.pay_owed(rearm);
                let mut ready = socket.take_events();
                // Not every system gives every hint; and both directions may come apart.
                if self.choices.u8(..4) == 0 {
                    ready.remove(Readiness::ERROR);
                }
                if !self.calm && ready.has(Readiness::READ | Readiness::WRITE) && self.choices.u8(..4) == 0 {
                    ready.remove(Readiness::WRITE);
                    socket.put_back(Readiness::WRITE);
                }
                (socket.token, ready)
            };
            if let (Some(token), true) = (token, ready != Readiness::NONE) {
                self.connections.notice(token, ready);
                left -= 1;
                if left == 0 {
                    return;
                }
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..self.plan.limits.accept_burst {
            let Some(listener) = &mut self.listener else { return };
            if !self.connections.has_room_for_clients() || !listener.is_ready(self.now) {
                break;
            }
            match listener.accept(self.now, &self.counters) {
                Attempt::Accepted(number, _) => self.admit(number, State::Reading),
                Attempt::Lost => {}
                Attempt::Pause => break,
            }
        }
        let is_drained = self.listener.as_ref().is_some_and(Listener::is_drained);
        if self.connections.is_draining() && (is_drained || self.connections.is_past_drain()) {
            self.listener = None;
        }
    }

    fn admit(&mut self, number: usize, state: State) {
        let pair = &mut self.pairs[number];
        let transport = FakeTransport::new(Rc::clone(&pair.client.socket), Rc::clone(&self.kernel));
        let message = u8::try_from(number).expect("few clients");
        let neighbours = Rc::clone(&self.neighbours);
        let protocol = Simulated::new(pair.habit, Rc::clone(&pair.record), message, neighbours);
        let id = self.connections.next_id();
        let added = self.connections.add(id, state, transport, protocol, &mut self.poller);
        if added.is_ok() {
            pair.id = Some(id);
            self.old_tokens.push(id.token());
        }
        let added = added.is_ok();
        self.note(("admit", number, state.to_string(), added));
    }

    /// What must hold at any time.
    fn check(&self) -> Result<(), Failure> {
        for (number, pair) in self.pairs.iter().enumerate() {
            let socket = pair.client.socket.borrow();
            let record = pair.record.borrow();
            if let Some(violation) = socket.violations.first().or(record.violations.first()) {
                return Err(format!("client {number}: {violation}"));
            }
            if record.eof && !socket.inbound_fin {
                return Err(format!("client {number}: an end of input that it never sent"));
            }
            let limits = &self.plan.limits;
            let connection = pair.id.and_then(|id| self.connections.get(id));
            if let (Some(connection), Habit::Echo) = (connection, pair.habit)
                && connection.queued() > limits.high_water_bytes.max(limits.turn_budget_bytes)
            {
                return Err(format!("client {number}: {} bytes are queued", connection.queued()));
            }
            // What a protocol holds back and then writes at once comes on top of the mark.
            let held_back = limits.input_limit_bytes.max(50 + limits.read_buffer_bytes);
            let most = limits.high_water_bytes.max(limits.turn_budget_bytes) + held_back + 3;
            let queued =
                connection.map_or(record.queued, |connection| connection.queued().max(record.queued));
            if queued > most {
                return Err(format!("client {number}: {queued} bytes are queued"));
            }
            if pair.client.seen == Seen::Fin && pair.client.received != pair.owed() {
                return Err(format!(
                    "client {number}: a clean end after {} of {} bytes owed",
                    pair.client.received,
                    pair.owed()
                ));
            }
        }
        let (open, live) = (self.kernel.borrow().open, self.connections.len());
        if live > self.plan.capacity {
            return Err(format!("{live} connections, of {} at most", self.plan.capacity));
        }
        if open != live {
            return Err(format!("{open} descriptors are open for {live} connections"));
        }
        self.connections.audit()
    }

    /// Faults stop. Everything must come to its end, and proper clients without waiting for any deadline.
    fn calm_down(&mut self) -> Result<(), Failure> {
        self.calm = true;
        self.note("calm");
        self.kernel.borrow_mut().faults = Faults::default();
        self.kernel.borrow_mut().planned = None;
        *self.accept_failures.borrow_mut() = 0;
        while self.inbound() < self.plan.clients && self.listener.is_some() {
            self.connect();
        }
        for pair in &mut self.pairs {
            if pair.client.manner == Manner::Endless {
                pair.client.manner = Manner::Proper;
                pair.client.to_send = pair.client.sent;
            }
        }
        let patient: Vec<usize> = (0..self.pairs.len()).filter(|&n| self.is_patient(n)).collect();
        self.settle()?;
        if let Some(at) = self.listener.as_ref().and_then(Listener::retry_at) {
            self.advance(at.saturating_duration_since(self.now));
            self.settle()?;
        }
        self.check_proper_clients()?;
        self.pass_deadlines()?;
        self.check_deadlines_passed()?;
        self.check_patient(&patient)?;
        self.drain();
        self.settle()?;
        self.pass_deadlines()?;
        if self.connections.is_empty() && self.listener.is_none() {
            return Ok(());
        }
        Err("the connections do not come to their ends".to_owned())
    }

    /// From deadline to deadline until none is left.
    fn pass_deadlines(&mut self) -> Result<(), Failure> {
        for _ in 0..10_000 {
            let can_accept = self.connections.has_room_for_clients();
            let retry = self.listener.as_ref().filter(|_| can_accept).and_then(Listener::retry_at);
            let next = [self.connections.next_deadline(), retry].into_iter().flatten().min();
            let Some(ahead) = next.map(|next| next.saturating_duration_since(self.now)) else {
                return Ok(());
            };
            if ahead > FAR {
                return Ok(());
            }
            self.advance(ahead);
            self.settle()?;
        }
        Err("deadlines come for ever".to_owned())
    }

    /// Whether this client and its protocol take their time, but will come to a proper end if nothing intervenes.
    fn is_patient(&self, number: usize) -> bool {
        let pair = &self.pairs[number];
        let (socket, record) = (pair.client.socket.borrow(), pair.record.borrow());
        let limits = &self.plan.limits;
        let is_ample =
            |timeout: Option<Duration>| timeout.is_none_or(|timeout| timeout > Duration::from_millis(100));
        matches!(pair.habit, Habit::Hesitant | Habit::Deferring)
            && matches!(pair.client.manner, Manner::Proper | Manner::Waiting)
            && self.plan.faults.error == 0
            && record.opened == 1
            && self.mailbox.order() == Order::Run
            && !record.was_idle
            && record.closed.is_none()
            && !socket.closed
            && is_ample(limits.idle_timeout)
            && is_ample(limits.write_timeout)
    }

    fn check_patient(&self, patient: &[usize]) -> Result<(), Failure> {
        for &number in patient {
            let (closed, manner) =
                (self.pairs[number].record.borrow().closed, self.pairs[number].client.manner);
            if !matches!(closed, Some(CloseReason::Peer | CloseReason::InputLimit)) {
                return Err(format!("client {number}, {manner:?}: {closed:?} though it was served slowly"));
            }
        }
        Ok(())
    }

    /// Where every timeout is on, no connection is left when they have passed, whatever its client is like.
    fn check_deadlines_passed(&self) -> Result<(), Failure> {
        let limits = &self.plan.limits;
        let all_on = [
            limits.connect_timeout,
            limits.idle_timeout,
            limits.write_timeout,
            limits.linger_timeout,
            limits.linger_silence_timeout,
        ];
        if all_on.iter().all(|timeout| timeout.is_some_and(|timeout| timeout < FAR))
            && !self.connections.is_empty()
        {
            return Err(format!("{} connections outlive their deadlines", self.connections.len()));
        }
        Ok(())
    }

    /// Lets everyone act until nobody has anything to do, without any time passing.
    fn settle(&mut self) -> Result<(), Failure> {
        let mut idle_turns = 0;
        for _ in 0..200_000 {
            let before = self.kernel.borrow().progress;
            let mut acted = false;
            for number in 0..self.pairs.len() {
                let client = &mut self.pairs[number].client;
                acted |= client.act(&self.choices, self.plan.rearm, true)?;
            }
            self.turn()?;
            let moved = self.kernel.borrow().progress != before;
            if acted || moved {
                idle_turns = 0;
                continue;
            }
            idle_turns += 1;
            let may_accept = self.connections.has_room_for_clients()
                && self.listener.as_ref().is_some_and(|listener| listener.is_ready(self.now));
            let events = self.pairs.iter().any(|pair| {
                let socket = pair.client.socket.borrow();
                !socket.closed && socket.has_events_to_come()
            });
            let has_mail = self.mailbox_has_more || self.mailbox.is_woken();
            if !self.connections.has_work() && !may_accept && !events && !has_mail {
                if !self.is_aborted() && self.mailbox.next().is_some() {
                    return Err("mail is there, and nobody knows".to_owned());
                }
                return Ok(());
            }
            if idle_turns > 50 {
                return Err("the loop is busy and nothing moves".to_owned());
            }
        }
        Err("the schedule does not settle".to_owned())
    }

    /// Without faults, an echo to a proper client ends by itself: no wakeup may have been lost.
    fn check_proper_clients(&self) -> Result<(), Failure> {
        if self.mailbox.order() != Order::Run {
            return Ok(());
        }
        if self.connections.has_room_for_clients() && !self.waiting.borrow().is_empty() {
            return Err("clients wait in the backlog though there is room".to_owned());
        }
        self.check_dials()?;
        for (number, pair) in self.pairs.iter().enumerate() {
            let is_connected = pair.client.socket.borrow().attempt == kernel::Attempt::Made;
            let (opened, closed) = (pair.record.borrow().opened, pair.record.borrow().closed);
            if pair.id.is_some() && is_connected && opened == 0 && closed.is_none() {
                return Err(format!("client {number} is connected to, and nobody knows"));
            }
            let is_proper =
                matches!(pair.client.manner, Manner::Proper | Manner::LateReader | Manner::Waiting);
            let ends_by_itself = match pair.habit {
                Habit::Echo | Habit::Piecewise | Habit::Talkative | Habit::Dialling => true,
                // These never send back what comes after they have ended.
                Habit::FinishAfter(_) | Habit::ShutdownAfter(_) => pair.client.manner != Manner::Waiting,
                Habit::AbortAfter(_)
                | Habit::PanicAfter(_)
                | Habit::PanicIn(_)
                | Habit::Hesitant
                | Habit::Deferring => false,
            };
            if opened == 0 || !is_proper || !ends_by_itself {
                continue;
            }
            if !pair.client.gone {
                return Err(format!("client {number} waits for ever: {:?}", pair.client));
            }
            if closed.is_none() {
                return Err(format!("client {number} is gone, and its connection stays"));
            }
        }
        Ok(())
    }

    /// Whoever asked for an outbound connection and is still there knows if nothing came of it.
    fn check_dials(&self) -> Result<(), Failure> {
        for (number, pair) in self.pairs.iter().enumerate() {
            let record = pair.record.borrow();
            if !record.has_dialled || record.closed.is_some() {
                continue;
            }
            let wanted = self.pairs.iter().find(|other| other.requested_by == pair.id);
            if wanted.is_none() && record.dials_failed == 0 && !self.connections.has_room() {
                // It still waits for room.
                continue;
            }
            let told: &[u32] = wanted.map_or(&[1], |wanted| {
                let wanted = wanted.record.borrow();
                match (wanted.opened, wanted.closed) {
                    (0, Some(_)) => &[1],
                    // Also of one that ended while it was told that it is made.
                    (_, Some(reason)) if !reason.is_complete() => &[0, 1],
                    (_, Some(_) | None) => &[0],
                }
            });
            if !told.contains(&record.dials_failed) {
                return Err(format!("client {number} is told {} times", record.dials_failed));
            }
        }
        Ok(())
    }

    /// What must hold when all is over.
    fn check_end(&mut self) -> Result<(), Failure> {
        for pair in &mut self.pairs {
            while pair.client.act(&self.choices, self.plan.rearm, true)? {}
        }
        self.check()?;
        let mut added = 0;
        for (number, pair) in self.pairs.iter().enumerate() {
            let (record, socket) = (pair.record.borrow(), pair.client.socket.borrow());
            if pair.id.is_none() && record.closed.is_none() {
                continue;
            }
            added += 1;
            let Some(reason) = record.closed else {
                return Err(format!("client {number}: on_close was not called"));
            };
            if self.plan.faults.error == 0 && self.plan.planned.is_none() && self.is_unexpected(reason, pair)
            {
                return Err(format!(
                    "client {number}: '{reason}' for {:?}, {:?}",
                    pair.client.manner, pair.habit
                ));
            }
            let was_never_made = pair.is_outbound
                && matches!(
                    reason,
                    CloseReason::ConnectFailed(_)
                        | CloseReason::ConnectTimeout
                        | CloseReason::Aborted
                        | CloseReason::DrainTimeout
                );
            if record.opened != 1 && !(record.opened == 0 && was_never_made) {
                return Err(format!("client {number}: opened {} times, '{reason}'", record.opened));
            }
            if reason.is_complete() && (socket.taken != pair.owed() || !socket.write_shut) {
                return Err(format!(
                    "client {number}: '{reason}' after {} of {} bytes owed",
                    socket.taken,
                    pair.owed()
                ));
            }
            if reason == CloseReason::Peer
                && pair.owed() != pair.client.sent
                && matches!(pair.habit, Habit::Echo | Habit::Talkative | Habit::Dialling)
            {
                return Err(format!(
                    "client {number}: '{reason}', but {} of {} bytes were echoed",
                    pair.owed(),
                    pair.client.sent
                ));
            }
        }
        while let Some(request) = self.mailbox.next() {
            if let Request::Send(..) = request {
                self.counters.messages_undeliverable.add(1);
            }
        }
        let stats = self.counters.snapshot();
        let told = self.neighbours.borrow().told;
        let heard: u64 = self.pairs.iter().map(|pair| pair.record.borrow().messages).sum();
        if told != heard + stats.messages_undeliverable {
            return Err(format!("{told} messages sent, {heard} received, but {stats:?}"));
        }
        if stats.closed_total() != added || stats.open != 0 {
            return Err(format!("{added} connections, but {stats:?}"));
        }
        Ok(())
    }

    /// Whether a connection cannot have ended in this way when no call failed by itself.
    fn is_unexpected(&self, reason: CloseReason, pair: &Pair) -> bool {
        let resets = matches!(pair.client.manner, Manner::Resetter | Manner::Careless);
        match reason {
            CloseReason::Failed(_) | CloseReason::QueueLimit => true,
            CloseReason::ConnectFailed(_) => !pair.is_outbound || !resets,
            CloseReason::ConnectTimeout => !pair.is_outbound,
            CloseReason::Reset | CloseReason::ResetUnsent => !resets,
            CloseReason::Aborted => {
                let is_unmade = pair.record.borrow().opened == 0;
                !(matches!(pair.habit, Habit::AbortAfter(_)) || self.is_aborted() || is_unmade)
            }
            CloseReason::Panicked => !matches!(pair.habit, Habit::PanicAfter(_) | Habit::PanicIn(_)),
            CloseReason::InputLimit => pair.habit != Habit::Hesitant,
            _ => false,
        }
    }
}
