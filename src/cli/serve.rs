//! `echoloop serve`: its arguments, and the server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use clap::Parser;
use echoloop::{Address, Cidr, CloseReason, Config, Echo, Handle, Server};

use super::{
    control::{ControlArgs, Predecessor, Reload, SERVE_ROLE},
    failure::Failure,
    lines::Lines,
    ops::OpsArgs,
    signals::{Actions, Signals},
    systemd::{Listen, Notifier, Passed, PassedSockets, listen},
    tls::{ServeTlsArgs, ServerTls},
    values::{COUNT_MAX, DEFAULT_PORT, OptionalTimeout, count_up_to, duration, size, timeout},
};

const HELP: &str = "\
Output: each listener prints one line on stdout, `listening on ADDR`, with the real port. A summary line follows at the \
end. Logs go to stderr. RUST_LOG=debug shows every connection, RUST_LOG=off nothing.

UDP: not answered are datagrams from ports of services that answer anything (echo, chargen, DNS, NTP and others below 1024), \
from the server's own UDP ports on any host, and from or to multicast and broadcast addresses. Two echo servers on \
different ports echo each other for ever once somebody has forged one datagram: keep UDP echo servers on one port, or on \
loopback. A datagram that cannot be sent back at once is dropped. A drain answers what has arrived.

Signals: SIGINT, SIGTERM and SIGQUIT start a graceful shutdown (a drain). Clients in the backlog are still accepted. \
Everything that has arrived is echoed. Then each connection is shut down and closed. A second signal, \
at least a second later, ends the program at once. SIGHUP drains if the terminal is gone. Otherwise it reloads \
the TLS certificates from their files, for new handshakes; if anything is wrong with them, the old ones stay. SIGUSR1 prints a status line \
for each worker on stderr. A signal that was ignored at the start, as by nohup, stays ignored.

Exit status: 0 after a complete drain, 1 if the drain timeout cut off connections or the server failed, 2 for wrong \
arguments, 130, 143 or 131 after a second SIGINT, SIGTERM or SIGQUIT.

Units: a duration (DUR) is written like 500ms, 30s, 10m or '1h 30m'; 0 or off turns a timeout off. A SIZE is in bytes, \
or like 64KiB or 1MB. A number (N) is written like 1000, 10k or 1M.";

/// Run an echo server
///
/// Every client gets back what it sends, over TCP, Unix sockets and UDP.
#[derive(Debug, Parser)]
#[command(after_long_help = HELP)]
pub(crate) struct ServeArgs {
    /// Where to listen: HOST:PORT, [V6]:PORT, udp:HOST:PORT, systemd: or unix:PATH
    ///
    /// :PORT is every interface, over IPv4 and IPv6. [::]:PORT is every interface, over IPv6 only. A host name is all of
    /// its addresses that this machine has. Without a port it is 27015. With port 0 the system chooses a port for each
    /// address.
    ///
    /// Over UDP (udp: before any of these) each datagram goes back to its sender, unless that could begin an endless
    /// exchange: see the section on UDP below.
    ///
    /// systemd: is all sockets that systemd has passed, fd:NAME those of that name (FileDescriptorName=). An address that such
    /// a socket has is served on it. One that is not asked for is an error.
    #[arg(value_name = "ADDR", default_values_t = [default_address()], value_parser = listen)]
    addresses: Vec<Listen>,

    /// Most connections open at once [default: set by the limit on open files]
    ///
    /// Further clients wait in the backlog. The default is the hard limit on open files, less a reserve of 64 or an eighth
    /// of it, whichever is smaller, less two for each pipe that bulk connections may use, and less 8 for each worker but the
    /// first.
    #[arg(long, value_name = "N", value_parser = count_up_to::<usize, COUNT_MAX>)]
    max_connections: Option<usize>,

    /// Most connections open at once from one client's address
    ///
    /// Further ones are reset. The connections of an IPv6 address are counted with those of its /64. By default there is no
    /// limit.
    #[arg(long, value_name = "N", value_parser = count_up_to::<usize, COUNT_MAX>)]
    max_connections_per_ip: Option<usize>,

    /// Close idle connections after this long
    ///
    /// A connection is idle while no byte is sent, received or acknowledged.
    #[arg(long, value_name = "DUR", default_value = "10m", value_parser = timeout)]
    idle_timeout: OptionalTimeout,

    /// Reset a client that acknowledges nothing for this long
    ///
    /// It counts while part of the client's echo is unsent or unacknowledged (TCP acknowledgements). Any progress starts it
    /// again.
    #[arg(long, value_name = "DUR", default_value = "60s", value_parser = timeout)]
    write_timeout: OptionalTimeout,

