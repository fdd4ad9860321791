//! The program with a notify socket of the test's own.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    iter,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process::{Child, Command, Stdio},
    sync::mpsc::Receiver,
};

use tempfile::TempDir;

#[cfg(feature = "cli-tls")]
use crate::files::Authority;
use crate::hear;
use crate::util::{DEADLINE, Program, connect, eventually, finish, lines, ping, skip};

const SERVING: &str = "READY=1\nSTATUS=serving; connections open: 0, accepted: 0\n";

/// A service manager, and what it is told.
struct Manager {
    socket: UnixDatagram,
    name: OsString,
    _directory: Option<TempDir>,
}

impl Manager {
    fn with_path() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        Self::of(UnixDatagram::bind(&path).unwrap(), path.into(), Some(directory))
    }

    fn with_abstract_socket() -> Self {
        let name = format!("echoloop-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::of(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into(), None)
    }

    fn of(socket: UnixDatagram, name: OsString, directory: Option<TempDir>) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, name, _directory: directory }
    }

    /// A server that tells this one, with more in its environment.
    fn start(&self, args: &[&str], environment: &[(&str, &str)]) -> (Program, Receiver<String>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
        command.arg("serve").args(args).env("NOTIFY_SOCKET", &self.name).env_remove("RUST_LOG");
        command.envs(environment.iter().copied()).stderr(Stdio::piped());
        let mut server = Program::spawn(command);
        let stderr = lines(server.child.stderr.take().unwrap());
        (server, stderr)
    }

    /// The next message.
    #[track_caller]
    fn message(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The next message that has something to say but the status.
    #[track_caller]
    fn event(&self) -> String {
        loop {
            let message = self.message();
            if !message.starts_with("STATUS=") {
                return message;
            }
        }
    }

    /// What it was told and has not read yet.
    fn unread(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let messages = iter::from_fn(|| {
            let length = self.socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        });
        let messages = messages.collect();
        self.socket.set_nonblocking(false).unwrap();
        messages
    }
}

/// The time of a message that a reload begins.
#[track_caller]
fn reload_time(message: &str) -> u64 {
    let usec = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(message);
    usec.trim_end().parse().unwrap()
}

#[test]
fn a_server_tells_its_start_its_reloads_and_its_end_in_their_order() {
    for manager in [Manager::with_path(), Manager::with_abstract_socket()] {
        let (mut server, _stderr) = manager.start(&["127.0.0.1:0", "--workers", "2"], &[]);
        assert_eq!(manager.message(), SERVING);
        // Who is ready accepts.
        let client = connect(server.listening());
        ping(&client, b"served");
        let mut before = 0;
        for _ in 0..2 {
            server.signal("HUP");
            let time = reload_time(&manager.event());
            assert!(time > before);
            before = time;
            let ready = "READY=1\nSTATUS=serving; connections open: 1, accepted: 1; nothing to reload\n";
            assert_eq!(manager.message(), ready);
        }
        let status = "STATUS=serving; connections open: 1, accepted: 1\n";
        assert_eq!(manager.message(), status, "what there was to say is said");
        server.signal("TERM");
        let stopping = "STOPPING=1\nSTATUS=draining; connections open: 1, accepted: 1\n";
        assert_eq!(manager.event(), stopping);
        server.signal("HUP");
        assert!(finish(&client).is_empty());
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
        assert!(manager.unread().iter().all(|message| message.starts_with("STATUS=")));
    }
}

