//! The protocol of a connection of the load: send, check what comes back, disconnect in the documented way.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use echoloop::{CloseReason, Context, Flow, Input, Protocol, Timeout};

use super::{
    instruction::Instruction,
    messages::Messages,
    pattern::Pattern,
    worker::{SharedWorker, Worker, WorkerStage},
};
use crate::cli::bench::{
    clock,
    measure::{ends::End, tally::Start},
    plan::Plan,
};

/// Output is written while less than this is queued. A connection never queues more than a piece above it.
pub(super) const QUEUE_MAX_BYTES: usize = 256 << 10;

/// The timer after which more of a long message is written.
const REFILL: u64 = 0;

/// How long to wait before more is written to a full queue.
const REFILL_DELAY: Duration = Duration::from_millis(1);

/// One connection of the load.
#[derive(Debug)]
pub(super) struct LoadConnection {
    worker: SharedWorker,
    label: u64,
    /// When it was due, and when it was requested from the loop.
    start: Start,
    conversation: Conversation,
    /// How it ends, if that is known before it is closed.
    end: Option<End>,
}

/// What is sent and received on a connection.
#[derive(Debug)]
struct Conversation {
    plan: Arc<Plan>,
    messages: Messages,
    phase: ConnectionPhase,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionPhase {
    /// It is not established yet.
    Connecting,
    /// Messages may begin.
    Open,
    /// No more messages begin; our FIN follows the last one.
    Ending,
    /// Our FIN is sent.
    Shut,
}

impl LoadConnection {
    pub(super) fn new(plan: Arc<Plan>, pattern: Arc<Pattern>, worker: SharedWorker, label: u64) -> Self {
        let start = worker.lock().connect_started();
        let messages = Messages::new(pattern, plan.size, label);
        let conversation = Conversation { plan, messages, phase: ConnectionPhase::Connecting };
        Self { worker, label, start, conversation, end: None }
    }

    /// Aborts the connection, because the server has failed in this way.
    fn give_up(&mut self, end: End, cx: &mut Context<'_, Instruction>) {
        self.end = Some(end);
        cx.abort();
    }

    /// Counts the messages that were waited for in vain, if that is how the connection ended.
    fn count_unanswered(&self, end: End, worker: &mut Worker) {
        let now = clock::now();
        match end {
            End::Unanswered | End::Truncated | End::ShortClose | End::Reset | End::Failed => {
                self.conversation.messages.in_flight().for_each(|start| worker.gave_up(start.due, 1, now));
            }
            // With churn a message was due with the connection.
            End::ConnectTimeout | End::Refused | End::ConnectFailed(_) if self.conversation.plan.churn => {
                worker.gave_up(self.start.due, 1, now);
            }
            End::ConnectTimeout
            | End::Cancelled
            | End::Fin
            | End::Corrupt
            | End::Refused
            | End::ConnectFailed(_) => {}
        }
    }
}

impl Conversation {
    /// The connection is established: joins in with what the worker is doing.
    fn open(&mut self, worker: &mut Worker, start: Start) {
        self.phase = ConnectionPhase::Open;
        if self.plan.churn {
            // Its message was claimed when the connection was wanted, and there is no other.
            self.messages.begin(start);
            self.phase = ConnectionPhase::Ending;
            return;
        }
        match worker.stage() {
            WorkerStage::Connecting => {}
            WorkerStage::Running if self.plan.is_open_loop() => {}
            WorkerStage::Running => self.fill_pipeline(worker),
            WorkerStage::Stopping => self.phase = ConnectionPhase::Ending,
        }
    }

    /// Begins a message, unless no more are to begin.
    fn begin(&mut self, worker: &mut Worker, start: Start) {
        if self.phase == ConnectionPhase::Open {
            if worker.claim_message() {
                self.messages.begin(start);
            } else {
                self.phase = ConnectionPhase::Ending;
            }
        }
    }

    /// Closed loop: begins as many messages as the pipeline holds.
    fn fill_pipeline(&mut self, worker: &mut Worker) {
        let start = Start::at(clock::now());
        for _ in 0..self.plan.pipeline {
            self.begin(worker, start);
        }
    }

