//! Figures as a table for people.

use indicatif::HumanCount;

use super::{
    description,
    rows::{self, Rows},
};
use crate::cli::bench::{
    measure::{hdr_reader::Merged, outcome::Outcome},
    units,
};

/// All the figures of a load.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let mut text = format!("{}: {}\n", plan.address, description::load(plan));
    if outcome.interrupted {
        text.push_str("ended early: these are the figures so far\n");
    }
    if let Some(warning) = description::missed_rate(outcome) {
        text.push_str(&format!("warning: {warning}\n"));
    }
    let tables = [
        rows::requested_and_achieved(outcome),
        rows::quantiles(&rows::latencies(outcome)),
        rows::ends(outcome),
    ];
    for table in tables {
        text.push('\n');
        text.push_str(&layout(&table));
    }
    text
}

/// All the figures of merged logs.
pub(crate) fn merged(merged: &Merged, logs: usize) -> String {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let figures = vec![
        row("logs", HumanCount(logs as u64).to_string()),
        row("messages", HumanCount(merged.latency.len()).to_string()),
        row("messages/s", units::number(merged.rate)),
        row("measured", units::duration(merged.elapsed)),
    ];
    let latencies = rows::quantiles(&rows::latencies_of_logs(merged));
    format!("{}\n{}", layout(&figures), layout(&latencies))
}

/// Aligns columns: the first to the left, the others to the right. A row of two cells is not aligned to the right.
fn layout(rows: &Rows) -> String {
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
    fn columns_are_aligned() {
        let cells = |row: &[&str]| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let text = layout(&vec![cells(&["latency", "p50", "max"]), cells(&["message", "12.3 µs", "1 s"])]);
        assert_eq!(
            text,
            "latency            p50       max\n\
             message        12.3 µs       1 s\n"
        );
    }
}
