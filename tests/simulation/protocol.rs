//! What the simulated server speaks: echo, with every way to end.

use std::{
    cell::RefCell,
    panic,
    rc::Rc,
    time::{Duration, Instant},
};

use echoloop::{CloseReason, ConnectionId, Context, Flow, Input, Peer, Protocol, Timeout, TlsInfo};

use super::{
    client::aside,
    secure::{REPLY, REQUEST},
    witness::Witness,
    world::{Tls, by_name, elsewhere, elsewhere_secure},
};

/// What a connection's protocol does beside echoing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Habit {
    /// Echoes, and ends when the peer ends.
    Echo,
    /// Finishes after so many bytes.
    FinishAfter(u64),
    /// Shuts its writing side after so many bytes.
    ShutdownAfter(u64),
    /// Aborts after so many bytes.
    AbortAfter(u64),
    /// Panics after so many bytes.
    PanicAfter(u64),
    /// Consumes half, pauses, and comes back to the rest when a timer fires.
    Hesitant,
    /// Keeps what comes to itself and writes it when a timer fires or a message comes.
    Deferring,
    /// Copies instead of forwarding, in pieces, and stops when told that the queue is full.
    Piecewise,
    /// Sends a message to some connection, perhaps itself, from inside its callbacks.
    Talkative,
    /// Asks for an outbound connection from inside a callback, once.
    Dialling,
    /// Begins TLS when its client asks for it, and echoes then.
    StartTls,
    /// Panics in this callback.
    PanicIn(Callback),
    /// The factory refuses the connection.
    Refused,
}

/// Where a protocol can panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Callback {
    Factory,
    Open,
    Data,
    Writable,
    Eof,
    Timeout,
    Message,
    Drain,
    Close,
}

pub const CALLBACKS: [Callback; 9] = [
    Callback::Factory,
    Callback::Open,
    Callback::Data,
    Callback::Writable,
    Callback::Eof,
    Callback::Timeout,
    Callback::Message,
    Callback::Drain,
    Callback::Close,
];

/// What all protocols of a world know of each other.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// Every connection that was ever opened, and what its messages say.
    ids: Vec<(ConnectionId, u8)>,
    /// Messages to one that the mailbox or the outbox has taken.
    pub told: u64,
    /// Messages to all, by serial number.
    pub broadcasts: Vec<Broadcast>,
    /// Counts what happens, so that it has an order.
    pub happened: u64,
}

/// A message to all.
#[derive(Clone, Copy, Debug)]
pub struct Broadcast {
    /// Who does not get it; none if it came from outside the loop.
    pub from: Option<ConnectionId>,
    pub sent: u64,
}

impl Neighbours {
    pub fn happens(&mut self) -> u64 {
        self.happened += 1;
        self.happened
    }
}

/// What connections tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// To the connection of this number.
    To(u8),
    /// To all, with its serial number.
    All(usize),
}

pub type SharedNeighbours = Rc<RefCell<Neighbours>>;

/// Messages that one talkative protocol sends.
const MESSAGES_EACH: u8 = 20;

/// What a connection's protocol has seen, kept by the test.
#[derive(Debug, Default)]
pub struct Record {
    pub opened: u32,
    /// When it was opened and closed, as the neighbours count.
    pub opened_at: u64,
    /// Bytes of the echo that were given to the context to be sent.
    pub echoed: u64,
    /// Bytes beside it.
    pub asides: u64,
    /// The messages to all that have come, in their order.
    pub heard: Vec<usize>,
    pub eof: bool,
    /// It finished because of idleness.
    pub was_idle: bool,
    pub closed: Option<CloseReason>,
    pub callbacks: u64,
    pub messages: u64,
    /// The context has taken its wish for an outbound connection.
    pub has_dialled: bool,
    /// TLS that it has begun is agreed on.
    pub is_secure: bool,
    /// It was told that it is made.
    pub dials_made: u32,
    /// It was told that nothing came of it.
    pub dials_failed: u32,
    /// The queue's size when the last callback ended.
    pub queued: usize,
    pub violations: Vec<String>,
}

pub type SharedRecord = Rc<RefCell<Record>>;

