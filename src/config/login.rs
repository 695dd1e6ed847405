//! Values that say who may log in, and how.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::auth::{AuthMethod, AuthRule};
use super::error::Problem;
use super::listen;
use super::principals::PrincipalRule;
use super::secret::{Password, Secret};
use super::value::{PATH, Value};

pub(super) const PASSWORD: &str =
    "\"plain:PASSWORD\", or a hash of it such as `ringsocks passwd` makes: \"$argon2id$...\"";
pub(super) const LIBRARY: &str = "a library, by its path or a name such as \"libpam.so.0\"";
pub(super) const METHODS: &str = "methods = [\"gssapi\", \"password\"], or [\"none\"]";
pub(super) const AUTH: &str = "auth = [{ from = \"127.0.0.0/8\", methods = [\"none\"] }, \
                               { methods = [\"password\"] }]; without it everyone logs in who can";
pub(super) const GROUP: &str = "groups = { staff = [\"alice\", \"bob\"] }";
pub(super) const PAM_SERVICE: &str = "the name of a file in /etc/pam.d, such as \"ringsocks\"";
pub(super) const AUTH_ONCE: &str =
    "how long, such as \"10m\", who has logged in may come without; 0 = not at all";
pub(super) const PENALTY: &str = "a duration such as \"5s\" or \"1m\"";
pub(super) const SERVICE: &str = "a service that there is a key of, such as \"rcmd\"";
pub(super) const REALMS: &str =
    "realms = [\"EXAMPLE.COM\"]; without it, the realm of our own service";
pub(super) const PRINCIPAL: &str =
    "\"PRINCIPAL=USER\" such as \"alice@EXAMPLE.COM=alice\" or \"*@*=*\"";

