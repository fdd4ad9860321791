//! `serve --control`, `ctl`, and `serve --takeover`.

use std::{
    fs,
    io::{BufRead, BufReader, IoSlice, Read, Write},
    mem::MaybeUninit,
    net::{Shutdown, SocketAddr},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Arc, Mutex, mpsc::channel},
    thread,
    time::Duration,
};

use echoloop::{
    Config, Echo, Handle, Server,
    ops::{Ops, Takeover},
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    get,
    health::Stuck,
    util::{
        self, DEADLINE, Program, Running, connect, echoloop, eventually, finish, ping, read_to_end,
        read_to_reset,
    },
};

/// A server with a control socket.
struct Steered {
    directory: TempDir,
    server: Program,
    address: SocketAddr,
}

impl Steered {
    fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let control = format!("unix:{}", path_in(&directory).display());
        let server = Program::start(&[&["serve", "127.0.0.1:0", "--control", &control], options].concat());
        let address = server.listening();
        until_control(&server);
        Self { directory, server, address }
    }

    fn path(&self) -> PathBuf {
        path_in(&self.directory)
    }

    /// Another one that takes its place.
    fn successor(&self, options: &[&str]) -> Program {
        let (address, path) = (self.address.to_string(), self.path().display().to_string());
        let control = format!("unix:{path}");
        let all = ["serve", &address, "--control", &control, "--takeover", &path];
        let next = Program::start(&[&all, options].concat());
        assert_eq!(next.listening(), self.address);
        until_control(&next);
        next
    }

    fn ctl(&self, order: &[&str]) -> Output {
        ctl(&self.path(), order)
    }

    fn status(&self) -> Value {
        status(&self.path())
    }
}

fn path_in(directory: &TempDir) -> PathBuf {
    directory.path().join("control")
}

/// Lines of other listeners may come before.
#[track_caller]
fn until_control(server: &Program) {
    while !server.line().starts_with("control on unix:") {}
}

fn ctl(path: &Path, order: &[&str]) -> Output {
    let path = path.display().to_string();
    echoloop(&[&["ctl", &path], order].concat()).output().unwrap()
}

