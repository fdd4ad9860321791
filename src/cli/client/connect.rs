//! Connects to a server, over TCP or a Unix socket.

use std::{
    io::{self, ErrorKind},
    thread,
    time::{Duration, Instant},
};

use echoloop::Address;
use socket2::{Domain, SockAddr, Socket, Type};

use super::stream::Stream;
use crate::cli::{failure::Failure, tls::ClientTls};

/// A connection to the first of the server's addresses that answers.
pub(super) fn connect(
    server: &Address,
    tls: Option<&ClientTls>,
    timeout: Option<Duration>,
) -> Result<Stream, Failure> {
    let mut last = None;
    for address in server.resolve()? {
        log::debug!("connecting to {address}");
        match connect_to(&address, timeout) {
            Ok(socket) => return secured(socket, &address, tls, timeout),
            Err(error) => last = Some((address, error)),
        }
    }
    let (address, error) = last.expect("a resolved server has at least one address");
    Err(Failure::connect(&address, &error))
}

/// Over TLS, if that is wanted.
fn secured(
    socket: Socket,
    address: &Address,
    tls: Option<&ClientTls>,
    timeout: Option<Duration>,
) -> Result<Stream, Failure> {
    let Some(tls) = tls else { return Ok(Stream::Plain(socket)) };
    tls.secure(socket, timeout)
        .map(|stream| Stream::Tls(Box::new(stream)))
        .map_err(|trouble| trouble.failure(address))
}

/// A blocking socket.
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
        connect_to_path(&socket, &address, timeout)?;
        return Ok(socket);
    }
    match timeout {
        Some(timeout) => socket.connect_timeout(&address, timeout)?,
        None => socket.connect(&address)?,
    }
    // If they cannot be asked, the server is gone again, which reading tells.
    let ends = (socket.local_addr(), socket.peer_addr());
    if matches!(ends, (Ok(own), Ok(peer)) if own.as_socket() == peer.as_socket()) {
        // Nobody listens, and the system has chosen that port for our end: see RFC 9293 section 3.5.
        return Err(ErrorKind::ConnectionRefused.into());
    }
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// How long to wait before connecting is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// It connects or fails at once, except where the backlog is full. There a connect that blocks would do so for ever, and
/// one that does not tells nobody when there is room.
#[expect(clippy::disallowed_methods, reason = "nobody tells when there is room")]
fn connect_to_path(socket: &Socket, address: &SockAddr, timeout: Option<Duration>) -> io::Result<()> {
    let begin = Instant::now();
    socket.set_nonblocking(true)?;
    loop {
        match socket.connect(address) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => break result?,
        }
        if timeout.is_some_and(|timeout| begin.elapsed() >= timeout) {
            return Err(ErrorKind::TimedOut.into());
        }
        thread::sleep(PAUSE);
    }
    socket.set_nonblocking(false)
}
