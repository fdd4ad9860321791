//! Where systemd listens: a Unix datagram socket with a path, or an abstract one.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Whoever wants to be told and does not read must not hold up a drain for longer.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Socket {
    patient: UnixDatagram,
    impatient: UnixDatagram,
    address: SocketAddr,
}

impl Socket {
    /// `name` is a path, or begins with @ if the socket is abstract.
    pub(super) fn to(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("neither a path nor an abstract socket")),
        };
        let (patient, impatient) = (UnixDatagram::unbound()?, UnixDatagram::unbound()?);
        patient.set_write_timeout(Some(SEND_TIMEOUT))?;
        impatient.set_nonblocking(true)?;
        Ok(Self { patient, impatient, address })
    }

    /// Waits a while until there is room.
    pub(super) fn send(&self, message: &str) -> io::Result<()> {
        self.patient.send_to_addr(message.as_bytes(), &self.address).map(|_| ())
    }

    /// If there is no room, it is not sent.
    pub(super) fn try_send(&self, message: &str) -> io::Result<()> {
        self.impatient.send_to_addr(message.as_bytes(), &self.address).map(|_| ())
    }
}

/// The time of the monotonic clock in microseconds.
pub(super) fn monotonic_usec() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // It begins at the start of the system.
    let (secs, nanos) = (now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0));
    u64::try_from(Duration::new(secs, nanos).as_micros()).unwrap_or(u64::MAX)
}
