//! Figures as one JSON object. Its fields are documented in docs/bench.md. Fields may be added; none is removed or changes
//! its meaning unless `version` changes.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::cli::{
    bench::{
        measure::{
            datagram_counts::DatagramCounts,
            ends::Failures,
            handshakes::Handshakes,
            hdr_reader::Merged,
            interval::Interval,
            latencies::Latencies,
            outcome::{Outcome, Side},
        },
        rate::Rate,
    },
    failure::Failure,
};

const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct LoadFigures {
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
    connections: ConnectionFigures,
    rate: RateFigures,
    rate_reached: Option<bool>,
    limited_by: Option<&'static str>,
    seconds: f64,
    messages: u64,
    messages_unanswered: u64,
    bytes: u64,
    bytes_per_second: f64,
    latency: LatencyFigures,
    uncorrected_latency: Option<LatencyFigures>,
    connect_latency: LatencyFigures,
    fin: u64,
    failures: Failures,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Handshakes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datagrams: Option<DatagramCounts>,
    intervals: Vec<IntervalFigures>,
}

#[derive(Debug, Serialize)]
struct LogFigures {
    version: u32,
    logs: usize,
    rate: RateFigures,
    seconds: f64,
    messages: u64,
    messages_unanswered: u64,
    failed_connections: Option<u64>,
    latency: LatencyFigures,
    uncorrected_latency: Option<LatencyFigures>,
    connect_latency: LatencyFigures,
    tags: BTreeMap<String, LatencyFigures>,
    warnings: Vec<String>,
    intervals: Vec<IntervalFigures>,
}

#[derive(Debug, Serialize)]
struct ConnectionFigures {
    requested: u64,
    achieved: u64,
    made: u64,
}

#[derive(Debug, Serialize)]
struct RateFigures {
    requested_per_second: Option<f64>,
    achieved_per_second: f64,
}

#[derive(Debug, Serialize)]
struct LatencyFigures {
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
struct IntervalFigures {
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
    text(&LoadFigures {
        version: VERSION,
        address: plan.address.to_string(),
        kind: if plan.is_open_loop() { "open" } else { "closed" },
        churn: plan.churn,
        size_bytes: plan.size,
        pipeline: plan.pipeline,
        threads: plan.threads,
        seed: plan.seed,
        interrupted: outcome.interrupted,
        connections: ConnectionFigures {
            requested: plan.connections,
            achieved: outcome.connections.open_max,
            made: outcome.connections.made,
        },
        rate: RateFigures {
            requested_per_second: plan.rate.map(Rate::per_second),
            achieved_per_second: outcome.rate(),
        },
        rate_reached: outcome.rate_reached(),
        limited_by: outcome.limited_by.map(|side| match side {
            Side::Client => "client",
            Side::Server => "server",
        }),
        seconds: outcome.elapsed.as_secs_f64(),
        messages: total.messages,
        messages_unanswered: total.unanswered.len(),
        bytes: total.bytes,
        bytes_per_second: outcome.byte_rate(),
        latency: LatencyFigures::of(&total.latency),
        uncorrected_latency: total.uncorrected.as_ref().map(LatencyFigures::of),
        connect_latency: LatencyFigures::of(&total.connect),
        fin: outcome.ends.fin,
        failures: outcome.ends.failures,
        tls: outcome.tls.clone(),
        datagrams: outcome.datagrams,
        intervals: outcome.series.iter().map(IntervalFigures::of).collect(),
    })
}

/// All the figures of merged logs.
pub(crate) fn merged(merged: &Merged) -> Result<String, Failure> {
    let tagged = |(tag, latencies): (&String, &Latencies)| (tag.clone(), LatencyFigures::of(latencies));
    text(&LogFigures {
        version: VERSION,
        logs: merged.logs,
        rate: RateFigures { requested_per_second: None, achieved_per_second: merged.rate },
        seconds: merged.elapsed.as_secs_f64(),
        messages: merged.messages(),
        messages_unanswered: merged.unanswered.len(),
        failed_connections: merged.failures,
        latency: LatencyFigures::of(&merged.latency),
        uncorrected_latency: merged.uncorrected.as_ref().map(LatencyFigures::of),
        connect_latency: LatencyFigures::of(&merged.connect),
        tags: merged.tags.iter().map(tagged).collect(),
        warnings: merged.warnings.clone(),
        intervals: merged.series.iter().map(IntervalFigures::of).collect(),
    })
}

fn text(figures: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(figures);
    text.map(|text| text + "\n").map_err(|error| Failure::new(format!("cannot write JSON: {error}")))
}

impl LatencyFigures {
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

impl IntervalFigures {
    fn of(interval: &Interval) -> Self {
        let seconds = |duration: Duration| duration.as_secs_f64();
        Self {
            start_seconds: seconds(interval.start),
            seconds: seconds(interval.length),
            messages: interval.messages,
            bytes: interval.bytes,
            p50_ns: interval.p50,
            p99_ns: interval.p99,
            max_ns: interval.max,
        }
    }
}
