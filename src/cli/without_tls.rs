//! The program without TLS: it has no options for it.

use std::{convert::Infallible, io, time::Duration};

use clap::Args;
use echoloop::{Address, Config, TlsAcceptor, TlsConnector};
use socket2::Socket;

use super::failure::Failure;

/// No options.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeTlsArgs {}

/// There is none.
#[derive(Clone, Debug)]
pub(crate) struct ServerTls(Infallible);

impl ServeTlsArgs {
    pub(crate) const fn configure(&self, _: &mut Config) {}

    pub(crate) const fn server(&self, _: &[Address]) -> Result<Option<ServerTls>, Failure> {
        Ok(None)
    }
}

impl ServerTls {
    pub(crate) const fn acceptor(&self) -> TlsAcceptor {
        match self.0 {}
    }

    pub(crate) fn reloader(
        &self,
        _: impl Fn(Result<(), String>) + Send + Sync + 'static,
    ) -> impl Fn() + Send + 'static {
        let never = self.0;
        move || match never {}
    }

    pub(crate) const fn introduction(&self, _: &[Address]) -> Vec<String> {
        match self.0 {}
    }
}

/// No options.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientTlsArgs {}

/// There is none.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls(Infallible);

/// There is none.
#[derive(Debug)]
pub(crate) struct TlsStream(Infallible);

/// There is none.
#[derive(Clone, Debug)]
pub(crate) struct Trouble(Infallible);

/// No options.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchTlsArgs {}

impl BenchTlsArgs {
    pub(crate) const fn client(&self, _: &Address) -> Result<Option<ClientTls>, Failure> {
        Ok(None)
    }
}

impl Trouble {
    pub(crate) const fn failure(&self, _: &Address) -> Failure {
        match self.0 {}
    }
}

impl ClientTlsArgs {
    pub(crate) const fn client(&self, _: &Address) -> Result<Option<ClientTls>, Failure> {
        Ok(None)
    }
}

impl ClientTls {
    pub(crate) fn secure(&self, _: Socket, _: Option<Duration>) -> Result<TlsStream, Trouble> {
        match self.0 {}
    }

    pub(crate) const fn connector(&self) -> TlsConnector {
        match self.0 {}
    }

    pub(crate) const fn trouble(&self) -> Option<&Trouble> {
        match self.0 {}
    }
}

impl TlsStream {
    pub(crate) const fn socket(&self) -> &Socket {
        match self.0 {}
    }

    pub(crate) const fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(crate) const fn write_all(&self, _: &[u8]) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) const fn close_notify(&self) -> io::Result<()> {
        match self.0 {}
    }
}
