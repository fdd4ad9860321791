//! Charts of latencies and throughput, as SVG.

use std::ops::Range;

use plotters::{
    chart::ChartBuilder,
    coord::{
        ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
        types::RangedCoordf64,
    },
    drawing::{DrawingAreaErrorKind, IntoDrawingArea},
    prelude::SVGBackend,
    series::{AreaSeries, LineSeries},
    style::{Color, IntoFont, RGBColor, TextStyle},
};

use crate::cli::bench::{
    measure::{interval::Interval, latencies::Latencies},
    units,
};

const SIZE: (u32, u32) = (1000, 300);

const INK: RGBColor = RGBColor(82, 96, 117);
const GRID: RGBColor = RGBColor(226, 232, 240);

/// The colours of the lines of a chart, in their order. Colour-blind people can tell them apart.
pub(crate) const COLOURS: [RGBColor; 3] =
    [RGBColor(37, 99, 235), RGBColor(217, 119, 6), RGBColor(190, 24, 93)];

/// Percentiles up to 100 - 100/10^n are shown for n up to this.
const NINES_MAX: u32 = 6;

/// About how many grid lines are easy to read.
const TICKS: f64 = 6.0;

/// The points of a line, from left to right.
type Line = Vec<(f64, f64)>;

/// An axis of a chart: its range, and where labels are.
#[derive(Clone)]
struct Axis {
    from: f64,
    to: f64,
    ticks: Vec<f64>,
    label: fn(f64) -> String,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Light points would be grid lines between the labels.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(*value)
    }
}

/// Latency by percentile. Each further nine takes as much room as the one before.
pub(crate) fn percentiles(latencies: &[&Latencies]) -> String {
    let nines = |histogram: &&Latencies| nines_of(histogram.len());
    let last = latencies.iter().map(nines).max().unwrap_or(1);
    let line = |histogram| logarithmic(percentile_line(histogram, f64::from(nines(&histogram))));
    let lines: Vec<Line> = latencies.iter().copied().map(line).collect();
    let ticks = (0..=last).map(f64::from).collect();
    let x = Axis { from: 0.0, to: f64::from(last), ticks, label: percentile_label };
    draw(&lines, false, &x, &decades(&lines))
}

/// Messages per second, over time.
pub(crate) fn throughput(series: &[Interval]) -> String {
    let line = over_time(series, Interval::rate);
    let most = line.iter().map(|point| point.1).fold(1.0, f64::max);
    let y = Axis::linear(most * 1.1, rate_label);
    draw(&[line], true, &time(series), &y)
}

/// The median, the 99th percentile and the longest, over time.
pub(crate) fn latency_over_time(series: &[Interval]) -> String {
    let busy: Vec<Interval> = series.iter().copied().filter(|interval| interval.messages > 0).collect();
    let values: [fn(&Interval) -> f64; 3] =
        [|interval| interval.p50 as f64, |interval| interval.p99 as f64, |interval| interval.max as f64];
    let lines: Vec<Line> = values.into_iter().map(|value| logarithmic(over_time(&busy, value))).collect();
    draw(&lines, false, &time(series), &decades(&lines))
}

/// How many nines the percentile of the longest of `count` latencies has. Higher percentiles have no data.
fn nines_of(count: u64) -> u32 {
    (1..NINES_MAX).find(|&nines| 10_u64.pow(nines) >= count).unwrap_or(NINES_MAX)
}

fn percentile_line(histogram: &Latencies, last: f64) -> Line {
    const STEPS: u32 = 240;
    let point = |step| {
        let nines = last * f64::from(step) / f64::from(STEPS);
        (nines, histogram.value_at_quantile(1.0 - 10_f64.powf(-nines)) as f64)
    };
    (0..=STEPS).map(point).collect()
}

/// A point for each interval, at its middle.
fn over_time(series: &[Interval], value: impl Fn(&Interval) -> f64) -> Line {
    let middle = |interval: &Interval| (interval.start + interval.length / 2).as_secs_f64();
    series.iter().map(|interval| (middle(interval), value(interval))).collect()
}

fn logarithmic(line: Line) -> Line {
    line.into_iter().map(|(x, y)| (x, y.max(1.0).log10())).collect()
}

