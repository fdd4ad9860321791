//! The datagrams in flight, by their numbers.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use crate::cli::bench::measure::tally::Start;

/// The datagrams of a worker that have not come back, in the order in which they were sent.
#[derive(Debug)]
pub(super) struct Flights {
    timeout: Duration,
    /// The number of the first one.
    first: u64,
    flights: VecDeque<Flight>,
    /// Some that were given up.
    lost: HashSet<u64>,
}

/// A datagram that was sent, or at least due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    /// The place of its socket.
    pub(super) socket: usize,
    pub(super) start: Start,
    is_back: bool,
}

/// What a datagram is that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was in flight.
    Answer(Start),
    /// It was given up.
    Late,
    /// It was back already.
    Duplicate,
    /// Nobody has sent it, or another socket has.
    Stray,
}

/// More late ones than this count as duplicates: what was lost is not remembered without limit.
const LOST_MAX: usize = 1 << 20;

impl Flights {
    /// None yet. Each is given up after the timeout.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, first: 0, flights: VecDeque::new(), lost: HashSet::new() }
    }

    /// Whether none is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Begins another one, and returns its number.
    pub(super) fn begin(&mut self, socket: usize, start: Start) -> u64 {
        self.flights.push_back(Flight { socket, start, is_back: false });
        self.first + self.flights.len() as u64 - 1
    }

    /// The datagram of this number has come on this socket.
    pub(super) fn arrived(&mut self, number: u64, socket: usize) -> Arrival {
        let Some(place) = number.checked_sub(self.first) else {
            return if self.lost.remove(&number) { Arrival::Late } else { Arrival::Duplicate };
        };
        let flight = usize::try_from(place).ok().and_then(|place| self.flights.get_mut(place));
        let Some(flight) = flight.filter(|flight| flight.socket == socket) else { return Arrival::Stray };
        if flight.is_back {
            return Arrival::Duplicate;
        }
        flight.is_back = true;
        let start = flight.start;
        self.forget_those_back();
        Arrival::Answer(start)
    }

    /// When the first one is given up.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.flights.front()?.start.sent.checked_add(self.timeout)
    }

    /// Gives up the first one, if its time is over.
    pub(super) fn take_lost(&mut self, now: Instant) -> Option<Flight> {
        if self.next_timeout()? > now {
            return None;
        }
        self.give_up()
    }

    /// Gives up the first one.
    pub(super) fn give_up(&mut self) -> Option<Flight> {
        let flight = self.flights.pop_front()?;
        if self.lost.len() < LOST_MAX {
            self.lost.insert(self.first);
        }
        self.first += 1;
        self.forget_those_back();
        Some(flight)
    }

    fn forget_those_back(&mut self) {
        while self.flights.front().is_some_and(|flight| flight.is_back) {
            self.flights.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::clock;

    const TIMEOUT: Duration = Duration::from_secs(1);

    /// Three that were sent at the same time, and that time.
    fn three() -> (Flights, Start) {
        let (mut flights, start) = (Flights::new(TIMEOUT), Start::at(clock::now()));
        assert_eq!([0, 1, 2].map(|socket| flights.begin(socket, start)), [0, 1, 2]);
        (flights, start)
    }

    #[test]
    fn answers_may_come_in_any_order_and_once() {
        let (mut flights, start) = three();
        assert_eq!(flights.arrived(2, 2), Arrival::Answer(start));
        assert_eq!(flights.arrived(2, 2), Arrival::Duplicate);
        assert_eq!(flights.arrived(0, 0), Arrival::Answer(start));
        assert_eq!(flights.arrived(0, 0), Arrival::Duplicate);
        assert_eq!(flights.arrived(1, 1), Arrival::Answer(start));
        assert!(flights.is_empty() && flights.next_timeout().is_none());
        assert_eq!(flights.begin(0, start), 3);
    }

    #[test]
    fn what_nobody_has_sent_on_this_socket_is_a_stray() {
        let (mut flights, _) = three();
        for (number, socket) in [(3, 0), (u64::MAX, 0), (1, 2)] {
            assert_eq!(flights.arrived(number, socket), Arrival::Stray);
        }
    }

    #[test]
    fn who_is_given_up_may_come_late() {
        let (mut flights, start) = three();
        flights.arrived(1, 1);
        assert_eq!(flights.take_lost(start.sent), None);
        assert_eq!(flights.next_timeout(), Some(start.sent + TIMEOUT));
        let lost = std::iter::from_fn(|| flights.take_lost(start.sent + TIMEOUT)).map(|flight| flight.socket);
        assert_eq!(lost.collect::<Vec<_>>(), [0, 2], "one was back");
        assert!(flights.is_empty());
        assert_eq!(flights.arrived(0, 0), Arrival::Late);
        assert_eq!(flights.arrived(0, 0), Arrival::Duplicate);
        assert_eq!(flights.arrived(1, 1), Arrival::Duplicate);
    }
}
