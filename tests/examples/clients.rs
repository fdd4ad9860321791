//! Clients from PyPI and npm. `.ci/clients` installs them below `target`, and the scripts in `clients/` use them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::util;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the packages are.
fn installed() -> PathBuf {
    root().join("target/clients")
}

/// One of the scripts.
pub(super) fn script(name: &str) -> PathBuf {
    root().join("tests/examples/clients").join(name)
}

fn skip(package: &str) {
    util::skip(&format!("no {package} here: .ci/clients installs it"));
}

/// The Python that has this package.
pub(super) fn python(package: &str) -> Option<PathBuf> {
    let python = installed().join("python/bin/python");
    let found = Command::new(&python).args(["-c", &format!("import {package}")]).output();
    if found.is_ok_and(|import| import.status.success()) {
        return Some(python);
    }
    skip(package);
    None
}

/// The Python 2 that has Autobahn's test suite.
pub(super) fn autobahn() -> Option<PathBuf> {
    let folder = installed().join("autobahn/bin");
    if folder.join("wstest").exists() {
        return Some(folder.join("python"));
    }
    skip("autobahntestsuite");
    None
}

/// `node`, which finds this package.
pub(super) fn node(package: &str) -> Option<Command> {
    let modules = installed().join("node/node_modules");
    if !modules.join(package).exists() {
        skip(package);
        return None;
    }
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules);
    Some(node)
}
