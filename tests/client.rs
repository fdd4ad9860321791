//! `echoloop client`: the documented steps of a client, against our server and against others, good and bad.
#![cfg(feature = "cli")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use util::{DEADLINE, Ended, Program, echoloop, eventually, pattern, serve_on, serve_with};

/// What a plain blocking server does: it echoes until the client has ended, and ends.
fn echo(client: TcpStream) -> io::Result<()> {
    io::copy(&mut &client, &mut &client)?;
    client.shutdown(Shutdown::Write)
}

/// Takes what the client sends, without an answer, until it ends or closes.
fn swallow(client: &TcpStream) -> io::Result<()> {
    io::copy(&mut &*client, &mut io::sink()).map(|_| ())
}

/// `echoloop client ARGS…` with `input` on its stdin.
#[track_caller]
fn client_with_stdin(args: &[&str], input: &[u8]) -> Ended {
    let mut file: File = tempfile::tempfile().expect("tempfile");
    file.write_all(input).expect("write");
    file.rewind().expect("rewind");
    Ended::run(client(args).stdin(file))
}

fn client(args: &[&str]) -> Command {
    echoloop(&[&["client"], args].concat())
}

#[track_caller]
fn run(args: &[&str]) -> Ended {
    Ended::run(&mut client(args))
}

/// Checks the counts and that all went well.
#[track_caller]
fn succeeds(ended: &Ended, bytes: usize) {
    assert_eq!(ended.stdout, format!("Bytes sent: {bytes}\nBytes received: {bytes}\nConnection closed\n"));
    assert_eq!(ended.stderr, "");
    assert_eq!(ended.status.code(), Some(0));
}

/// Checks that the client says what went wrong, of which `words` are a part.
#[track_caller]
fn fails(ended: &Ended, words: &[&str]) {
    let error = ended.error(1);
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error:?}");
    }
    assert!(!ended.stdout.contains("Connection closed"), "{ended:?}");
}

#[test]
fn the_three_lines_of_the_tutorial_come_out() {
    let server = Program::start(&["serve", "127.0.0.1:0"]);
    succeeds(&run(&[&server.listening().to_string()]), 14);
    succeeds(&run(&[&serve_with(echo)]), 14);
}

#[test]
fn any_message_can_be_sent() {
    let server = serve_with(echo);
    for message in ["", "x", "-x", "--help-me", "grüße\n", &"long ".repeat(6_000)] {
        succeeds(&run(&[&server, message]), message.len());
    }
}

#[test]
fn ipv6_is_spoken() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return util::skip("there is no ::1 here");
    }
    let server = Program::start(&["serve", "[::1]:0"]);
    succeeds(&run(&[&server.listening().to_string()]), 14);
    succeeds(&run(&[&serve_on("[::1]:0", echo).to_string()]), 14);
}

#[test]
fn stdin_is_streamed_and_the_counts_go_to_stderr() {
    let server = serve_with(echo);
    for length in [0, 1, 14, 65_536, 300_001] {
        // Text, because `Ended` has text.
        let input = &"this is a test\n".repeat(length / 15 + 1)[..length];
        let ended = client_with_stdin(&[&server, "-"], input.as_bytes());
        assert!(ended.stdout == input, "the output differs from the input");
        assert_eq!(
            ended.stderr,
            format!("Bytes sent: {length}\nBytes received: {length}\nConnection closed\n")
        );
        assert_eq!(ended.status.code(), Some(0));
    }
}

/// What `work` makes, if that is done within `limit`; it may block.
#[track_caller]
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(limit).expect("it is done in time")
}

/// A client that streams: its stdin and stdout are pipes of this test.
struct Streaming {
    program: Program,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Receiver<String>,
}

