//! A connection's deadlines: which there are, and what happens when one runs out.

use std::time::{Duration, Instant};

use super::{Connection, drain::DrainStage, halves::RecvHalf, shared::Shared, state::State};
use crate::{
    close_reason::CloseReason,
    deadlines::earliest,
    protocol::{
        Protocol,
        timeout::{Timeout, TimerKey},
    },
    system::{readiness::Readiness, transport::Transport},
};

impl<P: Protocol, T: Transport> Connection<P, T> {
    /// When this connection must be looked at if nothing happens before; `None` is never.
    pub fn deadline(&self, shared: &Shared<P::Message, T::Pipe>) -> Option<Instant> {
        let own = match self.state {
            State::Connecting if self.has_handshake() => None,
            State::Connecting => earliest(self.connect_deadline(), self.connect_again_at()),
            State::Reading | State::Echoing => self.idle_deadline(),
            State::HalfClosed => earliest(self.idle_deadline(), self.linger_deadline()),
            State::Closed(_) => return None,
        };
        let owed = earliest(self.stall_deadline(), self.look_deadline());
        let asked_for = earliest(self.timer_deadline(), self.drain_deadline(shared));
        let own = earliest(earliest(own, self.one_way_idle_deadline()), self.handshake_deadline());
        earliest(earliest(own, owed), asked_for)
    }

    /// Whether the deadline may have moved forward since the last call.
    pub const fn take_deadline_moved(&mut self) -> bool {
        std::mem::replace(&mut self.deadline_moved, false)
    }

    /// Tells the connection that a drain has begun.
    pub fn begin_drain(&mut self) {
        // What has come and was not announced yet is to be dealt with before the protocol is told.
        self.ready.insert(Readiness::READ);
        self.deadline_moved = true;
        if self.state == State::Echoing {
            self.drain = DrainStage::UntoldUntilSilent;
        }
    }

    /// If the peer was active since then, it is silent from now on at the earliest: the loop had other things to do.
    pub fn restart_silence(&mut self, since: Instant, now: Instant) {
        if self.last_activity >= since {
            self.last_activity = now;
        }
    }

    /// Does what is due at `shared.now`. A deadline counts only after the system was asked what is acknowledged, and
    /// the socket was tried once more: the loop may have been late, not the peer.
    pub fn expire(&mut self, mut partner: Option<&mut Self>, shared: &mut Shared<P::Message, T::Pipe>) {
        self.deadline_moved = true;
        self.look_if_it_matters(shared);
        if !self.is_due(shared) {
            if self.unacknowledged().is_none() {
                // Whoever goes on talking puts the look off. It comes all the same, as often as this does.
                self.look(shared.now);
                self.settle(shared);
            }
            return;
        }
        if self.state == State::Connecting {
            self.connect_again(shared);
        } else {
            self.set_ready(Readiness::READ | Readiness::WRITE);
        }
        self.turn(partner.as_deref_mut(), shared);
        self.look_if_it_matters(shared);
        if self.is_due(shared) {
            self.end_by_deadline(shared);
            if self.fire_timers(shared) {
                // What they set going counts as activity.
                self.turn(partner, shared);
            }
            if !self.wants_relay() {
                self.end_by_idleness(shared);
                self.fire_one_way_idle(shared);
                self.tell_drain(shared);
            }
            self.settle(shared);
        }
    }

    fn is_due(&self, shared: &Shared<P::Message, T::Pipe>) -> bool {
        self.deadline(shared).is_some_and(|at| at <= shared.now)
    }

    /// Asks what is acknowledged, if a deadline that depends on it is due.
    fn look_if_it_matters(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        let owed = earliest(self.look_deadline(), self.stall_deadline());
        if earliest(owed, self.idle_deadline()).is_some_and(|at| at <= shared.now) {
            self.look(shared.now);
            self.settle(shared);
        }
    }

