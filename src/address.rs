//! Addresses as people write them, and as sockets report them.

use std::{
    collections::VecDeque,
    fmt::{self, Write},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
};

/// Where to listen or connect to, and where a peer is.
///
/// Written as `HOST:PORT`, `V4:PORT`, `[V6]:PORT`, `:PORT` or `unix:PATH`; `Display` writes the same forms, control
/// characters escaped. `udp:` before any of the forms with a port means datagrams instead of a stream.
///
/// A link-local IPv6 address needs its interface (a zone, RFC 4007): by index, as in `[fe80::1%2]:27015`, or, except on
/// Windows, by name, as in `[fe80::1%eth0]:27015`.
///
/// ```
/// use echoloop::Address;
///
/// let address: Address = "[::1]:27015".parse()?;
/// assert!(matches!(address, Address::Ip(a) if a.port() == 27015 && a.is_ipv6()));
/// assert_eq!(address.to_string(), "[::1]:27015");
/// # Ok::<(), echoloop::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IPv4 or IPv6 address with a port.
    Ip(SocketAddr),
    /// A host name with a port, to be resolved.
    Host {
        /// The name, as it was written. It may be an IPv6 address with the name of its interface. An empty name means
        /// every interface of this machine, over IPv4 and IPv6.
        name: String,
        /// The port; 0 lets the system choose when listening.
        port: u16,
    },
    /// The path of a Unix domain socket. Empty where the peer's socket has no name, as most have not.
    Unix(PathBuf),
    /// An IPv4 or IPv6 address with a port, for datagrams. A server can listen on it; connections are not made to it.
    Udp(SocketAddr),
    /// A host name with a port, to be resolved, for datagrams.
    UdpHost {
        /// The name, as that of [`Host`](Self::Host).
        name: String,
        /// The port; 0 lets the system choose when listening.
        port: u16,
    },
}

impl Address {
    /// A host with a port, such as a peer asks to be connected to: a name, or an IPv4 or IPv6 address without brackets.
    /// An empty name is refused, as it would mean this machine.
    ///
    /// ```
    /// use echoloop::Address;
    ///
    /// assert_eq!(Address::host("example.com", 443)?.to_string(), "example.com:443");
    /// assert_eq!(Address::host("::1", 443)?, "[::1]:443".parse()?);
    /// assert!(Address::host("", 443).is_err());
    /// # Ok::<(), echoloop::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`AddressError::Syntax`] for what is no name of a host.
    pub fn host(name: &str, port: u16) -> Result<Self, AddressError> {
        let text = if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
        let parsed = if name.is_empty() { Err(NO_HOST) } else { parse_host_and_port(&text) };
        parsed.map_err(|why| AddressError::Syntax { text, why })
    }

    /// Every socket address that this address stands for, in the resolver's order and without
    /// duplicates. Blocks while a host name is looked up. A Unix path stands for itself.
    ///
    /// # Errors
    ///
    /// [`AddressError::Resolve`] if the host or the interface is unknown, or if the resolver fails.
    ///
    /// ```
    /// let all = "localhost:27015".parse::<echoloop::Address>()?.resolve()?;
    /// assert!(!all.is_empty());
    /// # Ok::<(), echoloop::Error>(())
    /// ```
    pub fn resolve(&self) -> Result<Vec<Self>, AddressError> {
        let (name, port, form): (_, _, fn(SocketAddr) -> Self) = match self {
            Self::Host { name, port } => (name, port, Self::Ip),
            Self::UdpHost { name, port } => (name, port, Self::Udp),
            Self::Ip(_) | Self::Udp(_) | Self::Unix(_) => return Ok(vec![self.clone()]),
        };
        if name.is_empty() {
            let every_interface = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
            return Ok(every_interface.map(|ip| form(SocketAddr::new(ip, *port))).into());
        }
        let failed = |source| AddressError::Resolve { address: self.clone(), source };
        let mut found = Vec::new();
        for address in (name.as_str(), *port).to_socket_addrs().map_err(failed)? {
            let address = form(address);
            if !found.contains(&address) {
                found.push(address);
            }
        }
        if found.is_empty() {
            return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
        }
        Ok(found)
    }

    /// Whether it is one for datagrams, to which no connection can be made.
    ///
    /// ```
    /// let address: echoloop::Address = "udp:127.0.0.1:27015".parse()?;
    /// assert!(address.is_udp());
    /// # Ok::<(), echoloop::Error>(())
    /// ```
    #[must_use]
    pub const fn is_udp(&self) -> bool {
        match self {
            Self::Udp(_) | Self::UdpHost { .. } => true,
            Self::Ip(_) | Self::Host { .. } | Self::Unix(_) => false,
        }
    }

