//! A simulated server with its clients: what a schedule does with them, first hostile, then calm.

mod check;
mod pair;
mod plan;
mod steps;

use std::{
    collections::hash_map::DefaultHasher,
    fmt::Debug,
    hash::{Hash, Hasher},
    rc::Rc,
    time::{Duration, Instant},
};

use echoloop::{Address, ConnectionId};

use self::pair::{Maker, Pair, Pairs};
pub use self::{
    pair::{Tls, by_name, elsewhere, elsewhere_secure, found},
    plan::{Plan, TlsPlan, limits, nature},
    steps::Moves,
};
use crate::{
    choices::Choices,
    client::{Manner, Seen},
    kernel::{FAR, Faults, Kernel, Nature, Planned, SharedKernel},
    protocol::{Broadcast, Habit, Note, SharedNeighbours, Simulated},
    secure::Secure,
    stage::{Failure, Stage},
};

/// `PURE` says what its protocols say of themselves.
pub struct World<const PURE: bool> {
    plan: Plan,
    choices: Choices,
    kernel: SharedKernel,
    stage: Stage<Simulated<PURE>>,
    maker: Rc<Maker>,
    pairs: Pairs,
    neighbours: SharedNeighbours,
    begin: Instant,
    trace: DefaultHasher,
    is_verbose: bool,
    /// What the server was told.
    is_draining: bool,
    is_aborted: bool,
}

/// What a schedule came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub trace: u64,
    pub calls: u64,
    pub echoed: u64,
    /// Bytes that went through pipes.
    pub moved: u64,
    /// Connections that went from one worker to another.
    pub changed_worker: u64,
    /// Clients over TLS that have agreed with the server.
    pub agreed: u64,
}

/// Runs a random schedule.
pub fn run_seed(seed: u64, is_verbose: bool) -> Result<Outcome, Failure> {
    run_choices(Choices::seeded(seed), is_verbose)
}

pub fn run_choices(choices: Choices, is_verbose: bool) -> Result<Outcome, Failure> {
    run(Plan::new(&choices), choices, is_verbose)
}

/// Runs a random schedule over TLS.
pub fn run_tls_seed(seed: u64, is_verbose: bool) -> Result<Outcome, Failure> {
    run_tls_choices(Choices::seeded(seed), is_verbose)
}

pub fn run_tls_choices(choices: Choices, is_verbose: bool) -> Result<Outcome, Failure> {
    run(Plan::tls(&choices), choices, is_verbose)
}

/// Runs a schedule in which nothing fails but what is planned.
pub fn run_script(seed: u64, planned: Option<Planned>, is_verbose: bool) -> Result<Outcome, Failure> {
    let choices = Choices::seeded(seed);
    run_planned(Plan::script(&choices), planned, choices, is_verbose)
}

/// The same over TLS.
pub fn run_tls_script(seed: u64, planned: Option<Planned>, is_verbose: bool) -> Result<Outcome, Failure> {
    let choices = Choices::seeded(seed);
    run_planned(Plan::tls_script(&choices), planned, choices, is_verbose)
}

fn run_planned(
    mut plan: Plan,
    planned: Option<Planned>,
    choices: Choices,
    is_verbose: bool,
) -> Result<Outcome, Failure> {
    plan.nature.planned = planned;
    run(plan, choices, is_verbose)
}

/// The same with connections that ask for others.
pub fn run_dials(seed: u64, planned: Option<Planned>) -> Result<Outcome, Failure> {
    let choices = Choices::seeded(seed);
    let habits = vec![Habit::Dialling, Habit::Echo];
    // Who has gone is told nothing.
    let manners = vec![Manner::Silent];
    let plan = Plan { is_pure: false, habits, manners, ..Plan::script(&choices) };
    let nature = Nature { planned, ..plan.nature };
    run(Plan { nature, ..plan }, choices, false)
}

