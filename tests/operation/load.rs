//! A load from several machines: here, from several processes.

use std::{
    fs, thread,
    time::{Duration, SystemTime},
};

use echoloop::Config;
use serde_json::Value;

use crate::util::{Ended, Running, echoloop};

/// What `report` says of these logs, and its exit status.
fn report(logs: &[String], fail_if: &[&str]) -> (Value, Option<i32>) {
    let logs: Vec<&str> = logs.iter().map(String::as_str).collect();
    let conditions: Vec<&str> = fail_if.iter().flat_map(|condition| ["--fail-if", condition]).collect();
    let ended =
        Ended::run(&mut echoloop(&[&["report", "--format", "json"], &conditions[..], &logs].concat()));
    let report = serde_json::from_str(&ended.stdout);
    (report.expect(&ended.stderr), ended.status.code())
}

/// When the load of a log began, in seconds since 1970: the first interval counts from the base time.
fn begin(log: &str) -> f64 {
    let base = log.lines().find_map(|line| line.strip_prefix("#[BaseTime: ")).expect(log);
    let first = log.lines().find(|line| line.starts_with(|c: char| c.is_ascii_digit())).expect(log);
    let number = |text: &str, end: char| text.split(end).next().unwrap().parse::<f64>().unwrap();
    number(base, ' ') + number(first, ',')
}

#[test]
fn three_loads_that_begin_together_are_judged_together() {
    let server = Running::echo(Config::default());
    let (address, directory) = (server.address().to_string(), tempfile::tempdir().unwrap());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let start = (now + Duration::from_secs(3)).as_secs();
    let at = format!("@{start}");
    let logs = ["a", "b", "c"].map(|name| directory.path().join(name).to_str().unwrap().to_owned());
    let loads = logs.clone().map(|log| {
        let mut bench = echoloop(&["bench", &address, "--start-at", &at, "--rate", "300/s", "-c", "5"]);
        bench.args(["--duration", "2s", "--warmup", "0", "--format", "json", "--hdr", &log]);
        thread::spawn(move || Ended::run(&mut bench))
    });
    let (mut messages, mut fastest) = (0, 0.0_f64);
    for load in loads {
        let ended = load.join().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let figures: Value = serde_json::from_str(&ended.stdout).unwrap();
        messages += figures["messages"].as_u64().unwrap();
        fastest = fastest.max(figures["rate"]["achieved_per_second"].as_f64().unwrap());
    }
    for log in &logs {
        let begun = begin(&fs::read_to_string(log).unwrap());
        assert!(begun >= start as f64 - 0.01, "one began at {begun}, before {start}");
    }

    let (merged, status) = report(&logs, &["failures>0", "rate<1/s", "p99>1h"]);
    assert_eq!(status, Some(0), "{merged}");
    // Such as that they did not overlap in time.
    assert_eq!((&merged["logs"], &merged["warnings"]), (&3.into(), &Value::Array(Vec::new())));
    assert_eq!(merged["messages"], messages);
    assert_eq!(merged["failed_connections"], 0);
    // It holds for none of them alone.
    let (_, status) = report(&logs, &[&format!("rate>{}/s", fastest.ceil())]);
    assert_eq!(status, Some(1), "{merged}");
}
