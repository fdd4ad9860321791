//! A port that the sockets of all workers have, over which the kernel spreads what comes.

use std::{io, net::SocketAddr};

use socket2::Socket;

/// Whether the kernel spreads connections, and datagrams, over the sockets that share a port.
const SHARES_PORTS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Whether a socket may have the port of others.
#[derive(Clone, Copy)]
pub(super) enum PortUse {
    Alone,
    Shared,
}

impl PortUse {
    /// To be called before the socket is bound.
    pub(super) fn apply_to(self, socket: &Socket) -> io::Result<()> {
        match self {
            Self::Alone => Ok(()),
            Self::Shared => share(socket),
        }
    }
}

/// Makes a socket for each worker, or a single one where they cannot share a port. Returns them with the address that they
/// really have.
///
/// With SO_REUSEPORT a second server would not be told that the port is taken. So the first socket has it alone, and says
/// so only then that others may have it too. No socket is made that is closed again: a process that is started meanwhile would
/// have it for a moment, and the kernel would go on giving it clients, whom nobody serves.
pub(super) fn one_for_each(
    workers: usize,
    address: SocketAddr,
    make: impl Fn(SocketAddr, PortUse) -> io::Result<Socket>,
) -> io::Result<(SocketAddr, Vec<Socket>)> {
    let first = make(address, PortUse::Alone)?;
    let real = first.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    let mut sockets = vec![first];
    if workers > 1 && SHARES_PORTS {
        share(&sockets[0])?;
        for _ in 1..workers {
            sockets.push(make(real, PortUse::Shared)?);
        }
    }
    Ok((real, sockets))
}

fn share(socket: &Socket) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_reuse_port(true)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = socket;
    Ok(())
}