impl Streaming {
    fn start(server: &str, options: &[&str]) -> Self {
        let mut command = client(&[options, &[server, "-"]].concat());
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child: Child = command.spawn().expect("spawn");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut pipe = child.stderr.take().expect("piped");
        let (sender, stderr) = channel();
        thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).expect("text");
            // A test that has failed meanwhile does not want it.
            let _ = sender.send(text);
        });
        Self { program: Program { child, stdout: channel().1 }, stdin, stdout, stderr }
    }

    /// Writes `text` to its stdin and waits until it has come out of its stdout.
    #[track_caller]
    fn ping(&mut self, text: &'static str) {
        self.stdin.as_mut().expect("open").write_all(text.as_bytes()).expect("the client takes its stdin");
        let mut stdout = self.stdout.take().expect("open");
        self.stdout = Some(within(DEADLINE, move || {
            let mut echo = vec![0; text.len()];
            stdout.read_exact(&mut echo).expect("the client writes all");
            assert_eq!(echo, text.as_bytes());
            stdout
        }));
    }

    /// Waits for the end.
    #[track_caller]
    fn end(mut self) -> Ended {
        let status = self.program.wait(DEADLINE);
        let mut rest = Vec::new();
        if let Some(mut stdout) = self.stdout {
            stdout.read_to_end(&mut rest).expect("a pipe");
        }
        let stderr = self.stderr.recv_timeout(DEADLINE).expect("the program has ended");
        Ended { status, stdout: String::from_utf8_lossy(&rest).into_owned(), stderr }
    }
}

/// How much goes through a client in one test.
const VOLUME: u64 = if cfg!(debug_assertions) { 64 << 20 } else { 1 << 30 };

const CHUNK: usize = 64 << 10;

/// Writes `volume` bytes of the stream `seed`, telling how far it has come; gives back the open pipe.
fn write_stream(mut pipe: ChildStdin, seed: u64, volume: u64, written: &AtomicU64) -> ChildStdin {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut chunk = vec![0; CHUNK];
    while written.load(Ordering::Relaxed) < volume {
        random.fill(&mut chunk);
        pipe.write_all(&chunk).expect("the client takes its stdin");
        written.fetch_add(CHUNK as u64, Ordering::Relaxed);
    }
    pipe
}

/// Reads `volume` bytes, which must be those of the stream `seed`; gives back the open pipe.
fn read_stream(mut pipe: ChildStdout, seed: u64, volume: u64) -> ChildStdout {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut expected, mut chunk) = (vec![0; CHUNK], vec![0; CHUNK]);
    for position in 0..volume / CHUNK as u64 {
        random.fill(&mut expected);
        pipe.read_exact(&mut chunk).expect("the client writes all");
        assert!(chunk == expected, "seed {seed}: chunk {position} differs");
    }
    pipe
}

/// The most memory that a process has had, in MiB; 0 where the system does not say.
fn peak_mib(program: &Program) -> u64 {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", program.child.id())) else {
        return 0;
    };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().strip_suffix(" kB").expect("kB").parse::<u64>().expect("a number") >> 10
}

#[test]
fn any_volume_passes_through_in_little_memory() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let server = Program::start(&["serve", "127.0.0.1:0"]);
    let mut client = Streaming::start(&server.listening().to_string(), &[]);
    let stdin = client.stdin.take().unwrap();
    let writer = thread::spawn(move || write_stream(stdin, seed, VOLUME, &AtomicU64::new(0)));
    let stdout = client.stdout.take().unwrap();
    client.stdout = Some(within(3 * DEADLINE, move || read_stream(stdout, seed, VOLUME)));
    // Everything is back, and the client still waits for the end of its stdin.
    let stdin = writer.join().unwrap();
    for (who, program) in [("client", &client.program), ("server", &server)] {
        let peak = peak_mib(program);
        assert!(peak < 64, "the {who} took {peak} MiB");
    }
    drop(stdin);
    let ended = client.end();
    assert_eq!(ended.stderr, format!("Bytes sent: {VOLUME}\nBytes received: {VOLUME}\nConnection closed\n"));
    assert_eq!((ended.status.code(), &*ended.stdout), (Some(0), ""));
}

/// More than all the buffers between stdin and stdout hold.
const MORE_THAN_BUFFERS: u64 = 64 << 20;

