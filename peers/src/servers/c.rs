//! The servers in C, compiled when they are first needed, where there are a compiler and the headers.

use std::{
    env, fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{output::output_directory, servers::mode::Mode};

/// A program in C next to this file.
#[derive(Debug)]
pub(super) struct Source {
    name: &'static str,
    libraries: &'static [&'static str],
}

pub(super) const EPOLL: Source = Source { name: "epoll", libraries: &[] };
pub(super) const SPLICE: Source = Source { name: "splice", libraries: &[] };
pub(super) const LIBUV: Source = Source { name: "libuv", libraries: &["-luv"] };
pub(super) const LIBEVENT: Source = Source { name: "libevent", libraries: &["-levent"] };

impl Source {
    /// # Errors
    ///
    /// What the compiler says first, or that there is none.
    pub(super) fn compile(&self) -> Result<(), String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/servers");
        let executable = self.executable();
        fs::create_dir_all(output_directory()).map_err(|error| format!("{error}"))?;
        let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut command = Command::new(compiler);
        command
            .args(["-O2", "-std=gnu11", "-o"])
            .arg(executable)
            .arg(directory.join(self.name).with_extension("c"));
        let output = command.args(self.libraries).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("no C compiler: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let line = stderr.lines().find(|line| line.contains("error")).unwrap_or("no reason given");
        Err(format!("it does not compile: {}", tail(line)))
    }

    /// Becomes the server; returns only if it cannot.
    pub(super) fn exec(&self, mode: Mode) -> io::Error {
        let mut command = Command::new(self.executable());
        match mode {
            Mode::Echo => {}
            Mode::Reply => {
                command.arg("--reply");
            }
        }
        command.exec()
    }

    fn executable(&self) -> PathBuf {
        output_directory().join(self.name)
    }
}

/// What follows the place in a compiler's message.
fn tail(line: &str) -> &str {
    line.split_once("error: ").map_or(line, |(_, what)| what)
}
