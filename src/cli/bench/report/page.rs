//! Figures as an HTML page that needs no other file.

use indicatif::HumanCount;

use super::{
    charts, description,
    rows::{self, Named, Rows},
    run_info::RunInfo,
};
use crate::cli::bench::{
    measure::{hdr_reader::Merged, interval::Interval, latencies::Latencies, outcome::Outcome},
    units,
};

/// What is on a page.
struct Page<'a> {
    title: String,
    subtitle: String,
    /// The most important figures, with their names.
    heads: Vec<(String, &'static str)>,
    tables: Vec<Rows>,
    latencies: Named<'a>,
    series: &'a [Interval],
    /// What went wrong or is doubtful.
    warnings: Vec<String>,
    /// When, where and how the figures came to be.
    run_info: Rows,
}

const STYLE: &str = include_str!("page.css");

/// The page of a load.
pub(crate) fn outcome(outcome: &Outcome, run_info: &RunInfo) -> String {
    let (plan, total) = (&outcome.plan, &outcome.total);
    let early = outcome.interrupted.then(|| "It was ended early: these are the figures so far.".to_owned());
    let failed = (!outcome.is_good()).then(|| format!("Failures: {}.", outcome.failure_summary()));
    let missed = description::missed_rate(outcome).map(|warning| format!("Warning: {warning}."));
    let unit = if plan.churn { "connections/s" } else { "messages/s" };
    let mut heads = vec![
        (units::number(outcome.rate()), unit),
        (format!("{}/s", units::bytes(outcome.byte_rate())), "each way"),
    ];
    heads.extend(latency_heads(&total.latency));
    Page {
        title: format!("echoloop bench {}", plan.address),
        subtitle: description::load(plan),
        heads,
        tables: vec![
            rows::requested_and_achieved(outcome),
            rows::quantiles(&rows::latencies(outcome)),
            rows::ends(outcome),
        ],
        latencies: rows::latencies(outcome),
        series: &outcome.series,
        warnings: failed.into_iter().chain(missed).chain(early).collect(),
        run_info: run_info.rows(None),
    }
    .render()
}

/// The page of merged logs.
pub(crate) fn merged(merged: &Merged, run_info: &RunInfo) -> String {
    let latencies = rows::latencies_of_logs(merged);
    let mut heads = vec![
        (units::number(merged.rate), "messages/s"),
        (HumanCount(merged.messages()).to_string(), "messages"),
    ];
    heads.extend(latency_heads(&merged.latency));
    Page {
        title: "echoloop report".to_owned(),
        subtitle: format!("{}, {}", logs(merged.logs), units::duration(merged.elapsed)),
        heads,
        tables: vec![rows::quantiles(&latencies)],
        latencies,
        series: &merged.series,
        warnings: merged.warnings.clone(),
        run_info: run_info.rows(merged.window),
    }
    .render()
}

fn logs(logs: usize) -> String {
    if logs == 1 { "1 log".to_owned() } else { format!("{logs} logs") }
}

fn latency_heads(latency: &Latencies) -> [(String, &'static str); 2] {
    [
        (units::latency(latency.value_at_quantile(0.5)), "median latency"),
        (units::latency(latency.value_at_quantile(0.99)), "99th percentile"),
    ]
}

impl Page<'_> {
    fn render(&self) -> String {
        let mut body =
            format!("<h1>{}</h1><p class=\"sub\">{}</p>", escape(&self.title), escape(&self.subtitle));
        for warning in &self.warnings {
            body.push_str(&format!("<div class=\"card warning\">{}</div>", escape(warning)));
        }
        body.push_str("<div class=\"heads\">");
        for (value, name) in &self.heads {
            let (value, name) = (escape(value), escape(name));
            body.push_str(&format!(
                "<div class=\"card\"><div class=\"value\">{value}</div><div class=\"name\">{name}</div></div>"
            ));
        }
        body.push_str("</div>");
        for rows in &self.tables {
            body.push_str(&format!("<div class=\"card\">{}</div>", table_of(rows)));
        }
        self.render_charts(&mut body);
        body.push_str(&format!("<div class=\"card\">{}</div>", table_of(&self.run_info)));
        let title = escape(&self.title);
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title><style>{STYLE}</style>\
             </head><body><main>{body}<footer>echoloop {version}</footer></main></body></html>\n"
        )
    }

    fn render_charts(&self, body: &mut String) {
        let measured: Vec<_> =
            self.latencies.iter().filter(|(_, histogram)| !histogram.is_empty()).copied().collect();
        let names: Vec<_> = measured.iter().map(|&(name, _)| name).collect();
        let histograms: Vec<_> = measured.iter().map(|&(_, histogram)| histogram).collect();
        body.push_str(&chart("Latency by percentile", &names, &charts::percentiles(&histograms)));
        body.push_str(&chart("Throughput over time", &["messages/s"], &charts::throughput(self.series)));
        let lines = ["median", "99th percentile", "longest"];
        body.push_str(&chart("Latency over time", &lines, &charts::latency_over_time(self.series)));
    }
}

/// A chart with its heading and its legend.
fn chart(heading: &str, names: &[&str], svg: &str) -> String {
    let mut legend = String::new();
    for (name, number) in names.iter().zip(1..=charts::COLOURS.len()) {
        legend.push_str(&format!("<span><i class=\"line-{number}\"></i>{}</span>", escape(name)));
    }
    let heading = escape(heading);
    format!(
        "<div class=\"card\"><h2>{heading}</h2><div class=\"legend\">{legend}</div>\
         <div class=\"wide\">{svg}</div></div>"
    )
}

/// A table. Its first row is a heading if it has more than two cells.
fn table_of(rows: &Rows) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr>{cells}</tr>")
    };
    let has_heading = rows.first().is_some_and(|first| first.len() > 2);
    let (head, body) = rows.split_at(usize::from(has_heading));
    let head: String = head.iter().map(|cells| row(cells, "th")).collect();
    let body: String = body.iter().map(|cells| row(cells, "td")).collect();
    let class = if has_heading { "" } else { " class=\"pairs\"" };
    format!("<div class=\"wide\"><table{class}><thead>{head}</thead><tbody>{body}</tbody></table></div>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::measure::latencies;

    #[test]
    fn what_was_given_as_text_stays_text() {
        assert_eq!(escape("unix:/<a>&\""), "unix:/&lt;a&gt;&amp;&quot;");
        let rows = vec![vec!["<b>".to_owned(), "1".to_owned()]];
        assert!(table_of(&rows).contains("<td>&lt;b&gt;</td>"));
    }

    #[test]
    fn every_colour_of_the_charts_has_one_for_the_dark() {
        assert!(STYLE.contains("prefers-color-scheme: dark"));
        let series = [Interval::default(); 2];
        let histogram = latencies::empty();
        for svg in [
            charts::throughput(&series),
            charts::latency_over_time(&series),
            charts::percentiles(&[&histogram; 3]),
        ] {
            for part in svg.split("=\"#").skip(1) {
                let colour = part.split('"').next().unwrap();
                assert!(
                    STYLE.contains(&format!("=\"#{colour}\"]")),
                    "{colour} is in a chart and not in the style"
                );
            }
        }
    }
}
