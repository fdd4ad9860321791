//! What decides a schedule: the numbers that a seed gives, or those that a fuzzer gives.

use std::{
    cell::RefCell,
    ops::{Bound, RangeBounds},
    rc::Rc,
};

use fastrand::Rng;

/// A source of decisions, shared by all that decide.
#[derive(Clone, Debug)]
pub struct Choices(Rc<RefCell<Source>>);

#[derive(Debug)]
struct Source {
    /// Decisions that are made already; they come first.
    given: Vec<u8>,
    at: usize,
    random: Rng,
}

impl Choices {
    pub fn seeded(seed: u64) -> Self {
        Self::given(Vec::new(), seed)
    }

    /// These bytes first, then what the seed gives.
    pub fn given(given: Vec<u8>, seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Source { given, at: 0, random: Rng::with_seed(seed) })))
    }

    pub fn u64(&self, range: impl RangeBounds<u64>) -> u64 {
        let first = match range.start_bound() {
            Bound::Included(&first) => first,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let last = match range.end_bound() {
            Bound::Included(&last) => last,
            Bound::Excluded(&after) => after.checked_sub(1).expect("a range that is not empty"),
            Bound::Unbounded => u64::MAX,
        };
        assert!(first <= last, "a range that is not empty");
        first + self.0.borrow_mut().up_to(last - first)
    }

    pub fn usize(&self, range: impl RangeBounds<usize>) -> usize {
        let wide = |bound: Bound<&usize>| bound.map(|&n| n as u64);
        let range = (wide(range.start_bound()), wide(range.end_bound()));
        usize::try_from(self.u64(range)).expect("it is within a range of usize")
    }

    pub fn u8(&self, range: impl RangeBounds<u8>) -> u8 {
        let wide = |bound: Bound<&u8>| bound.map(|&n| u64::from(n));
        let range = (wide(range.start_bound()), wide(range.end_bound()));
        u8::try_from(self.u64(range)).expect("it is within a range of u8")
    }

    pub fn bool(&self) -> bool {
        self.u64(..2) == 1
    }

    /// One of these; none if there are none.
    pub fn of<T: Copy>(&self, all: &[T]) -> Option<T> {
        if all.is_empty() { None } else { Some(all[self.usize(..all.len())]) }
    }

    pub fn shuffle<T>(&self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.usize(..=last));
        }
    }
}

impl Source {
    fn up_to(&mut self, most: u64) -> u64 {
        let bytes = (u64::BITS - most.leading_zeros()).div_ceil(8) as usize;
        match self.given.get(self.at..self.at + bytes) {
            Some(given) => {
                self.at += bytes;
                let number = given.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
                number % most.saturating_add(1)
            }
            None => self.random.u64(..=most),
        }
    }
}
