//! The receiving direction: compares the echo with what was sent, and judges how the conversation ended.

use std::{
    io::{ErrorKind, Write},
    time::Duration,
};

use super::{
    comparison::{Comparison, Difference, ReceivedStream},
    sender::{SendFailure, Sender},
    stream::Stream,
};
use crate::cli::failure::Failure;

const BUFFER_BYTES: usize = 64 << 10;

/// How often within a timeout the client checks for progress.
const CHECKS_PER_TIMEOUT: u32 = 8;

/// The receiving side of the conversation, and what it knows of the sending side.
#[derive(Debug)]
pub(super) struct EchoReceiver<'a> {
    stream: ReceivedStream<'a>,
    comparison: &'a Comparison,
    sender: Sender,
    /// How long the sender is waited for when the server has ended the connection; `None` is for as long as it takes.
    source_end_timeout: Option<Duration>,
    /// The first thing that came looks like an alert of TLS.
    got_alert: bool,
}

/// How a record with an alert begins (RFC 8446, section 5.1).
const ALERT: [u8; 2] = [21, 3];

impl<'a> EchoReceiver<'a> {
    pub(super) fn new(
        comparison: &'a Comparison,
        sender: Sender,
        source_end_timeout: Option<Duration>,
    ) -> Self {
        Self { stream: comparison.receiver(), comparison, sender, source_end_timeout, got_alert: false }
    }

    /// The bytes that came back so far.
    pub(super) const fn received(&self) -> u64 {
        self.stream.length()
    }

    /// Receives until the server ends, by FIN or over TLS by close_notify, and compares. Fails if the server owes an answer
    /// and nothing is sent or received for the timeout.
    pub(super) fn receive_all(
        &mut self,
        stream: &Stream,
        sink: &mut dyn Write,
        timeout: Option<Duration>,
    ) -> Result<(), Failure> {
        let result = self.receive(stream, sink, timeout);
        let hint =
            (self.got_alert && stream.is_plain()).then_some("the server speaks TLS: try it with --tls");
        result.map_err(|failure| failure.hint(hint))
    }

    fn receive(
        &mut self,
        stream: &Stream,
        sink: &mut dyn Write,
        timeout: Option<Duration>,
    ) -> Result<(), Failure> {
        let check_interval =
            timeout.map(|timeout| (timeout / CHECKS_PER_TIMEOUT).max(Duration::from_millis(1)));
        stream.set_read_timeout(check_interval).map_err(|error| Failure::new(format!("socket: {error}")))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let (mut sent_before, mut silent_checks) = (0, 0);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    self.got_alert |= self.received() == 0 && buffer[..n].starts_with(&ALERT);
                    let equal = self.stream.receive(&buffer[..n]);
                    // At once: someone may be waiting for a line that has no end yet.
                    let written = sink.write_all(&buffer[..n]).and_then(|()| sink.flush());
                    written.map_err(|error| Failure::stdout(&error))?;
                    equal.map_err(|difference| differs(&difference))?;
                    silent_checks = 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let sent = self.comparison.sent();
                    silent_checks = if sent == sent_before && self.is_owed() { silent_checks + 1 } else { 0 };
                    if silent_checks >= CHECKS_PER_TIMEOUT {
                        return Err(self.failure("timed out waiting for the server"));
                    }
                    sent_before = sent;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(self.failure("the server reset the connection"));
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(self.failure("the server ended the connection without close_notify"));
                }
                Err(error) => return Err(self.failure(&format!("cannot receive: {error}"))),
            }
        }
        self.check_end(stream)
    }

    /// Whether the server owes bytes, or its end.
    fn is_owed(&self) -> bool {
        self.sender.outcome().is_some() || !self.everything_is_back()
    }

    /// Whether everything that was sent so far is back.
    fn everything_is_back(&self) -> bool {
        self.received() == self.comparison.sent()
    }

    /// The server has ended: was everything sent, and did all of it come back?
    fn check_end(&self, stream: &Stream) -> Result<(), Failure> {
        if let Some(Err(SendFailure::Socket(error))) = self.sender.outcome() {
            return Err(self.failure(&format!("the server stopped receiving: {error}")));
        }
        // Nothing that is sent from now on comes back. So the sender fails if it has more to send, and never blocks.
        stream.stop_sending();
        if self.everything_is_back() {
            self.sender.wait(self.source_end_timeout);
        }
        match self.sender.outcome() {
            Some(Err(SendFailure::Source(error))) => Err(Failure::new(format!("cannot read stdin: {error}"))),
            Some(Ok(())) if self.everything_is_back() => {
                self.stream.compare_rest().map_err(|difference| differs(&difference))
            }
            Some(Ok(()) | Err(SendFailure::Socket(_))) | None => {
                Err(self.failure("the server closed the connection early"))
            }
        }
    }

    /// What went wrong, and how far the echo had come; or that it differs, which is worse.
    fn failure(&self, what: &str) -> Failure {
        if let Err(difference) = self.stream.compare_rest() {
            return differs(&difference);
        }
        let (received, sent) = (self.received(), self.comparison.sent());
        Failure::new(format!("{what}: {received} of {sent} bytes came back"))
    }
}

fn differs(difference: &Difference) -> Failure {
    Failure::new(match difference {
        Difference::Corrupt(range) => {
            format!("the echo differs from what was sent, between bytes {} and {}", range.start, range.end)
        }
        Difference::TooLong => "the server sent back more than it received".to_owned(),
    })
}
