//! `echoloop report`: logs of several machines put together.

use std::process::ExitCode;

use super::{
    args::{Format, ReportArgs},
    hdr::{self, Merged},
    html, json,
    output::{self, PageFile},
    table, units,
};
use crate::cli::failure::Failure;

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
