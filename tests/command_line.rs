//! What the program says of itself: the page of the command line in `docs/`, man pages, completions.
#![cfg(feature = "cli")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{env, fs, path::Path};

use util::{Ended, echoloop};

fn output(args: &[&str]) -> String {
    let ended = Ended::run(&mut echoloop(args));
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""), "{args:?}");
    ended.stdout
}

/// `ECHOLOOP_RENEW=1` writes it anew.
#[test]
fn the_page_of_the_command_line_is_current() {
    if cfg!(not(all(unix, feature = "cli-tls"))) {
        return util::skip("the options of TLS and of the control socket are on the page");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command-line.md");
    let page = output(&["reference"]);
    if env::var_os("ECHOLOOP_RENEW").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let is_current = fs::read_to_string(&path).unwrap().replace('\r', "") == page;
    assert!(
        is_current,
        "docs/command-line.md is old: ECHOLOOP_RENEW=1 cargo test --test command_line writes it anew"
    );
}

#[cfg(unix)]
const COMMANDS: [&str; 8] = ["serve", "client", "bench", "report", "health", "ctl", "man", "completions"];
#[cfg(not(unix))]
const COMMANDS: [&str; 7] = ["serve", "client", "bench", "report", "health", "man", "completions"];

#[test]
fn help_of_the_program_fits_a_screen() {
    let help = output(&["--help"]);
    assert!(help.lines().count() < 24 && help.lines().all(|line| line.chars().count() <= 80), "{help}");
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in\n{help}");
        let (short, long) = (output(&[command, "-h"]), output(&[command, "--help"]));
        assert!(short.contains("Usage: ") && short.len() < long.len(), "{short}\n{long}");
        assert!(short.lines().count() <= 48, "{short}");
    }
}

#[test]
fn every_command_has_a_man_page() {
    let folder = env::temp_dir().join(format!("echoloop-man-{}", std::process::id()));
    output(&["man", folder.join("man1").to_str().unwrap()]);
    let names = COMMANDS.iter().map(|command| format!("echoloop-{command}.1"));
    for name in names.chain(["echoloop.1".to_owned()]) {
        let page = fs::read_to_string(folder.join("man1").join(&name)).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH DESCRIPTION"), "{name}: {page}");
    }
    fs::remove_dir_all(folder).unwrap();
    assert!(output(&["man"]).contains("echoloop\\-serve(1)"));
}

/// As both of these say nothing of a page without mistakes.
#[cfg(unix)]
#[test]
fn every_man_page_is_without_mistakes() {
    use std::process::Command;

    let folder = tempfile::tempdir().unwrap();
    output(&["man", folder.path().to_str().unwrap()]);
    let checks =
        [("groff", &["-man", "-ww", "-z", "-Tutf8"][..]), ("man", &["--warnings=w", "-E", "UTF-8", "-l"])];
    for (program, arguments) in checks {
        for page in fs::read_dir(folder.path()).unwrap() {
            let page = page.unwrap().path();
            let mut check = Command::new(program);
            let checked = match check.args(arguments).arg(&page).env("LC_ALL", "C.UTF-8").output() {
                Ok(checked) => checked,
                Err(error) => {
                    util::skip(&format!("{program}: {error}"));
                    break;
                }
            };
            let complaints = String::from_utf8_lossy(&checked.stderr);
            if !checked.status.success() && complaints.contains("option") {
                util::skip(&format!("{program} is another one: {complaints}"));
                break;
            }
            assert!(
                checked.status.success() && complaints.is_empty(),
                "{program}: {}: {complaints}",
                page.display()
            );
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_stdout_that_is_full_or_closed_is_an_error() {
    use std::process::Stdio;

    let error = |args: &[&str], stdout: Stdio| {
        let ended = echoloop(args).stdout(stdout).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let is_said = |args: &[&str], stdout: Stdio, why: &str| {
        let (status, line) = error(args, stdout);
        let is_said = line.starts_with(&format!("error: cannot write to stdout: {why}"));
        assert!(status == Some(1) && is_said && line.lines().count() == 1, "{args:?}: {status:?}, {line}");
    };
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    for args in [&["man"][..], &["completions", "bash"], &["reference"]] {
        is_said(args, full(), "No space left");
        is_said(args, closed(), "Broken pipe");
    }
    for args in [&["--help"][..], &["--version"], &["serve", "-h"]] {
        is_said(args, full(), "No space left");
        // Whoever closes the pipe has read enough.
        assert_eq!(error(args, closed()), (Some(0), String::new()));
    }
}

#[test]
fn a_directory_that_cannot_be_written_to_is_named() {
    let file = env::current_exe().unwrap();
    let ended = Ended::run(&mut echoloop(&["man", file.to_str().unwrap()]));
    assert!(ended.error(1).starts_with(&format!("cannot write to {}: ", file.display())));
}

#[cfg(unix)]
#[test]
fn completions_are_scripts_that_their_shell_can_read() {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completions", shell]);
        let checked = Command::new(shell).arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let Ok(mut child) = checked else {
            util::skip(&format!("{shell} is not there"));
            continue;
        };
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let checked = child.wait_with_output().unwrap();
        assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}

/// In a terminal made by script(1).
#[cfg(target_os = "linux")]
#[test]
fn the_log_has_colours_in_a_terminal_unless_nobody_wants_them() {
    use std::process::{Command, Stdio};

    let client = format!("{} client 127.0.0.1:1", env!("CARGO_BIN_EXE_echoloop"));
    let has_colours = |terminal: &str, no_color: &str| {
        let mut script = Command::new("script");
        script.args(["-qec", &client, "/dev/null"]).stdin(Stdio::null());
        script.envs([("RUST_LOG", "debug"), ("TERM", terminal), ("NO_COLOR", no_color)]);
        let output = String::from_utf8(script.output().ok()?.stdout).unwrap();
        assert!(output.contains("connecting to 127.0.0.1:1"), "{output}");
        Some(output.contains("\x1b["))
    };
    let Some(coloured) = has_colours("xterm-256color", "") else {
        return util::skip("script(1) is not there");
    };
    assert!(coloured);
    assert_eq!(has_colours("xterm-256color", "1"), Some(false));
    assert_eq!(has_colours("dumb", ""), Some(false));
}
