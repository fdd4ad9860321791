//! What the servers and proxies have to do, and one measurement of it.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::ClientConfig;

use crate::{
    client::{
        Client,
        arrivals::Schedule,
        churn::{churn, churn_resumed},
        group::{Group, Reading, Sending, Tally},
        tls::{self, Keys},
    },
    effort::Effort,
    measure::{cpu_time, percentile, resident_bytes},
    process::Process,
    servers::Kind,
    setup::Setup,
};

/// A kind of load.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What it is for.
    pub(crate) kind: Kind,
    pub(crate) per: Per,
    /// The figure that says the most of it.
    pub(crate) matters: Figure,
    /// Whether it runs if no workload is named.
    pub(crate) default: bool,
    load: Load,
}

/// What throughput counts, and what the processor time is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Per {
    Message,
    Gigabyte,
    Connection,
}

/// A figure, by the place of its column in the tables; the first one is throughput.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Cpu = 1,
    P50 = 2,
    P99 = 3,
    Memory = 4,
}

#[derive(Debug)]
enum Load {
    Echo(Group),
    /// The pingers of a mixed load alone, to compare their latencies with. Their replies are always compared.
    Pings(Group),
    /// Throughput and processor time are those of the `hogs`, latencies those of the `pingers`, whose replies are always
    /// compared.
    Mixed {
        hogs: Group,
        pingers: Group,
    },
    /// Over TLS each of them has a handshake of its own.
    Churn {
        parallel: usize,
        size: usize,
    },
    /// Over TLS, with sessions that are resumed.
    ChurnResumed {
        parallel: usize,
        size: usize,
    },
    /// Throughput and processor time are those of the visitors, latencies those of the `pingers`.
    Visited {
        pingers: Group,
        schedule: Schedule,
        size: usize,
    },
    Idle {
        size: usize,
    },
}

/// Connections that are made before they are served, when there are very many: fewer than a backlog takes.
const BATCH: usize = 500;

/// How often each pinger sends.
const PING: Duration = Duration::from_millis(5);

/// Those of the mixed workloads that wait for a whole message of 4 MiB before they send the next.
const HOGS_4M: Group = Group { connections: 8, size: 4 << 20, sending: Sending::Window(1) };

/// Those that ping, alone or beside hogs.
const fn pingers(sending: Sending) -> Group {
    Group { connections: 50, size: 64, sending }
}

