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
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use echoloop::Address;

use self::{comparison::Comparison, receiver::EchoReceiver};
use super::{
    failure::Failure,
    lines::Lines,
    values::{DEFAULT_PORT, OptionalTimeout, timeout},
};

const HELP: &str = "\
Exit status: 0 if every byte came back equal and the connection ended properly, 1 if not, 2 for wrong arguments.";

/// Connect, send a message, check that it comes back, disconnect
#[derive(Debug, Parser)]
#[command(after_long_help = HELP)]
pub(crate) struct ClientArgs {
    /// The server: HOST, HOST:PORT, [V6]:PORT or unix:PATH; each address of a host is tried in turn, and the
    /// port is 27015 if none is given
    #[arg(value_name = "HOST[:PORT]", default_value = "localhost", value_parser = server)]
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

/// An address whose port may be left out.
fn server(text: &str) -> Result<Address, echoloop::AddressError> {
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = unbracketed.parse() {
        return Ok(Address::Ip(SocketAddr::new(ip, DEFAULT_PORT)));
    }
    if text.contains(':') { text.parse() } else { format!("{text}:{DEFAULT_PORT}").parse() }
}

pub(crate) fn run(args: &ClientArgs, stderr: &Lines) -> Result<ExitCode, Failure> {
    let streams_stdin = args.message == "-";
    let socket = Arc::new(connect::connect(&args.server, args.connect_timeout.0)?);
    let comparison = Arc::new(Comparison::new());
    let source: Box<dyn Read + Send> = if streams_stdin {
        Box::new(io::stdin())
    } else {
        Box::new(Cursor::new(args.message.clone().into_bytes()))
    };
    let mut sink: Box<dyn Write> = if streams_stdin { Box::new(io::stdout()) } else { Box::new(io::sink()) };

    let sender = sender::start(source, Arc::clone(&socket), Arc::clone(&comparison))?;
    let mut receiver = EchoReceiver::new(&comparison, sender);
    let outcome = receiver.receive_all(&socket, &mut sink, args.timeout.0);
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
            writeln!(io::stdout(), "{line}").map_err(|error| Failure::stdout(&error))?;
        }
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_server_is_too_strange(text in ".{0,30}") {
            let _ = server(&text);
        }
    }

    #[test]
    fn a_server_may_be_given_without_a_port() {
        for (text, address) in [
            ("localhost", "localhost:27015"),
            ("localhost:7", "localhost:7"),
            ("127.0.0.1", "127.0.0.1:27015"),
            ("::1", "[::1]:27015"),
            ("[::1]", "[::1]:27015"),
            ("[::1]:7", "[::1]:7"),
            ("unix:/tmp/x", "unix:/tmp/x"),
        ] {
            assert_eq!(server(text).unwrap().to_string(), address);
        }
        for bad in ["a b", "[::1", "::1]", "[[::1]]"] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }
}
