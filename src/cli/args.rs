//! The command line.

use std::{num::NonZeroU32, time::Duration};

use clap::{Parser, Subcommand, value_parser};
use echoloop::{Address, Config};

use super::bench::{BENCH_HELP, BenchArgs, REPORT_HELP, ReportArgs};

/// The port of the tutorial's sample.
const DEFAULT_PORT: u16 = 27015;

/// A TCP echo server that never loses a byte at the end of a connection, its client, and a load generator.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve: send back to every client what it sends, on one thread
    #[command(after_long_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// Connect, send a message, check that it comes back, disconnect
    #[command(after_long_help = CLIENT_HELP)]
    Client(ClientArgs),
    /// Measure an echo server under load, and check every byte
    #[command(after_long_help = BENCH_HELP)]
    Bench(BenchArgs),
    /// Put latency logs of `bench` together, for example from several machines
    #[command(after_long_help = REPORT_HELP)]
    Report(ReportArgs),
}

impl Command {
    /// What is logged unless `RUST_LOG` says otherwise. What a load generator says of its own loops is of no interest.
    pub(crate) const fn log_filter(&self) -> &'static str {
        match self {
            Self::Serve(_) | Self::Client(_) => "info",
            Self::Bench(_) | Self::Report(_) => "warn",
        }
    }
}

const SERVE_HELP: &str = "\
Each listener prints one line on stdout: `listening on ADDR`, with the real port. Logs go to stderr; \
RUST_LOG=debug shows every connection, RUST_LOG=off nothing.

SIGINT or SIGTERM drains: clients in the backlog are still accepted, what has arrived is echoed, and every \
connection is ended with the documented disconnect. The exit status is then 0, or 1 if the drain \
timeout had to cut someone off. A second signal ends the program at once, with status 130 or 143.

A duration is written like 500ms, 30s, 10m or `1h 30m`; 0 or off turns the timeout off. A size is written like \
4096, 64KiB or 1MB.";

const CLIENT_HELP: &str = "\
Exit status: 0 if every byte came back equal and the connection ended properly, 1 if not, 2 for wrong arguments.";

#[derive(Debug, Parser)]
pub(crate) struct ServeArgs {
    /// Where to listen: HOST:PORT, [V6]:PORT or unix:PATH; port 0 lets the system choose. A host name
    /// means all of its addresses, [::] means IPv6 only
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:27015")]
    pub(crate) addresses: Vec<Address>,

    /// Connections open at once; further clients wait in the backlog [default: the hard limit on open files,
    /// less 64 or an eighth of it, whichever is smaller]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_connections: Option<usize>,

    /// End a connection that moves no byte for this long
    #[arg(long, value_name = "DUR", default_value = "10m", value_parser = timeout)]
    idle_timeout: Timeout,

    /// Reset a connection that takes no byte of its echo for this long
    #[arg(long, value_name = "DUR", default_value = "60s", value_parser = timeout)]
    write_timeout: Timeout,

    /// After our end of a connection is shut, wait this long for the client's; less if it is silent for 5s or
    /// sends more than 64MiB
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = timeout)]
    linger_timeout: Timeout,

    /// When stopped by a signal, cut off what is not finished after this long
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = timeout)]
    drain_timeout: Timeout,

    /// Clients that the kernel lets wait until they are accepted
    #[arg(long, value_name = "N", default_value = "4096")]
    backlog: NonZeroU32,

    /// Threads, each with a loop, listeners and a share of the connections of its own
    #[arg(long, value_name = "N", default_value = "1", value_parser = value_parser!(u16).range(1..=1024))]
    workers: u16,

    /// Read no further from a client while so much of its echo waits to be sent; reading starts again at
    /// a quarter of it
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size)]
    high_water: usize,

    /// Copy all data through user space, also that of connections that send in bulk, which Linux can return
    /// inside the kernel
    #[arg(long)]
    no_splice: bool,

    /// Serve one client, then exit with status 0, as the tutorial's sample does
    #[arg(long, conflicts_with = "workers")]
    pub(crate) once: bool,
}

impl ServeArgs {
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.backlog = self.backlog.get();
        config.max_connections = self.max_connections;
        config.accept_limit = self.once.then_some(1);
        config.workers = self.workers.into();
        config.set_high_water(self.high_water);
        if self.no_splice {
            config.splice_threshold_bytes = None;
        }
        config.idle_timeout = self.idle_timeout.0;
        config.write_timeout = self.write_timeout.0;
        config.linger_timeout = self.linger_timeout.0;
        config.drain_timeout = self.drain_timeout.0;
        config
    }
}