    /// Lingering close: wait this long for the client's FIN
    ///
    /// It begins once the client has acknowledged the server's FIN. The wait ends earlier if the client is silent for 5s
    /// or sends more than 64MiB.
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = timeout)]
    linger_timeout: OptionalTimeout,

    /// Graceful shutdown: cut off connections after this long
    ///
    /// A connection is reset if not everything was delivered to its client by then, and the exit status is 1.
    #[arg(long, value_name = "DUR", default_value = "25s", value_parser = timeout)]
    drain_timeout: OptionalTimeout,

    /// Graceful shutdown: go on accepting for this long first
    ///
    /// Load balancers have this time to send their clients elsewhere. The drain begins then. Off by default.
    #[arg(long, value_name = "DUR", default_value = "off", value_parser = timeout)]
    grace: OptionalTimeout,

    /// Clients come through proxies in these networks, which say for whom (PROXY protocol)
    ///
    /// Versions 1 and 2, from a network like 10.0.0.0/8 or 2001:db8::/32, or one address; several with commas. Whoever comes
    /// from elsewhere, or does not begin with such a header, is reset. Unix sockets are trusted. Off by default.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    proxy_protocol: Vec<Cidr>,

    /// How long a proxy's header may take, 3s at least
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = duration, requires = "proxy_protocol")]
    proxy_timeout: Duration,

    /// Most clients that wait in the kernel to be accepted
    ///
    /// This is the backlog of listen(2), for each listener. The kernel may cap it (net.core.somaxconn).
    #[arg(long, value_name = "N", default_value = "4096", value_parser = count_up_to::<u32, { u32::MAX as u64 }>)]
    backlog: u32,

    /// Threads, each with its own event loop and listeners
    ///
    /// A worker with more connections than another passes new ones to it.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count_up_to::<u16, 1024>)]
    workers: u16,

    /// Backpressure: stop reading with this much output queued
    ///
    /// It applies to each connection. Reading resumes when a quarter of it is left.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size)]
    high_water: usize,

    /// Memory for queued output, over all connections [default: half of the container's limit]
    ///
    /// Near it, clients that have much queued are read no more, the largest first, until they have received some of it.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_limit: Option<usize>,

    /// Do not use splice(2); copy all data through user space
    ///
    /// Without this option, Linux returns the data of bulk connections inside the kernel.
    #[arg(long)]
    no_splice: bool,

    /// Serve one client, then exit
    ///
    /// The tutorial's sample server does the same. The exit status is 0.
    #[arg(long, conflicts_with = "workers")]
    once: bool,

    /// Log each connection that ends, with its bytes and the reason
    ///
    /// One line at the level info: who it was, how long it was open, what it received and sent, and why it ended. Without
    /// this option the level is debug.
    #[arg(long)]
    log_closed: bool,

    #[command(flatten)]
    ops: OpsArgs,

    #[command(flatten)]
    control: ControlArgs,

    #[command(flatten)]
    tls: ServeTlsArgs,
}

impl ServeArgs {
    fn config(&self) -> Config {
        let mut config = Config::default();
        config.backlog = self.backlog;
        config.max_connections = self.max_connections;
        config.max_connections_per_ip = self.max_connections_per_ip;
        config.accept_limit = self.once.then_some(1);
        config.workers = self.workers.into();
        config.set_high_water(self.high_water);
        config.memory_limit_bytes = self.memory_limit;
        if self.no_splice {
            config.splice_threshold_bytes = None;
        }
        config.idle_timeout = self.idle_timeout.0;
        config.write_timeout = self.write_timeout.0;
        config.linger_timeout = self.linger_timeout.0;
        config.drain_timeout = self.drain_timeout.0;
        config.grace = self.grace.0;
        config.proxy_protocol.clone_from(&self.proxy_protocol);
        config.proxy_timeout = self.proxy_timeout;
        config.log_closed = self.log_closed;
        config.measure_turns = self.ops.has_metrics();
        self.tls.configure(&mut config);
        config
    }
}

fn default_address() -> Listen {
    Listen::At(Address::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT))))
}

