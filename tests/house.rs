//! What the design asks of the source and a compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the bottom up, as `src/lib.rs` draws them: a module uses those below it, and
/// itself.
const LAYERS: [&[&str]; 9] = [
    &["sys", "outcome", "token", "timers"],
    &["config", "logging", "metrics"],
    &["proto"],
    &["dns"],
    &["auth", "policy", "relay", "offload", "access"],
    &["session"],
    &["reactor"],
    &["process"],
    &["main", "lib"],
];

/// Who may name mio.
const KNOW_MIO: [&str; 3] = ["reactor", "token", "process"];

struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(&root).unwrap();
            let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
            let module = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            sources.push(Source { path, module, text });
        }
    }
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|modules| modules.contains(&module))
        .unwrap_or_else(|| panic!("{module} stands in no layer: see LAYERS and src/lib.rs"))
}

/// The modules of ours that a line of code names.
fn used(line: &str) -> impl Iterator<Item = &str> {
    let code = if line.trim_start().starts_with("//") { "" } else { line };
    code.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn a_layer_uses_only_those_below_it() {
    for Source { path, module, text } in sources() {
        for (number, line) in text.lines().enumerate() {
            for used in used(line).filter(|used| *used != module) {
                assert!(
                    layer(used) < layer(&module),
                    "{}:{}: {module} uses {used}, which is not below it",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn only_the_outer_layers_know_mio() {
    for Source { path, module, text } in sources() {
        assert!(
            KNOW_MIO.contains(&module.as_str()) || !text.contains("mio::"),
            "{} names mio",
            path.display()
        );
    }
}

#[test]
fn unsafe_stands_in_sys_and_nowhere_else() {
    for Source { path, module, text } in sources() {
        let allows = text.contains("allow(unsafe_code)");
        assert_eq!(allows, module == "sys", "{}", path.display());
    }
}

#[test]
fn nothing_is_left_behind() {
    for Source { path, text, .. } in sources() {
        for word in ["todo!(", "unimplemented!(", "dbg!(", "TODO", "FIXME", "#[ignore]"] {
            assert!(!text.contains(word), "{} holds {word}", path.display());
        }
    }
}

/// A client that could foresee where a table puts what it sends could make every look-up slow.
#[test]
fn every_table_is_hashed_with_a_seed() {
    let guessable = ["BuildHasherDefault", "with_hasher(", "DefaultHasher::new", "Fnv", "FxHash"];
    for Source { path, text, .. } in sources() {
        for word in guessable {
            assert!(!text.contains(word), "{} holds {word}", path.display());
        }
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    for hasher in ["fnv", "fxhash", "rustc-hash", "nohash"] {
        assert!(!manifest.contains(hasher), "Cargo.toml names {hasher}");
    }
}
