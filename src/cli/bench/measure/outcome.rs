//! The figures of a whole load.

use std::{sync::Arc, time::Duration};

use super::{
    datagram_counts::DatagramCounts,
    ends::{Ends, summary},
    handshakes::Handshakes,
    interval::{Interval, per_second},
    tally::Tally,
};
use crate::cli::bench::{clock, plan::Plan};

/// The figures of a whole load.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Arc<Plan>,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
    /// Whether it was ended early.
    pub(crate) interrupted: bool,
    pub(crate) connections: ConnectionCounts,
    pub(crate) ends: Ends,
    /// Of a load over TLS.
    pub(crate) tls: Option<Handshakes>,
    /// Of a load of datagrams.
    pub(crate) datagrams: Option<DatagramCounts>,
    /// Its latencies are those of all messages that were due: of those that nobody answered, how long they were waited
    /// for.
    pub(crate) total: Tally,
    pub(crate) series: Vec<Interval>,
    /// Which side was the limit, if the requested rate was not reached.
    pub(crate) limited_by: Option<Side>,
}

/// How many connections were made in all, and the most that were open at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionCounts {
    pub(crate) made: u64,
    pub(crate) open_max: u64,
}

/// One side of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The load generator: messages were not sent when they were due.
    Client,
    /// Messages were sent, and not answered in time.
    Server,
}

/// A rate is reached if no more is missing than this part of the time brings,
const MISSING_MAX_PART: f64 = 0.01;

/// or than this time brings: what is in flight when the measurement ends, or is late in a short one.
const MISSING_MAX_TIME: Duration = Duration::from_millis(100);

/// A client of which each thread uses so much of a core is busy.
const BUSY: f64 = 0.8;

impl Outcome {
    /// Messages per second that came back while it was measured; in an open loop never more than requested, because
    /// what was owed from before comes on top.
    pub(crate) fn rate(&self) -> f64 {
        let returned = per_second(self.total.returned, self.elapsed);
        self.plan.rate.map_or(returned, |requested| returned.min(requested.per_second()))
    }

    /// Bytes per second that came back; as many were sent.
    pub(crate) fn byte_rate(&self) -> f64 {
        if self.plan.is_open_loop() {
            self.rate() * self.plan.size as f64
        } else {
            per_second(self.total.bytes, self.elapsed)
        }
    }

    /// Whether the requested rate was reached; `None` in a closed loop, which requests none.
    pub(crate) fn rate_reached(&self) -> Option<bool> {
        self.plan.is_open_loop().then_some(self.limited_by.is_none())
    }

    /// How many connections failed; over UDP datagrams too.
    pub(crate) fn failures(&self) -> u64 {
        self.failures_by_kind().map(|(_, count)| count).sum()
    }

    /// The kinds of failures that occurred, as `2 corrupt, 1 reset`; `none` if there were none.
    pub(crate) fn failure_summary(&self) -> String {
        summary(self.failures_by_kind())
    }

    /// Whether nothing failed.
    pub(crate) fn is_good(&self) -> bool {
        self.failures() == 0
    }

    fn failures_by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let of_datagrams = self.datagrams.iter().flat_map(DatagramCounts::failures);
        of_datagrams.chain(self.ends.failures.all())
    }
}

/// Which side was the limit, if the requested rate was not reached. `cpu` is the CPU time that the load generator took.
pub(crate) fn limit(plan: &Plan, total: &Tally, elapsed: Duration, cpu: Option<Duration>) -> Option<Side> {
    let rate = plan.rate?.per_second();
    let seconds = elapsed.as_secs_f64();
    let missing = rate * seconds - total.returned as f64;
    if missing <= rate * (seconds * MISSING_MAX_PART).max(MISSING_MAX_TIME.as_secs_f64()) {
        return None;
    }
    let is_client = if plan.churn {
        // Connections that were wanted wait for a place if either side is slow, so how long that took tells nothing.
        let is_busy = cpu.is_some_and(|cpu| cpu.as_secs_f64() >= seconds * plan.threads as f64 * BUSY);
        is_busy || was_late(total)
    } else {
        waited_for_client(total)
    };
    Some(if is_client { Side::Client } else { Side::Server })
}

/// Whether messages waited longer to be sent than to be answered.
fn waited_for_client(total: &Tally) -> bool {
    let Some(uncorrected) = &total.uncorrected else { return false };
    total.latency.mean() > uncorrected.mean() * 2.0
}

/// Whether it took longer until connections were wanted, from when they were due, than everything after that.
fn was_late(total: &Tally) -> bool {
    let all = total.latency.mean() * total.latency.len() as f64;
    clock::nanos(total.wanted_late) as f64 * 2.0 > all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::{measure::tally::Start, plan::Extent};

    fn plan(churn: bool) -> Plan {
        let measured = Duration::from_secs(10);
        Plan {
            address: "127.0.0.1:7".parse().unwrap(),
            tls: None,
            connections: 10,
            threads: 2,
            size: 512,
            pipeline: 1,
            rate: Some("1k".parse().unwrap()),
            churn,
            connect_rate: None,
            start_at: None,
            extent: Extent::Time { warmup: Duration::ZERO, measured },
            timeout: Duration::from_secs(1),
            seed: 1,
        }
    }

    /// The limit of a load of 10 s in which so many messages came back, each sent and answered after these times.
    fn limit_of(plan: &Plan, returned: u64, send_millis: u64, answer_millis: u64, cpu: u64) -> Option<Side> {
        let mut total = Tally::new(true);
        let due = clock::now();
        let sent = due + Duration::from_millis(send_millis);
        total.record(Start { due, sent }, sent + Duration::from_millis(answer_millis));
        total.returned = returned;
        limit(plan, &total, Duration::from_secs(10), Some(Duration::from_secs(cpu)))
    }

    #[test]
    fn a_rate_is_reached_if_hardly_anything_is_missing() {
        for returned in [9_900, 10_000, 10_500] {
            assert_eq!(limit_of(&plan(false), returned, 0, 900, 20), None, "{returned}");
        }
        assert_eq!(limit_of(&plan(false), 9_899, 0, 1, 0), Some(Side::Server));
        assert_eq!(
            limit(&Plan { rate: None, ..plan(false) }, &Tally::new(false), Duration::ZERO, None),
            None
        );
    }

    #[test]
    fn the_limit_is_the_side_that_messages_waited_for() {
        assert_eq!(limit_of(&plan(false), 5_000, 900, 100, 0), Some(Side::Client));
        assert_eq!(limit_of(&plan(false), 5_000, 100, 900, 20), Some(Side::Server));
    }

    #[test]
    fn with_churn_a_busy_client_is_the_limit() {
        assert_eq!(limit_of(&plan(true), 5_000, 900, 1, 19), Some(Side::Client));
        assert_eq!(limit_of(&plan(true), 5_000, 900, 1, 5), Some(Side::Server));
    }

    #[test]
    fn with_churn_a_client_that_was_stopped_is_the_limit() {
        let now = clock::now();
        let mut total = Tally::new(true);
        total.record(Start::at(now), now + Duration::from_millis(1_000));
        total.wanted_late = Duration::from_millis(900);
        assert_eq!(limit(&plan(true), &total, Duration::from_secs(10), None), Some(Side::Client));
        total.wanted_late = Duration::from_millis(100);
        assert_eq!(limit(&plan(true), &total, Duration::from_secs(10), None), Some(Side::Server));
    }
}
