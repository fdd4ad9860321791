//! What must hold at any time, when nobody has anything to do, and when all is over.

use std::{io::ErrorKind, time::Duration};

use echoloop::{CloseReason, internals::Connections};

use super::{World, pair::Pair};
use crate::{
    client::{Manner, Seen},
    kernel::{Acks, FAR, socket::Attempt},
    protocol::{Callback, Habit, asks_by_name},
    secure::{Breach, Secure},
    stage::Failure,
};

impl<const PURE: bool> World<PURE> {
    /// What must hold at any time.
    pub(super) fn check(&self) -> Result<(), Failure> {
        for (number, pair) in self.pairs.borrow().iter().enumerate() {
            self.check_pair(pair).map_err(|failure| format!("client {number}: {failure}"))?;
        }
        Ok(())
    }

    fn check_pair(&self, pair: &Pair) -> Result<(), Failure> {
        let (socket, record) = (pair.client.socket.borrow(), pair.record.borrow());
        if let Some(violation) = socket.violations.first().or(record.violations.first()) {
            return Err(violation.clone());
        }
        let secure = pair.client.secure.as_ref();
        if record.eof && !socket.inbound_fin && !secure.is_some_and(Secure::has_said_so) {
            return Err("an end of input that it never sent".to_owned());
        }
        self.check_queue(pair)?;
        if let Some(meter) = socket.meter.as_ref().filter(|meter| meter.has_closed)
            && meter.begun != pair.owed() + record.asides
        {
            let owed = pair.owed() + record.asides;
            return Err(format!("close_notify after {} of {owed} bytes owed", meter.begun));
        }
        // A stream that is not whole never looks whole.
        if pair.client.seen == Seen::Fin || secure.is_some_and(|secure| secure.has_close_notify) {
            let (got, owed) = (pair.client.received + pair.client.asides, pair.owed() + record.asides);
            if got != owed || record.opened == 0 {
                return Err(format!("a clean end after {got} of {owed} bytes owed"));
            }
        }
        let heard = &record.heard;
        let mut in_order = heard.clone();
        in_order.sort_unstable();
        in_order.dedup();
        if in_order.len() != heard.len() {
            return Err(format!("a message to all came twice: {heard:?}"));
        }
        let neighbours = self.neighbours.borrow();
        let by_callbacks = |serial: &&usize| neighbours.broadcasts[**serial].from.is_some();
        for is_callback in [false, true] {
            let those: Vec<_> = heard.iter().filter(|serial| by_callbacks(serial) == is_callback).collect();
            if !those.is_sorted() {
                return Err(format!("messages to all came out of order: {heard:?}"));
            }
        }
        Ok(())
    }

    fn check_queue(&self, pair: &Pair) -> Result<(), Failure> {
        let limits = &self.plan.limits;
        let connection = self.stage.connections().and_then(|all| all.get(pair.id()?));
        // Four times the budget are moved into a pipe at once, at most.
        let marks = limits.high_water_bytes.max(4 * (limits.turn_budget_bytes + 1)) + 1;
        if let (Some(connection), Habit::Echo) = (connection, pair.habit)
            && connection.queued() > marks
        {
            return Err(format!("{} bytes are queued", connection.queued()));
        }
        // What a protocol holds back and then writes at once comes on top of the mark.
        let held_back = limits.input_limit_bytes.max(50 + limits.read_buffer_bytes);
        let queued = pair.record.borrow().queued;
        let queued = connection.map_or(queued, |connection| connection.queued().max(queued));
        if queued > marks + held_back + 3 {
            return Err(format!("{queued} bytes are queued"));
        }
        Ok(())
    }

    /// When nobody has anything to do: no message is forgotten.
    pub(super) fn check_mail(&self) -> Result<(), Failure> {
        let stats = self.stage.counters.snapshot();
        let told = self.neighbours.borrow().told;
        let heard: u64 = self.pairs.borrow().iter().map(|pair| pair.record.borrow().messages).sum();
        if told != heard + stats.messages_undeliverable && !self.is_aborted() {
            return Err(format!("{told} messages sent, {heard} received, but {stats:?}"));
        }
        Ok(())
    }

