//! `echoloop client`: its arguments, and the steps of the tutorial's client.
//!
//! One thread sends while another receives. A server that stops reading until its output is taken (backpressure) can
//! therefore never deadlock with this client.

mod comparison;
mod connect;
mod datagram;
mod receiver;
mod sender;
mod stream;

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
    tls::ClientTlsArgs,
    values::{OptionalTimeout, server_address, timeout},
};

const HELP: &str = "\
Half-close: after the last byte the client shuts down its sending side, and receives until the server closes too. \
Over TLS both say so by close_notify. It is an error if the server closes without it: nobody knows whether that was all.

UDP: the message is sent as one datagram, of 65,507 bytes at most. The third line of the output says whether it came back. \
UDP may lose it.

Exit status: 0 if every byte came back unchanged and, except over UDP, the server closed the connection with a FIN, or over TLS with close_notify, 1 if \
not, 2 for wrong arguments.

The server may close first: some echo one message and close. That is a success if everything is back and nothing is left \
to send. When stdin is streamed, it must have ended by then, or end within a second. Otherwise the server has closed the \
connection early.

Units: a duration (DUR) is written like 500ms, 30s, 10m or '1h 30m'; 0 or off turns a timeout off.";

/// How long the end of stdin is waited for when the server has ended the connection and everything read so far is back.
/// Who writes to a pipe may end a moment after its last byte is back; who types at a terminal is not to be waited for.
const STDIN_END_TIMEOUT: Duration = Duration::from_secs(1);

/// Send a message, and check that it comes back unchanged
///
/// The client connects, sends, compares the echo byte by byte, and disconnects.
#[derive(Debug, Parser)]
#[command(after_long_help = HELP)]
pub(crate) struct ClientArgs {
    /// The server: HOST:PORT, [V6]:PORT, udp:HOST:PORT or unix:PATH
    ///
    /// Without a port it is 27015, without a host localhost. The addresses of a host name are tried in turn.
    #[arg(value_name = "HOST[:PORT]", default_value = "localhost", value_parser = server_address)]
    server: Address,

    /// What to send; - streams stdin
    ///
    /// Stdin may be of any size, and needs a connection. Its echo goes to stdout, and the byte counts go to stderr.
    #[arg(value_name = "MESSAGE", default_value = "this is a test", allow_hyphen_values = true)]
    message: String,

    /// Give up on an address after this long
    ///
    /// Each address of a host name has this long to accept the connection. Over UDP there is none to wait for.
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = timeout)]
    connect_timeout: OptionalTimeout,

    /// Give up on a silent server after this long
    ///
    /// It counts while part of the echo, or the server's FIN, is due and no byte is sent or received.
    #[arg(long, value_name = "DUR", default_value = "60s", value_parser = timeout)]
    timeout: OptionalTimeout,

    #[command(flatten)]
    tls: ClientTlsArgs,
}

pub(crate) fn run(args: &ClientArgs, stderr: &Lines) -> Result<ExitCode, Failure> {
    let streams_stdin = args.message == "-";
    let tls = args.tls.client(&args.server)?;
    if args.server.is_udp() {
        if streams_stdin {
            return Err(Failure::arguments("- streams stdin, and UDP has no streams: give a MESSAGE"));
        }
        return datagram::run(&args.server, args.message.as_bytes(), args.timeout.0);
    }
    let stream = Arc::new(connect::connect(&args.server, tls.as_ref(), args.connect_timeout.0)?);
    let comparison = Arc::new(Comparison::new());
    let source: Box<dyn Read + Send> = if streams_stdin {
        Box::new(Waiting(io::stdin()))
    } else {
        Box::new(Cursor::new(args.message.clone().into_bytes()))
    };
    let mut stdout = Waiting(io::stdout());
    let mut nowhere = io::sink();
    let sink: &mut dyn Write = if streams_stdin { &mut stdout } else { &mut nowhere };

    let sender = Sender::start(source, Arc::clone(&stream), Arc::clone(&comparison))?;
    // The end of a message needs no waiting for.
    let source_end_timeout = streams_stdin.then_some(STDIN_END_TIMEOUT);
    let mut receiver = EchoReceiver::new(&comparison, sender, source_end_timeout);
    let outcome = receiver.receive_all(&stream, sink, args.timeout.0);
    // Closed before that is reported.
    drop(stream);
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
