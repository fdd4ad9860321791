//! Certificates and keys in files, for programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;

/// Who signs certificates, and the folder in which they are.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Valid {
    Now,
    /// It expired at the end of 2020.
    Before,
    /// From 2090 on.
    Later,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        // Two of one name would be taken for one another.
        params.distinguished_name.push(DnType::CommonName, format!("CA {}", fastrand::u64(..)));
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let certificate = pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
        fs::write(folder.path().join("ca.pem"), certificate).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The certificate of this authority.
    pub(crate) fn ca(&self) -> String {
        self.path("ca.pem")
    }

    /// Writes a certificate for this name, and its key, into files that are named after it.
    pub(crate) fn issue(&self, name: &str) -> Pair {
        self.issue_as(name, &[name], Valid::Now)
    }

    /// The same under another name, for these names and that time.
    pub(crate) fn issue_as(&self, file: &str, names: &[&str], valid: Valid) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        self.save(file, params, valid, |params, key| params.signed_by(key, &self.issuer).unwrap())
    }

    fn save(
        &self,
        file: &str,
        mut params: CertificateParams,
        valid: Valid,
        sign: impl Fn(&CertificateParams, &KeyPair) -> Certificate,
    ) -> Pair {
        match valid {
            Valid::Now => {}
            Valid::Before => params.not_after = date_time_ymd(2020, 12, 31),
            Valid::Later => params.not_before = date_time_ymd(2090, 1, 1),
        }
        let key = KeyPair::generate().unwrap();
        let certificate = sign(&params, &key);
        let pair =
            Pair { certificate: self.path(&format!("{file}.pem")), key: self.path(&format!("{file}.key")) };
        fs::write(&pair.certificate, pem("CERTIFICATE", certificate.der())).unwrap();
        fs::write(&pair.key, pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        pair
    }

    /// Writes a certificate that has signed itself, as `openssl req -x509` makes them: that of a CA.
    pub(crate) fn self_signed(&self, name: &str, valid: Valid) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.save("self-signed", params, valid, |params, key| params.self_signed(key).unwrap())
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.folder.path().join(name), text).unwrap();
        self.path(name)
    }
}

impl Pair {
    /// The options of `serve` for it.
    pub(crate) fn options(&self) -> [&str; 4] {
        ["--tls-cert", &self.certificate, "--tls-key", &self.key]
    }

    /// The options of `client` that show it.
    pub(crate) fn shown(&self) -> [&str; 4] {
        ["--cert", &self.certificate, "--key", &self.key]
    }
}

/// As RFC 7468 has it.
fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// One of the scripts.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/clients").join(name)
}
