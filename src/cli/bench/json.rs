//! Figures as one JSON object. Its fields are documented in the README; new ones may come, none goes or changes its
//! meaning without another `version`.

use std::time::Duration;

use serde::Serialize;

use super::{ends::Failures, hdr::Merged, outcome::Outcome, samples::Point, tally::Latencies};
use crate::cli::failure::Failure;

const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Bench {
    version: u32,
    address: String,
    #[serde(rename = "loop")]
    kind: &'static str,
    churn: bool,
    size_bytes: usize,
    pipeline: u32,
    threads: u64,
    seed: u64,
    interrupted: bool,
    connections: Connections,
    rate: Rate,
    seconds: f64,
    messages: u64,
    bytes: u64,
    bytes_per_second: f64,
    latency: Latency,
    uncorrected_latency: Option<Latency>,
    connect_latency: Latency,
    fin: u64,
    failures: Failures,
    intervals: Vec<Interval>,
}

#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    logs: usize,
    rate: Rate,
    seconds: f64,
    messages: u64,
    latency: Latency,
    uncorrected_latency: Option<Latency>,
    connect_latency: Latency,
    intervals: Vec<Interval>,
}

#[derive(Debug, Serialize)]
struct Connections {
    requested: u64,
    achieved: u64,
    made: u64,
}

#[derive(Debug, Serialize)]
struct Rate {
    requested_per_second: Option<f64>,
    achieved_per_second: f64,
}

#[derive(Debug, Serialize)]
struct Latency {
    count: u64,
    min_ns: u64,
    mean_ns: f64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p99_9_ns: u64,
    p99_99_ns: u64,
    max_ns: u64,
}

#[derive(Debug, Serialize)]
struct Interval {
    start_seconds: f64,
    seconds: f64,
    messages: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
}

/// All the figures of a load.
pub(crate) fn outcome(outcome: &Outcome) -> Result<String, Failure> {
    let (plan, total) = (&outcome.plan, &outcome.total);
    text(&Bench {
        version: VERSION,
        address: plan.address.to_string(),
        kind: if plan.is_paced() { "open" } else { "closed" },
        churn: plan.churn,
        size_bytes: plan.size,
        pipeline: plan.pipeline,
        threads: plan.threads,
        seed: plan.seed,
        interrupted: outcome.interrupted,
        connections: Connections {
            requested: plan.connections,
            achieved: outcome.connections.open_max,
            made: outcome.connections.made,
        },
        rate: Rate {
            requested_per_second: plan.rate.map(super::pace::Rate::per_second),
            achieved_per_second: outcome.rate(),
        },
        seconds: outcome.elapsed.as_secs_f64(),
        messages: total.messages,
        bytes: total.bytes,
        bytes_per_second: outcome.byte_rate(),
        latency: Latency::of(&total.latency),
        uncorrected_latency: total.uncorrected.as_ref().map(Latency::of),
        connect_latency: Latency::of(&total.connect),
        fin: outcome.ends.fin,
        failures: outcome.ends.failures,
        intervals: outcome.series.iter().map(Interval::of).collect(),
    })
}

/// All that logs come to.
pub(crate) fn merged(merged: &Merged, logs: usize) -> Result<String, Failure> {
    text(&Report {
        version: VERSION,
        logs,
        rate: Rate { requested_per_second: None, achieved_per_second: merged.rate },
        seconds: merged.elapsed.as_secs_f64(),
        messages: merged.latency.len(),
        latency: Latency::of(&merged.latency),
        uncorrected_latency: merged.uncorrected.as_ref().map(Latency::of),
        connect_latency: Latency::of(&merged.connect),
        intervals: merged.series.iter().map(Interval::of).collect(),
    })
}

fn text(figures: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(figures);
    text.map(|text| text + "\n").map_err(|error| Failure::new(format!("cannot write JSON: {error}")))
}

impl Latency {
    fn of(histogram: &Latencies) -> Self {
        Self {
            count: histogram.len(),
            min_ns: histogram.min(),
            mean_ns: histogram.mean(),
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p99_9_ns: histogram.value_at_quantile(0.999),
            p99_99_ns: histogram.value_at_quantile(0.9999),
            max_ns: histogram.max(),
        }
    }
}

impl Interval {
    fn of(point: &Point) -> Self {
        let seconds = |duration: Duration| duration.as_secs_f64();
        Self {
            start_seconds: seconds(point.start),
            seconds: seconds(point.length),
            messages: point.messages,
            bytes: point.bytes,
            p50_ns: point.p50,
            p99_ns: point.p99,
            max_ns: point.max,
        }
    }
}
