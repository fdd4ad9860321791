//! Where no other process can be given a socket.

use std::{convert::Infallible, io, sync::Arc};

use socket2::Socket;

use crate::address::Address;

/// A socket that is bound: nothing has to be known of it.
#[derive(Debug)]
pub(crate) struct BoundSocket;

impl BoundSocket {
    pub(super) fn new(_: &Socket, _: Address, _: Option<Infallible>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self))
    }

    pub(super) fn is_left(&self) -> bool {
        false
    }
}
