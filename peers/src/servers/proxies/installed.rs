//! Proxies that are programs of the system, and what ends TLS before an echo server. Each gets a port that was free a moment ago, since none of them says which
//! one it was given, and a configuration file where it needs one.

use std::{
    env, fs,
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{output::output_directory, servers::common::announce};

/// A program, and how it is told what to do.
#[derive(Debug)]
pub(in crate::servers) struct Installed {
    /// The name of its executable in PATH.
    pub(super) executable: &'static str,
    /// Whether it has a process for each connection.
    pub(in crate::servers) forks: bool,
    /// Its arguments, for which it may write files.
    pub(super) arguments: fn(&Route) -> io::Result<Vec<String>>,
}

/// From where to where bytes are forwarded.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) listen: SocketAddr,
    pub(super) upstream: SocketAddr,
    /// Where files of the program may be; those of an earlier run are overwritten.
    pub(super) directory: PathBuf,
}

impl Installed {
    /// # Errors
    ///
    /// It is not in PATH.
    pub(in crate::servers) fn find(&self) -> Result<(), String> {
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path).any(|directory| directory.join(self.executable).is_file());
        if found { Ok(()) } else { Err(format!("{} is not installed", self.executable)) }
    }

    /// Becomes the program, which does not listen yet; returns only if it cannot. Its complaints go to a file: see
    /// [`complaint`].
    pub(in crate::servers) fn exec(&self, name: &str, upstream: SocketAddr) -> io::Error {
        let command = self.command(name, upstream);
        command.map_or_else(|error| error, |mut command| command.exec())
    }

    fn command(&self, name: &str, upstream: SocketAddr) -> io::Result<Command> {
        let directory = directory(name);
        fs::create_dir_all(&directory)?;
        let complaints = File::create(complaints(&directory))?;
        let route = Route { listen: free_address()?, upstream, directory };
        let mut command = Command::new(self.executable);
        command.args((self.arguments)(&route)?);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints);
        announce(route.listen)?;
        Ok(command)
    }
}

/// What the program that was last started under this name complained about last, if it did.
pub(crate) fn complaint(name: &str) -> Option<String> {
    let text = fs::read_to_string(complaints(&directory(name))).ok()?;
    text.lines().rfind(|line| !line.trim().is_empty()).map(Into::into)
}

fn directory(name: &str) -> PathBuf {
    output_directory().join("proxies").join(name)
}

fn complaints(directory: &Path) -> PathBuf {
    directory.join("stderr")
}

/// An address that nobody listens on. Another program may take it before the proxy does, so who starts one tries again.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
