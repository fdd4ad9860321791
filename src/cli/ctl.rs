//! `echoloop ctl`: what an operator asks a running server, over its control socket.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use log::LevelFilter;

use super::{control::takeover_path, failure::Failure, reference, values::duration};

/// Steer a server that was started with --control
///
/// The exit status is 0 if it has done what was asked, and 1 if not, or if it does not answer.
#[derive(Debug, Parser)]
pub(crate) struct CtlArgs {
    /// The path of its control socket
    #[arg(value_name = "PATH", value_parser = takeover_path)]
    path: PathBuf,

    #[command(subcommand)]
    order: Order,

    /// Print status and list as JSON
    #[arg(long, global = true)]
    json: bool,

    /// Give up after this long
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = duration, global = true)]
    timeout: Duration,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Say what each worker is doing, and what was counted
    Status,
    /// Say what each connection is doing
    List,
    /// Reset a connection
    Kill {
        /// As list shows it
        id: String,
    },
    /// Be not ready any more, so that load balancers send clients elsewhere; go on serving
    Drain,
    /// Be ready again
    Undrain,
    /// End gracefully, as with SIGTERM
    Stop,
    /// Read the TLS certificates again, as with SIGHUP
    Reload,
    /// Log this much from now on: off, error, warn, info, debug or trace
    LogLevel {
        /// How much
        #[arg(value_parser = level)]
        level: LevelFilter,
    },
}

impl Order {
    fn request(&self) -> String {
        match self {
            Self::Status => "status".to_owned(),
            Self::List => "list".to_owned(),
            Self::Kill { id } => format!("kill {id}"),
            Self::Drain => "drain".to_owned(),
            Self::Undrain => "undrain".to_owned(),
            Self::Stop => "stop".to_owned(),
            Self::Reload => "reload".to_owned(),
            Self::LogLevel { level } => format!("log-level {}", level.as_str().to_lowercase()),
        }
    }
}

fn level(text: &str) -> Result<LevelFilter, &'static str> {
    text.parse().map_err(|_| "it is off, error, warn, info, debug or trace")
}

pub(crate) fn run(args: &CtlArgs) -> Result<ExitCode, Failure> {
    let json = if args.json { "json " } else { "" };
    let request = format!("{json}{}\n", args.order.request());
    if request.matches(char::is_control).count() > 1 {
        return Err(Failure::arguments("an ID has no control characters"));
    }
    let answer = ask(args, &request).map_err(|error| {
        Failure::new(format!("the server at {} does not answer: {error}", args.path.display()))
    })?;
    let (outcome, content) = answer.split_once('\n').unwrap_or((&answer, ""));
    if outcome != "ok" {
        let no_answer =
            if outcome.is_empty() { "it has ended without an answer" } else { "it is no control socket" };
        let why = outcome.strip_prefix("error: ").unwrap_or(no_answer);
        return Err(Failure::new(why.to_owned()));
    }
    reference::print(content.as_bytes())
}

fn ask(args: &CtlArgs, request: &str) -> io::Result<String> {
    let timeout = Some(args.timeout).filter(|timeout| !timeout.is_zero());
    let mut stream = UnixStream::connect(&args.path)?;
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    match stream.write_all(request.as_bytes()) {
        // Why it is refused is there to be read.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result?,
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // What a timeout of a socket is called on Unix.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
        // Who is turned away is not listened to first.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => {}
        result => drop(result?),
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
