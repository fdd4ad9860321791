//! Output that the socket has not taken yet, in order.

use std::{collections::VecDeque, io::IoSlice, mem, time::Instant};

use crate::{
    buffers::{Buffer, Buffers},
    shared_bytes::SharedBytes,
};

/// Bytes waiting to be sent: copies in a ring, and between them what is shared with others. It owns a buffer only while it
/// holds copies.
#[derive(Debug, Default)]
pub struct SendQueue {
    buffer: Option<Buffer>,
    /// Where the first byte of the ring is.
    head: usize,
    /// How many bytes are in the ring.
    copied: usize,
    /// What is not copied, in order.
    shared: VecDeque<Piece>,
    /// How many bytes that are.
    shared_len: usize,
    /// How many bytes of the ring come behind the last piece.
    behind: usize,
}

/// Bytes that are not copied.
#[derive(Debug)]
struct Piece {
    /// How many bytes of the ring come between the piece before and this one.
    before: usize,
    bytes: SharedBytes,
    /// How many of them were sent.
    sent: usize,
}

/// Slices that one write gathers, at most.
const SLICES_MAX: usize = 64;

impl SendQueue {
    /// The number of bytes waiting.
    pub const fn len(&self) -> usize {
        self.copied + self.shared_len
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether some of it is not copied.
    pub fn has_shared(&self) -> bool {
        !self.shared.is_empty()
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
        let tail = (self.head + self.copied) % capacity;
        let (before_wrap, after_wrap) = more.split_at(more.len().min(capacity - tail));
        buffer[tail..tail + before_wrap.len()].copy_from_slice(before_wrap);
        buffer[..after_wrap.len()].copy_from_slice(after_wrap);
        self.copied += more.len();
        self.behind += more.len();
    }

    /// Appends what is not copied.
    pub fn push_shared(&mut self, bytes: SharedBytes) {
        if bytes.is_empty() {
            return;
        }
        self.shared_len += bytes.len();
        self.shared.push_back(Piece { before: mem::take(&mut self.behind), bytes, sent: 0 });
    }

    /// The first bytes waiting, as two slices for one gathering write of at most `limit` bytes: all of them if nothing is
    /// shared.
    pub fn slices(&self, limit: usize) -> [IoSlice<'_>; 2] {
        let copied = self.shared.front().map_or(self.copied, |piece| piece.before);
        self.ring(0, copied.min(limit))
    }

    /// All bytes waiting, first to last, for one gathering write of at most `limit` bytes.
    pub fn all_slices(&self, limit: usize) -> Vec<IoSlice<'_>> {
        let (mut slices, mut left, mut at) = (Vec::new(), limit, 0);
        for piece in &self.shared {
            let copied = piece.before.min(left);
            slices.extend(self.ring(at, copied));
            let rest = &piece.bytes[piece.sent..];
            let shared = rest.len().min(left - copied);
            slices.push(IoSlice::new(&rest[..shared]));
            (left, at) = (left - copied - shared, at + piece.before);
            if left == 0 || slices.len() + 3 > SLICES_MAX {
                break;
            }
        }
        if slices.len() + 2 <= SLICES_MAX && left > 0 {
            slices.extend(self.ring(self.copied - self.behind, self.behind.min(left)));
        }
        slices.retain(|slice| !slice.is_empty());
        slices
    }

    /// So many bytes of the ring, from `at` on.
    fn ring(&self, at: usize, len: usize) -> [IoSlice<'_>; 2] {
        let Some(buffer) = self.buffer.as_deref().filter(|_| len > 0) else { return [IoSlice::new(&[]); 2] };
        let begin = (self.head + at) % buffer.len();
        let front = len.min(buffer.len() - begin);
        [IoSlice::new(&buffer[begin..begin + front]), IoSlice::new(&buffer[..len - front])]
    }

    /// Removes the first `n` bytes, which were sent.
    pub fn consume(&mut self, n: usize, buffers: &mut Buffers, now: Instant) {
        assert!(n <= self.len(), "more was sent than was queued");
        let mut left = n;
        while let Some(piece) = self.shared.front_mut() {
            let copied = left.min(piece.before);
            piece.before -= copied;
            let shared = (left - copied).min(piece.bytes.len() - piece.sent);
            piece.sent += shared;
            let is_sent = piece.sent == piece.bytes.len();
            self.shared_len -= shared;
            left -= copied + shared;
            self.consume_copied(copied, buffers, now);
            if !is_sent {
                return;
            }
            self.shared.pop_front();
        }
        self.behind -= left;
        self.consume_copied(left, buffers, now);
    }

    fn consume_copied(&mut self, n: usize, buffers: &mut Buffers, now: Instant) {
        self.copied -= n;
        if self.copied > 0 {
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
        let needed = self.copied + more;
        let capacity = self.capacity();
        if needed <= capacity {
            return;
        }
        let mut larger = buffers.take(needed.max(capacity.saturating_mul(2)));
        let [front, back] = self.ring(0, self.copied);
        larger[..front.len()].copy_from_slice(&front);
        larger[front.len()..self.copied].copy_from_slice(&back);
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
        queue.all_slices(limit).iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u8>),
        PushShared(Vec<u8>),
        /// So many thousandths of what is queued.
        Consume(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            vec(any::<u8>(), 0..3000).prop_map(Step::Push),
            vec(any::<u8>(), 0..3000).prop_map(Step::PushShared),
            (0_usize..=1000).prop_map(Step::Consume)
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_plain_vector_of_bytes(steps in vec(step(), 1..60), limit in 0_usize..10_000) {
            let (mut buffers, now) = (Buffers::new(8192, None), Instant::now());
            let (mut queue, mut model) = (SendQueue::default(), Vec::new());
            for step in steps {
                match step {
                    Step::Push(more) => {
                        queue.push(&more, &mut buffers);
                        model.extend(more);
                    }
                    Step::PushShared(more) => {
                        queue.push_shared(more.clone().into());
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
                let first: Vec<u8> = queue.slices(limit).iter().flat_map(|slice| slice.to_vec()).collect();
                prop_assert!(model.starts_with(&first));
                prop_assert_eq!(contents(&queue, limit), &model[..limit.min(model.len())]);
                prop_assert_eq!(contents(&queue, usize::MAX), &model[..]);
            }
        }
    }

    #[test]
    fn it_owns_no_memory_when_empty() {
        let mut buffers = Buffers::new(4096, None);
        let mut queue = SendQueue::default();
        assert_eq!(queue.capacity(), 0);
        queue.push(&[7; 100_000], &mut buffers);
        queue.consume(100_000, &mut buffers, Instant::now());
        assert_eq!(queue.capacity(), 0);
    }

    #[test]
    fn within_the_usual_size_it_takes_no_more() {
        let mut buffers = Buffers::new(64 << 10, None);
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
