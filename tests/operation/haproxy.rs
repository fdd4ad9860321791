//! `contrib/haproxy`.

use crate::{
    look_through,
    site::{Site, end},
    util::proxies::haproxy_at,
};

/// Nobody needs to wait for that long here.
fn without_grace(text: String) -> String {
    text.replace(" --grace 5s", "")
}

#[test]
fn half_closed_clients_get_everything_through_tcp_mode() {
    let site = Site::new();
    let Some((servers, proxy)) = site.start("haproxy/tcp.cfg", haproxy_at, without_grace) else { return };
    look_through(proxy.address);
    drop(proxy);
    end(servers);
}

#[cfg(feature = "cli-tls")]
mod tls {
    use std::{
        fs::{self, File},
        io::Write,
        net::SocketAddr,
    };

    use super::*;
    use crate::{
        files::Authority,
        util::{Ended, connect, echoloop, read_to_end},
    };

    /// Clients over TLS that half-close at once get all of their echo, and close_notify.
    #[track_caller]
    fn look_through_tls(address: SocketAddr, authority: &Authority) {
        let ca = authority.ca();
        for size in [14, 8 << 20, 14, 8 << 20] {
            let message = authority.write("message", &"0123456789abcde".repeat(size / 15 + 1)[..size]);
            let address = address.to_string();
            let options = ["client", &address, "-", "--tls", "--ca", &ca, "--server-name", "localhost"];
            let ended = Ended::run(echoloop(&options).stdin(File::open(message).unwrap()));
            assert_eq!((ended.status.code(), ended.stdout.len()), (Some(0), size), "{}", ended.stderr);
        }
    }

    #[test]
    fn tls_passes_through_from_end_to_end() {
        let (site, authority) = (Site::new(), Authority::new());
        let pair = authority.issue("localhost");
        let with_files = |text: String| {
            without_grace(text).replace("cert.pem", &pair.certificate).replace("key.pem", &pair.key)
        };
        let started = site.start("haproxy/tls-passthrough.cfg", haproxy_at, with_files);
        let Some((servers, proxy)) = started else { return };
        look_through_tls(proxy.address, &authority);
        // Whoever speaks something else gets no server.
        let stranger = connect(proxy.address);
        (&stranger).write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        assert!(read_to_end(&stranger).is_empty());
        drop(proxy);
        end(servers);
    }

    #[test]
    fn tls_may_end_at_haproxy() {
        let (site, authority) = (Site::new(), Authority::new());
        let pair = authority.issue("localhost");
        let both = [pair.certificate, pair.key].map(|file| fs::read_to_string(file).unwrap()).concat();
        let both = authority.write("both.pem", &both);
        let with_files = |text: String| without_grace(text).replace("/etc/haproxy/echoloop.pem", &both);
        let started = site.start("haproxy/tls-termination.cfg", haproxy_at, with_files);
        let Some((servers, proxy)) = started else { return };
        look_through_tls(proxy.address, &authority);
        drop(proxy);
        end(servers);
    }
}
