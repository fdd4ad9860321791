//! What `echoloop bench` counts, when it ends, and the conditions that make it fail.
#![cfg(feature = "cli")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    process::Command,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::channel,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use echoloop::Config;
use serde_json::Value;
use util::{DEADLINE, Ended, Running, echoloop, eventually, reset, serve_with};

/// The size of a message, unless a test says otherwise.
const SIZE: usize = 512;

/// A load may take this long where it took more than 30 s. Far more than is needed.
const SOON: Duration = Duration::from_secs(12);

/// For how long a server holds answers back.
const STALL: Duration = Duration::from_millis(300);

fn bench(server: &str, args: &[&str]) -> Command {
    echoloop(&[&["bench", server, "--format", "json"], args].concat())
}

/// The exit status of a load, and its JSON.
#[track_caller]
fn run(server: &str, args: &[&str]) -> (i32, Value) {
    let ended = Ended::run(&mut bench(server, args));
    (ended.status.code().expect("it is not killed"), figures(&ended.stdout))
}

#[track_caller]
fn figures(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap_or_else(|error| panic!("{error} in {stdout:?}"))
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a whole number"))
}

/// A latency of the JSON.
#[track_caller]
fn latency(figures: &Value, name: &str) -> Duration {
    Duration::from_nanos(number(&figures["latency"][name]))
}

/// Echoes so many messages, one by one.
fn echo_messages(mut client: &TcpStream, messages: usize) -> io::Result<()> {
    let mut message = [0; SIZE];
    for _ in 0..messages {
        client.read_exact(&mut message)?;
        client.write_all(&message)?;
    }
    Ok(())
}

/// Receives so many messages, and echoes them only `STALL` after the last of them.
fn hold_messages(mut client: &TcpStream, messages: usize) -> io::Result<()> {
    let mut held = vec![0; messages * SIZE];
    client.read_exact(&mut held)?;
    thread::park_timeout(STALL);
    client.write_all(&held)
}

/// Echoes to the end, and ends too.
fn echo_rest(client: &TcpStream) -> io::Result<()> {
    io::copy(&mut &*client, &mut &*client)?;
    client.shutdown(Shutdown::Write)
}

