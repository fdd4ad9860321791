//! The figures for the eye: for each workload the one that matters most there, as a ratio to echoloop's, a bar for
//! each peer. Bars to the right of the line are what a peer needs more, bars to the left what it needs less.

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    report::{
        Report, ratio,
        table::{columns, times},
    },
    workloads::Workload,
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const COLUMNS: i32 = 2;
const MARGIN: i32 = 40;
const HEADER: i32 = 124;
const PANEL_WIDTH: i32 = 580;
const PANEL_HEADER: i32 = 70;
const ROW: i32 = 21;
const BAR: i32 = 13;

/// Within a panel: where names end, and the scale's ends.
const NAMES: i32 = 80;
const SCALE_LEFT: i32 = 134;
const SCALE_RIGHT: i32 = 500;

/// The ratios at the scale's ends. Bars beyond them are cut; their figures say how long they are.
const SMALLEST: f64 = 0.25;
const LARGEST: f64 = 16.0;

const INK: RGBColor = RGBColor(31, 41, 55);
const FAINT: RGBColor = RGBColor(107, 114, 128);
const RULE: RGBColor = RGBColor(229, 231, 235);
const MORE: RGBColor = RGBColor(100, 137, 190);
const LESS: RGBColor = RGBColor(224, 142, 69);

/// What the colours become where the reader prefers a dark page. Bars are fine on both.
const IN_THE_DARK: [(RGBColor, &str); 4] =
    [(WHITE, "#0D1117"), (INK, "#E6EDF3"), (FAINT, "#9198A1"), (RULE, "#30363D")];

pub(crate) fn render(report: &Report) -> String {
    let workloads: Vec<&Workload> = report.workloads().collect();
    let rows = workloads.iter().map(|workload| report.peers(workload).count()).max().unwrap_or(0);
    let height = PANEL_HEADER + ROW * count(rows) - ROW + 36;
    let lines = (count(workloads.len()) + COLUMNS - 1) / COLUMNS;
    let size = (2 * MARGIN + COLUMNS * PANEL_WIDTH, HEADER + lines * height + 12);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (size.0.unsigned_abs(), size.1.unsigned_abs()))
            .into_drawing_area();
        // Only a file could fail.
        let drawn = draw(&area, report, &workloads, height);
        drawn.and_then(|()| area.present().map_err(|error| error.to_string())).unwrap_or_default();
    }
    svg.replacen('>', &format!(">\n{}", style()), 1)
}

/// The style sheet of the picture, for readers who prefer a dark page.
fn style() -> String {
    let rules = IN_THE_DARK.map(|(RGBColor(red, green, blue), dark)| {
        let light = format!("#{red:02X}{green:02X}{blue:02X}");
        format!("[fill=\"{light}\"] {{ fill: {dark} }} [stroke=\"{light}\"] {{ stroke: {dark} }}\n")
    });
    format!("<style>@media (prefers-color-scheme: dark) {{\n{}}}</style>", rules.concat())
}

/// The number of things of which there are a few.
fn count(things: usize) -> i32 {
    i32::try_from(things).expect("a few")
}

fn draw(area: &Area<'_>, report: &Report, workloads: &[&Workload], height: i32) -> Result<(), String> {
    area.fill(&WHITE).map_err(|error| error.to_string())?;
    text(area, "What the server costs, as a ratio to echoloop", (MARGIN, 34), 24, INK, HPos::Left)?;
    let explanation = format!(
        "Medians of interleaved rounds. echoloop is 1, the scale logarithmic. {}",
        report.setup.in_words()
    );
    text(area, &explanation, (MARGIN, 62), 14, FAINT, HPos::Left)?;
    legend(area)?;
    for (n, workload) in (0..).zip(workloads) {
        let origin = (MARGIN + n % COLUMNS * PANEL_WIDTH, HEADER + n / COLUMNS * height);
        draw_panel(area, report, workload, origin)?;
    }
    Ok(())
}

fn legend(area: &Area<'_>) -> Result<(), String> {
    let mut x = MARGIN;
    for (colour, what, width) in [(MORE, "more than echoloop", 160), (LESS, "less than echoloop", 160)] {
        rectangle(area, (x, 79), (x + 13, 92), colour)?;
        text(area, what, (x + 20, 86), 13, INK, HPos::Left)?;
        x += width;
    }
    Ok(())
}

