//! Every input the fuzzers in `tests/fuzz` kept, and every one that ever crashed them, holds now.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

// Its own crate's face is what is public there.
#[allow(unreachable_pub)]
#[path = "fuzz/src/lib.rs"]
mod properties;

#[test]
fn access_line() {
    replay("access_line", properties::access_line::check);
}

#[test]
fn datagram() {
    replay("datagram", properties::datagram::check);
}

#[test]
fn dns_answer() {
    replay("dns_answer", properties::dns_answer::check);
}

#[test]
fn framing() {
    replay("framing", properties::framing::check);
}

proptest! {
    #[test]
    fn framing_of_whatever_comes(script in prop::collection::vec(any::<u8>(), 0..200)) {
        properties::framing::check(&script);
    }
}

#[test]
fn negotiation() {
    replay("negotiation", properties::negotiation::check);
}

#[test]
fn configuration() {
    replay("configuration", properties::configuration::check);
}

#[test]
fn reassembly() {
    replay("reassembly", properties::reassembly::check);
}

proptest! {
    #[test]
    fn reassembly_of_whatever_comes(script in prop::collection::vec(any::<u8>(), 0..600)) {
        properties::reassembly::check(&script);
    }
}

#[test]
fn resolver() {
    replay("resolver", properties::resolver::check);
}

#[test]
fn every_target_is_replayed() {
    let mut targets = files(&fuzz_folder().join("targets"));
    targets.iter_mut().for_each(|path| *path = path.file_stem().unwrap().into());
    targets.sort();
    let replayed = [
        "access_line",
        "configuration",
        "datagram",
        "dns_answer",
        "framing",
        "negotiation",
        "reassembly",
        "resolver",
    ];
    assert_eq!(targets, replayed.map(PathBuf::from));
}

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = files(&fuzz_folder().join("corpus").join(target));
    assert!(!corpus.is_empty(), "the corpus of {target} was not found");
    // A target that never crashed has no folder.
    let crashes = fuzz_folder().join("crashes").join(target);
    let crashes = if crashes.exists() { files(&crashes) } else { Vec::new() };
    for path in corpus.iter().chain(&crashes) {
        let input = fs::read(path).unwrap();
        let held = panic::catch_unwind(|| check(&input));
        assert!(held.is_ok(), "{}: see above", path.display());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}