impl Value<'_> {
    /// Networks that have no penalties.
    pub(super) fn to_exempt(self) -> Result<Vec<IpNet>, Problem> {
        self.to_networks("exempt = [\"10.0.0.0/8\", \"192.0.2.1\"]")
    }

    /// Whom a rule is for, never nobody: a network or a list of them.
    pub(super) fn to_from(self) -> Result<Vec<IpNet>, Problem> {
        const MEANT: &str = "from = \"127.0.0.0/8\", or a list; leave it out for everyone";
        if let Value::Text(text) = self {
            return Ok(vec![listen::parse_network(text)?]);
        }
        let networks = self.to_networks(MEANT)?;
        match networks.is_empty() {
            false => Ok(networks),
            true => Err(Problem::new("nobody would come to this rule").hint(MEANT)),
        }
    }

    /// The ways to log in of a rule.
    pub(super) fn to_methods(self) -> Result<Vec<AuthMethod>, Problem> {
        self.to_list(|it| it.to_choice(), "a list of methods", METHODS)
    }

    /// The rules of a variable.
    pub(super) fn to_auth(self) -> Result<Vec<AuthRule>, Problem> {
        let rule = |value: Value<'_>| match value {
            Value::Text(text) | Value::Word(text) => AuthRule::parse(text),
            _ => Err(value.wrong_type("a string", AUTH)),
        };
        let rules = self.to_list(rule, "rules", AUTH)?;
        AuthRule::check_all(&rules)?;
        Ok(rules)
    }

    /// The groups of a rule, never none: whoever is in one of them may come by it.
    pub(super) fn to_groups(self) -> Result<Vec<String>, Problem> {
        const MEANT: &str = "groups = [\"staff\"]; leave it out for every user";
        let groups = self.to_list(|it| it.to_text(MEANT), "a list of groups", MEANT)?;
        match groups.is_empty() {
            false => Ok(groups),
            true => Err(Problem::new("nobody is in no group").hint(MEANT)),
        }
    }

    /// The users of a group.
    pub(super) fn to_members(self) -> Result<Vec<String>, Problem> {
        self.to_list(|it| it.to_text(GROUP), "a list of users", GROUP)
    }

    pub(super) fn to_library(self) -> Result<PathBuf, Problem> {
        self.to_text(LIBRARY).map(PathBuf::from)
    }

    /// The path of a file of users; who gave one user's password instead is told so.
    pub(super) fn to_users_file(self) -> Result<PathBuf, Problem> {
        match self {
            Value::Text(text) | Value::Word(text)
                if text.starts_with("plain:") || text.starts_with('$') =>
            {
                Err(Problem::new("this is a password, and no file")
                    .hint("a user who is called FILE: RINGSOCKS_USER=FILE:PASSWORD"))
            }
            _ => self.to_path(),
        }
    }

    pub(super) fn to_pam_service(self) -> Result<String, Problem> {
        let service = self.to_text(PAM_SERVICE)?;
        match service.starts_with('.') || service.contains('/') {
            false => Ok(service),
            true => Err(Problem::new("this is not the name of a service").hint(PAM_SERVICE)),
        }
    }

    pub(super) fn to_keytab(self) -> Result<String, Problem> {
        self.to_text(PATH)
    }

    pub(super) fn to_service(self) -> Result<String, Problem> {
        self.to_text(SERVICE)
    }

    /// The realms that are ours, never none.
    pub(super) fn to_realms(self) -> Result<Vec<String>, Problem> {
        let realm = |value: Value<'_>| match value.to_text(REALMS)? {
            realm if realm.contains('@') => {
                Err(Problem::new("a realm is what follows the `@`").hint(REALMS))
            }
            realm => Ok(realm),
        };
        let realms = self.to_list(realm, "a list of realms", REALMS)?;
        match realms.is_empty() {
            false => Ok(realms),
            true => Err(Problem::new("nobody could log in from no realm").hint(REALMS)),
        }
    }

    /// Who principals are, never nobody.
    pub(super) fn to_principals(self) -> Result<Vec<PrincipalRule>, Problem> {
        const MEANT: &str = "principals = [\"*@EXAMPLE.COM=*\"]";
        let rule = |value: Value<'_>| PrincipalRule::parse(&value.to_text(PRINCIPAL)?);
        let rules = self.to_list(rule, "a list of rules", MEANT)?;
        match rules.is_empty() {
            false => Ok(rules),
            true => Err(Problem::new("no principal would be a user").hint(MEANT)),
        }
    }

    /// How long an address that has logged in may come without; `None` is not at all.
    pub(super) fn to_auth_once(self) -> Result<Option<Duration>, Problem> {
        let duration = self.to_duration(AUTH_ONCE)?;
        Ok(Some(duration).filter(|duration| !duration.is_zero()))
    }

    /// How much of a penalty.
    pub(super) fn to_penalty(self) -> Result<Duration, Problem> {
        self.to_duration(PENALTY)
    }

    pub(super) fn to_most_penalty(self) -> Result<Duration, Problem> {
        match self.to_penalty()? {
            Duration::ZERO => {
                Err(Problem::new("it cannot be 0").hint("without penalties: penalty.failure = 0"))
            }
            most => Ok(most),
        }
    }
}

/// Reads a configured password: `plain:PASSWORD` or a hash of it. No message repeats any of it.
pub(super) fn parse_password(text: &[u8]) -> Result<Password, Problem> {
    match text.strip_prefix(b"plain:") {
        Some(password) => check_password(password),
        None if text.starts_with(b"$") => Ok(Password::Hash(Secret::new(text))),
        None => Err(Problem::new("the password is in no known scheme").hint(PASSWORD)),
    }
}

/// Takes a password as it is.
pub(super) fn check_password(password: &[u8]) -> Result<Password, Problem> {
    match password.len() {
        0..=Secret::MAX_LEN => Ok(Password::Plain(Secret::new(password))),
        _ => Err(Problem::new("the password is too long")
            .hint("SOCKS carries at most 255 bytes of it (RFC 1929)")),
    }
}