    /// Begins no more messages. With `send_due`, those that have begun are all sent.
    fn stop(&mut self, send_due: bool) {
        if self.phase == ConnectionPhase::Open {
            self.phase = ConnectionPhase::Ending;
        }
        if !send_due {
            self.messages.forget_unsent();
        }
    }

    /// Writes what there is to send, as far as there is room in the queue, and our FIN after the last of it.
    fn send(&mut self, cx: &mut Context<'_, Instruction>) {
        while cx.queued() < QUEUE_MAX_BYTES {
            let Some(piece) = self.messages.next_piece() else { break };
            if cx.write(piece) == Flow::Closed {
                return;
            }
        }
        if !self.messages.all_sent() {
            cx.set_timer(REFILL, REFILL_DELAY);
        } else if self.phase == ConnectionPhase::Ending && (self.plan.churn || self.messages.all_back()) {
            self.phase = ConnectionPhase::Shut;
            cx.shutdown_write();
        }
    }

    /// Counts messages that are complete. In a closed loop as many new ones begin.
    fn complete(&mut self, completed: usize, worker: &mut Worker, now: Instant) {
        for _ in 0..completed {
            let start = self.messages.take_completed();
            worker.answered(start, now);
            if !self.plan.is_open_loop() {
                self.begin(worker, Start::at(now));
            }
        }
    }
}

impl Protocol for LoadConnection {
    type Message = Instruction;

    fn on_open(&mut self, cx: &mut Context<'_, Instruction>) {
        let conversation = &mut self.conversation;
        {
            let mut worker = self.worker.lock();
            worker.opened(cx.id(), self.label, self.start, clock::now());
            if conversation.plan.tls.is_some() {
                cx.tls().iter().for_each(|info| worker.secured(info));
            }
            conversation.open(&mut worker, self.start);
        }
        conversation.send(cx);
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Instruction>) {
        let bytes = input.take();
        if self.end.is_some() {
            return;
        }
        let Ok(completed) = self.conversation.messages.receive(bytes) else {
            return self.give_up(End::Corrupt, cx);
        };
        {
            let now = clock::now();
            let mut worker = self.worker.lock();
            worker.received(bytes.len(), now);
            self.conversation.complete(completed, &mut worker, now);
        }
        self.conversation.send(cx);
    }

    fn on_eof(&mut self, _rest: &mut Input<'_>, cx: &mut Context<'_, Instruction>) {
        let Conversation { messages, phase, .. } = &self.conversation;
        let end = if !messages.all_back() || cx.is_truncated() {
            End::Truncated
        } else if *phase == ConnectionPhase::Shut {
            End::Fin
        } else {
            End::ShortClose
        };
        self.end.get_or_insert(end);
        cx.finish();
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, Instruction>) {
        let Conversation { messages, phase, .. } = &self.conversation;
        if which == Timeout::Timer(REFILL) {
            self.conversation.send(cx);
        } else if !messages.all_back() || *phase == ConnectionPhase::Shut {
            self.give_up(End::Unanswered, cx);
        }
    }

    fn on_message(&mut self, instruction: Instruction, cx: &mut Context<'_, Instruction>) {
        let conversation = &mut self.conversation;
        match instruction {
            Instruction::FillPipeline => conversation.fill_pipeline(&mut self.worker.lock()),
            Instruction::Send { due } if conversation.phase == ConnectionPhase::Open => {
                conversation.messages.begin(Start { due, sent: clock::now() });
            }
            Instruction::Send { due } => self.worker.lock().gave_up(due, 1, clock::now()),
            Instruction::Pace => {}
            Instruction::Stop { send_due } => conversation.stop(send_due),
        }
        conversation.send(cx);
    }

    fn on_close(&mut self, reason: &CloseReason, _: &mut Context<'_, Instruction>) {
        let was_open = self.conversation.phase != ConnectionPhase::Connecting;
        let mut end = self.end.unwrap_or_else(|| End::of_close(*reason, was_open));
        if end == End::Cancelled && self.conversation.plan.churn {
            // It was part of the load, and not made in time.
            end = End::ConnectTimeout;
        }
        let mut worker = self.worker.lock();
        self.count_unanswered(end, &mut worker);
        worker.closed(self.label, was_open, end);
    }
}