/// Has a client stream so much through `server` that everything stands still as long as nobody reads its
/// stdout, and only then reads.
fn nothing_deadlocks_while_stdout_is_not_read(server: &str) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut client = Streaming::start(server, &[]);
    let stdin = client.stdin.take().expect("piped");
    let written = Arc::new(AtomicU64::new(0));
    let progress = Arc::clone(&written);
    let writer = thread::spawn(move || drop(write_stream(stdin, seed, MORE_THAN_BUFFERS, &progress)));
    let (mut last, mut looks) = (0, 0);
    eventually("nothing moves any more", || {
        let now = written.load(Ordering::Relaxed);
        looks = if now == last && now > 0 { looks + 1 } else { 0 };
        last = now;
        looks == 50
    });
    let stdout = client.stdout.take().expect("piped");
    client.stdout = Some(within(DEADLINE, move || read_stream(stdout, seed, MORE_THAN_BUFFERS)));
    writer.join().expect("all is written");
    assert_eq!(client.end().status.code(), Some(0));
}

#[test]
fn a_slow_reader_of_stdout_deadlocks_nothing() {
    let server = Program::start(&["serve", "127.0.0.1:0"]);
    nothing_deadlocks_while_stdout_is_not_read(&server.listening().to_string());
}

#[test]
fn a_slow_reader_of_stdout_deadlocks_nothing_at_a_plain_server() {
    nothing_deadlocks_while_stdout_is_not_read(&serve_with(echo));
}

#[test]
fn what_is_typed_comes_back_before_stdin_ends() {
    let server = Program::start(&["serve", "127.0.0.1:0"]);
    let mut client = Streaming::start(&server.listening().to_string(), &[]);
    for _ in 0..3 {
        client.ping("this is a test\n");
    }
    drop(client.stdin.take());
    assert_eq!(client.end().stderr, "Bytes sent: 45\nBytes received: 45\nConnection closed\n");
}

#[test]
fn what_comes_back_is_written_at_once_even_without_a_newline() {
    let server = Program::start(&["serve", "127.0.0.1:0"]);
    let mut client = Streaming::start(&server.listening().to_string(), &[]);
    for _ in 0..3 {
        client.ping("login: ");
        client.ping("secret\npass");
    }
    drop(client.stdin.take());
    assert_eq!(client.end().status.code(), Some(0));
}

#[test]
fn stdin_that_stays_open_does_not_keep_a_client_whose_server_has_closed() {
    let server = serve_with(|client| {
        let mut line = [0; 15];
        (&client).read_exact(&mut line)?;
        (&client).write_all(&line)?;
        client.shutdown(Shutdown::Write)?;
        swallow(&client)
    });
    let mut client = Streaming::start(&server, &[]);
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"this is a test\n").unwrap();
    let ended = client.end();
    fails(&ended, &["closed the connection early", "15 of 15 bytes"]);
    assert_eq!(ended.stdout, "this is a test\n");
    drop(stdin);
}

/// Echoes what it reads first, as many samples do, and closes.
fn echo_once(client: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    let n = (&client).read(&mut buffer)?;
    (&client).write_all(&buffer[..n])
}

/// Enough for a race to go both ways.
const RUNS: usize = 60;

#[test]
fn a_server_that_echoes_once_and_closes_is_a_success_every_time() {
    let server = serve_with(echo_once);
    for _ in 0..RUNS {
        succeeds(&run(&[&server]), 14);
    }
}

#[test]
fn a_stream_that_a_server_echoes_whole_before_it_closes_is_a_success_every_time() {
    let server = serve_with(echo_once);
    for _ in 0..RUNS {
        let ended = client_with_stdin(&[&server, "-"], b"this is a test");
        assert_eq!((ended.status.code(), &*ended.stdout), (Some(0), "this is a test"), "{ended:?}");
    }
}

#[test]
fn a_wrong_byte_is_told_though_the_server_closes_first() {
    let server = serve_with(|client| {
        (&client).read_exact(&mut [0; 14])?;
        (&client).write_all(b"this is a tent")
    });
    for _ in 0..RUNS {
        fails(&run(&[&server]), &["differs", "between bytes 0 and 14"]);
    }
    // Nor does it matter that stdin is still open.
    let mut client = Streaming::start(&server, &[]);
    client.stdin.as_mut().unwrap().write_all(b"this is a test").unwrap();
    let stdin = client.stdin.take();
    fails(&client.end(), &["differs", "between bytes 0 and 14"]);
    drop(stdin);
}