    /// When nobody has anything to do: everyone who was there has heard what was sent to all.
    pub(super) fn check_broadcasts(&self) -> Result<(), Failure> {
        if self.is_aborted() {
            return Ok(());
        }
        for (serial, broadcast) in self.neighbours.borrow().broadcasts.iter().enumerate() {
            for (number, pair) in self.pairs.borrow().iter().enumerate() {
                let record = pair.record.borrow();
                let was_there = record.opened == 1 && record.opened_at < broadcast.sent;
                let is_meant = was_there && record.closed.is_none() && pair.id() != broadcast.from;
                let has_heard = record.heard.contains(&serial);
                if is_meant && !has_heard {
                    return Err(format!("client {number} has not heard message {serial} to all"));
                }
                if has_heard && pair.id() == broadcast.from {
                    return Err(format!("client {number} has heard its own message {serial}"));
                }
            }
        }
        Ok(())
    }

    /// Without faults, an echo to a proper client ends by itself: no wakeup may have been lost.
    pub(super) fn check_proper_clients(&self) -> Result<(), Failure> {
        if self.is_draining || self.is_aborted() {
            return Ok(());
        }
        if self.kernel.borrow().has_waiting()
            && self.stage.connections().is_some_and(Connections::has_room_for_clients)
        {
            return Err("clients wait in the backlog though there is room".to_owned());
        }
        self.check_dials()?;
        for (number, pair) in self.pairs.borrow().iter().enumerate() {
            let is_connected = pair.client.socket.borrow().attempt == Attempt::Made;
            let (opened, closed) = (pair.record.borrow().opened, pair.record.borrow().closed);
            if pair.id().is_some() && is_connected && opened == 0 && closed.is_none() {
                if let Some(secure) = &pair.client.secure {
                    self.check_handshake(pair, secure).map_err(|what| format!("client {number}: {what}"))?;
                    continue;
                }
                return Err(format!("client {number} is connected to, and nobody knows"));
            }
            let is_proper =
                matches!(pair.client.manner, Manner::Proper | Manner::LateReader | Manner::Waiting)
                    && pair.client.secure.as_ref().is_none_or(Secure::is_proper);
            let ends_by_itself = match pair.habit {
                Habit::Echo | Habit::Piecewise | Habit::Talkative | Habit::Dialling | Habit::StartTls => true,
                // These never send back what comes after they have ended.
                Habit::FinishAfter(_) | Habit::ShutdownAfter(_) => pair.client.manner != Manner::Waiting,
                Habit::AbortAfter(_)
                | Habit::PanicAfter(_)
                | Habit::PanicIn(_)
                | Habit::Refused
                | Habit::Hesitant
                | Habit::Deferring => false,
            };
            if opened == 0 || !is_proper || !ends_by_itself || pair.client.socket.borrow().has_vanished {
                continue;
            }
            if !pair.client.gone {
                return Err(format!("client {number} waits for ever: {:?}", pair.client));
            }
            if closed.is_none()
                && (self.plan.nature.wakes_at_last_ack || !pair.client.socket.borrow().is_over())
            {
                return Err(format!("client {number} is gone, and its connection stays"));
            }
        }
        Ok(())
    }

    /// Nothing has come of its handshake.
    fn check_handshake(&self, pair: &Pair, secure: &Secure) -> Result<(), Failure> {
        let socket = pair.client.socket.borrow();
        let is_unwanted = matches!(pair.habit, Habit::Refused | Habit::PanicIn(Callback::Factory));
        let has_ended = socket.closed || socket.has_vanished || pair.client.gone || socket.sticky.is_some();
        if has_ended || !secure.is_proper() || is_unwanted {
            return Ok(());
        }
        Err(format!("its handshake does not go on: {:?}", pair.client))
    }