#[derive(Debug, Parser)]
pub(crate) struct ClientArgs {
    /// The server: HOST, HOST:PORT, [V6]:PORT or unix:PATH; each address of a host is tried in turn, and the
    /// port is 27015 if none is given
    #[arg(value_name = "HOST[:PORT]", default_value = "localhost", value_parser = server)]
    pub(crate) server: Address,

    /// What to send. `-` streams stdin, of any size, writes the echo to stdout and the counts to stderr
    #[arg(value_name = "MESSAGE", default_value = "this is a test", allow_hyphen_values = true)]
    pub(crate) message: String,

    /// Give up an address that does not answer for this long
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = timeout)]
    pub(crate) connect_timeout: Timeout,

    /// Give up if the server owes an answer and no byte moves for this long
    #[arg(long, value_name = "DUR", default_value = "60s", value_parser = timeout)]
    pub(crate) timeout: Timeout,
}

/// A duration, or none where it is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeout(pub(crate) Option<Duration>);

pub(super) fn timeout(text: &str) -> Result<Timeout, String> {
    if text == "0" || text.eq_ignore_ascii_case("off") {
        return Ok(Timeout(None));
    }
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Ok(Timeout(None)),
        Ok(duration) => Ok(Timeout(Some(duration))),
        Err(error) => Err(format!("{error}; write it like 500ms, 30s or 10m, or off")),
    }
}

pub(super) fn size(text: &str) -> Result<usize, String> {
    let size: bytesize::ByteSize = text.parse().map_err(|_| "write it like 4096, 64KiB or 1MB".to_owned())?;
    match usize::try_from(size.as_u64()) {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(size) if size <= SIZE_MAX => Ok(size),
        Ok(_) | Err(_) => Err("it must be at most 1GiB".to_owned()),
    }
}

/// More output than this is never wanted for one connection.
const SIZE_MAX: usize = 1 << 30;

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

fn server(text: &str) -> Result<Address, echoloop::Error> {
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = unbracketed.parse() {
        return Ok(Address::Ip(std::net::SocketAddr::new(ip, DEFAULT_PORT)));
    }
    if text.contains(':') { text.parse() } else { format!("{text}:{DEFAULT_PORT}").parse() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,30}|-?[0-9]{0,25} ?[a-zA-Z]{0,4}") {
            if let Err(error) = timeout(&text) {
                prop_assert!(!error.is_empty());
            }
            if let Ok(size) = size(&text) {
                prop_assert!((1..=SIZE_MAX).contains(&size));
            }
            if let Ok(number) = at_least_one(&text) {
                prop_assert!(number >= 1);
            }
            let _ = server(&text);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn the_defaults_of_serve_are_those_of_the_library() {
        let Command::Serve(args) = Args::parse_from(["echoloop", "serve"]).command else {
            panic!("serve was asked for")
        };
        assert_eq!(args.config(), Config::default());
        assert_eq!(args.addresses, ["127.0.0.1:27015".parse().unwrap()]);
    }

    #[test]
    fn a_server_may_be_given_without_a_port() {
        for (text, address) in [
            ("localhost", "localhost:27015"),
            ("localhost:7", "localhost:7"),
            ("127.0.0.1", "127.0.0.1:27015"),
            ("::1", "[::1]:27015"),
            ("[::1]", "[::1]:27015"),
            ("[::1]:7", "[::1]:7"),
            ("unix:/tmp/x", "unix:/tmp/x"),
        ] {
            assert_eq!(server(text).unwrap().to_string(), address);
        }
        for bad in ["a b", "[::1", "::1]", "[[::1]]"] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_and_sizes_have_units_and_bounds() {
        assert_eq!(timeout("off"), Ok(Timeout(None)));
        assert_eq!(timeout("0"), Ok(Timeout(None)));
        assert_eq!(timeout("0s"), Ok(Timeout(None)));
        assert_eq!(timeout("1m 30s"), Ok(Timeout(Some(Duration::from_secs(90)))));
        for bad in ["", "5", "-5s", "5 parsecs", "99999999999999999999s"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1000"), Ok(1000));
        for bad in ["", "0", "-1", "x", "2GiB", "99999999999999999999"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