/// Returns 16 bytes in a second, for ever.
fn trickle(mut client: &TcpStream) -> io::Result<()> {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    client.set_read_timeout(Some(Duration::from_millis(250)))?;
    loop {
        match client.read(&mut buffer) {
            Ok(0) => thread::park_timeout(Duration::from_millis(250)),
            Ok(length) => received.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        let piece: Vec<u8> = received.drain(..received.len().min(4)).collect();
        client.write_all(&piece)?;
    }
}

mod what_was_due_counts {
    use super::*;

    /// The server answers 700 of 1,000 messages, and the others after all of them were due.
    #[test]
    fn in_an_open_loop_whose_server_stalls_at_the_end() {
        let address = serve_with(|client| {
            echo_messages(&client, 700)?;
            hold_messages(&client, 300)?;
            echo_rest(&client)
        });
        let args = ["--rate", "1k", "--connections", "1", "--duration", "1s", "--warmup", "off"];
        let (status, figures) = run(&address, &args);
        assert_eq!(status, 0, "{figures}");
        assert_eq!(number(&figures["messages"]), 1_000);
        assert_eq!(number(&figures["latency"]["count"]), 1_000);
        assert!(latency(&figures, "p90_ns") >= STALL, "{figures}");
        assert!(figures["rate"]["achieved_per_second"].as_f64().unwrap() <= 1_000.0, "{figures}");
    }

    #[test]
    fn where_the_server_resets_a_connection_that_waits_for_answers() {
        let address = serve_with(|mut client| {
            client.read_exact(&mut [0; 3 * SIZE])?;
            reset(client);
            Ok(())
        });
        let (status, figures) = run(&address, &["--connections", "1", "--pipeline", "3", "-n", "3"]);
        assert_eq!(status, 1, "{figures}");
        assert_eq!((number(&figures["messages"]), number(&figures["messages_unanswered"])), (0, 3));
    }

    #[test]
    fn where_the_server_never_answers_again() {
        let address = serve_with(|client| {
            echo_messages(&client, 700)?;
            io::copy(&mut &client, &mut io::sink()).map(drop)
        });
        let args = ["--rate", "1k", "--connections", "1", "--duration", "1s", "--warmup", "off"];
        let (status, figures) = run(&address, &[&args[..], &["--timeout", "1s"]].concat());
        assert_eq!(status, 1, "{figures}");
        assert_eq!(number(&figures["messages"]), 700);
        assert_eq!(number(&figures["messages_unanswered"]), 300);
        assert_eq!(number(&figures["failures"]["unanswered"]), 1);
        assert!(latency(&figures, "p90_ns") >= Duration::from_millis(900), "{figures}");
    }

    /// The server answers 60 of 100 clients, and the others after all of them have come.
    #[test]
    fn with_churn() {
        let accepted = AtomicU64::new(0);
        let address = serve_with(move |client| {
            if accepted.fetch_add(1, Ordering::SeqCst) >= 60 {
                eventually("everyone has come", || accepted.load(Ordering::SeqCst) >= 100);
                thread::park_timeout(STALL);
            }
            echo_rest(&client)
        });
        let args = ["--churn", "--rate", "200", "--connections", "100", "--duration", "500ms"];
        let (status, figures) = run(&address, &[&args[..], &["--warmup", "off"]].concat());
        assert_eq!(status, 0, "{figures}");
        assert_eq!(number(&figures["messages"]), 100);
        assert!(latency(&figures, "p90_ns") >= STALL, "{figures}");
    }

    /// The server answers for a moment, and then not before the measured time is over.
    #[test]
    fn in_a_closed_loop() {
        let stall = Duration::from_secs(1);
        for churn in [&[][..], &["--churn"]] {
            let begin = std::sync::OnceLock::new();
            let address = serve_with(move |client| {
                let begin: &Instant = begin.get_or_init(Instant::now);
                while begin.elapsed() < Duration::from_millis(100) {
                    echo_messages(&client, 1)?;
                    if !churn.is_empty() {
                        return echo_rest(&client);
                    }
                }
                thread::park_timeout(stall);
                echo_rest(&client)
            });
            let args = ["--connections", "1", "--duration", "500ms", "--warmup", "off"];
            let (status, figures) = run(&address, &[&args[..], churn].concat());
            assert_eq!(status, 0, "{figures}");
            assert!(latency(&figures, "max_ns") >= stall * 9 / 10, "{figures}");
        }
    }

    /// Of two threads with a connection each, one loses it with its second message.
    #[test]
    fn where_a_thread_loses_its_last_connection() {
        let accepted = AtomicU64::new(0);
        let address = serve_with(move |client| {
            if accepted.fetch_add(1, Ordering::SeqCst) > 0 {
                return echo_rest(&client);
            }
            echo_messages(&client, 1)?;
            (&client).read_exact(&mut [0; SIZE])?;
            reset(client);
            Ok(())
        });
        let args = ["--rate", "500", "--connections", "2", "--threads", "2", "-n", "300"];
        let (status, figures) = run(&address, &args);
        assert_eq!(status, 1, "{figures}");
        // Not every system tells a reset from an end where input was read at the same moment.
        let failures = &figures["failures"];
        assert_eq!(number(&failures["reset"]) + number(&failures["truncated"]), 1, "{figures}");
        let (messages, unanswered) = (number(&figures["messages"]), number(&figures["messages_unanswered"]));
        assert_eq!(messages + unanswered, 300, "{figures}");
        assert!(messages > 200, "the other thread has sent for it: {figures}");
    }

    #[cfg(unix)]
    #[test]
    fn where_bench_itself_is_stopped() {
        let server = Running::echo(Config::default());
        let address = server.address().to_string();
        // The timeout is over meanwhile too. That is not the fault of the server.
        let args = ["--rate", "1k", "--duration", "2s", "--warmup", "off", "--timeout", "1s"];
        let child = bench(&address, &args).stdout(std::process::Stdio::piped()).spawn().expect("spawn");
        eventually("the load has begun", || server.stats().bytes_received > 0);
        signal(&child, "STOP");
        // It is the time that is tested: all messages become due meanwhile.
        thread::park_timeout(Duration::from_secs(3));
        signal(&child, "CONT");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let figures = figures(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(number(&figures["messages"]), 2_000);
        assert!(latency(&figures, "p50_ns") >= Duration::from_secs(1), "{figures}");
        assert_eq!(figures["limited_by"], "client", "{figures}");
    }
}

mod the_end_is_the_end {
    use super::*;

    #[test]
    fn of_a_load_whose_server_trickles() {
        let address = serve_with(|client| trickle(&client));
        let common = ["--connections", "2", "--duration", "200ms", "--warmup", "off", "--timeout", "1s"];
        for args in
            [&[][..], &["--rate", "100"], &["--churn"], &["--churn", "--rate", "20"], &["--size", "2MiB"]]
        {
            let begin = Instant::now();
            let (status, figures) = run(&address, &[&common, args].concat());
            assert!(begin.elapsed() < SOON, "{args:?} took {:?}", begin.elapsed());
            assert_eq!(status, 1, "{args:?}");
            assert!(number(&figures["failures"]["unanswered"]) >= 2, "{args:?}: {figures}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn at_ctrl_c() {
        for args in [&[][..], &["--rate", "100"], &["--churn"], &["-n", "100"]] {
            let (tell, told) = channel();
            let address = serve_with(move |client| {
                client.peek(&mut [0])?;
                let _ = tell.send(());
                trickle(&client)
            });
            let common = ["--connections", "2", "--timeout", "1h"];
            let child = bench(&address, &[&common, args].concat())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .expect("spawn");
            told.recv_timeout(DEADLINE).expect("the load has begun");
            let begin = Instant::now();
            signal(&child, "INT");
            let output = child.wait_with_output().unwrap();
            assert!(begin.elapsed() < SOON, "{args:?} took {:?}", begin.elapsed());
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let figures = figures(&String::from_utf8(output.stdout).unwrap());
            assert_eq!(figures["interrupted"], true);
            assert!(number(&figures["failures"]["unanswered"]) > 0, "{figures}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn at_ctrl_c_nothing_is_lost_if_the_server_answers() {
        for args in [&["--rate", "5k"][..], &["--churn", "--rate", "100"]] {
            let server = Running::echo(Config::default());
            let address = server.address().to_string();
            let child = bench(&address, &[&["--duration", "1h", "--warmup", "off"], args].concat())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("spawn");
            eventually("the load has begun", || server.stats().bytes_received > 10 * SIZE as u64);
            signal(&child, "INT");
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let figures = figures(&String::from_utf8(output.stdout).unwrap());
            assert_eq!(number(&figures["messages_unanswered"]), 0, "{figures}");
            let received = server.last_stats().bytes_received;
            assert_eq!(number(&figures["messages"]) * SIZE as u64, received, "{args:?}: {figures}");
        }
    }
}

mod the_rate {
    use super::*;

    fn achieved(figures: &Value) -> f64 {
        figures["rate"]["achieved_per_second"].as_f64().unwrap()
    }

    /// What the server owes from the warm-up comes back while it is measured.
    #[test]
    fn achieved_is_never_more_than_asked() {
        let address = serve_with(|client| {
            hold_messages(&client, 600)?;
            echo_rest(&client)
        });
        let args = ["--rate", "1k", "--connections", "1", "--duration", "500ms", "--warmup", "500ms"];
        let (status, figures) = run(&address, &args);
        assert_eq!(status, 0, "{figures}");
        assert_eq!(number(&figures["messages"]), 500, "those of the warm-up do not count");
        assert!(achieved(&figures) <= 1_000.0, "{figures}");
        let (_, figures) = run(&address, &["--rate", "1k", "--connections", "1", "-n", "700"]);
        assert!(achieved(&figures) <= 1_000.0, "{figures}");
    }

    #[test]
    fn is_that_of_all_threads_together() {
        let (tell, told) = channel();
        let address = serve_with(move |mut client| {
            let mut message = [0; SIZE];
            while client.read_exact(&mut message).is_ok() {
                let _ = tell.send(Instant::now());
                client.write_all(&message)?;
            }
            client.shutdown(Shutdown::Write)
        });
        let args = ["--rate", "40", "--connections", "8", "--threads", "4", "-n", "40"];
        let begin = Instant::now();
        let (status, figures) = run(&address, &args);
        assert_eq!(status, 0, "{figures}");
        let mut times: Vec<Instant> = told.try_iter().collect();
        times.sort();
        assert_eq!(times.len(), 40);
        // Message n is due n/40 s after the load has begun.
        let due = |n: usize| begin + Duration::from_millis(25 * n as u64);
        assert!(times.iter().enumerate().all(|(n, time)| *time >= due(n)), "{times:?}");
        assert!(achieved(&figures) <= 40.0, "{figures}");
    }

    #[test]
    fn that_is_reached_is_said_to_be() {
        let server = Running::echo(Config::default());
        let address = server.address().to_string();
        let (status, figures) = run(&address, &["--rate", "100", "--duration", "1s", "--warmup", "off"]);
        assert_eq!((status, &figures["rate_reached"]), (0, &Value::Bool(true)), "{figures}");
        assert_eq!(figures["limited_by"], Value::Null);
        let (_, figures) = run(&address, &["-n", "10"]);
        assert_eq!(figures["rate_reached"], Value::Null, "a closed loop asks for no rate");
    }

    #[test]
    fn that_nobody_can_reach_is_said_with_a_reason() {
        let server = Running::echo(Config::default());
        let args = ["--rate", "100M/s", "--duration", "400ms", "--warmup", "100ms"];
        let address = server.address().to_string();
        let ended = Ended::run(&mut bench(&address, &args));
        let figures = figures(&ended.stdout);
        assert_eq!(figures["rate_reached"], false, "{figures}");
        // Which side it was that such a rate is too much for first depends on what else the machine does; where it is certain,
        // it is tested too.
        assert!(figures["limited_by"].is_string(), "{figures}");
        assert!(ended.stderr.contains("was not reached"), "{ended:?}");
        let table = Ended::run(&mut echoloop(&[&["bench", &address], &args[..]].concat()));
        assert!(table.stdout.contains("\nwarning: "), "{table:?}");
    }

    /// It takes 10 ms for each message while it is measured, and is fast later.
    #[test]
    fn that_the_server_cannot_reach_is_said_with_the_reason() {
        let address = serve_with(|client| {
            for _ in 0..60 {
                echo_messages(&client, 1)?;
                thread::park_timeout(Duration::from_millis(10));
            }
            echo_rest(&client)
        });
        let args = ["--rate", "2k", "--connections", "1", "--duration", "400ms", "--warmup", "off"];
        let (status, figures) = run(&address, &args);
        assert_eq!(status, 0, "{figures}");
        assert_eq!(figures["rate_reached"], false, "{figures}");
        assert_eq!(figures["limited_by"], "server", "{figures}");
        assert_eq!(number(&figures["messages"]), 800, "late, and not lost");
    }
}

mod conditions {
    use super::*;

    const LOAD: [&str; 8] = ["--rate", "200", "--duration", "500ms", "--warmup", "off", "--connections", "2"];

    #[track_caller]
    fn fail_if(address: &str, conditions: &[&str]) -> Ended {
        let conditions = conditions.iter().flat_map(|condition| ["--fail-if", condition]);
        let args: Vec<_> = ["bench", address].into_iter().chain(LOAD).chain(conditions).collect();
        Ended::run(&mut echoloop(&args))
    }

    #[test]
    fn that_do_not_hold_let_the_load_succeed() {
        let server = Running::echo(Config::default());
        let ended = fail_if(
            &server.address().to_string(),
            &["p99>30s", "p99.9 >= 1m", "max>1h", "failures>0", "rate<10/s", "rate>201"],
        );
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }

    #[test]
    fn that_hold_make_it_fail_with_the_reason_and_the_figures() {
        let server = Running::echo(Config::default());
        let address = server.address().to_string();
        for (condition, reason) in [
            ("p50>1ns", "p50>1ns: p50 is "),
            ("p99.9 > 1ns", "p99.9 > 1ns: p99.9 is "),
            ("max>0s", "max>0s: max is "),
            ("failures<=0", "failures<=0: failures is 0"),
            ("rate<1k/s", "rate<1k/s: rate is "),
        ] {
            let ended = fail_if(&address, &["failures>0", condition]);
            let error = ended.error(1);
            assert!(error.starts_with(reason), "{condition}: {error}");
            assert!(ended.stdout.contains("p99.99"), "{ended:?}");
        }
        let ended = fail_if(&address, &["p50>1ns", "rate<1k"]);
        assert!(ended.error(1).contains("; rate<1k: rate is "), "{ended:?}");
    }

    #[test]
    fn that_hold_are_said_beside_failures() {
        let address = serve_with(|client| {
            echo_messages(&client, 1)?;
            client.shutdown(Shutdown::Write)
        });
        let ended = fail_if(&address, &["failures>0"]);
        let error = ended.error(1);
        assert!(error.contains("connections failed: "), "{error}");
        assert!(error.contains("; failures>0: failures is 2"), "{error}");
    }

    #[test]
    fn that_nobody_understands_are_wrong_arguments() {
        for condition in [
            "",
            "p99",
            "p99>",
            ">5ms",
            "p99>5",
            "p100>1ms",
            "p>1ms",
            "p99<<1ms",
            "p99=1ms",
            "rate<5ms",
            "rate<x",
            "failures>1.5",
            "failures>1ms",
            "latency>1ms",
            "P99 > 5ms > 3ms",
        ] {
            let ended = Ended::run(&mut echoloop(&["bench", "127.0.0.1:1", "--fail-if", condition]));
            let error = ended.error(2);
            assert!(error.contains("p99>5ms") && error.contains("rate<10k/s"), "{condition}: {error}");
        }
    }

    #[test]
    fn are_checked_on_merged_logs_too() {
        let server = Running::echo(Config::default());
        let address = server.address().to_string();
        let directory = tempfile::tempdir().unwrap();
        let logs = ["a.hdr", "b.hdr"].map(|name| directory.path().join(name).to_str().unwrap().to_owned());
        for log in &logs {
            let ended = Ended::run(&mut bench(&address, &[&LOAD[..], &["--hdr", log]].concat()));
            assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        }
        // One of them alone would not reach this rate.
        let [a, b] = &logs;
        let report = |files: &[&str], condition: &str| {
            Ended::run(&mut echoloop(&[&["report", "--fail-if", condition], files].concat()))
        };
        assert!(report(&[a], "rate<250/s").error(1).starts_with("rate<250/s: rate is "));
        let ended = report(&[a, b], "rate<250/s");
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let ended = report(&[a, b], "p99>1ns");
        assert!(ended.error(1).starts_with("p99>1ns: p99 is "), "{ended:?}");
        assert!(ended.stdout.contains("p99.99"), "{ended:?}");
        assert_eq!(report(&[a, b], "failures>0").status.code(), Some(0));
    }

    /// One log of a load that went well, one of a load whose server stopped in the middle, and one of another program.
    #[test]
    fn on_merged_logs_know_what_failed_or_was_not_answered() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (good, bad, foreign) = (path("good.hdr"), path("bad.hdr"), path("foreign.hdr"));
        let server = Running::echo(Config::default());
        run(&server.address().to_string(), &[&LOAD[..], &["--hdr", &good]].concat());
        let address = serve_with(|client| {
            echo_messages(&client, 20)?;
            io::copy(&mut &client, &mut io::sink()).map(drop)
        });
        let (_, figures) = run(&address, &[&LOAD[..], &["--timeout", "1s", "--hdr", &bad]].concat());
        assert_eq!(number(&figures["messages_unanswered"]), 60);
        let text = std::fs::read_to_string(&good).unwrap();
        std::fs::write(&foreign, text.replace("#[echoloop ", "#[another ")).unwrap();

        let report = |log: &str, condition: &str| {
            Ended::run(&mut echoloop(&["report", &good, log, "--format", "json", "--fail-if", condition]))
        };
        let ended = report(&bad, "failures>0");
        assert!(ended.error(1).starts_with("failures>0: failures is 2"), "{ended:?}");
        let merged = super::figures(&ended.stdout);
        assert_eq!((number(&merged["messages"]), number(&merged["messages_unanswered"])), (140, 60));
        assert_eq!((number(&merged["latency"]["count"]), number(&merged["failed_connections"])), (200, 2));
        assert!(report(&bad, "p90>500ms").error(1).starts_with("p90>500ms: p90 is "));
        let ended = report(&foreign, "failures>0");
        assert!(ended.error(1).starts_with("failures>0: failures is unknown"), "{ended:?}");
    }
}

mod the_start {
    use super::*;

    fn seconds_since_epoch() -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    /// Connections are made before, and the first message comes at that time.
    #[test]
    fn of_the_load_is_when_it_is_told() {
        for args in [&[][..], &["--rate", "100"]] {
            let (tell, told) = channel();
            let address = serve_with(move |client| {
                let connected = SystemTime::now();
                client.peek(&mut [0])?;
                let _ = tell.send((connected, SystemTime::now()));
                echo_rest(&client)
            });
            let start = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds_since_epoch() + 3);
            let time = humantime::format_rfc3339_seconds(start).to_string();
            let common =
                ["--start-at", &time, "--connections", "1", "--duration", "200ms", "--warmup", "off"];
            let (status, figures) = run(&address, &[&common, args].concat());
            assert_eq!(status, 0, "{figures}");
            let (connected, sent) = told.recv_timeout(DEADLINE).expect("a client");
            assert!(connected < start && start <= sent, "{connected:?} {start:?} {sent:?}");
        }
    }

    #[test]
    fn in_the_past_is_an_error() {
        for time in ["2020-01-01T00:00:00Z", "2020-01-01 00:00:00+02:00", "@1577836800"] {
            let ended = Ended::run(&mut echoloop(&["bench", "127.0.0.1:1", "--start-at", time]));
            assert!(ended.error(2).contains("has passed"), "{ended:?}");
        }
    }

    #[test]
    fn that_is_no_time_is_an_error() {
        for time in [
            "soon",
            "12:00",
            "2999-01-01T00:00:00",
            "2999-13-01T00:00:00Z",
            "@x",
            "2999-01-01T00:00:00+25:00",
        ] {
            let ended = Ended::run(&mut echoloop(&["bench", "127.0.0.1:1", "--start-at", time]));
            assert!(ended.error(2).contains("2026-01-31T12:00:00Z"), "{time}: {ended:?}");
        }
    }
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}
