//! The sockets of a server, as another process may be given them.

use std::{
    fmt, io,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
};

use crate::{address::Address, system::os::BoundSocket};

/// The sockets on which a server listens, as long as it does: to give them to another process, which takes its place while
/// no client is refused.
///
/// The other one puts its server together with [`Builder::inherit`](crate::Builder::inherit), and says so when it serves. Then
/// this one [leaves](Self::leave) them, and [ends](crate::Handle::drain_now).
///
/// ```
/// use echoloop::{Address, Echo, Inherited, Server};
///
/// let old = Server::<Echo>::builder().bind(["127.0.0.1:0"])?;
/// let sockets = old.sockets();
/// let inherited: Vec<_> =
///     sockets.duplicate()?.into_iter().map(|(_, fd)| Inherited::try_from(fd)).collect::<Result<_, _>>()?;
/// let new = Server::<Echo>::builder().inherit(inherited).bind(old.local_addrs().to_vec())?;
/// // It serves; then:
/// sockets.leave();
/// old.handle().drain_now();
/// new.sockets().own();
/// assert_eq!(new.local_addrs(), old.local_addrs());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Sockets(Arc<[Weak<BoundSocket>]>);

impl Sockets {
    pub(crate) fn new<'a>(bound: impl Iterator<Item = &'a Arc<BoundSocket>>) -> Self {
        let mut distinct: Vec<&Arc<BoundSocket>> = Vec::new();
        for socket in bound {
            // Workers may have duplicates of one.
            if !distinct.iter().any(|known| Arc::ptr_eq(known, socket)) {
                distinct.push(socket);
            }
        }
        Self(distinct.into_iter().map(Arc::downgrade).collect())
    }

    /// Descriptors of those that are open, and what each is bound to. The process that takes them needs all of them: who
    /// comes to one that it has not is lost.
    ///
    /// # Errors
    ///
    /// What dup(2) says.
    pub fn duplicate(&self) -> io::Result<Vec<(Address, OwnedFd)>> {
        self.open().map(|socket| socket.duplicate()).collect()
    }

    /// Another process has them, and goes on: a drain leaves it who waits in their backlogs, and the files of Unix sockets
    /// stay.
    pub fn leave(&self) {
        self.open().for_each(|socket| socket.leave());
    }

    /// Takes one [`leave`](Self::leave) back: the other process has gone. Those that were
    /// [inherited](crate::Builder::inherit) begin as if there had been one.
    pub fn own(&self) {
        self.open().for_each(|socket| socket.own());
    }

    /// Whether none is open any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open().next().is_none()
    }

    /// Those that are open.
    pub(crate) fn open(&self) -> impl Iterator<Item = Arc<BoundSocket>> {
        self.0.iter().filter_map(Weak::upgrade)
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("open", &self.open().count()).finish_non_exhaustive()
    }
}