/// The protocol. A `PURE` one says of itself that it returns what comes unchanged, so that some of it never comes here.
#[derive(Debug)]
pub struct Simulated<const PURE: bool> {
    pub habit: Habit,
    pub record: SharedRecord,
    /// What messages for this connection say.
    number: u8,
    inside: bool,
    is_full: bool,
    kept: Vec<u8>,
    neighbours: SharedNeighbours,
    messages_left: u8,
    has_dialled: bool,
    timer_due: Option<Instant>,
    has_finished: bool,
    /// What it speaks TLS with, where that is spoken.
    tls: Option<Tls>,
    /// It may write: its client has not to ask for TLS before.
    may_talk: bool,
    witness: Option<Witness>,
}

impl<const PURE: bool> Simulated<PURE> {
    pub fn new(habit: Habit, record: SharedRecord, number: u8, neighbours: SharedNeighbours) -> Self {
        Self {
            habit,
            record,
            number,
            inside: false,
            is_full: false,
            kept: Vec::new(),
            neighbours,
            messages_left: MESSAGES_EACH,
            has_dialled: false,
            timer_due: None,
            has_finished: false,
            tls: None,
            may_talk: habit != Habit::StartTls,
            witness: None,
        }
    }

    /// Everything that happens too early is noted.
    pub fn watched_by(self, witness: Witness) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// It can begin TLS, and connect over it.
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    fn start_tls(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Note>) {
        if input.bytes().len() < REQUEST.len() {
            return;
        }
        if &input.bytes()[..REQUEST.len()] != REQUEST {
            self.record.borrow_mut().violations.push("no wish for TLS".to_owned());
        }
        input.consume(REQUEST.len());
        cx.write(REPLY);
        cx.start_tls(self.tls.as_ref().expect("it is spoken here").acceptor.clone());
        self.may_talk = true;
        // Not for everyone to see.
        self.say_aside(cx);
    }

    fn check(&self, seen: impl FnOnce(&Witness) -> Result<(), String>) {
        if let Some(Err(violation)) = self.witness.as_ref().map(seen) {
            self.record.borrow_mut().violations.push(violation);
        }
    }

    /// An outbound connection is made or not, once.
    fn check_answer(&self, is_right: bool) {
        let mut record = self.record.borrow_mut();
        if !is_right || !record.has_dialled || record.dials_made + record.dials_failed > 1 {
            record.violations.push("news of a connection that was not asked for".to_owned());
        }
    }

    /// Says something that is no echo.
    fn say_aside(&self, cx: &mut Context<'_, Note>) {
        let mut record = self.record.borrow_mut();
        if self.may_talk && !cx.is_full() && cx.write(&[aside(record.asides)]) != Flow::Closed {
            record.asides += 1;
        }
    }

    fn set_timer(&mut self, cx: &mut Context<'_, Note>) {
        cx.set_timer(1, DELAY);
        self.timer_due = self.witness.as_ref().map(|witness| witness.now() + DELAY);
    }

    fn finish(&mut self, cx: &mut Context<'_, Note>) {
        self.has_finished = true;
        cx.finish();
    }

    fn enter(&mut self, callback: Callback) {
        self.note_entry();
        // Messages still come, and the end does.
        if self.has_finished && !matches!(callback, Callback::Message | Callback::Close) {
            self.record.borrow_mut().violations.push(format!("{callback:?} after it has finished"));
        }
        self.panic_if_in(callback);
    }

    fn panic_if_in(&mut self, callback: Callback) {
        if self.habit == Habit::PanicIn(callback) {
            self.inside = false;
            panic::panic_any(PlannedPanic);
        }
    }

    fn note_entry(&mut self) {
        let mut record = self.record.borrow_mut();
        record.callbacks += 1;
        if self.inside {
            record.violations.push("a callback inside another".to_owned());
        }
        if record.closed.is_some() {
            record.violations.push("a callback after on_close".to_owned());
        }
        self.inside = true;
    }

    fn leave(&mut self, cx: &Context<'_, Note>) {
        self.inside = false;
        self.record.borrow_mut().queued = cx.queued();
    }

    fn echo(&self, input: &mut Input<'_>, cx: &mut Context<'_, Note>) {
        let n = input.bytes().len() as u64;
        if cx.forward(input) != Flow::Closed {
            self.record.borrow_mut().echoed += n;
        }
    }

    fn copy(&mut self, n: usize, input: &mut Input<'_>, cx: &mut Context<'_, Note>) {
        match cx.write(&input.bytes()[..n]) {
            Flow::Closed => {}
            flow => {
                self.record.borrow_mut().echoed += n as u64;
                self.is_full = flow == Flow::Full;
            }
        }
        input.consume(n);
    }

