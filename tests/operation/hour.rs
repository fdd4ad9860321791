//! An operator's hour, as a script.

use std::{path::Path, process::Command};

use crate::util;

#[test]
fn an_operators_hour_fails_nobody() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operation/hour.sh");
    for needed in ["bash", "haproxy", "openssl", "curl", "python3"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {needed}")]).output().unwrap();
        if !found.status.success() {
            return util::skip(&format!("{needed} is not installed"));
        }
    }
    let hour = Command::new(script).env("ECHOLOOP", env!("CARGO_BIN_EXE_echoloop")).output().unwrap();
    let said = [hour.stdout, hour.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(hour.status.success(), "{said}");
    println!("{said}");
}