    /// The deadlines that end a connection at once.
    fn end_by_deadline(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= shared.now);
        if due(self.handshake_deadline()) {
            return self.close(CloseReason::HandshakeTimeout, shared);
        }
        let reason = match self.state {
            State::Connecting if self.has_handshake() => return,
            State::Connecting if due(self.connect_deadline()) => CloseReason::ConnectTimeout,
            State::Reading | State::Echoing | State::HalfClosed if due(self.stall_deadline()) => {
                CloseReason::WriteStall
            }
            State::HalfClosed if due(self.linger_end()) => CloseReason::LingerTimeout,
            State::HalfClosed if due(self.linger_deadline()) => CloseReason::LingerSilence,
            State::Connecting | State::Reading | State::Echoing | State::HalfClosed | State::Closed(_) => {
                return;
            }
        };
        self.close(reason, shared);
    }

    /// Whether there were any. Only those that are due now: one that a callback sets anew waits for the next turn.
    fn fire_timers(&mut self, shared: &mut Shared<P::Message, T::Pipe>) -> bool {
        let due = self.due_timers(shared.now);
        for &(key, at) in &due {
            // Unless the callback of another has put it off or cancelled it.
            if self.remove_timer(key, at) {
                let requests = self.call(shared, |protocol, cx| protocol.on_timeout(key.timeout(), cx));
                self.apply(shared, requests, &[], CloseReason::Finished);
            }
        }
        !due.is_empty()
    }

    fn end_by_idleness(&mut self, shared: &mut Shared<P::Message, T::Pipe>) {
        if self.idle_deadline().is_none_or(|at| at > shared.now) {
            return;
        }
        self.last_activity = shared.now;
        let requests = self.call(shared, |protocol, cx| protocol.on_timeout(Timeout::Idle, cx));
        self.apply(shared, requests, &[], CloseReason::Idle);
    }

    /// In a drain: tells the protocol, once what its peer had sent is dealt with.
    fn tell_drain(&mut self, shared: &mut Shared<P::Message, T::Pipe>) {
        if self.drain_deadline(shared).is_none_or(|at| at > shared.now) || self.state.is_closed() {
            return;
        }
        if self.state == State::Connecting {
            let reason =
                if self.is_client() { CloseReason::HandshakeTimeout } else { CloseReason::ServerAborted };
            return self.close(reason, shared);
        }
        if self.may_have_input() {
            // It is not caught up.
            return;
        }
        self.drain = DrainStage::Told;
        let requests = self.call(shared, |protocol, cx| protocol.on_drain(cx));
        self.apply(shared, requests, &[], CloseReason::Drained);
    }

    /// Idleness ends a connection while nothing is owed and its input still matters.
    fn idle_deadline(&self) -> Option<Instant> {
        if self.can_be_idle() { after(self.last_progress(), self.limits.idle_timeout) } else { None }
    }

    pub(super) fn can_be_idle(&self) -> bool {
        match self.recv {
            _ if !matches!(self.state, State::Reading | State::HalfClosed) => false,
            // What it waits for is its partner's to be taken: that has a deadline of its own.
            RecvHalf::Open | RecvHalf::Resumed | RecvHalf::Ended if self.waits_for_partner() => false,
            RecvHalf::Open | RecvHalf::Resumed | RecvHalf::Paused => true,
            RecvHalf::Ended => self.send.is_open(),
            RecvHalf::Discarded => false,
        }
    }

    /// When something moved or was acknowledged, as far as it is known.
    pub(super) fn last_progress(&self) -> Instant {
        self.unacknowledged().map_or(self.last_activity, |owed| owed.progress.max(self.last_activity))
    }

    /// Output is stalled while the peer's system acknowledges none of it. As long as that was not asked, or cannot be,
    /// what counts is that ours takes it.
    fn stall_deadline(&self) -> Option<Instant> {
        let progress = match (self.unacknowledged(), &self.queue) {
            (Some(unacknowledged), _) => unacknowledged.progress,
            (None, Some(queue)) => queue.progress,
            (None, None) => return None,
        };
        after(progress, self.limits.write_timeout)
    }

    fn linger_deadline(&self) -> Option<Instant> {
        let end = self.linger_end();
        self.extra.as_ref()?.lingers_since?;
        earliest(end, after(self.last_activity, self.limits.linger_silence_timeout))
    }

    fn linger_end(&self) -> Option<Instant> {
        after(self.extra.as_ref()?.lingers_since?, self.limits.linger_timeout)
    }

    fn timer_deadline(&self) -> Option<Instant> {
        self.extra.as_ref()?.timers.iter().map(|&(_, at)| at).min()
    }

    fn drain_deadline(&self, shared: &Shared<P::Message, T::Pipe>) -> Option<Instant> {
        let drain = shared.drain?;
        if self.drain == DrainStage::Told || !(self.recv.matters() || self.send.is_open()) {
            return None;
        }
        // A stream that is passed on is not ended in its middle: what still flows is reset in the end, not finished.
        let unless_relayed = |at: Option<Instant>| at.filter(|_| !self.is_relayed());
        match self.state {
            // It has bytes to come back to, or may have.
            State::Reading | State::HalfClosed if self.recv == RecvHalf::Paused => {
                unless_relayed(drain.finish_by)
            }
            State::Reading | State::HalfClosed if self.waits_for_partner() => None,
            State::Reading | State::HalfClosed => earliest(
                after(self.last_activity, Some(shared.limits.drain_silence)),
                unless_relayed(drain.patience_ends).filter(|_| self.drain == DrainStage::Untold),
            ),
            // Somebody's client may wait for it.
            // Its client came before the drain.
            State::Connecting if self.is_client() => drain.finish_by,
            State::Connecting if self.has_requester() => drain.finish_by,
            State::Connecting => Some(shared.now),
            // Its queue is flushed first, and what has come is read.
            State::Echoing if self.may_have_input() => None,
            State::Echoing => unless_relayed(drain.finish_by),
            State::Closed(_) => None,
        }
    }

    /// Whether the protocol may yet get something that the peer has sent already.
    fn may_have_input(&self) -> bool {
        self.recv.is_open() && self.ready.has(Readiness::READ)
    }

    /// The protocol's timers that have not fired, by key.
    pub(crate) fn timers(&self) -> &[(TimerKey, Instant)] {
        self.extra.as_ref().map_or(&[], |extra| &extra.timers)
    }

    /// Sets a timer, replaces it, or with `None` forgets it.
    pub(super) fn set_timer(&mut self, key: TimerKey, at: Option<Instant>) {
        if self.state.is_closed() {
            return;
        }
        let timers = &mut self.extra.get_or_insert_default().timers;
        timers.retain(|&(known, _)| known != key);
        timers.extend(at.map(|at| (key, at)));
        self.deadline_moved = true;
    }

    /// The timers that are due, the earliest first.
    fn due_timers(&self, now: Instant) -> Vec<(TimerKey, Instant)> {
        let Some(extra) = &self.extra else { return Vec::new() };
        let mut due: Vec<_> = extra.timers.iter().copied().filter(|&(_, at)| at <= now).collect();
        due.sort_by_key(|&(_, at)| at);
        due
    }

    /// Whether there was such a timer.
    fn remove_timer(&mut self, key: TimerKey, at: Instant) -> bool {
        let Some(extra) = &mut self.extra else { return false };
        let before = extra.timers.len();
        extra.timers.retain(|&timer| timer != (key, at));
        extra.timers.len() < before
    }
}

/// `None` where the timeout is off or past the clock's range.
fn after(since: Instant, timeout: Option<Duration>) -> Option<Instant> {
    since.checked_add(timeout?)
}
