//! How long nothing is received, or nothing is sent.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Connection, Extra, halves::RecvHalf, shared::Shared, state::State};
use crate::{
    close_reason::CloseReason,
    deadlines::earliest,
    protocol::{Protocol, requests::IdleTimeout, timeout::Timeout},
    system::transport::Transport,
};

/// When a connection last received and sent, where a timeout depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps {
    received: Instant,
    sent: Instant,
}

impl Extra {
    /// The last of the two is now.
    pub(super) const fn stamp_received(&mut self, now: Instant) {
        if let Some(stamps) = &mut self.stamps {
            stamps.received = now;
        }
    }

    pub(super) const fn stamp_sent(&mut self, now: Instant) {
        if let Some(stamps) = &mut self.stamps {
            stamps.sent = now;
        }
    }
}

impl<P: Protocol, T: Transport> Connection<P, T> {
    /// Notes when it receives and sends, if a timeout depends on it.
    pub(super) fn begin_stamps(&mut self, now: Instant) {
        if self.limits.read_idle_timeout.is_some() || self.limits.write_idle_timeout.is_some() {
            self.extra.get_or_insert_default().stamps.get_or_insert(Stamps { received: now, sent: now });
        }
    }

    /// The protocol sets a timeout of this connection.
    pub(super) fn set_idle_timeout(&mut self, which: IdleTimeout, timeout: Option<Duration>, now: Instant) {
        let limits = Rc::make_mut(&mut self.limits);
        match which {
            IdleTimeout::Idle => limits.idle_timeout = timeout,
            IdleTimeout::ReadIdle => limits.read_idle_timeout = timeout,
            IdleTimeout::WriteIdle => limits.write_idle_timeout = timeout,
        }
        self.begin_stamps(now);
        if let Some(extra) = &mut self.extra {
            match which {
                IdleTimeout::Idle => {}
                IdleTimeout::ReadIdle => extra.stamp_received(now),
                IdleTimeout::WriteIdle => extra.stamp_sent(now),
            }
        }
        self.deadline_moved = true;
    }

    /// From now on it is read again.
    pub(super) fn restart_read_idle(&mut self, now: Instant) {
        if let Some(extra) = &mut self.extra
            && extra.stamps.is_some()
        {
            extra.stamp_received(now);
            self.deadline_moved = true;
        }
    }

    /// When the first of these timeouts is over.
    pub(super) fn one_way_idle_deadline(&self) -> Option<Instant> {
        earliest(self.read_idle_deadline(), self.write_idle_deadline())
    }

    fn stamps(&self) -> Option<Stamps> {
        self.extra.as_ref()?.stamps
    }

    fn read_idle_deadline(&self) -> Option<Instant> {
        let is_open = matches!(self.recv, RecvHalf::Open | RecvHalf::Resumed) && !self.throttled;
        let is_made = matches!(self.state, State::Reading | State::Echoing | State::HalfClosed);
        if !is_open || !is_made || self.has_relay() {
            return None;
        }
        self.stamps()?.received.checked_add(self.limits.read_idle_timeout?)
    }

    fn write_idle_deadline(&self) -> Option<Instant> {
        if !self.send.is_open() || self.state != State::Reading || self.has_relay() {
            return None;
        }
        self.stamps()?.sent.checked_add(self.limits.write_idle_timeout?)
    }

    /// Tells the protocol of those that are over. If it does not finish, the time begins anew.
    pub(super) fn fire_one_way_idle(&mut self, shared: &mut Shared<P::Message, T::Pipe>) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= shared.now);
        let due = [
            (Timeout::ReadIdle, is_due(self.read_idle_deadline())),
            (Timeout::WriteIdle, is_due(self.write_idle_deadline())),
        ];
        for (which, _) in due.into_iter().filter(|&(_, is_due)| is_due) {
            if let Some(extra) = &mut self.extra {
                match which {
                    Timeout::ReadIdle => extra.stamp_received(shared.now),
                    Timeout::WriteIdle => extra.stamp_sent(shared.now),
                    Timeout::Idle | Timeout::Timer(_) | Timeout::Inner(_) => {}
                }
            }
            if self.state.is_closed() || self.recv == RecvHalf::Discarded {
                return;
            }
            let requests = self.call(shared, |protocol, cx| protocol.on_timeout(which, cx));
            self.apply(shared, requests, &[], CloseReason::Idle);
        }
    }
}
