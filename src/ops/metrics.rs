//! The text format of Prometheus, version 0.0.4.
//!
//! Names have base units, and HELP and TYPE those of the samples themselves. Labels are bounded: no address of a client, no
//! name that a client could choose.

use std::{fmt::Write, time::Duration};

use super::overview::Overview;
use crate::{
    close_reason::CloseReason,
    histogram::Histogram,
    stats::Stats,
    status::{Accepting, WorkerStatus},
    system::process::Process,
};

pub(super) fn render(overview: &Overview, process: &Process) -> String {
    let mut page = Text::default();
    server(&mut page, overview);
    open_connections(&mut page, &overview.workers);
    new_connections(&mut page, &overview.stats);
    ended_connections(&mut page, &overview.stats);
    bytes(&mut page, &overview.stats);
    datagrams(&mut page, &overview.stats);
    histograms(&mut page, &overview.stats);
    of_process(&mut page, process);
    page.0
}

fn server(page: &mut Text, overview: &Overview) {
    page.family("echoloop_build_info", "gauge", "The version of echoloop; always 1.");
    page.sample("echoloop_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
    page.one(
        "echoloop_ready",
        "gauge",
        "1 if clients should be sent here, 0 from the first instant of a stop.",
        u64::from(overview.is_ready),
    );
    page.one("echoloop_workers", "gauge", "Event loops.", overview.workers_total as u64);
    page.one(
        "echoloop_workers_answering",
        "gauge",
        "Event loops that have answered within a second, whose connections the gauges below are of.",
        overview.workers.len() as u64,
    );
    page.family("echoloop_workers_accepting", "gauge", "Event loops by what becomes of clients that come.");
    for (name, accepting) in [
        ("yes", Accepting::Yes),
        ("full", Accepting::Full),
        ("short", Accepting::Short),
        ("no", Accepting::No),
    ] {
        let workers = overview.workers.iter().filter(|worker| worker.accepting == accepting).count();
        page.sample("echoloop_workers_accepting", &[("accepting", name)], workers as u64);
    }
}

fn open_connections(page: &mut Text, workers: &[WorkerStatus]) {
    let sum = |field: fn(&WorkerStatus) -> usize| workers.iter().map(field).sum::<usize>() as u64;
    page.family("echoloop_connections", "gauge", "Connections that are open, by state.");
    for (state, connections) in [
        ("connecting", sum(|worker| worker.connecting)),
        ("reading", sum(|worker| worker.reading)),
        ("echoing", sum(|worker| worker.echoing)),
        ("half_closed", sum(|worker| worker.half_closed)),
    ] {
        page.sample("echoloop_connections", &[("state", state)], connections);
    }
    page.one(
        "echoloop_connections_paused",
        "gauge",
        "Connections whose protocol has paused reading.",
        sum(|worker| worker.paused),
    );
    page.one(
        "echoloop_queued_bytes",
        "gauge",
        "Output that waits until sockets take it.",
        sum(|worker| worker.queued_bytes),
    );
    page.one(
        "echoloop_unacknowledged_bytes",
        "gauge",
        "Bytes that peers' systems had not acknowledged when they were last asked.",
        sum(|worker| worker.unacknowledged_bytes),
    );
}

fn new_connections(page: &mut Text, stats: &Stats) {
    for (name, help, value) in [
        ("echoloop_connections_accepted_total", "Connections accepted.", stats.accepted),
        ("echoloop_connections_outbound_total", "Outbound connections begun.", stats.connects),
        (
            "echoloop_connections_refused_total",
            "Connections that the protocol's factory refused.",
            stats.refused,
        ),
        (
            "echoloop_connections_over_ip_limit_total",
            "Connections reset because there were too many from their address.",
            stats.over_ip_limit,
        ),
        (
            "echoloop_connections_setup_failures_total",
            "Accepted connections that could not be set up.",
            stats.setup_failures,
        ),
    ] {
        page.one(name, "counter", help, value);
    }
    page.family(
        "echoloop_accept_failures_total",
        "counter",
        "Attempts to accept that failed: the client was gone, or descriptors or memory had run out.",
    );
    for (kind, value) in [("aborted", stats.accept_aborted), ("exhausted", stats.accept_exhausted)] {
        page.sample("echoloop_accept_failures_total", &[("kind", kind)], value);
    }
    page.family(
        "echoloop_tls_handshakes_total",
        "counter",
        "Clients with whom a TLS handshake was completed.",
    );
    // Counted while they are read.
    let full = stats.handshakes.saturating_sub(stats.handshakes_resumed);
    for (resumed, value) in [("no", full), ("yes", stats.handshakes_resumed)] {
        page.sample("echoloop_tls_handshakes_total", &[("resumed", resumed)], value);
    }
    page.one(
        "echoloop_proxied_connections_total",
        "counter",
        "Clients for whom a proxy has sent the header that it is to send.",
        stats.proxied,
    );
}

fn ended_connections(page: &mut Text, stats: &Stats) {
    page.family("echoloop_connections_closed_total", "counter", "Connections that ended, by why.");
    // All from the beginning, so that none comes out of nothing; those of protocols as they come.
    let causes = stats.close_reasons().filter(|(reason, _)| matches!(reason, CloseReason::AbortedBecause(_)));
    let reasons = CloseReason::ALL.into_iter().map(|reason| (reason, stats.closed(reason)));
    for (reason, value) in reasons.chain(causes) {
        let complete = if reason.is_complete() { "yes" } else { "no" };
        let labels = [("reason", reason.name()), ("complete", complete)];
        page.sample("echoloop_connections_closed_total", &labels, value);
    }
    page.one("echoloop_panics_total", "counter", "Panics in callbacks of the protocol.", stats.panics);
    page.one(
        "echoloop_messages_undeliverable_total",
        "counter",
        "Messages for connections that were gone.",
        stats.messages_undeliverable,
    );
}

fn bytes(page: &mut Text, stats: &Stats) {
    for (name, help, value) in [
        ("echoloop_received_bytes_total", "Bytes received over connections.", stats.bytes_received),
        (
            "echoloop_sent_bytes_total",
            "Bytes that the system took for sending over connections.",
            stats.bytes_sent,
        ),
        (
            "echoloop_discarded_bytes_total",
            "Bytes received after our end was finished, and discarded.",
            stats.bytes_discarded,
        ),
        ("echoloop_undelivered_bytes_total", "Bytes owed to peers that were lost.", stats.bytes_undelivered),
    ] {
        page.one(name, "counter", help, value);
    }
}

fn datagrams(page: &mut Text, stats: &Stats) {
    for (name, help, value) in [
        ("echoloop_datagrams_received_total", "Datagrams received.", stats.datagrams_received),
        ("echoloop_datagrams_sent_total", "Datagrams sent back.", stats.datagrams_sent),
        ("echoloop_datagrams_refused_total", "Datagrams that must not be answered.", stats.datagrams_refused),
        (
            "echoloop_datagrams_unsent_total",
            "Datagrams whose answer the system did not take.",
            stats.datagrams_unsent,
        ),
        (
            "echoloop_datagram_received_bytes_total",
            "Bytes of the datagrams received.",
            stats.datagram_bytes_received,
        ),
        (
            "echoloop_datagram_sent_bytes_total",
            "Bytes of the datagrams sent back.",
            stats.datagram_bytes_sent,
        ),
    ] {
        page.one(name, "counter", help, value);
    }
}

fn histograms(page: &mut Text, stats: &Stats) {
    page.histogram(
        "echoloop_connection_duration_seconds",
        "How long connections were open that have ended.",
        &stats.connection_durations,
    );
    if stats.turn_durations.count() > 0 {
        page.histogram(
            "echoloop_turn_duration_seconds",
            "How long turns of the event loops took, without the wait for events.",
            &stats.turn_durations,
        );
    }
}

fn of_process(page: &mut Text, process: &Process) {
    let counts = [
        ("process_resident_memory_bytes", "Resident memory.", process.resident_bytes),
        ("process_open_fds", "Open file descriptors.", process.open_descriptors),
        ("process_max_fds", "The limit on open file descriptors.", process.max_descriptors),
    ];
    for (name, help, value) in counts {
        if let Some(value) = value {
            page.one(name, "gauge", help, value);
        }
    }
    if let Some(cpu) = process.cpu {
        page.one(
            "process_cpu_seconds_total",
            "counter",
            "Processor time, in user space and in the kernel.",
            Seconds(cpu),
        );
    }
    if let Some(started) = process.started {
        page.one(
            "process_start_time_seconds",
            "gauge",
            "When the process was started, since 1970.",
            Seconds(started),
        );
    }
}

/// The text so far.
#[derive(Default)]
struct Text(String);

impl Text {
    /// Begins the samples of a name.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // A string takes everything.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Value) {
        self.0.push_str(name);
        for (position, (label, text)) in labels.iter().enumerate() {
            let separator = if position == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{separator}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {}", value.text());
    }

    /// A family of one sample.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Value) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, below) in histogram.buckets() {
            self.sample(&bucket, &[("le", &Seconds(bound).text())], below);
        }
        self.sample(&bucket, &[("le", "+Inf")], histogram.count());
        self.sample(&format!("{name}_sum"), &[], Seconds(histogram.sum()));
        self.sample(&format!("{name}_count"), &[], histogram.count());
    }
}

