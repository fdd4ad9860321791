//! Signals: the first one ends the program gracefully, another one at least a second later at once.

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(not(unix), path = "console.rs")]
mod system;

use std::{
    fmt, io, process,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What signals have asked for so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    /// The exit status after an abort; 0 if there was none.
    aborted: Arc<AtomicU8>,
}

/// What is done when signals ask for it.
pub(crate) struct Actions {
    shut_down: Box<dyn Fn() + Send>,
    abort: Box<dyn Fn() + Send>,
    /// Only where more signals than those that interrupt a program have a meaning.
    #[cfg_attr(not(unix), expect(dead_code, reason = "no other system has such signals"))]
    report: Option<Box<dyn Fn() + Send>>,
    /// The same.
    #[cfg_attr(not(unix), expect(dead_code, reason = "no other system has such signals"))]
    reload: Option<Box<dyn Fn() + Send>>,
}

impl Actions {
    /// Those of a program that people start, and interrupt: by SIGINT and SIGTERM, or Ctrl-C and Ctrl-Break.
    pub(crate) fn new(shut_down: impl Fn() + Send + 'static, abort: impl Fn() + Send + 'static) -> Self {
        Self { shut_down: Box::new(shut_down), abort: Box::new(abort), report: None, reload: None }
    }

    /// Those of a server: SIGQUIT stops it too, SIGUSR1 calls `report`, and no signal that it has no use for ends it.
    pub(crate) fn reporting(self, report: impl Fn() + Send + 'static) -> Self {
        Self { report: Some(Box::new(report)), ..self }
    }

    /// Those of a server that is told by SIGHUP to read its files again.
    pub(crate) fn reloading(self, reload: impl Fn() + Send + 'static) -> Self {
        Self { reload: Some(Box::new(reload)), ..self }
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actions").finish_non_exhaustive()
    }
}

/// A program that was started with signals blocked could not be stopped. To be called before any thread is started.
pub(crate) fn unblock() {
    system::unblock();
}

impl Signals {
    /// From now on signals call these.
    pub(crate) fn install(actions: Actions) -> io::Result<Self> {
        let state = Self::default();
        let stops = Stops { actions, first: None, aborted: Arc::clone(&state.aborted) };
        system::install(stops)?;
        Ok(state)
    }

    /// The exit status if a signal has aborted the program.
    pub(crate) fn aborted(&self) -> Option<u8> {
        Some(self.aborted.load(Ordering::SeqCst)).filter(|&status| status != 0)
    }
}

/// Wrappers such as timeout(1) deliver one stop twice, to their child and to its group: only so much later is it another.
const ANOTHER_STOP_AFTER: Duration = Duration::from_secs(1);

/// How long the main thread has to close everything before the program ends all the same.
const ABORT_TIMEOUT: Duration = Duration::from_millis(500);

/// The signals that ask for an end, one after another.
struct Stops {
    actions: Actions,
    /// When the first one came.
    first: Option<Instant>,
    aborted: Arc<AtomicU8>,
}

/// What a signal that asks for an end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Gracefully,
    /// It is the same one, delivered again.
    Again,
    AtOnce,
}

impl Stops {
    /// A signal asks for an end. The program's exit status is this if it is the end at once.
    fn stop(&mut self, status: u8) {
        match next_stop(&mut self.first, now()) {
            Stop::Gracefully => (self.actions.shut_down)(),
            Stop::Again => log::debug!("a second signal to stop within a second is ignored"),
            Stop::AtOnce => self.abort_with(status),
        }
    }

    /// Calls `abort`, and makes sure that the program ends.
    fn abort_with(&self, status: u8) {
        if self.aborted.swap(status, Ordering::SeqCst) != 0 {
            process::exit(status.into());
        }
        (self.actions.abort)();
        // Now the main thread closes everything and ends the program, unless it is stuck.
        thread::park_timeout(ABORT_TIMEOUT);
        process::exit(status.into());
    }
}

fn next_stop(first: &mut Option<Instant>, now: Instant) -> Stop {
    match *first {
        None => {
            *first = Some(now);
            Stop::Gracefully
        }
        Some(first) if now.saturating_duration_since(first) < ANOTHER_STOP_AFTER => Stop::Again,
        Some(_) => Stop::AtOnce,
    }
}

#[expect(clippy::disallowed_methods, reason = "signals come in real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_comes_again_within_a_second_is_the_same() {
        let (begin, mut first) = (now(), None);
        let stops = [0, 1, 999, 1000, 1001]
            .map(|millis| next_stop(&mut first, begin + Duration::from_millis(millis)));
        assert_eq!(stops, [Stop::Gracefully, Stop::Again, Stop::Again, Stop::AtOnce, Stop::AtOnce]);
    }
}
