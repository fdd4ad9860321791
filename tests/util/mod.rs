//! What the tests share: servers in this process or as a program, clients, and waiting for a state.
#![allow(dead_code, reason = "every test uses a part of it")]
#![allow(unreachable_pub, reason = "the same in every test")]
#![allow(clippy::disallowed_methods, reason = "tests wait for states, with deadlines by the real clock")]

#[cfg(target_os = "linux")]
pub mod holder;
#[cfg(target_os = "linux")]
pub mod procfs;
#[cfg(unix)]
pub mod proxies;
pub mod tcp_memory;

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use echoloop::{Address, Config, Echo, Handle, Peer, Protocol, Server, Stats};

/// How long a test waits for a state before it fails. Far more than is needed.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A server that does the same with every client.
pub fn serve_with(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> String {
    serve_on("127.0.0.1:0", serve).to_string()
}

/// The same on an address.
pub fn serve_on(
    address: &str,
    serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(address).expect("bind");
    let address = listener.local_addr().expect("local_addr");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for client in listener.incoming() {
            let serve = Arc::clone(&serve);
            // Clients end as they like.
            thread::spawn(move || client.and_then(|client| serve(client)));
        }
    });
    address
}

/// Waits until `state` holds.
#[track_caller]
pub fn eventually(what: &str, state: impl FnMut() -> bool) {
    assert!(holds_within(DEADLINE, state), "waited in vain: {what}");
}

/// Whether `state` comes to hold within `limit`.
pub fn holds_within(limit: Duration, mut state: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if state() {
            return true;
        }
        if begin.elapsed() > limit {
            return false;
        }
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Repeats `round` until nothing has moved in many rounds, for a quarter of a second at least. A round lets the server
/// answer somebody, and says whether anything moved. So a server that a busy machine holds up is not taken for one
/// that has stopped.
#[track_caller]
pub fn until_nothing_moves(mut round: impl FnMut() -> bool) {
    const ROUNDS: u32 = 25;
    let mut still = 0;
    let is_still = holds_within(3 * DEADLINE, || {
        thread::park_timeout(Duration::from_millis(10));
        still = if round() { 0 } else { still + 1 };
        still == ROUNDS
    });
    assert!(is_still, "it goes on and on");
}

/// Whether servers move bytes inside the kernel: `ECHOLOOP_TEST_SPLICE` says `always`, `never`, or nothing, and they
/// choose.
fn splice_mode() -> Option<String> {
    let mode = env::var("ECHOLOOP_TEST_SPLICE").ok()?;
    assert!(matches!(&*mode, "always" | "never"), "ECHOLOOP_TEST_SPLICE={mode}");
    Some(mode)
}

fn with_splice(mut config: Config) -> Config {
    match splice_mode().as_deref() {
        Some("always") => config.splice_threshold_bytes = Some(1),
        Some(_) => config.splice_threshold_bytes = None,
        None => {}
    }
    config
}

/// The options of `echoloop serve` for that; a program cannot be told to move all bytes.
pub fn splice_options() -> &'static [&'static str] {
    if splice_mode().as_deref() == Some("never") { &["--no-splice"] } else { &[] }
}

/// A server on a thread of this process. Dropping it aborts the server.
pub struct Running<P: Protocol> {
    pub addresses: Vec<Address>,
    pub handle: Handle<P::Message>,
    thread: Option<JoinHandle<Stats>>,
}

impl Running<Echo> {
    /// An echo server on a free port of 127.0.0.1.
    pub fn echo(config: Config) -> Self {
        Self::start(config, &["127.0.0.1:0"], |_| Some(Echo))
    }
}

