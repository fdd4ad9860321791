//! A comparison of echo servers, plain and over TLS, and of TCP proxies before one of them. Each does the same work on the same core, as a
//! process of its own, and one client on another core, or on the same one if asked to, measures them all. Under 5 minutes:
//!
//! ```sh
//! cargo run --release --manifest-path peers/Cargo.toml
//! ```
//!
//! TLS, the proxies, and workloads that are of interest to few, run where they are named:
//!
//! ```sh
//! cargo run --release --manifest-path peers/Cargo.toml -- tls
//! cargo run --release --manifest-path peers/Cargo.toml -- proxy
//! ```
//!
//! Only the ratio of two medians from one run means something. Every round visits all servers before the next round
//! begins, so whatever else the machine does meanwhile affects all of them alike. See `args.rs` for the arguments.

#[cfg(not(target_os = "linux"))]
compile_error!("the comparison needs Linux, for the kernel's accounting of other processes");

mod args;
mod behaviour;
mod client;
mod effort;
mod measure;
mod output;
mod process;
mod report;
mod servers;
mod setup;
mod workloads;

use std::{env, fs, io, path::Path, process::ExitCode, time::Instant};

use rustix::process::{Resource, getrlimit};

use crate::{
    args::Args,
    behaviour::Behaviour,
    effort::Effort,
    process::{Cores, Process},
    report::{Report, chart, json},
    servers::{Kind, Peer, mode::Mode, task::Task},
    setup::Setup,
    workloads::{Sample, Workload},
};

/// Runs the comparison, or one of the peers if this process was started to be one.
fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == process::SERVE) {
        return process::serve(&words[1..]);
    }
    let args = match Args::parse(words) {
        Ok(args) => args,
        Err(what) => {
            eprintln!("error: {what}");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let begin = Instant::now();
    echoloop::raise_descriptor_limit()?;
    let setup = set_up(args)?;
    if setup.cores.count() != args.cores {
        println!("one processor: servers and client share it");
    }
    setup.cores.pin_client()?;
    let peers = available(&args.peers, setup);

    let mut report = Report::new(setup, &peers);
    let waited = measure::time_waited();
    let measuring = Instant::now();
    let rounds = args.workloads.iter().map(|workload| workload.rounds(setup.effort)).max().unwrap_or(0);
    for round in 0..rounds {
        for workload in args.workloads.iter().filter(|workload| round < workload.rounds(setup.effort)) {
            for peer in peers.iter().filter(|peer| peer.kind() == workload.kind) {
                report.add(workload, peer, measure(peer, workload, setup));
            }
        }
        eprintln!("round {} of {rounds}: {:.0?} since the beginning", round + 1, begin.elapsed());
    }
    let waited = measure::time_waited().saturating_sub(waited);
    report.disturbed(waited.as_secs_f64() / measuring.elapsed().as_secs_f64());
    for peer in peers.iter().filter(|peer| args.behaviour && peer.kind() == Kind::EchoServer) {
        report.behaviour(peer, Behaviour::observe(peer, setup.cores, setup.effort));
    }

    print!("{report}");
    write(&args.json, &json::render(&report))?;
    write(&args.svg, &chart::render(&report))?;
    println!("in {:.0?}: {} and {}", begin.elapsed(), args.json.display(), args.svg.display());
    Ok(())
}

/// Two for the connections, and room for the pipes of a proxy that splices.
const DESCRIPTORS_OF_PAIR: usize = 3;

fn set_up(args: &Args) -> io::Result<Setup> {
    let Effort { idle, sessions, pairs, .. } = args.effort;
    let effort = Effort {
        idle: idle.min(descriptors()),
        // One of them has an echo server behind it.
        sessions: sessions.min(descriptors() / DESCRIPTORS_OF_PAIR),
        pairs: pairs.min(descriptors() / DESCRIPTORS_OF_PAIR),
        ..args.effort
    };
    let cores = Cores::choose(args.cores)?;
    Ok(Setup { effort, cores, reading: args.reading, upstream: Peer::upstream() })
}

/// Those that can be had here. For each of the others a line says why not.
fn available(peers: &[&'static Peer], setup: Setup) -> Vec<&'static Peer> {
    let mut available = Vec::new();
    for &peer in peers {
        let started = peer.prepare().and_then(|()| with_running(peer, setup, |_| Ok(())));
        match started {
            Ok(()) => available.push(peer),
            Err(why) => println!("skipped: {}: {why}", peer.name),
        }
    }
    available
}

fn measure(peer: &Peer, workload: &Workload, setup: Setup) -> Result<Sample, String> {
    let effort = if peer.forks() { setup.effort.for_forks() } else { setup.effort };
    let setup = Setup { effort, ..setup };
    with_running(peer, setup, |process| workload.measure(process, setup).map_err(|error| error.to_string()))
}

/// Does something with a peer that has just been started, and its upstream if it is a proxy.
fn with_running<T>(
    peer: &Peer,
    setup: Setup,
    act: impl FnOnce(&Process) -> Result<T, String>,
) -> Result<T, String> {
    let echo = Task::Serve(Mode::Echo);
    let Setup { cores, upstream, .. } = setup;
    if !peer.has_upstream() {
        return act(&Process::start(peer, echo, cores.server(), None)?);
    }
    let upstream = Process::start(upstream, echo, cores.client(), None)?;
    act(&Process::start(peer, Task::Forward(upstream.address()), cores.server(), None)?)
}

/// How many descriptors for connections a process may have, the client among them.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(256)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, text)
}