    /// Whoever asked for an outbound connection and is still there knows if nothing came of it.
    fn check_dials(&self) -> Result<(), Failure> {
        let pairs = self.pairs.borrow();
        let has_room = self.stage.connections().is_some_and(Connections::has_room);
        for (number, pair) in pairs.iter().enumerate() {
            let record = pair.record.borrow();
            if !record.has_dialled || record.closed.is_some() {
                continue;
            }
            // The others were tried before.
            let wanted = pairs.iter().rfind(|other| other.is_outbound && other.requested_by == pair.id());
            let has_ended = |wanted: &Pair| wanted.record.borrow().closed.is_some();
            // Another address of its name may be next.
            let may_be_next = wanted.is_none_or(|wanted| asks_by_name(number) && has_ended(wanted));
            if may_be_next && record.dials_failed + record.dials_made == 0 && !has_room {
                // It still waits for room.
                continue;
            }
            let told: &[u32] = wanted.map_or(&[1], |wanted| {
                let is_unwanted = matches!(wanted.habit, Habit::Refused | Habit::PanicIn(Callback::Factory));
                let wanted = wanted.record.borrow();
                match (wanted.opened, wanted.closed) {
                    (0, _) if is_unwanted => &[1],
                    (0, Some(_)) => &[1],
                    // Also of one that ended while it was told that it is made.
                    (_, Some(reason)) if !reason.is_complete() => &[0, 1],
                    (_, Some(_) | None) => &[0],
                }
            });
            if !told.contains(&record.dials_failed) {
                return Err(format!("client {number} is told {} times", record.dials_failed));
            }
            let is_answered =
                record.dials_failed > 0 || wanted.is_some_and(|wanted| wanted.record.borrow().opened > 0);
            if record.dials_made + record.dials_failed != u32::from(is_answered) {
                return Err(format!("client {number} is told {} times that it is made", record.dials_made));
            }
        }
        Ok(())
    }

    /// The clients that take their time, as their protocols do, and will come to a proper end if nothing intervenes.
    pub(super) fn patient(&self) -> Vec<usize> {
        let pairs = self.pairs.borrow();
        (0..pairs.len()).filter(|&number| self.is_patient(&pairs[number])).collect()
    }

    fn is_patient(&self, pair: &Pair) -> bool {
        let (socket, record) = (pair.client.socket.borrow(), pair.record.borrow());
        let limits = &self.plan.limits;
        let is_ample =
            |timeout: Option<Duration>| timeout.is_none_or(|timeout| timeout > Duration::from_millis(100));
        matches!(pair.habit, Habit::Hesitant | Habit::Deferring)
            && matches!(pair.client.manner, Manner::Proper | Manner::Waiting)
            && !self.kernel.borrow().has_failed
            && self.plan.nature.planned.is_none()
            && record.opened == 1
            && pair.client.secure.as_ref().is_none_or(Secure::is_proper)
            && !self.is_draining
            && !self.is_aborted()
            && !record.was_idle
            && record.closed.is_none()
            && !socket.closed
            && !socket.has_vanished
            && is_ample(limits.idle_timeout)
            && is_ample(limits.write_timeout)
    }

    pub(super) fn check_patient(&self, patient: &[usize]) -> Result<(), Failure> {
        let pairs = self.pairs.borrow();
        for &number in patient {
            let (closed, manner) = (pairs[number].record.borrow().closed, pairs[number].client.manner);
            if !matches!(closed, Some(CloseReason::Peer | CloseReason::Truncated | CloseReason::InputLimit)) {
                return Err(format!("client {number}, {manner:?}: {closed:?} though it was served slowly"));
            }
        }
        Ok(())
    }

    /// Where every timeout is on, no connection is left when they have passed, whatever its client is like.
    pub(super) fn check_deadlines_passed(&self) -> Result<(), Failure> {
        let limits = &self.plan.limits;
        let all_on = [
            limits.connect_timeout,
            if self.plan.tls.is_some() { limits.handshake_timeout } else { limits.connect_timeout },
            limits.idle_timeout,
            limits.write_timeout,
            limits.linger_timeout,
            limits.linger_silence_timeout,
        ];
        let stays = |pair: &Pair| pair.client.socket.borrow().is_over() && is_open(pair);
        if let Some(number) = self.pairs.borrow().iter().position(stays) {
            return Err(format!("both sides of client {number} have ended, and its connection stays"));
        }
        let left = self.stage.connections().map_or(0, Connections::len);
        if all_on.iter().all(|timeout| timeout.is_some_and(|timeout| timeout < FAR)) && left > 0 {
            return Err(format!("{left} connections outlive their deadlines"));
        }
        Ok(())
    }