    /// The same host and port, for datagrams.
    fn over_udp(self) -> Self {
        match self {
            Self::Ip(address) => Self::Udp(address),
            Self::Host { name, port } => Self::UdpHost { name, port },
            Self::Udp(_) | Self::UdpHost { .. } | Self::Unix(_) => self,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parsed = if let Some(path) = text.strip_prefix("unix:") {
            parse_path(path)
        } else if let Some(rest) = text.strip_prefix("udp:") {
            parse_host_and_port(rest).map(Self::over_udp)
        } else {
            parse_host_and_port(text)
        };
        parsed.map_err(|why| AddressError::Syntax { text: text.to_owned(), why })
    }
}

const NO_HOST: &str = "expected a host before the last colon";

fn parse_path(path: &str) -> Result<Address, &'static str> {
    if path.is_empty() {
        return Err("the path after unix: is missing");
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

fn parse_host_and_port(text: &str) -> Result<Address, &'static str> {
    if let Ok(address) = text.parse() {
        return Ok(Address::Ip(address));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("expected HOST:PORT, [V6]:PORT, udp:HOST:PORT or unix:PATH");
    };
    let is_host_character = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(bracketed) if is_zoned(bracketed) => bracketed,
        None if host.contains(':') => {
            return Err("an IPv6 address is written in brackets, as in [::1]:27015");
        }
        Some(_) | None if host.chars().all(is_host_character) => host,
        Some(_) | None => return Err(NO_HOST),
    };
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err("the port is not a number from 0 to 65535");
    }
    match port.parse() {
        Ok(port) => Ok(Address::Host { name: name.to_owned(), port }),
        Err(_) => Err("the port is not a number from 0 to 65535"),
    }
}

/// Whether this is an IPv6 address with the name of an interface, such as `fe80::1%eth0`. One with an index is an address
/// that std understands.
fn is_zoned(name: &str) -> bool {
    let is_interface_character = |c: char| c.is_ascii_graphic() && !matches!(c, '%' | '[' | ']' | '/');
    name.split_once('%').is_some_and(|(ip, interface)| {
        ip.parse::<Ipv6Addr>().is_ok()
            && !interface.is_empty()
            && !interface.bytes().all(|b| b.is_ascii_digit())
            && interface.chars().all(is_interface_character)
    })
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = AddressError;

    fn try_from(text: &String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_udp() {
            f.write_str("udp:")?;
        }
        match self {
            Self::Ip(address) | Self::Udp(address) => address.fmt(f),
            Self::Host { name, port } | Self::UdpHost { name, port } if name.contains(':') => {
                write!(f, "[{name}]:{port}")
            }
            Self::Host { name, port } | Self::UdpHost { name, port } => write!(f, "{name}:{port}"),
            Self::Unix(path) => {
                f.write_str("unix:")?;
                // Peers choose theirs, and none may begin a new line of a log.
                path.display().to_string().chars().try_for_each(|c| match c {
                    c if c.is_control() => write!(f, "{}", c.escape_default()),
                    c => f.write_char(c),
                })
            }
        }
    }
}

/// In the order in which they are tried: those of both families in turn, beginning with that of the first, else as the
/// resolver says (RFC 8305, section 4).
pub(crate) fn interleave(addresses: Vec<Address>) -> Vec<Address> {
    let is_v6 = |address: &Address| matches!(address, Address::Ip(ip) if ip.is_ipv6());
    let first = addresses.first().is_some_and(is_v6);
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| is_v6(address) == first);
    let mut all = Vec::with_capacity(one.len() + other.len());
    while !one.is_empty() || !other.is_empty() {
        all.extend(one.pop_front());
        all.extend(other.pop_front());
    }
    all
}

/// Why an address is of no use.
///
/// `Display` gives one line, `what: why`.
///
/// ```
/// let error = "localhost".parse::<echoloop::Address>().unwrap_err();
/// let expected = "address 'localhost': expected HOST:PORT, [V6]:PORT, udp:HOST:PORT or unix:PATH";
/// assert_eq!(error.to_string(), expected);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum AddressError {
    /// The text is not an address that echoloop understands.
    Syntax {
        /// The text as it was given.
        text: String,
        /// What was expected instead.
        why: &'static str,
    },
    /// A host name could not be resolved.
    Resolve {
        /// The host and port that were asked for.
        address: Address,
        /// What the resolver said.
        source: io::Error,
    },
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { text, why } => write!(f, "address '{text}': {why}"),
            Self::Resolve { address, source } => write!(f, "cannot resolve {address}: {source}"),
        }
    }
}

