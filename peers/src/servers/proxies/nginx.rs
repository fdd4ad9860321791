//! nginx's stream module, in one process.

use std::{fs, io, path::Path};

use crate::servers::proxies::installed::{Installed, Route};

pub(super) const NGINX: Installed = Installed { executable: "nginx", forks: false, arguments };

/// Where Debian has the module if it is not part of the executable.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

fn arguments(route: &Route) -> io::Result<Vec<String>> {
    let file = route.directory.join("nginx.conf");
    fs::write(&file, configuration(route))?;
    let words =
        ["-p", &route.directory.display().to_string(), "-c", &file.display().to_string(), "-e", "stderr"];
    Ok(words.map(Into::into).into())
}

fn configuration(route: &Route) -> String {
    let Route { listen, upstream, directory } = route;
    let module = if Path::new(STREAM_MODULE).exists() {
        format!("load_module {STREAM_MODULE};")
    } else {
        String::new()
    };
    format!(
        "{module}
daemon off;
master_process off;
worker_processes 1;
pid {}/pid;

events {{
    # Two for each client. nginx makes room for all of them at once.
    worker_connections 20000;
    multi_accept on;
}}

stream {{
    access_log off;
    server {{
        listen {listen} backlog=4096;
        proxy_pass {upstream};
        proxy_buffer_size 64k;
        proxy_timeout 1h;
        proxy_half_close on;
        tcp_nodelay on;
    }}
}}
",
        directory.display()
    )
}
