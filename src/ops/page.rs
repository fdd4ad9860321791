//! The status page: one file, which JavaScript only refreshes.

use std::fmt::Write;

use super::{
    chart::{Chart, Line},
    overview::Overview,
    samples::{Sample, Samples},
    units::{bytes, count, duration, escaped, number},
};
use crate::{
    address::Address,
    close_reason::EndedBy,
    stats::Stats,
    status::{Accepting, WorkerStatus},
    system::process::Process,
};

/// What is shown.
pub(super) struct Figures<'a> {
    pub(super) overview: &'a Overview,
    pub(super) process: &'a Process,
    pub(super) listeners: &'a [Address],
    pub(super) samples: &'a Samples,
    pub(super) date: String,
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the server is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Serving,
    /// Some loop does not answer.
    Stuck,
    /// It still accepts, but clients should go elsewhere.
    Stopping,
    Draining,
}

impl State {
    fn of(overview: &Overview) -> Self {
        let takes_none = overview.workers.iter().all(|worker| worker.accepting == Accepting::No);
        if overview.workers_silent > 0 {
            Self::Stuck
        } else if overview.is_ready {
            Self::Serving
        } else if takes_none {
            Self::Draining
        } else {
            Self::Stopping
        }
    }

    /// Its name, its class, and what it means.
    const fn text(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Serving => ("ready", "good", "Clients are served."),
            Self::Stuck => {
                ("not answering", "bad", "At least one event loop did not answer within a second.")
            }
            Self::Stopping => (
                "stopping",
                "doubt",
                "A stop is announced. New clients are still served, and should go elsewhere.",
            ),
            Self::Draining => (
                "draining",
                "doubt",
                "No new clients are accepted. Those that are here are served to their end.",
            ),
        }
    }
}

