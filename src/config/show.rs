//! Values as a file would have them.

use std::time::Duration;

/// Shows a list of strings as a file would have it.
pub(super) fn show_list(items: &[impl ToString]) -> String {
    let quoted: Vec<_> = items.iter().map(|item| format!("\"{}\"", item.to_string())).collect();
    format!("[{}]", quoted.join(", "))
}

/// Shows a list of texts that may have anything in them.
pub(super) fn show_texts(items: &[impl ToString]) -> String {
    let quoted: Vec<_> = items.iter().map(|item| show_text(&item.to_string())).collect();
    format!("[{}]", quoted.join(", "))
}

/// Shows a size with the largest unit that gives a whole number.
pub(super) fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut number, mut unit) = (bytes, 0);
    while number % 1024 == 0 && number > 0 && unit + 1 < UNITS.len() {
        (number, unit) = (number / 1024, unit + 1);
    }
    format!("\"{number}{}\"", UNITS[unit])
}

/// Shows a duration as a file would have it.
pub(super) fn show_duration(duration: Duration) -> String {
    match duration {
        Duration::ZERO => "0".to_owned(),
        _ => format!("\"{}\"", humantime::format_duration(duration)),
    }
}

/// Shows a text as a file would have it, with no character that could not be seen.
pub(super) fn show_text(text: &str) -> String {
    let mut shown = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => shown.extend(['\\', character]),
            '\'' => shown.push(character),
            _ if character.escape_debug().len() > 1 => {
                shown += &format!("\\U{:08x}", u32::from(character));
            }
            _ => shown.push(character),
        }
    }
    shown + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_of_a_text_is_shown_by_its_number() {
        assert_eq!(show_text("bob b"), r#""bob b""#);
        assert_eq!(show_text(r#"a"b\c'dü"#), r#""a\"b\\c'dü""#);
        assert_eq!(show_text("a\u{8}\n\u{202e}"), r#""a\U00000008\U0000000a\U0000202e""#);
        assert_eq!(show_texts(&["a", "b\""]), r#"["a", "b\""]"#);
    }
}
