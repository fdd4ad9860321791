//! The end of a server, as its connections see it.

use std::time::{Duration, Instant};

/// The end of a server, as its connections see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When protocols are told even if their peers still send. `None`: not before they are silent.
    pub finish_by: Option<Instant>,
    /// When what still has output queued is cut off. `None`: never.
    pub deadline: Option<Instant>,
}

impl Drain {
    /// A drain that begins now. Half of its time is for what peers still send, half for the disconnect.
    pub fn begin(now: Instant, timeout: Option<Duration>) -> Self {
        Self {
            finish_by: timeout.and_then(|timeout| now.checked_add(timeout / 2)),
            deadline: timeout.and_then(|timeout| now.checked_add(timeout)),
        }
    }
}
