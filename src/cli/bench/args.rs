//! The arguments of `bench`.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::Parser;
use echoloop::Address;

use super::{
    condition::ConditionArgs,
    plan::{Extent, Plan},
    rate::Rate,
    report::output::OutputArgs,
    start_time::start_time,
};
use crate::cli::values::{OptionalTimeout, count, count_up_to, duration, server_address, size, timeout};

const HELP: &str = "\
Every connection is made first; then the load begins, and after the warm-up it is measured. Closed loop (the \
default): each connection keeps --pipeline messages in flight, and sends the next one when one comes back. Open loop \
(--rate): messages are sent at even intervals whether or not the server keeps up, and their latencies count from when \
they were due. That avoids coordinated omission: a stall of the server counts for every message that was due \
meanwhile. To be in time the load generator does not sleep for the last moments before a message is due, so at a high rate \
it keeps a core busy: leave it one that the server does not need. With --churn each message has a connection of its own: connect, send, shut down the sending side, receive to the \
end, close; latencies then include connecting.

What is due in the measured time counts, also if its answer comes later: when the time is over, --timeout is how \
long answers are waited for in all. What does not come by then is unanswered, and counts with the time that it was \
waited for. With --requests every message is waited for, as long as something comes within --timeout. What the load \
generator itself was late with is sent for a second more at most.

A rate that is not reached is said, with the side that was the limit: the client, if it sent messages late (with \
--churn also if it was busy all the time), or the server. --fail-if makes that, a latency or failures the reason for \
exit status 1: --fail-if 'p99>5ms' --fail-if 'rate<10k/s'. It knows rate, failures, max and every percentile; < <= > >=.

Every byte that comes back is checked. Connections that are corrupt, truncated, closed early, reset, unanswered, \
refused or failed in other ways are counted separately, and any of them makes the exit status 1; 2 is for wrong \
arguments.

Ctrl-C ends the load early and shows the figures so far. Answers are waited for at most a second then, and what has not \
come counts as unanswered. A second Ctrl-C ends the program at once.

A size is written like 512, 64KiB or 1MB, a rate like 500, 10k/s or 1.5M/s, a number like 1000, 10k or 1M, a duration \
like 500ms, 10s or 1m.";

/// Measure an echo server under load, and check every byte
#[derive(Debug, Parser)]
#[command(after_long_help = HELP)]
pub(crate) struct BenchArgs {
    /// The server: HOST:PORT, [V6]:PORT or unix:PATH. The port is 27015 if none is given, the host localhost. Any echo
    /// server will do
    #[arg(value_name = "ADDR", value_parser = server_address)]
    pub(super) address: Address,

    /// Connections open at once, over all threads
    #[arg(short, long, value_name = "N", default_value = "50", value_parser = count)]
    pub(super) connections: u64,

    /// The size of a message
    #[arg(short, long, value_name = "SIZE", default_value = "512", value_parser = size)]
    size: usize,

    /// How long to measure
    #[arg(short, long, value_name = "DUR", default_value = "10s", value_parser = duration)]
    duration: Duration,

    /// Measure this many messages, however long they take, instead of a duration; there is no warm-up then
    #[arg(short = 'n', long, value_name = "N", value_parser = count, conflicts_with_all = ["duration", "warmup"])]
    requests: Option<u64>,

    /// How long the load runs before it is measured; 0 or off for no warm-up
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = timeout)]
    warmup: OptionalTimeout,

    /// Messages in flight on each connection
    #[arg(short, long, value_name = "DEPTH", default_value = "1", value_parser = count_up_to::<u32, 65_536>)]
    pipeline: u32,

    /// Open loop: send this many messages per second over all connections, or with --churn make this many connections
    #[arg(short, long, value_name = "N/s", conflicts_with = "pipeline")]
    rate: Option<Rate>,

    /// A new connection for each message
    #[arg(long, conflicts_with_all = ["pipeline", "connect_rate"])]
    churn: bool,

    /// Make this many connections per second before the load begins, instead of all as fast as they are accepted
    #[arg(long, value_name = "N/s")]
    connect_rate: Option<Rate>,

    /// Begin the load at this time, as on several machines together: 2026-01-31T12:00:00Z, with an offset such as
    /// +01:00, or @SECONDS since 1970. Connections are made before
    #[arg(long, value_name = "TIME", value_parser = start_time)]
    start_at: Option<SystemTime>,

    /// Threads, each with its own event loop and share of the connections
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = count_up_to::<u64, 1024>)]
    pub(super) threads: u64,

    /// The seed of the random bytes that are sent
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,

    /// Give up a connection that is not established, or whose answer does not come, for this long. After the measured
    /// time this is for all answers together
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = duration)]
    pub(super) timeout: Duration,

    /// Write latencies to this HdrHistogram log, for `echoloop report` and other readers of such logs
    #[arg(long, value_name = "FILE")]
    pub(super) hdr: Option<PathBuf>,

    #[command(flatten)]
    pub(super) conditions: ConditionArgs,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl BenchArgs {
    /// The load that the arguments ask for, on the server at this address.
    pub(super) fn plan(&self, address: Address) -> Plan {
        Plan {
            address,
            connections: self.connections,
            threads: self.threads,
            size: self.size,
            pipeline: self.pipeline,
            rate: self.rate,
            churn: self.churn,
            connect_rate: self.connect_rate,
            start_at: self.start_at,
            extent: self.extent(),
            timeout: self.timeout,
            seed: self.seed,
        }
    }

    fn extent(&self) -> Extent {
        match self.requests {
            Some(requests) => Extent::Messages(requests),
            None => Extent::Time { warmup: self.warmup.0.unwrap_or_default(), measured: self.duration },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<BenchArgs, clap::Error> {
        BenchArgs::try_parse_from([&["bench", "127.0.0.1:7"], args].concat())
    }

    #[test]
    fn the_defaults_are_a_closed_loop_of_ten_seconds() {
        let args = parse(&[]).unwrap();
        let (warmup, measured) = (Duration::from_secs(1), Duration::from_secs(10));
        assert_eq!(args.extent(), Extent::Time { warmup, measured });
        assert_eq!((args.connections, args.size, args.pipeline, args.threads), (50, 512, 1, 1));
        assert!(args.rate.is_none() && !args.churn);
    }

    #[test]
    fn numbers_sizes_and_rates_have_units() {
        let args =
            parse(&["--connections", "10k", "--size", "64KiB", "--rate", "1.5k/s", "-n", "1M"]).unwrap();
        assert_eq!((args.connections, args.size), (10_000, 65_536));
        assert_eq!(args.rate, Some("1500".parse().unwrap()));
        assert_eq!(args.extent(), Extent::Messages(1_000_000));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for args in [
            &["-n", "5", "--duration", "1s"][..],
            &["-n", "5", "--warmup", "1s"],
            &["--rate", "5", "--pipeline", "2"],
            &["--churn", "--pipeline", "2"],
            &["--churn", "--connect-rate", "2"],
            &["--connections", "0"],
            &["--connections", "1.5"],
            &["--requests", "0"],
            &["--duration", "0"],
            &["--threads", "0"],
            &["--format", "xml"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
