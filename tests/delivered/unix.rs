//! Unix sockets: what they have taken outlives our close, so nothing waits for an acknowledgement.

use std::time::Duration;

use echoloop::{CloseReason, Config, Echo};

use crate::{client::Client, util::Running};

/// Little enough that the socket takes it all while nobody reads.
const OWED: usize = 50_000;

/// A server on a Unix socket, and a client that has sent all and its end, and reads nothing yet.
fn start(config: Config) -> (Running<Echo>, Client, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", directory.path().join("echo.sock").display());
    let server = Running::start(config, &[&address], |_| Some(Echo));
    let mut client = Client::connect(&server.addresses[0]);
    client.send(OWED);
    (server, client, directory)
}

#[test]
fn what_a_unix_socket_has_taken_outlives_the_close_and_the_server() {
    for threshold in [None, Some(1)] {
        let mut config = Config::default();
        config.splice_threshold_bytes = threshold;
        let (server, mut client, _directory) = start(config);
        client.end();
        // The connection is closed, and the server has ended, before a byte is read.
        let stats = server.last_stats();
        assert_eq!(stats.closed(CloseReason::Peer), 1, "{stats}");
        assert_eq!((stats.bytes_sent, stats.bytes_undelivered), (OWED as u64, 0), "{stats}");
        client.expect_rest_and_end();
    }
}

#[test]
fn a_unix_socket_that_lingers_in_vain_has_delivered_all_the_same() {
    let mut config = Config::default();
    config.linger_silence_timeout = Some(Duration::from_millis(100));
    let (server, mut client, _directory) = start(config);
    let stats = server.drain();
    assert_eq!(stats.closed(CloseReason::LingerSilence), 1, "{stats}");
    assert_eq!((stats.bytes_sent, stats.bytes_undelivered), (OWED as u64, 0), "{stats}");
    client.expect_rest_and_end();
}