/// All of them.
pub(crate) const WORKLOADS: [Workload; 25] = [
    Workload {
        name: "small-128",
        title: "100 connections × 128 B, one message at a time",
        kind: Kind::EchoServer,
        per: Per::Message,
        matters: Figure::Cpu,
        default: true,
        load: Load::Echo(Group { connections: 100, size: 128, sending: Sending::Window(1) }),
    },
    Workload {
        name: "small-512",
        title: "100 connections × 512 B, one message at a time",
        kind: Kind::EchoServer,
        per: Per::Message,
        matters: Figure::Cpu,
        default: true,
        load: Load::Echo(Group { connections: 100, size: 512, sending: Sending::Window(1) }),
    },
    Workload {
        name: "pipelined",
        title: "100 connections × 128 B, 16 messages at a time",
        kind: Kind::EchoServer,
        per: Per::Message,
        matters: Figure::Cpu,
        default: true,
        load: Load::Echo(Group { connections: 100, size: 128, sending: Sending::Window(16) }),
    },
    Workload {
        name: "bulk-16k",
        title: "8 connections × 16 KiB",
        kind: Kind::EchoServer,
        per: Per::Gigabyte,
        matters: Figure::Cpu,
        default: true,
        load: Load::Echo(Group { connections: 8, size: 16 << 10, sending: Sending::Window(1) }),
    },
    Workload {
        name: "bulk-256k",
        title: "8 connections × 256 KiB",
        kind: Kind::EchoServer,
        per: Per::Gigabyte,
        matters: Figure::Cpu,
        default: true,
        load: Load::Echo(Group { connections: 8, size: 256 << 10, sending: Sending::Window(1) }),
    },
    Workload {
        name: "bulk-4m",
        title: "8 connections × 4 MiB",
        kind: Kind::EchoServer,
        per: Per::Gigabyte,
        matters: Figure::Cpu,
        default: true,
        load: Load::Echo(Group { connections: 8, size: 4 << 20, sending: Sending::Window(1) }),
    },
    Workload {
        name: "mixed",
        title: "8 hogs × 256 KiB, 4 at a time, and 50 pingers × 64 B every 5 ms: the hogs' bytes, the pingers' latencies",
        kind: Kind::EchoServer,
        per: Per::Gigabyte,
        matters: Figure::P99,
        default: true,
        load: Load::Mixed {
            hogs: Group { connections: 8, size: 256 << 10, sending: Sending::Window(4) },
            pingers: pingers(Sending::Every(PING)),
        },
    },
    Workload {
        name: "churn",
        title: "connect, 64 B, half-close, read to the end, close; 32 at a time",
        kind: Kind::EchoServer,
        per: Per::Connection,
        matters: Figure::Cpu,
        default: true,
        load: Load::Churn { parallel: 32, size: 64 },
    },
    Workload {
        name: "idle",
        title: "connections that rest after one echo of 64 B each; latencies are the echo's",
        kind: Kind::EchoServer,
        per: Per::Connection,
        matters: Figure::Memory,
        default: true,
        load: Load::Idle { size: 64 },
    },
    Workload {
        name: "latency",
        title: "1 connection × 64 B",
        kind: Kind::EchoServer,
        per: Per::Message,
        matters: Figure::P50,
        default: true,
        load: Load::Echo(Group { connections: 1, size: 64, sending: Sending::Window(1) }),
    },
    Workload {
        name: "pings",
        title: "50 pingers × 64 B, one message at a time",
        kind: Kind::EchoServer,
        per: Per::Message,
        matters: Figure::P99,
        default: false,
        load: Load::Pings(pingers(Sending::Window(1))),
    },
    Workload {
        name: "pings-paced",
        title: "50 pingers × 64 B every 5 ms",
        kind: Kind::EchoServer,
        per: Per::Message,
        matters: Figure::P99,
        default: false,
        load: Load::Pings(pingers(Sending::Every(PING))),
    },
    Workload {
        name: "mixed-4m",
        title: "8 hogs × 4 MiB and 50 pingers × 64 B, one message at a time: the hogs' bytes, the pingers' latencies",
        kind: Kind::EchoServer,
        per: Per::Gigabyte,
        matters: Figure::P99,
        default: false,
        load: Load::Mixed { hogs: HOGS_4M, pingers: pingers(Sending::Window(1)) },
    },
    Workload {
        name: "mixed-4m-paced",
        title: "8 hogs × 4 MiB, one at a time, and 50 pingers × 64 B every 5 ms: the hogs' bytes, the pingers' latencies",
        kind: Kind::EchoServer,
        per: Per::Gigabyte,
        matters: Figure::P99,
        default: false,
        load: Load::Mixed { hogs: HOGS_4M, pingers: pingers(Sending::Every(PING)) },
    },
    Workload {
        name: "tls-small-512",
        title: "100 connections × 512 B over TLS, one message at a time",
        kind: Kind::TlsServer,
        per: Per::Message,
        matters: Figure::Cpu,
        default: false,
        load: Load::Echo(Group { connections: 100, size: 512, sending: Sending::Window(1) }),
    },
    Workload {
        name: "tls-bulk-256k",
        title: "8 connections × 256 KiB over TLS",
        kind: Kind::TlsServer,
        per: Per::Gigabyte,
        matters: Figure::Cpu,
        default: false,
        load: Load::Echo(Group { connections: 8, size: 256 << 10, sending: Sending::Window(1) }),
    },
    Workload {
        name: "tls-churn",
        title: "connect, full handshake, 64 B, close_notify, FIN, read to the end, close; 32 at a time",
        kind: Kind::TlsServer,
        per: Per::Connection,
        matters: Figure::Cpu,
        default: false,
        load: Load::Churn { parallel: 32, size: 64 },
    },
    Workload {
        name: "tls-churn-resumed",
        title: "the same with resumed sessions",
        kind: Kind::TlsServer,
        per: Per::Connection,
        matters: Figure::Cpu,
        default: false,
        load: Load::ChurnResumed { parallel: 32, size: 64 },
    },
    Workload {
        name: "tls-idle",
        title: "connections over TLS that rest after one echo of 64 B each",
        kind: Kind::TlsServer,
        per: Per::Connection,
        matters: Figure::Memory,
        default: false,
        load: Load::Idle { size: 64 },
    },
    Workload {
        name: "tls-pings-handshakes",
        title: "50 pingers × 64 B every 5 ms, and 1,000 visitors a second: the visitors' time, the pingers' latencies",
        kind: Kind::TlsServer,
        per: Per::Connection,
        matters: Figure::P99,
        default: false,
        load: Load::Visited {
            pingers: pingers(Sending::Every(PING)),
            schedule: Schedule { crowd: 1, every: Duration::from_millis(1) },
            size: 64,
        },
    },
    Workload {
        name: "tls-pings-bursts",
        title: "the same with 50 visitors at once every 50 ms",
        kind: Kind::TlsServer,
        per: Per::Connection,
        matters: Figure::P99,
        default: false,
        load: Load::Visited {
            pingers: pingers(Sending::Every(PING)),
            schedule: Schedule { crowd: 50, every: Duration::from_millis(50) },
            size: 64,
        },
    },
    Workload {
        name: "proxy-bulk",
        title: "8 connections × 256 KiB through a proxy and back; each byte counts once",
        kind: Kind::Proxy,
        per: Per::Gigabyte,
        matters: Figure::Cpu,
        default: false,
        load: Load::Echo(Group { connections: 8, size: 256 << 10, sending: Sending::Window(1) }),
    },
    Workload {
        name: "proxy-small",
        title: "100 connections × 128 B, one message at a time, through a proxy and back; each counts once",
        kind: Kind::Proxy,
        per: Per::Message,
        matters: Figure::Cpu,
        default: false,
        load: Load::Echo(Group { connections: 100, size: 128, sending: Sending::Window(1) }),
    },
    Workload {
        name: "proxy-churn",
        title: "churn through a proxy: connect, 64 B, half-close, read to the end, close; 32 at a time",
        kind: Kind::Proxy,
        per: Per::Connection,
        matters: Figure::Cpu,
        default: false,
        load: Load::Churn { parallel: 32, size: 64 },
    },
    Workload {
        name: "proxy-idle",
        title: "pairs of connections that rest after one echo of 64 B through a proxy",
        kind: Kind::Proxy,
        per: Per::Connection,
        matters: Figure::Memory,
        default: false,
        load: Load::Idle { size: 64 },
    },
];