#[test]
fn what_stdin_gives_after_the_server_has_closed_cannot_come_back() {
    let (tell, told) = channel();
    let server = serve_with(move |client| {
        echo_once(client)?;
        tell.send(()).map_err(io::Error::other)
    });
    let mut client = Streaming::start(&server, &["--timeout", "20s"]);
    client.ping("this is a test");
    told.recv_timeout(DEADLINE).expect("the server has closed");
    // If this test is slow, the client has ended by now, and nobody reads that.
    let _ = client.stdin.take().unwrap().write_all(b"more");
    fails(&client.end(), &["closed the connection early", "14 of 1"]);
}

#[test]
fn a_stdin_that_cannot_be_read_is_an_error_at_once() {
    if !cfg!(unix) {
        return util::skip("a directory is no file here");
    }
    let server = serve_with(echo);
    let begin = Instant::now();
    let ended = Ended::run(client(&["--timeout", "20s", &server, "-"]).stdin(File::open("/").unwrap()));
    fails(&ended, &["cannot read stdin", "directory"]);
    assert!(begin.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_stdout_that_is_closed_is_an_error() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&pattern(1, 1 << 20)).unwrap();
    file.rewind().unwrap();
    let mut child =
        client(&[&serve_with(echo), "-"]).stdin(file).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let mut program = Program { child, stdout: channel().1 };
    assert_eq!(program.wait(DEADLINE).code(), Some(1));
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    assert!(text.lines().any(|line| line.starts_with("error: cannot write to stdout: ")), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn a_server_that_cuts_short_is_an_error() {
    for k in [0, 1, 13] {
        let server = serve_with(move |client| {
            let mut message = [0; 14];
            (&client).read_exact(&mut message)?;
            (&client).write_all(&message[..k])?;
            client.shutdown(Shutdown::Write)?;
            swallow(&client)
        });
        let ended = run(&[&server]);
        fails(&ended, &["closed the connection early", &format!("{k} of 14 bytes")]);
        assert_eq!(ended.stdout, format!("Bytes sent: 14\nBytes received: {k}\n"));
    }
}

#[test]
fn a_stream_that_is_cut_short_is_an_error() {
    let server = serve_with(|client| {
        let mut some = vec![0; 200_000];
        (&client).read_exact(&mut some)?;
        (&client).write_all(&some)?;
        client.shutdown(Shutdown::Write)?;
        swallow(&client)
    });
    let input = pattern(2, 2_000_000);
    fails(&client_with_stdin(&[&server, "-"], &input), &["closed the connection early", "200000 of "]);
}

#[test]
fn one_wrong_byte_is_an_error() {
    /// Echoes, with a wrong byte at `position`.
    fn corrupt(client: &TcpStream, position: usize) -> io::Result<()> {
        let (mut buffer, mut passed) = (vec![0; 10_000], 0);
        loop {
            let n = (&*client).read(&mut buffer)?;
            if n == 0 {
                return client.shutdown(Shutdown::Write);
            }
            if (passed..passed + n).contains(&position) {
                buffer[position - passed] ^= 0x20;
            }
            (&*client).write_all(&buffer[..n])?;
            passed += n;
        }
    }
    for position in [0, 7, 13] {
        let ended = run(&[&serve_with(move |client| corrupt(&client, position))]);
        fails(&ended, &["differs", "between bytes 0 and 14"]);
        assert_eq!(ended.stdout, "Bytes sent: 14\nBytes received: 14\n");
    }
    let input = pattern(3, 1_000_000);
    for (position, block) in
        [(0, "0 and 65536"), (70_000, "65536 and 131072"), (999_999, "983040 and 1000000")]
    {
        let server = serve_with(move |client| corrupt(&client, position));
        fails(&client_with_stdin(&[&server, "-"], &input), &["differs", &format!("between bytes {block}")]);
    }
}

#[test]
fn more_than_was_sent_is_an_error() {
    let server = serve_with(|client| {
        io::copy(&mut &client, &mut &client)?;
        (&client).write_all(b"!")
    });
    fails(&run(&[&server]), &["sent back more than it received"]);
    fails(&run(&[&server, ""]), &["sent back more than it received"]);
    fails(&client_with_stdin(&[&server, "-"], &pattern(4, 100_000)), &["sent back more than it received"]);
}

#[test]
fn a_reset_is_an_error() {
    let server = serve_with(|client| {
        (&client).read_exact(&mut [0; 14])?;
        util::reset(client);
        Ok(())
    });
    fails(&run(&[&server]), &["reset the connection", "0 of 14 bytes"]);
    // Whether the sending or the receiving side learns of the reset is a matter of chance.
    fails(&client_with_stdin(&[&server, "-"], &pattern(5, 10_000_000)), &[": 0 of "]);
}

#[test]
fn a_refusal_is_an_error_with_a_hint() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let ended = run(&[&address]);
    fails(&ended, &["cannot connect to", &address, "refused", "echoloop serve"]);
    assert_eq!(ended.stdout, "");
}

/// Runs a client that is to give up after 300 ms, and not after a default of 10 s or more.
#[track_caller]
fn gives_up(ended: impl FnOnce() -> Ended, words: &[&str]) {
    let begin = Instant::now();
    fails(&ended(), words);
    let elapsed = begin.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(8)).contains(&elapsed), "{elapsed:?}");
}

