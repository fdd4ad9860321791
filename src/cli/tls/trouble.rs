//! What is wrong with a handshake, in plain words.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use echoloop::Address;
use rustls::{AlertDescription, CertificateError, Error, InconsistentKeys, InvalidMessage, PeerIncompatible};

use super::validity::wrong_time;
use crate::cli::failure::Failure;

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    what: String,
    hint: Option<&'static str>,
}

/// Servers that do not are waited for, or wait for us, or end.
const DOES_IT_SPEAK_TLS: &str = "does it speak TLS there?";

impl Trouble {
    fn new(what: impl Into<String>, hint: Option<&'static str>) -> Self {
        Self { what: what.into(), hint }
    }

    /// Of a handshake that a client could not finish, or that the server takes back behind it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls says of the others what they are")]
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            // Whoever does not speak TLS says something else first, or does not understand us.
            Error::InappropriateHandshakeMessage { .. }
            | Error::InappropriateMessage { .. }
            | Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) => Self::new("the server does not speak TLS there", Some("try it without --tls")),
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::new("the server speaks neither TLS 1.2 nor TLS 1.3", None),
            Error::NoApplicationProtocol => Self::of_alert(AlertDescription::NoApplicationProtocol),
            other => Self::new(format!("TLS: {other}"), None),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls says of the others what they are")]
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::NoApplicationProtocol => {
                Self::new("the server speaks none of these protocols", Some("--alpn names others"))
            }
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate => {
                Self::new("the server requires a client certificate", Some("--cert FILE and --key FILE"))
            }
            AlertDescription::UnknownCA => Self::refused("it is signed by nobody that the server trusts"),
            AlertDescription::CertificateExpired => Self::refused("it has expired"),
            AlertDescription::CertificateRevoked => Self::refused("it is revoked"),
            AlertDescription::UnsupportedCertificate => {
                Self::refused("it is of a kind that is not supported")
            }
            AlertDescription::CertificateUnknown | AlertDescription::AccessDenied => {
                Self::refused(&format!("TLS alert {alert:?}"))
            }
            AlertDescription::ProtocolVersion => {
                Self::new("the server speaks neither TLS 1.2 nor TLS 1.3", None)
            }
            AlertDescription::UnrecognisedName => Self::new(
                "the server has no certificate for that name",
                Some("--server-name NAME is another"),
            ),
            AlertDescription::HandshakeFailure => {
                Self::new("the server has no cipher suite in common with this client, or refuses it", None)
            }
            other => Self::new(format!("the server refuses: TLS alert {other:?}"), None),
        }
    }

    fn refused(why: &str) -> Self {
        Self::new(format!("the server refuses the certificate of --cert: {why}"), None)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls says of the others what they are")]
    fn of_certificate(error: &CertificateError) -> Self {
        if let Some(why) = wrong_time(error) {
            return Self::new(
                format!("the server's certificate {why}"),
                Some("check this machine's clock; --insecure skips this check"),
            );
        }
        if *error == CertificateError::UnknownIssuer || is_ca_as_server(error) {
            return Self::new(
                "the server's certificate is signed by nobody this machine trusts",
                Some("--ca FILE or --insecure"),
            );
        }
        match error {
            CertificateError::NotValidForNameContext { expected, presented } => {
                let wanted = expected.to_str();
                let what = if presented.is_empty() {
                    format!("the server's certificate is for no name, and not for {wanted}")
                } else {
                    format!("the server's certificate is for {}, not for {wanted}", names(presented))
                };
                Self::new(what, Some("--server-name NAME expects another name"))
            }
            CertificateError::NotValidForName => Self::new(
                "the server's certificate is for another name",
                Some("--server-name NAME expects another name"),
            ),
            CertificateError::BadSignature => {
                Self::new("the server's certificate is signed by nobody that --ca names, or forged", None)
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::new("the server's certificate is not for servers", None)
            }
            other => Self::new(format!("the server's certificate is refused: {other}"), None),
        }
    }

    /// Of a handshake that came to no end.
    pub(super) fn of_handshake(error: &io::Error) -> Self {
        if let Some(error) = error.get_ref().and_then(|error| error.downcast_ref()) {
            return Self::of(error);
        }
        let kind = error.kind();
        if matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            Self::new("the TLS handshake took too long", Some(DOES_IT_SPEAK_TLS))
        } else if matches!(
            kind,
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ) {
            Self::new("the server ended the connection in the TLS handshake", Some(DOES_IT_SPEAK_TLS))
        } else {
            Self::new(format!("TLS handshake: {error}"), None)
        }
    }

    /// Why there is no connection to this server.
    pub(crate) fn failure(&self, server: &Address) -> Failure {
        Failure::new(format!("cannot connect to {server}: {}", self.what)).hint(self.hint)
    }

    /// As an error of input or output, which says the same.
    pub(super) fn into_io(self) -> io::Error {
        let text = match self.hint {
            Some(hint) => format!("{} ({hint})", self.what),
            None => self.what,
        };
        io::Error::new(ErrorKind::InvalidData, text)
    }
}

