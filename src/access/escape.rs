use std::fmt::{self, Write};

/// Untrusted bytes, shown as one word of printable ASCII; made by [`escape`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a [u8]);

/// Shows any bytes as one word: printable ASCII without a space, at most four characters a byte and
/// two quotes, from which the bytes can be told.
///
/// What is plain stays as it is. The rest stands in quotes, with `\"`, `\\`, `\n`, `\r`, `\t`, and
/// `\xNN` for every other byte that is not a visible character. A space is `\x20`, so that nobody's
/// name can look like another field. Nothing at all, and `-`, which means that there is no value,
/// are quoted too.
pub fn escape(text: &[u8]) -> Escaped<'_> {
    Escaped(text)
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(plain) = self.as_plain() {
            return f.write_str(plain);
        }
        f.write_char('"')?;
        self.0.iter().try_for_each(|&octet| match octet {
            b'"' => f.write_str("\\\""),
            b'\\' => f.write_str("\\\\"),
            b'\n' => f.write_str("\\n"),
            b'\r' => f.write_str("\\r"),
            b'\t' => f.write_str("\\t"),
            octet if octet.is_ascii_graphic() => f.write_char(octet.into()),
            octet => write!(f, "\\x{octet:02x}"),
        })?;
        f.write_char('"')
    }
}

impl<'a> Escaped<'a> {
    fn as_plain(&self) -> Option<&'a str> {
        let is_plain = |octet: &u8| octet.is_ascii_graphic() && !b"\"\\=".contains(octet);
        match self.0 {
            b"" | b"-" => None,
            text if text.iter().all(is_plain) => str::from_utf8(text).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes that a word was made of.
    pub(crate) fn unescape(word: &str) -> Vec<u8> {
        let Some(quoted) = word.strip_prefix('"') else { return word.into() };
        let mut rest = quoted.strip_suffix('"').expect("a quote at the end").bytes();
        let mut text = Vec::new();
        while let Some(octet) = rest.next() {
            assert_ne!(octet, b'"', "a quote ends the word: {word}");
            text.push(match octet {
                b'\\' => match rest.next().expect("something escaped") {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'x' => {
                        let digits = [rest.next().unwrap(), rest.next().unwrap()];
                        u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    octet @ (b'"' | b'\\') => octet,
                    other => panic!("\\{other} is unknown"),
                },
                octet => octet,
            });
        }
        text
    }

    fn check(text: &[u8]) {
        let word = escape(text).to_string();
        assert!(word.bytes().all(|octet| octet.is_ascii_graphic()), "{word:?}");
        assert!(!word.is_empty() && word != "-");
        assert!(word.len() <= 4 * text.len() + 2);
        assert!(word.starts_with('"') || !word.contains(['"', '=', '\\']), "{word}");
        assert_eq!(unescape(&word), text);
    }

    #[test]
    fn plain_words_stay_as_they_are() {
        for word in ["alice", "bob@example.com", "DOMAIN/user", "a-b_c.d", "--", "'%$"] {
            assert_eq!(escape(word.as_bytes()).to_string(), word);
        }
    }

    #[test]
    fn what_is_not_plain_is_quoted() {
        for (text, expected) in [
            (&b""[..], r#""""#),
            (b"-", r#""-""#),
            (b"a b", r#""a\x20b""#),
            (b"x user=root", r#""x\x20user=root""#),
            (b"\"\\", r#""\"\\""#),
            (b"a\r\n\tb\0", r#""a\r\n\tb\x00""#),
            (b"\x1b[31m\x7f", r#""\x1b[31m\x7f""#),
            ("\u{202e}é".as_bytes(), r#""\xe2\x80\xae\xc3\xa9""#),
            (b"\xff\xfe", r#""\xff\xfe""#),
        ] {
            assert_eq!(escape(text).to_string(), expected);
        }
    }

    #[test]
    fn every_byte_and_every_pair_is_told_back() {
        for first in 0..=u8::MAX {
            check(&[first]);
            (0..=u8::MAX).for_each(|second| check(&[first, second]));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_word_and_told_back(
            text in prop::collection::vec(any::<u8>(), 0..=255),
        ) {
            check(&text);
        }
    }
}
