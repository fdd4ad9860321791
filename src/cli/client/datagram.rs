//! Over UDP: one datagram to the server, and back.

use std::{
    io::{self, Write},
    net::UdpSocket,
    process::ExitCode,
    time::Duration,
};

use echoloop::Address;

use crate::cli::{
    failure::Failure,
    stdio::Waiting,
    udp::{PAYLOAD_MAX, connect, receive},
};

/// Sends the message to the first of the server's addresses where somebody is, and has it back.
pub(super) fn run(server: &Address, message: &[u8], timeout: Option<Duration>) -> Result<ExitCode, Failure> {
    let (socket, received) = exchange(server, message, timeout)?;
    // Closed before that is reported.
    drop(socket);
    let mut lines = vec![
        format!("Bytes sent: {}", message.len()),
        format!("Bytes received: {}", received.as_ref().map_or(0, Vec::len)),
    ];
    let outcome = match received {
        Some(received) => compare(message, &received),
        None => Err(Failure::new("timed out waiting for the server: the datagram did not come back")),
    };
    if outcome.is_ok() {
        lines.push("Datagram came back unchanged".to_owned());
    }
    let mut stdout = Waiting(io::stdout());
    for line in lines {
        writeln!(stdout, "{line}").map_err(|error| Failure::stdout(&error))?;
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// What came back, if anything did in time.
fn exchange(
    server: &Address,
    message: &[u8],
    timeout: Option<Duration>,
) -> Result<(UdpSocket, Option<Vec<u8>>), Failure> {
    let mut last = None;
    for address in server.resolve()? {
        let Address::Udp(ip) = address else { unreachable!("an address of UDP resolves to such addresses") };
        log::debug!("sending to {address}");
        let socket = match connect(ip) {
            Ok(socket) => socket,
            Err(error) => {
                last = Some((address, error));
                continue;
            }
        };
        if let Err(error) = socket.send(message) {
            return Err(cannot_send(message.len(), &address, &error));
        }
        match receive(&socket, timeout) {
            Ok(received) => return Ok((socket, received)),
            Err(error) => last = Some((address, error)),
        }
    }
    let (address, error) = last.expect("a resolved server has at least one address");
    Err(Failure::reach(&address, &error))
}

fn compare(sent: &[u8], received: &[u8]) -> Result<(), Failure> {
    if sent == received {
        return Ok(());
    }
    let place = sent.iter().zip(received).take_while(|(one, other)| one == other).count();
    let (sent, received) = (sent.len(), received.len());
    Err(Failure::new(if sent == received {
        format!("the echo differs from what was sent, from byte {place} on")
    } else {
        format!("the echo differs from what was sent: {received} bytes instead of {sent}")
    }))
}

fn cannot_send(length: usize, address: &Address, error: &io::Error) -> Failure {
    let failure = Failure::new(format!("cannot send {length} bytes to {address}: {error}"));
    failure.hint((length > PAYLOAD_MAX).then_some("a datagram has at most 65,507 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_said() {
        let error = |received: &[u8]| compare(b"abc", received).unwrap_err().to_string();
        assert!(compare(b"abc", b"abc").is_ok() && compare(b"", b"").is_ok());
        assert_eq!(error(b"abd"), "the echo differs from what was sent, from byte 2 on");
        assert_eq!(error(b""), "the echo differs from what was sent: 0 bytes instead of 3");
        assert_eq!(error(b"abcd"), "the echo differs from what was sent: 4 bytes instead of 3");
    }
}
