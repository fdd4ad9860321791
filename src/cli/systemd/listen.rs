//! Where `serve` listens, by its arguments and by the sockets that it was passed.

use std::fmt;

use echoloop::{Address, AddressError};

use crate::cli::{failure::Failure, values::listen_address};

/// An argument of `serve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// At this address.
    At(Address),
    /// On all sockets that were passed.
    Passed,
    /// On those of this name.
    Named(String),
}

/// Reads `systemd:`, `fd:NAME` or an address.
pub(crate) fn listen(text: &str) -> Result<Listen, AddressError> {
    if text == "systemd:" {
        return Ok(Listen::Passed);
    }
    match text.strip_prefix("fd:") {
        // systemd allows no colon in a name, while an IPv6 address may begin like this.
        Some(name) if !name.is_empty() && !name.contains(':') => Ok(Listen::Named(name.to_owned())),
        _ => listen_address(text).map(Listen::At),
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Passed => f.write_str("systemd:"),
            Self::Named(name) => write!(f, "fd:{}", name.escape_debug()),
        }
    }
}

/// The addresses that the arguments stand for, each address of a passed socket once. `passed` are the names and addresses
/// of those sockets.
pub(super) fn addresses(asked: &[Listen], passed: &[(&str, &Address)]) -> Result<Vec<Address>, Failure> {
    let mut addresses: Vec<Address> = Vec::new();
    for listen in asked {
        let is_meant = |name: &str| match listen {
            Listen::At(_) => false,
            Listen::Passed => true,
            Listen::Named(asked) => asked == name,
        };
        if let Listen::At(address) = listen {
            addresses.push(address.clone());
            continue;
        }
        let mut meant = passed.iter().filter(|(name, _)| is_meant(name)).peekable();
        if meant.peek().is_none() {
            return Err(missing(listen, passed));
        }
        for (_, address) in meant {
            if !addresses.contains(address) {
                addresses.push((*address).clone());
            }
        }
    }
    Ok(addresses)
}

fn missing(listen: &Listen, passed: &[(&str, &Address)]) -> Failure {
    if passed.is_empty() {
        let failure = Failure::new(format!("cannot listen on {listen}: no sockets were inherited"));
        return failure.hint(Some("a socket unit does it, or systemd-socket-activate(1)"));
    }
    let mut names: Vec<_> = passed.iter().map(|(name, _)| name.escape_debug().to_string()).collect();
    names.sort_unstable();
    names.dedup();
    Failure::new(format!(
        "cannot listen on {listen}: the names of the inherited sockets are {}",
        names.join(", ")
    ))
}

/// The names of so many sockets, as `LISTEN_FDNAMES` has them: sd_listen_fds_with_names(3).
pub(super) fn names(variable: Option<&str>, sockets: usize) -> Result<Vec<String>, Failure> {
    let Some(variable) = variable else { return Ok(vec!["unknown".to_owned(); sockets]) };
    let names: Vec<String> = variable.split(':').map(str::to_owned).collect();
    if names.len() == sockets {
        return Ok(names);
    }
    Err(Failure::new(format!("LISTEN_FDNAMES has {} names for {sockets} inherited sockets", names.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<Listen> {
        texts.iter().map(|text| listen(text).unwrap()).collect()
    }

    /// What the arguments stand for, where three sockets were passed, of which two have one address.
    fn asked(texts: &[&str]) -> Result<Vec<String>, String> {
        let [web, other] = ["127.0.0.1:80", "unix:/run/x"].map(|text| text.parse::<Address>().unwrap());
        let passed = [("web", &web), ("web", &web), ("other", &other)];
        let found = addresses(&all(texts), &passed).map_err(|failure| failure.to_string())?;
        Ok(found.iter().map(Address::to_string).collect())
    }

    #[test]
    fn each_passed_address_is_meant_once_in_the_order_of_the_arguments() {
        let written = |texts: &[&str]| asked(texts).unwrap();
        assert_eq!(written(&["systemd:"]), ["127.0.0.1:80", "unix:/run/x"]);
        assert_eq!(written(&["fd:other", "systemd:"]), ["unix:/run/x", "127.0.0.1:80"]);
        assert_eq!(written(&["127.0.0.1:80", "fd:web", "[::1]:7"]), ["127.0.0.1:80", "[::1]:7"]);
    }

    #[test]
    fn a_name_that_no_socket_has_is_an_error_that_says_which_there_are() {
        let error = asked(&["fd:we"]).unwrap_err();
        assert_eq!(error, "cannot listen on fd:we: the names of the inherited sockets are other, web");
        let error = addresses(&all(&["systemd:"]), &[]).unwrap_err().to_string();
        assert!(error.starts_with("cannot listen on systemd:: no sockets were inherited"), "{error}");
    }

    #[test]
    fn what_has_the_form_of_an_address_is_one() {
        for text in ["systemd:", "fd:web", "fd:80", "127.0.0.1:7", "[fd::1]:7", "unix:/fd:x"] {
            assert_eq!(listen(text).unwrap().to_string(), text);
        }
        assert_eq!(listen("fd::1").unwrap().to_string(), "[fd::1]:27015");
        for bad in ["systemd", "systemd:x", "fd:", "fd:a:b"] {
            assert!(!matches!(listen(bad), Ok(Listen::Passed | Listen::Named(_))), "{bad}");
        }
    }

    #[test]
    fn there_are_as_many_names_as_sockets_or_none() {
        assert_eq!(names(None, 2).unwrap(), ["unknown", "unknown"]);
        assert_eq!(names(Some("a::c"), 3).unwrap(), ["a", "", "c"]);
        let error = names(Some("a"), 2).unwrap_err().to_string();
        assert_eq!(error, "LISTEN_FDNAMES has 1 names for 2 inherited sockets");
    }
}
