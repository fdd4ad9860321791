//! What the log says of a connection when it ends, at the level debug. Elsewhere nothing is kept for it.

use std::time::Instant;

use super::Connection;
use crate::{address::Address, protocol::Protocol, system::transport::Transport};

/// One connection, from its being made to its end.
#[derive(Debug)]
pub(super) struct Account {
    /// The address, if the system has still known it.
    peer: Option<Address>,
    since: Instant,
    received: u64,
    sent: u64,
}

impl<P: Protocol, T: Transport> Connection<P, T> {
    pub(super) fn begin_account(&mut self, now: Instant) {
        if log::log_enabled!(log::Level::Debug) {
            let peer = self.transport.peer_addr().ok();
            let account = Account { peer, since: now, received: 0, sent: 0 };
            self.extra.get_or_insert_default().account = Some(Box::new(account));
        }
    }

    /// What is logged of a connection that ends.
    pub(super) fn account(&self, now: Instant) -> String {
        let Some(account) = self.extra.as_ref().and_then(|extra| extra.account.as_ref()) else {
            return "nothing more is known of it".to_owned();
        };
        let Account { peer, since, received, sent } = &**account;
        let peer = peer.as_ref().map_or_else(|| "unknown peer".to_owned(), ToString::to_string);
        let time = now.saturating_duration_since(*since);
        format!("{peer}, {received} bytes received, {sent} bytes sent in {time:.3?}")
    }
}

impl Account {
    pub(super) const fn note_received(&mut self, n: usize) {
        self.received += n as u64;
    }

    pub(super) const fn note_sent(&mut self, n: usize) {
        self.sent += n as u64;
    }
}
