//! How many clients come from each address.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::address::Address;

/// Counts the connections of each client's address, over all workers: of an IPv4 address, or of the /64 of an IPv6 address,
/// which is one subscriber's (RFC 6177). Clients of Unix sockets are not counted.
pub struct Networks {
    most: usize,
    connections: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection that is counted, until this is dropped.
pub(crate) struct Counted {
    networks: Arc<Networks>,
    network: IpAddr,
}

impl Networks {
    /// Not more than so many from each.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, connections: Mutex::default() })
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection from this address.
    ///
    /// # Errors
    ///
    /// If there are as many from there already.
    pub(crate) fn count(networks: &Arc<Self>, address: &Address) -> Result<Option<Counted>, TooMany> {
        let Some(network) = network_of(address) else { return Ok(None) };
        let mut connections = networks.connections();
        let count = connections.entry(network).or_default();
        if *count >= networks.most {
            return Err(TooMany);
        }
        *count += 1;
        drop(connections);
        Ok(Some(Counted { networks: Arc::clone(networks), network }))
    }
}

/// There are as many connections from an address as there may be.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Drop for Counted {
    fn drop(&mut self) {
        let mut connections = self.networks.connections();
        if let Some(count) = connections.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.network);
            }
        }
    }
}

fn network_of(address: &Address) -> Option<IpAddr> {
    match address {
        Address::Ip(address) => Some(match address.ip().to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        }),
        Address::Unix(_) | Address::Host { .. } | Address::Udp(_) | Address::UdpHost { .. } => None,
    }
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Networks").field("most", &self.most).finish_non_exhaustive()
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counted({})", self.network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_of_one_network_are_counted_together_until_they_end() {
        let networks = Networks::new(2);
        let count = |text: &str| Networks::count(&networks, &parse(text));
        let first = count("10.0.0.1:1").unwrap();
        let _second = count("[::ffff:10.0.0.1]:2").unwrap();
        assert!(count("10.0.0.1:3").is_err());
        let _other = count("10.0.0.2:1").unwrap();
        drop(first);
        let _third = count("10.0.0.1:4").unwrap();

        let v6 = ["[2001:db8::1]:1", "[2001:db8::ffff:2]:1"].map(|text| count(text).unwrap());
        assert!(count("[2001:db8::3]:1").is_err());
        assert!(count("[2001:db8:0:1::3]:1").is_ok());
        assert!(count("unix:/path").unwrap().is_none());
        drop(v6);
        assert_eq!(networks.connections().len(), 2, "nothing is kept of those that are gone");
    }
}
