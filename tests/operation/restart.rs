//! A rolling restart behind HAProxy, under load.

use std::process::Stdio;

use serde_json::Value;

use crate::{
    accepted,
    site::Site,
    util::{DEADLINE, Program, echoloop, eventually, proxies::haproxy_at},
};

const RECIPE: &str = "haproxy/tcp.cfg";

/// The agent alone does it: HAProxy may not try a second time.
fn without_retries(text: String) -> String {
    text.replace("retries 3", "retries 0").replace("option redispatch 1", "no option redispatch")
}

/// Ends a server, starts another one in its place, and waits until that is sent clients. Returns how many connections the
/// former had.
fn restart(site: &Site, server: &mut Program, number: u8) -> u64 {
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    let summary = server.stdout.iter().last().expect("a summary");
    assert!(summary.contains(" 0 bytes undelivered; "), "{summary}");
    *server = site.serve(RECIPE, number, |text| text);
    eventually("HAProxy sends it clients", || accepted(site.metrics(number)) > 100);
    summary.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_rolling_restart_costs_none_of_5000_connections() {
    let site = Site::new();
    let Some((mut servers, proxy)) = site.start(RECIPE, haproxy_at, without_retries) else { return };
    let front = proxy.address.to_string();
    let load = ["bench", &front, "--churn", "--rate", "500/s", "--duration", "1h", "--warmup", "0"];
    let mut bench = echoloop(&[&load[..], &["--format", "json"]].concat());
    bench.stderr(Stdio::null());
    let mut bench = Program::spawn(bench);
    eventually("both have clients", || [1, 2].iter().all(|&server| accepted(site.metrics(server)) > 100));

    let [first, second] = &mut servers;
    let ended = restart(&site, first, 1) + restart(&site, second, 2);
    // HAProxy's own checks are among them.
    eventually("it is enough", || {
        ended + [1, 2].iter().map(|&server| accepted(site.metrics(server))).sum::<u64>() > 5500
    });
    bench.signal("INT");
    let status = bench.wait(DEADLINE);
    let report: String = bench.stdout.iter().collect();
    let report: Value = serde_json::from_str(&report).unwrap();
    for (kind, count) in report["failures"].as_object().unwrap() {
        assert_eq!(count, 0, "{kind}: {report}");
    }
    assert_eq!(status.code(), Some(0), "{report}");
    assert!(report["fin"].as_u64().unwrap() >= 5000, "{report}");
}
