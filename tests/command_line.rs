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

#[test]
fn help_of_the_program_fits_a_screen() {
    let help = output(&["--help"]);
    assert!(help.lines().count() <= 24, "{help}");
    for command in ["serve", "client", "bench", "report", "man", "completions"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in\n{help}");
        assert!(output(&[command, "--help"]).contains("Usage: "));
    }
}

#[test]
fn every_command_has_a_man_page() {
    let folder = env::temp_dir().join(format!("echoloop-man-{}", std::process::id()));
    output(&["man", folder.join("man1").to_str().unwrap()]);
    let commands = ["", "-serve", "-client", "-bench", "-report", "-man", "-completions"];
    for command in commands {
        let page = fs::read_to_string(folder.join(format!("man1/echoloop{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH DESCRIPTION"), "{command}: {page}");
    }
    assert_eq!(fs::read_dir(folder.join("man1")).unwrap().count(), commands.len());
    fs::remove_dir_all(folder).unwrap();
    assert!(output(&["man"]).contains("echoloop\\-serve(1)"));
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
