//! What a run leaves behind: a table, a page and the figures for programs.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::machine::Machine;
use crate::page;
use crate::results::Section;
use crate::table;

#[derive(Serialize)]
struct Document<'a> {
    machine: &'a Machine,
    sections: &'a [Section],
}

/// Writes `latest.json`, `latest.html` and `latest.md`.
pub fn write(folder: &Path, machine: &Machine, sections: &[Section]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let json = serde_json::to_string_pretty(&Document { machine, sections })?;
    let files = [
        ("latest.json", json + "\n"),
        ("latest.html", page::html(machine, sections)),
        ("latest.md", table::markdown(machine, sections)),
    ];
    files.into_iter().try_for_each(|(name, text)| fs::write(folder.join(name), text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::some;
    use crate::results::sections;
    use crate::results::tests::{moved, trial};

    #[test]
    fn a_program_can_read_the_figures() {
        let folder = tempfile::tempdir().unwrap();
        let records = [moved("down-1", "ringsocks", 0, 4 << 30, 1.0)];
        write(folder.path(), &some(), &sections(&[trial("down-1")], &records)).unwrap();
        let text = fs::read_to_string(folder.path().join("latest.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["sections"][0]["figures"][1], "processor");
        assert_eq!(json["sections"][0]["rows"][0]["spreads"][1]["median"], 0.25);
        assert_eq!(json["machine"]["rounds"], 6);
        let markdown = fs::read_to_string(folder.path().join("latest.md")).unwrap();
        assert!(markdown.contains("## bulk down, 1 flow"), "{markdown}");
    }
}