impl<P: Protocol + 'static> Running<P> {
    pub fn start<F>(config: Config, addresses: &[&str], factory: F) -> Self
    where
        F: Fn(&Peer<'_>) -> Option<P> + Send + Sync + 'static,
    {
        let server =
            Server::builder().config(with_splice(config)).bind(addresses.iter().copied()).expect("bind");
        let (addresses, handle) = (server.local_addrs().to_vec(), server.handle());
        let thread = thread::spawn(move || server.run(factory).expect("run"));
        Self { addresses, handle, thread: Some(thread) }
    }

    /// The first listener's address.
    pub fn address(&self) -> SocketAddr {
        let Address::Ip(address) = self.addresses[0] else {
            panic!("{} is not an IP address", self.addresses[0]);
        };
        address
    }

    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// A client that is connected and known to the server.
    pub fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// Waits until no connection is open.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        eventually("no connection is open", || self.stats().open == 0);
    }

    /// Whether the server has ended by itself or by an earlier request.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the server has ended by itself or by an earlier request.
    pub fn join(mut self) -> Stats {
        self.thread.take().expect("joined once").join().expect("the server does not panic")
    }

    pub fn drain(self) -> Stats {
        self.handle.drain();
        self.join()
    }

    /// Ends the server once no connection is open.
    #[track_caller]
    pub fn last_stats(self) -> Stats {
        self.wait_until_idle();
        self.drain()
    }
}

impl<P: Protocol> Drop for Running<P> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.abort();
            let _ = thread.join();
        }
    }
}

/// A client socket. Reads and writes that take longer than `DEADLINE` fail.
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("set_read_timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("set_write_timeout");
    stream.set_nodelay(true).expect("set_nodelay");
    stream
}

/// Sends `bytes` and reads as many back.
#[track_caller]
pub fn ping(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("ping");
    expect_bytes(stream, bytes);
}

/// Reads as many bytes as are expected, and compares them.
#[track_caller]
pub fn expect_bytes(mut stream: &TcpStream, expected: &[u8]) {
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).expect("bytes");
    let text = |bytes: &[u8]| bytes[..bytes.len().min(99)].escape_ascii().to_string();
    assert!(received == expected, "{} instead of {}", text(&received), text(expected));
}

/// Reads to the end of the stream; an error, such as a reset, fails the test.
#[track_caller]
pub fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("a clean end");
    all
}

/// Sends `bytes` and FIN on a thread while it reads, so that more comes back than all buffers hold.
#[track_caller]
pub fn send_and_read(stream: &TcpStream, bytes: &[u8]) {
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut stream = stream;
            stream.write_all(bytes).expect("send");
            stream.shutdown(Shutdown::Write).expect("shutdown");
        });
        assert!(read_to_end(stream) == bytes, "the echo differs");
        sender.join().expect("everything was sent");
    });
}

/// The documented client side of the disconnect: FIN, then receive to the end.
#[track_caller]
pub fn finish(stream: &TcpStream) -> Vec<u8> {
    stream.shutdown(Shutdown::Write).expect("shutdown");
    read_to_end(stream)
}

/// Closes so that the peer gets a reset.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    drop(stream);
}

/// Whether this is Wine, which says of most resets that come while nobody waits for them that the stream has
/// ended. So there a test cannot tell how it ended. Windows itself tells, as others do.
pub fn is_wine() -> bool {
    cfg!(windows) && env::var_os("WINEPREFIX").is_some()
}

/// Reads to a reset, and returns what came before it.
#[track_caller]
pub fn read_to_reset(mut stream: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => assert!(is_wine(), "a clean end after {} bytes instead of a reset", all.len()),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    all
}

/// `length` bytes that no shift or swap maps onto themselves; `seed` tells streams apart.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// The program `echoloop`, run by a test. Dropping it kills it.
pub struct Program {
    pub child: Child,
    /// The lines of its stdout, as they come.
    pub stdout: Receiver<String>,
}

impl Program {
    /// `echoloop ARGS…` with its stdout piped to this test and its stderr inherited.
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
        command.args(args);
        if args.first() == Some(&"serve") {
            command.args(splice_options());
        }
        Self::spawn(command)
    }

    /// The same under `ulimit -n`, for the soft and the hard limit.
    pub fn start_with_descriptors(limit: u32, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n {limit} && exec \"$0\" \"$@\""));
        command.arg(env!("CARGO_BIN_EXE_echoloop")).args(args);
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let stdout = lines(child.stdout.take().expect("piped"));
        Self { child, stdout }
    }

    /// The next line of stdout.
    #[track_caller]
    pub fn line(&self) -> String {
        self.stdout.recv_timeout(DEADLINE).expect("a line on stdout")
    }

    /// The address in the next `listening on ADDR` line.
    #[track_caller]
    pub fn listening(&self) -> SocketAddr {
        let line = self.line();
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("unexpected: {line}"));
        address.parse().expect("an IP address")
    }

    /// Sends a signal by its name, as `TERM`.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().expect("kill");
        assert!(status.success());
    }

    /// Waits until the program has ended, at most `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        let ended = holds_within(limit, || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        assert!(ended, "the program has not ended within {limit:?}");
        status.expect("it has ended")
    }
}

