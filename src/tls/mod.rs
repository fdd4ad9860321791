//! TLS: a layer between a connection and its socket. See RFC 8446.
//!
//! Everything above works on plaintext: protocols, framing, relays between connections, limits, drains. Ends are kept as
//! they are without TLS: close_notify takes the place of FIN, and never follows a loss.

#[cfg(feature = "tls")]
mod rustls_session;
pub(crate) mod scratch;
pub(crate) mod session;
pub(crate) mod toy;

use std::{fmt, io, sync::Arc};

use self::session::Session;

/// What a TLS handshake has agreed on: [`Peer::tls`](crate::Peer::tls), [`Context::tls`](crate::Context::tls).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The name of the server that the client wants (SNI, RFC 6066 section 3), where we are the server.
    pub server_name: Option<String>,
    /// The protocol that was chosen (ALPN, RFC 7301).
    pub alpn: Option<Vec<u8>>,
    /// `"TLS 1.2"` or `"TLS 1.3"`.
    pub version: &'static str,
    /// The cipher suite, such as `"TLS13_AES_128_GCM_SHA256"`.
    pub cipher_suite: &'static str,
    /// The peer's certificates in DER, its own first. None if it has shown none: clients need not, unless it is asked for.
    pub peer_certificates: Vec<Vec<u8>>,
    /// Whether both had keys from an earlier connection.
    pub is_resumed: bool,
}

/// The server's end of TLS: for [`Builder::listen_tls`](crate::Builder::listen_tls) and
/// [`Context::start_tls`](crate::Context::start_tls).
///
/// With the feature `tls` it is made from a `rustls::ServerConfig`.
#[derive(Clone)]
pub struct TlsAcceptor(Arc<Sessions>);

/// The client's end of TLS: for [`Context::connect_tls`](crate::Context::connect_tls) and
/// [`Context::start_tls`](crate::Context::start_tls).
///
/// With the feature `tls` it is made from a `rustls::ClientConfig`.
#[derive(Clone)]
pub struct TlsConnector(Arc<Sessions>);

/// Makes sessions.
type Sessions = dyn Fn() -> io::Result<Box<dyn Session>> + Send + Sync;

impl TlsAcceptor {
    /// Whose sessions are these.
    #[doc(hidden)]
    pub fn of_sessions(make: impl Fn() -> io::Result<Box<dyn Session>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// Asks `config` for each handshake: certificates can be renewed while the server runs.
    ///
    /// ```no_run
    /// use std::sync::{Arc, RwLock};
    /// use echoloop::{Echo, Server, TlsAcceptor};
    /// use rustls::{
    ///     ServerConfig,
    ///     pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    /// };
    ///
    /// fn load() -> Result<Arc<ServerConfig>, Box<dyn std::error::Error>> {
    ///     let chain = CertificateDer::pem_file_iter("cert.pem")?.collect::<Result<_, _>>()?;
    ///     let key = PrivateKeyDer::from_pem_file("key.pem")?;
    ///     Ok(Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?))
    /// }
    ///
    /// let config = Arc::new(RwLock::new(load()?));
    /// let current = Arc::clone(&config);
    /// let acceptor = TlsAcceptor::with(move || Arc::clone(&current.read().expect("no writer panics")));
    /// let server = Server::<Echo>::builder().listen_tls("127.0.0.1:27443", acceptor).bind([] as [&str; 0])?;
    /// // When the files have changed:
    /// let renewed = load()?;
    /// *config.write().expect("no writer panics") = renewed;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with(config: impl Fn() -> Arc<rustls::ServerConfig> + Send + Sync + 'static) -> Self {
        Self::of_sessions(move || Ok(Box::new(rustls_session::RustlsSession::server(config()))))
    }

    pub(crate) fn session(&self) -> io::Result<Box<dyn Session>> {
        self.0()
    }
}

#[cfg(feature = "tls")]
impl From<Arc<rustls::ServerConfig>> for TlsAcceptor {
    fn from(config: Arc<rustls::ServerConfig>) -> Self {
        Self::with(move || Arc::clone(&config))
    }
}

impl TlsConnector {
    /// Whose sessions are these.
    #[doc(hidden)]
    pub fn of_sessions(make: impl Fn() -> io::Result<Box<dyn Session>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// For the server of this name, or IP address, which its certificate must have.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if that is no name.
    #[cfg(feature = "tls")]
    pub fn new(config: Arc<rustls::ClientConfig>, server_name: &str) -> io::Result<Self> {
        let name = rustls::pki_types::ServerName::try_from(server_name)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?
            .to_owned();
        Ok(Self::of_sessions(move || {
            let session = rustls_session::RustlsSession::client(Arc::clone(&config), name.clone())?;
            Ok(Box::new(session))
        }))
    }

    pub(crate) fn session(&self) -> io::Result<Box<dyn Session>> {
        self.0()
    }
}

/// One end of TLS, of either kind: what [`Context::start_tls`](crate::Context::start_tls) takes.
#[derive(Clone, Debug)]
pub enum TlsRole {
    /// The server's.
    Server(TlsAcceptor),
    /// The client's.
    Client(TlsConnector),
}

impl TlsRole {
    pub(crate) fn session(&self) -> io::Result<Box<dyn Session>> {
        match self {
            Self::Server(acceptor) => acceptor.session(),
            Self::Client(connector) => connector.session(),
        }
    }
}

impl From<TlsAcceptor> for TlsRole {
    fn from(acceptor: TlsAcceptor) -> Self {
        Self::Server(acceptor)
    }
}

impl From<TlsConnector> for TlsRole {
    fn from(connector: TlsConnector) -> Self {
        Self::Client(connector)
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor").finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").finish_non_exhaustive()
    }
}
