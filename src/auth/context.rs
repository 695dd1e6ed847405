use super::Failure;
use crate::proto::gssapi::Seal;

/// What security contexts are made with: a Kerberos library, or a model of one.
pub trait Mechanism: Send + Sync {
    /// The beginning of one with a client that has sent nothing yet.
    fn begin(&self) -> Box<dyn Acceptor>;
}

/// Our end of a context that is being established (RFC 1961 section 3).
pub trait Acceptor: Send {
    /// Takes the client's next token. It may block: never to be called on a reactor.
    fn step(self: Box<Self>, token: &[u8]) -> Stepped;
}

/// What came of a token.
pub enum Stepped {
    /// The client must be told this, and send another.
    Continue {
        /// What takes that.
        acceptor: Box<dyn Acceptor>,
        /// The token for the client.
        answer: Vec<u8>,
    },
    /// The client is who it says.
    Established {
        /// What protects what is said from now on.
        seal: Box<dyn Seal>,
        /// Who the client is here.
        user: Box<[u8]>,
        /// The token for the client, which may be of no bytes.
        answer: Vec<u8>,
    },
    /// There will be no context.
    Failed {
        /// Who the client says it is, as far as that is known.
        user: Option<Box<[u8]>>,
        /// Why.
        failure: Failure,
    },
}
