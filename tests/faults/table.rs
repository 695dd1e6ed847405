//! The tables of rows and tests stay true.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rows of the catalogue that are owed, and those of GSSAPI.
const OWED: &str = "L1 L2 L3 L4 L5 L7 L9 L11 L12 L13 R8 H1 H2 H3 H4 H5 H6 H7 H8 H9 H10 \
    D1 D2 D3 D4 D5 D6 D7 D8 D9 D10 D11 D12 D13 D14 D15 \
    R1 R3 R4 R5 R6 R7 R9 R12 R14 R15 \
    U1 U2 U3 U4 U5 U6 U7 U8 U9 U10 U11 U12 U13 U14 O7 O8 O9 S1 S2 S3 S4 S5 S6 S7 S10 S12 S13 S14 \
    G1 G2 G3 G4 G5 G6 G7 G8 G9 G10 G11 G12 G13 G14 G15 G16 G17 G18 G19 G20 G21 G22";

/// A line of a table: a row, and a test that proves it.
struct Proof {
    row: String,
    test: String,
}

/// What the tables at the top of the test crates say.
fn proofs() -> Vec<Proof> {
    let folders = fs::read_dir(root().join("tests")).expect("the tests are there");
    let tables = folders.filter_map(|it| fs::read_to_string(it.ok()?.path().join("main.rs")).ok());
    let proofs: Vec<Proof> =
        tables.flat_map(|text| text.lines().filter_map(proof).collect::<Vec<_>>()).collect();
    assert!(proofs.len() > 50, "the tables were not found");
    proofs
}

fn proof(line: &str) -> Option<Proof> {
    let (row, test) = line.strip_prefix("//! | ")?.strip_suffix("` |")?.split_once(" | `")?;
    Some(Proof { row: row.to_owned(), test: test.to_owned() })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_row_that_is_owed_has_its_tests() {
    let proved: BTreeSet<String> = proofs().into_iter().map(|proof| proof.row).collect();
    let missing: Vec<&str> = OWED.split_whitespace().filter(|it| !proved.contains(*it)).collect();
    assert!(missing.is_empty(), "no test is named for {missing:?}");
}

#[test]
fn every_test_that_is_named_exists() {
    for Proof { row, test } in proofs() {
        let (file, name) = source(&test);
        let text = fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{row}: {}: {error}", file.display()));
        assert!(is_test(&text, name), "{row}: {} has no test {name}", file.display());
    }
}

/// Where `crate::module::function` stands, and the function's name.
fn source(test: &str) -> (PathBuf, &str) {
    let (path, name) = test.rsplit_once("::").unwrap_or(("", test));
    let base = match path.strip_prefix("ringsocks::") {
        Some(module) => {
            root().join("src").join(module.trim_end_matches("::tests").replace("::", "/"))
        }
        None => root().join("tests").join(path.replace("::", "/")),
    };
    let candidates = [base.with_extension("rs"), base.join("main.rs"), base.join("mod.rs")];
    let found = candidates.iter().find(|file| file.is_file());
    (found.unwrap_or(&candidates[0]).clone(), name)
}

/// Whether the function is marked as a test, or stands in a list of rows beside its definition.
fn is_test(text: &str, name: &str) -> bool {
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else { return false };
    let attributes = before.rsplit("\n\n").next().unwrap_or_default();
    let is_row =
        || before.split(|it: char| !it.is_alphanumeric() && it != '_').any(|it| it == name);
    attributes.contains("#[test]") || is_row()
}
