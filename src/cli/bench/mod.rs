//! `echoloop bench`, the load generator, and `echoloop report`.
//!
//! ```text
//! load          phases: connect, warm up, measure, end
//! figures       what is gathered meanwhile: samples by interval, progress, log
//! crew          the loops, each with its worker
//! pacer         the open loop's clock, on a thread of its own
//! worker        what the connections of one loop share
//! connection    the protocol: echo (what is on its way) × pattern (what it is)
//! tally, ends   latencies, and how connections ended
//! outcome       what all came to, as table, json, html (charts)
//! plan, pace, args, units, clock    leaves
//! ```

pub(crate) mod args;
mod charts;
mod clock;
mod connection;
mod crew;
mod echo;
mod ends;
mod figures;
pub(crate) mod hdr;
pub(crate) mod html;
pub(crate) mod json;
mod load;
mod outcome;
pub(crate) mod output;
mod pace;
mod pacer;
mod pattern;
mod plan;
mod progress;
mod samples;
pub(crate) mod table;
mod tally;
pub(crate) mod units;
mod worker;

use std::{io, net::TcpStream, process::ExitCode};

use echoloop::Address;

pub(crate) use self::args::BenchArgs;
use self::{
    args::Format, hdr::LogFile, load::Load, outcome::Outcome, output::PageFile, plan::Plan, worker::Event,
};
use super::{
    failure::{Failure, hint_for},
    signals::Signals,
};

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode, Failure> {
    if args.threads > args.connections {
        return Err(Failure::arguments("--threads must be at most --connections: each has one at least"));
    }
    need_descriptors(args.connections, args.threads)?;
    let address = choose(args)?;
    let page = args.output.report.as_deref().map(PageFile::create).transpose()?;
    let mut log_file = args.hdr.as_deref().map(LogFile::create).transpose()?;
    let title = format!("[echoloop bench {address}]");
    let log = log_file.as_mut().map(|file| file.begin(&title)).transpose()?;

    let load = Load::start(Plan::new(args, address))?;
    let signals = install_signals(&load)?;
    let outcome = load.run(log);
    if let Some(status) = signals.aborted() {
        return Ok(ExitCode::from(status));
    }
    let outcome = outcome?;
    if outcome.connections.made == 0 && !outcome.is_good() {
        return Err(unreachable_server(&outcome));
    }
    output::print(&match args.output.format {
        Format::Table => table::outcome(&outcome),
        Format::Json => json::outcome(&outcome)?,
    })?;
    if let Some(page) = page {
        page.write(&html::outcome(&outcome))?;
    }
    verdict(&outcome)
}

/// The first Ctrl-C ends the load early, the second the program.
fn install_signals(load: &Load) -> Result<Signals, Failure> {
    let (first, second, handles) = (load.events(), load.events(), load.handles());
    // Nobody listens when the program is about to end.
    let interrupt = move || {
        let _ = first.send(Event::Interrupted);
    };
    let abort = move || {
        handles.iter().for_each(echoloop::Handle::abort);
        let _ = second.send(Event::Aborted);
    };
    Signals::install(interrupt, abort)
        .map_err(|error| Failure::new(format!("cannot handle signals: {error}")))
}

/// Descriptors that are not connections: standard streams, files, and a few for each loop.
const DESCRIPTORS_KEPT: u64 = 16;
const DESCRIPTORS_PER_THREAD: u64 = 4;

fn need_descriptors(connections: u64, threads: u64) -> Result<(), Failure> {
    let limit = match echoloop::raise_descriptor_limit() {
        Ok(limit) => limit,
        Err(error) => {
            log::warn!("cannot raise the limit on open files: {error}");
            None
        }
    };
    let needed = connections.saturating_add(DESCRIPTORS_KEPT + threads * DESCRIPTORS_PER_THREAD);
    match limit {
        Some(limit) if needed > limit => Err(Failure::new(format!(
            "{connections} connections need {needed} open files, and the limit is {limit}"
        ))
        .hint(Some("raise the limit on open files: ulimit -n"))),
        Some(_) | None => Ok(()),
    }
}

/// The address of the server to use: of several the first that answers.
fn choose(args: &BenchArgs) -> Result<Address, Failure> {
    let mut addresses = args.address.resolve()?;
    if addresses.len() == 1 {
        return Ok(addresses.remove(0));
    }
    let mut last = None;
    for address in addresses {
        let Address::Ip(ip) = &address else { return Ok(address) };
        match TcpStream::connect_timeout(ip, args.timeout) {
            Ok(_) => return Ok(address),
            Err(error) => last = Some((address, error)),
        }
    }
    let (address, error) = last.expect("a resolved server has at least one address");
    Err(cannot_connect(&address, &error))
}

fn unreachable_server(outcome: &Outcome) -> Failure {
    let kind = outcome.ends.first_connect_error.unwrap_or(io::ErrorKind::Other);
    cannot_connect(&outcome.plan.address, &kind.into())
}

fn cannot_connect(address: &Address, error: &io::Error) -> Failure {
    Failure::new(format!("cannot connect to {address}: {error}")).hint(connect_hint(error))
}

fn connect_hint(error: &io::Error) -> Option<&'static str> {
    // Who connects gets a port from the system, and each is taken for a while after its connection has ended.
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        return Some("all local ports for that address are in use");
    }
    hint_for(error)
}

/// Whether all went well.
fn verdict(outcome: &Outcome) -> Result<ExitCode, Failure> {
    if outcome.is_good() {
        return Ok(ExitCode::SUCCESS);
    }
    let failures = &outcome.ends.failures;
    let ended = units::count(outcome.ends.fin + failures.total());
    let failed = units::count(failures.total());
    let failure = Failure::new(format!("{failed} of {ended} connections failed: {}", failures.summary()));
    Err(match outcome.ends.first_connect_error {
        Some(kind) if failures.connect_failed > 0 => failure.hint(connect_hint(&kind.into())),
        Some(_) | None => failure,
    })
}
