//! Version 2, the binary one: section 2.2.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use super::{HEADER_MAX, ProxyHeader, ProxyHeaderError};
use crate::address::Address;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const FIXED: usize = 16;

const VERSION: u8 = 0x20;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;

const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;

/// A Unix address: a path, or with a zero first a name without a file.
const PATH: usize = 108;

/// A checksum over the header, in which it counts as zeros itself: section 2.2.4.
const CRC32C: u8 = 0x03;

/// Whether these are the first bytes of one; not of none.
pub(super) fn begins(bytes: &[u8]) -> bool {
    let begun = bytes.len().min(SIGNATURE.len());
    begun > 0 && bytes[..begun] == SIGNATURE[..begun]
}

pub(super) fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        // What can be wrong already is told already, wherever the stream is cut.
        check_beginning(bytes.get(12), bytes.get(13))?;
        return Ok(None);
    };
    check_beginning(Some(&fixed[12]), Some(&fixed[13]))?;
    let (command, family) = (fixed[12] & 0x0f, fixed[13]);
    let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > HEADER_MAX {
        return Err(ProxyHeaderError::Length);
    }
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    if command == LOCAL {
        return Ok(Some((ProxyHeader { addresses: None, is_local: true }, length)));
    }
    let mut rest = &header[FIXED..];
    let parsed = match family {
        UNSPEC => return Ok(Some((ProxyHeader::of_nobody(), length))),
        TCP4 => {
            let (source, destination): ([u8; 4], [u8; 4]) = (take(&mut rest)?, take(&mut rest)?);
            of_ips(Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into(), &mut rest)?
        }
        TCP6 => {
            let (source, destination): ([u8; 16], [u8; 16]) = (take(&mut rest)?, take(&mut rest)?);
            of_ips(Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into(), &mut rest)?
        }
        _ => {
            let (source, destination): ([u8; PATH], [u8; PATH]) = (take(&mut rest)?, take(&mut rest)?);
            ProxyHeader::of(of_path(&source), of_path(&destination))
        }
    };
    check_additions(header, rest)?;
    Ok(Some((parsed, length)))
}

/// Whether version, command and family, as far as they have come, are those that there are.
fn check_beginning(command: Option<&u8>, family: Option<&u8>) -> Result<(), ProxyHeaderError> {
    let is_known = |command: u8| command == VERSION | LOCAL || command == VERSION | PROXY;
    // Who connects for itself may say anything there.
    let matters = command.is_none_or(|&command| command != VERSION | LOCAL);
    if command.is_some_and(|&command| !is_known(command))
        || (matters && family.is_some_and(|family| ![UNSPEC, TCP4, TCP6, UNIX].contains(family)))
    {
        return Err(ProxyHeaderError::Unknown);
    }
    Ok(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ProxyHeaderError> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(ProxyHeaderError::Length)?;
    *rest = left;
    Ok(*taken)
}

fn of_ips(source: IpAddr, destination: IpAddr, rest: &mut &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let (source_port, destination_port) = (u16::from_be_bytes(take(rest)?), u16::from_be_bytes(take(rest)?));
    let address = |ip, port| Address::Ip(SocketAddr::new(ip, port));
    Ok(ProxyHeader::of(address(source, source_port), address(destination, destination_port)))
}

/// A name without a file is no path of ours.
fn of_path(bytes: &[u8; PATH]) -> Address {
    let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(PATH);
    Address::Unix(path_of(&bytes[..length]))
}

/// Any bytes but zero are a path.
#[cfg(unix)]
fn path_of(bytes: &[u8]) -> PathBuf {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    OsStr::from_bytes(bytes).into()
}

/// It is the path of another system, only to be shown.
#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Goes through what is said besides (type, length, value), of which the checksum matters here.
fn check_additions(header: &[u8], mut rest: &[u8]) -> Result<(), ProxyHeaderError> {
    while !rest.is_empty() {
        let [kind, high, low] = take(&mut rest)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let at = header.len() - rest.len();
        let (value, left) = rest.split_at_checked(length).ok_or(ProxyHeaderError::Length)?;
        if kind == CRC32C {
            let expected = u32::from_be_bytes(value.try_into().map_err(|_| ProxyHeaderError::Length)?);
            let [before, behind] = [&header[..at], &header[at + length..]];
            if crc32c(before.iter().chain(&[0; 4]).chain(behind)) != expected {
                return Err(ProxyHeaderError::Checksum);
            }
        }
        rest = left;
    }
    Ok(())
}

/// RFC 3720, appendix B.4, bit by bit: headers are short.
pub(super) fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

pub(super) fn encode(source: &Address, destination: &Address) -> Vec<u8> {
    let (family, addresses) = match (source, destination) {
        (Address::Ip(SocketAddr::V4(source)), Address::Ip(SocketAddr::V4(destination))) => {
            let ips = [source.ip().octets(), destination.ip().octets()].concat();
            (TCP4, [ips, ports(source.port(), destination.port())].concat())
        }
        (Address::Ip(SocketAddr::V6(source)), Address::Ip(SocketAddr::V6(destination))) => {
            let ips = [source.ip().octets(), destination.ip().octets()].concat();
            (TCP6, [ips, ports(source.port(), destination.port())].concat())
        }
        (Address::Unix(source), Address::Unix(destination)) => {
            let path = |path: &std::path::Path| {
                let mut bytes = path.as_os_str().as_encoded_bytes().to_vec();
                bytes.resize(PATH, 0);
                bytes
            };
            (UNIX, [path(source), path(destination)].concat())
        }
        _ => (UNSPEC, Vec::new()),
    };
    let length = u16::try_from(addresses.len()).expect("216 at most").to_be_bytes();
    [&SIGNATURE[..], &[VERSION | PROXY, family], &length, &addresses].concat()
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}
