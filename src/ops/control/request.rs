//! What is asked over the control socket: a line of text.

use log::LevelFilter;

/// What an operator may want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Status,
    List,
    Kill(String),
    Drain,
    Undrain,
    Stop,
    Reload,
    LogLevel(LevelFilter),
    /// In this version of its protocol.
    Takeover(String),
}

/// A command, and whether the answer is to be JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) command: Command,
    pub(super) is_json: bool,
}

/// Longer lines are no requests.
pub(super) const REQUEST_MAX: usize = 1024;

impl Request {
    /// Understands `[json] COMMAND [ARGUMENT]`.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace().peekable();
        let is_json = words.next_if_eq(&"json").is_some();
        let Some(name) = words.next() else { return Err(format!("a command is missing: {COMMANDS}")) };
        let argument = words.next();
        if words.next().is_some() {
            return Err(format!("{name} has one argument at most"));
        }
        let command = match (name, argument) {
            ("status", None) => Command::Status,
            ("list", None) => Command::List,
            ("drain", None) => Command::Drain,
            ("undrain", None) => Command::Undrain,
            ("stop", None) => Command::Stop,
            ("reload", None) => Command::Reload,
            ("kill", Some(id)) => Command::Kill(id.to_owned()),
            ("log-level", Some(level)) => Command::LogLevel(
                level.parse().map_err(|_| "a level is off, error, warn, info, debug or trace".to_owned())?,
            ),
            ("takeover", Some(version)) => Command::Takeover(version.to_owned()),
            ("kill", None) => return Err("kill needs the ID of a connection, as list shows it".to_owned()),
            ("log-level", None) => return Err("log-level needs a level".to_owned()),
            ("takeover", None) => return Err("takeover needs a version".to_owned()),
            ("status" | "list" | "drain" | "undrain" | "stop" | "reload", Some(_)) => {
                return Err(format!("{name} has no argument"));
            }
            _ => return Err(format!("there is no command '{}': {COMMANDS}", name.escape_default())),
        };
        Ok(Self { command, is_json })
    }
}

const COMMANDS: &str = "status, list, kill, drain, undrain, stop, reload or log-level";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_command_with_its_argument() {
        let plain = |command| Ok(Request { command, is_json: false });
        assert_eq!(Request::parse("status"), plain(Command::Status));
        assert_eq!(Request::parse(" json  list "), Ok(Request { command: Command::List, is_json: true }));
        assert_eq!(Request::parse("kill 0.7"), plain(Command::Kill("0.7".to_owned())));
        assert_eq!(Request::parse("log-level debug"), plain(Command::LogLevel(LevelFilter::Debug)));
        assert_eq!(Request::parse("takeover 1"), plain(Command::Takeover("1".to_owned())));
    }

    #[test]
    fn what_is_none_is_refused_in_one_line() {
        for bad in
            ["", "json", "kill", "kill 1 2", "status now", "log-level loud", "log-level", "Status", "é\u{7}"]
        {
            let why = Request::parse(bad).unwrap_err();
            assert!(!why.is_empty() && !why.contains(char::is_control), "{bad}: {why}");
        }
    }
}
