//! Networks of a test's own: namespaces of Linux, and a cable between two of them.
//!
//! A test runs its own executable once more in a network namespace, for itself alone. In there it has nothing but a
//! loopback device, whose settings are its own, and may connect itself to a second namespace: another host.

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::util::{Program, eventually, skip, splice_options};

/// Set inside the namespace.
const INSIDE: &str = "ECHOLOOP_TEST_NAMESPACE";

/// Runs `body` in a network namespace of its own. `test` is the name of the test that this is the whole of.
#[track_caller]
pub(crate) fn in_a_network_of_its_own(test: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        return body();
    }
    let Some(unshare) = unshare() else { return };
    let output = Command::new("unshare")
        .args(unshare)
        .arg(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    eprintln!("{stdout}{stderr}");
    assert!(output.status.success() && stdout.contains("ok. 1 passed"), "{}", output.status);
}

/// The options with which `unshare` makes a network namespace here.
fn unshare() -> Option<&'static [&'static str]> {
    let works = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    for (tool, version) in [("ip", "-V"), ("unshare", "-V"), ("nsenter", "-V")] {
        if !works(tool, &[version]) {
            skip(&format!("the program {tool} is not installed"));
            return None;
        }
    }
    let ways: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    let allowed = ways.into_iter().find(|way| works("unshare", &[*way, &["true"]].concat()));
    if allowed.is_none() {
        skip("network namespaces are not allowed here");
    }
    allowed
}

/// `ip` with these arguments, in this namespace.
#[track_caller]
fn ip(args: &str) {
    run(Command::new("ip"), args);
}

#[track_caller]
fn run(mut command: Command, args: &str) {
    let status = command.args(args.split(' ')).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// Sets a parameter of this namespace's network, such as `ipv4/tcp_rmem`.
#[track_caller]
pub(crate) fn set(parameter: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{parameter}"), value).unwrap_or_else(|e| panic!("{parameter}: {e}"));
}

/// Another host at the other end of a cable. It goes when this is dropped.
pub(crate) struct Host {
    /// Lives in its namespace, and does nothing.
    holder: Child,
}

impl Host {
    /// A host that is up and can be reached.
    pub(crate) fn connected() -> Self {
        let mut command = Command::new("unshare");
        let holder = command.args(["--net", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let host = Self { holder };
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let (process, ours) = (host.process(), namespace("self"));
        eventually("the namespace is there", || namespace(&process).is_some_and(|of| Some(of) != ours));
        ip(&format!("link add near type veth peer name far netns {process}"));
        host.run("ip link set lo up");
        ip("address add 10.99.0.1/24 dev near");
        host.run("ip address add 10.99.0.2/24 dev far");
        if has_ipv6() {
            // They stay when the cable is unplugged.
            set("ipv6/conf/near/keep_addr_on_down", "1");
            ip("address add fd99::1/64 dev near nodad");
            host.run("ip address add fd99::2/64 dev far nodad");
        }
        host.run("ip link set far up");
        host.plug();
        host
    }

    fn process(&self) -> String {
        self.holder.id().to_string()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.process(), "--net"]);
        command
    }

    #[track_caller]
    fn run(&self, command: &str) {
        run(self.command(), command);
    }

    /// Our end of the cable is not plugged in any more. Nobody is told.
    pub(crate) fn unplug(&self) {
        ip("link set near down");
    }

    pub(crate) fn plug(&self) {
        ip("link set near up");
    }

    /// This end of the cable is gone, with its addresses.
    pub(crate) fn vanish(&self) {
        ip("link delete near");
    }

    /// The program as a server of that host, on all its addresses.
    pub(crate) fn serve(&self, options: &[&str]) -> Program {
        let mut command = self.command();
        command.args([env!("CARGO_BIN_EXE_echoloop"), "serve", "10.99.0.2:0"]);
        if has_ipv6() {
            command.arg("[fd99::2]:0");
        }
        command.args(options).args(splice_options());
        Program::spawn(command)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Whether hosts have IPv6 addresses. If not, a test says so.
pub(crate) fn has_ipv6() -> bool {
    let is_off = fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    is_off.is_ok_and(|is_off| is_off.trim() == "0")
}

/// A state of a TCP connection, as the kernel numbers it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TcpState {
    Established = 1,
    LastAck = 9,
}

/// How many connections there are in this state in the network of a process.
pub(crate) fn connections_in(state: TcpState, process: u32) -> usize {
    let tables = ["tcp", "tcp6"].map(|name| PathBuf::from(format!("/proc/{process}/net/{name}")));
    let lines = tables.into_iter().filter_map(|path| fs::read_to_string(path).ok());
    let state = format!("{:02X}", state as u8);
    lines
        .map(|lines| lines.lines().filter(|line| line.split_whitespace().nth(3) == Some(&state)).count())
        .sum()
}
