//! Results as text: for a terminal, and in Markdown.

use std::fmt::Write;

use crate::machine::Machine;
use crate::results::{Ratio, Row, Section, Spread};

/// How the columns are to be read.
pub const LEGEND: &str = "Figures are medians over the rounds. A column with ÷ is the first row's \
    figure as a part of this row's: the median of the ratios within each round, and the interval \
    around it. Of two rows that are the same build it tells what chance does.";

/// A section for a terminal.
pub fn text(section: &Section) -> String {
    let (header, rows) = cells(section);
    let width = |column: usize| {
        let of_rows = rows.iter().map(|row| row[column].chars().count());
        of_rows.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = format!("\n{}\n", section.title);
    for row in [&header].into_iter().chain(&rows) {
        text.push_str(aligned(row, &widths).trim_end());
        text.push('\n');
    }
    for note in notes(section) {
        let _ = writeln!(text, "  {note}");
    }
    text
}

/// All sections in Markdown.
pub fn markdown(machine: &Machine, sections: &[Section]) -> String {
    let mut text = format!("# What `{}` measured\n\n", machine.command);
    for (name, value) in machine.lines() {
        let _ = writeln!(text, "- {name}: {value}");
    }
    let _ = writeln!(text, "\n{LEGEND}");
    for section in sections {
        let (header, rows) = cells(section);
        let _ = write!(text, "\n## {}\n\n{}", section.title, markdown_row(&header));
        let rule: Vec<&str> = (0..header.len()).map(|it| ["---", "--:"][it.min(1)]).collect();
        let _ = writeln!(text, "|{}|", rule.join("|"));
        rows.iter().for_each(|row| text.push_str(&markdown_row(row)));
        for note in notes(section) {
            let _ = write!(text, "\n{note}\n");
        }
    }
    text
}

/// The header, and a row for each contender, as wide as it.
pub fn cells(section: &Section) -> (Vec<String>, Vec<Vec<String>>) {
    let mut header = vec![String::new()];
    let label = |figure: &crate::results::Figure| figure.label(section.unit);
    header.extend(section.figures.iter().map(|it| label(it).to_owned()));
    header.extend(section.headline.iter().map(|it| format!("÷ {}", label(it))));
    let row = |row: &Row| {
        let mut cells = vec![row.contender.clone()];
        cells.extend(row.spreads.iter().map(|it| it.as_ref().map_or(none(), median)));
        let ratios = section.headline.iter().filter_map(|it| section.column(*it));
        cells.extend(ratios.map(|it| row.ratios[it].as_ref().map_or(none(), ratio)));
        cells
    };
    (header, section.rows.iter().map(row).collect())
}

/// What does not fit into cells: failures, errors, the calls of a session.
pub fn notes(section: &Section) -> Vec<String> {
    let mut notes = Vec::new();
    for row in &section.rows {
        if let Some(why) = row.failures.last() {
            let rounds = row.failures.len();
            notes.push(format!("{} failed in {rounds} of its rounds: {why}", row.contender));
        }
        if row.errors > 0 {
            notes.push(format!("{}: {} errors in all rounds", row.contender, row.errors));
        }
        if !row.calls.is_empty() {
            let calls: Vec<String> = row
                .calls
                .iter()
                .filter(|(_, each)| *each >= 0.005)
                .map(|(name, each)| format!("{name} {each:.2}"))
                .collect();
            notes.push(format!("{}: {}", row.contender, calls.join(", ")));
        }
    }
    notes
}

/// Three digits that count.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.0995 => format!("{value:.3}"),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        size if size < 9_999.5 => format!("{value:.0}"),
        _ => grouped(value),
    }
}

/// Thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn median(spread: &Spread) -> String {
    number(spread.median)
}

fn ratio(ratio: &Ratio) -> String {
    format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high)
}

fn none() -> String {
    "-".to_owned()
}

fn aligned(row: &[String], widths: &[usize]) -> String {
    let mut line = String::from("  ");
    for (column, (cell, &width)) in row.iter().zip(widths).enumerate() {
        let _ = match column {
            0 => write!(line, "{cell:<width$}"),
            _ => write!(line, "  {cell:>width$}"),
        };
    }
    line
}

fn markdown_row(cells: &[String]) -> String {
    let escaped: Vec<String> = cells.iter().map(|it| it.replace('|', "\\|")).collect();
    format!("| {} |\n", escaped.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::sections;
    use crate::results::tests::{moved, trial};

    fn section() -> Section {
        let records = [
            moved("down-1", "ringsocks", 0, 4 << 30, 1.0),
            moved("down-1", "Dante", 0, 2 << 30, 2.0),
        ];
        sections(&[trial("down-1")], &records).remove(0)
    }

    #[test]
    fn numbers_keep_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.0123, "0.012"),
            (0.349, "0.35"),
            (9.4, "9.40"),
            (12.34, "12.3"),
            (163.2, "163"),
            (12_600.0, "12,600"),
            (-1_234_567.0, "-1,234,567"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn every_row_is_as_wide_as_the_header() {
        let (header, rows) = cells(&section());
        assert_eq!(header[1], "Gbit/s");
        assert!(header.contains(&"÷ s/GiB".to_owned()), "{header:?}");
        assert!(rows.iter().all(|row| row.len() == header.len()));
        assert!(rows[1].iter().any(|it| it.starts_with("0.25 (")), "{rows:?}");
        assert_eq!(rows[0].last().unwrap(), "-");
    }

    #[test]
    fn the_terminal_s_columns_stand_below_each_other() {
        let text = text(&section());
        let lines: Vec<&str> = text.lines().skip(2).take(3).collect();
        let at = |line: &str, what: &str| line.find(what).unwrap() + what.len();
        assert_eq!(at(lines[0], "Gbit/s"), at(lines[1], "17.2"), "{text}");
        assert!(text.contains("ringsocks: 1 errors"), "{text}");
    }

    #[test]
    fn a_bar_in_a_name_breaks_no_markdown() {
        assert_eq!(markdown_row(&["a|b".to_owned(), "c".to_owned()]), "| a\\|b | c |\n");
    }
}
