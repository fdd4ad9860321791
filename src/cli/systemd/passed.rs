//! Sockets that were passed to this process: sd_listen_fds(3).

use std::{env, io, os::fd::OwnedFd};

use echoloop::{Address, Builder, Echo, Inherited};
use listenfd::ListenFd;

use super::listen::{self, Listen};
use crate::cli::failure::Failure;

/// What the environment says was passed.
pub(crate) struct Passed {
    names: Option<String>,
    descriptors: ListenFd,
}

/// Sockets that were passed.
#[derive(Debug)]
pub(crate) struct PassedSockets(Vec<(String, Inherited)>);

impl Passed {
    /// To be called before any thread is started, as it changes the environment.
    pub(crate) fn from_env() -> Self {
        let names = env::var("LISTEN_FDNAMES").ok();
        Self { names, descriptors: ListenFd::from_env() }
    }

    pub(crate) fn sockets(mut self) -> Result<PassedSockets, Failure> {
        let count = self.descriptors.len();
        let names = listen::names(self.names.as_deref().filter(|_| count > 0), count)?;
        let mut sockets = Vec::new();
        for (i, name) in names.into_iter().enumerate() {
            let socket = take(&mut self.descriptors, i).and_then(Inherited::try_from);
            let socket = socket.map_err(|error| {
                Failure::new(format!("cannot use the inherited socket '{}': {error}", name.escape_debug()))
            })?;
            sockets.push((name, socket));
        }
        Ok(PassedSockets(sockets))
    }
}

impl PassedSockets {
    /// What the arguments of `serve` stand for.
    pub(crate) fn addresses(&self, asked: &[Listen]) -> Result<Vec<Address>, Failure> {
        let passed: Vec<_> = self.0.iter().map(|(name, socket)| (name.as_str(), socket.address())).collect();
        listen::addresses(asked, &passed)
    }

    pub(crate) fn pass_to(self, builder: Builder<Echo>) -> Builder<Echo> {
        builder.inherit(self.0.into_iter().map(|(_, socket)| socket))
    }
}

/// One that is of none of these kinds stays where it is.
fn take(descriptors: &mut ListenFd, i: usize) -> io::Result<OwnedFd> {
    if let Ok(Some(listener)) = descriptors.take_tcp_listener(i) {
        return Ok(listener.into());
    }
    if let Ok(Some(listener)) = descriptors.take_unix_listener(i) {
        return Ok(listener.into());
    }
    if let Ok(Some(socket)) = descriptors.take_udp_socket(i) {
        return Ok(socket.into());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a stream socket nor one of UDP"))
}