fn draw_panel(
    area: &Area<'_>,
    report: &Report,
    workload: &Workload,
    origin: (i32, i32),
) -> Result<(), String> {
    let (left, top) = origin;
    let column = &columns(workload)[workload.matters as usize];
    let (reference, ours) = (workload.kind.reference(), report.ours(workload));
    let own = ours.as_ref().map_or("not measured".into(), |ours| column.show(ours));
    text(area, &format!("{}: {}", workload.name, column.title), (left, top + 4), 15, INK, HPos::Left)?;
    text(area, &format!("{reference} {own}"), (left + SCALE_RIGHT + 50, top + 4), 13, INK, HPos::Right)?;
    text(area, workload.title, (left, top + 24), 12, FAINT, HPos::Left)?;

    let others: Vec<_> = report.peers(workload).filter(|peer| peer.name != reference).collect();
    let bottom = top + PANEL_HEADER + ROW * count(others.len());
    scale(area, left, top + PANEL_HEADER - 8, bottom)?;
    let mut y = top + PANEL_HEADER + ROW / 2;
    for peer in others {
        text(area, peer.name, (left + NAMES, y), 13, INK, HPos::Right)?;
        let theirs = report.medians(workload, peer.name).ok();
        let values = theirs.as_ref().and_then(column.value).zip(ours.as_ref().and_then(column.value));
        match values.and_then(|(theirs, ours)| ratio(theirs, ours)) {
            Some(ratio) => bar(area, left, y, ratio)?,
            None => text(area, "failed", (position(left, 1.0) + 6, y), 12, FAINT, HPos::Left)?,
        }
        y += ROW;
    }
    // On top of the bars.
    line(area, position(left, 1.0), top + PANEL_HEADER - 8, bottom, INK)
}

/// The ticks of the scale.
fn scale(area: &Area<'_>, left: i32, top: i32, bottom: i32) -> Result<(), String> {
    for (ratio, label) in
        [(0.25, "¼"), (0.5, "½"), (1.0, "1"), (2.0, "2"), (4.0, "4"), (8.0, "8"), (16.0, "16")]
    {
        let x = position(left, ratio);
        line(area, x, top, bottom, RULE)?;
        text(area, label, (x, top - 9), 11, FAINT, HPos::Center)?;
    }
    Ok(())
}

fn bar(area: &Area<'_>, left: i32, y: i32, ratio: f64) -> Result<(), String> {
    let (one, end) = (position(left, 1.0), position(left, ratio));
    let (colour, label, anchor) =
        if ratio >= 1.0 { (MORE, end + 6, HPos::Left) } else { (LESS, end - 6, HPos::Right) };
    rectangle(area, (one.min(end), y - BAR / 2), (one.max(end), y + BAR / 2 + 1), colour)?;
    if ratio > LARGEST {
        rectangle(area, (end - 14, y - BAR / 2), (end - 10, y + BAR / 2 + 1), WHITE)?;
    }
    text(area, &times(ratio), (label, y), 12, INK, anchor)
}

/// Where a ratio is on the scale of a panel.
fn position(left: i32, ratio: f64) -> i32 {
    let share = (ratio.clamp(SMALLEST, LARGEST) / SMALLEST).ln() / (LARGEST / SMALLEST).ln();
    #[expect(clippy::cast_possible_truncation, reason = "a share of the panel's width")]
    let offset = (share * f64::from(SCALE_RIGHT - SCALE_LEFT)).round() as i32;
    left + SCALE_LEFT + offset
}

fn rectangle(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<(), String> {
    area.draw(&Rectangle::new([from, to], colour.filled())).map_err(|error| error.to_string())
}

fn line(area: &Area<'_>, x: i32, top: i32, bottom: i32, colour: RGBColor) -> Result<(), String> {
    area.draw(&PathElement::new(vec![(x, top), (x, bottom)], colour)).map_err(|error| error.to_string())
}

fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    anchor: HPos,
) -> Result<(), String> {
    let style = ("sans-serif", size).into_font().color(&colour).pos(Pos::new(anchor, VPos::Center));
    area.draw(&Text::new(text, at, style)).map_err(|error| error.to_string())
}
