//! The figures for other programs: times in nanoseconds, memory in bytes, everything in numbers.

use serde_json::{Value, json};

use crate::{
    behaviour::Behaviour,
    client::group::Reading,
    process::CoreCount,
    report::{Report, ratio},
    servers::Kind,
    workloads::{Per, Sample, Workload},
};

pub(crate) fn render(report: &Report) -> String {
    let workloads: Vec<Value> = report.workloads().map(|load| workload(report, load)).collect();
    let behaviours: Vec<Value> =
        report.behaviours.iter().map(|(peer, seen)| behaviour(peer.name, seen)).collect();
    let peers: Vec<Value> = report
        .peers
        .iter()
        .map(|peer| json!({ "name": peer.name, "kind": kind(peer.kind()), "what": peer.what }))
        .collect();
    let cores = match report.setup.cores.count() {
        CoreCount::One => 1,
        CoreCount::Two => 2,
    };
    let replies = match report.setup.reading {
        Reading::Verify => "verified",
        Reading::Discard => "discarded",
    };
    let document = json!({
        "effort": report.setup.effort.name,
        "cores": cores,
        "replies": replies,
        "disturbed_share": report.disturbed,
        "proxies_upstream": report.has_upstream().then_some(report.setup.upstream.name),
        "peers": peers,
        "workloads": workloads,
        "behaviour": behaviours,
    });
    format!("{document:#}\n")
}

fn workload(report: &Report, workload: &Workload) -> Value {
    let per = match workload.per {
        Per::Message => "message",
        Per::Gigabyte => "gigabyte",
        Per::Connection => "connection",
    };
    let ours = report.ours(workload);
    let results: Vec<Value> = report
        .peers(workload)
        .map(|peer| match report.medians(workload, peer.name) {
            Ok(sample) => json!({
                "peer": peer.name,
                "median": figures(&sample),
                "ratio": ours.map(|ours| figures(&ratios(&sample, &ours))),
                "rounds": rounds(report, workload, peer.name),
            }),
            Err(why) => json!({ "peer": peer.name, "failed": why }),
        })
        .collect();
    json!({
        "name": workload.name,
        "title": workload.title,
        "kind": kind(workload.kind),
        "reference": workload.kind.reference(),
        "per": per,
        "results": results,
    })
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::EchoServer => "echo server",
        Kind::TlsServer => "TLS server",
        Kind::Proxy => "proxy",
    }
}

fn rounds(report: &Report, workload: &Workload, peer: &str) -> Vec<Value> {
    let rounds = report.measured.iter().filter(|m| m.workload == workload.name && m.peer == peer);
    rounds.filter_map(|measured| measured.sample.as_ref().ok()).map(figures).collect()
}

fn figures(sample: &Sample) -> Value {
    json!({
        "throughput_per_s": sample.throughput,
        "cpu_ns": sample.cpu,
        "p50_ns": sample.p50,
        "p99_ns": sample.p99,
        "resident_bytes_per_connection": sample.resident,
    })
}

fn ratios(theirs: &Sample, ours: &Sample) -> Sample {
    Sample {
        throughput: theirs.throughput / ours.throughput,
        cpu: theirs.cpu / ours.cpu,
        p50: theirs.p50 / ours.p50,
        p99: theirs.p99 / ours.p99,
        resident: theirs.resident.zip(ours.resident).and_then(|(theirs, ours)| ratio(theirs, ours)),
    }
}

fn behaviour(peer: &str, seen: &Behaviour) -> Value {
    let late_reader = seen.late_reader.as_ref().map(|seen| {
        json!({ "passed": seen.passed(), "returned_bytes": seen.returned, "share": seen.share(), "end": seen.end.name() })
    });
    let replies = seen.replies.as_ref().map(|seen| {
        json!({
            "passed": seen.passed(), "clients": seen.clients, "complete": seen.complete,
            "median_share": seen.share,
        })
    });
    let descriptors = seen.descriptors.as_ref().map(|seen| {
        json!({
            "passed": seen.passed(), "at_once": seen.at_once, "served": seen.served,
            "sent_away": seen.dropped, "cpu_share": seen.cpu, "spins": seen.spins(), "died": seen.died,
        })
    });
    let value = |seen: Result<Value, &String>| seen.unwrap_or_else(|why| json!({ "failed": why }));
    json!({
        "peer": peer,
        "late_reader": value(late_reader),
        "reply_while_sending": value(replies),
        "descriptors": value(descriptors),
    })
}
