//! How a load goes on, on a terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

use super::{samples::Point, units};

/// A bar on stderr if that is a terminal, nothing otherwise.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { bar: io::stderr().is_terminal().then(ProgressBar::no_length) }
    }

    /// Something else begins, of so many steps.
    pub(super) fn begin(&self, what: &'static str, steps: u64) {
        let Some(bar) = &self.bar else { return };
        let template = "{prefix:10} {wide_bar} {percent:>3}%  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(what);
        bar.set_message("");
        bar.set_length(steps.max(1));
        bar.set_position(0);
    }

    pub(super) fn set(&self, steps: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(steps);
        }
    }

    pub(super) fn advance(&self, steps: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(steps);
        }
    }

    /// Shows the figures of the latest interval.
    pub(super) fn show(&self, point: &Point) {
        if let Some(bar) = &self.bar {
            let (rate, p99) = (units::number(point.rate()), units::latency(point.p99));
            bar.set_message(format!("{rate} messages/s, p99 {p99}"));
        }
    }

    /// Leaves the terminal as it was.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
