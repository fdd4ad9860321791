//! Certificates and keys, from PEM files (RFC 7468).

use std::{fs, path::Path};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

use crate::cli::failure::Failure;

/// The certificates in a file, in their order.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| broken(path, &error))?;
    if certificates.is_empty() {
        let failure = Failure::new(format!("{} has no certificate in it", path.display()));
        return Err(failure.hint(Some("it must be PEM, which says BEGIN CERTIFICATE")));
    }
    Ok(certificates)
}

/// The first private key in a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    let bytes = read(path)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if contains(&bytes, b"BEGIN ENCRYPTED PRIVATE KEY") => {
            let failure = Failure::new(format!("the key in {} is encrypted", path.display()));
            Err(failure.hint(Some("openssl pkey -in FILE -out DECRYPTED writes one that is not")))
        }
        Err(pem::Error::NoItemsFound) => {
            let failure = Failure::new(format!("{} has no private key in it", path.display()));
            Err(failure.hint(Some("it must be PEM, which says BEGIN PRIVATE KEY")))
        }
        Err(error) => Err(broken(path, &error)),
    }
}

/// The certificates in a file, and the same as those whose word is trusted.
pub(super) fn roots(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), Failure> {
    let (mut roots, certificates) = (RootCertStore::empty(), certificates(path)?);
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| {
            Failure::new(format!("a certificate in {} cannot be used: {error}", path.display()))
        })?;
    }
    Ok((roots, certificates))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
}

fn broken(path: &Path, error: &pem::Error) -> Failure {
    Failure::new(format!("{} is no proper PEM file: {error}", path.display()))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