#[test]
fn a_server_that_never_answers_is_an_error() {
    let reads = serve_with(|client| {
        swallow(&client)?;
        thread::park();
        Ok(())
    });
    let idle = TcpListener::bind("127.0.0.1:0").unwrap();
    let never_reads = idle.local_addr().unwrap().to_string();
    for address in [&reads, &never_reads] {
        gives_up(|| run(&["--timeout", "300ms", address]), &["timed out", "0 of 14 bytes"]);
    }
    let input = pattern(6, 30_000_000);
    gives_up(
        || client_with_stdin(&["--timeout", "300ms", &never_reads, "-"], &input),
        &["timed out", "0 of "],
    );
}

#[test]
fn a_server_that_never_closes_is_an_error() {
    let server = serve_with(|client| {
        io::copy(&mut &client, &mut &client)?;
        thread::park();
        Ok(())
    });
    gives_up(|| run(&["--timeout", "300ms", &server]), &["timed out", "14 of 14 bytes"]);
}

#[test]
fn a_wrong_byte_is_told_though_the_server_never_closes() {
    let server = serve_with(|client| {
        (&client).read_exact(&mut [0; 14])?;
        (&client).write_all(b"this is a tent")?;
        thread::park();
        Ok(())
    });
    gives_up(|| run(&["--timeout", "300ms", &server]), &["differs", "between bytes 0 and 14"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_that_does_not_accept_is_an_error() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // Linux ignores clients while the backlog is full.
    let mut backlog = Vec::new();
    while let Ok(client) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        backlog.push(client);
        assert!(backlog.len() < 100, "the backlog is never full");
    }
    gives_up(
        || run(&["--connect-timeout", "300ms", &address.to_string()]),
        &["cannot connect to", "timed out"],
    );
}

#[test]
fn each_address_of_a_host_is_tried_in_turn() {
    let server = serve_on("127.0.0.1:0", echo);
    let name = format!("localhost:{}", server.port());
    let first_refuses = |addresses: &[SocketAddr]| {
        addresses.first().is_some_and(SocketAddr::is_ipv6) && addresses.iter().any(SocketAddr::is_ipv4)
    };
    let addresses: Vec<_> = name.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    if first_refuses(&addresses) && TcpListener::bind((Ipv6Addr::LOCALHOST, server.port())).is_ok() {
        return succeeds(&run(&[&name]), 14);
    }
    // A host file of its own for the client, where that is allowed.
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    std::fs::write(&hosts, "::1 localhost\n127.0.0.1 localhost\n").unwrap();
    let with_hosts = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("mount --bind \"$0\" /etc/hosts && {script}")]);
        command.arg(&hosts).stdin(Stdio::null()).env_remove("RUST_LOG");
        command
    };
    match with_hosts("getent ahosts localhost").output() {
        Ok(output) if output.status.success() && output.stdout.starts_with(b"::1 ") => {}
        _ => return util::skip("localhost is not ::1 and then 127.0.0.1 here, and cannot be made so"),
    }
    let mut client = with_hosts("exec \"$@\"");
    succeeds(&Ended::run(client.args([env!("CARGO_BIN_EXE_echoloop"), "client", &name])), 14);
    let refused = with_hosts("exec \"$@\"")
        .args([env!("CARGO_BIN_EXE_echoloop"), "client", "localhost:1"])
        .env("RUST_LOG", "debug")
        .output()
        .unwrap();
    let stderr = String::from_utf8(refused.stderr).unwrap();
    let [v6, v4] = ["connecting to [::1]:1", "connecting to 127.0.0.1:1"].map(|text| stderr.find(text));
    assert!(v6.is_some() && v6 < v4, "{stderr}");
}

