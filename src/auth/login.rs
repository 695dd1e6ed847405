use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use zeroize::Zeroizing;

use super::keyed::{Key, Tag};
use super::users::Entrant;
use super::verified::{Begun, Verified};
use super::{Failure, Groups, Mechanism, Pam, Users};
use crate::proto::socks5::Credentials;

/// What was last read of who may come: one snapshot, that is replaced whole.
pub struct Auth {
    passwords: Passwords,
    checks: Arc<Checks>,
    groups: Groups,
    mechanism: Option<Arc<dyn Mechanism>>,
}

/// Who knows whether a password is right.
pub enum Passwords {
    /// Nobody: none is.
    Nobody,
    /// The users that are configured.
    Users(Arc<Users>),
    /// The system's modules.
    Pam(Arc<Pam>),
}

/// What the checks of a snapshot share.
struct Checks {
    key: Key,
    verified: Verified,
    hashes: Arc<AtomicU64>,
}

/// Whether somebody may log in, or what it takes to know.
pub enum LogIn {
    /// It is known at once.
    Known(Checked),
    /// It takes a while: to be asked where blocking is no harm.
    Unknown(PasswordCheck),
}

/// What came of a log-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whether the client may come in.
    pub result: Result<(), Failure>,
    /// Whether the name or the password was wrong, which `result` does not tell of a locked source.
    pub is_wrong: bool,
}

/// What a [`PasswordCheck`] spends its time with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A processor.
    Hash,
    /// Others, who may take their time.
    Pam,
}

/// A password that is still to be checked.
pub struct PasswordCheck {
    judge: Judge,
    name: Box<[u8]>,
    password: Zeroizing<Vec<u8>>,
    is_locked: bool,
    tag: Tag,
    checks: Arc<Checks>,
}

/// Who is asked.
enum Judge {
    Users(Arc<Users>),
    /// About somebody who comes from there.
    Pam(Arc<Pam>, IpAddr),
}

impl Auth {
    /// Who may come by a password, by a security context, and who belongs together.
    pub fn new(
        passwords: Passwords,
        groups: Groups,
        mechanism: Option<Arc<dyn Mechanism>>,
    ) -> Auth {
        let (key, verified) = (Key::new(), Verified::default());
        let checks = Arc::new(Checks { key, verified, hashes: Arc::default() });
        Auth { passwords, checks, groups, mechanism }
    }

    /// The same, in place of `previous`: its count goes on, and a stranger looks like whom it
    /// looked like. What `previous` had verified is forgotten.
    pub(super) fn in_place_of(self, previous: &Auth) -> Auth {
        let (key, hashes) = (previous.checks.key.clone(), Arc::clone(&previous.checks.hashes));
        let checks = Arc::new(Checks { key, verified: Verified::default(), hashes });
        Auth { checks, ..self }
    }

    /// Whether `credentials` are right. Of a source that `is_locked` none are good enough, yet
    /// finding that out takes as long as if it were not.
    pub fn log_in(
        &self,
        credentials: &Credentials<'_>,
        from: IpAddr,
        is_locked: bool,
        now: Instant,
    ) -> LogIn {
        let &Credentials { uname, passwd } = credentials;
        // What is right by a hash is so wherever it comes from, PAM may see that otherwise.
        let (judge, right_from) = match &self.passwords {
            Passwords::Nobody => {
                return LogIn::Known(Checked::new(Err(Failure::UnknownUser), is_locked));
            }
            Passwords::Users(users) => {
                let entrant = self.checks.entrant(users, uname);
                if entrant.hash().is_none() {
                    return LogIn::Known(Checked::new(entrant.verify(passwd), is_locked));
                }
                (Judge::Users(Arc::clone(users)), None)
            }
            Passwords::Pam(pam) => (Judge::Pam(Arc::clone(pam), from), Some(from)),
        };
        let tag = self.checks.key.tag(uname, passwd, right_from, is_locked);
        if self.checks.verified.is_fresh(&tag, now) {
            return LogIn::Known(Checked::new(Ok(()), is_locked));
        }
        LogIn::Unknown(PasswordCheck {
            judge,
            name: uname.into(),
            password: Zeroizing::new(passwd.to_vec()),
            is_locked,
            tag,
            checks: Arc::clone(&self.checks),
        })
    }

    /// Whether a user is in one of these groups; everyone is if there are none.
    pub fn is_in_group(&self, user: &[u8], groups: &[String]) -> bool {
        groups.is_empty() || groups.iter().any(|group| self.groups.has_member(group, user))
    }

    /// What security contexts are made with.
    pub fn mechanism(&self) -> Option<&Arc<dyn Mechanism>> {
        self.mechanism.as_ref()
    }

    /// How many hashes of passwords were computed, by this and those it is in place of.
    pub fn hashes(&self) -> u64 {
        self.checks.hashes.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users = match &self.passwords {
            Passwords::Nobody | Passwords::Pam(_) => None,
            Passwords::Users(users) => Some(users),
        };
        f.debug_struct("Auth")
            .field("users", &users)
            .field("groups", &self.groups)
            .field("mechanism", &self.mechanism.is_some())
            .finish_non_exhaustive()
    }
}

impl Checked {
    fn new(verdict: Result<(), Failure>, is_locked: bool) -> Checked {
        let is_wrong = matches!(verdict, Err(Failure::UnknownUser | Failure::WrongPassword));
        let result = if is_locked { Err(Failure::Locked) } else { verdict };
        Checked { result, is_wrong }
    }
}

impl PasswordCheck {
    /// Whose password it is said to be.
    pub fn user(&self) -> &[u8] {
        &self.name
    }

    /// What it will spend its time with.
    pub fn kind(&self) -> CheckKind {
        match self.judge {
            Judge::Users(_) => CheckKind::Hash,
            Judge::Pam(..) => CheckKind::Pam,
        }
    }

    /// Finds out, and reports it. An equal check that is going on already reports for this one, and
    /// then this returns at once.
    pub fn run(self, report: Box<dyn FnOnce(Checked) + Send>) {
        let PasswordCheck { judge, name, password, is_locked, tag, checks } = self;
        let report = Box::new(move |verdict| report(Checked::new(verdict, is_locked)));
        match checks.verified.begin(tag, Instant::now(), report) {
            Begun::Make => {
                let verdict = checks.verify(&judge, &name, &password);
                let told = checks.verified.finish(&tag, verdict, !is_locked, Instant::now());
                told.into_iter().for_each(|report| report(verdict));
            }
            Begun::Joined => {}
            Begun::Right(report) => report(Ok(())),
            Begun::Crowded(report) => report(Err(Failure::Broken)),
        }
    }
}

impl Checks {
    fn entrant<'a>(&self, users: &'a Users, name: &[u8]) -> Entrant<'a> {
        users.entrant(name, |count| self.key.choose(name, count))
    }

    fn verify(&self, judge: &Judge, name: &[u8], password: &[u8]) -> Result<(), Failure> {
        match judge {
            Judge::Users(users) => {
                self.hashes.fetch_add(1, Ordering::Relaxed);
                self.entrant(users, name).verify(password)
            }
            Judge::Pam(pam, from) => pam.check(name, password, *from),
        }
    }
}

#[cfg(test)]
mod tests;
