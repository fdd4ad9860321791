//! `serve --metrics`, `serve --agent` and `health`.

use std::{
    io::Write,
    net::SocketAddr,
    process::{Command, Stdio},
};

use crate::{
    get,
    util::{self, DEADLINE, Ended, Program, connect, echoloop, eventually, finish, ping},
};
#[cfg(unix)]
use crate::{try_get, util::read_to_end};

/// A server with both, and where it listens for whom.
fn start(more: &[&str]) -> (Program, SocketAddr, SocketAddr, SocketAddr) {
    let options = ["serve", "127.0.0.1:0", "--metrics", ":0", "--agent", ":0"];
    let server = Program::start(&[&options, more].concat());
    let address = server.listening();
    let metrics = loop {
        // What is said of a certificate comes before.
        let line = server.line();
        if let Some(address) = line.strip_prefix("metrics on http://") {
            break address.trim_end_matches('/').parse().unwrap();
        }
    };
    let agent = server.line().strip_prefix("agent-check on ").expect("its address").parse().unwrap();
    (server, address, metrics, agent)
}

#[test]
fn promtool_has_nothing_to_say_of_the_metrics() {
    let (_server, address, metrics, _) = start(&["--workers", "2"]);
    let client = connect(address);
    ping(&client, b"hello");
    finish(&client);
    eventually("it has ended", || {
        get(metrics, "/metrics").content.contains("reason=\"peer\",complete=\"yes\"} 1\n")
    });
    let text = get(metrics, "/metrics").content;
    for name in ["echoloop_turn_duration_seconds_bucket{le=\"0.001\"} ", "echoloop_received_bytes_total 5\n"]
    {
        assert!(text.contains(&format!("\n{name}")), "{name} is not in {text}");
    }
    if cfg!(target_os = "linux") {
        for name in
            ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds"]
        {
            assert!(text.contains(&format!("\nprocess_{name} ")), "{name} is not in {text}");
        }
    }
    assert!(!text.contains("127.0.0.1"), "nobody's address is shown: {text}");
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut checking = match promtool.spawn() {
        Ok(checking) => checking,
        Err(error) => return util::skip(&format!("promtool: {error}")),
    };
    checking.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = checking.wait_with_output().unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[cfg(unix)]
#[test]
fn the_metrics_are_the_last_to_close_in_a_drain() {
    let (mut server, address, metrics, agent) = start(&["--grace", "1s"]);
    let client = connect(address);
    ping(&client, b"hello");
    server.signal("TERM");
    eventually("it is not ready", || get(metrics, "/readyz").status == 503);
    ping(&connect(address), b"but accepts");
    eventually("it stops accepting", || std::net::TcpStream::connect(address).is_err());
    // The client lingers; so its server does, and can be looked at.
    assert!(read_to_end(&client).is_empty());
    assert_eq!(get(metrics, "/livez").status, 200);
    assert_eq!(read_to_end(&connect(agent)), b"stopped\n");
    eventually("the others have gone", || get(metrics, "/").content.contains("<h2>1 of "));
    drop(client);
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    assert_eq!(try_get(metrics, "/livez"), None);
}

#[test]
fn health_says_by_its_exit_status_how_a_server_is() {
    let (mut server, _, metrics, _) = start(&["--grace", "1h"]);
    let health = |args: &[&str]| Ended::run(&mut echoloop(&[&["health"], args].concat()));
    let (host, url) = (metrics.to_string(), format!("http://{metrics}/metrics"));
    for args in [&[host.as_str()][..], &[&host, "--ready"], &[&url]] {
        let ended = health(args);
        assert_eq!((ended.status.code(), ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
    }
    let ended = health(&[&format!("http://{metrics}/none")]);
    assert_eq!(ended.error(1), format!("{metrics}/none says 404: 404 Not Found"));
    assert!(health(&[&url, "--ready"]).error(2).contains("has a path of its own"));
    #[cfg(unix)]
    {
        server.signal("TERM");
        eventually("it is not ready", || get(metrics, "/readyz").status == 503);
        assert_eq!(health(&[&host, "--ready"]).error(1), format!("{metrics}/readyz says 503: stopping"));
        assert_eq!(health(&[&host]).status.code(), Some(0), "it lives");
    }
    let _ = server.child.kill();
    server.wait(DEADLINE);
    assert!(health(&[&host]).error(1).starts_with(&format!("{metrics}/livez does not answer: ")));
    // One that takes the connection and is silent.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_at = silent.local_addr().unwrap().to_string();
    assert!(health(&[&silent_at, "--timeout", "200ms"]).error(1).contains("does not answer: timed out"));
}

#[cfg(unix)]
#[test]
fn metrics_may_be_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("unix:{}", directory.path().join("ops").display());
    let server = Program::start(&["serve", "127.0.0.1:0", "--metrics", &path]);
    server.listening();
    assert_eq!(server.line(), format!("metrics on {path}"));
    assert_eq!(Ended::run(&mut echoloop(&["health", &path, "--ready"])).status.code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_an_error_and_nobody_was_served() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let ended = Ended::run(&mut echoloop(&["serve", "127.0.0.1:0", "--metrics", &at]));
    assert!(ended.error(1).starts_with(&format!("cannot listen on {at}: ")), "{ended:?}");
    assert_eq!(ended.stdout, "");
}

/// HAProxy sends nobody to a server whose agent says `drain`, and does again when it is ready.
#[cfg(unix)]
#[test]
fn haproxy_does_what_the_agent_says() {
    use crate::util::proxies;

    let (first, at_first, metrics, agent) = start(&["--grace", "1h"]);
    let (_second, at_second, metrics_of_second, agent_of_second) = start(&[]);
    let server = |name: &str, at: SocketAddr, agent: SocketAddr| {
        format!(
            " server {name} {at} agent-check agent-addr 127.0.0.1 agent-port {} agent-inter 50ms\n",
            agent.port()
        )
    };
    let started = proxies::haproxy(|front| {
        format!(
            "defaults\n mode tcp\n retries 0\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             listen l\n bind {front}\n balance roundrobin\n{}{}",
            server("a", at_first, agent),
            server("b", at_second, agent_of_second)
        )
    });
    let Some(proxy) = started else { return };

    let accepted = |metrics: SocketAddr| {
        let text = get(metrics, "/metrics").content;
        let line = text.lines().find_map(|line| line.strip_prefix("echoloop_connections_accepted_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    let visit = || {
        let client = connect(proxy.address);
        ping(&client, b"who is there");
        finish(&client);
    };
    let visits = || (0..20).for_each(|_| visit());
    visits();
    assert!(accepted(metrics) > 5 && accepted(metrics_of_second) > 5, "both are served from");
    first.signal("TERM");
    eventually("nobody is sent to the first any more", || {
        let before = accepted(metrics);
        visits();
        accepted(metrics) == before
    });
    assert!(get(metrics, "/readyz").status == 503);
}

#[cfg(feature = "cli-tls")]
#[test]
fn handshakes_and_who_comes_past_the_proxies_are_counted() {
    let (_server, address, metrics, _) = start(&["--tls-self-signed", "--proxy-protocol", "127.0.0.1"]);
    // It comes without the header of a proxy, and is counted as such.
    let ended = Ended::run(&mut echoloop(&["client", "--tls", "--insecure", &address.to_string()]));
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    eventually("it is counted", || {
        get(metrics, "/metrics").content.contains("reason=\"proxy refused\",complete=\"no\"} 1\n")
    });
    let (_server, address, metrics, _) = start(&["--tls-self-signed"]);
    let ended = Ended::run(&mut echoloop(&["client", "--tls", "--insecure", &address.to_string()]));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    eventually("its handshake is counted", || {
        get(metrics, "/metrics").content.contains("echoloop_tls_handshakes_total{resumed=\"no\"} 1\n")
    });
}