    /// What must hold when all is over.
    pub(super) fn check_end(&self) -> Result<(), Failure> {
        for pair in self.pairs.borrow_mut().iter_mut() {
            while pair.client.act(&self.kernel.borrow(), true)? {}
        }
        self.check()?;
        let (mut ended, mut cut_off, mut refused, mut accepted) = (0, 0, 0, 0);
        // Over TLS: accepted, and then not watched, or cut off.
        let mut unknown = 0;
        for (number, pair) in self.pairs.borrow().iter().enumerate() {
            let named = |failure| format!("client {number}: {failure}");
            let is_accepted = pair.client.socket.borrow().is_accepted;
            accepted += u64::from(is_accepted);
            let is_unwanted = matches!(pair.habit, Habit::Refused | Habit::PanicIn(Callback::Factory));
            refused += u64::from(pair.was_asked_for && is_unwanted);
            let has_protocol = pair.was_asked_for && !is_unwanted;
            if pair.client.secure.is_some() && is_accepted && !has_protocol && pair.habit != Habit::StartTls {
                // Nobody was told of it.
                ended += u64::from(!pair.was_asked_for && pair.id().is_some());
                unknown += u64::from(!pair.was_asked_for && pair.id().is_none());
                continue;
            }
            if is_accepted && !pair.was_asked_for {
                cut_off += 1;
                self.check_cut_off().map_err(named)?;
            }
            if pair.id().is_some() || pair.record.borrow().closed.is_some() {
                ended += 1;
                self.check_ended(pair).map_err(named)?;
            }
        }
        let stats = self.stage.counters.snapshot();
        let lost: u64 = self.pairs.borrow().iter().map(bytes_lost).sum();
        if self.plan.nature.acks != Acks::Unaskable && stats.bytes_undelivered < lost {
            return Err(format!("{lost} bytes were never acknowledged, but {stats:?}"));
        }
        let told = self.neighbours.borrow().told;
        let heard: u64 = self.pairs.borrow().iter().map(|pair| pair.record.borrow().messages).sum();
        if told != heard + stats.messages_undeliverable {
            return Err(format!("{told} messages sent, {heard} received, but {stats:?}"));
        }
        let closed = ended + cut_off..=ended + cut_off + unknown;
        if !closed.contains(&stats.closed_total()) || stats.open != 0 {
            return Err(format!("{ended} connections ended and {cut_off} were cut off, but {stats:?}"));
        }
        if (stats.accepted, stats.refused) != (accepted, refused) {
            return Err(format!("{accepted} connections accepted, {refused} refused, but {stats:?}"));
        }
        Ok(())
    }

    /// A client was accepted and dropped, without a protocol.
    fn check_cut_off(&self) -> Result<(), Failure> {
        let (now, ordered) = (self.kernel.borrow().now, self.kernel.borrow().drain_ordered);
        let deadline = ordered.zip(self.plan.limits.drain_timeout).map(|(ordered, after)| ordered + after);
        if deadline.is_some_and(|deadline| deadline <= now) {
            Ok(())
        } else {
            Err("dropped from the backlog, and not by the drain deadline".to_owned())
        }
    }

