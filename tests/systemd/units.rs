//! The units of `contrib/systemd`, as systemd-analyze(1) sees them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::util::skip;

/// The units in a folder of their own, with the program that was built here in place of the installed one.
fn units() -> (TempDir, Vec<PathBuf>) {
    let copies = tempfile::tempdir().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd");
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let path = copies.path().join(entry.file_name());
        fs::write(&path, text.replace("/usr/bin/echoloop", env!("CARGO_BIN_EXE_echoloop"))).unwrap();
        paths.push(path);
    }
    (copies, paths)
}

/// `None`, and the reason is printed, where there is no systemd-analyze.
fn analyze(args: &[&str], units: &[PathBuf]) -> Option<Output> {
    match Command::new("systemd-analyze").args(args).args(units).env("SYSTEMD_COLORS", "0").output() {
        Ok(output) => Some(output),
        Err(error) => {
            skip(&format!("systemd-analyze: {error}"));
            None
        }
    }
}

#[test]
fn systemd_has_nothing_to_say_of_the_units() {
    let (_folder, units) = units();
    let Some(output) = analyze(&["verify"], &units) else { return };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_units_give_their_processes_little() {
    let (folder, _) = units();
    // The threshold is in tenths.
    for (unit, most) in [("echoloop.service", "20"), ("echoloop-activated.service", "12")] {
        let (threshold, path) = (format!("--threshold={most}"), folder.path().join(unit));
        let Some(output) = analyze(&["security", "--offline=true", &threshold], &[path]) else { return };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("Overall exposure level"), "{unit}: {said}");
    }
}
