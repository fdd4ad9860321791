//! What decides a schedule: the numbers that a seed gives, those that a fuzzer gives, or a path through the tree of all
//! decisions.

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
enum Source {
    Random(Random),
    Path(Path),
}

#[derive(Debug)]
struct Random {
    /// Decisions that are made already; they come first.
    given: Vec<u8>,
    at: usize,
    rng: Rng,
}

/// One way through the tree of all decisions. A schedule is run from its beginning for each path; the next path
/// differs from the last one in the last decision that has an alternative left.
#[derive(Debug)]
struct Path {
    decisions: Vec<Decision>,
    /// How many of them this schedule has come to.
    at: usize,
    /// How many unusual things may happen in one schedule, and how many still may in this one.
    faults: u8,
    faults_left: u8,
    /// Nothing is decided: the first alternative is taken.
    is_frozen: bool,
    keys: u64,
}

/// Which alternative is taken, and how many there are.
#[derive(Clone, Copy, Debug)]
struct Decision {
    taken: u8,
    of: u8,
}

/// More alternatives than a decision may have if all of them are to be explored.
const TOO_MANY: u64 = 20;

impl Choices {
    pub fn seeded(seed: u64) -> Self {
        Self::given(Vec::new(), seed)
    }

    /// These bytes first, then what the seed gives.
    pub fn given(given: Vec<u8>, seed: u64) -> Self {
        Self::new(Source::Random(Random { given, at: 0, rng: Rng::with_seed(seed) }))
    }

    /// The first of all paths, with so many unusual things in one schedule at most.
    pub fn first_path(faults: u8) -> Self {
        Self::path(&[], faults)
    }

    /// The path that begins with these decisions, and takes the first alternative from there on.
    pub fn path(decisions: &[u8], faults: u8) -> Self {
        let decisions = decisions.iter().map(|&taken| Decision { taken, of: 0 }).collect();
        Self::new(Source::Path(Path {
            decisions,
            at: 0,
            faults,
            faults_left: faults,
            is_frozen: false,
            keys: 0,
        }))
    }

    fn new(source: Source) -> Self {
        Self(Rc::new(RefCell::new(source)))
    }

    /// Goes on to the next path, for another run of the schedule from its beginning. False if there is none.
    pub fn next_path(&self) -> bool {
        match &mut *self.0.borrow_mut() {
            Source::Random(_) => panic!("random choices have no order"),
            Source::Path(path) => path.advance(),
        }
    }

    /// Whether as many unusual things have happened as may.
    pub fn has_all_faults(&self) -> bool {
        matches!(&*self.0.borrow(), Source::Path(path) if path.faults_left == 0)
    }

    /// The decisions of this path so far.
    pub fn decisions(&self) -> Vec<u8> {
        match &*self.0.borrow() {
            Source::Random(_) => panic!("random choices are told by their seed"),
            Source::Path(path) => path.decisions.iter().map(|decision| decision.taken).collect(),
        }
    }

    /// From here on there is nothing to decide if every schedule is explored.
    pub fn freeze(&self) {
        self.set_frozen(true);
    }

    /// Ends what [`freeze`](Self::freeze) began.
    pub fn thaw(&self) {
        self.set_frozen(false);
    }

    fn set_frozen(&self, is_frozen: bool) {
        if let Source::Path(path) = &mut *self.0.borrow_mut() {
            path.is_frozen = is_frozen;
        }
    }

    /// Whether something unusual happens, as it does in `part` times of `of`. A schedule has few of these if every one
    /// is explored.
    pub fn happens(&self, part: u8, of: u8) -> bool {
        if let Source::Path(path) = &mut *self.0.borrow_mut() {
            return part > 0 && path.goes_wrong();
        }
        self.u8(..of) < part
    }

    /// Whether it is now that something happens which may at any time: once in `of` times. If every schedule is explored
    /// it is now: what comes before it is decided elsewhere.
    pub fn soon(&self, of: u8) -> bool {
        let is_path = matches!(*self.0.borrow(), Source::Path(_));
        is_path || self.u8(..of) == 0
    }

    /// A number to tell one thing from others, where it does not matter which.
    pub fn key(&self) -> u64 {
        if let Source::Path(path) = &mut *self.0.borrow_mut() {
            path.keys += 1;
            return path.keys << 8;
        }
        self.u64(..)
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
        match self {
            Self::Random(random) => random.up_to(most),
            Self::Path(path) => path.up_to(most),
        }
    }
}

impl Random {
    fn up_to(&mut self, most: u64) -> u64 {
        let bytes = (u64::BITS - most.leading_zeros()).div_ceil(8) as usize;
        match self.given.get(self.at..self.at + bytes) {
            Some(given) => {
                self.at += bytes;
                let number = given.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
                number % most.saturating_add(1)
            }
            None => self.rng.u64(..=most),
        }
    }
}

impl Path {
    fn up_to(&mut self, most: u64) -> u64 {
        if most == 0 || self.is_frozen {
            return 0;
        }
        let of = most.saturating_add(1);
        assert!(of < TOO_MANY, "a decision with {of} alternatives");
        let of = u8::try_from(of).expect("few alternatives");
        let decision = match self.decisions.get_mut(self.at) {
            Some(decision) => {
                // One that was given does not know yet how many there are.
                assert!(decision.of == of || decision.of == 0, "the same decisions lead elsewhere");
                decision.of = of;
                assert!(decision.taken < of, "there is no alternative {} of {of}", decision.taken);
                *decision
            }
            None => {
                let first = Decision { taken: 0, of };
                self.decisions.push(first);
                first
            }
        };
        self.at += 1;
        decision.taken.into()
    }

    fn goes_wrong(&mut self) -> bool {
        let goes_wrong = self.faults_left > 0 && self.up_to(1) == 1;
        self.faults_left -= u8::from(goes_wrong);
        goes_wrong
    }

    fn advance(&mut self) -> bool {
        assert_eq!(self.at, self.decisions.len(), "the same decisions lead elsewhere");
        while self.decisions.pop_if(|last| last.taken + 1 == last.of).is_some() {}
        (self.at, self.faults_left, self.is_frozen, self.keys) = (0, self.faults, false, 0);
        match self.decisions.last_mut() {
            Some(last) => {
                last.taken += 1;
                true
            }
            None => false,
        }
    }
}