#[track_caller]
fn status(path: &Path) -> Value {
    let output = ctl(path, &["status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What is said on stdout when it is done.
#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line of a refusal.
#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim_end().to_owned()
}

#[test]
fn an_operator_sees_what_each_connection_does_and_ends_one() {
    let steered = Steered::start(&["--workers", "2"]);
    let mode = fs::metadata(steered.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (kept, killed) = (connect(steered.address), connect(steered.address));
    ping(&kept, b"kept");
    ping(&killed, b"killed");
    let list: Value = serde_json::from_str(&done(&steered.ctl(&["list", "--json"]))).unwrap();
    let connections = list["connections"].as_array().unwrap();
    assert_eq!((connections.len(), &list["workers_silent"]), (2, &0.into()), "{list}");
    let peer = Value::from(killed.local_addr().unwrap().to_string());
    let one = connections.iter().find(|one| one["peer"] == peer).unwrap();
    assert_eq!((&one["state"], &one["queued_bytes"]), (&"reading".into(), &0.into()));
    let id = one["id"].as_str().unwrap();
    assert!(
        done(&steered.ctl(&["list"])).contains(&format!("{id}: {}, reading", one["peer"].as_str().unwrap()))
    );

    assert_eq!(done(&steered.ctl(&["kill", id])), "");
    assert!(read_to_reset(&killed).is_empty());
    assert_eq!(refused(&steered.ctl(&["kill", id])), format!("error: there is no connection {id}"));
    ping(&kept, b"still");
    let status = steered.status();
    assert_eq!((&status["ready"], &status["workers_total"]), (&true.into(), &2.into()));
    assert_eq!((&status["total"]["open"], &status["total"]["closed"]["aborted"]), (&1.into(), &1.into()));
    assert!(done(&steered.ctl(&["status"])).contains(&format!("listening on {}\n", steered.address)));
}

#[test]
fn it_is_said_that_a_worker_does_not_answer() {
    let (go_on, stop) = channel();
    let stop = Arc::new(Mutex::new(stop));
    let mut config = Config::default();
    config.workers = 2;
    let server = Running::start(config, &["127.0.0.1:0"], move |_| Some(Stuck(Arc::clone(&stop))));
    // Gone before the server, whose end would be waited for in vain.
    let go_on = go_on;
    let directory = tempfile::tempdir().unwrap();
    let path = path_in(&directory);
    let ops = Ops::new(server.handle.clone(), &server.addresses);
    let _control = ops.control().start(&path).unwrap();
    let client = server.connect();
    (&client).write_all(b"hold").unwrap();
    let silence = "1 of 2 workers did not answer within a second";
    eventually("it is stuck", || done(&ctl(&path, &["list"])).ends_with(&format!("{silence}\n")));
    let list: Value = serde_json::from_str(&done(&ctl(&path, &["list", "--json"]))).unwrap();
    assert_eq!(list, json!({ "connections": [], "workers_silent": 1 }));
    assert!(done(&ctl(&path, &["status"])).contains(silence));
    assert_eq!(status(&path)["workers_silent"], 1);
    let refusal = refused(&ctl(&path, &["kill", "7"]));
    assert_eq!(refusal, format!("error: there is no connection 7, but {silence}"));

    go_on.send(()).unwrap();
    util::expect_bytes(&client, b"hold");
    assert!(!done(&ctl(&path, &["list"])).contains(silence));
}

#[test]
fn readiness_is_turned_off_and_on_and_a_stop_is_a_drain() {
    let mut steered = Steered::start(&["--metrics", ":0", "--log-format", "json"]);
    let metrics = steered.status();
    assert_eq!(metrics["ready"], true);
    assert_eq!(done(&steered.ctl(&["drain"])), "");
    assert_eq!(steered.status()["ready"], false);
    // It serves as before.
    let client = connect(steered.address);
    ping(&client, b"served");
    assert_eq!(done(&steered.ctl(&["undrain"])), "");
    assert_eq!(steered.status()["ready"], true);
    assert_eq!(done(&steered.ctl(&["reload"])), "nothing to reload\n");

    assert_eq!(done(&steered.ctl(&["stop"])), "");
    assert!(read_to_end(&client).is_empty());
    // Who lingers can still be looked at; the stop cannot be taken back.
    assert_eq!(refused(&steered.ctl(&["undrain"])), "error: it is ending, which cannot be taken back");
    drop(client);
    assert_eq!(steered.server.wait(DEADLINE).code(), Some(0));
    assert!(!steered.path().exists());
    assert!(refused(&steered.ctl(&["status"])).contains("does not answer"));
}

#[test]
fn the_level_of_the_log_changes_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = path_in(&directory);
    let control = format!("unix:{}", path.display());
    let mut command = echoloop(&["serve", "127.0.0.1:0", "--control", &control, "--metrics", ":0"]);
    command.stderr(Stdio::piped());
    let mut server = Program::spawn(command);
    let mut log = BufReader::new(server.child.stderr.take().unwrap()).lines();
    let address = server.listening();
    let metrics = server.line();
    let metrics = metrics.strip_prefix("metrics on http://").expect(&metrics).trim_end_matches('/');
    let metrics: SocketAddr = metrics.parse().unwrap();
    until_control(&server);
    let mut until = |text: &str| while !log.next().expect("a line").unwrap().contains(text) {};
    assert_eq!(done(&ctl(&path, &["log-level", "debug"])), "");
    until("log level DEBUG");
    finish(&connect(address));
    until("] 0.1: closed");
    // Whose names may be those of others.
    assert_eq!(get(metrics, "/livez").status, 200);
    until("] metrics: 0.1: closed");
    assert_eq!(done(&ctl(&path, &["log-level", "info"])), "");
    until("log level INFO");
    finish(&connect(address));
    eventually("it has ended", || status(&path)["total"]["closed"]["peer"] == 2);
    server.signal("TERM");
    let rest: Vec<String> = log.map(|line| line.unwrap()).collect();
    assert!(rest[0].contains("] drain begins"), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("] metrics: drain begins")), "{rest:?}");
}

/// What anybody may send who may connect: one line of error, or none, and the server goes on.
#[test]
fn nonsense_is_refused_in_one_line() {
    let steered = Steered::start(&[]);
    let ask = |request: &[u8]| {
        let mut stream = UnixStream::connect(steered.path()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // It may be refused before all of it is sent.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    for request in [
        &b"\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\n",
        b"status",
        b"",
        b"takeover 999\n",
        b"kill \x1b[2J\n",
    ] {
        let answer = ask(request);
        assert!(answer.starts_with("error: ") && answer.lines().count() == 1, "{request:?}: {answer}");
        assert!(!answer.trim_end().contains(char::is_control), "{answer:?}");
    }
    let long = ask(&[b'x'; 200 << 10]);
    assert!(long.is_empty() || long.starts_with("error: "), "{long}");
    assert_eq!(steered.status()["ready"], true);
}

#[test]
fn one_too_many_is_told_so() {
    let steered = Steered::start(&[]);
    let silent: Vec<_> = (0..16).map(|_| UnixStream::connect(steered.path()).unwrap()).collect();
    for _ in 0..20 {
        assert_eq!(refused(&steered.ctl(&["status"])), "error: too many ask at the same time");
    }
    drop(silent);
    eventually("there is room again", || steered.ctl(&["status"]).status.success());
}

#[test]
fn what_is_no_path_of_a_unix_socket_is_refused() {
    for arguments in [["serve", "--control", "127.0.0.1:7"], ["serve", "--control", "/tmp/x"]] {
        let output = echoloop(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("write unix:PATH"), "{output:?}");
    }
    let output = echoloop(&["serve", "127.0.0.1:0", "--takeover", "/nowhere/control"]).output().unwrap();
    assert!(refused(&output).starts_with("error: cannot take over from the server at /nowhere/control: "));
}

/// Another program takes the place of the first one: it gets everything on which that listens.
#[test]
fn everything_is_taken_over_and_nobody_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let echo = format!("unix:{}", directory.path().join("echo").display());
    let options = [&echo, "--metrics", "127.0.0.1:0", "--agent", "127.0.0.1:0", "--workers", "3"];
    let mut steered = Steered::start(&options);
    let old = connect(steered.address);
    ping(&old, b"old");
    let first = steered.status()["process"].clone();

    let options = [&echo, "--metrics", "127.0.0.1:0", "--agent", "127.0.0.1:0", "--workers", "1"];
    let next = steered.successor(&options);
    eventually("it has the other one's place", || steered.status()["process"] != first);
    // The old one ends whom it has, and itself.
    assert!(read_to_end(&old).is_empty());
    drop(old);
    let mut before = std::mem::replace(&mut steered.server, next);
    assert_eq!(before.wait(DEADLINE).code(), Some(0));
    ping(&connect(steered.address), b"new");
    assert!(UnixStream::connect(directory.path().join("echo")).is_ok());
    assert_eq!(steered.status()["ready"], true);

    // The last one takes its files with it.
    steered.server.signal("TERM");
    assert_eq!(steered.server.wait(DEADLINE).code(), Some(0));
    assert!(!steered.path().exists() && !directory.path().join("echo").exists());
}

#[test]
fn one_that_cannot_serve_leaves_the_other_as_it_was() {
    let steered = Steered::start(&["--workers", "2"]);
    let (address, path) = (steered.address.to_string(), steered.path().display().to_string());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    // It asks for other addresses, for one more that it cannot have, and has wrong metrics.
    for (arguments, why) in [
        (vec!["127.0.0.1:0", "--metrics", &taken], "cannot listen on "),
        (vec![address.as_str(), &taken], "cannot listen on "),
        (vec!["127.0.0.2:0"], "a socket was passed on that listens on "),
    ] {
        let failed = echoloop(&[&["serve", "--takeover", &path], &arguments[..]].concat()).output().unwrap();
        assert!(refused(&failed).contains(why), "{failed:?}");
    }
    // Killed in the middle: it has the sockets, and says no more.
    let mut stream = UnixStream::connect(steered.path()).unwrap();
    stream.write_all(b"takeover 1\n").unwrap();
    let mut offer = String::new();
    BufReader::new(&stream).read_line(&mut offer).unwrap();
    assert!(offer.contains(&address), "{offer}");
    let failed = echoloop(&["serve", &address, "--takeover", &path]).output().unwrap();
    assert!(refused(&failed).contains("another process is taking over"), "{failed:?}");
    drop(stream);

    ping(&connect(steered.address), b"as before");
    assert!(steered.path().exists());
    eventually("another one can", || {
        let mut next = Program::start(&["serve", &address, "--takeover", &path]);
        let took = next.line().starts_with("listening on ");
        next.signal("TERM");
        next.wait(DEADLINE);
        took
    });
}

/// 50 generations, with one, two or three workers, under 5,000 new connections a second: none fails, and what the old ones
/// have is served to its end.
#[test]
fn fifty_takeovers_under_load_fail_nobody() {
    let mut steered = Steered::start(&[]);
    let mut bench =
        echoloop(&["bench", &steered.address.to_string(), "--churn", "--rate", "5000", "-s", "64"]);
    bench
        .args(["-c", "500", "--warmup", "0", "--duration", "10m", "--format", "json"])
        .stdout(Stdio::piped());
    let mut bench = Program::spawn(bench);
    let mut ending = Vec::new();
    for generation in 0_usize..50 {
        // One that rests, and one in the middle of much.
        let (idle, bulk) = (connect(steered.address), connect(steered.address));
        ping(&idle, b"idle");
        ping(&bulk, b"bulk");
        let before = steered.status()["process"].clone();
        let workers = (generation % 3 + 1).to_string();
        let next = steered.successor(&["--workers", &workers]);
        let mut old = std::mem::replace(&mut steered.server, next);
        ending.push(thread::spawn(move || {
            util::send_and_read(&bulk, &vec![b'x'; 1 << 20]);
            assert!(read_to_end(&idle).is_empty());
            drop((idle, bulk));
            assert_eq!(old.wait(DEADLINE).code(), Some(0));
        }));
        eventually("the next one has its place", || steered.status()["process"] != before);
    }
    ending.into_iter().for_each(|ended| ended.join().unwrap());
    bench.signal("INT");
    assert_eq!(bench.wait(DEADLINE).code(), Some(0));
    let mut report = String::new();
    while let Ok(line) = bench.stdout.recv_timeout(Duration::from_secs(1)) {
        report += &line;
    }
    let report: Value = serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"));
    assert!(report["messages"].as_u64() > Some(0), "{report}");
    let failures: u64 = report["failures"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(failures, 0, "{report}");
}

/// Who looks at the figures during a takeover is answered by one or the other.
#[test]
fn metrics_are_taken_over_too() {
    let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = metrics.to_string();
    let mut steered = Steered::start(&["--metrics", &text]);
    let first = steered.status()["process"].clone();
    assert_eq!(get(metrics, "/readyz").status, 200);
    let next = steered.successor(&["--metrics", &text]);
    let mut old = std::mem::replace(&mut steered.server, next);
    eventually("it has the other one's place", || steered.status()["process"] != first);
    for _ in 0..20 {
        assert_eq!(get(metrics, "/readyz").status, 200);
    }
    assert_eq!(old.wait(DEADLINE).code(), Some(0));
}

/// Plays a server that is to be taken over: gives this socket, and does `then` when the other one says that it serves.
fn pretend(
    path: &Path,
    listener: impl Into<OwnedFd>,
    offer: &Value,
    then: impl FnOnce(UnixStream) + Send + 'static,
) -> thread::JoinHandle<()> {
    let control = UnixListener::bind(path).unwrap();
    let (descriptor, line) = (listener.into(), format!("{offer}\n"));
    thread::spawn(move || {
        let (stream, _) = control.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "takeover 1");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut attached = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor.as_fd()];
        assert!(attached.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let line = [IoSlice::new(line.as_bytes())];
        sendmsg(&stream, &line, &mut attached, SendFlags::empty()).unwrap();
        if let Some(Ok(ready)) = lines.next() {
            assert_eq!(ready, "ready serve");
            then(stream);
        }
    })
}

#[test]
fn the_new_one_serves_on_if_the_old_one_has_gone_and_ends_if_it_goes_on() {
    for says in ["", "yours\n", "error: too late\n"] {
        let directory = tempfile::tempdir().unwrap();
        let path = path_in(&directory);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = json!({ "role": "serve", "address": address.to_string(), "kept": false });
        let offer = json!({ "sockets": [socket], "more": false });
        let old =
            pretend(&path, listener, &offer, move |mut stream| stream.write_all(says.as_bytes()).unwrap());
        let mut command = echoloop(&["serve", &address.to_string(), "--takeover", path.to_str().unwrap()]);
        command.stderr(Stdio::piped());
        let mut new = Program::spawn(command);
        old.join().unwrap();
        assert_eq!(new.listening(), address);
        if says.starts_with("error") {
            assert_eq!(new.wait(DEADLINE).code(), Some(1));
            let mut stderr = String::new();
            new.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            assert!(
                stderr.contains("error: takeover failed, the other server goes on: too late\n"),
                "{stderr}"
            );
        } else {
            ping(&connect(address), b"served");
            new.signal("TERM");
            assert_eq!(new.wait(DEADLINE).code(), Some(0));
        }
    }
}

#[test]
fn one_that_was_told_to_end_takes_nobodys_place() {
    let old = Server::<Echo>::builder().bind(["127.0.0.1:0"]).unwrap();
    let (addresses, handle) = (old.local_addrs().to_vec(), old.handle());
    let directory = tempfile::tempdir().unwrap();
    let ops = Ops::new(old.handle(), &addresses);
    let control = ops.control().give("serve", old.sockets()).start(&path_in(&directory)).unwrap();
    let old = thread::spawn(move || old.run(|_| Some(Echo)).unwrap());
    for (tell, is_refused) in [
        (Handle::drain as fn(&Handle<()>), true),
        (Handle::prestop, true),
        (|handle| (handle.prestop(), handle.cancel_prestop()).1, false),
    ] {
        let mut takeover = Takeover::begin(&path_in(&directory)).unwrap();
        let new = Server::<Echo>::builder().inherit(takeover.take("serve")).bind(addresses.clone()).unwrap();
        let (new_handle, sockets) = (new.handle(), new.sockets());
        let new = thread::spawn(move || new.run(|_| Some(Echo)).unwrap());
        tell(&new_handle);
        let completed = takeover.complete(&new_handle, &[sockets]).map_err(|error| error.to_string());
        if is_refused {
            assert_eq!(completed, Err("this server was told to end".to_owned()));
            assert!(!control.is_succeeded() && handle.is_ready());
        } else {
            assert_eq!(completed, Ok(()));
            eventually("its place is taken", || control.is_succeeded());
        }
        new_handle.drain();
        new.join().unwrap();
    }
    old.join().unwrap();
}

/// The file of a path goes with the one whose socket it is, if that is nobody else's too.
#[test]
fn only_the_file_that_is_its_own_is_removed() {
    for (is_kept, is_replaced, is_left) in [(false, false, false), (true, false, true), (false, true, true)] {
        let directory = tempfile::tempdir().unwrap();
        let (path, echo) = (path_in(&directory), directory.path().join("echo"));
        let address = format!("unix:{}", echo.display());
        let listener = UnixListener::bind(&echo).unwrap();
        let file = fs::metadata(&echo).unwrap();
        let others = is_replaced.then(|| {
            fs::remove_file(&echo).unwrap();
            UnixListener::bind(&echo).unwrap()
        });
        let socket = json!({
            "role": "serve", "address": address, "kept": is_kept, "device": file.dev(), "inode": file.ino(),
        });
        let offer = json!({ "sockets": [socket], "more": false });
        let old = pretend(&path, listener, &offer, |mut stream| stream.write_all(b"yours\n").unwrap());
        let mut command = echoloop(&["serve", &address, "--takeover", path.to_str().unwrap()]);
        command.stderr(Stdio::piped());
        let mut new = Program::spawn(command);
        let mut log = BufReader::new(new.child.stderr.take().unwrap()).lines();
        old.join().unwrap();
        while !log.next().expect("a line").unwrap().contains("has taken the other one's place") {}
        new.signal("TERM");
        assert_eq!(new.wait(DEADLINE).code(), Some(0));
        assert_eq!(echo.exists(), is_left, "kept {is_kept}, replaced {is_replaced}");
        drop(others);
    }
}

/// Of several that want its place at once one gets it, and the others are told.
#[test]
fn of_several_successors_at_once_one_is_left() {
    let mut steered = Steered::start(&[]);
    let (address, path) = (steered.address.to_string(), steered.path().display().to_string());
    let control = format!("unix:{path}");
    for _ in 0..5 {
        let start = |_| {
            let mut command = echoloop(&["serve", &address, "--control", &control, "--takeover", &path]);
            command.stderr(Stdio::null());
            Program::spawn(command)
        };
        let mut all: Vec<Program> = std::iter::once(steered.server).chain((0..4).map(start)).collect();
        // Some may follow one another.
        let has_ended = |one: &mut Program| one.child.try_wait().unwrap().is_some();
        eventually("one is left", || {
            all.iter_mut().filter_map(|one| Some(has_ended(one)).filter(|&ended| !ended)).count() == 1
        });
        let position = all.iter_mut().position(|one| !has_ended(one)).unwrap();
        steered.server = all.swap_remove(position);
        ping(&connect(steered.address), b"served");
        let process = Value::from(steered.server.child.id());
        eventually("it takes orders", || status(&path_in(&steered.directory))["process"] == process);
    }
}
