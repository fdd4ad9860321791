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

/// The first column of a table, and the gap behind it.
const NAME_COLUMNS: usize = 12;
const GAP: &str = "  ";

/// All the figures of a load, for a terminal of so many columns if it is one.
pub(crate) fn outcome(outcome: &Outcome, columns: Option<usize>) -> String {
    let plan = &outcome.plan;
    let title = format!("{}: {}", plan.address, description::load(plan));
    let mut text = wrapped(&title, columns, "");
    if outcome.interrupted {
        text.push_str(&wrapped("ended early: these are the figures so far", columns, ""));
    }
    if let Some(warning) = description::missed_rate(outcome) {
        text.push_str(&wrapped(&format!("warning: {warning}"), columns, ""));
    }
    let tables = [
        rows::requested_and_achieved(outcome),
        rows::quantiles(&rows::latencies(outcome)),
        rows::ends(outcome),
    ];
    for table in tables {
        text.push('\n');
        text.push_str(&layout(&table, columns));
    }
    text
}

/// All the figures of merged logs, for a terminal of so many columns if it is one.
pub(crate) fn merged(merged: &Merged, columns: Option<usize>) -> String {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let figures = vec![
        row("logs", HumanCount(merged.logs as u64).to_string()),
        row("messages", HumanCount(merged.messages()).to_string()),
        row("messages/s", units::number(merged.rate)),
        row("measured", units::duration(merged.elapsed)),
        row("failures", rows::failures_of_logs(merged)),
    ];
    let latencies = rows::quantiles(&rows::latencies_of_logs(merged));
    format!("{}\n{}", layout(&figures, columns), layout(&latencies, columns))
}

/// A table, side by side if there is room for it.
fn layout(rows: &Rows, columns: Option<usize>) -> String {
    let text = side_by_side(rows);
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    match columns {
        Some(columns) if columns < widest => one_below_the_other(rows, columns),
        Some(_) | None => text,
    }
}

/// Aligns columns: the first to the left, the others to the right. A row of two cells is not aligned to the right.
fn side_by_side(rows: &Rows) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = format!("{:<NAME_COLUMNS$}", row[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            if row.len() == 2 {
                line.push_str(&format!("{GAP}{cell}"));
            } else {
                line.push_str(&format!("{GAP}{cell:>width$}", width = (*width).max(8)));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The same for a narrow terminal: each row is a list of its own, in which the heading names the cells.
fn one_below_the_other(rows: &Rows, columns: usize) -> String {
    let mut text = String::new();
    let mut pair = |name: &str, value: &str| {
        let line = format!("{name:<NAME_COLUMNS$}{GAP}{value}");
        text.push_str(&wrapped(line.trim_end(), Some(columns), &" ".repeat(NAME_COLUMNS + GAP.len())));
    };
    match rows.split_first() {
        Some((heading, rows)) if heading.len() > 2 => {
            for row in rows {
                pair(format!("{} {}", row[0], heading[0]).trim(), "");
                let cells = heading.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty());
                cells.for_each(|(name, cell)| pair(&format!("{GAP}{name}"), cell));
            }
        }
        _ => rows.iter().for_each(|row| pair(&row[0], row.get(1).map_or("", |cell| cell))),
    }
    text
}

/// The text in lines that fit if its words do. All lines but the first begin with the indent.
fn wrapped(text: &str, columns: Option<usize>, indent: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_inclusive(' ') {
        let width = line.chars().count() + word.trim_end().chars().count();
        if columns.is_some_and(|columns| width > columns) && !line.trim().is_empty() {
            lines.push_str(line.trim_end());
            lines.push('\n');
            line = indent.to_owned();
        }
        line.push_str(word);
    }
    lines + line.trim_end() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::measure::latencies;

    #[test]
    fn columns_are_aligned() {
        let cells = |row: &[&str]| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let rows = vec![cells(&["latency", "p50", "max"]), cells(&["message", "12.3 µs", "1 s"])];
        let text = layout(&rows, None);
        assert_eq!(layout(&rows, Some(80)), text);
        assert_eq!(
            text,
            "latency            p50       max\n\
             message        12.3 µs       1 s\n"
        );
    }

    #[test]
    fn a_narrow_terminal_gets_lists_that_fit() {
        let latencies = latencies::empty();
        let quantiles = rows::quantiles(&[("corrected", &latencies), ("uncorrected", &latencies)]);
        let pairs = vec![
            vec!["ends".to_owned(), "50 FIN, 0 reset".to_owned()],
            vec!["failures".to_owned(), "2 corrupt, 10 truncated, 3 closed early, 4 reset".to_owned()],
        ];
        let text = layout(&quantiles, Some(40)) + &layout(&pairs, Some(40));
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.starts_with("corrected latency\n  p50         -\n  p90         -\n"), "{text}");
        assert!(text.contains("\nuncorrected latency\n  p50 "), "{text}");
        assert!(
            text.contains("failures      2 corrupt, 10 truncated, 3\n              closed early, 4 reset\n"),
            "{text}"
        );
    }

    #[test]
    fn titles_are_wrapped_between_words() {
        let title = "127.0.0.1:7000: closed loop, messages of 512 B, 1 thread, seed 1";
        assert_eq!(wrapped(title, None, ""), format!("{title}\n"));
        assert_eq!(
            wrapped(title, Some(40), ""),
            "127.0.0.1:7000: closed loop, messages of\n512 B, 1 thread, seed 1\n"
        );
        assert_eq!(wrapped("a-word-that-is-longer", Some(8), ""), "a-word-that-is-longer\n");
    }
}
