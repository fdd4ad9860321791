//! The logger: what goes to stderr, in which format, and what is said of a panic.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    io::{self, IsTerminal, Write},
    panic, thread,
};

use super::{
    lines::Lines,
    log_format::{self, LogFormat},
};

/// Logs go to stderr and never block the program. `filter` applies unless `RUST_LOG` is set.
pub(crate) fn init(format: LogFormat, stderr: &Lines, filter: &str) {
    let style = if shows_colours() { env_logger::WriteStyle::Always } else { env_logger::WriteStyle::Never };
    let mut builder = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter));
    builder
        .write_style(style)
        .format_timestamp_millis()
        .target(env_logger::Target::Pipe(Box::new(stderr.clone())));
    if format == LogFormat::Json {
        builder.format(|line, record| line.write_all(log_format::object(record).as_bytes()));
    }
    builder.init();
}

/// Whether stderr is a terminal with colours, and nobody objects: see <https://no-color.org>. The logger cannot know, as it
/// does not write to stderr itself.
fn shows_colours() -> bool {
    let variable = |name| env::var_os(name).unwrap_or_default();
    let has_colours = cfg!(unix) && !matches!(variable("TERM").to_str(), Some("" | "dumb"));
    has_colours && variable("NO_COLOR").is_empty() && io::stderr().is_terminal()
}

/// In JSON a panic is a line like any other; as text it is what Rust prints. It is shown whatever `RUST_LOG` says.
pub(crate) fn report_panics(format: LogFormat, stderr: &Lines) {
    if format == LogFormat::Text {
        return;
    }
    let stderr = stderr.clone();
    panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let why = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
        let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
        let mut message = format!("thread '{}' panicked{place}: {why}", thread.name().unwrap_or("unnamed"));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            message += &format!("\n{backtrace}");
        }
        stderr.error(&message);
        // The panic may end the program.
        stderr.flush();
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set in the child that panics.
    const CHILD: &str = "ECHOLOOP_TEST_PANICS";

    /// A process of its own, as a hook is for all threads of a process.
    #[test]
    fn a_panic_is_one_line_of_json_and_is_written_before_the_program_ends() {
        if env::var_os(CHILD).is_some() {
            report_panics(LogFormat::Json, &Lines::to_stderr(LogFormat::Json));
            let thread = thread::Builder::new().name("worker".to_owned());
            let panics = thread.spawn(|| panic!("two\nlines of {}", "text")).unwrap();
            assert!(panics.join().is_err());
            std::process::exit(101);
        }
        let this = "cli::logger::tests::a_panic_is_one_line_of_json_and_is_written_before_the_program_ends";
        for backtrace in ["0", "1"] {
            let mut child = Command::new(env::current_exe().unwrap());
            child.args(["--exact", this, "--nocapture"]).env(CHILD, "1").env("RUST_BACKTRACE", backtrace);
            let ended = child.output().unwrap();
            assert_eq!(ended.status.code(), Some(101), "{ended:?}");
            let stderr = String::from_utf8(ended.stderr).unwrap();
            let line: serde_json::Value = serde_json::from_str(&stderr).unwrap_or_else(|error| {
                panic!("{error}: {stderr}");
            });
            let message = line["message"].as_str().unwrap();
            assert_eq!(line["level"], "ERROR");
            assert!(message.starts_with("thread 'worker' panicked at src/cli/logger.rs:"), "{message}");
            assert!(message.contains(": two\nlines of text"), "{message}");
            assert_eq!(message.contains("logger::tests"), backtrace == "1", "{message}");
        }
    }
}
