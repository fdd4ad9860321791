//! `contrib/kubernetes`: what can be said of it without a cluster.

use std::net::SocketAddr;

use crate::{page, text_of, util::Program};

/// What follows this key in the only line that has it.
#[track_caller]
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let mut values = text.lines().filter_map(|line| line.trim().strip_prefix(key));
    let value = values.next().unwrap_or_else(|| panic!("no {key}"));
    assert_eq!(values.next(), None, "{key}");
    value.trim()
}

fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().unwrap()
}

#[test]
fn the_container_starts_answers_its_probes_and_has_the_time_to_end() {
    let text = text_of("kubernetes/echoloop.yaml");
    let args: Vec<String> = serde_json::from_str(value(&text, "args:")).unwrap();
    let option = |name: &str| {
        let place = args.iter().position(|arg| arg == name).unwrap();
        args[place + 1].clone()
    };
    let (grace, drain) = (seconds(&option("--grace")), seconds(&option("--drain-timeout")));
    assert!(seconds(value(&text, "terminationGracePeriodSeconds:")) >= grace + drain + 5);

    let (_, readiness) = text.split_once("readinessProbe:").unwrap();
    let (readiness, liveness) = readiness.split_once("livenessProbe:").unwrap();
    let (liveness, _) = liveness.split_once("resources:").unwrap();
    // It is known to be not ready well before the grace is over.
    let unnoticed =
        seconds(value(readiness, "periodSeconds:")) * seconds(value(readiness, "failureThreshold:"));
    assert!(2 * unnoticed <= grace, "{unnoticed}");

    let args: Vec<String> =
        args.iter().map(|arg| arg.replace(":27015", ":0").replace(":27016", ":0")).collect();
    let server = Program::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let metrics = loop {
        let line = server.line();
        if let Some(address) = line.strip_prefix("metrics on http://") {
            break address.trim_end_matches('/').parse::<SocketAddr>().unwrap();
        }
    };
    for probe in [readiness, liveness] {
        let (_, path) = probe.split_once("httpGet: {path: ").unwrap();
        let (path, port) = path.split_once(", port: ").unwrap();
        assert!(port.starts_with("metrics}"), "{port}");
        let answer = page(([127, 0, 0, 1], metrics.port()).into(), path);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    assert!(text.contains("{name: metrics, containerPort: 27016}"));
}
