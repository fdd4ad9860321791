//! What the program says of itself: man pages, completions for shells, and the page of the command line in `docs/`.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Arg, Args, Command, CommandFactory, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{failure::Failure, stdio::Waiting};

/// Write man pages
///
/// Without DIR the page of echoloop is written to stdout, as for `echoloop man | man -l -`.
#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Write a page for each command here [default: stdout]
    ///
    /// The directory is created if it does not exist. The pages are echoloop.1, echoloop-serve.1 and so on.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
}

/// Print completions for a shell
///
/// Try them in bash with: source <(echoloop completions bash)
#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell to complete in
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    let command = command();
    let Some(directory) = &args.directory else { return print(&page(command)?) };
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command, directory))
        .map_err(|error| Failure::new(format!("cannot write to {}: {error}", directory.display())))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "echoloop", &mut script);
    print(&script)
}

/// How the page begins.
const INTRODUCTION: &str = "\
# Command line

This is what `--help` says of each command. `echoloop man` writes it as man pages.

| written as | is | such as |
| --- | --- | --- |
| `DUR` | a duration; `0` or `off` turns a timeout off | `500ms`, `30s`, `1h 30m` |
| `SIZE` | a size in bytes, or with a unit | `512`, `64KiB`, `1MB` |
| `N` | a number | `1000`, `10k`, `1M` |
| `N/s` | a rate | `500`, `10k/s`, `1.5M/s` |

Errors are one line on stderr.
";

pub(super) fn markdown() -> Result<ExitCode, Failure> {
    let command = command();
    let mut page = INTRODUCTION.to_owned();
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        describe(subcommand, &mut page);
    }
    print(page.as_bytes())
}

/// All that clap knows, with what it adds itself.
fn command() -> Command {
    let mut command = super::Args::command();
    command.build();
    command
}

fn page(command: Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::new(format!("cannot make the page: {error}")))?;
    Ok(page)
}

pub(super) fn print(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut stdout = Waiting(io::stdout());
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::stdout(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// A chapter on a command.
fn describe(command: &Command, page: &mut String) {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string);
    let about = sentences(&about.unwrap_or_default());
    // A string takes everything.
    let _ = write!(page, "\n## {}\n\n```text\n{usage}\n```\n\n{}.\n\n", command.get_name(), escaped(&about));
    let _ = writeln!(page, "| argument | default | meaning |\n| --- | --- | --- |");
    let shown = |argument: &&Arg| !argument.is_hide_set() && argument.get_id() != "help";
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().filter(shown).partition(|argument| argument.is_positional());
    for argument in positional.into_iter().chain(options) {
        let _ = writeln!(page, "| {} | {} | {} |", forms(argument), default(argument), meaning(argument));
    }
    if command.has_subcommands() {
        let _ = writeln!(page, "\n| command | meaning |\n| --- | --- |");
    }
    for subcommand in command.get_subcommands() {
        let values = subcommand.get_positionals().map(forms).collect::<String>().replace('`', "");
        let form = format!("{} {values}", subcommand.get_name());
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(page, "| `{}` | {} |", form.trim_end(), escaped(&about));
    }
    if let Some(more) = command.get_after_long_help() {
        let _ = writeln!(page, "\n{}", escaped(&more.to_string()));
    }
}

/// `` `-c`, `--connections N` ``, `` `ADDR...` ``.
fn forms(argument: &Arg) -> String {
    let values: Vec<&str> = if argument.get_action().takes_values() {
        argument.get_value_names().unwrap_or_default().iter().map(|name| name.as_str()).collect()
    } else {
        Vec::new()
    };
    let mut values = values.join(" ");
    if argument.is_positional() {
        if argument.get_num_args().is_some_and(|range| range.max_values() > 1) {
            values += "...";
        }
        return format!("`{values}`");
    }
    let long = argument.get_long().map(|long| format!("`{}`", format!("--{long} {values}").trim_end()));
    let short = argument.get_short().map(|short| format!("`-{short}`"));
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}

/// The default value, or what the help says of it.
fn default(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let values = argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
    let values = values.collect::<Vec<_>>().join(", ");
    if values.is_empty() { help_and_default(argument).1.unwrap_or_default() } else { values }
}

/// The help, and the default that it names, for an argument that has no value by default.
fn help_and_default(argument: &Arg) -> (String, Option<String>) {
    let help = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string);
    let help = help.unwrap_or_default();
    let parts = help.split_once(" [default: ").and_then(|(before, rest)| {
        let (default, after) = rest.split_once(']')?;
        Some((format!("{before}{after}"), Some(default.to_owned())))
    });
    parts.unwrap_or((help, None))
}

/// Paragraphs as sentences of one line, the last one without its full stop.
fn sentences(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        line.trim_end_matches('.').to_owned()
    });
    paragraphs.collect::<Vec<_>>().join(". ")
}

/// Text as Markdown that shows it as it is.
fn escaped(text: &str) -> String {
    text.replace('<', "&lt;")
}

/// The help, in one line, with the values that are possible.
fn meaning(argument: &Arg) -> String {
    let mut text = sentences(&help_and_default(argument).0);
    let possible: Vec<String> = if argument.get_action().takes_values() {
        let values = argument.get_possible_values();
        values.iter().map(|value| format!("`{}`", value.get_name())).collect()
    } else {
        Vec::new()
    };
    if !possible.is_empty() {
        let _ = write!(text, ": {}", possible.join(", "));
    }
    escaped(&text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn there_are_completions_for_every_shell() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command(), "echoloop", &mut script);
            assert!(String::from_utf8(script).is_ok_and(|script| script.contains("connect-rate")), "{shell}");
        }
    }

    #[test]
    fn an_argument_is_shown_with_its_forms_its_default_and_what_it_can_be() {
        let command = command();
        let bench = command.find_subcommand("bench").expect("a command");
        let argument =
            |name| bench.get_arguments().find(|argument| argument.get_id() == name).expect("an argument");
        assert_eq!(forms(argument("connections")), "`-c`, `--connections N`");
        assert_eq!(default(argument("connections")), "`50`");
        assert_eq!(forms(argument("churn")), "`--churn`");
        assert_eq!(default(argument("churn")), "");
        assert_eq!(default(argument("rate")), "closed loop");
        assert!(meaning(argument("rate")).starts_with("Open loop: messages per second. The rate "));
        assert!(meaning(argument("format")).ends_with(": `table`, `json`"));
    }
}
