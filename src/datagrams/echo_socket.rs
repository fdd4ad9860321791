//! One datagram socket, its turn and its drain.

use std::{
    io::{self, ErrorKind},
    time::Instant,
};

use super::refusal::is_refused;
use crate::{
    complaints::Complaints,
    gate::Gate,
    stats::Counters,
    system::datagrams::{Arrival, Datagrams},
};

/// A datagram socket that never spins and never goes deaf.
#[derive(Debug)]
pub(super) struct EchoSocket<S> {
    socket: S,
    gate: Gate,
    /// How many datagrams may still be received.
    left: u64,
    /// Times in a row that receiving failed.
    failures_in_row: usize,
    /// Answers of which the system may still say that nobody was there.
    unrefused: u64,
    complaints: Complaints,
}

/// Datagrams that a socket receives before others have their turn. Failures count as well.
const TURN_MAX: usize = 64;

/// Failures in a row that may each be a moment's; more look like a fault that stays.
const FAILURES_IN_ROW_MAX: usize = 64;

/// Datagrams that may wait in a socket when a drain begins. More than that have come later.
const DRAIN_MAX: u64 = 65_536;

impl<S: Datagrams> EchoSocket<S> {
    /// Datagrams may wait in the socket already.
    pub(super) const fn new(socket: S) -> Self {
        Self {
            socket,
            gate: Gate::Ready,
            left: u64::MAX,
            failures_in_row: 0,
            unrefused: 0,
            complaints: Complaints::new(),
        }
    }

    pub(super) const fn set_ready(&mut self) {
        self.gate.set_ready();
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.gate.is_ready(now)
    }

    pub(super) const fn retry_at(&self) -> Option<Instant> {
        self.gate.retry_at()
    }

    /// No event need come for what is there already. What keeps coming must not delay the end of the drain.
    pub(super) const fn begin_drain(&mut self) {
        self.gate = Gate::Ready;
        self.left = DRAIN_MAX;
    }

    /// Whether it was found empty since the drain began. One that cannot be received from is not waited for.
    pub(super) const fn is_drained(&self) -> bool {
        match self.gate {
            Gate::Waiting | Gate::Retry(_) => true,
            Gate::Ready => self.left == 0,
        }
    }

    /// Sends back what has come, until the socket is empty or its turn is over.
    pub(super) fn take_turn(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        own_ports: &[u16],
        counters: &Counters,
    ) {
        for _ in 0..TURN_MAX {
            if self.left == 0 {
                return;
            }
            match self.socket.receive(buffer) {
                Ok(arrival) => {
                    self.gate = Gate::Ready;
                    self.failures_in_row = 0;
                    self.left -= 1;
                    self.answer(&buffer[..arrival.length], &arrival, own_ports, counters);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.gate = Gate::Waiting;
                    self.failures_in_row = 0;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whoever sends from a closed port must not make it look like a fault.
                Err(error) if is_refusal(&error) && self.unrefused > 0 => self.unrefused -= 1,
                Err(error) if self.failures_in_row < FAILURES_IN_ROW_MAX => {
                    self.failures_in_row += 1;
                    log::trace!("cannot receive a datagram: {error}");
                }
                Err(error) => {
                    self.failures_in_row = 0;
                    self.gate = Gate::retry_later(now);
                    if self.complaints.is_due(now) {
                        log::warn!("cannot receive datagrams on port {}: {error}", self.socket.port());
                    }
                    return;
                }
            }
        }
    }

    fn answer(&mut self, bytes: &[u8], arrival: &Arrival, own_ports: &[u16], counters: &Counters) {
        counters.datagrams_received.add(1);
        counters.datagram_bytes_received.add(bytes.len());
        let from = arrival.from;
        if is_refused(arrival, own_ports) {
            counters.datagrams_refused.add(1);
            log::trace!("a datagram from {from} is not answered");
            return;
        }
        match self.socket.answer(bytes, arrival) {
            Ok(()) => {
                self.unrefused += 1;
                counters.datagrams_sent.add(1);
                counters.datagram_bytes_sent.add(bytes.len());
            }
            Err(error) => {
                counters.datagrams_unsent.add(1);
                log::trace!("a datagram from {from} cannot be sent back: {error}");
            }
        }
    }
}

/// Whether nobody was there for an answer: an ICMP message said so. Windows makes a reset of it.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::{gate::RETRY_AFTER, system::datagrams::Destination};

    /// Receives what the script says, then has nothing more, and answers as the other script says, then without error.
    #[derive(Default)]
    struct Script {
        arrivals: VecDeque<io::Result<u8>>,
        fates: VecDeque<io::Result<()>>,
        answered: Vec<u8>,
    }

    impl Datagrams for Script {
        fn port(&self) -> u16 {
            27_015
        }

        fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Arrival> {
            buffer[0] = self.arrivals.pop_front().unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))?;
            let from = ([198, 51, 100, 1], 49_152).into();
            Ok(Arrival { length: 1, from, to: Destination::Bound })
        }

        fn answer(&mut self, bytes: &[u8], _: &Arrival) -> io::Result<()> {
            self.fates.pop_front().unwrap_or(Ok(()))?;
            self.answered.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn socket(arrivals: impl IntoIterator<Item = io::Result<u8>>) -> EchoSocket<Script> {
        EchoSocket::new(Script { arrivals: arrivals.into_iter().collect(), ..Script::default() })
    }

    /// One turn, and all that was answered so far.
    fn turn(socket: &mut EchoSocket<Script>, now: Instant, counters: &Counters) -> Vec<u8> {
        socket.take_turn(now, &mut [0; 8], &[27_015], counters);
        socket.socket.answered.clone()
    }

    #[test]
    fn a_turn_is_bounded_and_goes_on_without_an_event() {
        let (now, counters) = (Instant::now(), Counters::default());
        let mut socket = socket((0..100).map(Ok));
        assert_eq!(turn(&mut socket, now, &counters).len(), TURN_MAX);
        assert!(socket.is_ready(now), "the others have their turn, and then it again");
        assert_eq!(turn(&mut socket, now, &counters), (0..100).collect::<Vec<_>>());
        assert!(!socket.is_ready(now), "it was found empty");
        socket.set_ready();
        assert!(socket.is_ready(now));
    }

    #[test]
    fn an_error_of_receiving_costs_nobody_a_datagram() {
        let errors = [ErrorKind::ConnectionRefused, ErrorKind::HostUnreachable, ErrorKind::Interrupted];
        let arrivals = errors.into_iter().flat_map(|kind| [Err(kind.into()), Ok(7)]);
        let mut socket = socket(arrivals);
        assert_eq!(turn(&mut socket, Instant::now(), &Counters::default()), [7; 3]);
    }

    #[test]
    fn refusals_of_answers_are_no_fault_however_many_come_in_a_row() {
        let (now, many) = (Instant::now(), 3 * FAILURES_IN_ROW_MAX);
        let refused = std::iter::repeat_with(|| Err(ErrorKind::ConnectionReset.into()));
        let script = std::iter::repeat_with(|| Ok(1)).take(many).chain(refused.take(many)).chain([Ok(7)]);
        let mut socket = socket(script);
        while socket.is_ready(now) {
            turn(&mut socket, now, &Counters::default());
        }
        assert_eq!(socket.socket.answered.last(), Some(&7));
        assert_eq!(socket.retry_at(), None);
    }

    #[test]
    fn a_fault_that_stays_is_waited_out() {
        let now = Instant::now();
        let fails = std::iter::repeat_with(|| Err(ErrorKind::NetworkDown.into()));
        let mut socket = socket(fails.take(FAILURES_IN_ROW_MAX + 1).chain([Ok(7)]));
        while socket.is_ready(now) {
            turn(&mut socket, now, &Counters::default());
        }
        assert_eq!(socket.retry_at(), Some(now + RETRY_AFTER), "it must not spin");
        socket.set_ready();
        assert!(!socket.is_ready(now), "an event is no cure");
        assert_eq!(turn(&mut socket, now + RETRY_AFTER, &Counters::default()), [7]);
        assert_eq!(socket.retry_at(), None);
    }

    #[test]
    fn an_answer_that_cannot_be_sent_is_dropped_and_counted() {
        let counters = Counters::default();
        let mut socket = socket((0..4).map(Ok));
        let fates = [ErrorKind::WouldBlock, ErrorKind::PermissionDenied, ErrorKind::NetworkUnreachable];
        socket.socket.fates.extend(fates.map(|kind| Err(kind.into())));
        assert_eq!(turn(&mut socket, Instant::now(), &counters), [3]);
        let stats = counters.snapshot();
        assert_eq!((stats.datagrams_received, stats.datagrams_sent, stats.datagrams_unsent), (4, 1, 3));
        assert_eq!((stats.datagram_bytes_received, stats.datagram_bytes_sent), (4, 1));
    }

    #[test]
    fn a_drain_answers_what_has_come_and_waits_for_nothing_else() {
        let (now, counters) = (Instant::now(), Counters::default());
        let mut socket = socket((0..100).map(Ok));
        socket.begin_drain();
        turn(&mut socket, now, &counters);
        assert!(!socket.is_drained(), "there is more");
        turn(&mut socket, now, &counters);
        assert!(socket.is_drained());
        assert_eq!(counters.datagrams_sent.get(), 100);
    }

    #[test]
    fn a_drain_ends_though_datagrams_keep_coming() {
        let (now, counters) = (Instant::now(), Counters::default());
        let mut socket = socket(std::iter::repeat_with(|| Ok(7)).take(100_000));
        socket.begin_drain();
        while !socket.is_drained() {
            turn(&mut socket, now, &counters);
        }
        assert_eq!(counters.datagrams_sent.get(), DRAIN_MAX);
    }
}
