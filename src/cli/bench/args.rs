//! The arguments of `bench`.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::Parser;
use echoloop::{Address, TlsConnector};

use super::{
    condition::ConditionArgs,
    plan::{Extent, NUMBER_BYTES, Plan},
    rate::Rate,
    report::output::OutputArgs,
    start_time::start_time,
};
use crate::cli::{
    failure::Failure,
    tls::BenchTlsArgs,
    udp::PAYLOAD_MAX,
    values::{OptionalTimeout, count, count_up_to, duration, server_address, size, timeout},
};

const HELP: &str = "\
Closed loop (the default): each connection keeps --pipeline messages in flight, and sends the next one when one comes \
back. A stalled server is then asked less, and its latencies look too good.

Open loop (--rate): messages are sent by a timetable, whether or not the server keeps up. Latency counts from when a \
message was due, which avoids coordinated omission. The load generator does not sleep just before a message is due, so \
a high rate keeps a core busy. Leave it a core that the server does not need.

With --churn each message has a connection of its own: connect, send, half-close, receive to the end, close. Its latency \
includes connecting.

Measuring: every connection is made first. Then the load begins, and after the warm-up it is measured. A message counts \
if it was due in the measured time, even if its answer comes later. --timeout limits the wait for all answers together. \
A message without an answer by then counts as unanswered, with the time that it was waited for. With --requests there \
is no such limit while answers keep coming.

UDP: each connection is a connected socket, and each message is a datagram with a number. Datagrams that do not come back \
within --timeout, or changed, are lost or corrupt, and failures. Those that come back later or twice are counted too.

Failures: every byte that comes back is checked. Connections that are corrupt, truncated, closed early, reset, \
unanswered, refused or failed otherwise are counted separately. If the requested rate is not reached, a warning says \
whether client or server was the limit.

Exit status: 0 if nothing failed, 1 if a connection failed or a --fail-if condition holds, 2 for wrong arguments, 130 or \
143 after a second Ctrl-C or SIGTERM.

Ctrl-C ends the load early and shows the figures so far, after waiting at most a second for answers. A second Ctrl-C ends \
the program at once.

Units: a SIZE is in bytes, or like 64KiB or 1MB. A rate (N/s) is written like 500, 10k/s or 1.5M/s, a number (N) like 1000, \
10k or 1M, a duration (DUR) like 500ms, 10s or 1m.";

/// Measure an echo server under load, and check every byte
#[derive(Debug, Parser)]
#[command(after_long_help = HELP)]
pub(crate) struct BenchArgs {
    /// The server: HOST:PORT, [V6]:PORT, udp:HOST:PORT or unix:PATH
    ///
    /// Any echo server will do. Without a port it is 27015, without a host localhost.
    #[arg(value_name = "ADDR", value_parser = server_address)]
    pub(super) address: Address,

    /// Connections open at once, over all threads
    ///
    /// With --churn and --rate it is the most that may be open.
    #[arg(short, long, value_name = "N", default_value = "50", value_parser = count)]
    pub(super) connections: u64,

    /// The size of a message, in bytes
    #[arg(short, long, value_name = "SIZE", default_value = "512", value_parser = size)]
    size: usize,

    /// How long to measure
    #[arg(short, long, value_name = "DUR", default_value = "10s", value_parser = duration)]
    duration: Duration,

    /// Measure this many messages instead of a duration
    ///
    /// There is no warm-up, and no limit on how long they take.
    #[arg(short = 'n', long, value_name = "N", value_parser = count, conflicts_with_all = ["duration", "warmup"])]
    requests: Option<u64>,