fn time(series: &[Interval]) -> Axis {
    let end =
        series.iter().map(|interval| (interval.start + interval.length).as_secs_f64()).fold(0.0, f64::max);
    Axis::linear(end.max(1e-3), |seconds| format!("{} s", units::number(seconds)))
}

/// An axis for the logarithms of latencies, with grid lines at 1, 2 and 5 of each decade.
fn decades(lines: &[Line]) -> Axis {
    let values = || lines.iter().flatten().map(|point| point.1);
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let from = if least.is_finite() { least.min(most - 0.3) - 0.08 } else { 0.0 };
    let to = most.max(from + 0.5) + 0.08;
    let every: &[f64] = if to - from > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let ticks = (0..13)
        .flat_map(|decade| every.iter().map(move |step| step.log10() + f64::from(decade)))
        .filter(|tick| (from..=to).contains(tick))
        .collect();
    Axis { from, to, ticks, label: latency_label }
}

fn percentile_label(nines: f64) -> String {
    let percent = 100.0 - 100.0 * 10_f64.powf(-nines);
    let text = format!("{percent:.4}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The label for the logarithm of a latency.
fn latency_label(logarithm: f64) -> String {
    let nanos = format!("{:.0}", 10_f64.powf(logarithm));
    nanos.parse().map_or(nanos, units::latency).replace(".0 ", " ")
}

fn rate_label(rate: f64) -> String {
    if rate >= 1e6 {
        return format!("{}M", units::number(rate / 1e6));
    }
    if rate >= 1e3 { format!("{}k", units::number(rate / 1e3)) } else { units::number(rate) }
}

impl Axis {
    /// From 0, with labels at round numbers.
    fn linear(to: f64, label: fn(f64) -> String) -> Self {
        let step = round_step(to / TICKS);
        let ticks = (0..100).map(|n| f64::from(n) * step).take_while(|&tick| tick <= to).collect();
        Self { from: 0.0, to, ticks, label }
    }
}

/// The smallest 1, 2 or 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * decade).find(|&step| step >= least).unwrap_or(10.0 * decade)
}

/// A chart as SVG; empty if it cannot be drawn.
fn draw(lines: &[Line], filled: bool, x: &Axis, y: &Axis) -> String {
    let mut svg = String::new();
    if let Err(error) = draw_into(&mut svg, lines, filled, x, y) {
        log::warn!("cannot draw a chart: {error}");
        svg.clear();
    }
    svg
}

fn draw_into(
    svg: &mut String,
    lines: &[Line],
    filled: bool,
    x: &Axis,
    y: &Axis,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .margin_right(34)
        .x_label_area_size(32)
        .y_label_area_size(72)
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .light_line_style(GRID.mix(0.0))
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(TextStyle::from(("sans-serif", 14).into_font()).color(&INK))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS) {
        let points = || line.iter().copied();
        if filled {
            chart.draw_series(AreaSeries::new(points(), y.from, colour.mix(0.12)))?;
        }
        chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
    }
    area.present()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::bench::measure::latencies;

    #[test]
    fn charts_are_svg_with_or_without_points() {
        let histogram = latencies::empty();
        let second = Duration::from_secs(1);
        let interval =
            Interval { start: second, length: second, messages: 9, bytes: None, p50: 5, p99: 7, max: 1_000 };
        for series in [&[][..], &[interval], &[interval; 3]] {
            for svg in [percentiles(&[&histogram]), throughput(series), latency_over_time(series)] {
                assert!(svg.starts_with("<svg ") && svg.contains("viewBox"), "{svg}");
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn labels_are_round() {
        let percent = [0.0, 1.0, 2.0, 3.0, 5.0].map(percentile_label);
        assert_eq!(percent, ["0%", "90%", "99%", "99.9%", "99.999%"]);
        assert_eq!(latency_label(5.0), "100 µs");
        assert_eq!(latency_label(7.0), "10 ms");
        assert_eq!(rate_label(150_000.0), "150k");
        assert_eq!(round_step(1.7), 2.0);
        assert_eq!(round_step(6.0), 10.0);
    }
}
