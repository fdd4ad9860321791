//! Headers of the PROXY protocol: what we make of them, and what two other parsers do.
//!
//! Where they differ we are the stricter, as the specification is:
//!
//! - `ppp` takes ports with a sign, and says of some headers of version 1 that are cut behind CR that they are wrong;
//! - `proxy-header` takes ports with a sign and with leading zeros, and lines that are too long;
//! - neither verifies a checksum, looks at what is said besides the addresses, or refuses datagrams.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod util;

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

/// What HAProxy and nginx have sent, with all that they can be told to say: a line each, in hexadecimal, and whose it is.
const RECORDED: &str = include_str!("recorded/proxy_headers.txt");

fn recorded() -> impl Iterator<Item = (Vec<u8>, &'static str)> {
    RECORDED.lines().map(|line| {
        let (bytes, whose) = line.split_once(' ').expect("both");
        let byte = |i| u8::from_str_radix(&bytes[i..i + 2], 16).expect("hexadecimal");
        ((0..bytes.len()).step_by(2).map(byte).collect(), whose)
    })
}

#[test]
fn what_was_recorded_is_read_alike_however_it_is_cut() {
    let mut with_addresses = 0;
    for (header, whose) in recorded() {
        let (said, length) = ours(&header).expect(whose);
        assert_eq!(length, header.len(), "{whose}");
        let is_of_ip = whose.contains("IPv4") || whose.contains("IPv6");
        assert!(!is_of_ip || said.is_some(), "{whose}");
        with_addresses += usize::from(said.is_some());
        if said.is_some() {
            assert_eq!(
                (of_ppp(&header), of_proxy_header(&header)),
                (Some((said, length)), Some((said, length)))
            );
        }
        for cut in 0..header.len() {
            assert_eq!(ProxyHeader::parse(&header[..cut]), Ok(None), "{whose}, cut at {cut}");
        }
        let behind = [&header[..], b"PROXY"].concat();
        assert_eq!(ours(&behind), Some((said, length)), "{whose}");
    }
    assert_eq!((recorded().count(), with_addresses), (40, 30));
}

/// Real proxies in front of a server.
#[cfg(unix)]
mod behind {
    use std::{
        io::{Read, Write},
        net::SocketAddr,
    };

    use echoloop::{CloseReason, Config, Context, Input, Protocol};

    use crate::util::{
        Running, connect, eventually, pattern,
        proxies::{self, Proxy},
    };

    /// Says whom it takes its client for, and echoes.
    struct Named(String);

    impl Protocol for Named {
        type Message = ();

        fn on_open(&mut self, cx: &mut Context<'_>) {
            cx.write(self.0.as_bytes());
        }

        fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
            cx.forward(input);
        }
    }

    fn server() -> Running<Named> {
        let mut config = Config::default();
        config.proxy_protocol = vec!["127.0.0.1".parse().unwrap()];
        Running::start(config, &["127.0.0.1:0"], |peer| {
            // A check wants no answer.
            let is_check = peer.proxied().is_some_and(|proxied| proxied.header.is_local);
            Some(Named(if is_check { String::new() } else { format!("{}\n", peer.address) }))
        })
    }

    fn haproxy(backend: SocketAddr, send: &str) -> Option<Proxy> {
        proxies::haproxy(|address| {
            format!(
                "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
                 listen l\n bind {address}\n server s {backend} {send}\n"
            )
        })
    }

    fn nginx(backend: SocketAddr) -> Option<Proxy> {
        proxies::nginx(|address| {
            format!(
                "include /etc/nginx/modules-enabled/*.conf;\nevents {{ worker_connections 64; }}\n\
                 stream {{ server {{ listen {address}; proxy_pass {backend}; proxy_protocol on; \
                 proxy_half_close on; }} }}\n"
            )
        })
    }

    /// A client's stream comes back whole, and the server knows who it is.
    fn look_through(proxy: &Proxy) {
        for size in [14, 8 << 20] {
            let client = connect(proxy.address);
            let sent = pattern(1, size);
            let mut received = Vec::new();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    (&client).write_all(&sent).unwrap();
                    client.shutdown(std::net::Shutdown::Write).unwrap();
                });
                (&client).read_to_end(&mut received).unwrap();
            });
            let name = format!("{}\n", client.local_addr().unwrap());
            assert!(
                received.starts_with(name.as_bytes()),
                "{}",
                received[..40.min(received.len())].escape_ascii()
            );
            assert!(received[name.len()..] == sent, "{} of {size}", received.len() - name.len());
        }
    }

    #[test]
    fn haproxy_says_for_whom_it_connects() {
        for send in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
            let server = server();
            let Some(proxy) = haproxy(server.address(), send) else {
                return;
            };
            look_through(&proxy);
            eventually("both have ended", || server.stats().closed(CloseReason::Peer) >= 2);
            drop(proxy);
            let stats = server.drain();
            assert_eq!(stats.closed(CloseReason::ProxyRefused), 0, "{stats}");
        }
    }

    /// Its check is a header that speaks for itself, and a reset.
    #[test]
    fn checks_of_haproxy_are_no_refused_clients() {
        let server = server();
        let Some(proxy) = haproxy(server.address(), "send-proxy-v2 check inter 50ms") else {
            return;
        };
        eventually("it checks", || server.stats().accepted > 5);
        look_through(&proxy);
        drop(proxy);
        let stats = server.drain();
        assert_eq!((stats.closed(CloseReason::ProxyRefused), stats.bytes_undelivered), (0, 0), "{stats}");
    }

    #[test]
    fn nginx_says_for_whom_it_connects() {
        let server = server();
        let Some(proxy) = nginx(server.address()) else { return };
        look_through(&proxy);
        drop(proxy);
        let stats = server.drain();
        assert_eq!(stats.closed(CloseReason::ProxyRefused), 0, "{stats}");
    }
}
