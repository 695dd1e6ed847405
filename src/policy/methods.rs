use std::net::IpAddr;

use super::admits_client;
use crate::config::AuthRule;

/// How the clients of a listener log in, by where they are.
#[derive(Clone, Debug)]
pub struct Methods(Vec<AuthRule>);

impl Methods {
    /// By these rules, the first that is for a client.
    pub fn new(rules: Vec<AuthRule>) -> Methods {
        Methods(rules)
    }

    /// The rule of a client; who has none is not served.
    pub fn for_client(&self, ip: IpAddr) -> Option<&AuthRule> {
        let ip = ip.to_canonical();
        self.0.iter().find(|rule| admits_client(&rule.from, ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AuthMethod;

    fn rule(from: &[&str], methods: &[AuthMethod]) -> AuthRule {
        let from = from.iter().map(|network| network.parse().unwrap()).collect();
        AuthRule { from, methods: methods.to_vec(), groups: Vec::new() }
    }

    #[test]
    fn the_first_rule_that_is_for_a_client_counts() {
        use AuthMethod::{Gssapi, None, Password};
        let methods = Methods::new(vec![
            rule(&["127.0.0.0/8", "::1/128"], &[None]),
            rule(&["10.9.0.0/16"], &[Gssapi]),
            rule(&["10.0.0.0/8", "2001:db8::/32"], &[Gssapi, Password]),
        ]);
        let cases: [(&str, Option<&[AuthMethod]>); 9] = [
            ("127.0.0.1", Some(&[None])),
            ("::1", Some(&[None])),
            ("::ffff:127.9.9.9", Some(&[None])),
            ("10.9.8.7", Some(&[Gssapi])),
            ("::ffff:10.9.8.7", Some(&[Gssapi])),
            ("10.8.8.7", Some(&[Gssapi, Password])),
            ("2001:db8::9", Some(&[Gssapi, Password])),
            ("192.0.2.1", Option::None),
            ("::2", Option::None),
        ];
        for (client, expected) in cases {
            let rule = methods.for_client(client.parse().unwrap());
            assert_eq!(rule.map(|rule| rule.methods.as_slice()), expected, "{client}");
        }
    }

    #[test]
    fn a_rule_from_nowhere_is_for_everyone() {
        let methods = Methods::new(vec![rule(&[], &[AuthMethod::Password])]);
        for client in ["127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"] {
            assert!(methods.for_client(client.parse().unwrap()).is_some(), "{client}");
        }
        assert!(Methods::new(Vec::new()).for_client("127.0.0.1".parse().unwrap()).is_none());
    }
}
