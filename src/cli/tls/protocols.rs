//! Protocols over TLS, of which both ends choose one (ALPN, RFC 7301).

/// The name of a protocol, such as `h2`.
pub(super) type Protocol = Vec<u8>;

/// The longest name that there is room for.
const LENGTH_MAX: usize = 255;

/// Takes such a name.
pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    match text.len() {
        0 => Err("a protocol has a name, as in h2,http/1.1".to_owned()),
        1..=LENGTH_MAX => Ok(text.as_bytes().to_vec()),
        _ => Err(format!("the name of a protocol has at most {LENGTH_MAX} bytes")),
    }
}
