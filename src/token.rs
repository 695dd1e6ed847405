//! What an event is about: which slot, which of its sockets, and which life of it.

/// 32 bits of generation, 4 of role, 28 of slot, as one epoll datum.
///
/// Each registered socket and each question asked has a generation of its own, so that a late event
/// or answer never reaches a successor in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(usize);

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a token needs 64 bits");

/// Which of a slot's sockets or questions a token is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Role {
    /// A reactor's waker: its mailbox has something.
    Mailbox,
    /// A listening socket; the slot is its index.
    Listener,
    /// A session's client.
    Client,
    /// A session's target, or an attempt to connect to it.
    Target,
    /// A session's question to the resolver.
    Answer,
    /// The same, for the name of a datagram.
    DatagramAnswer,
    /// A socket of the resolver's; the slot is its channel's.
    Resolver,
    /// A session's listener for one peer (BIND).
    BindListener,
    /// An association's socket for its client.
    UdpClient,
    /// An association's socket for targets of IPv4.
    UdpV4,
    /// An association's socket for targets of IPv6.
    UdpV6,
    /// A session's question whether its client is who it says.
    Verdict,
}

const ROLES: [Role; 12] = [
    Role::Mailbox,
    Role::Listener,
    Role::Client,
    Role::Target,
    Role::Answer,
    Role::DatagramAnswer,
    Role::Resolver,
    Role::BindListener,
    Role::UdpClient,
    Role::UdpV4,
    Role::UdpV6,
    Role::Verdict,
];

impl Token {
    /// How many slots can be told apart.
    pub const SLOTS_MAX: usize = 1 << 28;

    /// A token; `slot` is below [`SLOTS_MAX`](Self::SLOTS_MAX).
    pub fn new(generation: u32, role: Role, slot: usize) -> Token {
        debug_assert!(slot < Token::SLOTS_MAX);
        Token((generation as usize) << 32 | (role as usize) << 28 | slot)
    }

    /// Which of the slot's sockets or questions it is of; `None` for a token we did not make.
    pub fn role(self) -> Option<Role> {
        ROLES.get(self.0 >> 28 & 0xf).copied()
    }

    /// The slot.
    pub fn slot(self) -> usize {
        self.0 & (Token::SLOTS_MAX - 1)
    }
}

impl From<Token> for mio::Token {
    fn from(token: Token) -> mio::Token {
        mio::Token(token.0)
    }
}

impl From<mio::Token> for Token {
    fn from(token: mio::Token) -> Token {
        Token(token.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn its_parts_come_back(generation: u32, role in 0..ROLES.len(), slot in 0..Token::SLOTS_MAX) {
            let token = Token::new(generation, ROLES[role], slot);
            prop_assert_eq!(token.role(), Some(ROLES[role]));
            prop_assert_eq!(token.slot(), slot);
            prop_assert_ne!(token, Token::new(generation.wrapping_add(1), ROLES[role], slot));
        }
    }

    #[test]
    fn roles_are_listed_in_their_order() {
        for (place, role) in ROLES.into_iter().enumerate() {
            assert_eq!(role as usize, place);
        }
    }
}
