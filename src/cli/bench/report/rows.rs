//! The figures that the table and the page have in common, as rows of cells.

use indicatif::HumanCount;

use super::description;
use crate::cli::bench::{
    measure::{hdr_reader::Merged, latencies::Latencies, outcome::Outcome},
    units,
};

/// The quantiles that are shown, and what they are called.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// Rows of cells. The first cell of each row is a heading; so is the first row, if it has more than two cells.
pub(super) type Rows = Vec<Vec<String>>;

/// What was requested, and what was achieved.
pub(super) fn requested_and_achieved(outcome: &Outcome) -> Rows {
    let plan = &outcome.plan;
    let total = &outcome.total;
    let row = |name: &str, wanted: String, achieved: String| vec![name.to_owned(), wanted, achieved];
    let unit = if plan.churn { "connections" } else { "messages" };
    vec![
        row("", "requested".to_owned(), "achieved".to_owned()),
        row(
            "connections",
            description::connections(plan),
            HumanCount(outcome.connections.open_max).to_string(),
        ),
        row(&format!("{unit}/s"), description::rate(plan), units::number(outcome.rate())),
        row("bytes/s", String::new(), units::bytes(outcome.byte_rate())),
        row("messages", String::new(), HumanCount(total.messages).to_string()),
        row("measured", description::extent(plan), units::duration(outcome.elapsed)),
    ]
}

/// Latencies with their names.
pub(super) type Named<'a> = Vec<(&'a str, &'a Latencies)>;

/// The latencies of a load, with their names.
pub(super) fn latencies(outcome: &Outcome) -> Named<'_> {
    named(&outcome.total.latency, outcome.total.uncorrected.as_ref(), &outcome.total.connect)
}

/// The latencies of merged logs, with their names, which may be tags.
pub(super) fn latencies_of_logs(merged: &Merged) -> Named<'_> {
    let mut rows = named(&merged.latency, merged.uncorrected.as_ref(), &merged.connect);
    if merged.latency.is_empty() && !merged.tags.is_empty() {
        // Every latency in the logs has a tag.
        rows.remove(0);
    }
    rows.extend(merged.tags.iter().map(|(tag, latencies)| (&**tag, latencies)));
    rows
}

/// How many connections failed, if every log says so.
pub(super) fn failures_of_logs(merged: &Merged) -> String {
    merged.failures.map_or_else(|| "unknown".to_owned(), |failures| HumanCount(failures).to_string())
}

/// Latencies with their names. In an open loop there are two of messages, which count from when a message was due
/// (corrected) and from when it was sent (uncorrected).
fn named<'a>(
    latency: &'a Latencies,
    uncorrected: Option<&'a Latencies>,
    connect: &'a Latencies,
) -> Named<'a> {
    let mut rows = match uncorrected {
        Some(uncorrected) => vec![("corrected", latency), ("uncorrected", uncorrected)],
        None => vec![("message", latency)],
    };
    if !connect.is_empty() {
        rows.push(("connect", connect));
    }
    rows
}

/// Latencies at the quantiles.
pub(super) fn quantiles(latencies: &[(&str, &Latencies)]) -> Rows {
    let names = QUANTILES.iter().map(|&(name, _)| name).chain(["max"]);
    let mut rows = vec![["latency"].into_iter().chain(names).map(str::to_owned).collect::<Vec<_>>()];
    for (name, histogram) in latencies {
        let mut row = vec![(*name).to_owned()];
        if histogram.is_empty() {
            row.resize(QUANTILES.len() + 2, "-".to_owned());
        } else {
            let values = QUANTILES.iter().map(|&(_, quantile)| histogram.value_at_quantile(quantile));
            row.extend(values.chain([histogram.max()]).map(units::latency));
        }
        rows.push(row);
    }
    rows
}

/// How connections ended, or which datagrams did not come back as they should.
pub(super) fn ends(outcome: &Outcome) -> Rows {
    let ends = &outcome.ends;
    let first = match &outcome.datagrams {
        Some(datagrams) => ["datagrams".to_owned(), datagrams.summary()],
        None => {
            let reset = HumanCount(ends.failures.reset);
            ["ends".to_owned(), format!("{} FIN, {reset} reset", HumanCount(ends.fin))]
        }
    };
    let tls = outcome.tls.iter().map(|handshakes| vec!["TLS".to_owned(), handshakes.summary()]);
    let failures = vec!["failures".to_owned(), outcome.failure_summary()];
    [first.into()].into_iter().chain(tls).chain([failures]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::measure::latencies;

    #[test]
    fn a_latency_that_nobody_measured_is_a_dash() {
        let empty = latencies::empty();
        let rows = quantiles(&named(&empty, None, &empty));
        assert_eq!(rows[1], ["message", "-", "-", "-", "-", "-", "-"]);
        assert_eq!(rows.len(), 2);
    }
}
