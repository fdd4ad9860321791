//! What is answered: as text for people, as JSON for programs.

use serde_json::{Value, json};

use crate::{
    address::Address,
    connection_status::{ConnectionList, ConnectionStatus},
    ops::overview::Overview,
    stats::Stats,
    status::{Accepting, WorkerStatus},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn overview_text(overview: &Overview, listeners: &[Address]) -> String {
    let ready = if overview.is_ready { "ready" } else { "not ready" };
    let mut text = format!("echoloop {VERSION}, process {}, {ready}\n", std::process::id());
    listeners.iter().for_each(|address| text += &format!("listening on {address}\n"));
    overview.workers.iter().for_each(|worker| text += &format!("{worker}\n"));
    let silence = silence(overview.workers_silent, overview.workers_total);
    silence.iter().for_each(|line| text += &format!("{line}\n"));
    text + &format!("total: {}\n", overview.stats)
}

pub(super) fn overview_json(overview: &Overview, listeners: &[Address]) -> Value {
    json!({
        "version": VERSION,
        "process": std::process::id(),
        "ready": overview.is_ready,
        "listeners": listeners.iter().map(Address::to_string).collect::<Vec<_>>(),
        "workers_total": overview.workers_total,
        "workers_silent": overview.workers_silent,
        "workers": overview.workers.iter().map(worker).collect::<Vec<_>>(),
        "total": stats(&overview.stats),
    })
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

pub(super) fn connections_text(list: &ConnectionList, workers_total: usize) -> String {
    let text: String = list.connections.iter().map(|one| format!("{one}\n")).collect();
    text + &silence(list.workers_silent, workers_total).map(|line| line + "\n").unwrap_or_default()
}

pub(super) fn connections_json(list: &ConnectionList) -> Value {
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
    let connections: Value = list.connections.iter().map(one).collect();
    json!({ "workers_silent": list.workers_silent, "connections": connections })
}

/// What is missing in an answer, if something is.
pub(super) fn silence(workers_silent: usize, workers_total: usize) -> Option<String> {
    (workers_silent > 0)
        .then(|| format!("{workers_silent} of {workers_total} workers did not answer within a second"))
}
