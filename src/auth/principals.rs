use std::mem;

use super::FIELD_MAX;
use crate::config::{Pattern, PrincipalRule};

/// Who a principal is here: the first rule that fits counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principals {
    rules: Vec<PrincipalRule>,
}

/// A Kerberos principal: its components, as `alice` or `host` and `a.example`, and its realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    components: Vec<Vec<u8>>,
    realm: Vec<u8>,
}

impl Principals {
    /// Who principals are by these rules.
    pub fn new(rules: Vec<PrincipalRule>) -> Principals {
        Principals { rules }
    }

    /// Who the principal is, unless it is nobody, or of a name that is longer than any user's.
    pub fn user(&self, principal: &Principal) -> Option<Box<[u8]>> {
        let user = self.rules.iter().find_map(|rule| apply(rule, principal))?;
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

/// Who the principal is by this rule, if that is for it.
fn apply(rule: &PrincipalRule, principal: &Principal) -> Option<Vec<u8>> {
    if rule.components.len() != principal.components.len() {
        return None;
    }
    let patterns = rule.components.iter().chain([&rule.realm]);
    let parts = principal.components.iter().chain([&principal.realm]);
    let mut first: Option<&[u8]> = None;
    for (pattern, part) in patterns.zip(parts) {
        let run = run_of(pattern, part)?;
        first = first.or(pattern.suffix.is_some().then_some(run));
    }
    let Pattern { prefix, suffix } = &rule.user;
    Some(match suffix {
        Some(suffix) => [prefix, first?, suffix].concat(),
        None => prefix.clone(),
    })
}

/// What the `*` stands for if the pattern is for `part`, which is nothing where there is none.
fn run_of<'a>(pattern: &Pattern, part: &'a [u8]) -> Option<&'a [u8]> {
    let Pattern { prefix, suffix } = pattern;
    let Some(suffix) = suffix else { return (part == prefix).then_some(&[]) };
    let run = part.strip_prefix(&prefix[..])?.strip_suffix(&suffix[..])?;
    let is_run = !run.is_empty() && !run.iter().any(|octet| b"/@".contains(octet));
    is_run.then_some(run)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    /// As the configuration has them.
    fn rules(rules: &[&str]) -> Option<Principals> {
        let rules: Vec<_> = rules.iter().map(|rule| format!("'{rule}'")).collect();
        let text = format!("gssapi.principals = [{}]", rules.join(", "));
        let config = Config::parse("ringsocks.toml", &text).ok()?;
        Some(Principals::new(config.gssapi.principals))
    }

    fn user(rules: &[&str], principal: &str) -> Option<String> {
        let rules = self::rules(rules).expect("these are rules");
        let user = rules.user(&Principal::parse(principal.as_bytes())?)?;
        Some(String::from_utf8(user.into()).unwrap())
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
        let alice = Principal::parse(b"alice@PROXY.TEST").unwrap();
        assert_eq!(Principals::new(Vec::new()).user(&alice), None);
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

    proptest! {
        #[test]
        fn any_principal_is_somebody_or_nobody(
            octets: Vec<u8>,
            text in r"[ab/@\\*]{0,12}",
            rule in r"[ab/@=\\*]{0,14}|[a*]/?[b*]@[a*]=[ab*]{1,3}",
        ) {
            let Some(rules) = rules(&[&rule]) else { return Ok(()) };
            for text in [&octets, text.as_bytes()] {
                let user = Principal::parse(text).and_then(|principal| rules.user(&principal));
                prop_assert!(user.is_none_or(|user| !user.is_empty()));
            }
        }

        /// However a principal is written, the default rule lets nobody be who holds a divider.
        #[test]
        fn a_run_never_holds_a_divider(text in r"[ab/@\\*]{0,12}") {
            let rules = Principals::new(Config::default().gssapi.principals);
            if let Some(user) = Principal::parse(text.as_bytes()).and_then(|it| rules.user(&it)) {
                prop_assert!(!user.is_empty());
                prop_assert!(!user.iter().any(|octet| b"/@".contains(octet)), "{text}");
            }
        }
    }
}
