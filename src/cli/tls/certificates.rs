//! The server's certificates, and which of them a client gets.

use std::{path::Path, sync::Arc};

use echoloop::Address;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    Error,
    client::verify_server_name,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{files, provider, trouble::unusable, validity::invalid_now};
use crate::cli::failure::Failure;

/// Certificates with their keys, of which each client gets one.
#[derive(Debug)]
pub(super) struct Certificates(Vec<Arc<CertifiedKey>>);

impl Certificates {
    /// There is at least one.
    pub(super) fn new(all: Vec<Arc<CertifiedKey>>) -> Self {
        Self(all)
    }

    /// Those that are for this name; all, if none is.
    fn for_name(&self, name: Option<&str>) -> Vec<&Arc<CertifiedKey>> {
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let fits = |certificate: &&Arc<CertifiedKey>| {
            let parsed = certificate.end_entity_cert().and_then(ParsedCertificate::try_from);
            name.as_ref().zip(parsed.ok()).is_some_and(|(name, it)| verify_server_name(&it, name).is_ok())
        };
        let fitting: Vec<_> = self.0.iter().filter(fits).collect();
        if fitting.is_empty() { self.0.iter().collect() } else { fitting }
    }
}

impl ResolvesServerCert for Certificates {
    /// The first that is for the name which the client wants, and of a kind that it knows.
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fitting = match &*self.0 {
            [one] => vec![one],
            _ => self.for_name(client.server_name()),
        };
        let is_known = |it: &&&Arc<CertifiedKey>| it.key.choose_scheme(client.signature_schemes()).is_some();
        fitting.iter().find(is_known).or(fitting.first()).map(|&it| Arc::clone(it))
    }
}

/// A certificate, with those that stand for it, and its key. One that is not valid now is used all the same, with a warning.
pub(super) fn read(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, Failure> {
    let chain = files::certificates(certificate)?;
    let secret = files::key(key)?;
    ParsedCertificate::try_from(&chain[0]).map_err(|error| unusable(&error, certificate, key))?;
    if let Some(why) = invalid_now(&chain[0]) {
        log::warn!("the certificate in {} {why}", certificate.display());
    }
    certified(chain, secret).map(Arc::new).map_err(|error| unusable(&error, certificate, key))
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    CertifiedKey::from_der(chain, key, &provider())
}

/// A certificate for a trial: this machine by its usual names, and where the server is to listen.
pub(super) fn self_signed(addresses: &[Address]) -> Result<Arc<CertifiedKey>, Failure> {
    let cannot = |error: &dyn std::fmt::Display| Failure::new(format!("cannot make a certificate: {error}"));
    let key = KeyPair::generate().map_err(|error| cannot(&error))?;
    let mut params = CertificateParams::new(names(addresses)).map_err(|error| cannot(&error))?;
    params.distinguished_name.push(DnType::CommonName, "echoloop trial");
    let certificate = params.self_signed(&key).map_err(|error| cannot(&error))?;
    let secret = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    certified(vec![certificate.der().clone()], secret).map(Arc::new).map_err(|error| cannot(&error))
}

/// The names and addresses by which clients may come.
fn names(addresses: &[Address]) -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    for address in addresses {
        let name = match address {
            Address::Ip(ip) if !ip.ip().is_unspecified() => ip.ip().to_string(),
            Address::Host { name, .. } if !name.is_empty() && !name.contains('%') => name.clone(),
            Address::Ip(_) | Address::Host { .. } | _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate for these names.
    fn certificate(names: &[&str]) -> Arc<CertifiedKey> {
        let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        Arc::new(certified(vec![made.cert.der().clone()], key).unwrap())
    }

    #[test]
    fn a_client_gets_the_first_certificate_that_is_for_the_name_or_the_first() {
        let all = ["one.example", "*.two.example", "three.example"].map(|name| certificate(&[name]));
        let certificates = Certificates::new(all.to_vec());
        let first = |name| {
            let chosen = certificates.for_name(name)[0];
            all.iter().position(|it| Arc::ptr_eq(it, chosen)).unwrap()
        };
        assert_eq!([None, Some("no.example"), Some("127.0.0.1"), Some("..")].map(first), [0; 4]);
        assert_eq!(
            ["one.example", "a.two.example", "THREE.example"].map(|name| first(Some(name))),
            [0, 1, 2]
        );
    }

    #[test]
    fn a_certificate_for_a_trial_is_for_where_the_server_listens() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        let all =
            [address("[2001:db8::1]:7"), address("echo.example:7"), address(":7"), address("0.0.0.0:7")];
        let certificate = self_signed(&all).unwrap();
        let parsed = ParsedCertificate::try_from(certificate.end_entity_cert().unwrap()).unwrap();
        for name in ["localhost", "127.0.0.1", "::1", "2001:db8::1", "echo.example"] {
            let name = ServerName::try_from(name).unwrap();
            assert_eq!(verify_server_name(&parsed, &name), Ok(()), "{name:?}");
        }
        assert!(verify_server_name(&parsed, &"other.example".try_into().unwrap()).is_err());
        assert_eq!(invalid_now(certificate.end_entity_cert().unwrap()), None);
    }
}
