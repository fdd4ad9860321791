//! The progress bar of a running load.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

use super::interval::Interval;
use crate::cli::bench::units;

/// A bar on stderr if that is a terminal, nothing otherwise.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { bar: io::stderr().is_terminal().then(ProgressBar::no_length) }
    }

    /// Starts anew, with another activity of this many steps.
    pub(crate) fn begin(&self, activity: &'static str, steps: u64) {
        let Some(bar) = &self.bar else { return };
        let template = "{prefix:10} {wide_bar} {percent:>3}%  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(activity);
        bar.set_message("");
        bar.set_length(steps.max(1));
        bar.set_position(0);
    }

    pub(crate) fn set(&self, steps: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(steps);
        }
    }

    pub(crate) fn advance(&self, steps: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(steps);
        }
    }

    /// Shows the figures of the latest interval.
    pub(crate) fn show(&self, interval: &Interval) {
        if let Some(bar) = &self.bar {
            let (rate, p99) = (units::number(interval.rate), units::latency(interval.p99));
            bar.set_message(format!("{rate} messages/s, p99 {p99}"));
        }
    }

    /// Removes the bar from the terminal.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
