//! What all servers have in common: the listening socket, and some sizes and times.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

/// What every peer reads at a time, as echoloop does.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// How long a server that cannot accept waits before it tries again.
pub(super) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A listening socket with the backlog that all have.
pub(super) fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// The same for an event loop.
pub(super) fn listen_nonblocking() -> io::Result<TcpListener> {
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Tells the parent process where the server listens.
pub(super) fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {address}")?;
    stdout.flush()
}
