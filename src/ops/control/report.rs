//! What is answered: as text for people, as JSON for programs.

use serde_json::{Value, json};

use crate::{
    address::Address,
    connection_status::ConnectionStatus,
    stats::Stats,
    status::{Accepting, WorkerStatus},
};

/// What a server is doing.
pub(super) struct Overview<'a> {
    pub(super) is_ready: bool,
    pub(super) listeners: &'a [Address],
    pub(super) workers_total: usize,
    /// Those that have answered.
    pub(super) workers: &'a [WorkerStatus],
    pub(super) stats: &'a Stats,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Overview<'_> {
    pub(super) fn text(&self) -> String {
        let ready = if self.is_ready { "ready" } else { "not ready" };
        let mut text = format!("echoloop {VERSION}, process {}, {ready}\n", std::process::id());
        self.listeners.iter().for_each(|address| text += &format!("listening on {address}\n"));
        self.workers.iter().for_each(|worker| text += &format!("{worker}\n"));
        let silent = self.workers_total - self.workers.len();
        if silent > 0 {
            text += &format!("{silent} of {} workers did not answer within a second\n", self.workers_total);
        }
        text + &format!("total: {}\n", self.stats)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "version": VERSION,
            "process": std::process::id(),
            "ready": self.is_ready,
            "listeners": self.listeners.iter().map(Address::to_string).collect::<Vec<_>>(),
            "workers_total": self.workers_total,
            "workers": self.workers.iter().map(worker).collect::<Vec<_>>(),
            "total": stats(self.stats),
        })
    }
}

fn worker(status: &WorkerStatus) -> Value {
    json!({
        "worker": status.worker,
        "accepting": match status.accepting {
            Accepting::Yes => "yes",
            Accepting::Full => "full",
            Accepting::Short => "short",
            Accepting::No => "no",
        },
        "connecting": status.connecting,
        "reading": status.reading,
        "echoing": status.echoing,
        "half_closed": status.half_closed,
        "paused": status.paused,
        "queued_bytes": status.queued_bytes,
        "unacknowledged_bytes": status.unacknowledged_bytes,
        "accepted": status.stats.accepted,
    })
}

fn stats(stats: &Stats) -> Value {
    let reasons = stats.close_reasons().map(|(reason, count)| (reason.name().to_owned(), count.into()));
    json!({
        "accepted": stats.accepted,
        "open": stats.open,
        "received_bytes": stats.bytes_received,
        "sent_bytes": stats.bytes_sent,
        "undelivered_bytes": stats.bytes_undelivered,
        "closed": reasons.collect::<serde_json::Map<String, Value>>(),
    })
}

pub(super) fn connections_text(connections: &[ConnectionStatus]) -> String {
    connections.iter().map(|one| format!("{one}\n")).collect()
}

pub(super) fn connections_json(connections: &[ConnectionStatus]) -> Value {
    let one = |one: &ConnectionStatus| {
        json!({
            "id": one.id.to_string(),
            "peer": one.peer.as_ref().map(Address::to_string),
            "state": one.state.to_string(),
            "quiet_seconds": one.quiet.as_secs_f64(),
            "queued_bytes": one.queued_bytes,
            "unconsumed_bytes": one.unconsumed_bytes,
            "paused": one.is_paused,
            "relayed_with": one.relayed_with.map(|id| id.to_string()),
        })
    };
    connections.iter().map(one).collect()
}