impl std::error::Error for AddressError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Syntax { .. } => None,
            Self::Resolve { source, .. } => Some(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_is_too_strange(
            text in ".{0,40}|[0-9a-f:.%\\[\\]]{0,40}|\\[fe80::1%.{0,9}\\]:1|unix:.{0,9}|udp:.{0,30}|[a-z.-]{0,9}:[0-9]{1,6}"
        ) {
            // Control characters are shown, and not read back.
            if !text.contains(char::is_control) && let Ok(address) = text.parse::<Address>() {
                // What is understood reads back as the same address.
                prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
            }
        }
    }

    #[test]
    fn no_path_begins_a_new_line() {
        let address = Address::Unix("/tmp/x\nERROR all is lost\u{1b}[2J".into());
        assert_eq!(address.to_string(), "unix:/tmp/x\\nERROR all is lost\\u{1b}[2J");
    }

    #[test]
    fn every_form_reads_back_as_it_is_written() {
        for text in [
            "127.0.0.1:0",
            "[::1]:27015",
            "[fe80::1%2]:27015",
            "[fe80::1%eth0]:27015",
            "[fe80::1%br-3.7:1]:27015",
            "localhost:65535",
            ":27015",
            "unix:/run/echo.sock",
            "udp:127.0.0.1:0",
            "udp:[::1]:27015",
            "udp:[fe80::1%eth0]:27015",
            "udp:localhost:65535",
            "udp::27015",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    /// The socket address that `text` stands for.
    fn resolved_v6(text: &str) -> Result<SocketAddrV6, AddressError> {
        let all = text.parse::<Address>().unwrap().resolve()?;
        let [Address::Ip(SocketAddr::V6(address))] = *all else { panic!("{all:?}") };
        Ok(address)
    }

    #[test]
    fn an_interface_is_given_by_index_or_by_name() {
        assert_eq!(resolved_v6("[fe80::1%7]:27015").unwrap().scope_id(), 7);
        if cfg!(target_os = "linux") {
            // The loopback interface is the first of every network namespace.
            assert_eq!(resolved_v6("[fe80::1%lo]:27015").unwrap(), resolved_v6("[fe80::1%1]:27015").unwrap());
        }
        let error = resolved_v6("[fe80::1%nosuchif]:27015").unwrap_err().to_string();
        assert!(error.starts_with("cannot resolve [fe80::1%nosuchif]:27015: "), "{error}");
    }

    #[test]
    fn no_host_is_every_interface_over_ipv4_and_ipv6() {
        let all = ":27015".parse::<Address>().unwrap().resolve().unwrap();
        assert_eq!(all.iter().map(Address::to_string).collect::<Vec<_>>(), ["0.0.0.0:27015", "[::]:27015"]);
    }

    #[test]
    fn an_address_for_datagrams_resolves_to_such_addresses() {
        let resolved = |text: &str| text.parse::<Address>().unwrap().resolve().unwrap();
        let written = |text| resolved(text).iter().map(Address::to_string).collect::<Vec<_>>();
        assert_eq!(written("udp::7"), ["udp:0.0.0.0:7", "udp:[::]:7"]);
        assert_eq!(written("udp:127.0.0.1:7"), ["udp:127.0.0.1:7"]);
        assert!(resolved("udp:localhost:7").iter().all(|address| matches!(address, Address::Udp(_))));
        let error = "udp:nowhere.invalid:7".parse::<Address>().unwrap().resolve().unwrap_err().to_string();
        assert!(error.starts_with("cannot resolve udp:nowhere.invalid:7: "), "{error}");
    }

    #[test]
    fn bad_addresses_are_refused_with_a_reason() {
        for text in [
            "",
            ":",
            "localhost",
            "localhost:",
            "localhost:65536",
            "localhost:-1",
            "localhost:+1",
            "::1:27015",
            "[::1]",
            "[::1:1",
            "[]:1",
            "[fe80::1%]:1",
            "[fe80::1%99999999999]:1",
            "[fe80::1%a b]:1",
            "[fe80::1%eth0%1]:1",
            "[127.0.0.1%eth0]:1",
            "fe80::1%eth0:1",
            "a b:1",
            "unix:",
            "host:1x",
            "udp:",
            "udp:localhost",
            "udp:localhost:65536",
            "udp:::1:27015",
            "udp:unix:/tmp/x",
            "udp:udp:localhost:1",
            "http://host:80",
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.starts_with(&format!("address '{text}': ")), "{error}");
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn a_host_with_a_port_is_no_other_form() {
        let host = |name: &str| Address::host(name, 80).map(|address| address.to_string());
        for name in ["localhost", "unix", "udp", "a.example", "127.0.0.1"] {
            assert_eq!(host(name).unwrap(), format!("{name}:80"));
        }
        assert!(matches!(Address::host("127.0.0.1", 80), Ok(Address::Ip(_))));
        assert_eq!(host("fe80::1%eth0").unwrap(), "[fe80::1%eth0]:80");
        for name in
            ["", "[::1]", "::1]:1", "localhost:1", "unix:/x", "udp:localhost", "a b", "a\nb", "http://a"]
        {
            let error = host(name).expect_err(name);
            assert!(matches!(error, AddressError::Syntax { why: NO_HOST, .. }), "{error}");
        }
    }

    #[test]
    fn both_families_are_tried_in_turn_beginning_with_the_preferred_one() {
        let all = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<Address>>();
        let found = all(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"]);
        let tried = all(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"]);
        assert_eq!(interleave(found), tried);
        assert_eq!(interleave(all(&["10.0.0.1:1", "[::1]:1"])), all(&["10.0.0.1:1", "[::1]:1"]));
        assert_eq!(interleave(Vec::new()), Vec::new());
    }
}
