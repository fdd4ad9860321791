//! When, where and how a command ran that wrote a page.

use std::{
    env,
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::cli::bench::clock;

/// What a page says about how it came to be.
#[derive(Clone, Debug)]
pub(crate) struct RunInfo {
    began: SystemTime,
    command: String,
    host: Option<String>,
    /// What the user has to say, such as the version of the server.
    note: Option<String>,
}

impl RunInfo {
    /// Of the command that runs and begins now.
    pub(crate) fn now(note: Option<&str>) -> Self {
        let arguments = env::args_os().skip(1).map(|argument| quoted(&argument.to_string_lossy()));
        Self {
            began: clock::time_of_day(),
            command: ["echoloop".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" "),
            host: host(),
            note: note.map(str::to_owned),
        }
    }

    /// What it says, with names. `measured` is when the figures were measured, if that was not by this command.
    pub(super) fn rows(&self, measured: Option<(SystemTime, SystemTime)>) -> Vec<Vec<String>> {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let mut rows = Vec::new();
        if let Some((begin, end)) = measured {
            rows.push(row("measured", format!("{} to {}", date(begin), date(end))));
        }
        rows.push(row("date", date(self.began)));
        rows.push(row("command", self.command.clone()));
        rows.extend(self.host.clone().map(|host| row("host", host)));
        rows.extend(self.note.clone().map(|note| row("note", note)));
        rows
    }
}

/// The date and the time of day.
fn date(time: SystemTime) -> String {
    let mut text = String::new();
    // The format has no year before 1970 and none after 9999.
    if time < UNIX_EPOCH || write!(text, "{}", humantime::format_rfc3339_seconds(time)).is_err() {
        return "-".to_owned();
    }
    text.replace('T', " ").replace('Z', " UTC")
}

/// The argument as a shell takes it.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+[]".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

#[cfg(unix)]
fn host() -> Option<String> {
    Some(rustix::system::uname().nodename().to_string_lossy().into_owned()).filter(|name| !name.is_empty())
}

#[cfg(not(unix))]
fn host() -> Option<String> {
    env::var("COMPUTERNAME").ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(quoted("[::1]:7"), "[::1]:7");
        assert_eq!(quoted("p99>5ms"), "'p99>5ms'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn dates_are_in_utc() {
        assert_eq!(date(UNIX_EPOCH + Duration::from_secs(1_764_295_384)), "2025-11-28 02:03:04 UTC");
        assert_eq!(date(UNIX_EPOCH - Duration::from_secs(1)), "-");
        // Not every system has times so late.
        let far = UNIX_EPOCH.checked_add(Duration::from_secs(1_000_000_000_000));
        assert!(far.is_none_or(|far| date(far) == "-"));
    }
}
