//! Which security contexts are accepted, and who their principals are here.

use std::fmt;
use std::path::PathBuf;

use super::choice::Choice;
use super::error::Problem;
use super::login;

/// Which security contexts are accepted, and who their principals are here (RFC 1961).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gssapi {
    /// The library, by its path or by a name that the linker knows.
    pub library: PathBuf,
    /// The keys; the library's default if `None`.
    pub keytab: Option<String>,
    /// The service that clients ask for; any that there is a key of if `None`.
    pub service: Option<String>,
    /// The realms that principals may be of, never none; our service's own if `None`.
    pub realms: Option<Vec<String>>,
    /// Who principals are here; the first that fits counts, and nobody is who fits none.
    pub principals: Vec<PrincipalRule>,
    /// What every message must be protected by.
    pub require: Protection,
    /// Whether messages may go unprotected where a client asks for it (level 0).
    pub clear: bool,
}

/// What protects a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nobody can change it.
    Integrity,
    /// Nobody can read it either.
    Confidentiality,
}

impl Choice for Protection {
    const KIND: &'static str = "protection";
    const ALL: &'static [Self] = &[Protection::Integrity, Protection::Confidentiality];
    const ELSEWHERE: &'static [(&'static str, Self)] = &[
        ("encryption", Protection::Confidentiality),
        ("conf", Protection::Confidentiality),
        ("privacy", Protection::Confidentiality),
    ];

    fn word(self) -> &'static str {
        match self {
            Protection::Integrity => "integrity",
            Protection::Confidentiality => "confidentiality",
        }
    }
}

/// Principals, and the user that each of them is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRule {
    /// The principals: a component or the realm may have one `*`, which stands for any run without
    /// `/` and `@`. A `\` takes what is special from what is behind it.
    pub principal: String,
    /// The user, never empty: a `*`, of which there is one at most and none without one in
    /// `principal`, stands for what the first one there does.
    pub user: String,
}

impl PrincipalRule {
    /// Everyone of a realm by the first part of the name: `alice@REALM` is `alice`.
    pub(super) fn default_rules() -> Vec<PrincipalRule> {
        vec![PrincipalRule { principal: "*@*".to_owned(), user: "*".to_owned() }]
    }

    /// Reads `PRINCIPAL=USER`.
    pub(super) fn parse(text: &str) -> Result<PrincipalRule, Problem> {
        check_principal(text)
            .map(|(principal, user)| PrincipalRule {
                principal: principal.to_owned(),
                user: user.to_owned(),
            })
            .map_err(|problem| Problem::new(problem).hint(login::PRINCIPAL))
    }
}

/// The principal and the user of a rule, or what is wrong with it.
fn check_principal(text: &str) -> Result<(&str, &str), &'static str> {
    let special = specials(text)?;
    let Some(&(end, _)) = special.iter().find(|(_, octet)| *octet == b'=') else {
        return Err("who is this principal here?");
    };
    let (principal, user) = (&text[..end], &text[end + 1..]);
    let in_principal = || special.iter().take_while(|(at, _)| *at < end);
    let mut realms = in_principal().filter(|(_, octet)| *octet == b'@');
    let Some(&(name, _)) = realms.next() else {
        return Err("a principal has a name and a realm: alice@EXAMPLE.COM");
    };
    if realms.next().is_some() {
        return Err("the principal has two `@`; one that is part of the name is `\\@`");
    }
    if name == 0 || name + 1 == end || user.is_empty() {
        return Err("the name, the realm or the user is missing");
    }
    let (mut stars, mut is_second) = (0, false);
    for (at, octet) in in_principal() {
        match octet {
            b'*' if is_second => return Err("a part of a principal has one `*` at most"),
            b'*' => (stars, is_second) = (stars + 1, true),
            // There are no parts in a realm.
            b'/' if *at > name => {}
            _ => is_second = false,
        }
    }
    match special.iter().filter(|(at, octet)| *at > end && *octet == b'*').count() {
        0 => Ok((principal, user)),
        1 if stars > 0 => Ok((principal, user)),
        1 => Err("the user has a `*` that the principal has not"),
        _ => Err("the user has more than one `*`"),
    }
}

/// Where there is what has a meaning of its own, and is not behind a `\`.
fn specials(text: &str) -> Result<Vec<(usize, u8)>, &'static str> {
    let mut special = Vec::new();
    let mut octets = text.bytes().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'\\' => drop(octets.next().ok_or("there is nothing behind the last `\\`")?),
            b'*' | b'/' | b'@' | b'=' => special.push((at, octet)),
            _ => {}
        }
    }
    Ok(special)
}

impl fmt::Display for PrincipalRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.principal, self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_a_user() {
        let good = [
            "*@*=*",
            "*@PROXY.TEST=*",
            "*/admin@*=admin-*",
            "host/*@*=hosts",
            "alice@A=bob",
            r"a\=b@A=c",
            r"a\@b/*c\*@A\=/=d=*\\",
        ];
        for text in good {
            assert_eq!(PrincipalRule::parse(text).unwrap().to_string(), text);
        }
        let default: Vec<_> =
            PrincipalRule::default_rules().iter().map(ToString::to_string).collect();
        assert_eq!(default, ["*@*=*"]);
        let bad = [
            ("", "who is this principal"),
            ("alice@A", "who is this principal"),
            ("=alice", "a name and a realm"),
            ("alice=alice", "a name and a realm"),
            ("a@B@C=alice", "two `@`"),
            ("a=b@A=c", "a name and a realm"),
            ("*-*@A=alice", "one `*` at most"),
            ("a@*/*=alice", "one `*` at most"),
            ("a@A=b\\", "behind the last"),
            ("a@A\\=b", "who is this principal"),
            ("@A=alice", "is missing"),
            ("alice@=alice", "is missing"),
            ("alice@A=", "is missing"),
            ("alice@A=*", "that the principal has not"),
            ("*@A=*-*", "more than one"),
        ];
        for (text, expected) in bad {
            let problem = format!("{:?}", PrincipalRule::parse(text).expect_err(text));
            assert!(problem.contains(expected), "{text:?}: {problem}");
        }
    }
}
