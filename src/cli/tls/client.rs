//! TLS of those who connect: their arguments, and what comes of them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use echoloop::{Address, TlsConnector};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{IpAddr, ServerName},
};
use socket2::Socket;

use super::{
    files,
    protocols::{Protocol, protocol},
    provider,
    sessions::Sessions,
    stream::TlsStream,
    trouble::{Trouble, unusable},
    verifier::Verifier,
};
use crate::cli::failure::Failure;

/// How the server is to be reached over TLS.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientTlsArgs {
    /// Connect over TLS
    #[arg(long)]
    tls: bool,

    /// Trust the certificates in this PEM file [default: those that the system trusts]
    ///
    /// They can be those of CAs, or a self-signed one of the server.
    #[arg(long, value_name = "FILE", requires = "tls", conflicts_with = "insecure")]
    ca: Option<PathBuf>,

    /// Do not check the server's certificate
    ///
    /// Its fingerprint is logged, to compare it by hand.
    #[arg(long, requires = "tls")]
    insecure: bool,

    /// The name in the server's certificate [default: the host of the address]
    ///
    /// It is also sent to the server (SNI).
    #[arg(long, value_name = "NAME", requires = "tls", value_parser = server_name)]
    server_name: Option<ServerName<'static>>,

    /// ALPN: the protocols to offer, best first
    #[arg(long, value_name = "P,...", value_delimiter = ',', value_parser = protocol, requires = "tls")]
    alpn: Vec<Protocol>,

    /// Mutual TLS: the client's certificate chain, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls", "key"])]
    cert: Option<PathBuf>,

    /// Mutual TLS: its private key, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls", "cert"])]
    key: Option<PathBuf>,
}

/// The same for a load.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchTlsArgs {
    #[command(flatten)]
    client: ClientTlsArgs,

    /// Resume TLS sessions if the server allows it [default: full handshakes]
    ///
    /// It matters with --churn. The report counts both kinds.
    #[arg(long, requires = "tls")]
    tls_resume: bool,
}

/// The name of a server, or its IP address.
fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|_| "it must be a host name or an IP address".to_owned())
}

/// The client's end of TLS.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    verifier: Arc<Verifier>,
}

impl ClientTlsArgs {
    /// What the arguments ask for, of a server that is there; `None` if that is no TLS.
    pub(crate) fn client(&self, server: &Address) -> Result<Option<ClientTls>, Failure> {
        if !self.tls {
            return Ok(None);
        }
        if server.is_udp() {
            return Err(Failure::arguments("--tls is for streams, and UDP has none"));
        }
        let name = self.server_name.clone().map_or_else(|| name_of(server), Ok)?;
        let verifier = Arc::new(self.verifier()?);
        let cannot = |error: rustls::Error| Failure::new(format!("cannot use TLS: {error}"));
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(cannot)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _);
        let mut config = match self.cert.as_ref().zip(self.key.as_ref()) {
            Some((certificate, key)) => {
                let (chain, secret) = (files::certificates(certificate)?, files::key(key)?);
                let config = builder.with_client_auth_cert(chain, secret);
                config.map_err(|error| unusable(&error, certificate, key))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        // Each handshake is a whole one, unless it is asked for otherwise.
        config.resumption = Resumption::disabled();
        Ok(Some(ClientTls { config: Arc::new(config), name, verifier }))
    }

    fn verifier(&self) -> Result<Verifier, Failure> {
        match &self.ca {
            _ if self.insecure => Ok(Verifier::insecure()),
            Some(path) => {
                let (roots, named) = files::roots(path)?;
                Verifier::trusting(roots, named)
            }
            None => Verifier::trusting(system_roots()?, Vec::new()),
        }
    }
}

impl BenchTlsArgs {
    /// See [`ClientTlsArgs::client`].
    pub(crate) fn client(&self, server: &Address) -> Result<Option<ClientTls>, Failure> {
        let client = self.client.client(server)?;
        if !self.tls_resume {
            return Ok(client);
        }
        Ok(client.map(|client| {
            let mut config = (*client.config).clone();
            config.resumption = Resumption::store(Arc::new(Sessions::default()));
            ClientTls { config: Arc::new(config), ..client }
        }))
    }
}

/// The certificates that this machine trusts.
fn system_roots() -> Result<RootCertStore, Failure> {
    let found = rustls_native_certs::load_native_certs();
    found.errors.iter().for_each(|error| log::debug!("certificates of this system: {error}"));
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let failure = Failure::new("this system has no certificates that it trusts");
        return Err(failure.hint(Some("--ca FILE or --insecure")));
    }
    Ok(roots)
}

/// Whose certificate is wanted where a server is.
fn name_of(server: &Address) -> Result<ServerName<'static>, Failure> {
    match server {
        Address::Ip(address) => Ok(ServerName::IpAddress(IpAddr::from(address.ip()))),
        Address::Host { name, .. } => server_name(name).map_err(|_| {
            Failure::arguments(format!("{name} is no name of a certificate: give --server-name"))
        }),
        // It is this machine.
        Address::Unix(_) | _ => Ok(server_name("localhost").expect("a name")),
    }
}

impl ClientTls {
    /// Makes a connection over TLS of one without, in this time.
    pub(crate) fn secure(&self, socket: Socket, timeout: Option<Duration>) -> Result<TlsStream, Trouble> {
        let stream = TlsStream::handshake(socket, Arc::clone(&self.config), self.name.clone(), timeout)?;
        if let Some(fingerprint) = self.verifier.unchecked() {
            log::warn!("the server's certificate was not checked; its SHA-256 is {fingerprint}");
        }
        Ok(stream)
    }

    /// For an event loop.
    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::new(Arc::clone(&self.config), &self.name.to_str()).expect("it is a name already")
    }

    /// What was wrong with the first certificate that was refused.
    pub(crate) fn trouble(&self) -> Option<&Trouble> {
        self.verifier.trouble()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_the_certificate_is_the_host_unless_another_is_given() {
        let name = |text: &str| name_of(&text.parse().unwrap()).map(|name| name.to_str().into_owned());
        assert_eq!(name("echo.example:7").unwrap(), "echo.example");
        assert_eq!(name("127.0.0.1:7").unwrap(), "127.0.0.1");
        assert_eq!(name("[::1]:7").unwrap(), "::1");
        assert_eq!(name("unix:/tmp/x").unwrap(), "localhost");
        assert!(name("under_score..example:7").unwrap_err().to_string().contains("--server-name"));
    }
}
