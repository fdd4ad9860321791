//! HAProxy in TCP mode, on one thread, with and without splicing, and with TLS towards its clients. With `option splice-auto` it hardly ever splices what is
//! sent here, so the one that splices does it always.

use std::{fs, io};

use rustix::process::{Resource, getrlimit};

use crate::servers::{
    common::BUFFER_BYTES,
    proxies::installed::{Installed, Route},
    tls::certificate,
};

pub(super) const COPYING: Installed =
    Installed { executable: "haproxy", forks: false, arguments: |route| arguments(route, "", "") };

pub(super) const SPLICING: Installed = Installed {
    executable: "haproxy",
    forks: false,
    arguments: |route| arguments(route, "option splice-request\n    option splice-response", ""),
};

/// TLS 1.3 on the clients' side, plain TCP on the other.
pub(in crate::servers) const TERMINATING: Installed = Installed {
    executable: "haproxy",
    forks: false,
    arguments: |route| {
        let certificate = certificate::file();
        arguments(route, "", &format!(" ssl crt {} ssl-min-ver TLSv1.3", certificate.display()))
    },
};

/// As large as echoloop's pipes.
const PIPE_BYTES: usize = 256 << 10;

/// More than this has no use here.
const MOST_CONNECTIONS: u64 = 20_000;

/// `-db`: in the foreground, without a process that watches over the one that works.
fn arguments(route: &Route, splicing: &str, security: &str) -> io::Result<Vec<String>> {
    let file = route.directory.join("haproxy.cfg");
    fs::write(&file, configuration(route, splicing, security))?;
    Ok(vec!["-db".into(), "-f".into(), file.display().to_string()])
}

fn configuration(route: &Route, splicing: &str, security: &str) -> String {
    let Route { listen, upstream, directory: _ } = route;
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // Two for each, and it reserves pipes for a quarter of them.
    let connections = MOST_CONNECTIONS.min(descriptors / 3);
    format!(
        "global
    nbthread 1
    maxconn {connections}
    tune.bufsize {BUFFER_BYTES}
    tune.pipesize {PIPE_BYTES}

defaults
    mode tcp
    maxconn {connections}
    backlog 4096
    timeout connect 1h
    timeout client 1h
    timeout server 1h
    {splicing}

listen proxy
    bind {listen}{security}
    server upstream {upstream}
"
    )
}
