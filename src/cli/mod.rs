//! The program: reads the command line, runs a command, and turns its outcome into an exit status.
//!
//! Each command has a file or a folder, which holds its arguments too.

mod bench;
mod client;
#[cfg_attr(not(unix), path = "without_control.rs")]
mod control;
#[cfg(unix)]
mod ctl;
mod failure;
mod health;
mod lines;
mod log_format;
mod logger;
mod ops;
mod output_file;
mod reference;
mod report;
mod serve;
mod signals;
mod stdio;
mod systemd;
#[cfg_attr(not(feature = "cli-tls"), path = "without_tls.rs")]
mod tls;
mod udp;
mod values;

use std::{env, io::ErrorKind, process::ExitCode};

use clap::{Parser, Subcommand};

#[cfg(unix)]
use self::ctl::CtlArgs;
use self::{
    bench::args::BenchArgs,
    client::ClientArgs,
    failure::Failure,
    health::HealthArgs,
    lines::Lines,
    log_format::LogFormat,
    reference::{CompletionsArgs, ManArgs},
    report::ReportArgs,
    serve::ServeArgs,
    systemd::Passed,
};

/// A TCP and UDP echo server, an echo client and a load generator
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, disable_help_subcommand = true, after_help = MORE)]
struct Args {
    /// Log lines as text or json
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "text",
        hide_possible_values = true,
        global = true
    )]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

/// Where to read on.
const MORE: &str = "\
Try `echoloop serve`, and `echoloop client` in another terminal.
`echoloop COMMAND --help` explains the options of a command, -h lists them.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(ServeArgs),
    Client(ClientArgs),
    Bench(BenchArgs),
    Report(ReportArgs),
    Health(HealthArgs),
    #[cfg(unix)]
    Ctl(CtlArgs),
    Man(ManArgs),
    Completions(CompletionsArgs),
    /// Print the command line reference in Markdown
    #[command(hide = true)]
    Reference,
}

impl Command {
    /// What is logged unless `RUST_LOG` says otherwise. The event loops of a load generator log warnings only.
    const fn log_filter(&self) -> &'static str {
        match self {
            Self::Serve(_) | Self::Client(_) => "info",
            #[cfg(unix)]
            Self::Ctl(_) => "warn",
            Self::Bench(_)
            | Self::Report(_)
            | Self::Health(_)
            | Self::Man(_)
            | Self::Completions(_)
            | Self::Reference => "warn",
        }
    }
}

/// Runs the program. Errors are one line each on stderr.
pub(crate) fn run() -> ExitCode {
    signals::unblock();
    let passed = Passed::from_env();
    let parsed = Args::try_parse();
    // What is wrong with the arguments is said in the format that they ask for.
    let format =
        parsed.as_ref().map_or_else(|_| LogFormat::asked_for(env::args_os()), |args| args.log_format);
    let stderr = Lines::to_stderr(format);
    logger::report_panics(format, &stderr);
    let status = match parsed {
        Ok(args) => {
            logger::init(format, &stderr, args.command.log_filter());
            let outcome = match args.command {
                Command::Serve(args) => serve::run(&args, passed, &stderr),
                Command::Client(args) => client::run(&args, &stderr),
                Command::Bench(args) => bench::run(&args),
                Command::Report(args) => report::run(&args),
                Command::Health(args) => health::run(&args),
                #[cfg(unix)]
                Command::Ctl(args) => ctl::run(&args),
                Command::Man(args) => reference::man(&args),
                Command::Completions(args) => reference::completions(&args),
                Command::Reference => reference::markdown(),
            };
            outcome.unwrap_or_else(|failure| report_failure(&failure, &stderr))
        }
        // --help or --version.
        Err(text) if !text.use_stderr() => match text.print() {
            // Whoever closes a pipe has read enough.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                report_failure(&Failure::stdout(&error), &stderr)
            }
            Ok(()) | Err(_) => ExitCode::SUCCESS,
        },
        Err(error) => report_failure(&Failure::usage(error), &stderr),
    };
    stderr.flush();
    status
}

fn report_failure(failure: &Failure, stderr: &Lines) -> ExitCode {
    stderr.error(&failure.to_string());
    failure.status()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
