//! Output that the socket has not taken yet, in order.

use std::{io::IoSlice, time::Instant};

use crate::buffers::{Buffer, Buffers};

/// Bytes waiting to be sent, in a ring. It owns a buffer only while it holds bytes.
#[derive(Debug, Default)]
pub struct SendQueue {
    buffer: Option<Buffer>,
    /// Where the first byte is.
    head: usize,
    len: usize,
}

impl SendQueue {
    /// The number of bytes waiting.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `more`. A queue within the usual size of `buffers` takes one of them; one that outgrows it
    /// grows by doubling.
    pub fn push(&mut self, more: &[u8], buffers: &mut Buffers) {
        if more.is_empty() {
            return;
        }
        self.reserve(more.len(), buffers);
        let buffer = self.buffer.as_deref_mut().expect("it was just reserved");
        let capacity = buffer.len();
        let tail = (self.head + self.len) % capacity;
        let (before_wrap, after_wrap) = more.split_at(more.len().min(capacity - tail));
        buffer[tail..tail + before_wrap.len()].copy_from_slice(before_wrap);
        buffer[..after_wrap.len()].copy_from_slice(after_wrap);
        self.len += more.len();
    }

    /// The bytes waiting, first to last, as two slices for one gathering write of at most `limit` bytes.
    pub fn slices(&self, limit: usize) -> [IoSlice<'_>; 2] {
        let Some(buffer) = self.buffer.as_deref() else { return [IoSlice::new(&[]); 2] };
        let len = self.len.min(limit);
        let front = len.min(buffer.len() - self.head);
        [IoSlice::new(&buffer[self.head..self.head + front]), IoSlice::new(&buffer[..len - front])]
    }

    /// Removes the first `n` bytes, which were sent.
    pub fn consume(&mut self, n: usize, buffers: &mut Buffers, now: Instant) {
        assert!(n <= self.len, "more was sent than was queued");
        self.len -= n;
        if self.len > 0 {
            self.head = (self.head + n) % self.capacity();
            return;
        }
        self.head = 0;
        if let Some(buffer) = self.buffer.take() {
            buffers.give_back(buffer, now);
        }
    }

    fn capacity(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.len())
    }

    fn reserve(&mut self, more: usize, buffers: &mut Buffers) {
        let needed = self.len + more;
        let capacity = self.capacity();
        if needed <= capacity {
            return;
        }
        let mut larger = buffers.take(needed.max(capacity.saturating_mul(2)));
        let [front, back] = self.slices(usize::MAX);
        larger[..front.len()].copy_from_slice(&front);
        larger[front.len()..self.len].copy_from_slice(&back);
        self.head = 0;
        self.buffer = Some(larger);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn contents(queue: &SendQueue, limit: usize) -> Vec<u8> {
        queue.slices(limit).iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u8>),
        /// So many thousandths of what is queued.
        Consume(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![vec(any::<u8>(), 0..3000).prop_map(Step::Push), (0_usize..=1000).prop_map(Step::Consume)]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_plain_vector_of_bytes(steps in vec(step(), 1..60), limit in 0_usize..10_000) {
            let (mut buffers, now) = (Buffers::new(8192), Instant::now());
            let (mut queue, mut model) = (SendQueue::default(), Vec::new());
            for step in steps {
                match step {
                    Step::Push(more) => {
                        queue.push(&more, &mut buffers);
                        model.extend(more);
                    }
                    Step::Consume(thousandths) => {
                        let sent = model.len() * thousandths / 1000;
                        queue.consume(sent, &mut buffers, now);
                        model.drain(..sent);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                prop_assert_eq!(contents(&queue, limit), &model[..limit.min(model.len())]);
                prop_assert_eq!(contents(&queue, usize::MAX), &model[..]);
            }
        }
    }

    #[test]
    fn it_owns_no_memory_when_empty() {
        let mut buffers = Buffers::new(4096);
        let mut queue = SendQueue::default();
        assert_eq!(queue.capacity(), 0);
        queue.push(&[7; 100_000], &mut buffers);
        queue.consume(100_000, &mut buffers, Instant::now());
        assert_eq!(queue.capacity(), 0);
    }

    #[test]
    fn within_the_usual_size_it_takes_no_more() {
        let mut buffers = Buffers::new(64 << 10);
        let mut queue = SendQueue::default();
        for _ in 0..64 {
            queue.push(&[0; 1 << 10], &mut buffers);
        }
        queue.consume(1000, &mut buffers, Instant::now());
        queue.push(&[0; 1000], &mut buffers);
        assert_eq!(queue.capacity(), 64 << 10);
        assert_eq!(queue.len(), 64 << 10);
    }
}
