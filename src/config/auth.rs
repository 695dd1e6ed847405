//! Who has to say who they are, and how.

use std::fmt;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::choice::Choice;
use super::error::Problem;
use super::listen::parse_network;
use super::login;
use super::show::{show_list, show_texts};

/// How clients from somewhere may log in. The first rule of a listener that is for a client counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRule {
    /// The networks that it is for; for everyone if it is empty.
    pub from: Vec<IpNet>,
    /// How, never empty and none twice, the one we like best first.
    pub methods: Vec<AuthMethod>,
    /// The groups that a user must be in one of; in none if it is empty.
    pub groups: Vec<String>,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// Not at all.
    None,
    /// By name and password (RFC 1929).
    Password,
    /// By a security context (RFC 1961).
    Gssapi,
}

impl Choice for AuthMethod {
    const KIND: &'static str = "method";
    const ALL: &'static [Self] = &[AuthMethod::None, AuthMethod::Password, AuthMethod::Gssapi];
    const ELSEWHERE: &'static [(&'static str, Self)] = &[
        ("noauth", AuthMethod::None),
        ("anonymous", AuthMethod::None),
        ("username", AuthMethod::Password),
        ("userpass", AuthMethod::Password),
        ("kerberos", AuthMethod::Gssapi),
        ("krb5", AuthMethod::Gssapi),
    ];

    fn word(self) -> &'static str {
        match self {
            AuthMethod::None => "none",
            AuthMethod::Password => "password",
            AuthMethod::Gssapi => "gssapi",
        }
    }
}

impl AuthRule {
    /// A rule for whoever comes.
    pub fn for_everyone(methods: Vec<AuthMethod>) -> AuthRule {
        AuthRule { from: Vec::new(), methods, groups: Vec::new() }
    }

    /// Reads what a variable can say of a rule: `127.0.0.0/8+::1=gssapi+password`.
    pub(super) fn parse(text: &str) -> Result<AuthRule, Problem> {
        let (from, methods) = match text.split_once('=') {
            Some((networks, methods)) => (parse_joined(networks, parse_network)?, methods),
            None => (Vec::new(), text),
        };
        AuthRule::new(from, parse_joined(methods, AuthMethod::parse)?, Vec::new())
    }

    /// A rule that says something; it has no place in its list, and no problem with one.
    pub(super) fn new(
        from: Vec<IpNet>,
        methods: Vec<AuthMethod>,
        groups: Vec<String>,
    ) -> Result<AuthRule, Problem> {
        if methods.is_empty() {
            return Err(Problem::new("nobody could log in by this rule")
                .hint("leave the rule out: who fits no rule is not served"));
        }
        if let Some(again) = (1..methods.len()).find(|&at| methods[..at].contains(&methods[at])) {
            let problem = format!("{} is given twice", methods[again].show());
            return Err(Problem::new(problem).hint(login::METHODS));
        }
        if !groups.is_empty() && methods.contains(&AuthMethod::None) {
            return Err(Problem::new("who comes by \"none\" is nobody, and in no group")
                .hint("leave out \"none\" or `groups`"));
        }
        Ok(AuthRule { from, methods, groups })
    }

    /// Refuses no rules, and one that those before it leave nobody to.
    pub(super) fn check_all(rules: &[AuthRule]) -> Result<(), Problem> {
        if rules.is_empty() {
            return Err(Problem::new("nobody could be served").hint(login::AUTH));
        }
        let mut taken: Vec<IpNet> = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let networks = rule.networks();
            let is_taken = |network: &IpNet| taken.iter().any(|it| it.contains(network));
            if networks.iter().all(is_taken) {
                return Err(Problem::new("no client would come to this rule")
                    .hint(
                        "the first that fits counts: small networks first, the rule without \
                           `from` last",
                    )
                    .in_item(index));
            }
            taken.extend(networks);
            taken = IpNet::aggregate(&taken);
        }
        Ok(())
    }

    /// Whether somebody who is not on loopback may come without saying who it is.
    pub(super) fn serves_strangers(&self) -> bool {
        let is_outside = |network: &IpNet| {
            let loopback = match network {
                IpNet::V4(_) => IpNet::V4(Ipv4Net::new_assert([127, 0, 0, 0].into(), 8)),
                IpNet::V6(_) => IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128)),
            };
            !loopback.contains(network)
        };
        self.methods.contains(&AuthMethod::None) && self.networks().iter().any(is_outside)
    }

    /// Whom it is for, everyone said in networks.
    fn networks(&self) -> Vec<IpNet> {
        match self.from.is_empty() {
            true => vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())],
            false => self.from.clone(),
        }
    }
}

