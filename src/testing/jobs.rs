//! What the server leaves to others to do: work that blocks, and host names to look up.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt, io,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::engine::Engine;
use crate::{
    address::Address,
    blocking::{Blocking, Found, Job as Blocked},
    protocol::Protocol,
};

/// A host name, and who is told its addresses.
pub(super) type Question = (Address, Box<dyn FnOnce(Found) + Send>);

/// Jobs that nobody does but the test.
#[derive(Clone, Debug)]
pub(super) struct Jobs(Arc<Mutex<Waiting>>);

#[derive(Debug)]
struct Waiting {
    jobs: VecDeque<Blocked>,
    /// Those that wait, or that the test has taken and not finished.
    places_taken: usize,
    most: usize,
}

impl Jobs {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Waiting { jobs: VecDeque::new(), places_taken: 0, most })))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next for which this holds.
    fn take(&self, is_wanted: fn(&Blocked) -> bool) -> Option<Blocked> {
        let mut waiting = self.waiting();
        let position = waiting.jobs.iter().position(is_wanted)?;
        waiting.jobs.remove(position)
    }

    pub(super) fn next_work(&self) -> Option<Box<dyn FnOnce() + Send>> {
        match self.take(|job| matches!(job, Blocked::Work(_)))? {
            Blocked::Work(work) => Some(work),
            Blocked::Lookup(..) => None,
        }
    }

    pub(super) fn next_lookup(&self) -> Option<Question> {
        match self.take(|job| matches!(job, Blocked::Lookup(..)))? {
            Blocked::Lookup(name, answer) => Some((name, answer)),
            Blocked::Work(_) => None,
        }
    }

    pub(super) fn give_place_back(&self) {
        self.waiting().places_taken -= 1;
    }
}

impl Blocking for Jobs {
    fn reserve(&self) -> bool {
        let mut waiting = self.waiting();
        let is_free = waiting.places_taken < waiting.most;
        waiting.places_taken += usize::from(is_free);
        is_free
    }

    fn submit(&self, job: Blocked) {
        self.waiting().jobs.push_back(job);
    }
}

/// Work that a protocol has left to another thread with [`Context::spawn_blocking`](crate::Context::spawn_blocking). The test
/// says when it is done. One that is dropped never is: its connection is closed as if the work had panicked.
pub struct Job<'f, P: Protocol + 'f> {
    engine: Rc<RefCell<Engine<'f, P>>>,
    work: Option<Box<dyn FnOnce() + Send>>,
}

impl<'f, P: Protocol + 'f> Job<'f, P> {
    pub(super) fn new(engine: Rc<RefCell<Engine<'f, P>>>, work: Box<dyn FnOnce() + Send>) -> Self {
        Self { engine, work: Some(work) }
    }

    /// Does the work, here and now; what it returns then comes to the protocol.
    ///
    /// # Panics
    ///
    /// If the work does.
    pub fn finish(mut self) {
        if let Some(work) = self.work.take() {
            work();
        }
    }
}

impl<'f, P: Protocol + 'f> Drop for Job<'f, P> {
    fn drop(&mut self) {
        drop(self.work.take());
        finish(&self.engine);
    }
}

/// A host name that the server wants to connect to. The test answers; unanswered it runs into the
/// [connect timeout](crate::Config::connect_timeout). One that is dropped finds nothing.
///
/// ```
/// use echoloop::{Echo, Origin, testing::Loop};
///
/// let net = Loop::new(|_| Some(Echo));
/// net.handle().connect("db.example:5432".parse()?, 7)?;
/// net.run();
/// let lookup = net.next_lookup().expect("it asks for the address");
/// assert_eq!(lookup.name().to_string(), "db.example:5432");
/// lookup.answer(["[2001:db8::1]:5432".parse()?, "192.0.2.1:5432".parse()?]);
/// net.next_connect().expect("it tries").refuse(std::io::ErrorKind::NetworkUnreachable);
/// let second = net.next_connect().expect("it tries the other");
/// assert_eq!(second.address().to_string(), "192.0.2.1:5432");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lookup<'f, P: Protocol + 'f> {
    engine: Rc<RefCell<Engine<'f, P>>>,
    name: Address,
    answer: Option<Box<dyn FnOnce(Found) + Send>>,
}

impl<'f, P: Protocol + 'f> Lookup<'f, P> {
    pub(super) fn new(engine: Rc<RefCell<Engine<'f, P>>>, (name, answer): Question) -> Self {
        Self { engine, name, answer: Some(answer) }
    }

    /// What is looked up.
    #[must_use]
    pub const fn name(&self) -> &Address {
        &self.name
    }

    /// It has these addresses, in the resolver's order.
    pub fn answer(self, addresses: impl IntoIterator<Item = Address>) {
        self.tell(Ok(addresses.into_iter().collect()));
    }

    /// It has none, or the resolver fails.
    pub fn fail(self) {
        self.tell(Err(io::ErrorKind::NotFound));
    }

    fn tell(mut self, found: Found) {
        if let Some(answer) = self.answer.take() {
            answer(found);
        }
    }
}

impl<'f, P: Protocol + 'f> Drop for Lookup<'f, P> {
    fn drop(&mut self) {
        drop(self.answer.take());
        finish(&self.engine);
    }
}

/// What has come of it reaches the loop, unless a panic ends the test.
fn finish<'f, P: Protocol + 'f>(engine: &RefCell<Engine<'f, P>>) {
    if let Ok(mut engine) = engine.try_borrow_mut() {
        engine.jobs().give_place_back();
        if !std::thread::panicking() {
            engine.run();
        }
    }
}

impl<'f, P: Protocol + 'f> fmt::Debug for Job<'f, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

impl<'f, P: Protocol + 'f> fmt::Debug for Lookup<'f, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("name", &self.name.to_string()).finish_non_exhaustive()
    }
}
