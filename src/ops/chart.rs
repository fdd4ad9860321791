//! Small charts of the last minutes, as SVG that is stretched to the width that there is.

use std::fmt::Write;

use super::{samples::SAMPLES_MAX, units::escaped};

/// Units of the drawing; those of its width are samples.
const HEIGHT: f64 = 100.0;

/// One line of a chart.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// From the oldest on, the latest at the right end.
    pub(super) values: Vec<f64>,
}

/// A chart with one line or two.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) lines: Vec<Line>,
    /// Writes a value.
    pub(super) unit: fn(f64) -> String,
    /// What is round: a number of bytes is so in another way.
    pub(super) is_bytes: bool,
    /// The top is not below this.
    pub(super) least_top: f64,
}

impl Chart {
    pub(super) fn render(&self) -> String {
        let all = self.lines.iter().flat_map(|line| &line.values);
        let highest = all.copied().fold(0.0, f64::max);
        let highest = highest.max(self.least_top);
        let top = if self.is_bytes { power_of_two(highest) } else { round_up(highest) };
        let mut legend = String::new();
        let mut drawing = String::new();
        for (number, line) in (1..).zip(&self.lines) {
            let now = (self.unit)(line.values.last().copied().unwrap_or(0.0));
            let name = escaped(line.name);
            // A string takes everything.
            let _ =
                write!(legend, "<span><i class=\"fill-{number}\"></i>{name} <b>{}</b></span>", escaped(&now));
            draw(line, number, top, &mut drawing);
        }
        let (title, top_text) = (escaped(self.title), escaped(&(self.unit)(top)));
        format!(
            "<figure class=\"card\"><figcaption>{title}</figcaption><p class=\"legend\">{legend}</p>\
             <div class=\"plot\"><span class=\"top\">{top_text}</span>\
             <svg viewBox=\"0 0 {SAMPLES_MAX} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{title}\">\
             <path class=\"grid\" d=\"M0 0H{SAMPLES_MAX}M0 {}H{SAMPLES_MAX}M0 {HEIGHT}H{SAMPLES_MAX}\"/>{drawing}</svg></div>\
             <p class=\"axis\"><span>5 min ago</span><span>now</span></p></figure>\n",
            HEIGHT / 2.0,
        )
    }
}

/// The line, and the area below the first one.
fn draw(line: &Line, number: usize, top: f64, drawing: &mut String) {
    let Some(first) = SAMPLES_MAX.checked_sub(line.values.len()) else { return };
    let mut path = String::new();
    for (x, value) in (first + 1..).zip(&line.values) {
        let command = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{command}{x} {:.1}", HEIGHT - HEIGHT * value / top);
    }
    if path.is_empty() {
        return;
    }
    if number == 1 {
        let _ = write!(drawing, "<path class=\"area\" d=\"{path}V{HEIGHT}H{}Z\"/>", first + 1);
    }
    let _ = write!(drawing, "<path class=\"line stroke-{number}\" d=\"{path}\"/>");
}

/// The next of 1, 2 and 5 with zeros.
fn round_up(value: f64) -> f64 {
    let mut step = 1e-6;
    // Numbers of 64 bits end long before.
    for _ in 0..26 {
        for factor in [1.0, 2.0, 5.0] {
            if step * factor >= value {
                return step * factor;
            }
        }
        step *= 10.0;
    }
    value
}

/// The next power of two.
fn power_of_two(value: f64) -> f64 {
    value.log2().ceil().exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::units;

    fn chart(values: Vec<f64>) -> String {
        let lines = vec![Line { name: "<in>", values }];
        Chart { title: "Bytes", lines, unit: units::number, is_bytes: false, least_top: 1.0 }.render()
    }

    #[test]
    fn the_latest_sample_is_at_the_right_end() {
        let svg = chart(vec![0.0, 150.0]);
        assert!(svg.contains("d=\"M299 100.0L300 25.0\""), "{svg}");
        assert!(svg.contains("&lt;in&gt; <b>150</b>") && svg.contains(">200</span>"), "{svg}");
        assert!(!chart(Vec::new()).contains("class=\"line"));
    }

    #[test]
    fn a_scale_ends_with_a_round_number() {
        let tops = [0.3, 1.0, 1.1, 5.0, 5.1, 70_000.0].map(round_up);
        let expected = [0.5, 1.0, 2.0, 5.0, 10.0, 100_000.0];
        assert!(
            tops.iter().zip(expected).all(|(top, expected)| (top / expected - 1.0).abs() < 1e-9),
            "{tops:?}"
        );
        assert!(round_up(1e300).is_finite());
        assert_eq!([1024.0, 1025.0].map(power_of_two), [1024.0, 2048.0]);
    }
}
