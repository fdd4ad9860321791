//! `echoloop client`: its arguments, and the steps of the tutorial's client.
//!
//! One thread sends while another receives. A server that stops reading until its output is taken (backpressure) can
//! therefore never deadlock with this client.

mod comparison;
mod connect;
mod receiver;
mod sender;

use std::{
    io::{self, Cursor, Read, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use echoloop::Address;

use self::{comparison::Comparison, receiver::EchoReceiver, sender::Sender};
use super::{
    failure::Failure,
    lines::Lines,
    stdio::Waiting,
    values::{OptionalTimeout, server_address, timeout},
};

const HELP: &str = "\
Exit status: 0 if every byte that was to be sent came back equal and the server ended the connection properly, 1 if \
not, 2 for wrong arguments.

The server may be the first to end the connection: some echo one message and close. That is success if everything is \
back and nothing more is to be sent. When stdin is streamed, it must have ended by then, or end within a second; \
otherwise the server has closed the connection early.";

/// How long the end of stdin is waited for when the server has ended the connection and everything read so far is back.
/// Who writes to a pipe may end a moment after its last byte is back; who types at a terminal is not to be waited for.
const STDIN_END_TIMEOUT: Duration = Duration::from_secs(1);

/// Connect, send a message, check that it comes back, disconnect
#[derive(Debug, Parser)]
#[command(after_long_help = HELP)]
pub(crate) struct ClientArgs {
    /// The server: HOST:PORT, [V6]:PORT or unix:PATH. The port is 27015 if none is given, the host localhost. Each address
    /// of a host name is tried in turn
    #[arg(value_name = "HOST[:PORT]", default_value = "localhost", value_parser = server_address)]
    server: Address,

    /// What to send. `-` streams stdin, of any size, writes the echo to stdout and the counts to stderr
    #[arg(value_name = "MESSAGE", default_value = "this is a test", allow_hyphen_values = true)]
    message: String,

    /// Give up an address that does not answer for this long
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = timeout)]
    connect_timeout: OptionalTimeout,

    /// Give up if the server owes an answer and no byte is sent or received for this long
    #[arg(long, value_name = "DUR", default_value = "60s", value_parser = timeout)]
    timeout: OptionalTimeout,
}

pub(crate) fn run(args: &ClientArgs, stderr: &Lines) -> Result<ExitCode, Failure> {
    let streams_stdin = args.message == "-";
    let socket = Arc::new(connect::connect(&args.server, args.connect_timeout.0)?);
    let comparison = Arc::new(Comparison::new());
    let source: Box<dyn Read + Send> = if streams_stdin {
        Box::new(Waiting(io::stdin()))
    } else {
        Box::new(Cursor::new(args.message.clone().into_bytes()))
    };
    let mut stdout = Waiting(io::stdout());
    let mut nowhere = io::sink();
    let sink: &mut dyn Write = if streams_stdin { &mut stdout } else { &mut nowhere };

    let sender = Sender::start(source, Arc::clone(&socket), Arc::clone(&comparison))?;
    // The end of a message needs no waiting for.
    let source_end_timeout = streams_stdin.then_some(STDIN_END_TIMEOUT);
    let mut receiver = EchoReceiver::new(&comparison, sender, source_end_timeout);
    let outcome = receiver.receive_all(&socket, sink, args.timeout.0);
    // Closed before that is reported.
    drop(socket);
    let mut lines = vec![
        format!("Bytes sent: {}", comparison.sent()),
        format!("Bytes received: {}", receiver.received()),
    ];
    if outcome.is_ok() {
        lines.push("Connection closed".to_owned());
    }
    for line in lines {
        if streams_stdin {
            stderr.line(&line);
        } else {
            writeln!(stdout, "{line}").map_err(|error| Failure::stdout(&error))?;
        }
    }
    outcome.map(|()| ExitCode::SUCCESS)
}
