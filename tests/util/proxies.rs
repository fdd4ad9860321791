//! Proxies that others wrote, started by a test.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{eventually, skip};

/// A proxy that runs. Dropping it ends it.
pub struct Proxy {
    process: Child,
    pub address: SocketAddr,
    _directory: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where the program is; where it is not, the test is skipped.
pub fn find(program: &str) -> Option<String> {
    let paths = [format!("/usr/sbin/{program}"), format!("/usr/bin/{program}")];
    let found = paths.into_iter().find(|path| fs::metadata(path).is_ok());
    if found.is_none() {
        skip(&format!("there is no {program}"));
    }
    found
}

/// HAProxy on a free port of 127.0.0.1. Behind `bind` its configuration is made for that port.
pub fn haproxy(configure: impl Fn(SocketAddr) -> String) -> Option<Proxy> {
    on_a_free_port("haproxy", |address| haproxy_at(address, &configure(address)))
}

/// HAProxy, which listens there by this configuration, and of which it does not even warn.
pub fn haproxy_at(address: SocketAddr, configuration: &str) -> Result<Option<Proxy>, String> {
    start("haproxy", address, configuration, |command, file, _| {
        command.args(["-dW", "-db", "-f"]).arg(file);
    })
}

/// nginx on a free port of 127.0.0.1.
pub fn nginx(configure: impl Fn(SocketAddr) -> String) -> Option<Proxy> {
    on_a_free_port("nginx", |address| nginx_at(address, &configure(address)))
}

/// nginx, which listens there by this configuration.
pub fn nginx_at(address: SocketAddr, configuration: &str) -> Result<Option<Proxy>, String> {
    start("nginx", address, configuration, |command, file, directory| {
        let pid = directory.join("pid");
        let settings = format!("daemon off; master_process off; pid {};", pid.display());
        command.args(["-e", "stderr", "-g", &settings, "-c"]).arg(file);
    })
}

/// Somebody else may take the port in between: then another one is tried.
fn on_a_free_port(
    program: &str,
    start_at: impl Fn(SocketAddr) -> Result<Option<Proxy>, String>,
) -> Option<Proxy> {
    let mut why = String::new();
    for _ in 0..10 {
        let free = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address");
        match start_at(free) {
            Ok(started) => return started,
            Err(error) => why = error,
        }
    }
    panic!("{program} does not listen: {why}")
}

/// Starts it, and waits until it listens. `None` where it is not installed; an error if it ends, with what it says.
fn start(
    program: &str,
    address: SocketAddr,
    configuration: &str,
    arguments: impl Fn(&mut Command, &Path, &Path),
) -> Result<Option<Proxy>, String> {
    let Some(path) = find(program) else { return Ok(None) };
    let directory = tempfile::tempdir().expect("a directory");
    let (file, log) = (directory.path().join("conf"), directory.path().join("log"));
    fs::write(&file, configuration).expect("write");
    let mut command = Command::new(path);
    arguments(&mut command, &file, directory.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).expect("create"));
    let mut process = command.spawn().expect("spawn");
    let mut has_ended = false;
    eventually("it listens, or has ended", || {
        has_ended = process.try_wait().expect("wait").is_some();
        has_ended || TcpStream::connect(address).is_ok()
    });
    let proxy = Proxy { process, address, _directory: directory };
    if has_ended { Err(fs::read_to_string(log).unwrap_or_default()) } else { Ok(Some(proxy)) }
}
