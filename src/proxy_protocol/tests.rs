//! Headers that proxies send, cut everywhere, and those that nobody should.

use proptest::prelude::*;

use super::{Cidr, ProxyHeader, ProxyHeaderError as E, v2};

fn v2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xc0, 0, 1, 0xbb];

/// A header, and what it says: both addresses, or nobody's.
type Good = (Vec<u8>, Option<(&'static str, &'static str)>);

fn good() -> Vec<Good> {
    let line = |line: &str| format!("{line}\r\n").into_bytes();
    let ipv6 =
        [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &[0; 15], &[1, 0xc0, 0, 1, 0xbb]]
            .concat();
    let path = |path: &str| [path.as_bytes(), &vec![0; 108 - path.len()]].concat();
    let with_noop = [&IPV4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    // What `send-proxy-v2-ssl-cn` adds, in short: a value with values in it.
    let with_ssl = [&IPV4[..], &[0x20, 0, 8, 1, 0, 0, 0, 0, 0x21, 0, 0]].concat();
    let ips = Some(("192.0.2.7:49152", "198.51.100.1:443"));
    vec![
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 49152 443"), ips),
        (line("PROXY TCP6 2001:db8::7 ::1 49152 443"), Some(("[2001:db8::7]:49152", "[::1]:443"))),
        (line("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0"), Some(("255.255.255.255:65535", "0.0.0.0:0"))),
        (line("PROXY UNKNOWN"), None),
        (line("PROXY UNKNOWN whatever else it says, until here"), None),
        (line(&format!("PROXY UNKNOWN {}", "x".repeat(91))), None),
        (v2_header(0x21, 0x11, &IPV4), ips),
        (v2_header(0x21, 0x21, &ipv6), Some(("[2001:db8::7]:49152", "[::1]:443"))),
        (v2_header(0x21, 0x31, &[path("/a"), path("/b")].concat()), Some(("unix:/a", "unix:/b"))),
        (v2_header(0x21, 0x11, &with_noop), ips),
        (v2_header(0x21, 0x11, &with_ssl), ips),
        (v2_header(0x21, 0x11, &with_checksum(&IPV4)), ips),
        (v2_header(0x21, 0x00, b"whatever"), None),
        (v2_header(0x20, 0x00, b""), None),
        // What is in it does not matter.
        (v2_header(0x20, 0xff, &[7; 20]), None),
        (v2_header(0x20, 0x11, &IPV4), None),
    ]
}

/// What follows the fixed part, with a checksum behind.
fn with_checksum(rest: &[u8]) -> Vec<u8> {
    let zero = [rest, &[0x03, 0, 4, 0, 0, 0, 0]].concat();
    let checksum = v2::crc32c(v2_header(0x21, 0x11, &zero).iter());
    [rest, &[0x03, 0, 4], &checksum.to_be_bytes()].concat()
}

#[test]
fn however_a_header_is_cut_it_says_the_same() {
    for (header, addresses) in good() {
        for cut in 0..header.len() {
            assert_eq!(ProxyHeader::parse(&header[..cut]), Ok(None), "{}", header[..cut].escape_ascii());
        }
        for behind in [&b""[..], b"\r\n", b"GET / HTTP/1.1\r\n", &[0; 5000]] {
            let received = [&header, behind].concat();
            let (parsed, length) = ProxyHeader::parse(&received).unwrap().expect("it is complete");
            assert_eq!(length, header.len());
            let said = parsed.addresses.map(|both| (both.source.to_string(), both.destination.to_string()));
            let expected = addresses.map(|(source, destination)| (source.to_owned(), destination.to_owned()));
            assert_eq!(said, expected, "{}", header.escape_ascii());
            assert_eq!(parsed.is_local, header[12] == 0x20 && header[0] == b'\r');
        }
    }
}

#[test]
fn what_is_wrong_is_an_error_and_stays_one() {
    let wrong_checksum = {
        let mut rest = with_checksum(&IPV4);
        *rest.last_mut().unwrap() ^= 1;
        rest
    };
    let bad: [(Vec<u8>, E); 30] = [
        (b"GET / HTTP/1.1\r\n".to_vec(), E::NoHeader),
        (b"PROXI ".to_vec(), E::NoHeader),
        (b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), E::NoHeader),
        (b"\r\n\r\n\0\r\nQUIT!".to_vec(), E::NoHeader),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n".to_vec(), E::LineEnd),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx".to_vec(), E::LineEnd),
        ([&b"PROXY UNKNOWN "[..], &[b'x'; 93]].concat(), E::LineEnd),
        ([&b"PROXY UNKNOWN "[..], &[b'x'; 92], b"\r\n"].concat(), E::LineEnd),
        (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), E::Words),
        (b"PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), E::Words),
        (b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), E::Words),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n".to_vec(), E::Words),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n".to_vec(), E::Words),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n".to_vec(), E::Words),
        (b"PROXY UNKNOWN\xff\r\n".to_vec(), E::Words),
        (b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), E::Address),
        (b"PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n".to_vec(), E::Address),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(), E::Address),
        (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), E::Address),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n".to_vec(), E::Address),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n".to_vec(), E::Address),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n".to_vec(), E::Address),
        (v2_header(0x11, 0x11, &IPV4), E::Unknown),
        (v2_header(0x22, 0x11, &IPV4), E::Unknown),
        (v2_header(0x21, 0x12, &IPV4), E::Unknown),
        (v2_header(0x21, 0x41, &IPV4), E::Unknown),
        (v2_header(0x21, 0x11, &IPV4[1..]), E::Length),
        (v2_header(0x21, 0x21, &IPV4), E::Length),
        (v2_header(0x21, 0x11, &[&IPV4[..], &[0x04, 0, 3, 1]].concat()), E::Length),
        (v2_header(0x21, 0x11, &wrong_checksum), E::Checksum),
    ];
    for (header, error) in bad {
        assert_eq!(ProxyHeader::parse(&header), Err(error), "{}", header.escape_ascii());
        // What is no header does not become one by what follows.
        assert_eq!(ProxyHeader::parse(&[&header, &b"\r\n\r\n"[..]].concat()), Err(error));
    }
    assert_eq!(ProxyHeader::parse(&v2_header(0x21, 0x11, &[0; 4081])), Err(E::Length));
}

