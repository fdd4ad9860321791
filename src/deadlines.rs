//! When each connection has to be looked at again: one entry per slot, earliest first.

use std::time::{Duration, Instant};

/// How many children a node of the heap has: wide nodes keep it shallow.
const ARITY: usize = 4;

/// The position of a slot that has no entry.
const ABSENT: u32 = u32::MAX;

/// A heap with at most one deadline per slot.
///
/// Deadlines are lazy. Activity only stamps the connection; its entry stays where it is, fires too early,
/// and is armed again for the later time. So [`arm`](Self::arm) only ever moves an entry forward.
#[derive(Debug)]
pub struct Deadlines {
    /// Instants are kept as nanoseconds since this one, at half the size.
    epoch: Instant,
    heap: Vec<Entry>,
    /// For each slot the position of its entry in `heap`, or `ABSENT`.
    positions: Vec<u32>,
    /// That of the first entry, which is asked for in every turn of the loop.
    earliest: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    slot: u32,
}

impl Deadlines {
    /// An empty queue. `epoch` is not later than any deadline that will be armed.
    pub fn new(epoch: Instant) -> Self {
        Self::with_capacity(epoch, 0)
    }

    /// The same, with room for so many slots: address space, of which pages are taken as they are used.
    pub fn with_capacity(epoch: Instant, slots: usize) -> Self {
        let (heap, positions) = (Vec::with_capacity(slots), Vec::with_capacity(slots));
        Self { epoch, heap, positions, earliest: None }
    }

    /// The number of slots that have a deadline.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no slot has a deadline.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Makes sure that `slot` comes up at `at` or before.
    pub fn arm(&mut self, slot: u32, at: Instant) {
        let at = self.nanos(at);
        let index = slot as usize;
        if index >= self.positions.len() {
            self.positions.resize(index + 1, ABSENT);
        }
        let position = match self.positions[index] {
            ABSENT => {
                self.heap.push(Entry { at, slot });
                self.heap.len() - 1
            }
            position if self.heap[position as usize].at <= at => return,
            position => {
                self.heap[position as usize].at = at;
                position as usize
            }
        };
        if self.sift_up(position) == 0 {
            self.note_earliest();
        }
    }

    /// Forgets the deadline of `slot`, if it has one.
    pub fn disarm(&mut self, slot: u32) {
        let Some(&position) = self.positions.get(slot as usize) else { return };
        if position == ABSENT {
            return;
        }
        self.positions[slot as usize] = ABSENT;
        let last = self.heap.pop().expect("a slot with a position has an entry");
        let position = position as usize;
        if position < self.heap.len() {
            self.heap[position] = last;
            let moved = self.sift_up(position);
            self.sift_down(moved);
        }
        if position == 0 {
            self.note_earliest();
        }
    }

    /// The earliest deadline, or `None` if there is none.
    pub const fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// When `slot` comes up.
    pub fn of(&self, slot: u32) -> Option<Instant> {
        let position = *self.positions.get(slot as usize).filter(|&&position| position != ABSENT)?;
        self.epoch.checked_add(Duration::from_nanos(self.heap[position as usize].at))
    }

    /// Takes out a slot whose deadline is `now` or before; the earliest first.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        self.earliest.filter(|&earliest| earliest <= now)?;
        let slot = self.heap.first()?.slot;
        self.disarm(slot);
        Some(slot)
    }

    /// Gives back memory that a past crowd needed.
    pub fn shrink(&mut self) {
        self.heap.shrink_to_fit();
        let used = self.heap.iter().map(|entry| entry.slot as usize + 1).max().unwrap_or(0);
        self.positions.truncate(used);
        self.positions.shrink_to_fit();
    }

    /// After the first entry has changed.
    fn note_earliest(&mut self) {
        let first = self.heap.first();
        self.earliest = first.and_then(|first| self.epoch.checked_add(Duration::from_nanos(first.at)));
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn place(&mut self, position: usize, entry: Entry) {
        self.heap[position] = entry;
        self.positions[entry.slot as usize] =
            u32::try_from(position).expect("there are no more entries than slots");
    }

    fn sift_up(&mut self, mut position: usize) -> usize {
        let entry = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if self.heap[parent].at <= entry.at {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        self.place(position, entry);
        position
    }

    fn sift_down(&mut self, mut position: usize) {
        let entry = self.heap[position];
        loop {
            let first = position * ARITY + 1;
            let children = first..(first + ARITY).min(self.heap.len());
            let Some(child) = children.min_by_key(|&child| self.heap[child].at) else { break };
            if entry.at <= self.heap[child].at {
                break;
            }
            self.place(position, self.heap[child]);
            position = child;
        }
        self.place(position, entry);
    }
}

/// The earlier of two deadlines, of which either may be never.
pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (some, None) | (None, some) => some,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Arm(u32, u64),
        Disarm(u32),
        PopDue(u64),
        Shrink,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u32..50, 0_u64..1000).prop_map(|(slot, at)| Step::Arm(slot, at)),
            2 => (0_u32..50).prop_map(Step::Disarm),
            2 => (0_u64..1000).prop_map(Step::PopDue),
            1 => Just(Step::Shrink),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_sorted_map(steps in vec(step(), 1..400)) {
            let start = Instant::now();
            let instant = |nanos| start + Duration::from_nanos(nanos);
            let mut deadlines = Deadlines::new(start);
            let mut model: BTreeMap<u32, Instant> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Arm(slot, nanos) => {
                        let at = instant(nanos);
                        deadlines.arm(slot, at);
                        model.entry(slot).and_modify(|known| *known = at.min(*known)).or_insert(at);
                    }
                    Step::Disarm(slot) => {
                        deadlines.disarm(slot);
                        model.remove(&slot);
                    }
                    Step::PopDue(nanos) => {
                        let earliest = model.values().min().copied();
                        match deadlines.pop_due(instant(nanos)) {
                            Some(slot) => prop_assert_eq!(model.remove(&slot), earliest),
                            None => prop_assert!(earliest.is_none_or(|earliest| earliest > instant(nanos))),
                        }
                    }
                    Step::Shrink => deadlines.shrink(),
                }
                prop_assert_eq!(deadlines.len(), model.len());
                prop_assert_eq!(deadlines.is_empty(), model.is_empty());
                prop_assert_eq!(deadlines.earliest(), model.values().min().copied());
            }
        }
    }

    #[test]
    fn arming_later_leaves_the_entry_where_it_is() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        deadlines.arm(3, start + Duration::from_secs(1));
        deadlines.arm(3, start + Duration::from_secs(9));
        assert_eq!(deadlines.earliest(), Some(start + Duration::from_secs(1)));
    }

    #[test]
    fn shrinking_keeps_what_is_armed() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        for slot in 0..100 {
            deadlines.arm(slot, start + Duration::from_secs(u64::from(slot)));
        }
        for slot in 0..99 {
            deadlines.disarm(slot);
        }
        deadlines.shrink();
        deadlines.disarm(7);
        assert_eq!(deadlines.pop_due(start + Duration::from_secs(99)), Some(99));
        deadlines.shrink();
        assert_eq!(deadlines.earliest(), None);
        assert_eq!((deadlines.heap.capacity(), deadlines.positions.capacity()), (0, 0));
    }
}
