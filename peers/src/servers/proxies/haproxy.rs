//! HAProxy in TCP mode, on one thread, with and without splicing.

use std::{fs, io};

use rustix::process::{Resource, getrlimit};

use crate::servers::{
    common::BUFFER_BYTES,
    proxies::installed::{Installed, Route},
};

pub(super) const COPYING: Installed = Installed {
    executable: "haproxy",
    forks: false,
    arguments: |route| arguments(route, "no option splice-auto"),
};

pub(super) const SPLICING: Installed = Installed {
    executable: "haproxy",
    forks: false,
    arguments: |route| arguments(route, "option splice-auto"),
};

/// More than this has no use here.
const MOST_CONNECTIONS: u64 = 20_000;

/// `-db`: in the foreground, without a process that watches over the one that works.
fn arguments(route: &Route, splicing: &str) -> io::Result<Vec<String>> {
    let file = route.directory.join("haproxy.cfg");
    fs::write(&file, configuration(route, splicing))?;
    Ok(vec!["-db".into(), "-f".into(), file.display().to_string()])
}

fn configuration(route: &Route, splicing: &str) -> String {
    let Route { listen, upstream, directory: _ } = route;
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = MOST_CONNECTIONS.min(descriptors / 2);
    format!(
        "global
    nbthread 1
    maxconn {connections}
    # Pipes come on top of two descriptors a connection, and not all connections need any.
    no strict-limits
    tune.bufsize {BUFFER_BYTES}

defaults
    mode tcp
    maxconn {connections}
    backlog 4096
    timeout connect 1h
    timeout client 1h
    timeout server 1h
    {splicing}

listen proxy
    bind {listen}
    server upstream {upstream}
"
    )
}
