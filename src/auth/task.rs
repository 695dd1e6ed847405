use super::{Acceptor, CheckKind, Checked, PasswordCheck, Stepped};

/// What may take long or block, for an offload thread.
pub enum Task {
    /// Whether a password is right.
    Password(PasswordCheck),
    /// A client's next token.
    Token {
        /// Whose it is.
        acceptor: Box<dyn Acceptor>,
        /// What the client sent.
        token: Vec<u8>,
    },
}

/// Whose threads a task takes: a kind that is stuck is no other's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// It keeps a processor busy.
    Hash,
    /// It may wait for somebody.
    Pam,
    /// It reads and writes files.
    Gssapi,
}

/// What came of a task.
pub enum Done {
    /// Of a password's.
    Password {
        /// Whose it is said to be.
        user: Box<[u8]>,
        /// What came of it.
        checked: Checked,
    },
    /// Of a token's.
    Token(Stepped),
}

impl Task {
    /// Whose threads it takes.
    pub fn kind(&self) -> TaskKind {
        match self {
            Task::Password(check) => match check.kind() {
                CheckKind::Hash => TaskKind::Hash,
                CheckKind::Pam => TaskKind::Pam,
            },
            Task::Token { .. } => TaskKind::Gssapi,
        }
    }

    /// Does it; another thread may be the one that reports.
    pub fn run(self, report: Box<dyn FnOnce(Done) + Send>) {
        match self {
            Task::Password(check) => {
                let user = check.user().into();
                check.run(Box::new(move |checked| report(Done::Password { user, checked })));
            }
            Task::Token { acceptor, token } => report(Done::Token(acceptor.step(&token))),
        }
    }
}
