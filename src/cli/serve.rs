//! `echoloop serve`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use echoloop::{CloseReason, Echo, Server};

use super::{args::ServeArgs, failure::Failure, signals::Signals};

pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    match echoloop::raise_descriptor_limit() {
        Ok(limit) => log::debug!("open files: at most {limit:?}"),
        Err(error) => log::warn!("cannot raise the limit on open files: {error}"),
    }
    let server = Server::builder().config(args.config()).bind(args.addresses.iter().cloned())?;
    let (drain, abort) = (server.handle(), server.handle());
    let signals = Signals::install(move || drain.drain(), move || abort.abort())
        .map_err(|error| Failure::new(format!("cannot handle signals: {error}")))?;
    for address in server.local_addrs() {
        say(&format!("listening on {address}"));
    }
    let stats = server.run(|_peer| Some(Echo))?;
    let cut_off = stats.closed(CloseReason::DrainTimeout);
    say(&stats.to_string());
    if let Some(status) = signals.aborted() {
        return Ok(ExitCode::from(status));
    }
    if cut_off > 0 {
        return Err(Failure::new(format!("drain: {cut_off} cut off by the drain timeout")));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line on stdout. A server whose stdout is gone serves on.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        log::warn!("cannot write to stdout: {error}");
    }
}
