//! The protocol of a connection of the load: send, check what comes back, disconnect the documented way.

use std::{sync::Arc, time::Duration};

use echoloop::{CloseReason, Context, Flow, Input, Protocol, Timeout};

use super::{
    clock,
    echo::Echo,
    ends::End,
    plan::{Plan, QUEUE_MAX},
    tally::Start,
    worker::{Order, Shared, Stage, Worker},
};

/// The timer after which more of a long message is written.
const REFILL: u64 = 0;

/// How long a full queue gets to drain.
const REFILL_DELAY: Duration = Duration::from_millis(1);

/// One connection of the load.
#[derive(Debug)]
pub(super) struct Connection {
    worker: Shared,
    label: u64,
    /// When it was wanted, and when the loop was asked for it.
    start: Start,
    talk: Talk,
    /// How it ends, if that is known before it is closed.
    end: Option<End>,
}

/// What is said on a connection.
#[derive(Debug)]
struct Talk {
    plan: Arc<Plan>,
    echo: Echo,
    phase: Phase,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Being made.
    Connecting,
    /// Messages may begin.
    Open,
    /// No more messages begin; our FIN follows.
    Ending,
    /// Our FIN is sent.
    Shut,
}

impl Connection {
    pub(super) fn new(plan: Arc<Plan>, worker: Shared, label: u64) -> Self {
        let start = worker.lock().begun();
        let echo = Echo::new(Arc::clone(&plan.pattern), plan.size, label);
        Self { worker, label, start, talk: Talk { plan, echo, phase: Phase::Connecting }, end: None }
    }

    /// What is wrong is not to be talked to any longer.
    fn give_up(&mut self, end: End, cx: &mut Context<'_, Order>) {
        self.end = Some(end);
        cx.abort();
    }
}

impl Talk {
    /// The connection is made: does what the load is at.
    fn open(&mut self, worker: &mut Worker, start: Start) {
        self.phase = Phase::Open;
        if self.plan.churn {
            // Its message was claimed when the connection was wanted, and there is no other.
            self.echo.begin(start);
            self.phase = Phase::Ending;
            return;
        }
        match worker.stage() {
            Stage::Connecting => {}
            Stage::Running if self.plan.is_paced() => {}
            Stage::Running => self.fill_pipeline(worker),
            Stage::Stopping => self.phase = Phase::Ending,
        }
    }

    /// Begins a message, unless no more are to begin.
    fn begin(&mut self, worker: &mut Worker, start: Start) {
        if self.phase == Phase::Open {
            if worker.claim() {
                self.echo.begin(start);
            } else {
                self.phase = Phase::Ending;
            }
        }
    }

    /// Closed loop: as many messages as the pipeline holds.
    fn fill_pipeline(&mut self, worker: &mut Worker) {
        let start = Start::at(clock::now());
        for _ in 0..self.plan.pipeline {
            self.begin(worker, start);
        }
    }

    /// Begins no more messages; with `keep` those that have begun are all sent.
    fn stop(&mut self, keep: bool) {
        if self.phase == Phase::Open {
            self.phase = Phase::Ending;
        }
        if !keep {
            self.echo.forget_unsent();
        }
    }

    /// Hands over what there is to send, as far as there is room, and our FIN behind the last of it.
    fn send(&mut self, cx: &mut Context<'_, Order>) {
        while cx.queued() < QUEUE_MAX {
            let Some(piece) = self.echo.next_piece() else { break };
            if cx.write(piece) == Flow::Closed {
                return;
            }
        }
        if !self.echo.is_sent() {
            cx.set_timer(REFILL, REFILL_DELAY);
        } else if self.phase == Phase::Ending && (self.plan.churn || self.echo.is_back()) {
            self.phase = Phase::Shut;
            cx.shutdown_write();
        }
    }

    /// Counts the messages that are whole, and in a closed loop begins as many.
    fn complete(&mut self, whole: usize, worker: &mut Worker) {
        let now = clock::now();
        for _ in 0..whole {
            let start = self.echo.whole();
            worker.tally_mut().record(start, now);
            if !self.plan.is_paced() {
                self.begin(worker, Start::at(now));
            }
        }
    }
}

impl Protocol for Connection {
    type Message = Order;

    fn on_open(&mut self, cx: &mut Context<'_, Order>) {
        let talk = &mut self.talk;
        {
            let mut worker = self.worker.lock();
            worker.opened(cx.id(), self.label, self.start.sent, clock::now());
            talk.open(&mut worker, self.start);
        }
        talk.send(cx);
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Order>) {
        let bytes = input.take();
        if self.end.is_some() {
            return;
        }
        let Ok(whole) = self.talk.echo.receive(bytes) else {
            return self.give_up(End::Corrupt, cx);
        };
        {
            let mut worker = self.worker.lock();
            worker.tally_mut().bytes += bytes.len() as u64;
            if whole > 0 {
                self.talk.complete(whole, &mut worker);
            }
        }
        self.talk.send(cx);
    }

    fn on_eof(&mut self, _rest: &mut Input<'_>, cx: &mut Context<'_, Order>) {
        let end = match self.talk.phase {
            Phase::Connecting | Phase::Open | Phase::Ending | Phase::Shut if !self.talk.echo.is_back() => {
                End::Truncated
            }
            Phase::Connecting | Phase::Open | Phase::Ending => End::ShortClose,
            Phase::Shut => End::Fin,
        };
        self.end.get_or_insert(end);
        cx.finish();
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, Order>) {
        if which == Timeout::Timer(REFILL) {
            self.talk.send(cx);
        } else if !self.talk.echo.is_back() || self.talk.phase == Phase::Shut {
            self.give_up(End::Unanswered, cx);
        }
    }

    fn on_message(&mut self, order: Order, cx: &mut Context<'_, Order>) {
        let talk = &mut self.talk;
        match order {
            Order::Begin => talk.fill_pipeline(&mut self.worker.lock()),
            Order::Send(due) if talk.phase == Phase::Open => {
                talk.echo.begin(Start { due, sent: clock::now() });
            }
            Order::Send(_) => {}
            Order::Stop { keep } => talk.stop(keep),
        }
        talk.send(cx);
    }

    fn on_drain(&mut self, cx: &mut Context<'_, Order>) {
        self.on_message(Order::Stop { keep: true }, cx);
    }

    fn on_close(&mut self, reason: &CloseReason) {
        let was_open = self.talk.phase != Phase::Connecting;
        let end = self.end.unwrap_or_else(|| End::of(*reason, was_open));
        self.worker.lock().closed(self.label, was_open, end);
    }
}
