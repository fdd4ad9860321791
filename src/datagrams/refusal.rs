//! Datagrams that are not answered, because of where they come from or were sent to.
//!
//! The source of a datagram is whatever its sender wrote there. An echo of the same size amplifies nothing by itself, but
//! whoever writes another service's address as the source makes the two talk, for ever if that one answers anything
//! (CVE-1999-0103, CVE-2024-2169), and whoever sends to a broadcast address makes many answer one (CVE-1999-0514). Nothing
//! in a datagram tells an echo that it has seen it before, so the addresses have to do.

use std::net::IpAddr;

use crate::system::datagrams::{Arrival, Destination};

/// Services below port 1024 that answer what they did not ask for: no client has such a port.
///
/// First those that answer anything (RFC 862 to 868), then those of which some implementations answer an error with an error
/// (CVE-2024-2169), and those that answer forged requests with more than came (CISA alert TA14-017A).
const ANSWERING_PORTS: [u16; 14] = [
    7,   // echo
    11,  // active users
    13,  // daytime
    17,  // quote of the day
    19,  // character generator
    37,  // time
    53,  // DNS
    69,  // TFTP
    123, // NTP
    111, // portmap
    137, // NetBIOS names
    161, // SNMP
    389, // LDAP without connections
    520, // RIP
];

/// Whether a datagram must not be answered. `own_ports` are those of the server's datagram sockets: two echo servers on
/// the same port, or two sockets of one, would echo each other's answers for ever.
pub(super) fn is_refused(arrival: &Arrival, own_ports: &[u16]) -> bool {
    let (ip, port) = (arrival.from.ip(), arrival.from.port());
    let is_to_many = match arrival.to {
        Destination::Bound | Destination::Local { .. } => false,
        Destination::Group => true,
    };
    // RFC 768: a source port of 0 means that no answer is expected.
    is_to_many
        || port == 0
        || own_ports.contains(&port)
        || ANSWERING_PORTS.contains(&port)
        || is_nobodys_own(ip)
}

/// Whether no single host can have this address (RFC 1122 section 3.2.1.3): unspecified, multicast or broadcast. What is a
/// network's own broadcast address only the system knows: it refuses to send there.
fn is_nobodys_own(ip: IpAddr) -> bool {
    let is_broadcast = match ip {
        IpAddr::V4(ip) => ip.is_broadcast(),
        IpAddr::V6(_) => false,
    };
    is_broadcast || ip.is_unspecified() || ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused_from(from: &str) -> bool {
        let arrival = Arrival { length: 1, from: from.parse().unwrap(), to: Destination::Bound };
        is_refused(&arrival, &[27_015, 5000])
    }

    #[test]
    fn clients_are_answered() {
        for from in ["127.0.0.1:49152", "198.51.100.7:1024", "[2001:db8::1]:65535", "192.0.2.255:40000"] {
            assert!(!is_refused_from(from), "{from}");
        }
        // Programs that bind low ports themselves, and not one of a service that answers.
        assert!(!is_refused_from("192.0.2.1:1023"));
    }

    #[test]
    fn services_that_would_answer_are_refused() {
        for port in ANSWERING_PORTS {
            assert!(is_refused_from(&format!("192.0.2.1:{port}")), "{port}");
            assert!(is_refused_from(&format!("[2001:db8::1]:{port}")), "{port}");
        }
        assert!(ANSWERING_PORTS.iter().all(|&port| port < 1024));
    }

    #[test]
    fn the_ports_of_the_servers_own_sockets_are_refused_on_any_host() {
        for from in ["127.0.0.1:27015", "198.51.100.7:27015", "[::1]:5000"] {
            assert!(is_refused_from(from), "{from}");
        }
    }

    #[test]
    fn addresses_that_no_host_has_are_refused() {
        for from in [
            "192.0.2.1:0",
            "0.0.0.0:40000",
            "255.255.255.255:40000",
            "224.0.0.1:40000",
            "239.255.255.255:40000",
            "[::]:40000",
            "[ff02::1]:40000",
        ] {
            assert!(is_refused_from(from), "{from}");
        }
    }

    #[test]
    fn what_was_sent_to_many_is_not_answered_by_all_of_them() {
        let from = "192.0.2.1:40000".parse().unwrap();
        let local = Destination::Local { ip: [192, 0, 2, 2].into(), interface: 1 };
        for (to, refused) in [(Destination::Group, true), (local, false)] {
            assert_eq!(is_refused(&Arrival { length: 1, from, to }, &[]), refused, "{to:?}");
        }
    }
}
