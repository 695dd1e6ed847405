use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use arrayvec::ArrayVec;

use crate::access::escape;
use crate::auth::{Checked, Done, Failure, LogIn, Stepped, Task};
use crate::config::{AuthMethod, AuthRule};
use crate::proto::socks5::{Credentials, Method};
use crate::session::context::Visitor;
use crate::session::{Context, Net};
use crate::token::{Role, Token};

/// The methods that a client may choose from, in our order.
pub(super) type Accepted = ArrayVec<Method, 4>;

/// What came of asking whether a login is good.
pub(super) enum Asked {
    /// It is known.
    Known(Checked),
    /// The answer comes under this token.
    Pending(Token),
    /// Too many ask: to be asked again in a while.
    Full,
}

impl<N: Net> Context<N> {
    /// What this client may choose from. One whose address has logged in may come without, if it
    /// is to.
    pub(super) fn accepted(&self, visitor: Visitor) -> Accepted {
        let Some(rule) = self.rule(visitor) else { return Accepted::new() };
        let mut accepted: Accepted = rule.methods.iter().copied().map(method_of).collect();
        if !accepted.contains(&Method::None) && self.admitted(visitor).is_some() {
            accepted.push(Method::None);
        }
        accepted
    }

    /// Who has logged in from where this client comes, if that lets it in: by a password, where one
    /// would do.
    pub(super) fn admitted(&self, visitor: Visitor) -> Option<Box<[u8]>> {
        let user = self.terms.admitted.user(visitor.client, self.now)?;
        let takes_passwords = self.rule(visitor)?.methods.contains(&AuthMethod::Password);
        (takes_passwords && self.may_be_used_by(visitor, &user)).then_some(user)
    }

    /// Asks whether a login is good; not later than `deadline`.
    pub(super) fn log_in(
        &mut self,
        visitor: Visitor,
        credentials: &Credentials<'_>,
        deadline: Option<Instant>,
    ) -> Asked {
        let is_locked = self.terms.penalties.is_locked(visitor.client, self.now);
        match self.auth.log_in(credentials, visitor.client, is_locked, self.now) {
            LogIn::Known(checked) => Asked::Known(checked),
            LogIn::Unknown(check) => match self.ask(visitor, Task::Password(check), deadline) {
                Ok(token) => Asked::Pending(token),
                Err(_) => Asked::Full,
            },
        }
    }

    /// Has a task done elsewhere; not later than `deadline`. Returns it if too many are waiting.
    pub(super) fn ask(
        &mut self,
        visitor: Visitor,
        task: Task,
        deadline: Option<Instant>,
    ) -> Result<Token, Task> {
        let token = self.token(Role::Verdict, visitor.slot);
        self.net.offload(task, visitor.client, token, deadline)?;
        Ok(token)
    }

    /// What was asked about a client that is no more: who leaves in time pays all the same.
    pub fn judge_absent(&mut self, client: IpAddr, done: Done) {
        let (user, method, failure) = match done {
            Done::Password { user, checked } => {
                if checked.is_wrong {
                    self.terms.penalties.punish(client, self.now);
                }
                (Some(user), Method::Password, checked.result.err())
            }
            Done::Token(Stepped::Failed { user, failure }) => (user, Method::Gssapi, Some(failure)),
            Done::Token(_) => return,
        };
        if let Some(failure) = failure {
            self.fail(client, user.as_deref(), method, failure);
        }
    }

    /// A client has proved to be this user by its password, unless it failed: whether that lets it
    /// in.
    pub(super) fn judge_password(
        &mut self,
        visitor: Visitor,
        user: Option<&[u8]>,
        checked: Checked,
    ) -> bool {
        let penalties = &self.terms.penalties;
        // Others from there may have failed while this was looked at.
        let is_locked = penalties.is_locked(visitor.client, self.now);
        match checked {
            Checked { is_wrong: true, .. } => penalties.punish(visitor.client, self.now),
            _ if is_locked => penalties.pass_over(visitor.client, self.now),
            _ => {}
        }
        let result = if is_locked { Err(Failure::Locked) } else { checked.result };
        let is_good = self.judge(visitor, Method::Password, user, result);
        if is_good {
            self.terms.admitted.admit(visitor.client, user.unwrap_or_default(), self.now);
        }
        is_good
    }

    /// The same of any proof. Nobody can guess a key: there are no penalties.
    pub(super) fn judge(
        &mut self,
        visitor: Visitor,
        method: Method,
        user: Option<&[u8]>,
        result: Result<(), Failure>,
    ) -> bool {
        let result = result.and_then(|()| {
            let is_welcome = user.is_some_and(|user| self.may_be_used_by(visitor, user));
            is_welcome.then_some(()).ok_or(Failure::Group)
        });
        match result {
            Ok(()) => self.logins.accepted += 1,
            Err(failure) => self.fail(visitor.client, user, method, failure),
        }
        result.is_ok()
    }

    fn fail(&mut self, client: IpAddr, user: Option<&[u8]>, method: Method, failure: Failure) {
        self.logins.failed += 1;
        tell(client, user, method, failure);
    }

    /// Whether this user may come from where this client does.
    pub(super) fn may_be_used_by(&self, visitor: Visitor, user: &[u8]) -> bool {
        self.rule(visitor).is_some_and(|rule| self.auth.is_in_group(user, &rule.groups))
    }

    /// How this client is to prove who it is.
    fn rule(&self, visitor: Visitor) -> Option<&AuthRule> {
        self.terms.methods[visitor.listener].for_client(visitor.client)
    }
}

fn method_of(method: AuthMethod) -> Method {
    match method {
        AuthMethod::None => Method::None,
        AuthMethod::Password => Method::Password,
        AuthMethod::Gssapi => Method::Gssapi,
    }
}

/// Says that a login has failed, in one line of a fixed form that `src/auth/fail2ban.conf` knows.
fn tell(client: IpAddr, user: Option<&[u8]>, method: Method, failure: Failure) {
    let method = match method {
        Method::None => "none",
        Method::Gssapi => "gssapi",
        Method::Password => "password",
    };
    let (user, reason) = (OrDash(user), failure.word());
    log::warn!("auth_failed ip={client} user={user} method={method} reason={reason}");
}

struct OrDash<'a>(Option<&'a [u8]>);

impl fmt::Display for OrDash<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(user) => escape(user).fmt(f),
            None => f.write_str("-"),
        }
    }
}
