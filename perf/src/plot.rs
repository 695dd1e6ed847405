//! Inline SVG: bars with their spread, and curves of percentiles.

use std::fmt::Write;

use crate::page::escaped;
use crate::results::{Figure, Row, Section, Spread};
use crate::table::number;

/// Told apart by those who see colours differently, too.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#b8a600"];

const BAR: f64 = 18.0;
const GAP: f64 = 6.0;
const NAMES: f64 = 160.0;
const BARS: f64 = 230.0;
const VALUES: f64 = 60.0;

/// A bar for each contender that has this figure, with a line from its lowest to its highest round.
pub fn bars(section: &Section, figure: Figure) -> String {
    let Some(column) = section.column(figure) else { return String::new() };
    let spread = |row| -> Option<(usize, &Row, &Spread)> {
        let (index, row): (usize, &Row) = row;
        Some((index, row, row.spreads[column].as_ref()?))
    };
    let shown: Vec<_> = section.rows.iter().enumerate().filter_map(spread).collect();
    let highest = shown.iter().map(|(_, _, spread)| spread.high).fold(0.0, f64::max);
    if highest <= 0.0 {
        return String::new();
    }
    let width = NAMES + BARS + VALUES;
    let height = 24.0 + shown.len() as f64 * (BAR + GAP);
    let mut svg = opened(width, height);
    svg.push_str(&text(0.0, 12.0, "start", figure.label(section.unit)));
    for (line, (index, row, spread)) in shown.iter().enumerate() {
        let top = 22.0 + line as f64 * (BAR + GAP);
        let along = |value: f64| NAMES + value.max(0.0) / highest * BARS;
        svg.push_str(&text(NAMES - 6.0, top + 13.0, "end", &row.contender));
        let _ = writeln!(
            svg,
            "<rect x=\"{NAMES}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
            along(spread.median) - NAMES,
            colour(*index),
        );
        let middle = top + BAR / 2.0;
        svg.push_str(&line_of((along(spread.low), middle), (along(spread.high), middle), "#222"));
        let value = number(spread.median);
        svg.push_str(&text(along(spread.high) + 5.0, top + 13.0, "start", &value));
    }
    svg.push_str("</svg>\n");
    svg
}

const LEFT: f64 = 60.0;
const PLOT: (f64, f64) = (520.0, 260.0);

/// Where the axis of percentiles has its marks: each step is a tenth of what is left.
const PERCENTILES: [(f64, &str); 5] =
    [(0.0, "0"), (90.0, "90 %"), (99.0, "99 %"), (99.9, "99.9 %"), (99.99, "99.99 %")];

/// Latency over percentiles, both logarithmic: what happens to few is as wide as what happens to
/// most.
pub fn curves(section: &Section) -> String {
    let shown: Vec<Curve<'_>> =
        section.rows.iter().enumerate().map(Curve::of).filter(|it| it.points.len() > 1).collect();
    let all = || shown.iter().flat_map(|it| it.points.iter().map(|(_, us)| us.log10()));
    if shown.is_empty() {
        return String::new();
    }
    let low = all().fold(f64::INFINITY, f64::min).floor();
    let high = all().fold(f64::NEG_INFINITY, f64::max).ceil().max(low + 1.0);
    let x = |percentile: f64| LEFT + nines(percentile) / 4.0 * PLOT.0;
    let y = |us: f64| 20.0 + (high - us.log10()) / (high - low) * PLOT.1;
    let mut svg = opened(LEFT + PLOT.0 + 190.0, PLOT.1 + 50.0);
    svg.push_str(&text(0.0, 12.0, "start", "latency, µs"));
    for decade in low as i32..=high as i32 {
        let us = 10f64.powi(decade);
        svg.push_str(&line_of((LEFT, y(us)), (LEFT + PLOT.0, y(us)), "#ddd"));
        svg.push_str(&text(LEFT - 6.0, y(us) + 4.0, "end", &number(us)));
    }
    for (percentile, name) in PERCENTILES {
        let at = x(percentile);
        svg.push_str(&line_of((at, 20.0), (at, 20.0 + PLOT.1), "#ddd"));
        svg.push_str(&text(at, PLOT.1 + 36.0, "middle", name));
    }
    for (line, Curve { index, contender, points }) in shown.iter().enumerate() {
        let point = |(percentile, us): &(f64, f64)| format!("{:.1},{:.1}", x(*percentile), y(*us));
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\" points=\"{}\"/>",
            colour(*index),
            points.iter().map(point).collect::<Vec<_>>().join(" "),
        );
        let top = 28.0 + line as f64 * 16.0;
        let right = LEFT + PLOT.0 + 12.0;
        svg.push_str(&line_of((right, top), (right + 18.0, top), colour(*index)));
        svg.push_str(&text(right + 24.0, top + 4.0, "start", contender));
    }
    svg.push_str("</svg>\n");
    svg
}

/// One contender's line.
struct Curve<'a> {
    index: usize,
    contender: &'a str,
    points: Vec<(f64, f64)>,
}

impl Curve<'_> {
    /// All but the highest latency, whose percentile is beyond every axis.
    fn of((index, row): (usize, &Row)) -> Curve<'_> {
        let is_shown = |&(percentile, us): &(f64, f64)| percentile < 100.0 && us > 0.0;
        let points = row.curve.iter().copied().filter(is_shown).collect();
        Curve { index, contender: &row.contender, points }
    }
}

/// How many nines a percentile has, up to the four that the axis shows.
fn nines(percentile: f64) -> f64 {
    (-(1.0 - percentile / 100.0).log10()).clamp(0.0, 4.0)
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

fn opened(width: f64, height: f64) -> String {
    format!("<svg role=\"img\" width=\"{width}\" height=\"{height}\">\n")
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let text = escaped(text);
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

fn line_of(from: (f64, f64), to: (f64, f64), colour: &str) -> String {
    format!(
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>\n",
        from.0, from.1, to.0, to.1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nine_is_as_wide_as_the_one_before() {
        let rounded = |percentile| (nines(percentile) * 1e6).round() / 1e6;
        assert_eq!(rounded(0.0), 0.0);
        assert_eq!(rounded(90.0), 1.0);
        assert_eq!(rounded(99.9), 3.0);
        assert_eq!(rounded(99.999_999), 4.0);
        assert_eq!(rounded(100.0), 4.0);
    }
}
