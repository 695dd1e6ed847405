//! Who a client is: names and passwords (RFC 1929), security contexts (RFC 1961).

pub mod cfx;
mod context;
mod error;
mod groups;
mod gssapi;
mod hashes;
mod keyed;
mod load;
mod login;
mod pam;
mod principals;
mod sealed;
mod task;
mod users;
mod verified;

pub use context::{Acceptor, Mechanism, Stepped};
pub use error::Error;
pub use groups::Groups;
pub use gssapi::{Gssapi, GssapiError, GssapiSettings};
pub use hashes::hash_password;
pub use login::{Auth, CheckKind, Checked, LogIn, PasswordCheck, Passwords};
pub use pam::{Pam, PamError};
pub use principals::{Principal, Principals};
pub use task::{Done, Task, TaskKind};
pub use users::{FIELD_MAX, NameError, Users, check_name};

/// Why a client is not let in; the client itself is never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such user.
    UnknownUser,
    /// The password is another.
    WrongPassword,
    /// Too many have failed from where it comes.
    Locked,
    /// PAM, or what it asks, does not want it.
    Account,
    /// The user is in none of the groups that may come this way.
    Group,
    /// What it sent is no token, or not one for us.
    Token,
    /// Its principal is nobody's here, or of a realm that is not ours.
    Principal,
    /// Its context does not protect as it must: mutual, integrity and replay detection.
    Protection,
    /// Something of ours does not work.
    Broken,
}

impl Failure {
    /// Its word in the log.
    pub fn word(self) -> &'static str {
        match self {
            Failure::UnknownUser => "unknown_user",
            Failure::WrongPassword => "wrong_password",
            Failure::Locked => "locked",
            Failure::Account => "account",
            Failure::Group => "group",
            Failure::Token => "token",
            Failure::Principal => "principal",
            Failure::Protection => "protection",
            Failure::Broken => "broken",
        }
    }
}
