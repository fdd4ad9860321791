//! The tables on stdout. Behind each figure stands its ratio to echoloop's, or that of its relay.

use std::fmt::{self, Display, Formatter, Write};

use crate::{
    behaviour::{Behaviour, descriptors::Descriptors, late_reader::LateReader, reply::Replies},
    report::{Report, ratio},
    servers::Kind,
    workloads::{Per, Sample, Workload},
};

/// The share of the time above which other programs are in the figures.
const DISTURBED: f64 = 0.02;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.setup.in_words())?;
        if self.has_upstream() {
            let upstream = self.setup.upstream.name;
            writeln!(
                f,
                "Those that forward run on the server's core, {upstream} behind them on the client's."
            )?;
        }
        workloads(self, f)?;
        disturbance(self, f)?;
        behaviour(self, f)
    }
}

/// How a figure is shown.
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) value: fn(&Sample) -> Option<f64>,
    format: fn(f64) -> String,
}

impl Column {
    pub(super) fn show(&self, sample: &Sample) -> String {
        (self.value)(sample).map_or("–".into(), self.format)
    }
}

/// The columns of a workload; `Figure` knows their places.
pub(super) const fn columns(workload: &Workload) -> [Column; 5] {
    let (throughput, cpu) = match workload.per {
        Per::Message => ("messages/s", "CPU/message"),
        Per::Gigabyte => ("bytes/s", "CPU/GB"),
        Per::Connection => ("connections/s", "CPU/connection"),
    };
    let memory = match workload.kind {
        Kind::EchoServer | Kind::TlsServer => "memory/connection",
        Kind::Proxy => "memory/pair",
    };
    [
        Column { title: throughput, value: |sample| Some(sample.throughput), format: count },
        Column { title: cpu, value: |sample| Some(sample.cpu), format: time },
        Column { title: "p50", value: |sample| Some(sample.p50), format: time },
        Column { title: "p99", value: |sample| Some(sample.p99), format: time },
        Column { title: memory, value: |sample| sample.resident, format: bytes },
    ]
}

fn workloads(report: &Report, f: &mut Formatter<'_>) -> fmt::Result {
    for workload in report.workloads() {
        writeln!(f, "\n{}: {}\n", workload.name, workload.title)?;
        let columns = columns(workload);
        let width = report.peers(workload).map(|peer| peer.name.len()).max().unwrap_or(0).max(9);
        write!(f, "  {:<width$}", "peer")?;
        for column in &columns {
            write!(f, "  {:>17}", column.title)?;
        }
        writeln!(f)?;
        for peer in report.peers(workload) {
            writeln!(f, "  {:<width$}{}", peer.name, row(report, workload, peer.name, &columns))?;
        }
    }
    Ok(())
}

fn row(report: &Report, workload: &Workload, peer: &str, columns: &[Column]) -> String {
    let sample = match report.medians(workload, peer) {
        Ok(sample) => sample,
        Err(why) => return format!("  failed: {why}"),
    };
    let ours = report.ours(workload);
    let mut row = String::new();
    for column in columns {
        let ratio = (column.value)(&sample)
            .zip(ours.as_ref().and_then(column.value))
            .and_then(|(theirs, ours)| ratio(theirs, ours));
        let shown = ratio.map_or(String::new(), times);
        let _ = write!(row, "  {:>9} {shown:>7}", column.show(&sample));
    }
    row
}

fn disturbance(report: &Report, f: &mut Formatter<'_>) -> fmt::Result {
    let waited = 100.0 * report.disturbed;
    if report.client_shares_core() {
        return writeln!(
            f,
            "\nThe servers on its core and other programs kept the client waiting for {waited:.1} % of the time."
        );
    }
    writeln!(f, "\nOther programs kept the client waiting for {waited:.1} % of the time.")?;
    if report.disturbed > DISTURBED {
        writeln!(f, "Latencies and throughput tell of them; processor times bear it better.")?;
    }
    Ok(())
}

fn behaviour(report: &Report, f: &mut Formatter<'_>) -> fmt::Result {
    if report.behaviours.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nbehaviour")?;
    writeln!(f, "  A: a client sends 8 MiB, ends, and begins to read {:?} later", report.setup.effort.late)?;
    writeln!(f, "  B: the server replies with 2 MiB and ends while the client still sends")?;
    writeln!(f, "  C: 64 descriptors, 150 clients\n")?;
    writeln!(f, "  {:<9}  {:<24}  {:<32}  C", "peer", "A", "B")?;
    for (peer, Behaviour { late_reader, replies, descriptors }) in &report.behaviours {
        let a = verdict(late_reader, LateReader::passed, late_reader_in_words);
        let b = verdict(replies, Replies::passed, replies_in_words);
        let c = verdict(descriptors, Descriptors::passed, descriptors_in_words);
        writeln!(f, "  {:<9}  {a:<24}  {b:<32}  {c}", peer.name)?;
    }
    Ok(())
}

fn verdict<T>(seen: &Result<T, String>, passed: fn(&T) -> bool, words: fn(&T) -> String) -> String {
    match seen {
        Ok(seen) => format!("{} {}", if passed(seen) { "pass" } else { "FAIL" }, words(seen)),
        Err(why) => format!("FAIL {why}"),
    }
}

fn late_reader_in_words(seen: &LateReader) -> String {
    format!("{:.1} %, {}", 100.0 * seen.share(), seen.end.name())
}

fn replies_in_words(seen: &Replies) -> String {
    format!("{} of {}, median {:.0} %", seen.complete, seen.clients, 100.0 * seen.share)
}

fn descriptors_in_words(seen: &Descriptors) -> String {
    let mut words = format!("{} at once, {} in the end", seen.at_once, seen.served);
    if seen.dropped > 0 {
        let _ = write!(words, ", {} sent away", seen.dropped);
    }
    let _ = write!(words, ", CPU {:.1} %", 100.0 * seen.cpu);
    if seen.spins() {
        words.push_str(": spins");
    }
    if seen.died {
        words.push_str(", died");
    }
    words
}

/// A ratio.
pub(super) fn times(ratio: f64) -> String {
    if ratio < 99.5 { format!("{ratio:.2}×") } else { format!("{ratio:.0}×") }
}

fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G"])
}

fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB"])
}

fn time(nanoseconds: f64) -> String {
    scaled(nanoseconds, 1000.0, &["ns", "µs", "ms", "s"])
}

/// Three digits and a unit.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 0.9995 * step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = if value >= 99.95 || (unit == 0 && value.fract() == 0.0) {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {}", units[unit]).trim_end().into()
}
