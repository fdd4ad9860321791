//! Connections held by other processes, for more of them than one process may have descriptors.
//!
//! A holder is this test's own executable, run for its one test `hold_connections`, which does nothing unless
//! the environment gives it its job. Parent and holder exchange lines over stdin and stdout.

use std::{
    env,
    io::{self, BufRead, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc::Receiver,
};

use super::{DEADLINE, connect, finish, lines, pattern};

/// The variable with the job: `ADDR COUNT`.
const JOB: &str = "ECHOLOOP_TEST_HOLD";

/// What begins the holder's lines; libtest writes others.
const PREFIX: &str = "holder: ";

/// Connections that are opened before they are served, far fewer than a backlog takes.
const BATCH: usize = 256;

/// The bytes of each connection's message.
pub const MESSAGE_BYTES: usize = 64;

/// A process that holds connections. Dropping it kills it.
pub struct Holder {
    child: Child,
    lines: Receiver<String>,
}

impl Holder {
    /// Starts `holders` processes with `count` connections in all, each on a loopback address of its own. The
    /// server listens on 0.0.0.0.
    pub fn start_several(holders: usize, count: usize, port: u16) -> Vec<Self> {
        let share = |n: usize| count / holders + usize::from(n < count % holders);
        let address = |n: usize| SocketAddr::from(([127, 0, 0, u8::try_from(n + 1).expect("few")], port));
        (0..holders).map(|n| Self::start(address(n), share(n))).collect()
    }

    fn start(address: SocketAddr, count: usize) -> Self {
        let mut child = Command::new(env::current_exe().expect("current_exe"))
            .args(["hold_connections", "--exact", "--nocapture", "--test-threads=1"])
            .env(JOB, format!("{address} {count}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let lines = lines(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// Waits until the holder says `what`. When it fails it ends instead, and so does the test.
    #[track_caller]
    pub fn wait_for(&self, what: &str) {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("never heard: {what}"));
            if let Some(said) = line.strip_prefix(PREFIX) {
                assert_eq!(said, what);
                return;
            }
        }
    }

    /// Tells the holder to do something: `echo` once more, or `end`. It says `DONE` then.
    pub fn tell(&mut self, what: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{what}").expect("the holder listens");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells all holders, then waits for each.
#[track_caller]
pub fn tell_all(holders: &mut [Holder], what: &str) {
    holders.iter_mut().for_each(|holder| holder.tell(what));
    holders.iter().for_each(|holder| holder.wait_for(what));
}

/// What a holder says when all its connections are made and each has had its first echo.
pub const CONNECTED: &str = "connected";

/// The body of the test `hold_connections`.
pub fn hold_connections() {
    let Ok(job) = env::var(JOB) else { return };
    let (address, count) = job.split_once(' ').expect("ADDR COUNT");
    let (address, count) = (address.parse().expect("ADDR"), count.parse().expect("COUNT"));
    let mut connections = Vec::new();
    while connections.len() < count {
        let old = connections.len();
        connections.extend((old..count.min(old + BATCH)).map(|_| connect(address)));
        echo(&connections[old..], old);
    }
    say(CONNECTED);
    for order in io::stdin().lock().lines().map_while(Result::ok) {
        match order.as_str() {
            "echo" => echo(&connections, 0),
            "end" => end(&mut connections),
            other => panic!("an unknown order: {other}"),
        }
        say(&order);
    }
}

fn say(what: &str) {
    let mut stdout = io::stdout().lock();
    // libtest may have begun a line of its own.
    write!(stdout, "\n{PREFIX}{what}\n").and_then(|()| stdout.flush()).expect("the parent listens");
}

/// Each connection sends bytes of its own and must get them back.
fn echo(connections: &[TcpStream], first: usize) {
    let message = |n: usize| pattern((first + n) as u64, MESSAGE_BYTES);
    for (n, mut connection) in connections.iter().enumerate() {
        connection.write_all(&message(n)).expect("send");
    }
    for (n, mut connection) in connections.iter().enumerate() {
        let mut echo = [0; MESSAGE_BYTES];
        connection.read_exact(&mut echo).expect("receive");
        assert!(echo == *message(n), "connection {n} got other bytes than it sent");
    }
}

/// Each connection ends the documented way: FIN, then receive to the end, and nothing more comes.
fn end(connections: &mut Vec<TcpStream>) {
    for connection in connections.drain(..) {
        assert!(finish(&connection).is_empty(), "more came than was sent");
    }
}
