//! The error that `bench` ends with, if any.

use std::{io, process::ExitCode};

use echoloop::Address;
use indicatif::HumanCount;

use super::{
    condition::{self, Condition, Figures},
    measure::outcome::Outcome,
};
use crate::cli::{
    failure::{Failure, connect_hint},
    tls::Trouble,
};

const TLS_HINT: &str = "`echoloop client --tls` says why";

/// Success if nothing failed and none of the conditions holds.
pub(super) fn verdict(outcome: &Outcome, conditions: &[Condition]) -> Result<ExitCode, Failure> {
    let failures = outcome.failures();
    let figures = Figures { latency: &outcome.total.latency, rate: outcome.rate(), failures: Some(failures) };
    let mut reasons = condition::reasons(conditions, &figures);
    if outcome.is_good() {
        return condition::verdict(reasons);
    }
    let summary = outcome.failure_summary();
    let first = if outcome.datagrams.is_some() {
        format!("datagrams or sockets failed: {summary}")
    } else {
        let (failed, ended) = (HumanCount(failures), HumanCount(outcome.ends.fin + failures));
        format!("{failed} of {ended} connections failed: {summary}")
    };
    reasons.insert(0, first);
    let failures = &outcome.ends.failures;
    let hint = match outcome.ends.first_connect_error {
        Some(kind) if failures.connect_failed > 0 => connect_hint(&kind.into()),
        // With TLS 1.3 a server may refuse a client when the client's handshake is over.
        Some(_) | None => (outcome.plan.tls.is_some() && failures.failed > 0).then_some(TLS_HINT),
    };
    Err(Failure::new(reasons.join("; ")).hint(hint))
}

/// Not a single connection was established. Over TLS there may have been trouble with a certificate.
pub(super) fn unreachable_server(outcome: &Outcome, trouble: Option<&Trouble>) -> Failure {
    let address = &outcome.plan.address;
    if let Some(trouble) = trouble {
        return trouble.failure(address);
    }
    let kind = outcome.ends.first_connect_error.unwrap_or(io::ErrorKind::Other);
    if outcome.plan.tls.is_some() && matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
    {
        let failure = Failure::new(format!("cannot connect to {address}: the TLS handshake failed"));
        return failure.hint(Some(TLS_HINT));
    }
    cannot_connect(address, &kind.into())
}

pub(super) fn cannot_connect(address: &Address, error: &io::Error) -> Failure {
    if address.is_udp() { Failure::reach(address, error) } else { Failure::connect(address, error) }
}
