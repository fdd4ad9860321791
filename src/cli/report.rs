//! `echoloop report`: its arguments, and the figures of several logs together.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use super::{
    bench::{
        args::{Format, OutputArgs},
        hdr::{self, Merged},
        html, json,
        output::{self, PageFile},
        table, units,
    },
    failure::Failure,
};

const HELP: &str = "\
The logs are those of `echoloop bench --hdr`, or any in the format of HdrHistogram with latencies in nanoseconds. \
Latencies are merged; rates are added up, because the logs of one report are of loads that ran at the same time.";

/// Merge latency logs of `bench`, for example from several machines
#[derive(Debug, Parser)]
#[command(after_long_help = HELP)]
pub(crate) struct ReportArgs {
    /// HdrHistogram logs, from one machine or many
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let page = args.output.report.as_deref().map(PageFile::create).transpose()?;
    let merged = hdr::read(&args.files)?;
    let logs = args.files.len();
    let text = match args.output.format {
        Format::Table => text(&merged, logs),
        Format::Json => json::merged(&merged, logs)?,
    };
    output::print(&text)?;
    if let Some(page) = page {
        page.write(&html::merged(&merged, logs))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(merged: &Merged, logs: usize) -> String {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let figures = vec![
        row("logs", units::count(logs as u64)),
        row("messages", units::count(merged.latency.len())),
        row("messages/s", units::number(merged.rate)),
        row("measured", units::span(merged.elapsed)),
    ];
    let latencies = table::named(&merged.latency, merged.uncorrected.as_ref(), &merged.connect);
    format!("{}\n{}", table::layout(&figures), table::layout(&table::latency(&latencies)))
}
