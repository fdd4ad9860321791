//! Where figures go, and in which format.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};

use crate::cli::failure::Failure;

/// The arguments for the output of `bench` and `report`.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Output format on stdout
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,

    /// Write an HTML page with figures and charts
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,

    /// A line of text for the HTML page, such as a version
    #[arg(long, value_name = "TEXT", requires = "report")]
    pub(crate) note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables to read
    Table,
    /// One JSON object; docs/bench.md describes its fields
    Json,
}

/// Writes to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::stdout(&error))
}

/// How many columns the terminal has that stdout is; `None` if it is something else.
pub(crate) fn columns() -> Option<usize> {
    io::stdout().is_terminal().then(terminal_size::terminal_size)?.map(|(width, _)| width.0.into())
}
