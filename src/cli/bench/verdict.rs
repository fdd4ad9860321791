//! The error that `bench` ends with, if any.

use std::{io, process::ExitCode};

use echoloop::Address;
use indicatif::HumanCount;

use super::{
    condition::{self, Condition, Figures},
    measure::outcome::Outcome,
};
use crate::cli::failure::{Failure, hint_for};

/// Success if no connection failed and none of the conditions holds.
pub(super) fn verdict(outcome: &Outcome, conditions: &[Condition]) -> Result<ExitCode, Failure> {
    let failures = &outcome.ends.failures;
    let figures =
        Figures { latency: &outcome.total.latency, rate: outcome.rate(), failures: Some(failures.total()) };
    let mut reasons = condition::reasons(conditions, &figures);
    if outcome.is_good() {
        return condition::verdict(reasons);
    }
    let ended = HumanCount(outcome.ends.fin + failures.total());
    let failed = HumanCount(failures.total());
    reasons.insert(0, format!("{failed} of {ended} connections failed: {}", failures.summary()));
    let failure = Failure::new(reasons.join("; "));
    Err(match outcome.ends.first_connect_error {
        Some(kind) if failures.connect_failed > 0 => failure.hint(connect_hint(&kind.into())),
        Some(_) | None => failure,
    })
}

/// Not a single connection was established.
pub(super) fn unreachable_server(outcome: &Outcome) -> Failure {
    let kind = outcome.ends.first_connect_error.unwrap_or(io::ErrorKind::Other);
    cannot_connect(&outcome.plan.address, &kind.into())
}

pub(super) fn cannot_connect(address: &Address, error: &io::Error) -> Failure {
    Failure::new(format!("cannot connect to {address}: {error}")).hint(connect_hint(error))
}

fn connect_hint(error: &io::Error) -> Option<&'static str> {
    // The system gives each connection a local port, which stays in use for a while after the end (TIME_WAIT).
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        return Some("all local ports for that address are in use");
    }
    hint_for(error)
}
