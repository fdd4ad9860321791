//! What the peer's system has acknowledged. Until then output is owed, though the kernel has it.
//!
//! The system is asked when a deadline or a close is due, never because something was sent.

use std::time::{Duration, Instant};

use super::{Connection, halves::RecvHalf, state::State};
use crate::{protocol::Protocol, system::transport::Transport};

/// What the last look has found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unacknowledged {
    /// At that look, with our FIN counted as one where the system does.
    bytes: usize,
    /// Those among them that ours had not taken.
    unsent: usize,
    /// What the system took since.
    given_since: usize,
    /// When it was seen to become less, or seen at all.
    pub(super) progress: Instant,
    next_look: Instant,
    pause: Duration,
}

/// Looks in a timeout: progress is seen an eighth of it late at most.
const LOOKS: u32 = 8;

/// The shortest time between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// When to look again after our FIN, where no event tells of its acknowledgement: some round trips later, then each time
/// after twice as long.
const FIN_PAUSE: Duration = Duration::from_millis(100);

/// The longest time between two looks after our FIN.
const LONGEST_FIN_PAUSE: Duration = Duration::from_secs(5);

impl Unacknowledged {
    /// The system took so much more.
    pub(super) const fn add(&mut self, n: usize) {
        self.given_since += n;
    }

    /// Whether the peer's system has acknowledged something since, or, where nothing was on its way to it, ours has taken
    /// something.
    const fn has_progressed(&self, bytes: usize, unsent: usize, overhead: isize) -> bool {
        let given = self.given_since;
        bytes < (self.bytes + given).saturating_add_signed(overhead)
            || (self.bytes == self.unsent && unsent < (self.unsent + given).saturating_add_signed(overhead))
    }

    /// From now on it is looked at as after our FIN.
    fn hasten(&mut self, now: Instant) {
        self.next_look = now;
        self.pause = FIN_PAUSE / 2;
    }
}

impl<P: Protocol, T: Transport> Connection<P, T> {
    pub(super) fn unacknowledged(&self) -> Option<&Unacknowledged> {
        self.extra.as_ref()?.unacknowledged.as_ref()
    }

    /// What the peer's system had not acknowledged when it was last looked at, in bytes, with what was sent since.
    pub fn unacknowledged_bytes(&self) -> usize {
        self.unacknowledged().map_or(0, |found| found.bytes + found.given_since)
    }

    /// Notes that the system took something that is to be acknowledged.
    #[inline]
    pub(super) const fn note_owed(&mut self) {
        if self.all_acknowledged {
            self.all_acknowledged = false;
            self.deadline_moved = true;
        }
    }

    /// Asks the system what the peer's has yet to acknowledge, unless that is nothing.
    pub(super) fn look(&mut self, now: Instant) {
        if self.all_acknowledged || !self.state.is_made() {
            return;
        }
        self.deadline_moved = true;
        let bytes = self.transport.unacknowledged().unwrap_or(0);
        let overhead = self.transport.take_overhead();
        let before = self.unacknowledged().copied();
        if bytes == 0 {
            if before.is_some() {
                self.last_activity = now;
                if let Some(queue) = &mut self.queue {
                    queue.progress = now;
                }
            }
            return self.note_nothing_owed();
        }
        let unsent = self.transport.unsent();
        let has_progressed = before.is_none_or(|before| before.has_progressed(bytes, unsent, overhead));
        let progress = before.map_or(now, |before| if has_progressed { now } else { before.progress });
        let (next_look, pause) = match before {
            // This one had another cause.
            Some(before) if before.next_look > now => (before.next_look, before.pause),
            Some(_) | None => {
                let pause = self.pause_before_look(before.map(|before| before.pause));
                // As good as never is a time too.
                (now.checked_add(pause).unwrap_or(now + LONGEST_FIN_PAUSE), pause)
            }
        };
        let found = Unacknowledged { bytes, unsent, given_since: 0, progress, next_look, pause };
        self.extra.get_or_insert_default().unacknowledged = Some(found);
    }

    /// Asks for the first time after our FIN. Nearby peers have acknowledged it by then.
    pub(super) fn look_after_fin(&mut self, now: Instant) {
        self.note_owed();
        if let Some(extra) = &mut self.extra
            && let Some(unacknowledged) = &mut extra.unacknowledged
        {
            unacknowledged.add(usize::from(T::COUNTS_FIN));
            unacknowledged.hasten(now);
        }
        self.look(now);
    }

    /// Notes that nothing is on its way to the peer any more.
    pub(super) fn note_nothing_owed(&mut self) {
        self.all_acknowledged = true;
        if let Some(extra) = &mut self.extra {
            extra.unacknowledged = None;
        }
    }

    fn pause_before_look(&self, last: Option<Duration>) -> Duration {
        let usual = self.usual_pause();
        if self.state == State::HalfClosed {
            let longest = usual.unwrap_or(LONGEST_FIN_PAUSE).min(LONGEST_FIN_PAUSE);
            last.map_or(FIN_PAUSE, |last| last * 2).min(longest)
        } else {
            usual.unwrap_or(LONGEST_FIN_PAUSE)
        }
    }

    /// A close is due when our FIN is acknowledged: looks whether it is.
    pub(super) fn look_before_close(&mut self, now: Instant) {
        if self.state == State::HalfClosed && self.recv == RecvHalf::Ended {
            self.look(now);
        }
    }

    /// When to look.
    pub(super) fn look_deadline(&self) -> Option<Instant> {
        if self.all_acknowledged || !self.state.is_made() {
            return None;
        }
        match self.unacknowledged() {
            Some(unacknowledged) => Some(unacknowledged.next_look),
            None => {
                let since = self.queue.as_ref().map_or(self.last_activity, |queue| queue.progress);
                since.checked_add(self.usual_pause()?)
            }
        }
    }

    /// What would be lost if the connection were closed now, in bytes.
    pub(super) fn undelivered(&self) -> usize {
        let fin = usize::from(T::COUNTS_FIN && self.state == State::HalfClosed);
        let in_kernel = if self.all_acknowledged || !self.state.is_made() {
            0
        } else {
            self.transport.unacknowledged().unwrap_or(0).saturating_sub(fin)
        };
        self.queued() + self.held() + self.transport.undelivered(in_kernel)
    }

    /// `None` where no timeout depends on it.
    fn usual_pause(&self) -> Option<Duration> {
        let idle_timeout = self.limits.idle_timeout.filter(|_| self.can_be_idle());
        let shortest = [self.limits.write_timeout, idle_timeout].into_iter().flatten().min()?;
        Some((shortest / LOOKS).max(SHORTEST_PAUSE))
    }
}
