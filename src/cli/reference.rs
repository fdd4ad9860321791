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
/// Without DIR the page of echoloop goes to stdout, as for `echoloop man | man -l -`.
#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Write a page for each command to this directory, which is created if it is not there
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
}

/// Print completions for a shell
///
/// For bash, for example: echoloop completions bash > ~/.local/share/bash-completion/completions/echoloop
#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell
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

pub(super) fn markdown() -> Result<ExitCode, Failure> {
    let command = command();
    let mut page = "# Command line\n\nSizes, rates and numbers take units: `64KiB`, `10k/s`, `1M`. A duration is written like `500ms`, \
                    `30s` or `1h 30m`; `0` or `off` turns a timeout off. Errors are one line on stderr. The exit status is 2 for wrong \
                    arguments, 1 for everything else that goes wrong.\n"
        .to_owned();
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

fn print(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut stdout = Waiting(io::stdout());
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::stdout(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// A chapter on a command.
fn describe(command: &Command, page: &mut String) {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string);
    let about = about.unwrap_or_default();
    // A string takes everything.
    let _ = write!(page, "\n## {}\n\n```text\n{usage}\n```\n\n{about}\n\n", command.get_name());
    let _ = writeln!(page, "| argument | default | meaning |\n| --- | --- | --- |");
    let shown = |argument: &&Arg| !argument.is_hide_set() && argument.get_id() != "help";
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().filter(shown).partition(|argument| argument.is_positional());
    for argument in positional.into_iter().chain(options) {
        let _ = writeln!(page, "| {} | {} | {} |", forms(argument), default(argument), meaning(argument));
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

fn default(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let values = argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
    values.collect::<Vec<_>>().join(", ")
}

/// The help, in one line, with the values that are possible.
fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string);
    let mut text = help.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let possible: Vec<String> = if argument.get_action().takes_values() {
        let values = argument.get_possible_values();
        values.iter().map(|value| format!("`{}`", value.get_name())).collect()
    } else {
        Vec::new()
    };
    if !possible.is_empty() {
        let _ = write!(text, ": {}", possible.join(", "));
    }
    text.replace('|', "\\|").replace('<', "&lt;")
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
            assert!(
                String::from_utf8(script).is_ok_and(|script| script.contains("--connect-rate")),
                "{shell}"
            );
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
        assert!(meaning(argument("format")).ends_with(": `table`, `json`"));
    }
}
