//! Version 1, the human-readable one: section 2.1.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use super::{ProxyHeader, ProxyHeaderError};
use crate::address::Address;

/// The longest line, with its end.
const LINE_MAX: usize = 107;

const BEGINNING: &[u8] = b"PROXY ";

pub(super) fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let begun = bytes.len().min(BEGINNING.len());
    if bytes[..begun] != BEGINNING[..begun] {
        return Err(ProxyHeaderError::NoHeader);
    }
    // The first control character ends the line, rightly or not.
    let within = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = within.iter().position(|&byte| byte == b'\r' || byte == b'\n') else {
        return if bytes.len() >= LINE_MAX { Err(ProxyHeaderError::LineEnd) } else { Ok(None) };
    };
    match (bytes[end], within.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) if within.len() < LINE_MAX => return Ok(None),
        _ => return Err(ProxyHeaderError::LineEnd),
    }
    let line = std::str::from_utf8(&bytes[BEGINNING.len()..end]).map_err(|_| ProxyHeaderError::Words)?;
    Ok(Some((header(line)?, end + 2)))
}

fn header(line: &str) -> Result<ProxyHeader, ProxyHeaderError> {
    let mut words = line.split(' ');
    match words.next() {
        // What else the line says is to be ignored.
        Some("UNKNOWN") => return Ok(ProxyHeader::of_nobody()),
        Some("TCP4" | "TCP6") => {}
        Some(_) | None => return Err(ProxyHeaderError::Words),
    }
    let is_ipv4 = line.starts_with("TCP4");
    let mut word = || words.next().ok_or(ProxyHeaderError::Words);
    let (source, destination) = (ip(word()?, is_ipv4)?, ip(word()?, is_ipv4)?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(ProxyHeaderError::Words);
    }
    let address = |ip, port| Address::Ip(SocketAddr::new(ip, port));
    Ok(ProxyHeader::of(address(source, source_port), address(destination, destination_port)))
}

fn ip(word: &str, is_ipv4: bool) -> Result<IpAddr, ProxyHeaderError> {
    let ip = IpAddr::from_str(word).map_err(|_| ProxyHeaderError::Address)?;
    if ip.is_ipv4() == is_ipv4 { Ok(ip) } else { Err(ProxyHeaderError::Address) }
}

/// Without sign and leading zeros.
fn port(word: &str) -> Result<u16, ProxyHeaderError> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if is_plain {
        word.parse().map_err(|_| ProxyHeaderError::Address)
    } else {
        Err(ProxyHeaderError::Address)
    }
}
