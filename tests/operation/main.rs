//! The recipes of `contrib/` as they are, with the programs that they are for: HAProxy, nginx, Prometheus. Where one of these is not
//! installed, its tests are skipped.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

#[cfg(feature = "cli-tls")]
#[path = "../tls/files.rs"]
#[allow(dead_code, reason = "the tests of TLS use all of it")]
mod files;
mod haproxy;
#[cfg(feature = "cli-tls")]
mod hour;
mod kubernetes;
mod load;
mod monitoring;
mod nginx;
mod restart;
mod site;
#[path = "../util/mod.rs"]
mod util;

use std::{fs, io::Write, net::SocketAddr, path::PathBuf};

use util::{connect, pattern, read_to_end, send_and_read};

/// A file of `contrib/`.
fn recipe(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name);
    assert!(path.exists(), "{}", path.display());
    path
}

fn text_of(name: &str) -> String {
    fs::read_to_string(recipe(name)).unwrap()
}

/// What is behind this path over HTTP.
fn page(metrics: SocketAddr, path: &str) -> String {
    let stream = connect(metrics);
    write!(&stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    String::from_utf8(read_to_end(&stream)).unwrap()
}

/// How many connections a server has accepted.
fn accepted(metrics: SocketAddr) -> u64 {
    let page = page(metrics, "/metrics");
    let value = page.lines().find_map(|line| line.strip_prefix("echoloop_connections_accepted_total "));
    value.unwrap_or_else(|| panic!("{page}")).parse().unwrap()
}

/// Clients that half-close at once get all of their echo.
fn look_through(address: SocketAddr) {
    for size in [14, 8 << 20, 14, 8 << 20] {
        send_and_read(&connect(address), &pattern(1, size));
    }
}
