//! Whatever a client calls itself, its session is one line of fields in their places, and the name
//! can be told from it.

use std::net::{Ipv4Addr, SocketAddr};

use ringsocks::access::{Record, escape};
use ringsocks::proto::{Host, Target};

/// RFC 1929 and RFC 1928 carry at most as much.
const NAME_MAX: usize = 255;

/// A line without the two names takes less.
const LINE_MAX: usize = 500;

/// `input` is the user's name and, behind a zero byte, the host asked for.
pub fn check(input: &[u8]) {
    check_word(input);
    let (user, host) = match input.iter().position(|&byte| byte == 0) {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &b""[..]),
    };
    check_line(user, host);
    // A name may hold zero bytes too.
    check_line(&input[..input.len().min(NAME_MAX)], b"");
}

fn check_word(text: &[u8]) {
    let word = escape(text).to_string();
    assert!(word.bytes().all(|byte| byte.is_ascii_graphic()), "{word:?}");
    assert!(word.len() <= 4 * text.len() + 2, "{} bytes of {}", word.len(), text.len());
    assert_ne!(word, "-", "it says that there is none");
    assert_eq!(unescape(&word), text, "{word}");
}

fn check_line(user: &[u8], host: &[u8]) {
    let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000));
    let none = Record::new(0, 1, client, client);
    let target = Host::parse_name(host).ok().map(|host| Target { host, port: 80 });
    let shown = target.as_ref().map_or("-".to_owned(), Target::to_string);
    let record = Record { user: Some(user.into()), target, ..none.clone() };
    let line = record.to_string();
    assert!(line.len() <= LINE_MAX + 4 * (user.len() + host.len()), "{} bytes", line.len());
    assert!(line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{line:?}");

    let (fields, usual) = (fields(&line), none.to_string());
    let keys = |fields: &[(&str, &str)]| -> Vec<String> {
        fields.iter().map(|(key, _)| key.to_string()).collect()
    };
    assert_eq!(keys(&fields), keys(&self::fields(&usual)), "{line}");
    let value = |key| fields.iter().find(|field| field.0 == key).expect("a key of every line").1;
    assert_eq!(unescape(value("user")), user, "{line}");
    assert_eq!(value("target"), shown, "{line}");
}

/// The fields of a line, as a simple reader finds them.
fn fields(line: &str) -> Vec<(&str, &str)> {
    line.split(' ').map(|field| field.split_once('=').expect("key=value")).collect()
}

/// The bytes that a word was made of, by the rules of [`escape`].
fn unescape(word: &str) -> Vec<u8> {
    let Some(quoted) = word.strip_prefix('"') else { return word.into() };
    let mut rest = quoted.strip_suffix('"').expect("a quote at the end").bytes();
    let mut text = Vec::new();
    while let Some(byte) = rest.next() {
        text.push(match byte {
            b'\\' => unescape_one(&mut rest),
            b'"' => panic!("a quote within {word}"),
            byte => byte,
        });
    }
    text
}

fn unescape_one(rest: &mut impl Iterator<Item = u8>) -> u8 {
    match rest.next().expect("something escaped") {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => {
            let digits: Vec<u8> = rest.take(2).collect();
            let digits = str::from_utf8(&digits).expect("two digits");
            assert_eq!(digits.len(), 2, "two digits");
            u8::from_str_radix(digits, 16).expect("two digits")
        }
        byte @ (b'"' | b'\\') => byte,
        other => panic!("\\{other} is unknown"),
    }
}
