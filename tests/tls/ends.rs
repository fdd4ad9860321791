//! Every order in which a connection over TLS can end.

use std::sync::Arc;

use echoloop::{CloseReason, Config, Echo};

use crate::{
    peer::{Client, Identity, Running, VERSIONS},
    util::pattern,
};

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    CloseNotify,
    CloseNotifyAndFin,
    Fin,
}

#[test]
fn whoever_ends_and_reads_later_gets_everything_and_a_clean_end() {
    for version in VERSIONS {
        for end in [End::CloseNotify, End::CloseNotifyAndFin, End::Fin] {
            for size in [0, 14, 300 << 10] {
                let identity = Identity::new("localhost");
                let server = Running::start(Config::default(), Arc::new(identity.server()), |_| Some(Echo));
                let mut client = Client::new(server.address, identity.client(version));
                client.handshake().unwrap();
                let sent = pattern(1, size);
                client.send(&sent).unwrap();
                if end != End::Fin {
                    client.close_notify();
                }
                if end != End::CloseNotify {
                    client.fin();
                }
                let received =
                    client.read_to_end().unwrap_or_else(|error| panic!("{version:?} {end:?}: {error}"));
                assert!(received == sent, "{version:?} {end:?}: {} of {size}", received.len());
                drop(client);
                let stats = server.drain();
                let reason = if end == End::Fin { CloseReason::Truncated } else { CloseReason::Peer };
                assert_eq!(stats.closed(reason), 1, "{version:?} {end:?} {size}: {stats}");
                assert_eq!(stats.bytes_undelivered, 0);
            }
        }
    }
}
