//! Whose turn it is.

use std::collections::VecDeque;

/// The connections that have work, each once, in the order of their turns. Those in bulk, who had much to do in their last
/// turn, are a line of their own.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    pub(super) usual: VecDeque<u32>,
    pub(super) in_bulk: VecDeque<u32>,
}

impl ReadyQueue {
    pub(super) fn push(&mut self, index: u32, is_bulk: bool) {
        if is_bulk { &mut self.in_bulk } else { &mut self.usual }.push_back(index);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.usual.is_empty() && self.in_bulk.is_empty()
    }

    /// All of them, for audits.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.usual.iter().chain(&self.in_bulk).copied()
    }

    /// Gives back memory that a past crowd needed.
    pub(super) fn shrink(&mut self) {
        self.usual.shrink_to_fit();
        self.in_bulk.shrink_to_fit();
    }
}
