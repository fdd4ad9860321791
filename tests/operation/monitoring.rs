//! `contrib/prometheus` and `contrib/grafana`.

use std::{
    collections::BTreeSet,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    page, recipe, text_of,
    util::{Program, connect, finish, ping, skip},
};

/// Runs promtool, which must have nothing to complain of. False where it is not installed.
#[track_caller]
fn promtool(args: &[&str], file: &Path) -> bool {
    let output = Command::new("promtool").args(args).arg(file).stdin(Stdio::null()).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("promtool: {error}"));
            return false;
        }
    };
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    assert!(!["warn", "fail", "error"].iter().any(|bad| said.to_lowercase().contains(bad)), "{said}");
    true
}

#[test]
fn promtool_has_nothing_to_say_of_the_configuration_and_the_alerts() {
    let _ = promtool(&["check", "config"], &recipe("prometheus/prometheus.yml"))
        && promtool(&["check", "rules"], &recipe("prometheus/alerts.yml"));
}

#[test]
fn each_alert_fires_when_it_should_and_none_when_all_is_well() {
    promtool(&["test", "rules"], &recipe("prometheus/alerts.test.yml"));
    let count = |name: &str, what: &str| text_of(name).matches(what).count();
    let alerts = count("prometheus/alerts.yml", "- alert: ");
    assert_eq!(alerts, count("prometheus/alerts.test.yml", "alertname: "), "each is in the test");
    assert!(text_of("prometheus/alerts.test.yml").contains(&format!("exp_samples: [{{value: {alerts}}}]")));
}

/// The expressions of the dashboard.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text_of("grafana/echoloop.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_dashboard_has_expressions_that_prometheus_understands() {
    let expressions = expressions();
    assert!(expressions.len() > 20);
    let rules = expressions.iter().enumerate().map(|(number, expression)| {
        let expression = expression.replace("$__rate_interval", "5m");
        serde_json::json!({ "record": format!("panel:{number}"), "expr": expression })
    });
    // JSON is YAML.
    let rules =
        serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules.collect::<Vec<_>>() }] });
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{rules}").unwrap();
    promtool(&["check", "rules"], file.path());
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("echoloop_") || word.starts_with("process_")).collect()
}

#[test]
fn every_metric_of_the_alerts_and_the_dashboard_is_there() {
    let server = Program::start(&["serve", "127.0.0.1:0", "--metrics", ":0"]);
    let address = server.listening();
    let line = server.line();
    let metrics = line.strip_prefix("metrics on http://").unwrap().trim_end_matches('/').parse().unwrap();
    // What is measured has samples.
    let client = connect(address);
    ping(&client, b"hello");
    finish(&client);
    let page = page(metrics, "/metrics");
    let there: BTreeSet<&str> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let dashboard = text_of("grafana/echoloop.json");
    for (file, least) in [("alerts.yml", 10), ("alerts.test.yml", 10)] {
        let text = text_of(&format!("prometheus/{file}"));
        let used = names(&text);
        assert!(used.len() >= least, "{used:?}");
        assert!(used.is_subset(&there), "{file}: {:?}", used.difference(&there));
    }
    let used = names(&dashboard);
    assert!(used.len() > 25 && used.is_subset(&there), "{:?}", used.difference(&there));
}
