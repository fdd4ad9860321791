//! A server with TLS, and a client of its own that says each thing when the test wants it.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use echoloop::{Address, Config, Peer, Protocol, Server, Stats, TlsAcceptor};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, ServerConfig,
    client::WantsClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    version::{TLS12, TLS13},
};

use crate::util::connect;

/// A certificate for localhost, and its key.
pub(crate) struct Identity(pub(crate) CertifiedKey<rcgen::KeyPair>);

impl Identity {
    pub(crate) fn new(name: &str) -> Self {
        Self(generate_simple_self_signed([name.to_owned()]).unwrap())
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.0.cert.der().clone()]
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.signing_key.serialize_der()).into()
    }

    pub(crate) fn server(&self) -> ServerConfig {
        ServerConfig::builder().with_no_client_auth().with_single_cert(self.chain(), self.key()).unwrap()
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.cert.der().clone()).unwrap();
        roots
    }

    /// Trusts this one.
    pub(crate) fn client(&self, version: Version) -> ClientConfig {
        self.client_builder(version).with_no_client_auth()
    }

    /// The same, and shows the other one.
    pub(crate) fn client_with(&self, version: Version, own: &Self) -> ClientConfig {
        self.client_builder(version).with_client_auth_cert(own.chain(), own.key()).unwrap()
    }

    fn client_builder(&self, version: Version) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let version = match version {
            Version::Tls12 => &TLS12,
            Version::Tls13 => &TLS13,
        };
        ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(self.roots())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

pub(crate) const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

/// A server that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: echoloop::Handle<()>,
    thread: std::thread::JoinHandle<Stats>,
}

impl Running {
    pub(crate) fn start<P: Protocol<Message = ()> + 'static>(
        config: Config,
        tls: impl Into<TlsAcceptor>,
        factory: impl Fn(&Peer<'_>) -> Option<P> + Send + Sync + 'static,
    ) -> Self {
        let server =
            Server::builder().config(config).listen_tls("127.0.0.1:0", tls).bind([] as [&str; 0]).unwrap();
        let Address::Ip(address) = server.local_addrs()[0] else { panic!("an address of TCP") };
        let handle = server.handle();
        let thread = std::thread::spawn(move || server.run(factory).unwrap());
        Self { address, handle, thread }
    }

    pub(crate) fn drain(self) -> Stats {
        self.handle.drain();
        self.thread.join().unwrap()
    }
}

/// A client over TLS.
pub(crate) struct Client {
    pub(crate) tls: ClientConnection,
    pub(crate) socket: TcpStream,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, config: ClientConfig) -> Self {
        Self::on(connect(address), config)
    }

    pub(crate) fn on(socket: TcpStream, config: ClientConfig) -> Self {
        let tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        Self { tls, socket }
    }

    /// Goes on until the handshake is over.
    pub(crate) fn handshake(&mut self) -> io::Result<()> {
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.socket)?;
        }
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Sends it, and reads nothing meanwhile.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(32 << 10) {
            self.tls.writer().write_all(chunk)?;
            self.flush()?;
        }
        Ok(())
    }

    pub(crate) fn close_notify(&mut self) {
        self.tls.send_close_notify();
        self.flush().unwrap();
    }

    pub(crate) fn fin(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads up to the end of the stream; an error if that is not a clean one.
    pub(crate) fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_until_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The same, and says what has come before an error.
    pub(crate) fn read_until_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        while self.read_more(bytes)? {}
        Ok(())
    }

    /// Reads so many bytes.
    pub(crate) fn receive(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            if !self.read_more(&mut bytes)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(bytes)
    }

    /// False at the clean end of the stream.
    fn read_more(&mut self, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let before = bytes.len();
        match self.tls.reader().read_to_end(bytes) {
            Ok(_) => return Ok(false),
            // It has come with the end of the handshake.
            Err(_) if bytes.len() > before => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        self.tls.read_tls(&mut self.socket)?;
        self.tls.process_new_packets().map_err(io::Error::other)?;
        // An end is told with the next call.
        let n = self.tls.process_new_packets().map_err(io::Error::other)?.plaintext_bytes_to_read();
        bytes.resize(before + n, 0);
        self.tls.reader().read_exact(&mut bytes[before..])?;
        Ok(true)
    }

    pub(crate) fn has_close_notify(&mut self) -> bool {
        self.tls.process_new_packets().is_ok_and(|state| state.peer_has_closed())
    }
}
