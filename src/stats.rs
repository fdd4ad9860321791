//! Counters: written by one loop, read by any thread.

use std::{collections::BTreeMap, fmt, ops::AddAssign};

use crate::{
    cause::{CAUSES_MAX, Cause},
    close_reason::{CloseReason, REASONS},
    counter::Counter,
    histogram::{Histogram, LiveHistogram},
};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of what a server has counted since it was bound, summed over its workers.
        ///
        /// [`Handle::stats`](crate::Handle::stats) takes one at any time,
        /// [`Server::run`](crate::Server::run) returns the last. Connections that ended are counted by
        /// reason: [`closed`](Self::closed).
        ///
        /// ```
        /// use echoloop::{CloseReason, Stats};
        ///
        /// let stats = Stats::default();
        /// assert_eq!(stats.accepted, 0);
        /// assert_eq!(stats.closed(CloseReason::WriteStall), 0);
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// How long connections were open that have ended, from being accepted or begun.
            pub connection_durations: Histogram,
            /// How long turns of the loops took, without the wait for events. Empty without
            /// [`Config::measure_turns`](crate::Config::measure_turns).
            pub turn_durations: Histogram,
            closed: [u64; REASONS],
            causes: BTreeMap<Cause, u64>,
        }

        /// The live counters of one loop. Only that loop writes them.
        #[derive(Debug)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            /// How long connections were open.
            pub connection_durations: LiveHistogram,
            /// How long turns took.
            pub turn_durations: LiveHistogram,
            closed: [Counter; REASONS],
            causes: Causes,
        }

        impl Default for Stats {
            fn default() -> Self {
                Self {
                    $($name: 0,)*
                    connection_durations: Histogram::of_connections(),
                    turn_durations: Histogram::of_turns(),
                    closed: [0; REASONS],
                    causes: BTreeMap::new(),
                }
            }
        }

        impl Default for Counters {
            fn default() -> Self {
                Self {
                    $($name: Counter::default(),)*
                    connection_durations: LiveHistogram::of_connections(),
                    turn_durations: LiveHistogram::of_turns(),
                    closed: Default::default(),
                    causes: Causes::default(),
                }
            }
        }

        impl Counters {
            /// The values of this moment. Counters that change meanwhile may be a step apart.
            pub fn snapshot(&self) -> Stats {
                Stats {
                    $($name: self.$name.get(),)*
                    connection_durations: self.connection_durations.snapshot(),
                    turn_durations: self.turn_durations.snapshot(),
                    closed: std::array::from_fn(|reason| self.closed[reason].get()),
                    causes: self.causes.snapshot(),
                }
            }
        }

        impl AddAssign<&Self> for Stats {
            fn add_assign(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                self.connection_durations += &other.connection_durations;
                self.turn_durations += &other.turn_durations;
                for (sum, more) in self.closed.iter_mut().zip(other.closed) {
                    *sum += more;
                }
                for (&cause, &more) in &other.causes {
                    *self.causes.entry(cause).or_default() += more;
                }
            }
        }
    };
}

counters! {
    /// Connections accepted, whether or not the protocol's factory then took them.
    accepted,
    /// Connections, accepted or outbound, that the factory refused, or for which it panicked.
    refused,
    /// Accepted connections that were reset because there were as many from their address as
    /// [`max_connections_per_ip`](crate::Config::max_connections_per_ip) allows.
    over_ip_limit,
    /// Clients with whom a TLS handshake was completed.
    handshakes,
    /// Those among them that have resumed a session.
    handshakes_resumed,
    /// Clients for whom a proxy has sent its header; see [`proxy_protocol`](crate::Config::proxy_protocol).
    proxied,
    /// Accepted connections that could not be set up, for example for want of memory.
    setup_failures,
    /// Connections that were reset or lost before they could be accepted, as far as the system says.
    accept_aborted,
    /// Attempts to accept that failed for want of descriptors or memory.
    accept_exhausted,
    /// Outbound connections that were begun.
    connects,
    /// Connections open now, including those that linger.
    open,
    /// Bytes received, including those discarded.
    bytes_received,
    /// Bytes that the operating system took for sending.
    bytes_sent,
    /// Bytes received after our end of the connection was finished, and discarded.
    bytes_discarded,
    /// Bytes owed to a peer that were lost: after its reset, a deadline, an abort or a panic. Those that were on their
    /// way and not acknowledged by the peer's system count too, where the system knows; see
    /// [`CloseReason::is_complete`].
    bytes_undelivered,
    /// Panics in callbacks of the protocol.
    panics,
    /// Messages for connections that were gone when the loop came to deliver them.
    messages_undeliverable,
    /// Datagram sockets that were bound, each worker's counted.
    datagram_sockets,
    /// Datagrams received.
    datagrams_received,
    /// Datagrams sent back.
    datagrams_sent,
    /// Datagrams received and dropped, as an answer might begin an endless exchange or reach many: see
    /// [`Builder::bind`](crate::Builder::bind).
    datagrams_refused,
    /// Datagrams received whose answer the operating system did not take.
    datagrams_unsent,
    /// Bytes of the datagrams received.
    datagram_bytes_received,
    /// Bytes of the datagrams sent back.
    datagram_bytes_sent,
}

