//! The certificate that all servers show: ECDSA on P-256, signed by itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::output::output_directory;

/// The name that it is for.
pub(crate) const SERVER_NAME: &str = "localhost";

/// It, and the key of it.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// For this run and later ones: it never becomes too old.
    pub(super) fn make_once() -> io::Result<()> {
        if file().is_file() {
            return Ok(());
        }
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([SERVER_NAME.into()]).map_err(io::Error::other)?;
        write(&file(), &(cert.pem() + &signing_key.serialize_pem()))
    }

    /// That which [`Certificate::make_once`] has made.
    pub(crate) fn load() -> io::Result<Self> {
        let chain = CertificateDer::pem_file_iter(file()).map_err(io::Error::other)?;
        let chain = chain.collect::<Result<_, _>>().map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(file()).map_err(io::Error::other)?;
        Ok(Self { chain, key })
    }
}

/// Where the certificate is, and behind it the key.
pub(in crate::servers) fn file() -> PathBuf {
    output_directory().join("certificate.pem")
}

/// Nobody sees a part of it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(output_directory())?;
    let new = path.with_extension(process::id().to_string());
    fs::write(&new, text)?;
    fs::rename(new, path)
}