/// A server that is told to stop by `stop` ends the client that is still connected, and then itself.
#[track_caller]
pub fn drains_when_told_to_stop(mut server: Program, address: SocketAddr, stop: impl FnOnce(&Program)) {
    let (ended, open) = (connect(address), connect(address));
    ping(&ended, b"one");
    finish(&ended);
    ping(&open, b"three");
    stop(&server);
    assert!(read_to_end(&open).is_empty());
    drop(open);
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    let summary = "2 connections, 8 bytes received, 8 bytes sent, 0 bytes undelivered; peer 1, drained 1";
    assert_eq!(server.line(), summary);
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that a program writes, as they come, to their end.
pub fn lines(stdout: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// `echoloop ARGS…` with nothing on its stdin, and with the settings under which it tells the most.
pub fn echoloop(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    command.args(args).stdin(Stdio::null()).env_remove("RUST_LOG").env("RUST_BACKTRACE", "1");
    command
}

/// The example `name` with these arguments. `cargo test` builds the examples, unless only some targets are named.
pub fn example(name: &str, args: &[&str]) -> Command {
    let test = env::current_exe().expect("the path of this test");
    let directory =
        test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps").join("examples");
    let program = directory.join(name).with_extension(env::consts::EXE_EXTENSION);
    assert!(program.exists(), "the example is not built: run cargo build --examples");
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// How a program that ended by itself ended, and all that it wrote.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Starts a program. On a machine that has much to do Wine says now and then that there was an internal error, and that is all
/// that is wrong.
#[track_caller]
fn spawn(command: &mut Command) -> Child {
    const ERROR_INTERNAL_ERROR: i32 = 1359;
    let is_to_be_tried_again =
        |error: &io::Error| cfg!(windows) && error.raw_os_error() == Some(ERROR_INTERNAL_ERROR);
    let mut spawned = command.spawn();
    for _ in 0..4 {
        if spawned.as_ref().is_err_and(is_to_be_tried_again) {
            spawned = command.spawn();
        }
    }
    spawned.expect("spawn")
}

impl Ended {
    /// Runs a program to its end, within `DEADLINE`.
    #[track_caller]
    pub fn run(command: &mut Command) -> Self {
        Self::run_within(DEADLINE, command)
    }

    /// Runs a program that takes longer to its end.
    #[track_caller]
    pub fn run_within(limit: Duration, command: &mut Command) -> Self {
        let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let stdout = read_all(child.stdout.take().expect("piped"));
        let stderr = read_all(child.stderr.take().expect("piped"));
        let status = Program { child, stdout: channel().1 }.wait(limit);
        let text = |thread: JoinHandle<String>| thread.join().expect("the reader does not panic");
        Self { status, stdout: text(stdout), stderr: text(stderr) }
    }

    /// What the one line `error: WHAT` on stderr says, of a program that ended with `status`.
    #[track_caller]
    pub fn error(&self, status: i32) -> &str {
        assert_eq!(self.status.code(), Some(status), "{self:?}");
        let mut errors = self.stderr.lines().filter_map(|line| line.strip_prefix("error: "));
        let error = errors.next().unwrap_or_else(|| panic!("no error in {self:?}"));
        assert_eq!(errors.next(), None, "{self:?}");
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("backtrace"), "{self:?}");
        error
    }
}

/// Reads to the end on a thread.
fn read_all(mut source: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut all = Vec::new();
        source.read_to_end(&mut all).expect("a pipe");
        String::from_utf8_lossy(&all).into_owned()
    })
}

/// Waits for events, `timeout` at most. Where the process was stopped meanwhile there are none.
#[track_caller]
pub fn wait_for_events(poll: &mut mio::Poll, events: &mut mio::Events, timeout: Duration) {
    match poll.poll(events, Some(timeout)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        result => result.expect("poll"),
    }
}

/// Repeats a call that was interrupted: where the process was stopped meanwhile, one with a timeout is not restarted.
pub fn unless_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Prints why a test is skipped.
pub fn skip(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}
