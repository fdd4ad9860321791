//! Connects to a server, over TCP or a Unix socket.

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use echoloop::Address;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::cli::failure::{Failure, hint_for};

/// A blocking socket that is connected to the first of the server's addresses that answers.
pub(super) fn connect(server: &Address, timeout: Option<Duration>) -> Result<Socket, Failure> {
    let mut last = None;
    for address in server.resolve()? {
        log::debug!("connecting to {address}");
        match connect_to(&address, timeout) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some((address, error)),
        }
    }
    let (address, error) = last.expect("a resolved server has at least one address");
    Err(Failure::new(format!("cannot connect to {address}: {error}")).hint(hint_for(&error)))
}

fn connect_to(address: &Address, timeout: Option<Duration>) -> io::Result<Socket> {
    let address = match address {
        Address::Ip(address) => SockAddr::from(*address),
        Address::Unix(path) if cfg!(unix) => SockAddr::unix(path)?,
        Address::Unix(_) => {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "Unix sockets are not available on this system",
            ));
        }
        Address::Host { .. } | _ => return Err(ErrorKind::Unsupported.into()),
    };
    let socket = Socket::new(address.domain(), Type::STREAM, None)?;
    if address.domain() == Domain::UNIX {
        // It connects or fails at once, except where the backlog is full. There a connect with a timeout fails
        // instead of waiting.
        socket.connect(&address)?;
        return Ok(socket);
    }
    match timeout {
        Some(timeout) => socket.connect_timeout(&address, timeout)?,
        None => socket.connect(&address)?,
    }
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}
