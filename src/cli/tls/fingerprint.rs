//! How people compare certificates.

use std::fmt::Write;

use ring::digest::{SHA256, digest};

/// The SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` shows it.
pub(super) fn fingerprint(certificate: &[u8]) -> String {
    let mut text = String::new();
    for byte in digest(&SHA256, certificate).as_ref() {
        let colon = if text.is_empty() { "" } else { ":" };
        // A string takes everything.
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_hexadecimal_with_colons() {
        let of_nothing = fingerprint(b"");
        assert!(of_nothing.starts_with("E3:B0:C4:42:98:FC:1C:14:"), "{of_nothing}");
        assert_eq!(of_nothing.len(), 32 * 3 - 1);
    }
}