    fn write_kept(&mut self, cx: &mut Context<'_, Note>) {
        let kept = std::mem::take(&mut self.kept);
        if cx.write(&kept) != Flow::Closed {
            self.record.borrow_mut().echoed += kept.len() as u64;
        }
    }

    /// Tells some connection something, from inside a callback.
    fn talk(&mut self, cx: &mut Context<'_, Note>) {
        let Some(left) = self.messages_left.checked_sub(1).filter(|_| self.habit == Habit::Talkative) else {
            return;
        };
        self.messages_left = left;
        let mut neighbours = self.neighbours.borrow_mut();
        if neighbours.ids.is_empty() {
            return;
        }
        let chosen = usize::from(left) * 7 % neighbours.ids.len();
        let (id, number) = neighbours.ids[chosen];
        let taken = match left % 4 {
            0 => cx.handle().send(id, Note::To(number)),
            1 => {
                let (serial, sent) = (neighbours.broadcasts.len(), neighbours.happens());
                if cx.send_all(Note::All(serial)).is_ok() {
                    neighbours.broadcasts.push(Broadcast { from: Some(cx.id()), sent });
                }
                return;
            }
            _ => cx.send(id, Note::To(number)),
        };
        neighbours.told += u64::from(taken.is_ok());
    }

    fn echoed(&self) -> u64 {
        self.record.borrow().echoed
    }
}

impl<const PURE: bool> Protocol for Simulated<PURE> {
    type Message = Note;

    fn returns_input_unchanged(&self) -> bool {
        PURE
    }

    fn on_open(&mut self, cx: &mut Context<'_, Note>) {
        self.record.borrow_mut().opened += 1;
        self.record.borrow_mut().opened_at = self.neighbours.borrow_mut().happens();
        self.enter(Callback::Open);
        self.neighbours.borrow_mut().ids.push((cx.id(), self.number));
        self.leave(cx);
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Note>) {
        self.enter(Callback::Data);
        match self.habit {
            Habit::Echo | Habit::PanicIn(_) | Habit::Refused => self.echo(input, cx),
            Habit::Talkative => {
                self.echo(input, cx);
                self.talk(cx);
            }
            Habit::Dialling => {
                self.echo(input, cx);
                if !std::mem::replace(&mut self.has_dialled, true) {
                    let elsewhere = if asks_by_name(self.number.into()) { by_name() } else { elsewhere() };
                    let tls = self.tls.as_ref().filter(|_| self.number.is_multiple_of(4));
                    if let Some(tls) = tls {
                        let made = cx.connect_tls(elsewhere_secure(), LABEL, tls.connector.clone());
                        self.record.borrow_mut().has_dialled = made.is_ok();
                    } else if self.number.is_multiple_of(2) {
                        self.record.borrow_mut().has_dialled = cx.connect(elsewhere, LABEL).is_ok();
                    } else {
                        // A mailbox that is full is as good as a server that does not answer.
                        let _ = cx.handle().connect(elsewhere, LABEL);
                    }
                }
            }
            Habit::StartTls if !self.may_talk => self.start_tls(input, cx),
            Habit::StartTls => {
                if !self.record.borrow().is_secure {
                    self.record.borrow_mut().violations.push("input before TLS is agreed on".to_owned());
                }
                self.echo(input, cx);
            }
            Habit::FinishAfter(n) => {
                self.echo(input, cx);
                if self.echoed() >= n {
                    self.finish(cx);
                }
            }
            Habit::ShutdownAfter(n) => {
                self.echo(input, cx);
                if self.echoed() >= n {
                    cx.shutdown_write();
                }
            }
            Habit::AbortAfter(n) => {
                self.echo(input, cx);
                if self.echoed() >= n {
                    cx.abort();
                }
            }
            Habit::PanicAfter(n) => {
                if self.echoed() + input.bytes().len() as u64 > n {
                    self.inside = false;
                    panic::panic_any(PlannedPanic);
                }
                self.echo(input, cx);
            }
            Habit::Hesitant => {
                let n = input.bytes().len().div_ceil(2);
                self.copy(n, input, cx);
                if !input.bytes().is_empty() {
                    cx.pause_reading();
                    self.set_timer(cx);
                }
            }
            Habit::Deferring => {
                self.kept.extend_from_slice(input.take());
                if self.kept.len() > 50 {
                    cx.pause_reading();
                }
                self.set_timer(cx);
            }
            Habit::Piecewise => {
                while !input.bytes().is_empty() && !self.is_full {
                    self.copy(input.bytes().len().min(3), input, cx);
                }
                if self.is_full {
                    cx.pause_reading();
                }
            }
        }
        self.leave(cx);
    }

