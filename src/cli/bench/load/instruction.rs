//! What a connection is told to do.

use std::time::Instant;

/// What a connection is told to do, as a message to its protocol.
#[derive(Clone, Copy, Debug)]
pub(super) enum Instruction {
    /// Closed loop: fill the pipeline.
    FillPipeline,
    /// Open loop: send a message, which was due at this time.
    Send { due: Instant },
    /// Begin no more messages, and end the connection when all are back. `send_due` says whether messages that are
    /// due and not sent yet are still sent.
    Stop { send_due: bool },
    /// To the pacer: look what is due.
    Pace,
}
