//! `echoloop report`: its arguments, and the figures of several logs together.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use super::{
    bench::{
        condition::{self, Condition, ConditionArgs, Figures},
        measure::hdr_reader,
        report::{
            json,
            output::{self, Format, OutputArgs, PageFile},
            page, table,
        },
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
    conditions: ConditionArgs,

    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let conditions = &args.conditions.fail_if;
    if conditions.iter().any(Condition::is_about_failures) {
        return Err(Failure::arguments(
            "logs have no failures of connections: use --fail-if 'failures>0' with bench",
        ));
    }
    let page_file = args.output.report.as_deref().map(PageFile::create).transpose()?;
    let merged = hdr_reader::read(&args.files)?;
    let logs = args.files.len();
    output::print(&match args.output.format {
        Format::Table => table::merged(&merged, logs),
        Format::Json => json::merged(&merged, logs)?,
    })?;
    if let Some(file) = page_file {
        file.write(&page::merged(&merged, logs))?;
    }
    let figures = Figures { latency: &merged.latency, rate: merged.rate, failures: 0 };
    condition::verdict(condition::reasons(conditions, &figures))
}