    fn on_writable(&mut self, cx: &mut Context<'_, Note>) {
        self.enter(Callback::Writable);
        if self.habit == Habit::Piecewise {
            self.is_full = false;
            cx.resume_reading();
        }
        self.leave(cx);
    }

    fn on_eof(&mut self, rest: &mut Input<'_>, cx: &mut Context<'_, Note>) {
        self.enter(Callback::Eof);
        self.record.borrow_mut().eof = true;
        self.write_kept(cx);
        if self.habit == Habit::StartTls && !self.record.borrow().is_secure {
            rest.take();
        }
        self.echo(rest, cx);
        self.finish(cx);
        self.leave(cx);
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, Note>) {
        self.enter(Callback::Timeout);
        match which {
            Timeout::Timer(_) => {
                let due = self.timer_due;
                self.check(|witness| witness.timer(due));
                self.write_kept(cx);
                cx.resume_reading();
            }
            _ => {
                self.check(Witness::idle);
                self.record.borrow_mut().was_idle = true;
                self.finish(cx);
            }
        }
        self.leave(cx);
    }

    fn on_message(&mut self, message: Note, cx: &mut Context<'_, Note>) {
        match message {
            Note::To(number) => {
                let mut record = self.record.borrow_mut();
                record.messages += 1;
                if number != self.number {
                    record.violations.push(format!("a message for {number}"));
                }
            }
            Note::All(serial) => self.record.borrow_mut().heard.push(serial),
        }
        self.enter(Callback::Message);
        self.write_kept(cx);
        self.say_aside(cx);
        self.talk(cx);
        self.leave(cx);
    }

    fn on_connected(&mut self, label: u64, peer: &Peer<'_>, cx: &mut Context<'_, Note>) {
        self.note_entry();
        self.record.borrow_mut().dials_made += 1;
        let has_opened = self.neighbours.borrow().ids.iter().any(|&(id, _)| id == peer.id);
        self.check_answer(label == LABEL && peer.requested_by == Some(cx.id()) && has_opened);
        self.say_aside(cx);
        self.leave(cx);
    }

    fn on_connect_failed(&mut self, label: u64, _reason: &CloseReason, cx: &mut Context<'_, Note>) {
        self.note_entry();
        self.record.borrow_mut().dials_failed += 1;
        self.check_answer(label == LABEL);
        self.leave(cx);
    }

    fn on_tls(&mut self, tls: &TlsInfo, cx: &mut Context<'_, Note>) {
        self.note_entry();
        let mut record = self.record.borrow_mut();
        if self.habit != Habit::StartTls || record.is_secure || tls.version != "toy" {
            record.violations.push("TLS that it has not asked for".to_owned());
        }
        record.is_secure = true;
        drop(record);
        self.leave(cx);
    }

    fn on_drain(&mut self, cx: &mut Context<'_, Note>) {
        let never_pauses = self.habit == Habit::Echo;
        self.check(|witness| witness.drain(never_pauses));
        self.enter(Callback::Drain);
        self.finish(cx);
        self.leave(cx);
    }

    fn on_close(&mut self, reason: &CloseReason, cx: &mut Context<'_, Note>) {
        self.note_entry();
        self.check(|witness| witness.close(*reason));
        self.record.borrow_mut().closed = Some(*reason);
        self.panic_if_in(Callback::Close);
        self.talk(cx);
    }
}

/// Whether the client of this number has its connection to another asked for by name.
pub const fn asks_by_name(number: usize) -> bool {
    number % 4 == 2
}

/// How long the timers of protocols run.
const DELAY: Duration = Duration::from_millis(5);

/// What the wish for an outbound connection is called.
const LABEL: u64 = 77;

/// The payload of the panics that are part of the simulation.
pub struct PlannedPanic;

/// Panics that are part of the simulation are not reported.
pub fn hush_planned_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<PlannedPanic>().is_none() {
            report(info);
        }
    }));
}