pub fn run(plan: Plan, choices: Choices, is_verbose: bool) -> Result<Outcome, Failure> {
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
        let kernel = Kernel::new(&choices, plan.nature, begin, plan.listeners);
        let (pairs, neighbours) = (Pairs::default(), SharedNeighbours::default());
        let tls = plan.tls.clone().map(|of_plan| {
            let tls = Tls::new(&kernel, plan.limits.handshake_timeout, of_plan.record_bytes);
            (of_plan, tls)
        });
        let maker = Rc::new(Maker {
            kernel: Rc::clone(&kernel),
            pairs: Rc::clone(&pairs),
            neighbours: Rc::clone(&neighbours),
            manners: plan.manners.clone(),
            habits: plan.habits.clone(),
            bytes: plan.bytes,
            limits: Rc::new(plan.limits.clone()),
            tls,
        });
        let factory = Rc::clone(&maker);
        let mut stage = Stage::new(
            &kernel,
            plan.limits.clone(),
            plan.capacity,
            Box::new(move |peer| factory.protocol(peer)),
        );
        if let Some((of_plan, tls)) = &maker.tls {
            for (position, _) in of_plan.listeners.iter().enumerate().filter(|&(_, &is_secure)| is_secure) {
                stage.set_listener_tls(position, tls.acceptor.clone());
            }
        }
        Self {
            plan,
            choices,
            kernel,
            stage,
            maker,
            pairs,
            neighbours,
            begin,
            trace: DefaultHasher::new(),
            is_verbose,
            is_draining: false,
            is_aborted: false,
        }
    }

    /// The whole schedule: first hostile, then calm.
    pub fn run(mut self) -> Result<Outcome, Failure> {
        for _ in 0..self.plan.steps {
            self.step()?;
        }
        self.calm_down()?;
        self.check_end()?;
        let pairs = self.pairs.borrow();
        let echoed = pairs.iter().map(|pair| pair.client.received).sum();
        let moved = pairs.iter().map(|pair| pair.client.socket.borrow().moved).sum();
        let (calls, changed_worker) = (self.kernel.borrow().calls, self.kernel.borrow().changed_worker);
        let has_agreed = |pair: &&Pair| pair.client.secure.as_ref().is_some_and(Secure::is_agreed);
        let agreed = pairs.iter().filter(has_agreed).count() as u64;
        Ok(Outcome { trace: self.trace.finish(), calls, echoed, moved, changed_worker, agreed })
    }

    /// One client, no faults: how many bytes it gets back, and how it sees the end.
    pub fn converse(plan: Plan, manner: Manner, habit: Habit, to_send: u64) -> Result<(u64, Seen), Failure> {
        let mut plan = Plan { clients: 1, manners: vec![manner], habits: vec![habit], ..plan };
        plan.nature.faults = Faults::default();
        let mut world = Self::new(plan, Choices::seeded(0), false);
        world.connect();
        world.pairs.borrow_mut()[0].client.to_send = to_send;
        world.kernel.borrow_mut().calm_down();
        world.settle()?;
        world.pass_deadlines()?;
        let client = &world.pairs.borrow()[0].client;
        Ok((client.received, client.seen))
    }

    fn note(&mut self, what: impl Debug + Hash) {
        what.hash(&mut self.trace);
        if self.is_verbose {
            println!("{:>10?} {what:?}", self.stage.now() - self.begin);
        }
    }

    fn step(&mut self) -> Result<(), Failure> {
        match self.choices.u8(..100) {
            0..10 => self.connect(),
            10..18 if self.plan.nature.left_percent.is_some() => self.other_worker_acts()?,
            10..50 => self.some_client_acts()?,
            50..85 => self.turn()?,
            85..94 => self.time_passes(),
            94 => self.spurious_event(),
            95 => self.answer_lookup(),
            96 => self.message_to_some(),
            97 => self.message_all(),
            98 if self.maker.tls.is_some() && self.choices.bool() => self.ask_to_connect_over_tls(),
            98 if self.choices.bool() => self.ask_to_connect(elsewhere()),
            98 => self.ask_to_connect(by_name()),
            _ => match self.choices.u8(..32) {
                0 => self.abort(),
                1..4 => self.drain(),
                _ => {}
            },
        }
        Ok(())
    }

    fn connect(&mut self) {
        let inbound = self.pairs.borrow().iter().filter(|pair| !pair.is_outbound).count();
        if inbound >= self.plan.clients {
            return;
        }
        let listener = self.choices.usize(..self.plan.listeners);
        if !self.kernel.borrow().has_place(listener) {
            return;
        }
        let number = self.maker.add_inbound(listener);
        self.kernel.borrow_mut().arrive(listener, number);
        let about = {
            let pair = &self.pairs.borrow()[number];
            (pair.client.manner, pair.habit, pair.client.to_send)
        };
        self.note(("connect", number, listener, about));
    }

    fn other_worker_acts(&mut self) -> Result<(), Failure> {
        for _ in 0..self.choices.u8(1..=6) {
            self.stage.other_worker(|kernel| {
                if !kernel.other_worker_acts() {
                    kernel.other_worker_has_another();
                }
            })?;
        }
        self.note("the other worker");
        Ok(())
    }

    fn some_client_acts(&mut self) -> Result<(), Failure> {
        let clients = self.pairs.borrow().len();
        if clients > 0 {
            self.client_acts(self.choices.usize(..clients))?;
        }
        Ok(())
    }

    /// True if it did anything.
    fn client_acts(&mut self, number: usize) -> Result<bool, Failure> {
        let (has_acted, state) = {
            let client = &mut self.pairs.borrow_mut()[number].client;
            let has_acted = client.act(&self.kernel.borrow(), false)?;
            (has_acted, (client.sent, client.received, client.seen, client.gone))
        };
        self.note(("client", number, state));
        Ok(has_acted)
    }

    /// Reported without a cause, or for a connection that is gone.
    fn spurious_event(&mut self) {
        let ids: Vec<ConnectionId> = self.pairs.borrow().iter().filter_map(|pair| pair.id()).collect();
        if let Some(id) = self.choices.of(&ids) {
            self.note(("spurious", id.token().0));
            self.kernel.borrow_mut().stray_events.push(id.token());
        }
    }

    /// From another thread, as it were.
    fn message_to_some(&mut self) {
        let clients = self.pairs.borrow().len();
        if clients > 0 {
            self.message(self.choices.usize(..clients));
        }
    }

    fn message(&mut self, number: usize) {
        let id = self.pairs.borrow()[number].id();
        if let Some(id) = id {
            let message = Note::To(u8::try_from(number).expect("few clients"));
            let is_taken = self.stage.handle.send(id, message).is_ok();
            self.neighbours.borrow_mut().told += u64::from(is_taken);
            self.note(("message", number, is_taken));
        }
    }

    fn message_all(&mut self) {
        let mut neighbours = self.neighbours.borrow_mut();
        let (serial, sent) = (neighbours.broadcasts.len(), neighbours.happens());
        let is_taken = self.stage.handle.send_all(Note::All(serial)).is_ok();
        if is_taken {
            neighbours.broadcasts.push(Broadcast { from: None, sent });
        }
        drop(neighbours);
        self.note(("message to all", serial, is_taken));
    }

    fn ask_to_connect(&mut self, address: Address) {
        let is_taken = self.stage.handle.connect(address, 0).is_ok();
        self.note(("ask to connect", is_taken));
    }

    fn ask_to_connect_over_tls(&mut self) {
        let Some((_, tls)) = &self.maker.tls else { return };
        let is_taken = self.stage.handle.connect_tls(elsewhere_secure(), 0, tls.connector.clone()).is_ok();
        self.note(("ask to connect over TLS", is_taken));
    }

    fn answer_lookup(&mut self) {
        if !self.stage.lookups.are_empty() {
            self.note("lookup");
            self.stage.lookups.answer(&self.choices);
        }
    }

    fn drain(&mut self) {
        self.note("drain");
        self.is_draining = true;
        if !self.is_aborted {
            self.kernel.borrow_mut().note_drain();
        }
        self.stage.handle.drain();
    }

    fn abort(&mut self) {
        self.note("abort");
        self.is_aborted = true;
        self.kernel.borrow_mut().forgive_backlogs();
        self.stage.handle.abort();
    }

    /// Whether the server ends in a hurry.
    const fn is_aborted(&self) -> bool {
        self.is_aborted || self.stage.has_failed
    }

    fn time_passes(&mut self) {
        let ahead = match self.choices.u8(..20) {
            // The loop is held up.
            0 => Duration::from_millis(self.choices.u64(..20_000)),
            1..5 => self.stage.left_until_deadline().unwrap_or_default(),
            _ => Duration::from_millis(self.choices.u64(..20)),
        };
        self.advance(ahead);
    }

    fn advance(&mut self, ahead: Duration) {
        self.stage.advance(ahead);
        self.note(("time", ahead));
    }

    fn turn(&mut self) -> Result<(), Failure> {
        self.stage.turn()?;
        let state =
            (self.stage.connections().map(|all| (all.len(), all.has_work())), self.stage.now() - self.begin);
        self.note(("turn", state));
        self.check()
    }

    /// Faults stop. Everything must come to its end, and proper clients without waiting for any deadline.
    fn calm_down(&mut self) -> Result<(), Failure> {
        self.note("calm");
        self.kernel.borrow_mut().calm_down();
        for _ in 0..2 * self.plan.clients {
            self.connect();
        }
        for pair in self.pairs.borrow_mut().iter_mut() {
            if pair.client.manner == Manner::Endless {
                pair.client.manner = Manner::Proper;
                pair.client.to_send = pair.client.sent;
            }
        }
        let patient = self.patient();
        self.settle()?;
        self.answer_lookups()?;
        self.wait_for_a_retry()?;
        self.answer_lookups()?;
        self.check_proper_clients()?;
        self.check_broadcasts()?;
        self.pass_deadlines()?;
        self.check_deadlines_passed()?;
        self.check_patient(&patient)?;
        self.drain();
        self.settle()?;
        self.pass_deadlines()?;
        if self.stage.is_finished() {
            return Ok(());
        }
        Err("the connections do not come to their ends".to_owned())
    }

    fn answer_lookups(&mut self) -> Result<(), Failure> {
        while self.stage.lookups.answer_with(Some(1)) {
            self.settle()?;
        }
        Ok(())
    }

    /// Accepting may have failed, and is tried again after a while.
    fn wait_for_a_retry(&mut self) -> Result<(), Failure> {
        let until = self.stage.now() + RETRY_MOST;
        while self.kernel.borrow().has_waiting()
            && let Some(left) = self.stage.left_until_deadline()
            && self.stage.now() + left <= until
        {
            self.advance(left);
            self.settle()?;
        }
        Ok(())
    }

    /// From deadline to deadline until none is left, or until nothing has moved for so long that nothing will: without
    /// a write timeout a client that never reads is looked at for ever.
    fn pass_deadlines(&mut self) -> Result<(), Failure> {
        let (mut progress, mut since) = (self.kernel.borrow().progress, self.stage.now());
        for _ in 0..10_000 {
            if self.kernel.borrow().progress != progress {
                (progress, since) = (self.kernel.borrow().progress, self.stage.now());
            } else if self.stage.now() > since + PATIENCE {
                return Ok(());
            }
            match self.stage.left_until_deadline() {
                Some(ahead) if ahead <= FAR => self.advance(ahead),
                Some(_) | None => return Ok(()),
            }
            self.settle()?;
        }
        Err("deadlines come for ever".to_owned())
    }

    fn settle(&mut self) -> Result<(), Failure> {
        let (pairs, kernel) = (Rc::clone(&self.pairs), Rc::clone(&self.kernel));
        self.stage.settle(|| {
            let mut has_acted = false;
            for pair in pairs.borrow_mut().iter_mut() {
                has_acted |= pair.client.act(&kernel.borrow(), true)?;
            }
            Ok(has_acted)
        })?;
        self.check()?;
        self.check_mail()
    }
}

/// Longer than all deadlines, and than a kernel tries to reach a host that is gone.
const PATIENCE: Duration = Duration::from_secs(2000);

/// Accepting is tried again after so long at most.
const RETRY_MOST: Duration = Duration::from_millis(100);
