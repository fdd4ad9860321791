//! Memory for queued output: bounded, and given back to the system when it is no longer needed.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
    rc::Rc,
    time::{Duration, Instant},
};

use memmap2::MmapMut;

/// Free buffers that are kept for the next queue, at most.
const FREE_MAX: usize = 32;

/// How long free buffers are kept after the last of them was used.
const KEEP: Duration = Duration::from_secs(1);

/// The unit in which the system gives memory, or a divisor of it.
const PAGE: usize = 4096;

/// Memory that is taken from the system by itself, page by page as it is written to, and goes back to it as
/// soon as it is dropped. Buffers on the heap would often stay with the process: one small block that
/// lives on at the top of the heap keeps all that is below it.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    /// What all buffers of a loop have.
    held: Rc<Cell<usize>>,
}

#[derive(Debug)]
enum Memory {
    Mapped(MmapMut),
    /// Where the system has no more mappings to give.
    Heap(Box<[u8]>),
}

impl Buffer {
    fn new(size: usize, held: &Rc<Cell<usize>>) -> Self {
        let memory = match MmapMut::map_anon(size) {
            Ok(mapped) => Memory::Mapped(mapped),
            Err(_) => Memory::Heap(vec![0; size].into_boxed_slice()),
        };
        held.set(held.get() + size);
        Self { memory, held: Rc::clone(held) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.held.set(self.held.get() - self.len());
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Mapped(memory) => memory,
            Memory::Heap(memory) => memory,
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Mapped(memory) => memory,
            Memory::Heap(memory) => memory,
        }
    }
}

/// Buffers of one size, of which a few are kept for a moment when they become free.
#[derive(Debug)]
pub struct Buffers {
    size: usize,
    free: Vec<Buffer>,
    /// When the free buffers go back to the system, if none is used before.
    free_until: Option<Instant>,
    /// How much all together should have; the most there is if it does not matter.
    limit: usize,
    held: Rc<Cell<usize>>,
}

impl Buffers {
    /// Buffers of `size` bytes, rounded up to whole pages. Once they have `limit` bytes, new ones are as small as possible.
    pub fn new(size: usize, limit: Option<usize>) -> Self {
        Self {
            size: size.next_multiple_of(PAGE),
            free: Vec::new(),
            free_until: None,
            limit: limit.unwrap_or(usize::MAX),
            held: Rc::default(),
        }
    }

    /// A buffer of at least `size` bytes; of the usual size if that is enough.
    pub fn take(&mut self, size: usize) -> Buffer {
        if let Some(free) = self.free.pop_if(|free| size <= free.len()) {
            return free;
        }
        let usual = if self.left() >= self.size { self.size } else { 0 };
        Buffer::new(size.next_multiple_of(PAGE).max(usual), &self.held)
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, buffer: Buffer, now: Instant) {
        if buffer.len() == self.size && self.free.len() < FREE_MAX && self.left() > 0 {
            self.free.push(buffer);
            self.free_until = now.checked_add(KEEP);
        }
    }

    /// Whether there is a limit to what they have.
    pub const fn are_limited(&self) -> bool {
        self.limit < usize::MAX
    }

    /// How much more they may have until the limit is reached.
    pub fn left(&self) -> usize {
        self.limit.saturating_sub(self.held.get())
    }

    /// When [`trim`](Self::trim) has something to do; `None` is never.
    pub fn trim_at(&self) -> Option<Instant> {
        self.free_until.filter(|_| !self.free.is_empty())
    }

    /// Gives free buffers back to the system once they were not needed for a while.
    pub fn trim(&mut self, now: Instant) {
        if self.trim_at().is_some_and(|at| at <= now) {
            self.free = Vec::new();
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;

    #[test]
    fn a_free_buffer_is_used_again_and_goes_back_to_the_system_in_the_end() {
        let now = Instant::now();
        let mut buffers = Buffers::new(10_000, None);
        let mut first = buffers.take(1);
        assert_eq!(first.len(), 12_288);
        first[0] = 7;
        buffers.give_back(first, now);
        let again = buffers.take(12_288);
        assert_eq!(again[0], 7);
        assert_eq!(buffers.trim_at(), None, "nothing is free");
        buffers.give_back(again, now);
        assert_eq!(buffers.trim_at(), Some(now + KEEP));
        buffers.trim(now + KEEP);
        assert_eq!(buffers.trim_at(), None);
        assert_eq!(buffers.take(1)[0], 0, "it is another");
    }

    #[test]
    fn unusual_sizes_are_not_kept_and_few_of_the_usual_ones() {
        let now = Instant::now();
        let mut buffers = Buffers::new(4096, None);
        let large = buffers.take(4097);
        assert_eq!(large.len(), 8192);
        buffers.give_back(large, now);
        assert_eq!(buffers.free.len(), 0);
        for _ in 0..2 * FREE_MAX {
            let buffer = Buffer::new(4096, &buffers.held);
            buffers.give_back(buffer, now);
        }
        assert_eq!(buffers.free.len(), FREE_MAX);
    }

    #[test]
    fn where_nothing_can_be_mapped_the_heap_serves() {
        let memory = Memory::Heap(vec![0; 10].into_boxed_slice());
        let mut buffer = Buffer { memory, held: Rc::new(Cell::new(10)) };
        buffer[9] = 1;
        assert_eq!(buffer.iter().sum::<u8>(), 1);
    }

    #[test]
    fn once_the_limit_is_reached_buffers_are_as_small_as_can_be_and_none_is_kept() {
        let now = Instant::now();
        let mut buffers = Buffers::new(8192, Some(12_000));
        let first = buffers.take(1);
        assert_eq!((first.len(), buffers.left()), (8192, 3808));
        let second = buffers.take(1);
        assert_eq!((second.len(), buffers.left()), (4096, 0));
        buffers.give_back(first, now);
        assert_eq!((buffers.left(), buffers.free.len()), (7904, 0));
        drop(second);
        assert_eq!(buffers.left(), 12_000);
    }
}