/// Something that a sample can be.
trait Value {
    fn text(&self) -> String;
}

impl Value for u64 {
    fn text(&self) -> String {
        self.to_string()
    }
}

/// A time in seconds.
struct Seconds(Duration);

impl Value for Seconds {
    /// Exact, without zeros at the end.
    fn text(&self) -> String {
        let text = format!("{}.{:09}", self.0.as_secs(), self.0.subsec_nanos());
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// The value of a label. Causes of protocols may hold anything.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::stats::Counters;

    fn text(stats: &Stats) -> String {
        let status = |worker, accepting| WorkerStatus {
            worker,
            connecting: 1,
            reading: 2,
            echoing: 3,
            half_closed: 4,
            paused: 5,
            queued_bytes: 6,
            unacknowledged_bytes: 8,
            accepting,
            stats: Stats::default(),
        };
        let process = Process {
            cpu: Some(Duration::from_millis(1_250)),
            resident_bytes: Some(4096),
            ..Process::default()
        };
        let overview = Overview {
            is_ready: true,
            workers_total: 3,
            workers: vec![status(0, Accepting::Yes), status(2, Accepting::Full)],
            workers_silent: 1,
            stats: stats.clone(),
        };
        render(&overview, &process)
    }

    #[test]
    fn every_figure_has_its_place() {
        let counters = Counters::default();
        counters.accepted.add(7);
        counters.accept_exhausted.add(2);
        counters.bytes_undelivered.add(11);
        counters.handshakes.add(4);
        counters.handshakes_resumed.add(1);
        counters.proxied.add(5);
        counters.count_closed(CloseReason::WriteStall);
        counters.count_closed(CloseReason::AbortedBecause("a \"bad\\ \nword".into()));
        counters.connection_durations.observe(Duration::from_millis(70));
        let text = text(&counters.snapshot());
        for line in [
            "echoloop_ready 1",
            "echoloop_workers 3",
            "echoloop_workers_answering 2",
            "echoloop_workers_accepting{accepting=\"full\"} 1",
            "echoloop_connections{state=\"half_closed\"} 8",
            "echoloop_queued_bytes 12",
            "echoloop_unacknowledged_bytes 16",
            "echoloop_tls_handshakes_total{resumed=\"no\"} 3",
            "echoloop_tls_handshakes_total{resumed=\"yes\"} 1",
            "echoloop_proxied_connections_total 5",
            "echoloop_connections_accepted_total 7",
            "echoloop_accept_failures_total{kind=\"exhausted\"} 2",
            "echoloop_undelivered_bytes_total 11",
            "echoloop_connections_closed_total{reason=\"write stall\",complete=\"no\"} 1",
            "echoloop_connections_closed_total{reason=\"peer\",complete=\"yes\"} 0",
            "echoloop_connections_closed_total{reason=\"a \\\"bad\\\\ \\nword\",complete=\"no\"} 1",
            "echoloop_connection_duration_seconds_bucket{le=\"0.05\"} 0",
            "echoloop_connection_duration_seconds_bucket{le=\"0.1\"} 1",
            "echoloop_connection_duration_seconds_bucket{le=\"+Inf\"} 1",
            "echoloop_connection_duration_seconds_sum 0.07",
            "process_cpu_seconds_total 1.25",
            "process_resident_memory_bytes 4096",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("process_open_fds"), "nobody has said how many there are");
        assert!(!text.contains("turn_duration"), "turns are not measured");
    }

    /// HELP and TYPE name the sample itself, each family comes once, and no two samples are the same.
    #[test]
    fn the_text_is_well_formed() {
        let counters = Counters::default();
        counters.turn_durations.observe(Duration::from_micros(30));
        let text = text(&counters.snapshot());
        let (mut families, mut samples) = (HashSet::new(), HashSet::new());
        let (mut family, mut kind) = ("", "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split_once(' ').unwrap().0;
                assert!(families.insert(family) && rest.ends_with('.'), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, of) = rest.split_once(' ').unwrap();
                kind = of;
                assert_eq!((name, kind == "counter"), (family, name.ends_with("_total")), "{line}");
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let name = sample.split_once('{').map_or(sample, |(name, _)| name);
                let of_histogram = ["_bucket", "_sum", "_count"].map(|end| format!("{family}{end}"));
                assert!(if kind == "histogram" {
                    of_histogram.contains(&name.to_owned())
                } else {
                    name == family
                });
                assert!(samples.insert(sample) && value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.ends_with('\n') && samples.len() > 60);
    }

    #[test]
    fn seconds_are_exact() {
        let texts = [0, 10_000, 2_500_000, 1_000_000_000, 86_400_000_000_000, 1]
            .map(|nanos| Seconds(Duration::from_nanos(nanos)).text());
        assert_eq!(texts, ["0", "0.00001", "0.0025", "1", "86400", "0.000000001"]);
    }
}
