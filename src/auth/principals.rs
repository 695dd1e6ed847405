use std::error::Error;
use std::fmt;
use std::mem;

use super::FIELD_MAX;

/// Who a principal is here: rules of the form `PRINCIPAL=USER`, the first that matches counts.
///
/// In PRINCIPAL each component and the realm may hold one `*`, which stands for one byte or more but
/// neither `/` nor `@`; a `*` in USER for what the first of them stands for. A `\` takes what is
/// special from the character behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principals {
    rules: Vec<Rule>,
}

/// A Kerberos principal: its components, as `alice` or `host` and `a.example`, and its realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    components: Vec<Vec<u8>>,
    realm: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    components: Vec<Pattern>,
    realm: Pattern,
    user: Pattern,
}

/// What stands before a `*`, and behind it if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pattern {
    prefix: Vec<u8>,
    suffix: Option<Vec<u8>>,
}

impl Principals {
    /// Reads the rules; fails on the first that is none.
    pub fn parse<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Principals, RuleError> {
        let rules = rules.into_iter().map(|text| {
            Rule::parse(text).map_err(|problem| RuleError { rule: text.into(), problem })
        });
        Ok(Principals { rules: rules.collect::<Result<_, _>>()? })
    }

    /// Who the principal is, unless it is nobody, or of a name that is longer than any user's.
    pub fn user(&self, principal: &Principal) -> Option<Box<[u8]>> {
        let user = self.rules.iter().find_map(|rule| rule.apply(principal))?;
        (user.len() <= FIELD_MAX).then(|| user.into())
    }
}

impl Principal {
    /// Reads what `krb5_unparse_name` writes. Without a realm it is no principal.
    pub fn parse(text: &[u8]) -> Option<Principal> {
        let (mut components, mut last, mut in_realm) = (Vec::new(), Vec::new(), false);
        let mut rest = text.iter();
        while let Some(&octet) = rest.next() {
            match octet {
                b'\\' => last.push(unescape(*rest.next()?)),
                b'@' if in_realm => return None,
                b'@' | b'/' if !in_realm => {
                    components.push(mem::take(&mut last));
                    in_realm = octet == b'@';
                }
                octet => last.push(octet),
            }
        }
        in_realm.then_some(Principal { components, realm: last })
    }

    /// Its realm.
    pub fn realm(&self) -> &[u8] {
        &self.realm
    }
}

fn unescape(octet: u8) -> u8 {
    match octet {
        b'n' => b'\n',
        b't' => b'\t',
        b'b' => 0x08,
        b'0' => 0,
        octet => octet,
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Rule, Problem> {
        let (mut components, mut last, mut in_realm) = (Vec::new(), Pattern::default(), false);
        let mut rest = text.bytes();
        loop {
            match rest.next().ok_or(Problem::NoUser)? {
                b'=' => break,
                b'@' if in_realm => return Err(Problem::TwoRealms),
                octet @ (b'@' | b'/') if !in_realm => {
                    components.push(mem::take(&mut last));
                    in_realm = octet == b'@';
                }
                octet => last.read(octet, &mut rest)?,
            }
        }
        if !in_realm {
            return Err(Problem::NoRealm);
        }
        let realm = last;
        let mut user = Pattern::default();
        while let Some(octet) = rest.next() {
            user.read(octet, &mut rest)?;
        }
        let has_star = components.iter().chain([&realm]).any(|part| part.suffix.is_some());
        match &user {
            user if *user == Pattern::default() => Err(Problem::NoUser),
            user if user.suffix.is_some() && !has_star => Err(Problem::NothingToStandFor),
            _ => Ok(Rule { components, realm, user }),
        }
    }

    fn apply(&self, principal: &Principal) -> Option<Vec<u8>> {
        if self.components.len() != principal.components.len() {
            return None;
        }
        let patterns = self.components.iter().chain([&self.realm]);
        let parts = principal.components.iter().chain([&principal.realm]);
        let mut first: Option<&[u8]> = None;
        for (pattern, part) in patterns.zip(parts) {
            let run = pattern.run_of(part)?;
            first = first.or(pattern.suffix.is_some().then_some(run));
        }
        let Pattern { prefix, suffix } = &self.user;
        Some(match suffix {
            Some(suffix) => [prefix, first?, suffix].concat(),
            None => prefix.clone(),
        })
    }
}

impl Pattern {
    /// Adds a character, which takes another from the rest if it is a `\`.
    fn read(&mut self, octet: u8, rest: &mut impl Iterator<Item = u8>) -> Result<(), Problem> {
        let octet = match octet {
            b'*' if self.suffix.is_some() => return Err(Problem::TwoStars),
            b'*' => {
                self.suffix = Some(Vec::new());
                return Ok(());
            }
            b'\\' => rest.next().ok_or(Problem::NothingEscaped)?,
            octet => octet,
        };
        self.suffix.as_mut().unwrap_or(&mut self.prefix).push(octet);
        Ok(())
    }

    /// What the `*` stands for if this is `part`, which is nothing where there is none.
    fn run_of<'a>(&self, part: &'a [u8]) -> Option<&'a [u8]> {
        let Some(suffix) = &self.suffix else { return (part == self.prefix).then_some(&[]) };
        let run = part.strip_prefix(&self.prefix[..])?.strip_suffix(&suffix[..])?;
        let is_run = !run.is_empty() && !run.iter().any(|octet| b"/@".contains(octet));
        is_run.then_some(run)
    }
}

