//! What the README says is so.

use std::process::{Command, Output};
use std::{env, fs};

use ringsocks::config::Config;

fn readme() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

fn check(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsocks"));
    for (name, _) in
        env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"RINGSOCKS_"))
    {
        command.env_remove(name);
    }
    command.arg("check").args(arguments).output().unwrap()
}

#[test]
fn its_configuration_is_one_that_runs() {
    let readme = readme();
    let (_, rest) = readme.split_once("```toml\n").expect("there is a configuration");
    let (configuration, _) = rest.split_once("```").expect("it ends");
    // The machine that runs the tests may have one CPU.
    let configuration = configuration.replace("cpus = \"0-1\"", "");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ringsocks.toml");
    fs::write(&file, configuration).unwrap();
    let output = check(&["-c", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("alice") && report.contains("10.0.0.0/8"), "{report}");
}

/// What other configurations need may not be there.
#[test]
fn all_its_configurations_are_some() {
    let readme = readme();
    let configurations: Vec<_> = readme.split("```toml\n").skip(1).collect();
    assert!(configurations.len() >= 2, "they were not found");
    for configuration in configurations {
        let (configuration, _) = configuration.split_once("```").expect("it ends");
        if let Err(error) = Config::parse("README.md", configuration) {
            panic!("{error}");
        }
    }
}

#[test]
fn every_key_is_in_its_table() {
    let (readme, report) = (readme(), String::from_utf8(check(&[]).stdout).unwrap());
    let (mut table, mut keys) = (String::new(), 0);
    for line in report.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_matches(['[', ']']).to_owned() + ".";
        }
        // One that has no value has its name and what that means in a comment.
        let said = line.strip_prefix("# ").and_then(|rest| rest.split_once(": "));
        let Some((name, _)) = said.or_else(|| line.split_once(" = ")) else { continue };
        if name.contains(' ') {
            continue;
        }
        let row = format!("\n| `{table}{name}` | ");
        assert!(readme.contains(&row), "no {row:?}");
        keys += 1;
    }
    assert!(keys >= 40, "{keys} keys:\n{report}");
}

#[test]
fn its_defaults_are_those_that_run() {
    let report = String::from_utf8(check(&[]).stdout).unwrap();
    let mut rows = 0;
    for row in readme().lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let key = cells[1].trim_matches('`');
        let name = key.rsplit('.').next().unwrap();
        let Some(default) = cells[2].strip_prefix('`').and_then(|it| it.strip_suffix('`')) else {
            assert!(report.contains(name), "{key} is no key:\n{report}");
            continue;
        };
        let shown = [format!("{name} = \"{default}\""), format!("{name} = {default}")];
        assert!(
            report.lines().any(|line| shown.iter().any(|shown| line.starts_with(shown))),
            "the default of {key} is not {default}:\n{report}"
        );
        rows += 1;
    }
    assert!(rows >= 10, "the table was not found");
}