pub(crate) fn run(args: &ServeArgs, passed: Passed, stderr: &Lines) -> Result<ExitCode, Failure> {
    let passed = passed.sockets()?;
    let addresses = passed.addresses(&args.addresses)?;
    if args.once && addresses.iter().any(Address::is_udp) {
        return Err(Failure::arguments("--once serves one connection, and UDP has none"));
    }
    match echoloop::raise_descriptor_limit() {
        Ok(limit) => log::debug!("open files: at most {limit:?}"),
        Err(error) => log::warn!("cannot raise the limit on open files: {error}"),
    }
    let tls = args.tls.server(&addresses)?;
    let mut predecessor = args.control.predecessor()?;
    let server = bind(args, addresses, passed, tls.as_ref(), &mut predecessor)?;
    let ops = args.ops.start(&server, &mut predecessor)?;
    let (drain, abort) = (server.handle(), server.handle());
    let report = reporter(server.handle(), args.workers, stderr);
    let systemd = Notifier::from_env(server.handle(), args.grace.0);
    let reload = reloader(tls.as_ref(), systemd.clone());
    let mut control = args.control.start(&server, &ops, &systemd, Arc::clone(&reload), &mut predecessor)?;
    let stop = {
        let systemd = systemd.clone();
        move || {
            // Said first: without clients the drain is the end.
            systemd.stopping();
            drain.drain();
        }
    };
    let actions = Actions::new(stop, move || abort.abort()).reporting(report).reloading(reload_aside(reload));
    let signals =
        Signals::install(actions).map_err(|error| Failure::new(format!("cannot handle signals: {error}")))?;
    // Whether anyone reads what is printed must not matter to those who are served.
    let stdout = Lines::to_stdout();
    for address in server.local_addrs() {
        stdout.line(&format!("listening on {address}"));
    }
    if let Some(tls) = &tls {
        tls.introduction(server.local_addrs()).iter().for_each(|line| stdout.line(line));
    }
    ops.introduction().iter().for_each(|line| stdout.line(line));
    control.introduction().iter().for_each(|line| stdout.line(line));
    let _watch = systemd.ready();
    let succession = predecessor.succeed(&server, &ops, &mut control);
    let stats = server.run(|_peer| Some(Echo))?;
    systemd.ended();
    // The last to close: whoever watches the drain sees its end.
    ops.end(signals.aborted().is_some());
    let cut_off = stats.closed(CloseReason::DrainTimeout);
    stdout.line(&stats.to_string());
    stdout.flush();
    if let Some(status) = signals.aborted() {
        return Ok(ExitCode::from(status));
    }
    succession.outcome()?;
    if cut_off > 0 {
        return Err(Failure::new(format!("connections cut off by the drain timeout: {cut_off}")));
    }
    Ok(ExitCode::SUCCESS)
}

/// A server whose listeners all speak TLS, or none does.
fn bind(
    args: &ServeArgs,
    addresses: Vec<Address>,
    passed: PassedSockets,
    tls: Option<&ServerTls>,
    predecessor: &mut Predecessor,
) -> Result<Server<Echo>, Failure> {
    let builder = passed.pass_to(Server::builder().config(args.config()));
    let builder = predecessor.pass_on(SERVE_ROLE, builder);
    Ok(match tls {
        None => builder.bind(addresses)?,
        Some(tls) => {
            let acceptor = tls.acceptor();
            let builder = addresses
                .into_iter()
                .fold(builder, |builder, address| builder.listen_tls(address, acceptor.clone()));
            builder.bind([] as [Address; 0])?
        }
    })
}

/// Reads again what can be read again, tells systemd of it, and says what came of it.
fn reloader(tls: Option<&ServerTls>, systemd: Notifier) -> Arc<Reload> {
    let reload = tls.map(ServerTls::reloader);
    Arc::new(move || {
        systemd.reloading();
        let outcome = match &reload {
            Some(reload) => reload(),
            None => {
                log::info!("there is no configuration to reload");
                Ok("nothing to reload".to_owned())
            }
        };
        systemd.reloaded(outcome.as_deref().map_err(Clone::clone));
        outcome
    })
}

/// The same by a signal, which waits for nothing.
fn reload_aside(reload: Arc<Reload>) -> impl Fn() + Send + 'static {
    move || {
        let reload = Arc::clone(&reload);
        // What came of it is in the log.
        let reload = move || drop(reload());
        if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(reload) {
            log::error!("SIGHUP: nothing is reloaded: cannot start a thread: {error}");
        }
    }
}

/// How long a worker has to say what it is doing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says what each worker is doing, in a line on stderr each.
fn reporter(handle: Handle<()>, workers: u16, stderr: &Lines) -> impl Fn() + Send + 'static {
    let stderr = stderr.clone();
    move || {
        let (handle, stderr) = (handle.clone(), stderr.clone());
        let report = move || {
            let status = handle.status(PATIENCE);
            status.workers.iter().for_each(|worker| stderr.line(&worker.to_string()));
            let silent = status.workers_silent;
            if silent > 0 {
                stderr.line(&format!("{silent} of {workers} workers did not answer within a second"));
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
        assert_eq!(args.addresses, [Listen::At("127.0.0.1:27015".parse().unwrap())]);
    }
}
