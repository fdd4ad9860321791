//! A drain while more is under way than the server has read.

use std::{
    io,
    time::{Duration, Instant},
};

use echoloop::{CloseReason, Config};

use crate::{
    client::Client,
    ways::{Way, on_every_way},
};

pub(crate) const DRAIN: Duration = Duration::from_secs(6);

#[test]
fn a_client_that_reads_slowly_after_it_filled_all_buffers_gets_all() {
    on_every_way(|way| fills_all_buffers_then_reads_slowly(way, false));
}

#[test]
fn a_half_closed_client_that_reads_slowly_after_it_filled_all_buffers_gets_all() {
    on_every_way(|way| fills_all_buffers_then_reads_slowly(way, true));
}

/// Reads a quarter slowly but steadily, in more than half of the time that a drain has, and then the rest.
pub(crate) fn read_slowly(client: &mut Client) -> io::Result<()> {
    let quarter = client.sent / 4;
    client.read_steadily(quarter as f64 / (0.6 * DRAIN.as_secs_f64()), quarter)?;
    client.read_to_end()
}

/// Nobody is told of an end in the middle of its stream: the client gets everything and a clean end, or if it took
/// longer than the drain may take, a reset.
fn fills_all_buffers_then_reads_slowly(way: Way, is_half_closed: bool) {
    let mut config = Config::default();
    config.drain_timeout = Some(DRAIN);
    let server = way.serve(config);
    let mut client = Client::connect(&server.addresses[0]);
    client.send_until_blocked();
    if is_half_closed {
        client.end();
    }
    let begin = Instant::now();
    server.handle.drain();
    let end = read_slowly(&mut client);
    let (received, sent) = (client.received, client.sent);
    drop(client);
    let took = begin.elapsed();
    let stats = server.join();
    if let Err(error) = end {
        assert!(took >= DRAIN, "{received} of {sent} bytes, then {error} after {took:?}: {stats}");
        assert_eq!(stats.closed(CloseReason::DrainTimeout), 1, "{stats}");
        return;
    }
    assert_eq!(received, sent, "a clean end, and not all: {stats}");
    let reason = if is_half_closed { CloseReason::Peer } else { CloseReason::Drained };
    assert_eq!(stats.closed(reason), 1, "{stats}");
    assert_eq!((stats.closed_total(), stats.bytes_undelivered), (1, 0), "{stats}");
}
