//! The sending direction, on a thread of its own.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use socket2::Socket;

use super::comparison::Comparison;
use crate::cli::failure::Failure;

const BUFFER_BYTES: usize = 64 << 10;

/// Why the sender ended before its source did.
#[derive(Debug)]
pub(super) enum SendFailure {
    Source(io::Error),
    Socket(io::Error),
}

pub(super) type SendOutcome = Result<(), SendFailure>;

/// Starts a thread that sends everything that the source gives, and then shuts down the sending side (a half-close).
pub(super) fn start(
    source: Box<dyn Read + Send>,
    socket: Arc<Socket>,
    comparison: Arc<Comparison>,
) -> Result<Receiver<SendOutcome>, Failure> {
    let (done, outcome) = sync_channel(1);
    thread::Builder::new()
        .name("sender".to_owned())
        .spawn(move || {
            // The outcome is reported before the shutdown: when the server answers that with its own FIN, the
            // receiving thread already knows the outcome. That thread may have ended the program by now; and if the
            // shutdown fails, the server is gone, which that thread sees too.
            let _ = done.send(send_all(source, &socket, &comparison));
            let _ = socket.shutdown(Shutdown::Write);
        })
        .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
    Ok(outcome)
}

fn send_all(mut source: Box<dyn Read + Send>, mut socket: &Socket, comparison: &Comparison) -> SendOutcome {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                comparison.send(&buffer[..n]);
                socket.write_all(&buffer[..n]).map_err(SendFailure::Socket)?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(SendFailure::Source(error)),
        }
    }
}
