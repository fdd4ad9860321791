//! A report as one page that needs nothing else.

use plotters::style::RGBColor;

use super::{
    charts,
    hdr::Merged,
    outcome::Outcome,
    samples::Point,
    table::{self, Rows},
    tally::Latencies,
    units,
};

/// What is on a page.
struct Page<'a> {
    title: String,
    subtitle: String,
    /// The most important figures, with what they are.
    heads: Vec<(String, &'static str)>,
    tables: Vec<Rows>,
    latencies: Vec<(&'static str, &'a Latencies)>,
    series: &'a [Point],
    /// What went wrong, if anything did.
    warning: Option<String>,
}

const STYLE: &str = "\
:root{color-scheme:light}\
*{box-sizing:border-box}\
body{margin:0;background:#f8fafc;color:#0f172a;font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\
main{max-width:1080px;margin:0 auto;padding:40px 24px 56px}\
h1{margin:0;font-size:28px;letter-spacing:-.01em}\
h2{margin:0 0 4px;font-size:17px}\
.sub{margin:4px 0 28px;color:#526075}\
.heads{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:16px;margin-bottom:24px}\
.card{background:#fff;border:1px solid #e2e8f0;border-radius:12px;padding:20px 24px;margin-bottom:24px;overflow-x:auto}\
.heads .card{margin:0;padding:16px 20px}\
.value{font-size:26px;font-weight:650;letter-spacing:-.02em;white-space:nowrap}\
.name{color:#526075;font-size:14px}\
.warning{border-color:#fca5a5;background:#fef2f2;color:#991b1b}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:8px 12px;text-align:right;border-bottom:1px solid #eef2f7;white-space:nowrap}\
th:first-child,td:first-child{text-align:left;padding-left:0;color:#526075;font-weight:400}\
thead th{color:#526075;font-weight:600;font-size:14px}\
tbody tr:last-child td{border-bottom:0}\
.pairs td:first-child{width:25%}.pairs td:last-child{text-align:left}\
.legend{display:flex;gap:20px;color:#526075;font-size:14px;margin-bottom:8px}\
.legend i{display:inline-block;width:18px;height:3px;border-radius:2px;margin-right:8px;vertical-align:middle}\
svg{display:block;width:100%;height:auto}\
footer{color:#8593a8;font-size:13px}";

/// The page of a load.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    let (plan, total) = (&outcome.plan, &outcome.total);
    let failures = outcome.ends.failures;
    let early = outcome.interrupted.then(|| "It was ended early: these are the figures so far.".to_owned());
    let failed = (!outcome.is_good()).then(|| format!("Failures: {}.", failures.summary()));
    let unit = if plan.churn { "connections/s" } else { "messages/s" };
    let mut heads = vec![
        (units::number(outcome.rate()), unit),
        (format!("{}/s", units::bytes(outcome.byte_rate())), "each way"),
    ];
    heads.extend(latency_heads(&total.latency));
    Page {
        title: format!("echoloop bench {}", plan.address),
        subtitle: plan.describe(),
        heads,
        tables: vec![
            table::demand(outcome),
            table::latency(&table::latencies(outcome)),
            table::ends(outcome),
        ],
        latencies: table::latencies(outcome),
        series: &outcome.series,
        warning: failed.or(early),
    }
    .render()
}

/// The page of logs that were put together.
pub(crate) fn merged(merged: &Merged, logs: usize) -> String {
    let latencies = table::named(&merged.latency, merged.uncorrected.as_ref(), &merged.connect);
    let mut heads =
        vec![(units::number(merged.rate), "messages/s"), (units::count(merged.latency.len()), "messages")];
    heads.extend(latency_heads(&merged.latency));
    Page {
        title: "echoloop report".to_owned(),
        subtitle: format!("{logs} logs, {}", units::span(merged.elapsed)),
        heads,
        tables: vec![table::latency(&latencies)],
        latencies,
        series: &merged.series,
        warning: None,
    }
    .render()
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
        if let Some(warning) = &self.warning {
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
        let title = escape(&self.title);
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
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

/// A chart with its heading and what its colours mean.
fn chart(heading: &str, names: &[&str], svg: &str) -> String {
    let mut legend = String::new();
    for (name, RGBColor(red, green, blue)) in names.iter().zip(charts::COLOURS) {
        legend.push_str(&format!(
            "<span><i style=\"background:rgb({red},{green},{blue})\"></i>{}</span>",
            escape(name)
        ));
    }
    let heading = escape(heading);
    format!("<div class=\"card\"><h2>{heading}</h2><div class=\"legend\">{legend}</div>{svg}</div>")
}

/// The first row is a heading where it has an empty first cell or says what its columns are.
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
    format!("<table{class}><thead>{head}</thead><tbody>{body}</tbody></table>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_as_text_stays_text() {
        assert_eq!(escape("unix:/<a>&\""), "unix:/&lt;a&gt;&amp;&quot;");
        let rows = vec![vec!["<b>".to_owned(), "1".to_owned()]];
        assert!(table_of(&rows).contains("<td>&lt;b&gt;</td>"));
    }
}
