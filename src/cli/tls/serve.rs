//! TLS of `serve`: its arguments, and what comes of them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use echoloop::{Address, Config, TlsAcceptor};
use rustls::{
    ServerConfig,
    crypto::ring::Ticketer,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};

use super::{
    certificates::{self, Certificates},
    files,
    fingerprint::fingerprint,
    protocols::{Protocol, protocol},
    provider,
    reload::Current,
};
use crate::cli::{
    failure::Failure,
    values::{OptionalTimeout, timeout},
};

/// With a certificate every listener speaks TLS.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeTlsArgs {
    /// TLS: the server's certificate chain, in PEM
    ///
    /// All listeners then speak TLS. It can be given several times, each with a --tls-key: a client gets the first
    /// certificate that matches the name it asks for (SNI), or else the first.
    #[arg(long, value_name = "FILE", requires = "tls_key", group = "tls_identity")]
    tls_cert: Vec<PathBuf>,

    /// TLS: the private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Vec<PathBuf>,

    /// TLS with a new self-signed certificate, for a trial
    ///
    /// It is valid for localhost and the hosts of the listeners. Its fingerprint is printed.
    #[arg(long, group = "tls_identity")]
    tls_self_signed: bool,

    /// Mutual TLS: require client certificates that one of these CAs has signed
    #[arg(long, value_name = "FILE", requires = "tls_identity")]
    tls_client_ca: Option<PathBuf>,

    /// ALPN: the protocols that the server accepts, best first
    ///
    /// A client that offers only others is refused. One that offers none is served.
    #[arg(long, value_name = "P,...", value_delimiter = ',', value_parser = protocol, requires = "tls_identity")]
    alpn: Vec<Protocol>,

    /// Give up on a TLS handshake after this long
    #[arg(
        long,
        value_name = "DUR",
        default_value = "10s",
        value_parser = timeout,
        requires = "tls_identity"
    )]
    handshake_timeout: OptionalTimeout,
}

/// The server's end of TLS.
#[derive(Debug)]
pub(crate) struct ServerTls {
    args: ServeTlsArgs,
    current: Current,
    /// A certificate that was made for a trial.
    made: Option<Arc<CertifiedKey>>,
}

impl ServeTlsArgs {
    pub(crate) fn configure(&self, config: &mut Config) {
        config.handshake_timeout = self.handshake_timeout.0;
    }

    /// What the arguments ask for, for a server that listens there; `None` if that is no TLS.
    pub(crate) fn server(&self, addresses: &[Address]) -> Result<Option<ServerTls>, Failure> {
        if self.tls_cert.is_empty() && !self.tls_self_signed {
            return Ok(None);
        }
        if let Some(address) = addresses.iter().find(|address| address.is_udp()) {
            return Err(Failure::arguments(format!("TLS is for streams, and {address} has none")));
        }
        let (certificates, keys) = (self.tls_cert.len(), self.tls_key.len());
        if certificates != keys {
            return Err(Failure::arguments(format!(
                "each --tls-cert needs its --tls-key: there are {certificates} and {keys}"
            )));
        }
        let made = self.tls_self_signed.then(|| certificates::self_signed(addresses)).transpose()?;
        let current = Current::new(self.config(made.as_ref())?);
        Ok(Some(ServerTls { args: self.clone(), current, made }))
    }

    /// As the files are now.
    fn config(&self, made: Option<&Arc<CertifiedKey>>) -> Result<ServerConfig, Failure> {
        let certificates = match made {
            Some(made) => vec![Arc::clone(made)],
            None => {
                let pairs = self.tls_cert.iter().zip(&self.tls_key);
                pairs
                    .map(|(certificate, key)| certificates::read(certificate, key))
                    .collect::<Result<_, _>>()?
            }
        };
        let cannot = |error: rustls::Error| Failure::new(format!("cannot use TLS: {error}"));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(cannot)?;
        let builder = match &self.tls_client_ca {
            Some(path) => builder.with_client_cert_verifier(client_verifier(path)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Certificates::new(certificates)));
        config.alpn_protocols.clone_from(&self.alpn);
        // Nothing is kept of sessions that could be resumed. Whoever has a ticket of before a reload begins anew: what it was
        // given for may not hold any more.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new().map_err(cannot)?;
        Ok(config)
    }
}

/// Refuses clients without a certificate that one of those in a file has signed.
fn client_verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, Failure> {
    let (roots, _) = files::roots(path)?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| Failure::new(format!("{} cannot be used: {error}", path.display())))
}

impl ServerTls {
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.current.acceptor()
    }

    /// A function that reads the files again.
    pub(crate) fn reloader(
        &self,
        done: impl Fn(Result<(), String>) + Send + Sync + 'static,
    ) -> impl Fn() + Send + 'static {
        let (args, made) = (self.args.clone(), self.made.clone());
        self.current.reloader(move || args.config(made.as_ref()), done)
    }

    /// What whoever starts the server is told, which listens there.
    pub(crate) fn introduction(&self, listening: &[Address]) -> Vec<String> {
        let certificate = self.made.as_ref().and_then(|made| made.end_entity_cert().ok());
        let (Some(certificate), Some(address)) = (certificate, listening.first()) else { return Vec::new() };
        vec![
            format!("self-signed certificate, SHA-256 {}", fingerprint(certificate)),
            format!("try it with: echoloop client --tls --insecure {address}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        tls: ServeTlsArgs,
    }

    fn parse(args: &[&str]) -> Result<ServeTlsArgs, clap::Error> {
        Line::try_parse_from([&["serve"], args].concat()).map(|line| line.tls)
    }

    #[test]
    fn options_that_need_a_certificate_say_so() {
        for args in [
            &["--tls-cert", "a"][..],
            &["--tls-key", "a"],
            &["--tls-client-ca", "a"],
            &["--alpn", "h2"],
            &["--handshake-timeout", "1s"],
            &["--tls-self-signed", "--tls-cert", "a", "--tls-key", "b"],
            &["--tls-self-signed", "--alpn", ""],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
        assert!(parse(&[]).unwrap().server(&[]).unwrap().is_none());
        let pairs =
            parse(&["--tls-cert", "a", "--tls-key", "b", "--tls-cert", "c", "--tls-key", "d"]).unwrap();
        assert_eq!((pairs.tls_cert.len(), pairs.tls_key.len()), (2, 2));
        let odd = parse(&["--tls-cert", "a", "--tls-key", "b", "--tls-cert", "c"]).unwrap();
        let error = odd.server(&[]).unwrap_err().to_string();
        assert_eq!(error, "each --tls-cert needs its --tls-key: there are 2 and 1 (try --help)");
    }

    #[test]
    fn protocols_are_a_list_and_the_timeout_is_that_of_the_library() {
        let args = parse(&["--tls-self-signed", "--alpn", "h2,http/1.1"]).unwrap();
        assert_eq!(args.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert_eq!(args.handshake_timeout.0, Config::default().handshake_timeout);
        let mut config = Config::default();
        parse(&["--tls-self-signed", "--handshake-timeout", "off"]).unwrap().configure(&mut config);
        assert_eq!(config.handshake_timeout, None);
    }
}