/// Whether a certificate is refused because it is that of a CA.
pub(super) fn is_of_a_ca(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(error) if is_ca_as_server(error))
}

/// Why one's own certificate cannot be used, or its key.
#[expect(clippy::wildcard_enum_match_arm, reason = "rustls says of the others what they are")]
pub(super) fn unusable(error: &Error, certificate: &Path, key: &Path) -> Failure {
    let (certificate, key) = (certificate.display(), key.display());
    Failure::new(match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("the key in {key} does not belong to the certificate in {certificate}")
        }
        // The error is one of a crate that this one does not depend on.
        Error::InvalidCertificate(error) if format!("{error:?}").contains("UnsupportedCertVersion") => {
            format!("the certificate in {certificate} cannot be used: it must be of version 3 of X.509")
        }
        Error::InvalidCertificate(error) => {
            format!("the certificate in {certificate} cannot be used: {error}")
        }
        error => format!("the key in {key} cannot be used: {error}"),
    })
}

fn is_ca_as_server(error: &CertificateError) -> bool {
    // The error is one of a crate that this one does not depend on.
    matches!(error, CertificateError::Other(error) if format!("{error:?}").contains("CaUsedAsEndEntity"))
}

/// Names as rustls tells them, such as `DnsName("a.example")`, as people write them. Not more than a few.
fn names(presented: &[String]) -> String {
    const SHOWN_MAX: usize = 3;
    let plain = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        inner.trim_matches('"').to_owned()
    };
    let mut all: Vec<String> = presented.iter().take(SHOWN_MAX).map(plain).collect();
    if presented.len() > SHOWN_MAX {
        all.push(format!("{} others", presented.len() - SHOWN_MAX));
    }
    match &*all {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => all.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_people_write_them() {
        let names = |all: &[&str]| names(&all.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["DnsName(\"a.example\")"]), "a.example");
        assert_eq!(names(&["DnsName(\"a.example\")", "IpAddress(127.0.0.1)"]), "a.example and 127.0.0.1");
        assert_eq!(names(&["a", "b", "c", "d", "e"]), "a, b, c and 2 others");
    }

    #[test]
    fn what_the_server_says_is_said_in_words() {
        let what = |alert| Trouble::of(&Error::AlertReceived(alert)).what;
        assert!(what(AlertDescription::NoApplicationProtocol).contains("none of these protocols"));
        assert!(what(AlertDescription::CertificateRequired).contains("requires a client certificate"));
        assert_eq!(what(AlertDescription::DecodeError), "the server refuses: TLS alert DecodeError");
        let no_tls = Trouble::of(&Error::InvalidMessage(InvalidMessage::InvalidContentType));
        assert_eq!(no_tls.hint, Some("try it without --tls"));
    }
}
