//! Where figures go: stdout, and a page.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::cli::failure::Failure;

/// Writes to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::new(format!("cannot write to stdout: {error}")))
}

/// A page that is to be written. Its file is made first, so that a bad path is known before the work is done.
#[derive(Debug)]
pub(crate) struct PageFile {
    path: PathBuf,
    file: File,
}

impl PageFile {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        match File::create(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file }),
            Err(error) => Err(Failure::new(format!("cannot write {}: {error}", path.display()))),
        }
    }

    pub(crate) fn write(mut self, page: &str) -> Result<(), Failure> {
        let written = self.file.write_all(page.as_bytes());
        written.map_err(|error| Failure::new(format!("cannot write {}: {error}", self.path.display())))
    }
}
