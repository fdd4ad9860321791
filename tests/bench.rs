//! `echoloop bench` and `echoloop report`, against our server and against servers that lie.
#![cfg(feature = "cli")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use echoloop::{Config, Context, Echo, Input, Protocol};
use serde_json::Value;
use util::{DEADLINE, Ended, Running, echoloop, reset, serve_with};

/// A load that is over in a moment.
const SHORT: [&str; 4] = ["--duration", "200ms", "--warmup", "20ms"];

fn bench(server: &str, args: &[&str]) -> Command {
    echoloop(&[&["bench", server], args].concat())
}

#[track_caller]
fn run(server: &str, args: &[&str]) -> Ended {
    Ended::run(&mut bench(server, args))
}

/// The JSON of a load in which all went well.
#[track_caller]
fn figures(server: &str, args: &[&str]) -> Value {
    let ended = run(server, &[args, &["--format", "json"]].concat());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    // A machine that is busy with other tests may not reach a rate.
    let is_expected = |line: &str| line.contains("WARN") && line.contains("was not reached");
    assert!(ended.stderr.lines().all(is_expected), "{ended:?}");
    serde_json::from_str(&ended.stdout).expect("one JSON object")
}

/// The JSON of a load with failures, of which `kind` is the only one, and how many there were.
#[track_caller]
fn failures(server: &str, args: &[&str], kind: &str) -> u64 {
    let ended = run(server, &[args, &["--format", "json"]].concat());
    let error = ended.error(1);
    assert!(error.contains("connections failed: "), "{error}");
    let figures: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    for (name, count) in figures["failures"].as_object().unwrap() {
        assert_eq!(name == kind, count.as_u64().unwrap() > 0, "{name}: {count} in {figures}");
    }
    number(&figures["failures"][kind])
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a whole number"))
}

fn echo_server() -> (Running<Echo>, String) {
    let server = Running::echo(Config::default());
    let address = server.address().to_string();
    (server, address)
}

/// Echoes `bytes` of what the client sends.
fn echo_some(client: &TcpStream, bytes: u64) -> io::Result<()> {
    io::copy(&mut client.take(bytes), &mut &*client).map(|_| ())
}

/// Receives to the end.
fn swallow(client: &TcpStream) -> io::Result<()> {
    io::copy(&mut &*client, &mut io::sink()).map(|_| ())
}

/// Counts what it echoes.
struct Counting {
    bytes: Arc<AtomicU64>,
}

impl Protocol for Counting {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.bytes.fetch_add(input.bytes().len() as u64, Ordering::SeqCst);
        cx.forward(input);
    }
}

#[test]
fn a_closed_loop_is_measured_and_shown_as_a_table() {
    let (server, address) = echo_server();
    let ended = run(&address, &SHORT);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "", "no progress bar where there is no terminal");
    for heading in [
        "closed loop, messages of 512 B, 1 thread, seed 1",
        "requested",
        "achieved",
        "messages/s",
        "bytes/s",
        "p50       p90       p99     p99.9    p99.99       max",
        "\nconnect ",
        "ends          50 FIN, 0 reset\nfailures      none\n",
    ] {
        assert!(ended.stdout.contains(heading), "no {heading:?} in {}", ended.stdout);
    }
    let stats = server.drain();
    assert_eq!(stats.accepted, 50);
    assert_eq!(stats.closed(echoloop::CloseReason::Peer), 50, "{stats}");
}

