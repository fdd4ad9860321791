//! Signals: the first asks for a good end, the second ends the program at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

/// What the signals have asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    /// The exit status of an abort; 0 if there was none.
    aborted: Arc<AtomicU8>,
}

impl Signals {
    /// The exit status that an abort by signal asks for.
    pub(crate) fn aborted(&self) -> Option<u8> {
        Some(self.aborted.load(Ordering::SeqCst)).filter(|&status| status != 0)
    }

    /// From here on the first signal calls `end`, and the second `abort`; soon after that the program ends.
    #[cfg(unix)]
    pub(crate) fn install(
        end: impl Fn() + Send + 'static,
        abort: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};

        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let state = Self::default();
        let aborted = Arc::clone(&state.aborted);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                if count == 0 {
                    end();
                } else {
                    let status = u8::try_from(128 + signal).unwrap_or(u8::MAX);
                    abort_with(&abort, &aborted, status);
                }
            }
        })?;
        Ok(state)
    }

    /// From here on the first Ctrl-C or Ctrl-Break calls `end`, and the second `abort`; soon after that the program ends.
    #[cfg(not(unix))]
    pub(crate) fn install(
        end: impl Fn() + Send + 'static,
        abort: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let state = Self::default();
        let aborted = Arc::clone(&state.aborted);
        let mut ended = false;
        ctrlc::set_handler(move || {
            if std::mem::replace(&mut ended, true) {
                abort_with(&abort, &aborted, 130);
            } else {
                end();
            }
        })
        .map_err(io::Error::other)?;
        Ok(state)
    }
}

/// Asks for the end now, and sees to it that the program ends.
fn abort_with(abort: &impl Fn(), aborted: &AtomicU8, status: u8) {
    if aborted.swap(status, Ordering::SeqCst) != 0 {
        std::process::exit(status.into());
    }
    abort();
    // The main thread now closes everything and ends the program, unless it is stuck.
    std::thread::park_timeout(std::time::Duration::from_millis(500));
    std::process::exit(status.into());
}
