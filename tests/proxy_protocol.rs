//! Headers of the PROXY protocol: what we make of them, and what two other parsers do.
//!
//! Where they differ we are the stricter, as the specification is:
//!
//! - `ppp` takes ports with a sign, and says of some headers of version 1 that are cut behind CR that they are wrong;
//! - `proxy-header` takes ports with a sign and with leading zeros, and lines that are too long;
//! - neither verifies a checksum, looks at what is said besides the addresses, or refuses datagrams.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use echoloop::{Address, ProxyHeader};
use ppp::{HeaderResult, v1, v2};
use proptest::prelude::*;
use proxy_header::ParseConfig;

/// Both addresses, where a header says some.
type Said = Option<(SocketAddr, SocketAddr)>;

/// `None`: it is no whole header.
fn ours(bytes: &[u8]) -> Option<(Said, usize)> {
    let (header, length) = ProxyHeader::parse(bytes).ok()??;
    let said = header.addresses.and_then(|both| match (both.source, both.destination) {
        (Address::Ip(source), Address::Ip(destination)) => Some((source, destination)),
        _ => None,
    });
    Some((said, length))
}

fn of_ppp(bytes: &[u8]) -> Option<(Said, usize)> {
    let both = |source: IpAddr, source_port, destination: IpAddr, destination_port| {
        Some((SocketAddr::new(source, source_port), SocketAddr::new(destination, destination_port)))
    };
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(header) => {
            let header = header.ok()?;
            let said = match header.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(ip) => both(
                    ip.source_address.into(),
                    ip.source_port,
                    ip.destination_address.into(),
                    ip.destination_port,
                ),
                v1::Addresses::Tcp6(ip) => both(
                    ip.source_address.into(),
                    ip.source_port,
                    ip.destination_address.into(),
                    ip.destination_port,
                ),
            };
            Some((said, header.header.len()))
        }
        HeaderResult::V2(header) => {
            let header = header.ok()?;
            let said = match header.addresses {
                _ if header.command == v2::Command::Local => None,
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
                v2::Addresses::IPv4(ip) => both(
                    ip.source_address.into(),
                    ip.source_port,
                    ip.destination_address.into(),
                    ip.destination_port,
                ),
                v2::Addresses::IPv6(ip) => both(
                    ip.source_address.into(),
                    ip.source_port,
                    ip.destination_address.into(),
                    ip.destination_port,
                ),
            };
            Some((said, header.header.len()))
        }
    }
}

fn of_proxy_header(bytes: &[u8]) -> Option<(Said, usize)> {
    let (header, length) = proxy_header::ProxyHeader::parse(bytes, ParseConfig::default()).ok()?;
    Some((header.proxied_address().map(|both| (both.source, both.destination)), length))
}

fn ip(is_ipv4: bool) -> BoxedStrategy<IpAddr> {
    if is_ipv4 {
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()).boxed()
    } else {
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()).boxed()
    }
}

fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    any::<bool>().prop_flat_map(|is_ipv4| {
        let ends = (ip(is_ipv4), any::<u16>(), ip(is_ipv4), any::<u16>());
        ends.prop_map(|(source, a, destination, b)| {
            (SocketAddr::new(source, a), SocketAddr::new(destination, b))
        })
    })
}

/// As proxies write it.
fn header((source, destination): (SocketAddr, SocketAddr), version: u8) -> Vec<u8> {
    if version == 2 {
        return ProxyHeader::encode(&Address::Ip(source), &Address::Ip(destination));
    }
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_proxies_write_all_read_alike(
        addresses in addresses(),
        version in 1..=2_u8,
        behind in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let header = header(addresses, version);
        let received = [&header[..], &behind].concat();
        let expected = Some((Some(addresses), header.len()));
        prop_assert_eq!(ours(&received), expected);
        prop_assert_eq!(of_ppp(&received), expected);
        prop_assert_eq!(of_proxy_header(&received), expected);
    }

    #[test]
    fn whatever_we_take_for_a_header_the_others_read_alike(
        addresses in addresses(),
        version in 1..=2_u8,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut header = header(addresses, version);
        for (place, byte) in changes {
            let place = place.index(header.len());
            header[place] = byte;
        }
        if let Some((Some(said), length)) = ours(&header) {
            prop_assert_eq!(of_ppp(&header), Some((Some(said), length)));
            prop_assert_eq!(of_proxy_header(&header), Some((Some(said), length)));
        }
    }
}
