//! Output that the socket has not taken yet, in order.

use std::{collections::VecDeque, io::IoSlice};

/// Bytes waiting to be sent. It owns memory only while it holds bytes.
#[derive(Debug, Default)]
pub struct SendQueue {
    bytes: VecDeque<u8>,
}

/// The smallest buffer that is worth allocating.
const MIN_CAPACITY: usize = 4 << 10;

impl SendQueue {
    /// The number of bytes waiting.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends `more`. The buffer grows by doubling, but not past `high_water` before it must, so that
    /// a queue that respects the mark never takes more memory than the mark.
    pub fn push(&mut self, more: &[u8], high_water: usize) {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        let needed = len + more.len();
        if needed > capacity {
            let doubled = capacity.saturating_mul(2).max(MIN_CAPACITY);
            let roomy = if needed <= high_water { doubled.min(high_water) } else { doubled };
            self.bytes.reserve_exact(roomy.max(needed) - len);
        }
        self.bytes.extend(more);
    }

    /// The bytes waiting, first to last, as at most two slices for one gathering write of at most `limit` bytes.
    pub fn slices(&self, limit: usize) -> [IoSlice<'_>; 2] {
        let (front, back) = self.bytes.as_slices();
        let front = &front[..front.len().min(limit)];
        let back = &back[..back.len().min(limit - front.len())];
        [IoSlice::new(front), IoSlice::new(back)]
    }

    /// Removes the first `n` bytes, which were sent.
    pub fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.len(), "more was sent than was queued");
        if n >= self.bytes.len() {
            self.bytes = VecDeque::new();
        } else {
            self.bytes.drain(..n);
        }
    }

    /// Memory owned, in bytes.
    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(queue: &SendQueue) -> Vec<u8> {
        queue.slices(usize::MAX).concat()
    }

    trait Concat {
        fn concat(&self) -> Vec<u8>;
    }

    impl Concat for [IoSlice<'_>; 2] {
        fn concat(&self) -> Vec<u8> {
            self.iter().flat_map(|slice| slice.to_vec()).collect()
        }
    }

    #[test]
    fn it_behaves_like_a_plain_vector_of_bytes() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut queue, mut model) = (SendQueue::default(), Vec::new());
        for _ in 0..10_000 {
            if random.bool() {
                let more: Vec<u8> = (0..random.usize(..3000)).map(|_| random.u8(..)).collect();
                queue.push(&more, 8192);
                model.extend(more);
            } else {
                let sent = random.usize(..=model.len());
                queue.consume(sent);
                model.drain(..sent);
            }
            assert_eq!(queue.len(), model.len());
            assert_eq!(queue.is_empty(), model.is_empty());
            assert_eq!(contents(&queue), model);
            let limit = random.usize(..=model.len() + 1);
            assert_eq!(queue.slices(limit).concat(), model[..limit.min(model.len())]);
        }
    }

    #[test]
    fn it_owns_no_memory_when_empty() {
        let mut queue = SendQueue::default();
        assert_eq!(queue.capacity(), 0);
        queue.push(&[7; 100_000], 1000);
        queue.consume(100_000);
        assert_eq!(queue.capacity(), 0);
    }

    #[test]
    fn filling_it_to_the_mark_takes_no_more_memory_than_the_mark() {
        let mut queue = SendQueue::default();
        while queue.len() < 64 << 10 {
            queue.push(&[0; 1 << 10], 64 << 10);
        }
        assert_eq!(queue.capacity(), 64 << 10);
    }
}