/// A rule that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    rule: Box<str>,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    NoRealm,
    TwoRealms,
    NoUser,
    TwoStars,
    NothingToStandFor,
    NothingEscaped,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.problem {
            Problem::NoRealm => "the principal has no \"@\" and realm",
            Problem::TwoRealms => "the principal has two \"@\"; one that is part of it is \"\\@\"",
            Problem::NoUser => "there is no \"=\" and user behind the principal",
            Problem::TwoStars => "a part of a principal, and a user, may hold one \"*\"",
            Problem::NothingToStandFor => "the user has a \"*\" and the principal has none",
            Problem::NothingEscaped => "there is nothing behind the last \"\\\"",
        };
        write!(f, "\"{}\": {why}", self.rule.escape_debug())
    }
}

impl Error for RuleError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    fn user(rules: &[&str], principal: &str) -> Option<String> {
        let rules = Principals::parse(rules.iter().copied()).unwrap();
        let user = rules.user(&Principal::parse(principal.as_bytes())?)?;
        Some(String::from_utf8(user.into()).unwrap())
    }

    fn problem(rule: &str) -> Problem {
        Principals::parse([rule]).unwrap_err().problem
    }

    #[test]
    fn a_name_without_its_realm_is_the_user() {
        let rules = ["*@*=*"];
        assert_eq!(user(&rules, "alice@PROXY.TEST").as_deref(), Some("alice"));
        for stranger in ["alice/admin@PROXY.TEST", "alice", "alice@", "@PROXY.TEST", "@", ""] {
            assert_eq!(user(&rules, stranger), None, "{stranger}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rules = ["root@PROXY.TEST=nobody", "*/admin@PROXY.TEST=admin-*", "*@*=*", "*/*@*=*"];
        for (principal, expected) in [
            ("root@PROXY.TEST", "nobody"),
            ("root@OTHER.TEST", "root"),
            ("alice/admin@PROXY.TEST", "admin-alice"),
            ("alice/admin@OTHER.TEST", "alice"),
            ("host/a.example@OTHER.TEST", "host"),
        ] {
            assert_eq!(user(&rules, principal).as_deref(), Some(expected), "{principal}");
        }
        assert_eq!(user(&rules, "a/b/c@PROXY.TEST"), None);
        assert_eq!(user(&[], "alice@PROXY.TEST"), None);
    }

    #[test]
    fn what_stands_around_a_star_must_be_there() {
        let rules = ["svc-*-web@*.TEST=*", "x*x@A=*"];
        assert_eq!(user(&rules, "svc-one-web@PROXY.TEST").as_deref(), Some("one"));
        assert_eq!(user(&rules, "svc--web@PROXY.TEST"), None);
        assert_eq!(user(&rules, "svc-web@PROXY.TEST"), None);
        assert_eq!(user(&rules, "svc-one-web@.TEST"), None);
        assert_eq!(user(&rules, "svc-one-web@proxy.test"), None);
        assert_eq!(user(&rules, "xx@A"), None);
        assert_eq!(user(&rules, "xxx@A").as_deref(), Some("x"));
        assert_eq!(user(&["alice@*=*"], "alice@PROXY.TEST").as_deref(), Some("PROXY.TEST"));
    }

    /// `alice\@corp.example@PROXY.TEST` is a name of PROXY.TEST's, not alice of corp.example.
    #[test]
    fn what_is_escaped_divides_nothing() {
        for principal in [r"alice\@corp.example@PROXY.TEST", r"alice\/admin@PROXY.TEST"] {
            assert_eq!(user(&["*@*=*", "*/*@*=*"], principal), None, "{principal}");
        }
        let rules = [r"alice\@corp.example@PROXY.TEST=al", r"\*@PROXY.TEST=star", r"a\=b@A=c\*=d"];
        assert_eq!(user(&rules, r"alice\@corp.example@PROXY.TEST").as_deref(), Some("al"));
        assert_eq!(user(&rules, "*@PROXY.TEST").as_deref(), Some("star"));
        assert_eq!(user(&rules, "bob@PROXY.TEST"), None);
        assert_eq!(user(&rules, "a=b@A").as_deref(), Some("c*=d"));
        assert_eq!(user(&["*@*=*"], r"a\nb\t\b\0\\@A").as_deref(), Some("a\nb\t\x08\0\\"));
    }

    #[test]
    fn what_is_no_principal_is_nobody() {
        for text in [&b"a@b@c"[..], b"a", b"a@b\\", b"\\", b"a\\@b", b""] {
            assert_eq!(Principal::parse(text), None, "{}", text.escape_ascii());
        }
        let principal = Principal::parse(b"a/b@C/D").unwrap();
        assert_eq!(principal.realm(), b"C/D");
        assert_eq!(principal.components.len(), 2);
    }

    #[test]
    fn a_user_has_no_longer_name_than_can_be_said() {
        let longest = "x".repeat(FIELD_MAX);
        assert_eq!(user(&["*@*=*"], &format!("{longest}@A")), Some(longest.clone()));
        assert_eq!(user(&["*@*=*"], &format!("{longest}x@A")), None);
        assert_eq!(user(&["*@*=*"], &format!("{}@A", "y".repeat(70_000))), None);
        assert_eq!(user(&["*@*=user"], &format!("{longest}x@A")).as_deref(), Some("user"));
        assert_eq!(user(&["*@*=user"], &format!("{}@A", "/".repeat(70_000))), None);
    }

    #[test]
    fn what_is_no_rule_is_an_error_that_names_it() {
        assert_eq!(problem("alice=al"), Problem::NoRealm);
        assert_eq!(problem("=al"), Problem::NoRealm);
        assert_eq!(problem("a@b@c=al"), Problem::TwoRealms);
        assert_eq!(problem("alice@A"), Problem::NoUser);
        assert_eq!(problem("alice@A="), Problem::NoUser);
        assert_eq!(problem(""), Problem::NoUser);
        assert_eq!(problem("a*b*@A=al"), Problem::TwoStars);
        assert_eq!(problem("*@*=**"), Problem::TwoStars);
        assert_eq!(problem("alice@A=*"), Problem::NothingToStandFor);
        assert_eq!(problem("alice@A=a\\"), Problem::NothingEscaped);
        assert_eq!(
            Principals::parse(["*@*=*", "alice=al"]).unwrap_err().to_string(),
            "\"alice=al\": the principal has no \"@\" and realm"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: Vec<u8>, rule: String) {
            let principal = Principal::parse(&text);
            if let (Some(principal), Ok(rules)) = (principal, Principals::parse([&rule[..]])) {
                rules.user(&principal);
            }
        }

        /// The configuration has been told what is wrong with a rule before it comes here.
        #[test]
        fn a_rule_of_the_configuration_is_one(rule in r"[ab/@=\\*]{0,14}|[a*]/?[b*]@[a*]=[ab*]{1,3}") {
            let text = format!("gssapi.principals = ['{rule}']");
            match Config::parse("ringsocks.toml", &text) {
                Ok(_) => prop_assert!(Principals::parse([&rule[..]]).is_ok(), "{rule}"),
                Err(error) => prop_assert!(
                    Principals::parse([&rule[..]]).is_err() || error.to_string().contains("missing"),
                    "{rule}: {error}"
                ),
            }
        }

        /// However a principal is written, the default rule lets nobody be who holds a divider.
        #[test]
        fn a_run_never_holds_a_divider(text in r"[ab/@\\*]{0,12}") {
            let rules = Principals::parse(["*@*=*"]).unwrap();
            if let Some(user) = Principal::parse(text.as_bytes()).and_then(|it| rules.user(&it)) {
                prop_assert!(!user.is_empty());
                prop_assert!(!user.iter().any(|octet| b"/@".contains(octet)), "{text}");
            }
        }
    }
}
