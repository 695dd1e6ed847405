//! A configuration is read or refused; what is shown of it reads back as the same, and an error is
//! printable, of a bounded length, and shows no password.

use ringsocks::config::Config;

/// A password, to be found again where it must not be.
const PASSWORD: &str = "hunter2";

/// `input` is a file.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Config::parse("ringsocks.toml", text) {
        Ok(config) => check_report(&config),
        Err(error) => check_error(text, &error.to_string()),
    }
}

fn check_report(config: &Config) {
    let shown = config.to_string();
    let with_passwords = shown.replace(" = \"***\"", " = \"plain:x\"");
    match Config::parse("shown", &with_passwords) {
        Ok(read) => {
            assert_eq!(format!("{read:?}"), format!("{config:?}"), "read back:\n{shown}");
            assert_eq!(read.to_string(), shown);
        }
        Err(error) => panic!("{error}\nreading back:\n{with_passwords}"),
    }
}

fn check_error(text: &str, error: &str) {
    let printable = error.lines().all(|line| !line.chars().any(char::is_control));
    assert!(printable, "not printable: {error:?}");
    // A line of the file, what is marked in it, a key, and our own words.
    assert!(error.len() < 4 * text.len() + 1000, "{} bytes: {error}", error.len());
    let is_password = [format!(" = \"plain:{PASSWORD}\""), format!(" = \"$2b${PASSWORD}\"")]
        .iter()
        .any(|said| text.contains(said));
    let is_secret = is_password && text.matches(PASSWORD).count() == 1;
    assert!(!is_secret || !error.contains(PASSWORD), "it shows the password: {error}");
}
