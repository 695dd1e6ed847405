//! Results as one page that needs nothing but itself.

use std::fmt::Write;

use crate::machine::Machine;
use crate::plot;
use crate::results::Section;
use crate::table::{self, LEGEND};

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}\
h2{margin-top:2.5rem;border-bottom:1px solid #ddd}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}\
td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #eee}\
td:first-child,th:first-child{text-align:left}\
dt{float:left;clear:left;width:10rem;color:#666}dd{margin-left:10rem}\
.note{color:#666;font-size:13px}.plots{display:flex;flex-wrap:wrap;gap:1rem;margin:1rem 0}\
svg text{font:11px system-ui,sans-serif;fill:#333}";

/// The whole page.
pub fn html(machine: &Machine, sections: &[Section]) -> String {
    let title = format!("What {} measured", machine.command);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n<dl>\n",
        escaped(&title)
    );
    for (name, value) in machine.lines() {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
    }
    let _ = writeln!(
        page,
        "</dl>\n<p>{LEGEND} Lines through bars reach from the lowest to the \
        highest round.</p>"
    );
    sections.iter().for_each(|it| page.push_str(&section(it)));
    page.push_str("</body>\n</html>\n");
    page
}

/// Text as it may stand anywhere in the page.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn section(section: &Section) -> String {
    let title = escaped(&section.title);
    let mut html = format!("<h2 id=\"{}\">{title}</h2>\n<div class=\"plots\">\n", section.id);
    for &figure in &section.headline {
        html.push_str(&plot::bars(section, figure));
    }
    html.push_str(&plot::curves(section));
    let (header, rows) = table::cells(section);
    let _ = write!(html, "</div>\n<table>\n{}", row(&header, "th"));
    rows.iter().for_each(|cells| html.push_str(&row(cells, "td")));
    html.push_str("</table>\n");
    for note in table::notes(section) {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escaped(&note));
    }
    html
}

fn row(cells: &[String], tag: &str) -> String {
    let cell = |it: &String| format!("<{tag}>{}</{tag}>", escaped(it));
    format!("<tr>{}</tr>\n", cells.iter().map(cell).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::some;
    use crate::results::sections;
    use crate::results::tests::{moved, trial};

    fn page() -> String {
        let work = "open-50";
        let records = [
            moved("down-1", "ringsocks", 0, 4 << 30, 1.0),
            moved("down-1", "Dante", 0, 2 << 30, 2.0),
            moved(work, "ringsocks", 0, 1000, 1.0),
            moved(work, "Dante", 0, 1000, 1.0),
        ];
        html(&some(), &sections(&[trial("down-1"), trial(work)], &records))
    }

    /// The tags that are open at the end, or what is wrong before.
    fn unclosed(page: &str) -> Result<Vec<&str>, String> {
        let mut open = Vec::new();
        for tag in page.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').ok_or_else(|| format!("<{tag} has no end"))?;
            let name = tag.split_whitespace().next().unwrap_or_default();
            if name.starts_with('!') || tag.ends_with('/') {
                continue;
            }
            match name.strip_prefix('/') {
                None => open.push(name),
                Some(closed) if open.last() == Some(&closed) => drop(open.pop()),
                Some(closed) => return Err(format!("</{closed}> in {open:?}")),
            }
        }
        Ok(open)
    }

    #[test]
    fn what_is_opened_is_closed() {
        assert_eq!(unclosed(&page()), Ok(Vec::new()));
        assert!(unclosed("<p><b></p></b>").is_err());
        assert_eq!(unclosed("<p><b></b>"), Ok(vec!["p"]));
    }

    #[test]
    fn nothing_is_loaded_from_anywhere() {
        let page = page();
        for word in ["http:", "https:", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn what_users_say_is_text() {
        let page = page();
        assert!(!page.contains("a<b>") && page.contains("a&lt;b&gt;"));
    }

    #[test]
    fn there_are_bars_and_curves_of_numbers() {
        let page = page();
        assert!(page.contains("<rect") && page.contains("<polyline"));
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }
}
