//! As many connections at once as the system allows, and not one lost.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test")]

mod util;

use std::env;

use util::{
    DEADLINE, Program,
    holder::{self, Holder, MESSAGE_BYTES, tell_all},
    procfs::descriptors_for_connections,
    skip,
};

/// Connections, unless the environment variable `ECHOLOOP_SCALE` says otherwise, for example 19500.
const CONNECTIONS: usize = if cfg!(mio_unsupported_force_poll_poll) { 500 } else { 2000 };

#[test]
fn of_many_connections_at_once_not_one_is_lost() {
    let count = env::var("ECHOLOOP_SCALE").map_or(CONNECTIONS, |count| count.parse().expect("a number"));
    if count > descriptors_for_connections() {
        return skip(&format!("{count} connections: the limit on open files is too low"));
    }
    let mut server = Program::start(&["serve", "0.0.0.0:0"]);
    let mut holders = Holder::start_several(3, count, server.listening().port());
    holders.iter().for_each(|holder| holder.wait_for(holder::CONNECTED));
    // All are open now, and all are served.
    tell_all(&mut holders, "echo");
    tell_all(&mut holders, "end");
    server.signal("TERM");
    let bytes = count * 2 * MESSAGE_BYTES;
    let summary = format!(
        "{count} connections, {bytes} bytes received, {bytes} bytes sent, 0 bytes undelivered; peer {count}"
    );
    assert_eq!(server.line(), summary);
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

/// See `util::holder`.
#[test]
fn hold_connections() {
    holder::hold_connections();
}