/// What one measurement says. Memory is resident bytes per connection that came with the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Messages, bytes or connections per second.
    pub(crate) throughput: f64,
    /// The server's processor time for a message, 10⁹ bytes or a connection, in nanoseconds.
    pub(crate) cpu: f64,
    /// Latencies in nanoseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// None where connections do not stay.
    pub(crate) resident: Option<f64>,
}

impl Workload {
    /// In how many of the rounds it is measured.
    pub(crate) const fn rounds(&self, effort: Effort) -> usize {
        match self.load {
            // Memory hardly differs from round to round.
            Load::Idle { .. } => effort.idle_rounds,
            Load::Echo(_)
            | Load::Pings(_)
            | Load::Mixed { .. }
            | Load::Churn { .. }
            | Load::ChurnResumed { .. }
            | Load::Visited { .. } => effort.rounds,
        }
    }

    /// Measures a server that has just been started.
    ///
    /// # Errors
    ///
    /// A wrong byte, a connection that ended, a server that does nothing, or one that is gone.
    pub(crate) fn measure(&self, server: &Process, setup: Setup) -> io::Result<Sample> {
        let Setup { effort, reading, .. } = setup;
        let tls = match self.kind {
            Kind::EchoServer | Kind::Proxy => None,
            Kind::TlsServer => Some(tls::config(Keys::New)?),
        };
        warm_up(server, tls.clone())?;
        match self.load {
            Load::Echo(group) => echo(server, tls, self.per, &[(group, reading)], setup),
            Load::Pings(group) => echo(server, tls, self.per, &[(group, Reading::Verify)], setup),
            Load::Mixed { hogs, pingers } => {
                let groups = [(hogs, reading), (pingers, Reading::Verify)];
                echo(server, tls, self.per, &groups, setup)
            }
            Load::Churn { parallel, size } => {
                let observed = Observed::begin(server)?;
                let tally = churn(server.address(), tls, parallel, effort.churned, size)?;
                observed.sample(tally, self.per, None)
            }
            Load::ChurnResumed { parallel, size } => {
                let begin = || Observed::begin(server);
                let (observed, tally) =
                    churn_resumed(server.address(), parallel, effort.churned, size, begin)?;
                observed.sample(tally, self.per, None)
            }
            Load::Visited { pingers, schedule, size } => visited(server, tls, pingers, schedule, size, setup),
            Load::Idle { size } => {
                let connections = match self.kind {
                    Kind::EchoServer => effort.idle,
                    Kind::TlsServer => effort.sessions,
                    Kind::Proxy => effort.pairs,
                };
                idle(server, tls, connections, size, setup)
            }
        }
    }
}