/// As a file would have it.
impl fmt::Display for AuthRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ ")?;
        if !self.from.is_empty() {
            write!(f, "from = {}, ", show_list(&self.from))?;
        }
        let words: Vec<_> = self.methods.iter().map(|method| method.word()).collect();
        write!(f, "methods = {}", show_list(&words))?;
        if !self.groups.is_empty() {
            write!(f, ", groups = {}", show_texts(&self.groups))?;
        }
        f.write_str(" }")
    }
}

/// What is joined by `+`.
fn parse_joined<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    text.split('+').map(|part| parse(part.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Vec<AuthRule> {
        texts.iter().map(|text| AuthRule::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_word_says_networks_and_methods() {
        let shown = |text| AuthRule::parse(text).map(|rule| rule.to_string());
        assert_eq!(shown("none").unwrap(), "{ methods = [\"none\"] }");
        let both = "{ methods = [\"gssapi\", \"password\"] }";
        assert_eq!(shown("gssapi + password").unwrap(), both);
        assert_eq!(
            shown("127.0.0.0/8+::1=none").unwrap(),
            "{ from = [\"127.0.0.0/8\", \"::1/128\"], methods = [\"none\"] }"
        );
        let bad = [
            ("", "this is no method"),
            ("none+", "this is no method"),
            ("=none", "not an IP address"),
            ("::1=", "this is no method"),
            ("::1", "this is no method"),
            ("10.0.0.1/8=none", "the start of a network"),
            ("kerberos", "did you mean \\\"gssapi\\\"?"),
            ("passwd", "did you mean \\\"password\\\"?"),
            ("none+password+none", "\\\"none\\\" is given twice"),
        ];
        for (text, expected) in bad {
            let problem = format!("{:?}", AuthRule::parse(text).expect_err(text));
            assert!(problem.contains(expected), "{text:?}: {problem}");
        }
    }

    #[test]
    fn a_rule_that_nobody_comes_to_is_refused() {
        let dead: [&[&str]; 6] = [
            &["none", "password"],
            &["none", "10.0.0.0/8=password"],
            &["10.0.0.0/8=none", "10.9.0.0/16+10.8.0.0/16=password"],
            &["::1=none", "::1=password"],
            &["10.0.0.0/9=none", "10.128.0.0/9=gssapi", "10.0.0.0/8=password"],
            &["0.0.0.0/0=none", "::/0=gssapi", "password"],
        ];
        for texts in dead {
            let problem = AuthRule::check_all(&rules(texts)).expect_err(texts[1]);
            assert_eq!(problem.item(), Some(texts.len() - 1), "{problem:?}");
        }
        let live: [&[&str]; 4] = [
            &["127.0.0.0/8=none", "password"],
            &["10.9.0.0/16=none", "10.0.0.0/8=gssapi", "::/0=none", "password"],
            &["10.0.0.0/8=none", "10.0.0.0/8+192.0.2.1=password"],
            &["0.0.0.0/0=none", "password"],
        ];
        for texts in live {
            AuthRule::check_all(&rules(texts)).unwrap_or_else(|it| panic!("{texts:?}: {it:?}"));
        }
    }

    #[test]
    fn strangers_are_who_is_not_on_loopback_and_says_nothing() {
        let serves = |text| AuthRule::parse(text).unwrap().serves_strangers();
        for text in ["none", "password+none", "10.0.0.0/8=none", "::/127=none", "126.0.0.0/7=none"]
        {
            assert!(serves(text), "{text}");
        }
        for text in ["password", "gssapi+password", "127.0.0.0/8+::1=none", "127.0.0.1=none"] {
            assert!(!serves(text), "{text}");
        }
    }
}
