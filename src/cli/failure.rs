//! Why the program ends with an error: one line, a hint where there is one, and the exit status.

use std::{fmt, io, net::SocketAddr, process::ExitCode};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use echoloop::{Address, AddressError, Error};

/// An error as the user sees it.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<&'static str>,
    status: u8,
}

/// Only where there are Unix sockets.
const CTL: &str = if cfg!(unix) { "ctl, " } else { "" };

impl Failure {
    /// Something went wrong: exit status 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, status: 1 }
    }

    /// The arguments contradict one another: exit status 2.
    pub(crate) fn arguments(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some("try --help"), status: 2 }
    }

    /// The arguments are wrong: exit status 2. Of clap's several lines only those before its general advice are kept.
    pub(crate) fn usage(mut error: clap::Error) -> Self {
        forget_double_dash(&mut error);
        let text = error.render().to_string();
        let advice = ["\n\nUsage: ", "\n\nFor more information"].map(|start| text.rfind(start));
        let end = advice.into_iter().flatten().min().unwrap_or(text.len());
        let line = text[..end].split_whitespace().collect::<Vec<_>>().join(" ");
        let lacks_command =
            [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
        let message = if lacks_command.contains(&error.kind()) && text.contains("echoloop ctl ") {
            "an order is missing: status, list, kill, drain, undrain, stop, reload or log-level".to_owned()
        } else if lacks_command.contains(&error.kind()) {
            format!("a command is missing: serve, client, bench, report, health, {CTL}man or completions")
        } else {
            line.strip_prefix("error: ").unwrap_or(&line).to_owned()
        };
        Self { message, hint: Some("try --help"), status: 2 }
    }

    /// No connection to `address` can be made.
    pub(crate) fn connect(address: &Address, error: &io::Error) -> Self {
        let hint = if lacks_interface(address) { Some(INTERFACE_HINT) } else { connect_hint(error) };
        Self::new(format!("cannot connect to {address}: {error}")).hint(hint)
    }

    /// No datagram gets to `address`, or nobody is there.
    pub(crate) fn reach(address: &Address, error: &io::Error) -> Self {
        let hint = if lacks_interface(address) { Some(INTERFACE_HINT) } else { connect_hint(error) };
        Self::new(format!("cannot reach {address}: {error}")).hint(hint)
    }

    /// Stdout cannot be written to.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        Self::new(format!("cannot write to stdout: {error}"))
    }

    /// Adds a hint, if there is one.
    pub(crate) fn hint(mut self, hint: Option<&'static str>) -> Self {
        self.hint = hint;
        self
    }

    pub(crate) fn status(&self) -> ExitCode {
        ExitCode::from(self.status)
    }
}

impl From<AddressError> for Failure {
    fn from(error: AddressError) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (hint, status) = match &error {
            Error::Address(AddressError::Resolve { address, .. }) => (Some(resolve_hint(address)), 1),
            Error::Address(_) => (None, 2),
            Error::Config(_) => (Some("try --help"), 2),
            Error::Bind { address, .. } if lacks_interface(address) => (Some(INTERFACE_HINT), 1),
            Error::Bind { source, .. } => (bind_hint(source), 1),
            Error::Loop { source, .. } => (resource_hint(source), 1),
            Error::Unclaimed(_) => (Some("ask for all of them"), 1),
            _ => (None, 1),
        };
        Self { message: error.to_string(), hint, status }
    }
}

/// Removes clap's tip to write `-- --option` from the error about an unknown option: no argument of this program begins
/// with two dashes.
fn forget_double_dash(error: &mut clap::Error) {
    if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
        tips.retain(|tip| !tip.to_string().contains("-- -"));
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
}

/// What to do about a host that is not found.
fn resolve_hint(address: &Address) -> &'static str {
    let is_zoned =
        matches!(address, Address::Host { name, .. } | Address::UdpHost { name, .. } if name.contains('%'));
    if is_zoned {
        "check the name of the interface; only link-local addresses, fe80::, have one"
    } else {
        "check the spelling of the host"
    }
}

const INTERFACE_HINT: &str = "a link-local address needs its interface, as in [fe80::1%eth0]:27015";

/// Whether this is a link-local IPv6 address without an interface. Most systems can do nothing with it.
fn lacks_interface(address: &Address) -> bool {
    matches!(address, Address::Ip(SocketAddr::V6(v6)) | Address::Udp(SocketAddr::V6(v6)) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0)
}

/// On Windows this error means that the system or another program has reserved the port.
const BIND_PERMISSION_HINT: &str = if cfg!(windows) {
    "the system or another program has reserved that port; choose another"
} else {
    "ports below 1024 and directories of other users need privileges"
};

/// What to do about an error of bind(2) or listen(2).
fn bind_hint(error: &io::Error) -> Option<&'static str> {
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        Some("another program listens there; choose another address, or port 0 for any free port")
    } else if kind == io::ErrorKind::PermissionDenied {
        Some(BIND_PERMISSION_HINT)
    } else if kind == io::ErrorKind::AddrNotAvailable {
        Some("no interface of this machine has that address")
    } else {
        resource_hint(error)
    }
}

/// What to do about an error of connect(2).
pub(crate) fn connect_hint(error: &io::Error) -> Option<&'static str> {
    let kind = error.kind();
    if kind == io::ErrorKind::ConnectionRefused {
        Some("no server listens there; start one with `echoloop serve`")
    } else if kind == io::ErrorKind::PermissionDenied {
        Some("a firewall, or the permissions of the socket file, forbid it")
    } else if kind == io::ErrorKind::AddrNotAvailable {
        // The system gives each connection a local port, which stays in use for a while after the end (TIME_WAIT).
        Some("all local ports are in use or in TIME_WAIT, or IPv6 is turned off")
    } else {
        resource_hint(error)
    }
}

/// What to do about a lack of resources.
fn resource_hint(error: &io::Error) -> Option<&'static str> {
    is_out_of_descriptors(error).then_some("raise the limit on open files: ulimit -n")
}

#[cfg(unix)]
fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

#[cfg(not(unix))]
fn is_out_of_descriptors(_: &io::Error) -> bool {
    false
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, even if an argument or the system's message has several.
        let one_line = self.message.replace(['\n', '\r'], " ");
        match self.hint {
            Some(hint) => write!(f, "{one_line} ({hint})"),
            None => f.write_str(&one_line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_available_means_another_thing_to_bind_than_to_connect() {
        let error = io::Error::from(io::ErrorKind::AddrNotAvailable);
        assert!(bind_hint(&error).unwrap().contains("no interface"));
        assert!(connect_hint(&error).unwrap().contains("all local ports"));
    }

    #[test]
    fn an_error_that_says_it_all_has_no_hint() {
        let error = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!((bind_hint(&error), connect_hint(&error)), (None, None));
    }
}
