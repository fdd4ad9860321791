//! `contrib/nginx`.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
};

use crate::{
    look_through,
    site::{Site, end},
    util::{connect, eventually, pattern, proxies::nginx_at},
};

const RECIPE: &str = "nginx/nginx.conf";

#[test]
fn half_closed_clients_get_everything_through_nginx() {
    let site = Site::new();
    let Some((servers, proxy)) = site.start(RECIPE, nginx_at, |text| text) else { return };
    look_through(proxy.address);
    drop(proxy);
    end(servers);
}

/// How much of the echo of 8 MiB comes back, whatever the end.
fn echo_of_8_mib(address: SocketAddr) -> usize {
    let (client, sent) = (connect(address), pattern(1, 8 << 20));
    let mut received = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = &client;
            // The proxy may have gone away.
            let _ = client.write_all(&sent).and_then(|()| client.shutdown(Shutdown::Write));
        });
        let _ = (&client).read_to_end(&mut received);
    });
    assert!(sent.starts_with(&received));
    received.len()
}

/// Once this fails, nginx has become better, and the recipe and docs/operating.md can say less.
#[test]
fn without_proxy_half_close_nginx_loses_the_rest() {
    let site = Site::new();
    let default = |text: String| text.replace("proxy_half_close on;", "");
    let Some((_servers, proxy)) = site.start(RECIPE, nginx_at, default) else { return };
    eventually("some of an echo is lost", || echo_of_8_mib(proxy.address) < 8 << 20);
}