impl Stats {
    /// How many connections ended for this reason. The kind inside
    /// [`CloseReason::Failed`] and [`CloseReason::ConnectFailed`] does not matter.
    #[must_use]
    pub fn closed(&self, reason: CloseReason) -> u64 {
        match (reason, reason.index()) {
            (CloseReason::AbortedBecause(cause), _) => self.causes.get(&cause).copied().unwrap_or(0),
            (_, index) => index.map_or(0, |index| self.closed[index]),
        }
    }

    /// How many connections have ended, for any reason.
    #[must_use]
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().chain(self.causes.values()).sum()
    }

    /// Every reason for which at least one connection ended, with the number.
    pub fn close_reasons(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        let causes = self.causes.iter().map(|(&cause, &count)| (CloseReason::AbortedBecause(cause), count));
        CloseReason::ALL.into_iter().zip(self.closed).filter(|&(_, count)| count > 0).chain(causes)
    }

    fn fmt_datagrams(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} datagrams received, {} sent back, {} refused, {} unsent, {} bytes received, {} bytes sent",
            self.datagrams_received,
            self.datagrams_sent,
            self.datagrams_refused,
            self.datagrams_unsent,
            self.datagram_bytes_received,
            self.datagram_bytes_sent,
        )
    }
}

impl fmt::Display for Stats {
    /// One line, as `echoloop serve` prints it when it ends.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections, {} bytes received, {} bytes sent, {} bytes undelivered",
            self.closed_total() + self.open,
            self.bytes_received,
            self.bytes_sent,
            self.bytes_undelivered,
        )?;
        let never_begun = [
            ("refused", self.refused),
            ("over IP limit", self.over_ip_limit),
            ("set-up failed", self.setup_failures),
        ];
        let reasons = self.close_reasons().map(|(reason, count)| (reason.name(), count));
        let all = reasons.chain(never_begun.into_iter().filter(|&(_, count)| count > 0));
        for (position, (name, count)) in all.enumerate() {
            let separator = if position == 0 { "; " } else { ", " };
            write!(f, "{separator}{name} {count}")?;
        }
        if self.datagram_sockets > 0 {
            f.write_str("; ")?;
            self.fmt_datagrams(f)?;
        }
        Ok(())
    }
}

impl Counters {
    /// Counts a connection that ended.
    pub fn count_closed(&self, reason: CloseReason) {
        match (reason, reason.index()) {
            (CloseReason::AbortedBecause(cause), _) => self.causes.0[cause.index()].add(1),
            (_, index) => self.closed[index.expect("it is one of all")].add(1),
        }
    }
}

/// Connections that protocols aborted for causes of their own.
#[derive(Debug)]
struct Causes([Counter; CAUSES_MAX]);

impl Default for Causes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Causes {
    /// Those that there were.
    fn snapshot(&self) -> BTreeMap<Cause, u64> {
        let counts = self.0.iter().map(Counter::get).enumerate().filter(|&(_, count)| count > 0);
        counts.map(|(index, count)| (Cause::at(index), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_holds_what_was_counted_and_sums_add_up() {
        let counters = Counters::default();
        counters.accepted.add(3);
        counters.count_closed(CloseReason::Idle);
        counters.count_closed(CloseReason::Failed(std::io::ErrorKind::TimedOut));
        let mut sum = counters.snapshot();
        sum += &counters.snapshot();
        assert_eq!(sum.accepted, 6);
        assert_eq!(sum.closed(CloseReason::Failed(std::io::ErrorKind::Other)), 2);
        assert_eq!(sum.closed_total(), 4);
        assert_eq!(
            sum.to_string(),
            "4 connections, 0 bytes received, 0 bytes sent, 0 bytes undelivered; idle 2, failed 2"
        );
    }

    #[test]
    fn datagrams_are_shown_where_there_is_a_socket_for_them() {
        let counters = Counters::default();
        counters.datagram_sockets.add(1);
        counters.datagrams_received.add(5);
        counters.datagram_bytes_received.add(70);
        counters.datagrams_sent.add(2);
        counters.datagram_bytes_sent.add(28);
        counters.datagrams_refused.add(2);
        counters.datagrams_unsent.add(1);
        assert_eq!(
            counters.snapshot().to_string(),
            "0 connections, 0 bytes received, 0 bytes sent, 0 bytes undelivered; 5 datagrams received, 2 sent back, \
             2 refused, 1 unsent, 70 bytes received, 28 bytes sent"
        );
    }
}
