//! Another worker of the same server. Its loop is not simulated, only what it does to the one under test: it has some of
//! the places, leaves connections to that loop, and gets some from it.
//!
//! Between any two of its steps the loop may do anything.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use echoloop::internals::{Places, Wake};

use super::Kernel;

/// The loop under test, and the other worker, as the places know them.
pub const LOOP: u32 = 0;
pub const OTHER: u32 = 1;

#[derive(Debug)]
pub struct OtherWorker {
    places: Arc<Places>,
    /// How many of them it has.
    has: usize,
    /// Clients that it has accepted and is about to leave to the loop: at which listener, and their numbers.
    leaving: VecDeque<(usize, usize)>,
    /// It has left one, and is about to wake the loop.
    is_to_wake: bool,
    woken: Arc<Woken>,
    /// The loop has left it a connection, and has to wake it.
    awaits_wake: bool,
    /// It takes over nothing any more.
    has_closed_inbox: bool,
}

/// Whether a worker was woken.
#[derive(Debug, Default)]
pub struct Woken(AtomicBool);

impl Woken {
    pub fn is_true(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn forget(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Wake for Woken {
    fn wake(&self) -> io::Result<()> {
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl OtherWorker {
    /// One that shares these places, and is woken in this way.
    pub fn new(places: Arc<Places>, woken: Arc<Woken>) -> Self {
        Self {
            places,
            has: 0,
            leaving: VecDeque::new(),
            is_to_wake: false,
            woken,
            awaits_wake: false,
            has_closed_inbox: false,
        }
    }

    fn take_place(&mut self) -> bool {
        let is_taken = self.places.take(OTHER);
        self.has += usize::from(is_taken);
        is_taken
    }

    fn give_place_back(&mut self) -> bool {
        let has_own = self.has > self.leaving.len();
        if has_own {
            self.has -= 1;
            self.places.give_back(OTHER);
        }
        has_own
    }

    /// The loop leaves it a connection, whose place it has already. False if it takes none.
    pub fn takes_over(&mut self) -> bool {
        if self.has_closed_inbox {
            return false;
        }
        self.has += 1;
        self.woken.forget();
        self.awaits_wake = true;
        true
    }

    pub const fn close_inbox(&mut self) {
        self.has_closed_inbox = true;
    }

    /// Whether it is about to do something to the loop.
    pub fn is_busy(&self) -> bool {
        self.is_to_wake || !self.leaving.is_empty()
    }

    /// What must hold when the loop, which has so many connections, tries to accept one more: it has no more places yet.
    pub fn check_attempt(&self, connections: usize) -> Result<(), String> {
        let places = self.places.has(LOOP);
        if places != connections {
            return Err(format!("it tries to accept with {places} places for {connections} connections"));
        }
        Ok(())
    }

    /// What must hold between two turns of the loop.
    pub fn check(&self) -> Result<(), String> {
        let places = self.places.has(OTHER);
        if places != self.has {
            return Err(format!("the other worker has {places} places, and should have {}", self.has));
        }
        let (taken, of_loop) = (self.places.total() - self.places.free(), self.places.has(LOOP));
        if taken != places + of_loop {
            return Err(format!("{taken} places are taken: {of_loop} here, {places} by the other worker"));
        }
        if self.awaits_wake && !self.woken.is_true() {
            return Err("a connection was left to the other worker, who was not woken".to_owned());
        }
        Ok(())
    }
}

impl Kernel {
    /// A client comes. Whether the other worker accepts it, and is about to leave it to the loop.
    pub(super) fn is_accepted_elsewhere(&mut self, listener: usize, client: usize) -> bool {
        let is_hit = self.hits(self.nature.left_percent.unwrap_or_default());
        let is_taken_over = !self.listeners[listener].has_closed_inbox;
        let Some(other) = &mut self.other_worker else { return false };
        let is_accepted = is_hit && is_taken_over && other.take_place();
        if is_accepted {
            other.leaving.push_back((listener, client));
        }
        is_accepted
    }

    /// The other worker does its next step towards the loop. False if there is none.
    pub fn other_worker_acts(&mut self) -> bool {
        let Some(other) = &mut self.other_worker else { return false };
        if std::mem::take(&mut other.is_to_wake) {
            other.places.wake(LOOP);
            return true;
        }
        let Some((listener, client)) = other.leaving.pop_front() else { return false };
        let backlog = &mut self.listeners[listener];
        if backlog.has_closed_inbox {
            // The other one serves it, and has nothing to do with the loop then.
            self.sockets[client].borrow_mut().close_unaccepted();
        } else {
            other.places.pass(OTHER, LOOP);
            other.has -= 1;
            backlog.inbox.push_back(client);
            other.is_to_wake = true;
        }
        true
    }

    /// The other worker goes on while the loop is in the middle of something.
    pub(super) fn other_worker_acts_meanwhile(&mut self) {
        let is_busy = |kernel: &Self| kernel.other_worker.as_ref().is_some_and(OtherWorker::is_busy);
        while !self.is_calm && is_busy(self) && self.choices.happens(1, 2) {
            self.other_worker_acts();
        }
    }

    /// A connection of the other worker's own comes or goes.
    pub fn other_worker_has_another(&mut self) {
        let comes = self.choices.bool();
        if let Some(other) = &mut self.other_worker {
            let _ = if comes { other.take_place() } else { other.give_place_back() };
        }
    }

    /// The other worker does all that it is about to do, then ends one of its own connections. False if there was nothing.
    pub fn other_worker_settles(&mut self) -> bool {
        let mut has_acted = false;
        while self.other_worker_acts() {
            has_acted = true;
        }
        has_acted || self.other_worker.as_mut().is_some_and(OtherWorker::give_place_back)
    }

    /// Connections that have a place of the loop, and have not come to it.
    pub fn left_to_loop(&self) -> usize {
        self.listeners.iter().map(|backlog| backlog.inbox.len() + backlog.dropped_from_inbox).sum()
    }

    /// Whether a connection lies where the loop is to take it over.
    pub fn has_left_one(&self) -> bool {
        self.listeners.iter().any(|backlog| !backlog.inbox.is_empty())
    }
}