#[test]
fn a_server_with_a_grace_is_stopping_from_its_first_instant() {
    let manager = Manager::with_path();
    let (mut server, _stderr) = manager.start(&["127.0.0.1:0", "--grace", "1s"], &[]);
    assert_eq!(manager.message(), SERVING);
    let address = server.listening();
    server.signal("TERM");
    let stopping = "STOPPING=1\nSTATUS=stopping, but still accepting; connections open: 0, accepted: 0\n";
    assert_eq!(manager.event(), stopping);
    let client = connect(address);
    ping(&client, b"accepted");
    // It lingers, until the client closes.
    while !manager.message().starts_with("STATUS=draining; connections open: 1, accepted: 1") {}
    drop(client);
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

#[test]
fn an_end_without_a_signal_is_told_too() {
    let manager = Manager::with_path();
    let (mut server, _stderr) = manager.start(&["127.0.0.1:0", "--once"], &[]);
    assert_eq!(manager.message(), SERVING);
    finish(&connect(server.listening()));
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    assert_eq!(manager.event(), "STOPPING=1\nSTATUS=draining; connections open: 0, accepted: 1\n");
    assert!(manager.unread().is_empty());
}

#[cfg(feature = "cli-tls")]
#[test]
fn a_reload_that_fails_is_over_too_and_the_status_says_so_until_one_succeeds() {
    let authority = Authority::new();
    let pair = authority.issue("localhost");
    let key = std::fs::read(&pair.key).unwrap();
    let manager = Manager::with_path();
    let (server, _stderr) = manager.start(&[&["127.0.0.1:0"], &pair.options()[..]].concat(), &[]);
    assert_eq!(manager.message(), SERVING);
    let reload = || {
        server.signal("HUP");
        reload_time(&manager.event());
        manager.message()
    };
    let serving = SERVING.trim_end();
    std::fs::write(&pair.key, "").unwrap();
    assert!(reload().starts_with(&format!("{serving}; certificates not reloaded: ")));
    std::fs::write(&pair.key, key).unwrap();
    assert_eq!(reload(), format!("{serving}; certificates reloaded\n"));
    assert_eq!(manager.message(), SERVING.replace("READY=1\n", ""));
}

#[test]
fn nobody_who_does_not_read_or_is_not_there_holds_up_a_server() {
    let manager = Manager::with_path();
    // One socket may have less room for what it sends than the other one has for what it receives.
    let fill = || {
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        iter::from_fn(|| socket.send_to(b"STATUS=", &manager.name).ok()).count()
    };
    while fill() > 0 {}
    let nobody = Manager { name: "/nowhere/notify".into(), ..Manager::with_path() };
    let strange = Manager { name: "vsock:2:1".into(), ..Manager::with_path() };
    for manager in [manager, nobody, strange] {
        let (mut server, stderr) = manager.start(&["127.0.0.1:0"], &[("WATCHDOG_USEC", "1000000")]);
        hear(&stderr, "cannot notify systemd: ");
        let client = connect(server.listening());
        ping(&client, b"served");
        finish(&client);
        // By now each sign of life waits until the next one is due.
        if manager.name != "vsock:2:1" {
            (0..3).for_each(|_| hear(&stderr, "cannot notify systemd: "));
        }
        server.signal("TERM");
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
    }
}

#[test]
fn the_watchdog_of_another_process_is_not_fed() {
    let manager = Manager::with_path();
    let environment = [("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")];
    let (mut server, _stderr) = manager.start(&["127.0.0.1:0"], &environment);
    assert_eq!(manager.message(), SERVING);
    let client = connect(server.listening());
    // By then the watchdog would have been fed many times.
    assert!(manager.message().starts_with("STATUS="));
    drop(client);
    server.signal("TERM");
    server.wait(DEADLINE);
    assert!(!manager.unread().contains(&"WATCHDOG=1\n".to_owned()));
}

/// Holds up the loop of a server before each wait for events, by strace(1); the other threads go on.
struct Stuck(Child);

/// What a loop waits with: epoll(7), or poll(2). Not every architecture has all of them.
const WAITS: &str = "?epoll_wait,epoll_pwait,?epoll_pwait2,?poll,ppoll";

impl Stuck {
    /// `None`, and the reason is printed, where strace is not there or must not.
    fn make(server: &Program) -> Option<Self> {
        let mut command = Command::new("strace");
        command.args(["-o", "/dev/null", "-e", &format!("trace={WAITS}")]);
        command.args(["-e", &format!("inject={WAITS}:delay_enter=3600000000")]);
        command.args(["-p", &server.child.id().to_string()]).stderr(Stdio::piped());
        let Ok(mut strace) = command.spawn() else {
            skip("a loop that is stuck: there is no strace");
            return None;
        };
        let mut line = String::new();
        BufReader::new(strace.stderr.take().unwrap()).read_line(&mut line).unwrap();
        if !line.contains("attached") {
            strace.wait().unwrap();
            skip(&format!("a loop that is stuck: {line}"));
            return None;
        }
        Some(Self(strace))
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_watchdog_is_fed_unless_a_loop_is_stuck() {
    let manager = Manager::with_path();
    let (server, stderr) = manager.start(&["127.0.0.1:0"], &[("WATCHDOG_USEC", "400000")]);
    assert_eq!(manager.message(), SERVING);
    let is_fed = || eventually("the watchdog is fed", || manager.event() == "WATCHDOG=1\n");
    (0..3).for_each(|_| is_fed());
    let Some(stuck) = Stuck::make(&server) else { return };
    hear(&stderr, "systemd's watchdog is not fed: 1 of 1 event loops did not answer within 100ms");
    manager.unread();
    (0..3).for_each(|_| hear(&stderr, "not fed"));
    assert!(!manager.unread().contains(&"WATCHDOG=1\n".to_owned()));
    drop(stuck);
    (0..3).for_each(|_| is_fed());
}
