//! What the log says of a connection when it ends. Where it says nothing, nothing is kept for it.

use std::time::Instant;

use log::Level;

use super::Connection;
use crate::{address::Address, close_reason::CloseReason, protocol::Protocol, system::transport::Transport};

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
    /// The level at which its end is logged.
    fn level_of_end(&self) -> Level {
        if self.limits.log_closed { Level::Info } else { Level::Debug }
    }

    /// From when on it counts, and whom it is with: to be told again once a proxy has said that.
    pub(super) fn begin_account(&mut self, now: Instant) {
        if log::log_enabled!(self.level_of_end()) {
            let peer = self.transport.peer_addr().ok();
            let account = &mut self.extra.get_or_insert_default().account;
            account
                .get_or_insert_with(|| Account { peer: None, since: now, received: 0, sent: 0 }.into())
                .peer = peer;
        }
    }

    /// Logs that it ends.
    pub(super) fn log_end(&self, reason: CloseReason, undelivered: usize, now: Instant) {
        let level = self.level_of_end();
        if !log::log_enabled!(level) {
            return;
        }
        let account = self.extra.as_ref().and_then(|extra| extra.account.as_deref());
        let open = account.map(|account| now.saturating_duration_since(account.since));
        let peer = account.and_then(|account| account.peer.as_ref()).map(ToString::to_string);
        let known = match (account, open) {
            (Some(Account { received, sent, .. }), Some(open)) => {
                let peer = peer.as_deref().unwrap_or("unknown peer");
                format!("{peer}, {received} bytes received, {sent} bytes sent in {open:.3?}")
            }
            (None, _) | (_, None) => "nothing more is known of it".to_owned(),
        };
        let prefix = self.limits.log_prefix;
        log::log!(
            level,
            connection:% = format_args!("{prefix}{}", self.id),
            peer = peer.as_deref(),
            reason:% = reason,
            complete = reason.is_complete(),
            open_seconds = open.map(|open| open.as_secs_f64()),
            received_bytes = account.map(|account| account.received),
            sent_bytes = account.map(|account| account.sent),
            undelivered_bytes = undelivered;
            "{prefix}{}: closed: {reason}: {known}, {undelivered} bytes undelivered",
            self.id
        );
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
