//! Figures as a table for people.

use super::{outcome::Outcome, tally::Latencies, units};

/// The quantiles that are shown, and what they are called.
pub(crate) const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// Rows of cells, of which the first row and the first cells are headings.
pub(crate) type Rows = Vec<Vec<String>>;

/// All the figures of a load.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let mut text = format!("{}: {}\n", plan.address, plan.describe());
    if outcome.interrupted {
        text.push_str("ended early: these are the figures so far\n");
    }
    for rows in [demand(outcome), latency(&latencies(outcome)), ends(outcome)] {
        text.push('\n');
        text.push_str(&layout(&rows));
    }
    text
}

/// What was asked for, and what was achieved.
pub(crate) fn demand(outcome: &Outcome) -> Rows {
    let plan = &outcome.plan;
    let total = &outcome.total;
    let row = |name: &str, wanted: String, achieved: String| vec![name.to_owned(), wanted, achieved];
    let unit = if plan.churn { "connections" } else { "messages" };
    vec![
        row("", "requested".to_owned(), "achieved".to_owned()),
        row("connections", plan.connections_wanted(), units::count(outcome.connections.open_max)),
        row(&format!("{unit}/s"), plan.rate_wanted(), units::number(outcome.rate())),
        row("bytes/s", String::new(), units::bytes(outcome.byte_rate())),
        row("messages", String::new(), units::count(total.messages)),
        row("measured", plan.extent_wanted(), units::span(outcome.elapsed)),
    ]
}

/// The latencies of a load, by name.
pub(crate) fn latencies(outcome: &Outcome) -> Vec<(&'static str, &Latencies)> {
    named(&outcome.total.latency, outcome.total.uncorrected.as_ref(), &outcome.total.connect)
}

/// Latencies by name. Those of messages are called after what they count from, where that may differ.
pub(crate) fn named<'a>(
    latency: &'a Latencies,
    uncorrected: Option<&'a Latencies>,
    connect: &'a Latencies,
) -> Vec<(&'static str, &'a Latencies)> {
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
pub(crate) fn latency(latencies: &[(&str, &Latencies)]) -> Rows {
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

/// How connections ended.
pub(crate) fn ends(outcome: &Outcome) -> Rows {
    let ends = &outcome.ends;
    let reset = units::count(ends.failures.reset);
    vec![
        vec!["ends".to_owned(), format!("{} FIN, {reset} reset", units::count(ends.fin))],
        vec!["failures".to_owned(), ends.failures.summary()],
    ]
}

/// Columns under one another: the first to the left, the others to the right if there are several.
pub(crate) fn layout(rows: &Rows) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = format!("{:<12}", row[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            if row.len() == 2 {
                line.push_str(&format!("  {cell}"));
            } else {
                line.push_str(&format!("  {cell:>width$}", width = (*width).max(8)));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_one_another() {
        let cells = |row: &[&str]| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let text = layout(&vec![cells(&["latency", "p50", "max"]), cells(&["message", "12.3 µs", "1 s"])]);
        assert_eq!(
            text,
            "latency            p50       max\n\
             message        12.3 µs       1 s\n"
        );
    }

    #[test]
    fn a_latency_that_nobody_measured_is_a_dash() {
        let empty = super::super::tally::latencies();
        let rows = latency(&named(&empty, None, &empty));
        assert_eq!(rows[1], ["message", "-", "-", "-", "-", "-", "-"]);
        assert_eq!(rows.len(), 2);
    }
}
