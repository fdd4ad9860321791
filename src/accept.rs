//! When to accept, and what it means when that fails.

use std::{
    io::{self, ErrorKind},
    time::Instant,
};

use crate::{
    address::Address,
    complaints::Complaints,
    gate::Gate,
    stats::Counters,
    system::{Accept, Accepted},
};

/// A listening socket that never spins and never goes deaf.
///
/// Readiness is edge-triggered: after a failure that leaves clients in the backlog no event comes
/// again by itself, so a time to retry is kept.
#[derive(Debug)]
pub(crate) struct Listener<A> {
    socket: A,
    gate: Gate,
    /// How many connections may still be accepted.
    left: u64,
    /// Connections that were lost in a row before they could be accepted.
    lost_in_row: usize,
    complaints: Complaints,
}

/// What an attempt to accept came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Attempt<T> {
    /// A connection and its peer's address.
    Accepted(T, Address),
    /// A connection was lost before it could be accepted; there may be others.
    Lost,
    /// Not now: the backlog is empty, or accepting has to wait for descriptors.
    Pause,
}

/// Losses in a row that are one client's bad luck each; more look like a fault that stays.
const LOST_IN_ROW_MAX: usize = 64;

impl<A: Accept> Listener<A> {
    /// A listener whose backlog may already hold clients.
    pub(crate) const fn new(socket: A) -> Self {
        Self { socket, gate: Gate::Ready, left: u64::MAX, lost_in_row: 0, complaints: Complaints::new() }
    }

    /// Notes an event, or another cause to look into the backlog.
    pub(crate) fn set_ready(&mut self) {
        self.gate.set_ready();
    }

    /// Notes that something was closed, which may be what accepting waits for.
    pub(crate) fn retry(&mut self) {
        self.gate = Gate::Ready;
    }

    /// Accepts no more than so many connections from now on; none if they are left to another process.
    pub(crate) fn set_limit(&mut self, connections: u64) {
        self.left = if self.socket.is_left() { 0 } else { connections };
    }

    /// Whether an attempt is due.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.left > 0 && self.gate.is_ready(now)
    }

    /// Whether there may be clients in the backlog, for whom it is early or late to try.
    pub(crate) fn awaits_accept(&self) -> bool {
        self.gate != Gate::Waiting
    }

    /// When to try again if no event comes before.
    pub(crate) const fn retry_at(&self) -> Option<Instant> {
        self.gate.retry_at()
    }

    /// Whether the backlog was found empty, or as many were accepted as may be.
    pub(crate) fn is_drained(&self) -> bool {
        self.gate == Gate::Waiting || self.left == 0
    }

    /// Leaves what was accepted to another worker, or gives it back if that one takes none.
    pub(crate) fn hand_over(
        &mut self,
        accepted: Accepted<A::Transport>,
        to: u32,
    ) -> Result<(), Accepted<A::Transport>> {
        self.socket.hand_over(accepted, to)
    }

    /// The next connection that another worker has left to this one.
    pub(crate) fn handed_over(&mut self) -> Option<Accepted<A::Transport>> {
        self.socket.handed_over()
    }

    /// From now on nothing is left to this worker.
    pub(crate) fn stop_taking_over(&mut self) {
        self.socket.stop_taking_over();
    }

    /// Tries to accept one connection.
    pub(crate) fn accept(&mut self, now: Instant, counters: &Counters) -> Attempt<A::Transport> {
        let error = match self.socket.accept() {
            Ok((transport, address)) => {
                self.gate = Gate::Ready;
                self.left = self.left.saturating_sub(1);
                self.lost_in_row = 0;
                return Attempt::Accepted(transport, address);
            }
            Err(error) => error,
        };
        match classify(&error) {
            AcceptError::Empty => {
                self.gate = Gate::Waiting;
                self.lost_in_row = 0;
                Attempt::Pause
            }
            AcceptError::Interrupted => Attempt::Lost,
            AcceptError::OneLost if self.lost_in_row < LOST_IN_ROW_MAX => {
                counters.accept_aborted.add(1);
                self.lost_in_row += 1;
                log::trace!("a connection was lost before it could be accepted: {error}");
                Attempt::Lost
            }
            AcceptError::OneLost | AcceptError::Shortage => {
                counters.accept_exhausted.add(1);
                self.lost_in_row = 0;
                self.gate = Gate::retry_later(now);
                if self.complaints.is_due(now) {
                    log::warn!("cannot accept: {error}; clients wait in the backlog");
                }
                Attempt::Pause
            }
        }
    }
}

/// What a failed accept(2) means for the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptError {
    /// No connection is there.
    Empty,
    /// A signal came in between.
    Interrupted,
    /// This one connection is lost; the next may be fine.
    OneLost,
    /// Something has run out, or another fault that may pass.
    Shortage,
}

fn classify(error: &io::Error) -> AcceptError {
    let is_one_lost = matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::NotConnected
            | ErrorKind::TimedOut
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            // Linux: the firewall forbids this connection.
            | ErrorKind::PermissionDenied
    );
    if error.kind() == ErrorKind::WouldBlock {
        AcceptError::Empty
    } else if error.kind() == ErrorKind::Interrupted {
        AcceptError::Interrupted
    } else if is_one_lost || is_network_error(error) {
        AcceptError::OneLost
    } else {
        AcceptError::Shortage
    }
}

/// Errors that were pending on the new connection, which Linux hands to accept(2), and that have no
/// `ErrorKind` of their own.
#[cfg(unix)]
fn is_network_error(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let network = [
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::OPNOTSUPP,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Errno::NONET,
    ];
    Errno::from_io_error(error).is_some_and(|errno| network.contains(&errno))
}

