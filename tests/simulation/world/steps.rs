//! A world of which every schedule is explored: each step is one of the few that do something.

use std::time::Duration;

use super::{World, by_name, elsewhere};
use crate::{
    kernel::{FAR, Kernel, other_worker::OtherWorker},
    stage::Failure,
};

/// What else may happen in such a world, beside what clients do and turns of the loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moves {
    /// How often time may pass to the next deadline.
    pub waits: u8,
    /// How many messages may come from another thread, to one connection or to all.
    pub messages: u8,
    /// How many events without a cause there may be.
    pub strays: u8,
    /// How many outbound connections may be asked for from another thread.
    pub dials: u8,
    /// They are asked for by a name.
    pub by_name: bool,
    pub may_drain: bool,
    pub may_abort: bool,
    /// The clients are connected when it begins.
    pub begins_connected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Turn,
    Client(usize),
    Connect,
    OtherWorker,
    Deadline,
    Message(usize),
    MessageAll,
    Stray,
    Dial,
    Lookup,
    Drain,
    Abort,
}

impl<const PURE: bool> World<PURE> {
    /// Runs a schedule of so many steps, then calms down. False if it is as good as a shorter one: a step did nothing, or
    /// there was nothing left to do.
    pub fn run_steps(mut self, mut moves: Moves) -> Result<bool, Failure> {
        if moves.begins_connected {
            (0..self.plan.clients).for_each(|_| self.connect());
            self.choices.freeze();
            self.turn()?;
            self.shake_hands()?;
            self.choices.thaw();
        }
        let mut before = None;
        for _ in 0..self.plan.steps {
            let possible = self.possible_steps(&moves, before);
            let Some(step) = self.choices.of(&possible) else { return Ok(false) };
            if !self.take_step(step, &mut moves)? {
                return Ok(false);
            }
            before = Some(step);
        }
        self.calm_down()?;
        self.check_end()?;
        Ok(true)
    }

    /// Those that speak TLS agree, and everyone comes to rest.
    fn shake_hands(&mut self) -> Result<(), Failure> {
        if self.plan.tls.is_none() {
            return Ok(());
        }
        for pair in self.pairs.borrow_mut().iter_mut() {
            pair.client.to_send = 0;
            pair.client.hesitates = true;
        }
        self.settle()?;
        for pair in self.pairs.borrow_mut().iter_mut() {
            pair.client.to_send = self.plan.bytes.unwrap_or_default();
            pair.client.hesitates = false;
        }
        Ok(())
    }

    /// The steps that may do something. Clients do not see each other: of two steps in a row that lead to the same
    /// whichever is first, only one order is possible.
    fn possible_steps(&self, moves: &Moves, before: Option<Step>) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.stage.is_at_rest() {
            steps.push(Step::Turn);
        }
        let first = match before {
            Some(Step::Client(number)) => number,
            _ => 0,
        };
        let pairs = self.pairs.borrow();
        let may_act = |number: &usize| pairs[*number].client.may_act(&self.kernel.borrow());
        steps.extend((first..pairs.len()).filter(may_act).map(Step::Client));
        let inbound = pairs.iter().filter(|pair| !pair.is_outbound).count();
        let has_place = inbound < self.plan.clients && self.kernel.borrow().has_place(0);
        if has_place && !matches!(before, Some(Step::Client(_))) {
            steps.push(Step::Connect);
        }
        if self.kernel.borrow().other_worker.as_ref().is_some_and(OtherWorker::is_busy) {
            steps.push(Step::OtherWorker);
        }
        if moves.waits > 0 && self.left_until_deadline().is_some() {
            steps.push(Step::Deadline);
        }
        if self.stage.is_finished() {
            return steps;
        }
        if moves.messages > 0 {
            let is_there = |number: &usize| pairs[*number].id().is_some();
            steps.extend((0..pairs.len()).filter(is_there).map(Step::Message));
            steps.push(Step::MessageAll);
        }
        if moves.strays > 0 && pairs.iter().any(|pair| pair.id().is_some()) {
            steps.push(Step::Stray);
        }
        if moves.dials > 0 {
            steps.push(Step::Dial);
        }
        if !self.stage.lookups.are_empty() {
            steps.push(Step::Lookup);
        }
        if moves.may_drain && !self.is_draining {
            steps.push(Step::Drain);
        }
        if moves.may_abort && !self.is_aborted {
            steps.push(Step::Abort);
        }
        steps
    }

    /// False if it did nothing.
    fn take_step(&mut self, step: Step, moves: &mut Moves) -> Result<bool, Failure> {
        match step {
            Step::Turn => self.turn()?,
            Step::Client(number) => return self.client_acts(number),
            Step::Connect => self.connect(),
            Step::OtherWorker => return self.stage.other_worker(Kernel::other_worker_acts),
            Step::Deadline => {
                moves.waits -= 1;
                self.advance(self.left_until_deadline().expect("it was possible"));
            }
            Step::Message(number) => {
                moves.messages -= 1;
                self.message(number);
            }
            Step::MessageAll => {
                moves.messages -= 1;
                self.message_all();
            }
            Step::Stray => {
                moves.strays -= 1;
                self.spurious_event();
            }
            Step::Dial => {
                moves.dials -= 1;
                self.ask_to_connect(if moves.by_name { by_name() } else { elsewhere() });
            }
            Step::Lookup => self.answer_lookup(),
            Step::Drain => self.drain(),
            Step::Abort => self.abort(),
        }
        Ok(true)
    }

    /// Until the next deadline, also of a loop that has work and would not wait for it.
    fn left_until_deadline(&self) -> Option<Duration> {
        let of_loop = self.stage.left_until_deadline();
        let left = of_loop.or_else(|| {
            let at = self.stage.connections()?.next_deadline()?;
            Some(at.saturating_duration_since(self.stage.now()))
        });
        left.filter(|&left| Duration::ZERO < left && left < FAR)
    }
}
