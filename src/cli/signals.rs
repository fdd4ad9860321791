//! Signals: the first drains, the second ends the program at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use echoloop::Handle;

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

    /// From here on the first signal drains the server, and the second aborts it.
    #[cfg(unix)]
    pub(crate) fn install<M: Send + 'static>(handle: Handle<M>) -> io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};

        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let state = Self::default();
        let aborted = Arc::clone(&state.aborted);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                if count == 0 {
                    handle.drain();
                } else {
                    let status = u8::try_from(128 + signal).unwrap_or(u8::MAX);
                    abort(&handle, &aborted, status);
                }
            }
        })?;
        Ok(state)
    }

    /// From here on the first Ctrl-C or Ctrl-Break drains the server, and the second aborts it.
    #[cfg(not(unix))]
    pub(crate) fn install<M: Send + 'static>(handle: Handle<M>) -> io::Result<Self> {
        let state = Self::default();
        let aborted = Arc::clone(&state.aborted);
        let mut drained = false;
        ctrlc::set_handler(move || {
            if std::mem::replace(&mut drained, true) {
                abort(&handle, &aborted, 130);
            } else {
                handle.drain();
            }
        })
        .map_err(io::Error::other)?;
        Ok(state)
    }
}

/// Asks the server to end now, and sees to it that the program ends.
fn abort<M>(handle: &Handle<M>, aborted: &AtomicU8, status: u8) {
    if aborted.swap(status, Ordering::SeqCst) != 0 {
        std::process::exit(status.into());
    }
    handle.abort();
    // The main thread now closes everything and ends the program, unless it is stuck.
    std::thread::park_timeout(std::time::Duration::from_millis(500));
    std::process::exit(status.into());
}
