//! socat, which forks a process for each connection.

use std::io;

use crate::servers::{
    common::BUFFER_BYTES,
    proxies::installed::{Installed, Route},
};

pub(super) const SOCAT: Installed = Installed { executable: "socat", forks: true, arguments };

/// `-t`: after one side has ended, the other has as long as it likes.
fn arguments(route: &Route) -> io::Result<Vec<String>> {
    let Route { listen, upstream, directory: _ } = route;
    Ok(vec![
        "-b".into(),
        BUFFER_BYTES.to_string(),
        "-t".into(),
        "3600".into(),
        format!("TCP-LISTEN:{},bind={},fork,reuseaddr,nodelay,backlog=4096", listen.port(), listen.ip()),
        format!("TCP:{upstream},nodelay"),
    ])
}
