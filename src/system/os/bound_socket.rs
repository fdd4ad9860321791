//! Sockets that are bound, as all see them who have them: the workers of this process, and maybe another process.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use socket2::Socket;

use super::{inherited::Inherited, unix_listener::SocketFile};
use crate::address::Address;

/// One that is bound to an address. It lives as long as a worker has it.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    address: Address,
    file: Option<SocketFile>,
    /// Open when the file goes, and to be duplicated for another process.
    socket: OwnedFd,
    /// How many know that another process has it too.
    leaves: AtomicUsize,
}

impl BoundSocket {
    pub(super) fn new(socket: &Socket, address: Address, file: Option<SocketFile>) -> io::Result<Arc<Self>> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        Ok(Arc::new(Self { address, file, socket, leaves: AtomicUsize::new(0) }))
    }

    /// One that another process has too: see [`leave`](Self::leave).
    pub(crate) fn inherited(inherited: &Inherited) -> io::Result<Arc<Self>> {
        let Inherited { address, socket, file, is_kept, .. } = inherited;
        let bound = Self::new(socket, address.clone(), file.clone())?;
        bound.leave();
        if *is_kept {
            bound.leave();
        }
        Ok(bound)
    }

    /// Its file, if it has one.
    #[cfg(feature = "ops")]
    pub(crate) const fn file(&self) -> Option<&SocketFile> {
        self.file.as_ref()
    }

    /// Another process has it too: its backlog is left to that one when this one ends, and so is the file of its path.
    pub(crate) fn leave(&self) {
        self.leaves.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes one [`leave`](Self::leave) back.
    pub(crate) fn own(&self) {
        // None to take back is fine.
        let _ = self.leaves.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    }

    pub(crate) fn is_left(&self) -> bool {
        self.leaves.load(Ordering::SeqCst) > 0
    }

    /// Its address, and a descriptor for another process.
    pub(crate) fn duplicate(&self) -> io::Result<(Address, OwnedFd)> {
        Ok((self.address.clone(), self.socket.try_clone()?))
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| !self.is_left()) {
            file.remove();
        }
    }
}
