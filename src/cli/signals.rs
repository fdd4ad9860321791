//! Signals: the first one starts a graceful shutdown, the second one ends the program at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

/// What signals have asked for so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    /// The exit status after an abort; 0 if there was none.
    aborted: Arc<AtomicU8>,
}

impl Signals {
    /// The exit status if a signal has aborted the program.
    pub(crate) fn aborted(&self) -> Option<u8> {
        Some(self.aborted.load(Ordering::SeqCst)).filter(|&status| status != 0)
    }

    /// From now on the first signal calls `shut_down`. The second one calls `abort`, and the program ends soon after.
    #[cfg(unix)]
    pub(crate) fn install(
        shut_down: impl Fn() + Send + 'static,
        abort: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};

        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let state = Self::default();
        let aborted = Arc::clone(&state.aborted);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                if count == 0 {
                    shut_down();
                } else {
                    let status = u8::try_from(128 + signal).unwrap_or(u8::MAX);
                    abort_with(&abort, &aborted, status);
                }
            }
        })?;
        Ok(state)
    }

    /// From now on the first Ctrl-C or Ctrl-Break calls `shut_down`. The second one calls `abort`, and the program ends
    /// soon after.
    #[cfg(not(unix))]
    pub(crate) fn install(
        shut_down: impl Fn() + Send + 'static,
        abort: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let state = Self::default();
        let aborted = Arc::clone(&state.aborted);
        let mut shutting_down = false;
        ctrlc::set_handler(move || {
            if std::mem::replace(&mut shutting_down, true) {
                abort_with(&abort, &aborted, 130);
            } else {
                shut_down();
            }
        })
        .map_err(io::Error::other)?;
        Ok(state)
    }
}

/// Calls `abort`, and makes sure that the program ends.
fn abort_with(abort: &impl Fn(), aborted: &AtomicU8, status: u8) {
    if aborted.swap(status, Ordering::SeqCst) != 0 {
        std::process::exit(status.into());
    }
    abort();
    // Now the main thread closes everything and ends the program, unless it is stuck.
    std::thread::park_timeout(std::time::Duration::from_millis(500));
    std::process::exit(status.into());
}
