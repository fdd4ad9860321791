//! `echoloop serve`: its arguments, and the server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Parser;
use echoloop::{Address, CloseReason, Config, Echo, Handle, Server};

use super::{
    failure::Failure,
    lines::Lines,
    signals::{Actions, Signals},
    values::{COUNT_MAX, DEFAULT_PORT, OptionalTimeout, count_up_to, listen_address, size, timeout},
};

const HELP: &str = "\
Each listener prints one line on stdout: `listening on ADDR`, with the real port. Logs go to stderr; \
RUST_LOG=debug shows every connection, RUST_LOG=off nothing.

SIGINT or SIGTERM starts a graceful shutdown (a drain): clients that wait in the backlog are still accepted, \
everything that has arrived is echoed, and every connection is ended with the documented disconnect. The exit status \
is then 0, or 1 if not everything was delivered to everyone when the drain timeout ran out. Another signal, at least a \
second later, ends the program at once, with status 130 or 143. SIGQUIT drains too, and SIGHUP if it comes because the \
terminal went away. SIGUSR1 prints what each worker is doing on stderr, in a line each. What was ignored when the \
program began, as by nohup, stays ignored.

A duration is written like 500ms, 30s, 10m or `1h 30m`; 0 or off turns the timeout off. A size is written like \
4096, 64KiB or 1MB, a number like 1000, 10k or 1M.";

/// Serve: send back to every client what it sends, on one thread
#[derive(Debug, Parser)]
#[command(after_long_help = HELP)]
pub(crate) struct ServeArgs {
    /// Where to listen: HOST:PORT, [V6]:PORT or unix:PATH. :PORT means every interface, over IPv4 and IPv6; [::] means
    /// IPv6 only. A host name means all of its addresses that this machine has. The port is 27015 if none is given; port 0
    /// lets the system choose one for each address
    #[arg(value_name = "ADDR", default_values_t = [default_address()], value_parser = listen_address)]
    addresses: Vec<Address>,

    /// Connections open at once; further clients wait in the backlog [default: the hard limit on open files,
    /// less 64 or an eighth of it, whichever is smaller]
    #[arg(long, value_name = "N", value_parser = count_up_to::<usize, COUNT_MAX>)]
    max_connections: Option<usize>,

    /// End a connection on which no byte is sent, received or acknowledged for this long
    #[arg(long, value_name = "DUR", default_value = "10m", value_parser = timeout)]
    idle_timeout: OptionalTimeout,

    /// Reset a connection whose client's system acknowledges no byte of its echo for this long
    #[arg(long, value_name = "DUR", default_value = "60s", value_parser = timeout)]
    write_timeout: OptionalTimeout,

    /// Lingering close: once the server's FIN is acknowledged, wait this long for the client's FIN; less if the client
    /// is silent for 5s or sends more than 64MiB
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = timeout)]
    linger_timeout: OptionalTimeout,

    /// When stopped by a signal, cut off connections that are still open after this long
    #[arg(long, value_name = "DUR", default_value = "25s", value_parser = timeout)]
    drain_timeout: OptionalTimeout,

    /// Clients that the kernel keeps waiting until they are accepted
    #[arg(long, value_name = "N", default_value = "4096", value_parser = count_up_to::<u32, { u32::MAX as u64 }>)]
    backlog: u32,

    /// Threads, each with its own event loop. One with more connections than another leaves new ones to it
    #[arg(long, value_name = "N", default_value = "1", value_parser = count_up_to::<u16, 1024>)]
    workers: u16,

    /// Backpressure: stop reading from a client while this much of its echo waits to be sent; reading starts again at
    /// a quarter of it
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size)]
    high_water: usize,

    /// Copy all data through user space. Without this, Linux can return the data of bulk connections inside the
    /// kernel
    #[arg(long)]
    no_splice: bool,

    /// Serve one client, then exit with status 0, as the tutorial's sample does
    #[arg(long, conflicts_with = "workers")]
    once: bool,
}

impl ServeArgs {
    fn config(&self) -> Config {
        let mut config = Config::default();
        config.backlog = self.backlog;
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

fn default_address() -> Address {
    Address::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)))
}

pub(crate) fn run(args: &ServeArgs, stderr: &Lines) -> Result<ExitCode, Failure> {
    match echoloop::raise_descriptor_limit() {
        Ok(limit) => log::debug!("open files: at most {limit:?}"),
        Err(error) => log::warn!("cannot raise the limit on open files: {error}"),
    }
    let server = Server::builder().config(args.config()).bind(args.addresses.iter().cloned())?;
    let (drain, abort) = (server.handle(), server.handle());
    let actions = Actions::new(move || drain.drain(), move || abort.abort());
    let report = reporter(server.handle(), args.workers, stderr);
    let signals = Signals::install(actions.reporting(report))
        .map_err(|error| Failure::new(format!("cannot handle signals: {error}")))?;
    // Whether anyone reads what is printed must not matter to those who are served.
    let stdout = Lines::to_stdout();
    for address in server.local_addrs() {
        stdout.line(&format!("listening on {address}"));
    }
    let stats = server.run(|_peer| Some(Echo))?;
    let cut_off = stats.closed(CloseReason::DrainTimeout);
    stdout.line(&stats.to_string());
    stdout.flush();
    if let Some(status) = signals.aborted() {
        return Ok(ExitCode::from(status));
    }
    if cut_off > 0 {
        return Err(Failure::new(format!("drain: {cut_off} cut off by the drain timeout")));
    }
    Ok(ExitCode::SUCCESS)
}

/// How long a worker has to say what it is doing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says what each worker is doing, in a line on stderr each.
fn reporter(handle: Handle<()>, workers: u16, stderr: &Lines) -> impl Fn() + Send + 'static {
    let stderr = stderr.clone();
    move || {
        let (handle, stderr) = (handle.clone(), stderr.clone());
        let report = move || {
            let answers = handle.status(PATIENCE);
            answers.iter().for_each(|status| stderr.line(&status.to_string()));
            let silent = usize::from(workers) - answers.len();
            if silent > 0 {
                stderr.line(&format!("{silent} of {workers} workers are too busy to answer"));
            }
        };
        // Whoever is busy must not keep the next signal waiting.
        if let Err(error) = thread::Builder::new().name("report".to_owned()).spawn(report) {
            log::warn!("cannot report: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let args = ServeArgs::parse_from(["serve"]);
        assert_eq!(args.config(), Config::default());
        assert_eq!(args.addresses, ["127.0.0.1:27015".parse().unwrap()]);
    }
}
