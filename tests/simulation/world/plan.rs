//! What is decided before a schedule begins.

use std::time::Duration;

use echoloop::Config;

use crate::{
    choices::Choices,
    client::{MANNERS, Manner},
    kernel::{Acks, Faults, Nature, Rearm, transport::ERRORS},
    protocol::{CALLBACKS, Callback, Habit},
};

/// A schedule: everything that is decided before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clients: usize,
    pub steps: usize,
    pub limits: Config,
    pub nature: Nature,
    pub capacity: usize,
    pub listeners: usize,
    pub manners: Vec<Manner>,
    /// What each client sends; `None`: any number.
    pub bytes: Option<u64>,
    /// Its protocols say that they return what comes unchanged.
    pub is_pure: bool,
    pub habits: Vec<Habit>,
    /// Where TLS is spoken.
    pub tls: Option<TlsPlan>,
}

/// Where TLS is spoken, and how.
#[derive(Clone, Debug)]
pub struct TlsPlan {
    /// The listeners whose clients speak it, by position.
    pub listeners: Vec<bool>,
    /// What the server puts into a record at most.
    pub record_bytes: usize,
    /// The same of the clients; `None`: any number.
    pub client_record_bytes: Option<usize>,
    /// Clients do nothing that others would not.
    pub is_proper: bool,
}

impl Plan {
    /// A schedule with TLS.
    pub fn tls(choices: &Choices) -> Self {
        let mut plan = Self { is_pure: false, ..Self::new(choices) };
        let n = choices.u64(..500);
        plan.habits = match choices.u8(..4) {
            0 => vec![Habit::Echo],
            1 => vec![Habit::StartTls],
            2 => vec![Habit::Echo, Habit::Dialling, Habit::StartTls, Habit::Talkative],
            _ => vec![
                Habit::Echo,
                Habit::StartTls,
                Habit::FinishAfter(n),
                Habit::ShutdownAfter(n),
                Habit::AbortAfter(n),
                Habit::PanicAfter(n),
                Habit::Hesitant,
                Habit::Deferring,
                Habit::Piecewise,
                Habit::Talkative,
                Habit::Dialling,
                Habit::Refused,
                Habit::PanicIn(choices.of(&CALLBACKS).expect("there are some")),
            ],
        };
        plan.limits.handshake_timeout = match choices.u8(..4) {
            0 => None,
            1 => Some(Duration::from_millis(choices.u64(1..100))),
            _ => Some(Duration::from_millis(choices.u64(1..5000))),
        };
        // So many that all their handshakes go on in one turn.
        plan.limits.event_batch = choices.usize(1..=12);
        plan.nature.event_batch = plan.limits.event_batch;
        // Records are longer than what is in them.
        plan.limits.splice_threshold_bytes = None;
        plan.tls = Some(TlsPlan {
            listeners: (0..plan.listeners).map(|_| choices.u8(..4) > 0).collect(),
            record_bytes: if choices.bool() { choices.usize(1..=8) } else { choices.usize(1..=300) },
            client_record_bytes: None,
            is_proper: choices.bool(),
        });
        plan
    }

    pub fn new(choices: &Choices) -> Self {
        let is_pure = choices.u8(..3) == 0;
        let limits = limits(is_pure, choices);
        Self {
            clients: choices.usize(1..=8),
            steps: choices.usize(20..400),
            nature: Nature { left_percent: left_percent(choices), ..nature(&limits, choices) },
            limits,
            capacity: choices.usize(1..=8),
            listeners: choices.usize(1..=2),
            manners: if choices.u8(..3) == 0 {
                vec![Manner::Proper, Manner::LateReader, Manner::Waiting]
            } else {
                MANNERS.to_vec()
            },
            bytes: None,
            is_pure,
            habits: habits(is_pure, choices),
            tls: None,
        }
    }

    /// A small schedule in which nothing fails by itself, for the error sweep.
    pub fn script(choices: &Choices) -> Self {
        let (clients, steps) = (choices.usize(1..=3), choices.usize(20..80));
        Self { clients, steps, ..Self::new(choices) }.in_which_nothing_fails()
    }

    /// The same over TLS.
    pub fn tls_script(choices: &Choices) -> Self {
        let (clients, steps) = (choices.usize(1..=3), choices.usize(40..120));
        Self { clients, steps, ..Self::tls(choices) }.in_which_nothing_fails()
    }

    fn in_which_nothing_fails(mut self) -> Self {
        self.nature.faults = Faults { partial: 30, ..Faults::default() };
        self
    }
}

/// A kernel for a loop with these limits.
pub fn nature(limits: &Config, choices: &Choices) -> Nature {
    let faults = match choices.u8(..4) {
        0 => Faults::default(),
        1 => Faults { partial: 50, would_block: 10, interrupted: 5, ..Faults::default() },
        2 => Faults { partial: 90, would_block: 30, interrupted: 20, ..Faults::default() },
        _ => Faults { partial: 30, would_block: 10, interrupted: 5, error: 1, accept: 0 },
    };
    let rearm = if choices.bool() { Rearm::EveryEdge } else { Rearm::AfterWouldBlock };
    Nature {
        rearm,
        short_read_drains: rearm == Rearm::EveryEdge && choices.bool(),
        acks: choices.of(&[Acks::Unaskable, Acks::AtOnce, Acks::Late, Acks::Late]).expect("there are some"),
        wakes_at_last_ack: rearm == Rearm::EveryEdge && choices.bool(),
        may_vanish: choices.u8(..3) == 0,
        faults: Faults { accept: if choices.bool() { 0 } else { 30 }, ..faults },
        errors: &ERRORS,
        planned: None,
        time_passes_in_waits: true,
        buffer_bytes: None,
        backlog: limits.backlog as usize,
        event_batch: limits.event_batch,
        outbound_most: 6,
        left_percent: None,
    }
}

/// How many clients come by another worker. Most loops are the only ones.
fn left_percent(choices: &Choices) -> Option<u8> {
    match choices.u8(..6) {
        0 => Some(0),
        1 => Some(choices.u8(20..=100)),
        _ => None,
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
    if choices.u8(..4) == 0 {
        config.memory_limit_bytes = Some(choices.usize(1..20_000));
    }
    config.accept_burst = choices.usize(1..4);
    config.event_batch = choices.usize(1..4);
    config.mailbox_capacity = choices.usize(1..=5);
    config.backlog = if choices.bool() { 2 } else { 100 };
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
    config.drain_patience = Duration::from_millis(choices.u64(..2000));
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
        Habit::Refused,
        Habit::PanicIn(choices.of(&CALLBACKS).expect("there are some")),
    ]
}