/// What connections speak on TCP.
type Tls = Option<Arc<ClientConfig>>;

/// Brings code and the first buffers into memory.
fn warm_up(server: &Process, tls: Tls) -> io::Result<()> {
    churn(server.address(), tls, 8, 32, 64)?;
    Ok(())
}

/// The first group counts; the latencies are the last one's.
fn echo(
    server: &Process,
    tls: Tls,
    per: Per,
    groups: &[(Group, Reading)],
    setup: Setup,
) -> io::Result<Sample> {
    let resident = resident(server)?;
    let mut client = Client::new(setup.cores.idling(), tls)?;
    for &(group, reading) in groups {
        client.connect(server.address(), group, reading)?;
    }
    let duration = setup.effort.duration;
    client.run(duration / 5)?;
    let observed = Observed { resident, ..Observed::begin(server)? };
    let mut tallies = client.run(duration)?;
    let latencies = tallies.pop().unwrap_or_default();
    let mut tally = tallies.pop().unwrap_or_else(|| latencies.clone());
    tally.latencies = latencies.latencies;
    observed.sample(tally, per, Some(client.len()))
}

fn visited(
    server: &Process,
    tls: Tls,
    pingers: Group,
    schedule: Schedule,
    size: usize,
    setup: Setup,
) -> io::Result<Sample> {
    let mut client = Client::new(setup.cores.idling(), tls)?;
    client.connect(server.address(), pingers, Reading::Verify)?;
    client.expect(server.address(), schedule, size);
    let duration = setup.effort.duration;
    client.run(duration / 5)?;
    client.take_visits();
    let observed = Observed::begin(server)?;
    let pings = client.run(duration)?.pop().unwrap_or_default();
    let tally = Tally { latencies: pings.latencies, ..client.take_visits() };
    observed.sample(tally, Per::Connection, None)
}

fn idle(server: &Process, tls: Tls, connections: usize, size: usize, setup: Setup) -> io::Result<Sample> {
    let observed = Observed::begin(server)?;
    let mut client = Client::new(setup.cores.idling(), tls)?;
    let mut all = Tally::default();
    while client.len() < connections {
        let first = client.len();
        let count = BATCH.min(connections - first);
        let group = Group { connections: count, size, sending: Sending::Window(1) };
        client.connect(server.address(), group, Reading::Verify)?;
        for tally in client.exchange(first)? {
            all.messages += tally.messages;
            all.bytes += tally.bytes;
            all.latencies.extend(tally.latencies);
        }
    }
    observed.sample(all, Per::Connection, Some(connections))
}

/// A server's account when the load begins.
struct Observed<'a> {
    server: &'a Process,
    cpu: Duration,
    resident: u64,
    begin: Instant,
}

impl<'a> Observed<'a> {
    fn begin(server: &'a Process) -> io::Result<Self> {
        let (cpu, resident) = (cpu(server)?, resident(server)?);
        Ok(Self { server, cpu, resident, begin: Instant::now() })
    }

    /// What has come to it since then. `connections` are open.
    fn sample(self, tally: Tally, per: Per, connections: Option<usize>) -> io::Result<Sample> {
        let elapsed = self.begin.elapsed().as_secs_f64();
        let cpu = cpu(self.server)?.saturating_sub(self.cpu).as_nanos() as f64;
        let grown = resident(self.server)?.saturating_sub(self.resident) as f64;
        let (count, divisor) = match per {
            Per::Message | Per::Connection => (tally.messages as f64, tally.messages as f64),
            Per::Gigabyte => (tally.bytes as f64, tally.bytes as f64 / 1e9),
        };
        let mut latencies = tally.latencies;
        Ok(Sample {
            throughput: count / elapsed,
            cpu: cpu / divisor,
            p50: percentile(&mut latencies, 50) as f64,
            p99: percentile(&mut latencies, 99) as f64,
            resident: connections.map(|connections| grown / connections as f64),
        })
    }
}

fn cpu(server: &Process) -> io::Result<Duration> {
    cpu_time(server.id()).ok_or_else(gone)
}

fn resident(server: &Process) -> io::Result<u64> {
    resident_bytes(server.id()).ok_or_else(gone)
}

fn gone() -> io::Error {
    io::Error::other("the server is gone")
}
