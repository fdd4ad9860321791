//! `echoloop bench`: the load generator.
//!
//! ```text
//! args       the arguments
//! verdict    the error that the command ends with
//! condition  what makes it fail beside failures
//! load/      what makes the load
//! report/    how figures are presented
//! measure/   what is measured
//! plan       what load is to be made
//! rate, start_time, units, clock    leaves
//! ```
//!
//! `load` and `report` import `measure`, and neither imports the other; all three import the plan and the leaves. They
//! come together here.

pub(crate) mod args;
pub(crate) mod clock;
pub(crate) mod condition;
mod load;
pub(crate) mod measure;
mod plan;
mod rate;
pub(crate) mod report;
mod start_time;
mod units;
mod verdict;

use std::{
    io::{self, IsTerminal},
    net::TcpStream,
    process::ExitCode,
    time::Duration,
};

use echoloop::Address;

use self::{
    args::BenchArgs,
    load::{datagrams::DatagramLoad, generator::Generator, phases::Load},
    measure::{
        hdr_writer::{LatencyLog, LatencyLogFile},
        outcome::Outcome,
    },
    report::{
        description, json,
        output::{self, Format},
        page,
        run_info::RunInfo,
        table,
    },
};
use super::{
    failure::Failure,
    output_file::{OutputFile, is_same_file},
    signals::{Actions, Signals},
    tls::ClientTls,
    udp,
};

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode, Failure> {
    let run_info = RunInfo::now(args.output.note.as_deref());
    if args.threads > args.connections {
        return Err(Failure::arguments("--threads must be at most --connections: each has one at least"));
    }
    if args.address.is_udp() {
        args.check_udp()?;
    }
    let tls = args.tls.client(&args.address)?;
    need_descriptors(args.connections, args.threads)?;
    let address = choose_address(args)?;
    let mut files = Files::create(args)?;
    let log = files.log.as_mut().map(|file| file.begin(&address)).transpose()?;

    let plan = args.plan(address, tls.as_ref().map(ClientTls::connector));
    let (outcome, aborted) = if plan.address.is_udp() {
        generate(DatagramLoad::start(plan)?, log)?
    } else {
        generate(Load::start(plan)?, log)?
    };
    if let Some(status) = aborted {
        files.give_up();
        return Ok(ExitCode::from(status));
    }
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(failure) => {
            files.give_up();
            return Err(failure);
        }
    };
    if outcome.connections.made == 0 && !outcome.is_good() {
        return Err(verdict::unreachable_server(&outcome, tls.as_ref().and_then(ClientTls::trouble)));
    }
    // Whatever fails: the figures are shown, and each file is written that can be.
    let printed = output::print(&match args.output.format {
        Format::Table => table::outcome(&outcome, output::columns()),
        Format::Json => json::outcome(&outcome)?,
    });
    // A terminal that shows the table has the warning already.
    let is_shown =
        args.output.format == Format::Table && output::columns().is_some() && io::stderr().is_terminal();
    if let Some(warning) = description::missed_rate(&outcome).filter(|_| !is_shown) {
        log::warn!("{warning}");
    }
    // A run that was ended before anything was measured replaces no file.
    if !outcome.elapsed.is_zero() {
        files.finish(&page::outcome(&outcome, &run_info), outcome.failures())?;
    }
    printed?;
    verdict::verdict(&outcome, &args.conditions.fail_if)
}

/// Runs a load, which signals end early. Returns its figures, and the exit status if a signal has ended it at once.
fn generate(
    load: impl Generator,
    log: Option<LatencyLog<'_>>,
) -> Result<(Result<Outcome, Failure>, Option<u8>), Failure> {
    let signals = Signals::install(Actions::new(load.interrupter(), load.aborter()))
        .map_err(|error| Failure::new(format!("cannot handle signals: {error}")))?;
    let outcome = load.run(log);
    Ok((outcome, signals.aborted()))
}

/// The files that a run writes.
struct Files {
    log: Option<LatencyLogFile>,
    page: Option<OutputFile>,
}

impl Files {
    /// Finds out whether they can be written, before the load begins. If nothing is measured, older ones stay.
    fn create(args: &BenchArgs) -> Result<Self, Failure> {
        let (log, page) = (args.hdr.as_deref(), args.output.report.as_deref());
        if log.zip(page).is_some_and(|(log, page)| is_same_file(log, page)) {
            return Err(Failure::arguments("--hdr and --report are the same file"));
        }
        Ok(Self {
            log: log.map(LatencyLogFile::create).transpose()?,
            page: page.map(OutputFile::create).transpose()?,
        })
    }

    /// The load is over, and so many connections failed. Both files are written, even if one fails.
    fn finish(self, page: &str, failures: u64) -> Result<(), Failure> {
        let log = self.log.map_or(Ok(()), |log| log.finish(failures));
        let page = self.page.map_or(Ok(()), |file| file.finish_with(page));
        log.and(page)
    }

    /// The load did not come to its end.
    fn give_up(self) {
        if let Some(log) = self.log {
            log.keep();
        }
    }
}

/// Descriptors that are not connections: standard streams, files, and a few for each event loop.
const DESCRIPTORS_KEPT: u64 = 16;
const DESCRIPTORS_PER_THREAD: u64 = 5;

/// Fails if the limit on open files is too low, even after it was raised as far as possible.
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

/// The address of the server to use: if it has several, the first one that answers.
fn choose_address(args: &BenchArgs) -> Result<Address, Failure> {
    let mut addresses = args.address.resolve()?;
    if addresses.len() == 1 {
        return Ok(addresses.remove(0));
    }
    let mut last = None;
    for address in addresses {
        match probe(&address, args.timeout()) {
            Ok(()) => return Ok(address),
            Err(error) => last = Some((address, error)),
        }
    }
    let (address, error) = last.expect("a resolved server has at least one address");
    Err(verdict::cannot_connect(&address, &error))
}

/// Whether somebody answers at one of the addresses of a name.
fn probe(address: &Address, timeout: Duration) -> io::Result<()> {
    match address {
        Address::Ip(ip) => {
            let stream = TcpStream::connect_timeout(ip, timeout)?;
            // Nobody listens where a connection is one to itself.
            let is_own_peer = stream.local_addr().is_ok_and(|own| own == *ip);
            if is_own_peer { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
        }
        Address::Udp(ip) => {
            let socket = udp::connect(*ip)?;
            socket.send(b"is anybody there?")?;
            let answer = udp::receive(&socket, Some(timeout))?;
            answer.map(drop).ok_or_else(|| io::ErrorKind::TimedOut.into())
        }
        Address::Host { .. } | Address::UdpHost { .. } | Address::Unix(_) | _ => Ok(()),
    }
}
