//! Arguments in, exit status out.

mod args;
mod bench;
mod client;
mod compare;
mod failure;
mod serve;
mod signals;
mod stderr;

use std::process::ExitCode;

use clap::Parser;

use self::{
    args::{Args, Command},
    failure::Failure,
    stderr::Stderr,
};

/// Runs the program. Errors are one line each on stderr.
pub(crate) fn run() -> ExitCode {
    let stderr = Stderr::start();
    let status = match Args::try_parse() {
        Ok(args) => {
            init_logger(&stderr, args.command.log_filter());
            let outcome = match args.command {
                Command::Serve(args) => serve::run(&args),
                Command::Client(args) => client::run(&args, &stderr),
                Command::Bench(args) => bench::run(&args),
                Command::Report(args) => bench::report::run(&args),
            };
            outcome.unwrap_or_else(|failure| report(&failure, &stderr))
        }
        Err(error) if !error.use_stderr() => {
            // --help and --version; a reader that has gone away is no error of ours.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        Err(error) => report(&Failure::usage(&error), &stderr),
    };
    stderr.flush();
    status
}

fn report(failure: &Failure, stderr: &Stderr) -> ExitCode {
    stderr.line(&format!("error: {failure}"));
    failure.status()
}

/// Logs go to stderr, from this level up unless `RUST_LOG` says otherwise, and never hold up the program.
fn init_logger(stderr: &Stderr, filter: &str) {
    use std::io::IsTerminal;

    let style = if std::io::stderr().is_terminal() {
        env_logger::WriteStyle::Auto
    } else {
        env_logger::WriteStyle::Never
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter))
        .write_style(style)
        .target(env_logger::Target::Pipe(Box::new(stderr.clone())))
        .init();
}