    /// How long the load runs before it is measured
    ///
    /// 0 or off means no warm-up.
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = timeout)]
    warmup: OptionalTimeout,

    /// Messages in flight on each connection
    #[arg(short, long, value_name = "DEPTH", default_value = "1", value_parser = count_up_to::<u32, 65_536>)]
    pipeline: u32,

    /// Open loop: messages per second [default: closed loop]
    ///
    /// The rate is that of all connections together. With --churn it is in connections per second.
    #[arg(short, long, value_name = "N/s", conflicts_with = "pipeline")]
    rate: Option<Rate>,

    /// Make a new connection for each message
    #[arg(long, conflicts_with_all = ["pipeline", "connect_rate"])]
    churn: bool,

    /// Connections made per second at first [default: no limit]
    ///
    /// It applies before the load begins. Without it they are made as fast as the server accepts them.
    #[arg(long, value_name = "N/s")]
    connect_rate: Option<Rate>,

    /// Begin the load at this time [default: at once]
    ///
    /// With this, several machines begin together. Connections are made before. TIME is written like 2026-01-31T12:00:00Z,
    /// with an offset like 2026-01-31T13:00:00+01:00, or like @1769860800 in seconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = start_time)]
    start_at: Option<SystemTime>,

    /// Threads, each with its share of the connections
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = count_up_to::<u64, 1024>)]
    pub(super) threads: u64,

    /// Seed of the random bytes that are sent
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,

    /// Give up on connecting, or an answer, after this long [default: 10s, UDP 1s]
    ///
    /// Once the measured time is over it limits the wait for all answers together. Over UDP a datagram that does not come
    /// back within this time is lost.
    #[arg(long, value_name = "DUR", value_parser = duration)]
    timeout: Option<Duration>,

    /// Write latencies to this HdrHistogram log
    ///
    /// `echoloop report` and other tools read it.
    #[arg(long, value_name = "FILE")]
    pub(super) hdr: Option<PathBuf>,

    #[command(flatten)]
    pub(super) tls: BenchTlsArgs,

    #[command(flatten)]
    pub(super) conditions: ConditionArgs,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// How long an answer is waited for, over streams and over UDP.
const TIMEOUT: Duration = Duration::from_secs(10);
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(1);

impl BenchArgs {
    /// Says which option makes no sense over UDP.
    pub(super) fn check_udp(&self) -> Result<(), Failure> {
        let why = if self.churn {
            "--churn makes connections, and UDP has none"
        } else if self.connect_rate.is_some() {
            "--connect-rate is about connections, and UDP has none"
        } else if !(NUMBER_BYTES..=PAYLOAD_MAX).contains(&self.size) {
            "--size must be 8 to 65507 bytes over UDP: each datagram carries its number"
        } else {
            return Ok(());
        };
        Err(Failure::arguments(why))
    }

    /// How long a connection, or an answer, is waited for.
    pub(super) fn timeout(&self) -> Duration {
        let default = if self.address.is_udp() { DATAGRAM_TIMEOUT } else { TIMEOUT };
        self.timeout.unwrap_or(default)
    }

    /// The load that the arguments ask for, on the server at this address.
    pub(super) fn plan(&self, address: Address, tls: Option<TlsConnector>) -> Plan {
        Plan {
            address,
            tls,
            connections: self.connections,
            threads: self.threads,
            size: self.size,
            pipeline: self.pipeline,
            rate: self.rate,
            churn: self.churn,
            connect_rate: self.connect_rate,
            start_at: self.start_at,
            extent: self.extent(),
            timeout: self.timeout(),
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
    fn over_udp_an_answer_is_waited_for_less_long_and_some_options_make_no_sense() {
        let over_udp = |args: &[&str]| {
            BenchArgs::try_parse_from([&["bench", "udp:127.0.0.1:7"], args].concat()).unwrap()
        };
        assert_eq!(parse(&[]).unwrap().timeout(), TIMEOUT);
        assert_eq!(over_udp(&[]).timeout(), DATAGRAM_TIMEOUT);
        assert_eq!(over_udp(&["--timeout", "5s"]).timeout(), Duration::from_secs(5));
        for good in [&["--size", "8"][..], &["--size", "65507"], &["--pipeline", "4"], &["--rate", "5"]] {
            assert!(over_udp(good).check_udp().is_ok(), "{good:?}");
        }
        for bad in [&["--size", "7"][..], &["--size", "65508"], &["--churn"], &["--connect-rate", "5"]] {
            let error = over_udp(bad).check_udp().unwrap_err().to_string();
            assert!(error.starts_with(bad[0]), "{error}");
        }
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
