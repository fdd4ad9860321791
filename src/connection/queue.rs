//! Output that waits until the socket takes it.

use std::time::Instant;

use crate::{
    pipes::{Pipe, Pooled},
    send_queue::SendQueue,
};

/// Output that waits, and since when.
#[derive(Debug)]
pub(super) struct Queue<K> {
    /// What goes out first, if it is in the kernel.
    pub(super) pipe: Option<Pooled<K>>,
    pub(super) bytes: SendQueue,
    /// When the socket last took a byte of it, or when it began.
    pub(super) progress: Instant,
}

impl<K: Pipe> Queue<K> {
    pub(super) fn new(now: Instant) -> Self {
        Self { pipe: None, bytes: SendQueue::default(), progress: now }
    }

    pub(super) fn len(&self) -> usize {
        self.pipe.as_ref().map_or(0, |taken| taken.pipe.len()) + self.bytes.len()
    }
}
