//! Where the files of a run are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder of this package, next to the main package's `target`.
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// `target/peers` of the repository, or `peers` in `CARGO_TARGET_DIR`: for the results, unless the arguments name other
/// files, and for the servers in C.
pub(crate) fn output_directory() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| Path::new(PACKAGE).with_file_name("target"), PathBuf::from).join("peers")
}