#[cfg(unix)]
mod unix {
    use std::os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    };

    use super::*;

    #[test]
    fn unix_sockets_are_spoken() {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", directory.path().join("echo.sock").display());
        let server = Program::start(&["serve", &address]);
        assert_eq!(server.line(), format!("listening on {address}"));
        succeeds(&run(&[&address]), 14);
        succeeds(&run(&[&address, ""]), 0);
        let input = "this is a test\n".repeat(100_000);
        let ended = client_with_stdin(&[&address, "-"], input.as_bytes());
        assert_eq!(ended.status.code(), Some(0));
        assert!(ended.stdout == input, "the output differs from the input");
    }

    /// A non-blocking end for the program, and the other end, of a pair of connected sockets.
    fn nonblocking_end() -> (UnixStream, UnixStream) {
        let (theirs, ours) = UnixStream::pair().expect("socketpair");
        theirs.set_nonblocking(true).expect("O_NONBLOCK");
        (theirs, ours)
    }

    /// A client that streams, with non-blocking stdin and stdout; and their other ends.
    fn start_nonblocking(server: &str) -> (Program, UnixStream, UnixStream) {
        let ((stdin, to_client), (stdout, from_client)) = (nonblocking_end(), nonblocking_end());
        let mut command = client(&[server, "-"]);
        command.stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout));
        let child = command.spawn().expect("spawn");
        from_client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        (Program { child, stdout: channel().1 }, to_client, from_client)
    }

    #[test]
    fn a_nonblocking_stdin_is_waited_for() {
        let (mut client, mut stdin, mut stdout) = start_nonblocking(&serve_with(echo));
        for line in [b"one\n", b"two\n"] {
            // It has nothing to read now, and waits without processor time.
            #[cfg(target_os = "linux")]
            util::procfs::wait_until_asleep(client.child.id());
            stdin.write_all(line).unwrap();
            let mut echo = [0; 4];
            stdout.read_exact(&mut echo).unwrap();
            assert_eq!(&echo, line);
        }
        drop(stdin);
        assert_eq!(stdout.read(&mut [0]).unwrap(), 0);
        assert_eq!(client.wait(DEADLINE).code(), Some(0));
    }

    #[test]
    fn a_nonblocking_stdout_is_waited_for() {
        let (mut client, mut stdin, mut stdout) = start_nonblocking(&serve_with(echo));
        let input = pattern(7, 8 << 20);
        let copy = input.clone();
        let writer = thread::spawn(move || stdin.write_all(&copy));
        // Its stdout is full now, and it waits without processor time.
        #[cfg(target_os = "linux")]
        util::procfs::wait_until_asleep(client.child.id());
        let mut output = Vec::new();
        stdout.read_to_end(&mut output).unwrap();
        assert!(output == input, "the output differs from the input");
        writer.join().unwrap().unwrap();
        assert_eq!(client.wait(DEADLINE).code(), Some(0));
    }

    #[test]
    fn a_unix_server_that_cuts_short_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("echo.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client.read_exact(&mut [0; 14]).unwrap();
            client.write_all(b"this").unwrap();
        });
        let ended = run(&[&format!("unix:{}", path.display())]);
        fails(&ended, &["closed the connection early", "4 of 14 bytes"]);
        server.join().unwrap();
    }
}