    fn check_ended(&self, pair: &Pair) -> Result<(), Failure> {
        let (record, socket) = (pair.record.borrow(), pair.client.socket.borrow());
        let Some(reason) = record.closed else {
            return Err("on_close was not called".to_owned());
        };
        let is_planned = self.kernel.borrow().has_failed || self.plan.nature.planned.is_some();
        if !is_planned && self.is_unexpected(reason, pair) {
            return Err(format!("'{reason}' for {:?}, {:?}", pair.client.manner, pair.habit));
        }
        let was_never_made = pair.is_outbound
            && matches!(
                reason,
                CloseReason::ConnectFailed(_)
                    | CloseReason::ConnectTimeout
                    | CloseReason::ServerAborted
                    | CloseReason::Cancelled
                    | CloseReason::Failed(_)
                    | CloseReason::DrainTimeout
                    | CloseReason::HandshakeTimeout
            );
        if record.opened != 1 && !(record.opened == 0 && was_never_made) {
            return Err(format!("opened {} times, '{reason}'", record.opened));
        }
        let ends_with_the_peers = matches!(
            reason,
            CloseReason::Peer
                | CloseReason::Truncated
                | CloseReason::Finished
                | CloseReason::Idle
                | CloseReason::Drained
        );
        if ends_with_the_peers && socket.closed_over_input {
            return Err(format!("'{reason}', and the client was reset"));
        }
        self.check_truncation(pair, reason)?;
        let taken = match &socket.meter {
            Some(meter) if meter.has_closed => meter.whole(socket.taken),
            // Its client has ended before it has asked for TLS.
            Some(meter) if meter.begun == 0 => 0,
            Some(_) => u64::MAX,
            None => socket.taken,
        };
        let owed = pair.owed() + record.asides;
        if reason.is_complete() && (taken != owed || !socket.write_shut) {
            return Err(format!("'{reason}' after {taken} of {owed} bytes owed"));
        }
        let echoes_all = matches!(pair.habit, Habit::Echo | Habit::Talkative | Habit::Dialling);
        if reason == CloseReason::Peer && pair.owed() != pair.client.sent && echoes_all {
            return Err(format!("'{reason}', but {} of {} bytes were echoed", pair.owed(), pair.client.sent));
        }
        Ok(())
    }

    /// An end without close_notify is told from one with it.
    fn check_truncation(&self, pair: &Pair, reason: CloseReason) -> Result<(), Failure> {
        let is_right = match (&pair.client.secure, reason) {
            (None, CloseReason::Truncated) => false,
            // FIN before it has asked for TLS is its end.
            (Some(secure), CloseReason::Peer) => secure.has_closed || !secure.is_agreed(),
            (Some(secure), CloseReason::Truncated) => !secure.has_said_so(),
            _ => true,
        };
        if is_right { Ok(()) } else { Err(format!("'{reason}' of {:?}", pair.client)) }
    }

    /// Whether a connection cannot have ended in this way when no call failed by itself.
    fn is_unexpected(&self, reason: CloseReason, pair: &Pair) -> bool {
        let has_vanished = pair.client.socket.borrow().has_vanished;
        let secure = pair.client.secure.as_ref();
        let breaks = |breach| secure.is_some_and(|secure| secure.has_broken_by(breach));
        let is_refused = secure.is_some_and(Secure::breaks_the_protocol);
        let resets = has_vanished
            || matches!(pair.client.manner, Manner::Resetter | Manner::Careless)
            || breaks(Breach::Reset);
        match reason {
            CloseReason::Failed(ErrorKind::InvalidData) => !is_refused,
            CloseReason::HandshakeFailed => !is_refused,
            CloseReason::HandshakeTimeout => secure.is_none(),
            CloseReason::HandshakeAbandoned => {
                secure.is_none() || !(resets || breaks(Breach::Fin) || pair.habit == Habit::StartTls)
            }
            CloseReason::Failed(_) => !has_vanished,
            CloseReason::QueueLimit => true,
            CloseReason::ConnectFailed(_) => {
                let is_begun = pair.client.socket.borrow().is_begun;
                !pair.is_outbound || (is_begun && !resets && !is_refused && !breaks(Breach::Fin))
            }
            CloseReason::ConnectTimeout => !pair.is_outbound,
            CloseReason::Cancelled => pair.requested_by.is_none(),
            CloseReason::Reset | CloseReason::ResetUndelivered => !resets,
            CloseReason::Aborted => !matches!(pair.habit, Habit::AbortAfter(_)),
            CloseReason::ServerAborted => !self.is_aborted() && pair.record.borrow().opened != 0,
            CloseReason::Panicked => !matches!(pair.habit, Habit::PanicAfter(_) | Habit::PanicIn(_)),
            CloseReason::InputLimit => pair.habit != Habit::Hesitant,
            _ => false,
        }
    }
}

fn is_open(pair: &Pair) -> bool {
    pair.record.borrow().opened > 0 && pair.record.borrow().closed.is_none()
}

/// What the client's system has never acknowledged of what it was sent, in bytes.
fn bytes_lost(pair: &Pair) -> u64 {
    pair.client.socket.borrow().lost()
}