pub(super) fn render(figures: &Figures<'_>) -> String {
    let state = State::of(figures.overview);
    let (name, class, meaning) = state.text();
    let version = env!("CARGO_PKG_VERSION");
    let age = figures.process.age.map(|age| format!(" · up {}", duration(age))).unwrap_or_default();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n\
         <title>echoloop: {name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header><h1>echoloop</h1><span class=\"state {class}\">{name}</span>\
         <p class=\"sub\">{meaning}<br>version {version}{age} · {}</p></header>\n",
        escaped(&figures.date),
    );
    progress(figures, state, &mut page);
    heads(figures, &mut page);
    charts(figures, &mut page);
    page += "<div class=\"tables\">\n";
    workers(figures.overview, &mut page);
    reasons(&figures.overview.stats, &mut page);
    others(figures, &mut page);
    listeners(figures.listeners, &mut page);
    let _ = write!(
        page,
        "</div>\n<footer>For programs: <a href=\"/metrics\">/metrics</a>, <a href=\"/livez\">/livez</a>, \
         <a href=\"/readyz\">/readyz</a>.</footer>\n</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    );
    page
}

/// How far a stop has come: against the most connections of the last minutes.
fn progress(figures: &Figures<'_>, state: State, page: &mut String) {
    if !matches!(state, State::Stopping | State::Draining) {
        return;
    }
    let open = figures.overview.stats.open;
    let most = figures.samples.iter().map(|sample| sample.open).fold(open as f64, f64::max);
    let ended = most - open as f64;
    let _ = writeln!(
        page,
        "<section class=\"card\"><h2>{} of {} connections are left</h2>\
         <progress max=\"{most}\" value=\"{ended}\"></progress></section>",
        count(open),
        number(most),
    );
}

fn heads(figures: &Figures<'_>, page: &mut String) {
    let (stats, latest) = (&figures.overview.stats, figures.samples.latest());
    let mut heads = vec![
        ("connections open", count(stats.open)),
        ("accepted", count(stats.accepted)),
        ("received", format!("{}/s", bytes(latest.received))),
        ("sent", format!("{}/s", bytes(latest.sent))),
        ("undelivered", bytes(stats.bytes_undelivered as f64)),
    ];
    if let Some(resident) = figures.process.resident_bytes {
        heads.push(("memory", bytes(resident as f64)));
    }
    page.push_str("<div class=\"heads\">\n");
    for (name, value) in heads {
        let _ = writeln!(
            page,
            "<div class=\"card\"><p class=\"value\">{}</p><p class=\"name\">{name}</p></div>",
            escaped(&value)
        );
    }
    page.push_str("</div>\n");
}

fn charts(figures: &Figures<'_>, page: &mut String) {
    let line =
        |name, value: fn(&Sample) -> f64| Line { name, values: figures.samples.iter().map(value).collect() };
    let per_second = |x| format!("{}/s", number(x));
    let mut charts = vec![
        Chart {
            title: "Bytes",
            lines: vec![line("received", |s| s.received), line("sent", |s| s.sent)],
            unit: |x| format!("{}/s", bytes(x)),
            is_bytes: true,
            least_top: 1024.0,
        },
        Chart {
            title: "Connections begun and ended",
            lines: vec![line("begun", |s| s.opened), line("ended", |s| s.ended)],
            unit: per_second,
            is_bytes: false,
            least_top: 10.0,
        },
        Chart {
            title: "Connections open",
            lines: vec![line("open", |s| s.open)],
            unit: number,
            is_bytes: false,
            least_top: 10.0,
        },
    ];
    if figures.overview.stats.turn_durations.count() > 0 {
        charts.push(Chart {
            title: "Turns of the event loops",
            lines: vec![line("99% took at most", |s| s.turn_p99)],
            unit: |x| duration(std::time::Duration::from_secs_f64(x.clamp(0.0, 1e9))),
            is_bytes: false,
            least_top: 100e-6,
        });
        charts.push(Chart {
            title: "Event loops at work",
            lines: vec![line("of one processor", |s| 100.0 * s.busy)],
            unit: |x| format!("{}%", number(x)),
            is_bytes: false,
            least_top: 10.0,
        });
    }
    if figures.overview.stats.datagram_sockets > 0 {
        charts.push(Chart {
            title: "Datagrams",
            lines: vec![line("received", |s| s.datagrams)],
            unit: per_second,
            is_bytes: false,
            least_top: 10.0,
        });
    }
    page.push_str("<div class=\"charts\">\n");
    charts.iter().for_each(|chart| page.push_str(&chart.render()));
    page.push_str("</div>\n");
}

/// A table, whose cells are escaped.
fn table(title: &str, columns: &[&str], rows: impl Iterator<Item = Vec<String>>, page: &mut String) {
    // A string takes everything.
    let _ = write!(page, "<section class=\"card\"><h2>{title}</h2><div class=\"wide\"><table>");
    if !columns.is_empty() {
        page.push_str("<thead><tr>");
        columns.iter().for_each(|column| *page += &format!("<th>{column}</th>"));
        page.push_str("</tr></thead>");
    }
    page.push_str("<tbody>");
    for row in rows {
        page.push_str("<tr>");
        row.iter().for_each(|cell| *page += &format!("<td>{}</td>", escaped(cell)));
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div></section>\n");
}

/// A column for each loop, and one for all where there are several.
fn workers(overview: &Overview, page: &mut String) {
    let loops = 0..overview.workers_total;
    let found: Vec<_> =
        loops.clone().map(|number| overview.workers.iter().find(|worker| worker.worker == number)).collect();
    let with_sum = overview.workers_total > 1;
    let mut columns = vec![String::new()];
    columns.extend(with_sum.then(|| "all".to_owned()));
    columns.extend(loops.map(|number| format!("loop {number}")));
    let row = |name: &str, field: fn(&WorkerStatus) -> usize, unit: fn(usize) -> String| {
        let mut row = vec![name.to_owned()];
        row.extend(with_sum.then(|| unit(overview.workers.iter().map(field).sum())));
        row.extend(
            found.iter().map(|worker| worker.map_or_else(|| "–".to_owned(), |worker| unit(field(worker)))),
        );
        row
    };
    let mut clients = vec!["new clients".to_owned()];
    clients.extend(with_sum.then(String::new));
    clients.extend(found.iter().map(|worker| match worker {
        Some(worker) => worker.accepting.to_string(),
        None if overview.is_ready => "no answer".to_owned(),
        None => "ended, or no answer".to_owned(),
    }));
    let many = |n: usize| count(n as u64);
    let rows = [
        row("connecting", |worker| worker.connecting, many),
        row("reading", |worker| worker.reading, many),
        row("echoing", |worker| worker.echoing, many),
        row("half-closed", |worker| worker.half_closed, many),
        row("paused", |worker| worker.paused, many),
        row("queued", |worker| worker.queued_bytes, |n| bytes(n as f64)),
        row("unacknowledged", |worker| worker.unacknowledged_bytes, |n| bytes(n as f64)),
        clients,
    ];
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    table("Connections by state", &columns, rows.into_iter(), page);
}

fn reasons(stats: &Stats, page: &mut String) {
    let columns = ["reason", "connections", "ended by", "delivered"];
    let mut reasons: Vec<_> = stats.close_reasons().collect();
    reasons.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
    if reasons.is_empty() {
        return page.push_str(
            "<section class=\"card\"><h2>Why connections ended</h2><p>None has ended yet.</p></section>\n",
        );
    }
    let rows = reasons.into_iter().map(|(reason, n)| {
        let by = match reason.ended_by() {
            EndedBy::Peer => "peer",
            EndedBy::Protocol => "protocol",
            EndedBy::Deadline => "deadline",
            EndedBy::Operator => "operator",
            EndedBy::System => "system",
        };
        let complete = if reason.is_complete() { "all" } else { "not all" };
        vec![reason.name().to_owned(), count(n), by.to_owned(), complete.to_owned()]
    });
    table("Why connections ended", &columns, rows, page);
}

/// What else there is, as far as there is any.
fn others(figures: &Figures<'_>, page: &mut String) {
    let stats = &figures.overview.stats;
    let counts = [
        ("outbound connections", stats.connects),
        ("refused", stats.refused),
        ("over the limit of their address", stats.over_ip_limit),
        ("set-up failed", stats.setup_failures),
        ("gone before they were accepted", stats.accept_aborted),
        ("out of descriptors or memory for accept", stats.accept_exhausted),
        ("panics", stats.panics),
        ("bytes discarded", stats.bytes_discarded),
        ("messages undeliverable", stats.messages_undeliverable),
        ("datagrams received", stats.datagrams_received),
        ("datagrams sent back", stats.datagrams_sent),
        ("datagrams refused", stats.datagrams_refused),
        ("datagrams unsent", stats.datagrams_unsent),
    ];
    let mut rows: Vec<Vec<String>> =
        counts.into_iter().filter(|&(_, n)| n > 0).map(|(name, n)| vec![name.to_owned(), count(n)]).collect();
    let process = figures.process;
    if let Some((open, max)) = process.open_descriptors.zip(process.max_descriptors) {
        rows.push(vec![
            "open files, and their limit".to_owned(),
            format!("{} of {}", count(open), count(max)),
        ]);
    }
    if let Some(cpu) = process.cpu {
        rows.push(vec!["processor time".to_owned(), duration(cpu)]);
    }
    rows.push(vec!["received in all".to_owned(), bytes(stats.bytes_received as f64)]);
    rows.push(vec!["sent in all".to_owned(), bytes(stats.bytes_sent as f64)]);
    table("Since the start", &[], rows.into_iter(), page);
}

fn listeners(listeners: &[Address], page: &mut String) {
    page.push_str("<section class=\"card\"><h2>Listeners</h2><ul>");
    listeners.iter().for_each(|address| *page += &format!("<li>{}</li>", escaped(&address.to_string())));
    page.push_str("</ul></section>\n");
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn worker(accepting: Accepting) -> WorkerStatus {
        WorkerStatus {
            worker: 0,
            connecting: 0,
            reading: 1234,
            echoing: 0,
            half_closed: 0,
            paused: 0,
            queued_bytes: 2048,
            unacknowledged_bytes: 8,
            accepting,
            stats: Stats::default(),
        }
    }

    fn page(is_ready: bool, workers: &[WorkerStatus], workers_silent: usize) -> String {
        let (begin, mut stats) = (Instant::now(), Stats::default());
        let mut samples = Samples::new(begin, stats.clone());
        stats.open = 1234;
        samples.add(begin + Duration::from_secs(1), stats.clone());
        stats.open = 617;
        render(&Figures {
            overview: &Overview {
                is_ready,
                workers_total: 1,
                workers: workers.to_vec(),
                workers_silent,
                stats,
            },
            process: &Process::default(),
            listeners: &["unix:/tmp/<script>".parse().unwrap()],
            samples: &samples,
            date: "today".to_owned(),
        })
    }

    #[test]
    fn the_state_is_that_of_the_server() {
        for (is_ready, workers, workers_silent, state) in [
            (true, &[worker(Accepting::Yes)][..], 0, "ready"),
            (true, &[worker(Accepting::Full)], 0, "ready"),
            (true, &[], 1, "not answering"),
            (false, &[], 1, "not answering"),
            (false, &[worker(Accepting::Yes)], 0, "stopping"),
            (false, &[worker(Accepting::No)], 0, "draining"),
            // It has ended.
            (false, &[], 0, "draining"),
        ] {
            let page = page(is_ready, workers, workers_silent);
            assert!(page.contains(&format!("<title>echoloop: {state}</title>")), "{is_ready} {workers:?}");
        }
    }

    #[test]
    fn the_page_needs_nothing_else_and_nothing_leaves_its_place() {
        let page = page(false, &[worker(Accepting::No)], 0);
        for foreign in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("<li>unix:/tmp/&lt;script&gt;</li>"));
        assert!(page.contains("617 of 1,234 connections are left") && page.contains("value=\"617\""));
        assert!(page.contains("<noscript><meta http-equiv=\"refresh\""));
        assert_eq!(page.matches("<script>").count(), 1);
        assert!(page.contains("<td>1,234</td>") && page.contains("<td>2 KiB</td>"));
    }
}