/// RFC 3720, appendix B.4.
#[cfg(unix)]
#[test]
fn a_path_may_have_any_bytes() {
    let mut rest = [0; 216];
    rest[..108].fill(0xb4);
    rest[108..112].copy_from_slice(b"/a\xff\n");
    let header = v2_header(0x21, 0x31, &rest);
    let (read, _) = ProxyHeader::parse(&header).unwrap().unwrap();
    let said = read.addresses.unwrap();
    assert_eq!(ProxyHeader::encode(&said.source, &said.destination), header);
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    assert_eq!(v2::crc32c([0; 32].iter()), 0x8a91_36aa);
    assert_eq!(v2::crc32c((0..32).collect::<Vec<u8>>().iter()), 0x46dd_794e);
    assert_eq!(v2::crc32c(b"123456789".iter()), 0xe306_9283);
}

#[test]
fn networks_are_what_they_are_written_as() {
    for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "2001:db8::/32", "::/0", "::1/128"] {
        assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
    }
    assert_eq!("192.0.2.1".parse::<Cidr>().unwrap().to_string(), "192.0.2.1/32");
    for text in [
        "",
        "/",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "::1/129",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "host/8",
        "10.0.0.0/8/8",
    ] {
        let error = text.parse::<Cidr>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("'{text}' is no network")), "{error}");
    }
    let contains = |network: &str, ip: &str| network.parse::<Cidr>().unwrap().contains(ip.parse().unwrap());
    assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
    assert!(contains("0.0.0.0/0", "203.0.113.1") && !contains("0.0.0.0/0", "::1"));
    assert!(contains("2001:db8::/33", "2001:db8:7fff::1") && !contains("2001:db8::/33", "2001:db8:8000::1"));
}

proptest! {
    #[test]
    fn whatever_comes_it_never_panics_and_more_never_changes_an_answer(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            proptest::collection::vec(any::<u8>(), 0..60).prop_map(|rest| [&b"PROXY TCP4 "[..], &rest].concat()),
            (any::<u8>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..60))
                .prop_map(|(command, family, rest)| v2_header(0x20 | command & 3, family & 0x33, &rest)),
        ],
        cut in any::<proptest::sample::Index>(),
    ) {
        let whole = ProxyHeader::parse(&bytes);
        let part = ProxyHeader::parse(&bytes[..cut.index(bytes.len() + 1)]);
        prop_assert!(part == Ok(None) || part == whole, "{part:?} and then {whole:?}");
    }
}
