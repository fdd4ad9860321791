//! `echoloop report`: its arguments, and the figures of several logs together.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

use super::{
    bench::{
        condition::{self, ConditionArgs, Figures},
        measure::hdr_reader,
        report::{
            json,
            output::{self, Format, OutputArgs},
            page,
            run_info::RunInfo,
            table,
        },
    },
    failure::Failure,
    output_file::{OutputFile, is_same_file},
};

const HELP: &str = "\
The logs come from `echoloop bench --hdr`, or from another HdrHistogram tool (log versions 0, 1 and 2) with latencies in \
nanoseconds. Latencies are merged. Those with another program's tag have a row of their own.

Rates are added up, because the loads should have run at the same time. A warning says if they did not, if open and closed \
loops are mixed, or if a log ends in an incomplete line, which is then ignored.

The number of failed connections is known only if each log is a complete one of `bench`. If it is unknown, --fail-if \
'failures>0' holds.

Exit status: 0 for success, 1 if a log cannot be read or a --fail-if condition holds, 2 for wrong arguments.";

/// Merge latency logs of bench, such as those of several machines
#[derive(Debug, Parser)]
#[command(after_long_help = HELP)]
pub(crate) struct ReportArgs {
    /// HdrHistogram logs, as written by bench --hdr
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    conditions: ConditionArgs,

    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let conditions = &args.conditions.fail_if;
    let run_info = RunInfo::now(args.output.note.as_deref());
    check_paths(&args.files, args.output.report.as_deref())?;
    let page_file = args.output.report.as_deref().map(OutputFile::create).transpose()?;
    let merged = hdr_reader::read(&args.files)?;
    merged.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let printed = output::print(&match args.output.format {
        Format::Table => table::merged(&merged, output::columns()),
        Format::Json => json::merged(&merged)?,
    });
    if let Some(file) = page_file {
        file.finish_with(&page::merged(&merged, &run_info))?;
    }
    printed?;
    let figures = Figures { latency: &merged.latency, rate: merged.rate, failures: merged.failures };
    condition::verdict(condition::reasons(conditions, &figures))
}

/// No log is counted twice, and none is replaced by the page.
fn check_paths(logs: &[PathBuf], page: Option<&Path>) -> Result<(), Failure> {
    for (log, number) in logs.iter().zip(1..) {
        if page.is_some_and(|page| is_same_file(page, log)) {
            let why = format!("--report would overwrite {}, which is a log to read", log.display());
            return Err(Failure::arguments(why));
        }
        if logs[number..].iter().any(|other| is_same_file(other, log)) {
            return Err(Failure::arguments(format!("{} is given twice", log.display())));
        }
    }
    Ok(())
}
