//! The axes of charts: their ranges, and where which labels are.

use std::ops::Range;

use plotters::coord::{
    ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
    types::RangedCoordf64,
};

use crate::cli::bench::units;

/// About how many grid lines are easy to read.
const TICKS: f64 = 6.0;

/// An axis of a chart.
#[derive(Clone)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    /// Where there is a grid line with a label.
    ticks: Vec<f64>,
    label: fn(f64) -> String,
}

impl Axis {
    /// Percentiles by the number of their nines, from none to this many.
    pub(super) fn nines(to: u32) -> Self {
        let ticks = (0..=to).map(f64::from).collect();
        Self { from: 0.0, to: f64::from(to), ticks, label: percentile_label }
    }

    /// Rates per second, from 0.
    pub(super) fn rate(to: f64) -> Self {
        Self::linear(to, rate_label)
    }

    /// Seconds, from 0.
    pub(super) fn seconds(to: f64) -> Self {
        Self::linear(to, |seconds| format!("{} s", units::number(seconds)))
    }

    /// Logarithms of latencies. The range holds all of `values`; grid lines are at 1, 2 and 5 of each decade.
    pub(super) fn log_latency(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (least, most) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max));
        let from = if least.is_finite() { least.min(most - 0.3) - 0.08 } else { 0.0 };
        let to = most.max(from + 0.5) + 0.08;
        let every: &[f64] = if to - from > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let ticks = (0..13)
            .flat_map(|decade| every.iter().map(move |step| step.log10() + f64::from(decade)))
            .filter(|tick| (from..=to).contains(tick))
            .collect();
        Self { from, to, ticks, label: latency_label }
    }

    /// From 0, with labels at round numbers.
    fn linear(to: f64, label: fn(f64) -> String) -> Self {
        let step = round_step(to / TICKS);
        let ticks = (0..100).map(|n| f64::from(n) * step).take_while(|&tick| tick <= to).collect();
        Self { from: 0.0, to, ticks, label }
    }
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

/// The smallest 1, 2 or 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * decade).find(|&step| step >= least).unwrap_or(10.0 * decade)
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

#[cfg(test)]
mod tests {
    use super::*;

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
