//! What load was asked for, in words.

use indicatif::HumanCount;

use crate::cli::bench::{
    measure::outcome::{Outcome, Side},
    plan::{Extent, Plan},
    units,
};

/// What kind of load it is, in a few words.
pub(super) fn load(plan: &Plan) -> String {
    let kind = if plan.is_open_loop() { "open loop" } else { "closed loop" };
    let over = if plan.tls.is_some() { " over TLS" } else { "" };
    let size = units::size(plan.size);
    let unit = if plan.address.is_udp() { "datagrams" } else { "messages" };
    let messages = match (plan.churn, plan.pipeline) {
        (true, _) => format!("a connection for each message of {size}"),
        (false, 1) => format!("{unit} of {size}"),
        (false, depth) => format!("{unit} of {size}, {depth} in flight"),
    };
    let threads = if plan.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", plan.threads) };
    format!("{kind}{over}, {messages}, {threads}, seed {}", plan.seed)
}

/// The connections that were asked for.
pub(super) fn connections(plan: &Plan) -> String {
    let connections = HumanCount(plan.connections);
    // With a rate of connections, only as many are open as it takes.
    if plan.churn && plan.is_open_loop() { format!("at most {connections}") } else { connections.to_string() }
}

/// The rate that was asked for.
pub(super) fn rate(plan: &Plan) -> String {
    plan.rate.map_or_else(|| "unlimited".to_owned(), |rate| rate.to_string())
}

/// That the requested rate was not reached, and why; `None` if it was, or none was requested.
pub(crate) fn missed_rate(outcome: &Outcome) -> Option<String> {
    let why = match outcome.limited_by? {
        Side::Client => "the load generator was the limit; give it more CPU or --threads",
        Side::Server if outcome.plan.churn => "the server was the limit, or it needs more --connections",
        Side::Server => "the server was the limit",
    };
    let (rate, achieved) = (rate(&outcome.plan), units::number(outcome.rate()));
    Some(format!("the rate of {rate} was not reached ({achieved}/s achieved): {why}"))
}

/// How much was to be measured.
pub(super) fn extent(plan: &Plan) -> String {
    match plan.extent {
        Extent::Time { measured, .. } => units::duration(measured),
        Extent::Messages(messages) => format!("{} messages", HumanCount(messages)),
    }
}
