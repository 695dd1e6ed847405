//! Rules that say who principals are.

use std::{fmt, mem};

use super::error::Problem;
use super::login;

/// Principals, and the user that each of them is: `PRINCIPAL=USER`.
///
/// In PRINCIPAL each component and the realm may hold one `*`, which stands for one byte or more but
/// neither `/` nor `@`; a `*` in USER for what the first of them stands for. A `\` takes what is
/// special from the character behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRule {
    /// As it was said.
    text: String,
    /// The components of the name, as `alice` or `host` and `*.example`.
    pub components: Vec<Pattern>,
    /// The realm.
    pub realm: Pattern,
    /// The user; no `*` is in it unless one is in the principal.
    pub user: Pattern,
}

/// A text with one `*` at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// What stands before the `*`; all of it if there is none.
    pub prefix: Vec<u8>,
    /// What stands behind the `*`, if there is one.
    pub suffix: Option<Vec<u8>>,
}

impl PrincipalRule {
    /// Everyone of a realm by the first part of the name: `alice@REALM` is `alice`.
    pub(super) fn default_rules() -> Vec<PrincipalRule> {
        let any = || Pattern { prefix: Vec::new(), suffix: Some(Vec::new()) };
        let text = "*@*=*".to_owned();
        vec![PrincipalRule { text, components: vec![any()], realm: any(), user: any() }]
    }

    /// Reads `PRINCIPAL=USER`.
    pub(super) fn parse(text: &str) -> Result<PrincipalRule, Problem> {
        read(text).map_err(|problem| Problem::new(problem).hint(login::PRINCIPAL))
    }
}

fn read(text: &str) -> Result<PrincipalRule, &'static str> {
    let mut rest = text.bytes();
    let (components, realm) = read_principal(&mut rest)?;
    let user = read_user(&mut rest)?;
    if components == [Pattern::default()] || realm.is_empty() || user.is_empty() {
        return Err("the name, the realm or the user is missing");
    }
    let has_star = components.iter().chain([&realm]).any(|part| part.suffix.is_some());
    if user.suffix.is_some() && !has_star {
        return Err("the user has a `*` that the principal has not");
    }
    Ok(PrincipalRule { text: text.to_owned(), components, realm, user })
}

/// The components and the realm, up to the `=`.
fn read_principal(
    rest: &mut impl Iterator<Item = u8>,
) -> Result<(Vec<Pattern>, Pattern), &'static str> {
    let (mut components, mut last, mut in_realm) = (Vec::new(), Pattern::default(), false);
    loop {
        match rest.next().ok_or("who is this principal here?")? {
            b'=' if in_realm => return Ok((components, last)),
            b'=' => return Err("a principal has a name and a realm: alice@EXAMPLE.COM"),
            b'@' if in_realm => {
                return Err("the principal has two `@`; one that is part of the name is `\\@`");
            }
            octet @ (b'@' | b'/') if !in_realm => {
                components.push(mem::take(&mut last));
                in_realm = octet == b'@';
            }
            b'*' if last.suffix.is_some() => {
                return Err("a part of a principal has one `*` at most");
            }
            octet => last.add(octet, rest)?,
        }
    }
}

fn read_user(rest: &mut impl Iterator<Item = u8>) -> Result<Pattern, &'static str> {
    let mut user = Pattern::default();
    while let Some(octet) = rest.next() {
        match octet {
            b'*' if user.suffix.is_some() => return Err("the user has more than one `*`"),
            octet => user.add(octet, rest)?,
        }
    }
    Ok(user)
}

impl Pattern {
    /// Adds a character, which takes another from the rest if it is a `\`.
    fn add(&mut self, octet: u8, rest: &mut impl Iterator<Item = u8>) -> Result<(), &'static str> {
        let octet = match octet {
            b'*' => {
                self.suffix = Some(Vec::new());
                return Ok(());
            }
            b'\\' => rest.next().ok_or("there is nothing behind the last `\\`")?,
            octet => octet,
        };
        self.suffix.as_mut().unwrap_or(&mut self.prefix).push(octet);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.prefix.is_empty() && self.suffix.is_none()
    }
}

impl fmt::Display for PrincipalRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_principal_is_a_user() {
        for text in [
            "*@*=*",
            "*@PROXY.TEST=*",
            "*/admin@*=admin-*",
            "host/*@*=hosts",
            "alice@A=bob",
            r"a\=b@A=c",
            r"a\@b/*c\*@A\=/=d=*\\",
        ] {
            assert_eq!(PrincipalRule::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(PrincipalRule::default_rules(), [PrincipalRule::parse("*@*=*").unwrap()]);
    }

    #[test]
    fn a_rule_has_its_parts() {
        let pattern = |prefix: &str, suffix: Option<&str>| Pattern {
            prefix: prefix.into(),
            suffix: suffix.map(Into::into),
        };
        let rule = PrincipalRule::parse(r"a\@b/*c\*@A\=/=d=*\\").unwrap();
        assert_eq!(rule.components, [pattern("a@b", None), pattern("", Some("c*"))]);
        assert_eq!(rule.realm, pattern("A=/", None));
        assert_eq!(rule.user, pattern("d=", Some("\\")));
    }

    #[test]
    fn what_is_no_rule_is_an_error_that_says_why() {
        for (text, expected) in [
            ("", "who is this principal"),
            ("alice@A", "who is this principal"),
            ("=alice", "a name and a realm"),
            ("alice=alice", "a name and a realm"),
            ("a@B@C=alice", "two `@`"),
            ("a=b@A=c", "a name and a realm"),
            ("*-*@A=alice", "one `*` at most"),
            ("a*b*@A=al", "one `*` at most"),
            ("a@*/*=alice", "one `*` at most"),
            ("a@A=b\\", "behind the last"),
            ("a\\", "behind the last"),
            ("a@A\\=b", "who is this principal"),
            ("@A=alice", "is missing"),
            ("alice@=alice", "is missing"),
            ("alice@A=", "is missing"),
            ("alice@A=*", "that the principal has not"),
            ("*@A=*-*", "more than one"),
            ("*@*=**", "more than one"),
        ] {
            let problem = format!("{:?}", PrincipalRule::parse(text).expect_err(text));
            assert!(problem.contains(expected), "{text:?}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_or_none(text in r"\PC*|[ab/@=\\*]{0,14}") {
            if let Ok(rule) = PrincipalRule::parse(&text) {
                prop_assert_eq!(rule.to_string(), text);
                prop_assert!(!rule.components.is_empty());
            }
        }
    }
}
