//! When a certificate is valid.

use std::time::{Duration, UNIX_EPOCH};

use rustls::{
    CertificateError, Error, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, UnixTime},
    server::ParsedCertificate,
};

use super::provider;

/// Why a certificate is not valid now, such as `expired on 2026-01-31`.
pub(super) fn invalid_now(certificate: &CertificateDer<'_>) -> Option<String> {
    check_time(certificate).err().as_ref().and_then(wrong_time)
}

/// Looks at the dates of a certificate, and at nothing else.
pub(super) fn check_time(certificate: &CertificateDer<'_>) -> Result<(), CertificateError> {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else {
        return Err(CertificateError::BadEncoding);
    };
    // Without anybody to trust it fails in any case; the dates come first.
    let result = verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &RootCertStore::empty(),
        &[],
        UnixTime::now(),
        provider().signature_verification_algorithms.all,
    );
    match result {
        Err(Error::InvalidCertificate(error)) if wrong_time(&error).is_some() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What an error says of dates.
#[expect(clippy::wildcard_enum_match_arm, reason = "there are many errors of other kinds")]
pub(super) fn wrong_time(error: &CertificateError) -> Option<String> {
    Some(match error {
        CertificateError::ExpiredContext { not_after, .. } => format!("expired on {}", date(*not_after)),
        CertificateError::Expired => "has expired".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}", date(*not_before))
        }
        CertificateError::NotValidYet => "is not valid yet".to_owned(),
        _ => return None,
    })
}

/// The date, as in 2026-01-31 12:00:00 UTC.
fn date(time: UnixTime) -> String {
    let text = UNIX_EPOCH
        .checked_add(Duration::from_secs(time.as_secs()))
        .and_then(|time| {
            let mut text = String::new();
            // The format has no year after 9999.
            std::fmt::write(&mut text, format_args!("{}", humantime::format_rfc3339_seconds(time))).ok()?;
            Some(text)
        })
        .unwrap_or_else(|| "a date far away".to_owned());
    text.replace('T', " ").replace('Z', " UTC")
}
