//! Why the program ends with an error: one line, a hint where there is one, and the exit status.

use std::{fmt, io, process::ExitCode};

use clap::error::ErrorKind;
use echoloop::{AddressError, Error};

/// An error as the user sees it.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<&'static str>,
    status: u8,
}

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
    pub(crate) fn usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let advice = ["\n\nUsage: ", "\n\nFor more information"].map(|start| text.rfind(start));
        let end = advice.into_iter().flatten().min().unwrap_or(text.len());
        let line = text[..end].split_whitespace().collect::<Vec<_>>().join(" ");
        let message = if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            "a subcommand is missing: serve, client, bench or report".to_owned()
        } else {
            line.strip_prefix("error: ").unwrap_or(&line).to_owned()
        };
        Self { message, hint: Some("try --help"), status: 2 }
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
            Error::Address(AddressError::Resolve { .. }) => (Some("check the spelling of the host"), 1),
            Error::Address(_) => (None, 2),
            Error::Config(_) => (Some("try --help"), 2),
            Error::Bind { source, .. } | Error::Loop { source, .. } => (hint_for(source), 1),
            _ => (None, 1),
        };
        Self { message: error.to_string(), hint, status }
    }
}

/// On Windows this error means that the system or another program has reserved the port.
const PERMISSION_HINT: &str = if cfg!(windows) {
    "the system or another program keeps that port to itself; choose another"
} else {
    "ports below 1024, and the directories of others, need privileges"
};

/// What to do about an error of the operating system.
pub(crate) fn hint_for(error: &io::Error) -> Option<&'static str> {
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        Some("another server uses it; choose another, or port 0 for any")
    } else if kind == io::ErrorKind::PermissionDenied {
        Some(PERMISSION_HINT)
    } else if kind == io::ErrorKind::AddrNotAvailable {
        Some("no interface of this machine has that address")
    } else if kind == io::ErrorKind::ConnectionRefused {
        Some("nobody listens there; start one with `echoloop serve`")
    } else if is_out_of_descriptors(error) {
        Some("raise the limit on open files: ulimit -n")
    } else {
        None
    }
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
