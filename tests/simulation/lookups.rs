//! Host names that the loop has others look up.

use std::sync::{Arc, Mutex};

use echoloop::internals::{Blocking, Job};

use super::{choices::Choices, world::found};

/// Those that wait for an answer. A few places, no more.
#[derive(Clone, Default)]
pub struct Lookups(Arc<Mutex<Vec<Job>>>);

const PLACES: usize = 3;

impl Lookups {
    pub fn are_empty(&self) -> bool {
        self.0.lock().expect("nobody panics meanwhile").is_empty()
    }

    /// Answers the oldest: with a few addresses, with none, not at all, or that there is no such name.
    pub fn answer(&self, choices: &Choices) {
        let addresses = choices.of(&[Some(1), Some(2), Some(3), Some(0), None]).expect("there are some");
        self.answer_with(addresses);
    }

    /// Answers the oldest with so many addresses. False if there is none.
    pub fn answer_with(&self, addresses: Option<usize>) -> bool {
        let mut waiting = self.0.lock().expect("nobody panics meanwhile");
        if waiting.is_empty() {
            return false;
        }
        let job = waiting.remove(0);
        drop(waiting);
        match (job, addresses) {
            (Job::Lookup(_, answer), Some(n)) => answer(Ok(vec![found(); n])),
            // Whoever drops it has answered.
            (job, _) => drop(job),
        }
        true
    }
}

impl Blocking for Lookups {
    fn reserve(&self) -> bool {
        self.0.lock().expect("nobody panics meanwhile").len() < PLACES
    }

    fn submit(&self, job: Job) {
        self.0.lock().expect("nobody panics meanwhile").push(job);
    }
}
