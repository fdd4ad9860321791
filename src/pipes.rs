//! The pipes of a loop: a few, made when they are needed, and given back when they are not.

use std::{
    fmt, io,
    rc::Rc,
    time::{Duration, Instant},
};

/// Bytes that the kernel holds between two moves.
pub trait Pipe: fmt::Debug {
    /// How many bytes are in it.
    fn len(&self) -> usize;

    /// Whether it is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The pipe of transports that have none.
#[derive(Debug)]
pub enum NoPipe {}

impl Pipe for NoPipe {
    fn len(&self) -> usize {
        match *self {}
    }
}

/// How long a free pipe is kept, and how long no new one is asked for after the system refused one.
const KEEP: Duration = Duration::from_secs(1);

/// A bounded number of pipes. Each is two descriptors.
#[derive(Debug)]
pub(crate) struct Pipes<P> {
    free: Vec<Pooled<P>>,
    most: usize,
    /// Held by every pipe there is, so that they are counted wherever they end.
    places: Rc<()>,
    /// When the next free pipes are given back to the system.
    free_until: Option<Instant>,
    /// No new pipe before.
    refused_until: Option<Instant>,
}

/// A pipe with its place among those that there may be.
#[derive(Debug)]
pub(crate) struct Pooled<P> {
    /// The pipe.
    pub(crate) pipe: P,
    _place: Rc<()>,
}

impl<P: Pipe> Pipes<P> {
    /// At most so many at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self { free: Vec::new(), most, places: Rc::new(()), free_until: None, refused_until: None }
    }

    /// An empty pipe: a free one, or one that `make` makes. `None` if all are in use or the system refuses.
    pub(crate) fn take(&mut self, now: Instant, make: impl FnOnce() -> io::Result<P>) -> Option<Pooled<P>> {
        if let Some(pooled) = self.free.pop() {
            return Some(pooled);
        }
        if self.count() >= self.most || self.refused_until.is_some_and(|until| now < until) {
            return None;
        }
        match make() {
            Ok(pipe) => Some(Pooled { pipe, _place: Rc::clone(&self.places) }),
            Err(error) => {
                self.refuse(&error, now);
                None
            }
        }
    }

    /// Notes that the system refuses pipes, or to move bytes through them.
    pub(crate) fn refuse(&mut self, error: &io::Error, now: Instant) {
        log::debug!("no pipe: {error}; copying instead");
        self.free = Vec::new();
        self.refused_until = now.checked_add(KEEP);
    }

    /// Takes a pipe back, if nothing is left in it.
    pub(crate) fn give_back(&mut self, pooled: Pooled<P>, now: Instant) {
        if pooled.pipe.is_empty() {
            self.free.push(pooled);
            self.free_until = self.free_until.or(now.checked_add(KEEP));
        }
    }

    /// When [`trim`](Self::trim) has something to do; `None` is never.
    pub(crate) fn trim_at(&self) -> Option<Instant> {
        self.free_until.filter(|_| !self.free.is_empty())
    }

    /// Gives free pipes back to the system, half of them at a time, rounded up: a few that are in use again and
    /// again do not keep the others.
    pub(crate) fn trim(&mut self, now: Instant) {
        if self.free_until.is_some_and(|at| at <= now) {
            self.free.truncate(self.free.len() / 2);
            self.free_until = if self.free.is_empty() { None } else { now.checked_add(KEEP) };
        }
    }

    /// How many there are, free or in use.
    pub(crate) fn count(&self) -> usize {
        Rc::strong_count(&self.places) - 1
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fake(usize);

    impl Pipe for Fake {
        fn len(&self) -> usize {
            self.0
        }
    }

    fn make() -> io::Result<Fake> {
        Ok(Fake(0))
    }

    #[test]
    fn there_are_never_more_than_allowed_wherever_they_end() {
        let now = Instant::now();
        let mut pipes = Pipes::new(2);
        let first = pipes.take(now, make).unwrap();
        let second = pipes.take(now, make).unwrap();
        assert!(pipes.take(now, make).is_none());
        drop(first);
        assert_eq!(pipes.count(), 1);
        let third = pipes.take(now, make).unwrap();
        pipes.give_back(second, now);
        pipes.give_back(third, now);
        assert_eq!(pipes.count(), 2);
        let refuse = || -> io::Result<Fake> { panic!("there are free ones") };
        assert!(pipes.take(now, refuse).is_some());
    }

    #[test]
    fn one_that_is_not_empty_is_not_used_again() {
        let now = Instant::now();
        let mut pipes = Pipes::new(1);
        let mut pooled = pipes.take(now, make).unwrap();
        pooled.pipe.0 = 1;
        pipes.give_back(pooled, now);
        assert_eq!((pipes.count(), pipes.trim_at()), (0, None));
    }

    #[test]
    fn free_ones_go_back_to_the_system_in_the_end() {
        let now = Instant::now();
        let mut pipes = Pipes::new(1);
        let pooled = pipes.take(now, make).unwrap();
        assert_eq!(pipes.trim_at(), None);
        pipes.give_back(pooled, now);
        assert_eq!(pipes.trim_at(), Some(now + KEEP));
        pipes.trim(now + KEEP - Duration::from_nanos(1));
        assert_eq!(pipes.count(), 1);
        pipes.trim(now + KEEP);
        assert_eq!((pipes.count(), pipes.trim_at()), (0, None));
    }

    #[test]
    fn one_that_is_used_again_and_again_does_not_keep_the_others() {
        let now = Instant::now();
        let mut pipes = Pipes::new(8);
        let all: Vec<_> = (0..8).map(|_| pipes.take(now, make).unwrap()).collect();
        for pooled in all {
            pipes.give_back(pooled, now);
        }
        let mut left = Vec::new();
        for seconds in 1..=3 {
            let now = now + seconds * KEEP;
            let pooled = pipes.take(now, make).unwrap();
            pipes.give_back(pooled, now);
            pipes.trim(now);
            left.push(pipes.count());
        }
        assert_eq!(left, [4, 2, 1]);
    }

    #[test]
    fn a_system_that_refuses_is_not_asked_again_at_once() {
        let now = Instant::now();
        let mut pipes = Pipes::new(1);
        assert!(pipes.take(now, || Err(io::ErrorKind::OutOfMemory.into())).is_none());
        assert!(pipes.take(now, make).is_none());
        assert!(pipes.take(now + KEEP, make).is_some());
    }
}
