//! What the clients of a listener may connect to.

use std::fmt;

use ipnet::IpNet;

use super::error::Problem;
use super::listen::parse_network;
use super::schema;
use super::value;

/// Some of the addresses that clients may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetRule {
    /// Every address of the public Internet, none of this host.
    Public,
    /// The addresses of a network; those with an IPv4 address inside (NAT64, 6to4, Teredo) only
    /// if some rule admits that too.
    Network(IpNet),
}

impl TargetRule {
    /// What people write for everything.
    const EVERYTHING: [&str; 5] = ["any", "all", "*", "everything", "everywhere"];

    pub(super) fn parse(text: &str) -> Result<TargetRule, Problem> {
        if text == "public" {
            return Ok(TargetRule::Public);
        }
        if Self::EVERYTHING.contains(&text.to_lowercase().as_str()) {
            return Err(Problem::new("everything is said in networks")
                .hint("targets = [\"0.0.0.0/0\", \"::/0\"]"));
        }
        if schema::nearest(text, ["public"]).is_some() {
            return Err(Problem::new("this is neither a word nor a network")
                .hint("did you mean \"public\"?"));
        }
        if !text.contains(['.', ':', '/']) {
            return Err(
                Problem::new("this is neither \"public\" nor an IP network").hint(value::TARGET)
            );
        }
        parse_network(text).map(TargetRule::Network)
    }
}

impl fmt::Display for TargetRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetRule::Public => f.write_str("public"),
            TargetRule::Network(network) => network.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_or_a_network() {
        let parse = |text| TargetRule::parse(text).map(|rule| rule.to_string());
        assert_eq!(parse("public").unwrap(), "public");
        assert_eq!(parse("10.0.0.0/8").unwrap(), "10.0.0.0/8");
        assert_eq!(parse("192.0.2.1").unwrap(), "192.0.2.1/32");
        assert_eq!(parse("64:ff9b::/96").unwrap(), "64:ff9b::/96");
        let bad = [
            "",
            "any",
            "All",
            "*",
            "Public",
            "pubilc",
            "private",
            "example.com",
            "10.0.0.1/8",
            "0/0",
            "::ffff:10.0.0.0/104",
            "10.0.0.0/8,public",
        ];
        for bad in bad {
            assert!(TargetRule::parse(bad).is_err(), "{bad:?}");
        }
    }
}