#[test]
fn exactly_so_many_requests_are_sent() {
    for (requests, args) in [
        ("1", &["--connections", "1"][..]),
        ("1001", &["--connections", "7", "--pipeline", "4"]),
        ("1k", &["--connections", "9", "--threads", "3"]),
        ("3", &["--connections", "5"]),
        ("200", &["--connections", "4", "--rate", "20k/s"]),
        ("200", &["--connections", "4", "--rate", "20k/s", "--threads", "3"]),
        ("150", &["--connections", "10", "--churn"]),
        ("150", &["--connections", "10", "--churn", "--rate", "10k", "--threads", "2"]),
    ] {
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        let server = Running::start(Config::default(), &["127.0.0.1:0"], move |_| {
            Some(Counting { bytes: Arc::clone(&counter) })
        });
        let args = [&["--requests", requests, "--size", "100"], args].concat();
        let figures = figures(&server.address().to_string(), &args);
        let wanted: u64 = if requests == "1k" { 1000 } else { requests.parse().unwrap() };
        assert_eq!(number(&figures["messages"]), wanted, "{args:?}");
        assert_eq!(number(&figures["bytes"]), wanted * 100);
        assert_eq!(number(&figures["latency"]["count"]), wanted);
        assert_eq!(bytes.load(Ordering::SeqCst), wanted * 100, "{args:?}");
        server.drain();
    }
}

