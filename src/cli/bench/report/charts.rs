//! Charts of latencies and throughput, as SVG.

use plotters::{
    chart::ChartBuilder,
    drawing::{DrawingAreaErrorKind, IntoDrawingArea},
    prelude::SVGBackend,
    series::{AreaSeries, LineSeries},
    style::{Color, IntoFont, RGBColor, TextStyle},
};

use super::axis::Axis;
use crate::cli::bench::measure::{interval::Interval, latencies::Latencies};

const SIZE: (u32, u32) = (1000, 300);

/// The page shows these colours as they are, or others in their place when it is dark.
const INK: RGBColor = RGBColor(82, 96, 117);
const GRID: RGBColor = RGBColor(226, 232, 240);

/// The colours of the lines of a chart, in their order. Colour-blind people can tell them apart.
pub(super) const COLOURS: [RGBColor; 3] =
    [RGBColor(37, 99, 235), RGBColor(217, 119, 6), RGBColor(190, 24, 93)];

/// Percentiles up to 100 - 100/10^n are shown for n up to this.
const NINES_MAX: u32 = 6;

/// The points of a line, from left to right.
type Line = Vec<(f64, f64)>;

/// Latency by percentile. Each further nine takes as much room as the one before.
pub(crate) fn percentiles(latencies: &[&Latencies]) -> String {
    let nines = |histogram: &&Latencies| nines_of(histogram.len());
    let last = latencies.iter().map(nines).max().unwrap_or(1);
    let line = |histogram| logarithmic(percentile_line(histogram, f64::from(nines(&histogram))));
    let lines: Vec<Line> = latencies.iter().copied().map(line).collect();
    draw(&lines, false, &Axis::nines(last), &log_latency(&lines))
}

/// Messages per second, over time.
pub(crate) fn throughput(series: &[Interval]) -> String {
    let series = without_short_end(series);
    let line = over_time(&series, |interval| interval.rate);
    let most = line.iter().map(|point| point.1).fold(1.0, f64::max);
    draw(&[line], true, &time(&series), &Axis::rate(most * 1.1))
}

/// The median, the 99th percentile and the longest, over time.
pub(crate) fn latency_over_time(series: &[Interval]) -> String {
    let series = without_short_end(series);
    let busy: Vec<Interval> = series.iter().copied().filter(|interval| interval.messages > 0).collect();
    let values: [fn(&Interval) -> f64; 3] =
        [|interval| interval.p50 as f64, |interval| interval.p99 as f64, |interval| interval.max as f64];
    let lines: Vec<Line> = values.into_iter().map(|value| logarithmic(over_time(&busy, value))).collect();
    draw(&lines, false, &time(&series), &log_latency(&lines))
}

/// The series, in which a last interval that is much shorter than the others is a part of the one before. By itself it
/// has too few messages, and would draw a spike where there is none.
fn without_short_end(series: &[Interval]) -> Vec<Interval> {
    let mut series = series.to_vec();
    let longest = series.iter().map(|interval| interval.length).max().unwrap_or_default();
    if let Some(last) = series.pop_if(|last| last.length < longest / 2) {
        match series.last_mut() {
            Some(before) => before.append(&last),
            None => series.push(last),
        }
    }
    series
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

fn time(series: &[Interval]) -> Axis {
    let end = |interval: &Interval| (interval.start + interval.length).as_secs_f64();
    Axis::seconds(series.iter().map(end).fold(1e-3, f64::max))
}

fn log_latency(lines: &[Line]) -> Axis {
    Axis::log_latency(lines.iter().flatten().map(|point| point.1))
}

fn logarithmic(line: Line) -> Line {
    line.into_iter().map(|(x, y)| (x, y.max(1.0).log10())).collect()
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
        .label_style(TextStyle::from(("sans-serif", 16).into_font()).color(&INK))
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
    use crate::cli::bench::measure::{interval::per_second, latencies};

    fn interval(start: Duration, length: Duration, messages: u64) -> Interval {
        let rate = per_second(messages, length);
        Interval { start, length, messages, bytes: None, rate, p50: 5, p99: 7, max: 1_000 }
    }

    #[test]
    fn a_short_last_interval_draws_no_spike() {
        let (second, moment) = (Duration::from_secs(1), Duration::from_micros(300));
        let mut series = vec![interval(Duration::ZERO, second, 1_000), interval(second, second, 1_000)];
        series.push(Interval { p99: 9_000, max: 9_000, ..interval(2 * second, moment, 40) });
        assert!(series[2].rate > 100_000.0);
        let drawn = without_short_end(&series);
        assert_eq!(drawn.len(), 2);
        let last = drawn[1];
        assert_eq!((last.messages, last.length, last.p99, last.max), (1_040, second + moment, 7, 9_000));
        assert!((1_000.0..1_050.0).contains(&last.rate), "{}", last.rate);
        assert_eq!(without_short_end(&series[..2]), series[..2], "a last interval that is not short stays");
        assert_eq!(without_short_end(&series[2..]), series[2..], "and so does the only one");
    }

    #[test]
    fn charts_are_svg_with_or_without_points() {
        let histogram = latencies::empty();
        let second = Duration::from_secs(1);
        let interval = interval(second, second, 9);
        for series in [&[][..], &[interval], &[interval; 3]] {
            for svg in [percentiles(&[&histogram]), throughput(series), latency_over_time(series)] {
                assert!(svg.starts_with("<svg ") && svg.contains("viewBox"), "{svg}");
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }
}
