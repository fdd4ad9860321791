//! A timer in the kernel that the poller watches: a wait for a deadline sets none of its own.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::Instant,
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// timerfd_create(2). It is set only for an earlier time than it is set for: nearly all deadlines move later, so nearly
/// all waits leave it alone.
#[derive(Debug)]
pub(super) struct Timer {
    descriptor: OwnedFd,
    set_for: Option<Instant>,
}

impl Timer {
    /// A timer whose events come under this token.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let descriptor =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        // Edge-triggered: each time that it runs out is an event of its own, so it need not be read.
        registry.register(&mut SourceFd(&descriptor.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { descriptor, set_for: None })
    }

    /// Makes sure that it runs out at `at` or before.
    pub(super) fn set(&mut self, at: Instant, clock: impl FnOnce() -> Instant) -> io::Result<()> {
        if self.set_for.is_some_and(|set_for| set_for <= at) {
            return Ok(());
        }
        let wait = at.saturating_duration_since(clock());
        let it_value = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            // Nothing at all would turn it off.
            tv_nsec: if wait.is_zero() { 1 } else { wait.subsec_nanos().into() },
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval: never, it_value };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        self.set_for = Some(at);
        Ok(())
    }

    /// Notes that it is so late: what it was set for may have run out, and its event may be dealt with.
    pub(super) fn note_time(&mut self, now: Instant) {
        self.set_for = self.set_for.filter(|&set_for| set_for > now);
    }
}