#[test]
fn the_json_fields_are_those_of_the_readme() {
    let (_server, address) = echo_server();
    let figures = figures(&address, &[&SHORT[..], &["--rate", "2k"]].concat());
    let names = |value: &Value| {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let readme = include_str!("../docs/bench.md");
    let latency = names(&figures["latency"]);
    assert_eq!(names(&figures["uncorrected_latency"]), latency);
    assert_eq!(names(&figures["connect_latency"]), latency);
    for part in
        [&figures, &figures["connections"], &figures["rate"], &figures["latency"], &figures["failures"]]
    {
        for name in names(part) {
            assert!(readme.contains(&format!("`{name}`")), "{name} is not in docs/bench.md");
        }
    }
    for name in names(&figures["intervals"][0]) {
        assert!(readme.contains(&format!("`{name}`")), "{name} is not in docs/bench.md");
    }
    assert_eq!(figures["version"], 1);
    assert_eq!(figures["loop"], "open");
    assert_eq!(figures["rate"]["requested_per_second"], 2000.0);
    let latency = &figures["latency"];
    let quantiles = ["min_ns", "p50_ns", "p90_ns", "p99_ns", "p99_9_ns", "p99_99_ns", "max_ns"];
    assert!(quantiles.windows(2).all(|pair| number(&latency[pair[0]]) <= number(&latency[pair[1]])));
}

#[test]
fn requested_and_achieved_are_shown_side_by_side() {
    let (_server, address) = echo_server();
    let figures =
        figures(&address, &["-n", "40", "--connections", "8", "--rate", "1k", "--connect-rate", "2k"]);
    assert_eq!(figures["connections"]["requested"], 8);
    assert_eq!(figures["connections"]["achieved"], 8);
    assert_eq!(figures["rate"]["requested_per_second"], 1000.0);
    assert!(figures["rate"]["achieved_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn churn_makes_a_connection_for_each_message_and_ends_it_properly() {
    let (server, address) = echo_server();
    let figures = figures(&address, &["--churn", "-n", "300", "--connections", "20"]);
    assert_eq!(number(&figures["connections"]["made"]), 300);
    assert_eq!(number(&figures["fin"]), 300);
    assert_eq!(number(&figures["connect_latency"]["count"]), 300);
    let stats = server.drain();
    assert_eq!(stats.accepted, 300);
    // Our FIN came first: the documented disconnect of a client.
    assert_eq!(stats.closed(echoloop::CloseReason::Peer), 300, "{stats}");
}

#[test]
fn large_messages_come_back_whole() {
    let (_server, address) = echo_server();
    let figures = figures(&address, &["-n", "6", "--connections", "2", "--size", "5MiB", "--pipeline", "2"]);
    assert_eq!(number(&figures["bytes"]), 6 * (5 << 20));
}

/// A server that sends nothing back before it has all of it.
#[test]
fn a_server_that_waits_for_a_whole_message_is_served() {
    const SIZE: usize = 3 << 20;
    let address = serve_with(|mut client| {
        let mut message = vec![0; SIZE];
        while client.read_exact(&mut message).is_ok() {
            client.write_all(&message)?;
        }
        client.shutdown(Shutdown::Write)
    });
    let figures = figures(&address, &["-n", "4", "--connections", "2", "--size", "3MiB"]);
    assert_eq!(number(&figures["messages"]), 4);
}

#[test]
fn latencies_of_an_open_loop_count_from_when_messages_were_due() {
    // The first client is held up for as long as all of them should take. There is only one place for connections, so
    // that the others wait for it.
    let is_first = AtomicBool::new(true);
    let address = serve_with(move |client| {
        if is_first.swap(false, Ordering::SeqCst) {
            thread::park_timeout(Duration::from_millis(200));
        }
        echo_some(&client, 512)?;
        client.shutdown(Shutdown::Write)?;
        swallow(&client)
    });
    let figures = figures(&address, &["-n", "20", "--connections", "1", "--churn", "--rate", "100"]);
    let quantile = |kind: &str, name: &str| number(&figures[kind][name]);
    for name in ["p50_ns", "p90_ns", "max_ns"] {
        assert!(quantile("latency", name) >= quantile("uncorrected_latency", name), "{name}: {figures}");
    }
    assert!(quantile("latency", "p50_ns") > 2 * quantile("uncorrected_latency", "p50_ns"), "{figures}");
    assert_eq!(quantile("latency", "count"), quantile("uncorrected_latency", "count"));
}

#[test]
fn a_server_that_lies_is_found_out() {
    let address = serve_with(|mut client| {
        let mut buffer = [0; 512];
        for round in 0.. {
            client.read_exact(&mut buffer)?;
            if round == 3 {
                buffer[511] ^= 0x40;
            }
            client.write_all(&buffer)?;
        }
        Ok(())
    });
    assert_eq!(failures(&address, &["-n", "1000", "--connections", "3"], "corrupt"), 3);
}

#[test]
fn more_than_was_sent_is_corrupt() {
    let address = serve_with(|client| {
        echo_some(&client, 512)?;
        (&client).write_all(b"and more")?;
        swallow(&client)
    });
    // The surplus may come with the message or behind it, but it comes before the FIN is answered.
    let ended = run(&address, &["-n", "1", "--connections", "1", "--format", "json"]);
    let figures: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(number(&figures["failures"]["corrupt"]), 1, "{figures}");
    assert_eq!(ended.error(1), "1 of 1 connections failed: 1 corrupt");
}

#[test]
fn an_echo_that_ends_within_a_message_is_truncated() {
    let address = serve_with(|client| {
        echo_some(&client, 700)?;
        client.shutdown(Shutdown::Write)?;
        swallow(&client)
    });
    assert_eq!(failures(&address, &["-n", "100", "--connections", "2"], "truncated"), 2);
    assert_eq!(
        failures(&address, &["-n", "4", "--connections", "2", "--churn", "--size", "800"], "truncated"),
        4
    );
}

#[test]
fn a_server_that_ends_first_though_it_owes_nothing_has_closed_early() {
    let address = serve_with(|client| {
        echo_some(&client, 512)?;
        client.shutdown(Shutdown::Write)?;
        swallow(&client)
    });
    // The first message is due at once, the second long after.
    let args = ["--rate", "0.01", "--connections", "1", "--duration", "1h"];
    assert_eq!(failures(&address, &args, "short_close"), 1);
}

#[test]
fn resets_are_counted_apart() {
    let address = serve_with(|client| {
        echo_some(&client, 512)?;
        reset(client);
        Ok(())
    });
    if !util::is_wine() {
        assert_eq!(failures(&address, &["-n", "100", "--connections", "4"], "reset"), 4);
    }
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let address = serve_with(|client| {
        swallow(&client)?;
        // It does not end either.
        thread::park_timeout(DEADLINE);
        Ok(())
    });
    let common = ["--connections", "2", "--timeout", "100ms"];
    for args in [
        &["-n", "10"][..],
        &["-n", "2", "--churn"],
        &["--duration", "50ms", "--warmup", "off", "--rate", "10k"],
        &["--duration", "50ms", "--warmup", "off", "--size", "2MiB"],
    ] {
        assert_eq!(failures(&address, &[args, &common].concat(), "unanswered"), 2, "{args:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_one_clear_line() {
    // Bound, so that nobody else gets the port, and not listening.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
    for args in [&[][..], &["--churn"], &["--churn", "--rate", "100"], &["--rate", "100"], &["-n", "5"]] {
        let ended = run(&address, &[args, &["--timeout", "30s"]].concat());
        let error = ended.error(1);
        assert!(error.starts_with(&format!("cannot connect to {address}: ")), "{error}");
        assert_eq!(ended.stdout, "");
    }
}

/// The listener goes away after the first client. Tried again if something else kept it open for a moment, such as
/// a process that another test was starting: then connections are reset.
#[test]
fn refused_connections_are_counted_beside_those_that_were_made() {
    let refused = |_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            drop(listener);
            io::copy(&mut &client, &mut &client)?;
            client.shutdown(Shutdown::Write)
        });
        let args = ["--churn", "--connections", "1", "-n", "3", "--format", "json"];
        let ended = run(&address, &args);
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let figures: Value = serde_json::from_str(&ended.stdout).unwrap();
        let count = |kind: &str| number(&figures["failures"][kind]);
        assert_eq!(count("refused") + count("reset"), 2, "{figures}");
        count("refused")
    };
    assert!((0..20).map(refused).any(|refused| refused == 2));
}

#[test]
fn host_names_are_resolved() {
    let (server, _) = echo_server();
    let address = format!("localhost:{}", server.address().port());
    assert_eq!(number(&figures(&address, &["-n", "10", "-c", "2"])["messages"]), 10);
    let ended = run("no-such-host.invalid:7", &[]);
    assert!(ended.error(1).starts_with("cannot resolve no-such-host.invalid:7: "));
}

#[test]
fn wrong_arguments_are_one_line_and_status_2() {
    for args in [
        &["--rate", "fast"][..],
        &["--size", "0"],
        &["--requests", "10", "--duration", "1s"],
        &["--connections", "2", "--threads", "3"],
        &["--pipeline", "0"],
    ] {
        let ended = run("127.0.0.1:1", args);
        assert!(!ended.error(2).is_empty());
        assert_eq!(ended.stdout, "");
    }
    assert!(Ended::run(&mut echoloop(&["bench"])).error(2).contains("ADDR"));
    assert!(Ended::run(&mut echoloop(&["report"])).error(2).contains("FILE"));
}

#[test]
fn files_that_cannot_be_written_are_said_before_the_load() {
    let (_server, address) = echo_server();
    for option in ["--hdr", "--report"] {
        let ended = run(&address, &["--duration", "1h", option, "/no/such/directory/file"]);
        assert!(ended.error(1).starts_with("cannot write /no/such/directory/file: "));
    }
}

/// Writes a log of so many messages.
#[track_caller]
fn write_log(address: &str, path: &Path, messages: &str, args: &[&str]) {
    let path = path.to_str().unwrap();
    let args = [&["-n", messages, "-c", "5", "--hdr", path], args].concat();
    assert_eq!(run(address, &args).status.code(), Some(0));
}

#[test]
fn logs_are_put_together_by_report() {
    let (_server, address) = echo_server();
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("a.hdr"), directory.path().join("b.hdr"));
    write_log(&address, &first, "300", &[]);
    write_log(&address, &second, "200", &["--rate", "10k"]);
    let text = fs::read_to_string(&first).unwrap();
    assert!(text.starts_with("#[echoloop bench "), "{text}");
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());

    let ended = Ended::run(&mut echoloop(&["report", first, second, "--format", "json"]));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(number(&report["logs"]), 2);
    assert_eq!(number(&report["messages"]), 500);
    assert_eq!(number(&report["latency"]["count"]), 500);
    assert_eq!(number(&report["uncorrected_latency"]["count"]), 200);
    assert_eq!(number(&report["connect_latency"]["count"]), 10);

    let page = directory.path().join("page.html");
    let ended = Ended::run(&mut echoloop(&["report", first, "--report", page.to_str().unwrap()]));
    assert!(ended.stdout.contains("messages      300\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("p99.99"));
    assert_eq!(fs::read_to_string(page).unwrap().matches("<svg ").count(), 3);
}

#[test]
fn what_is_no_log_is_refused_by_report() {
    let ended = Ended::run(&mut echoloop(&["report", "Cargo.toml"]));
    assert!(ended.error(1).starts_with("cannot read Cargo.toml: "), "{ended:?}");
    let ended = Ended::run(&mut echoloop(&["report", "no-such-file"]));
    assert!(ended.error(1).starts_with("cannot read no-such-file: "), "{ended:?}");
}

#[test]
fn the_page_needs_nothing_else() {
    let (_server, address) = echo_server();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page.html");
    let ended = run(&address, &[&SHORT[..], &["--report", path.to_str().unwrap()]].concat());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let page = fs::read_to_string(path).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>"));
    assert_eq!(page.matches("<svg ").count(), 3);
    for figure in ["p99.99", "Latency by percentile", "Throughput over time", "Latency over time"] {
        assert!(page.contains(figure), "{figure}");
    }
    for link in ["src=", "href=", "@import", "url("] {
        assert!(!page.contains(link), "{link}");
    }
}

#[cfg(unix)]
mod unix {
    use std::process::Stdio;

    use util::eventually;

    use super::*;

    #[test]
    fn unix_sockets_are_measured_too() {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", directory.path().join("socket").display());
        let missing = run(&address, &["-n", "10"]);
        assert!(missing.error(1).starts_with(&format!("cannot connect to {address}: ")), "{missing:?}");
        let server = Running::start(Config::default(), &[&address], |_| Some(Echo));
        assert_eq!(number(&figures(&address, &["-n", "100"])["messages"]), 100);
        assert_eq!(number(&figures(&address, &["-n", "100", "--churn"])["messages"]), 100);
        server.drain();
    }

    #[test]
    fn too_few_descriptors_are_said_before_anything_begins() {
        let mut command = Command::new("sh");
        let script = "ulimit -n 64 && exec \"$0\" bench 127.0.0.1:1 --connections 100";
        command.args(["-c", script, env!("CARGO_BIN_EXE_echoloop")]).stdin(Stdio::null());
        let ended = Ended::run(&mut command);
        let error = ended.error(1);
        assert!(error.contains("the limit is 64") && error.contains("ulimit -n"), "{error}");
    }

    /// Presses Ctrl-C.
    #[track_caller]
    fn interrupt(program: u32) {
        let status = Command::new("kill").args(["-s", "INT", &program.to_string()]).status().unwrap();
        assert!(status.success());
    }

    #[test]
    fn ctrl_c_ends_early_with_the_figures_so_far() {
        let (server, address) = echo_server();
        let mut command = bench(&address, &["--duration", "1h", "--warmup", "off", "--format", "json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        eventually("the load has begun", || server.stats().bytes_received > 0);
        interrupt(child.id());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(figures["interrupted"], true);
        assert_eq!(number(&figures["fin"]), 50);
        assert_eq!(server.drain().closed(echoloop::CloseReason::Peer), 50);
    }

    #[test]
    fn ctrl_c_again_and_again_ends_the_program_soon() {
        // It never answers, so the first Ctrl-C has something to wait for.
        let accepted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&accepted);
        let address = serve_with(move |mut client| {
            client.read_exact(&mut [0; 1])?;
            counter.fetch_add(1, Ordering::SeqCst);
            swallow(&client)
        });
        let mut command = bench(&address, &["-n", "5", "--connections", "1", "--timeout", "1h"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        eventually("the message has come", || accepted.load(Ordering::SeqCst) == 1);
        let mut status = None;
        // Those that come within a second of the first are the same one. By then it has given up the load as well.
        eventually("it has ended", || {
            interrupt(child.id());
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert!([Some(1), Some(130)].contains(&status.unwrap().code()), "{status:?}");
    }
}
