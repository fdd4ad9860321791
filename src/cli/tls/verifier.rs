//! How a client looks at the server's certificate.

use std::sync::{Arc, OnceLock};

use rustls::{
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{
    fingerprint::fingerprint,
    provider,
    trouble::{Trouble, is_of_a_ca},
    validity::check_time,
};
use crate::cli::failure::Failure;

/// Looks at certificates, or not, and keeps what it has found first.
#[derive(Debug)]
pub(super) struct Verifier {
    /// None takes everybody's.
    trusting: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that are trusted by themselves too.
    named: Vec<CertificateDer<'static>>,
    trouble: OnceLock<Trouble>,
    fingerprint: OnceLock<String>,
}

impl Verifier {
    /// Trusts those who are signed by one of these, and those who show one that is named.
    pub(super) fn trusting(
        roots: RootCertStore,
        named: Vec<CertificateDer<'static>>,
    ) -> Result<Self, Failure> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Failure::new(format!("cannot check certificates: {error}")))?;
        Ok(Self { trusting: Some(verifier), named, ..Self::insecure() })
    }

    /// Takes every certificate of whoever has its key.
    pub(super) fn insecure() -> Self {
        Self { trusting: None, named: Vec::new(), trouble: OnceLock::new(), fingerprint: OnceLock::new() }
    }

    /// What was wrong with the first certificate that was refused.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.get()
    }

    /// The certificate that was taken without a look, if one was.
    pub(super) fn unchecked(&self) -> Option<&str> {
        self.fingerprint.get().map(String::as_str)
    }
}

/// Looks at the dates and at the names.
fn check_named(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
) -> Result<ServerCertVerified, Error> {
    // They come first above too, which nobody promises.
    check_time(certificate)?;
    verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
    Ok(ServerCertVerified::assertion())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(verifier) = &self.trusting else {
            self.fingerprint.get_or_init(|| fingerprint(end_entity));
            return Ok(ServerCertVerified::assertion());
        };
        let result = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let result = match result {
            // What `openssl req -x509` makes is that of a CA, and no server's by RFC 5280; who names it knows.
            Err(error) if is_of_a_ca(&error) && self.named.iter().any(|named| named == end_entity) => {
                check_named(end_entity, server_name)
            }
            result => result,
        };
        result.inspect_err(|error| {
            self.trouble.get_or_init(|| Trouble::of(error));
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