#[cfg(not(unix))]
fn is_network_error(_: &io::Error) -> bool {
    false
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    #[cfg(unix)]
    use crate::gate::RETRY_AFTER;

    /// Accepts what the script says, then has nothing more.
    struct Script(VecDeque<io::Result<u32>>);

    impl Accept for Script {
        type Transport = u32;

        fn accept(&mut self) -> io::Result<(u32, Address)> {
            let next = self.0.pop_front().unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()));
            next.map(|n| (n, Address::Unix("peer".into())))
        }
    }

    fn listener(script: impl IntoIterator<Item = io::Result<u32>>) -> Listener<Script> {
        Listener::new(Script(script.into_iter().collect()))
    }

    /// Accepts until a pause and returns what was accepted.
    fn accept_all(listener: &mut Listener<Script>, now: Instant, counters: &Counters) -> Vec<u32> {
        let mut accepted = Vec::new();
        loop {
            match listener.accept(now, counters) {
                Attempt::Accepted(n, _) => accepted.push(n),
                Attempt::Lost => {}
                Attempt::Pause => return accepted,
            }
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn errors_of_the_network_are_no_shortage() {
        for errno in [rustix::io::Errno::NONET, rustix::io::Errno::PROTO, rustix::io::Errno::HOSTDOWN] {
            assert_eq!(classify(&errno.into()), AcceptError::OneLost, "{errno:?}");
        }
    }

    #[test]
    fn a_connection_lost_before_accept_costs_itself_only() {
        let lost = || Err(ErrorKind::ConnectionAborted.into());
        let counters = Counters::default();
        let mut listener = listener([Ok(1), lost(), lost(), Ok(2)]);
        assert_eq!(accept_all(&mut listener, Instant::now(), &counters), [1, 2]);
        assert_eq!(counters.accept_aborted.get(), 2);
        assert!(listener.is_drained());
    }

    #[cfg(unix)]
    #[test]
    fn after_a_shortage_it_retries_in_time_and_is_never_deaf() {
        use rustix::io::Errno;
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            let now = Instant::now();
            let counters = Counters::default();
            let mut listener = listener([Ok(1), Err(errno.into()), Ok(2)]);
            assert_eq!(accept_all(&mut listener, now, &counters), [1]);
            assert!(!listener.is_ready(now), "it must not spin");
            listener.set_ready();
            assert!(!listener.is_ready(now), "an event is no cure");
            let retry_at = listener.retry_at().expect("no event will come");
            assert_eq!(retry_at, now + RETRY_AFTER);
            assert!(listener.is_ready(retry_at));
            assert_eq!(accept_all(&mut listener, retry_at, &counters), [2]);
            assert_eq!(counters.accept_exhausted.get(), 1);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_close_ends_the_wait_for_descriptors() {
        let now = Instant::now();
        let mut listener = listener([Err(rustix::io::Errno::MFILE.into()), Ok(7)]);
        accept_all(&mut listener, now, &Counters::default());
        listener.retry();
        assert!(listener.is_ready(now));
        assert_eq!(accept_all(&mut listener, now, &Counters::default()), [7]);
    }

    #[test]
    fn a_fault_that_stays_is_waited_out() {
        let now = Instant::now();
        let lost = std::iter::repeat_with(|| Err(ErrorKind::NetworkDown.into()));
        let mut listener = listener(lost.take(1000));
        assert_eq!(accept_all(&mut listener, now, &Counters::default()), [0; 0]);
        assert!(listener.retry_at().is_some());
    }

    #[test]
    fn losses_in_a_row_are_counted_up_to_a_bound_and_from_anew_after_a_success() {
        let lost = |n| (0..n).map(|_| Err(ErrorKind::NetworkDown.into()));
        let script = lost(LOST_IN_ROW_MAX).chain([Ok(1)]).chain(lost(LOST_IN_ROW_MAX + 1)).chain([Ok(2)]);
        let counters = Counters::default();
        let mut listener = listener(script);
        assert_eq!(accept_all(&mut listener, Instant::now(), &counters), [1]);
        assert!(listener.retry_at().is_some(), "one more than what is bad luck");
        assert_eq!(counters.accept_aborted.get(), 2 * LOST_IN_ROW_MAX as u64);
    }

    #[test]
    fn an_event_is_a_cause_to_look_again() {
        let now = Instant::now();
        let mut listener = listener([]);
        assert!(!listener.is_drained(), "nobody has looked");
        accept_all(&mut listener, now, &Counters::default());
        assert!(listener.is_drained() && !listener.is_ready(now));
        listener.set_ready();
        assert!(listener.is_ready(now));
    }

    #[test]
    fn no_more_are_accepted_than_the_limit_says_and_then_the_backlog_counts_as_empty() {
        let now = Instant::now();
        let mut listener = listener([Ok(1), Ok(2), Ok(3)]);
        listener.set_limit(2);
        for n in [1, 2] {
            assert!(listener.is_ready(now) && !listener.is_drained());
            let Attempt::Accepted(accepted, _) = listener.accept(now, &Counters::default()) else {
                panic!("there are three")
            };
            assert_eq!(accepted, n);
        }
        assert!(!listener.is_ready(now) && listener.is_drained());
    }

    #[cfg(unix)]
    #[test]
    fn errors_that_were_pending_on_the_connection_cost_only_it() {
        use rustix::io::Errno;
        for errno in [Errno::PROTO, Errno::NOPROTOOPT, Errno::HOSTDOWN, Errno::OPNOTSUPP, Errno::NETUNREACH] {
            assert_eq!(classify(&errno.into()), AcceptError::OneLost, "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NOBUFS, Errno::INVAL] {
            assert_eq!(classify(&errno.into()), AcceptError::Shortage, "{errno}");
        }
    }
}
