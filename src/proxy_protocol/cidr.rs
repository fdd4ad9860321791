//! Networks of addresses.

use std::{fmt, net::IpAddr, str::FromStr};

/// A network: an address and how many of its first bits matter (RFC 4632), as in `10.0.0.0/8` or `2001:db8::/32`. An
/// address alone is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    ip: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Whether the address belongs to it. An IPv4 address that comes as one of IPv6 (`::ffff:192.0.2.1`) is what it is.
    ///
    /// ```
    /// use echoloop::Cidr;
    ///
    /// let network: Cidr = "192.0.2.0/24".parse()?;
    /// assert!(network.contains("192.0.2.7".parse().unwrap()));
    /// assert!(network.contains("::ffff:192.0.2.7".parse().unwrap()));
    /// assert!(!network.contains("198.51.100.7".parse().unwrap()));
    /// # Ok::<(), echoloop::CidrError>(())
    /// ```
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.ip.is_ipv4() && masked(ip, self.bits) == masked(self.ip, self.bits)
    }
}

/// The first bits of an address, at the same place in a longer one.
fn masked(ip: IpAddr, bits: u8) -> u128 {
    let all = match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    };
    all & !u128::MAX.checked_shr(bits.into()).unwrap_or(0)
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.to_owned());
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().map_err(|_| error())?;
        let most: u8 = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| error())?
            }
            Some(_) => return Err(error()),
        };
        if bits > most || masked(ip, bits) != masked(ip, most) {
            return Err(error());
        }
        Ok(Self { ip, bits })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is no network, such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1", self.0)
    }
}

impl std::error::Error for CidrError {}
