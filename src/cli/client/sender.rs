//! The sending direction, on a thread of its own.

use std::{
    cell::OnceCell,
    io::{self, ErrorKind, Read},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{comparison::Comparison, stream::Stream};
use crate::cli::failure::Failure;

const BUFFER_BYTES: usize = 64 << 10;

/// Why the sender ended before its source did.
#[derive(Debug)]
pub(super) enum SendFailure {
    Source(io::Error),
    Socket(io::Error),
}

pub(super) type SendOutcome = Result<(), SendFailure>;

/// The sending thread, as the receiving one sees it.
#[derive(Debug)]
pub(super) struct Sender {
    done: Receiver<SendOutcome>,
    outcome: OnceCell<SendOutcome>,
}

impl Sender {
    /// Starts a thread that sends everything that the source gives, and then shuts down the sending side (a half-close).
    pub(super) fn start(
        source: Box<dyn Read + Send>,
        stream: Arc<Stream>,
        comparison: Arc<Comparison>,
    ) -> Result<Self, Failure> {
        let (tell, done) = sync_channel(1);
        thread::Builder::new()
            .name("sender".to_owned())
            .spawn(move || {
                // The receiving thread may have ended the program by now. If the shutdown fails, the server is gone, which
                // that thread sees too.
                let _ = tell.send(send_all(source, &stream, &comparison));
                let _ = stream.end_sending();
            })
            .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
        Ok(Self { done, outcome: OnceCell::new() })
    }

    /// How it has ended, if it has.
    pub(super) fn outcome(&self) -> Option<&SendOutcome> {
        self.wait(Some(Duration::ZERO))
    }

    /// Waits until it has ended, for `timeout` if there is one, and returns how.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Option<&SendOutcome> {
        if self.outcome.get().is_none() {
            let received = match timeout {
                Some(timeout) => self.done.recv_timeout(timeout),
                None => self.done.recv().map_err(RecvTimeoutError::from),
            };
            match received {
                Ok(outcome) => self.outcome.set(outcome).expect("it was not known before"),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => unreachable!("the sender reports before it ends"),
            }
        }
        self.outcome.get()
    }
}

fn send_all(mut source: Box<dyn Read + Send>, stream: &Stream, comparison: &Comparison) -> SendOutcome {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                comparison.send(&buffer[..n]);
                stream.write_all(&buffer[..n]).map_err(SendFailure::Socket)?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(SendFailure::Source(error)),
        }
    }
}
