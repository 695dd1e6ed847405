use std::time::Instant;

use super::reassembly::Budget;
use crate::proto::Name;
use crate::token::Token;

/// An association's datagrams whose names are being asked for: in order for each name, and none
/// waits for another name.
#[derive(Debug, Default)]
pub(super) struct Naming(Vec<Asked>);

/// A name, and what is to be sent to it.
#[derive(Debug)]
pub(super) struct Asked {
    name: Name,
    token: Token,
    deadline: Option<Instant>,
    /// In the order in which they came.
    pub(super) letters: Vec<Letter>,
}

/// A datagram that waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) port: u16,
    pub(super) data: Box<[u8]>,
}

/// There is no room for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What all associations of a reactor may ask for, so that there is as much left for others, and what
/// may wait for it.
#[derive(Debug)]
pub(super) struct Room {
    names: Budget,
    bytes: Budget,
}

impl Room {
    const NAMES_MAX: usize = 4096;
    const BYTES_MAX: usize = 8 << 20;

    pub(super) fn new() -> Room {
        Room { names: Budget::new(Self::NAMES_MAX), bytes: Budget::new(Self::BYTES_MAX) }
    }

    /// How many names are asked for, and how many bytes wait for them.
    pub(super) fn used(&self) -> (usize, usize) {
        (self.names.used(), self.bytes.used())
    }
}

impl Naming {
    /// How many names one association may ask for at a time.
    const NAMES_MAX: usize = 32;
    /// How many datagrams may wait for one of them.
    const LETTERS_MAX: usize = 64;

    /// Whether something waits for this name already.
    pub(super) fn is_asked(&self, name: &Name) -> bool {
        self.0.iter().any(|asked| asked.name == *name)
    }

    /// Whether another name may be asked for.
    pub(super) fn has_room(&self, room: &Room) -> bool {
        self.0.len() < Self::NAMES_MAX && room.names.has(1)
    }

    /// A name has been asked for under `token`; there was room for it.
    pub(super) fn begin(
        &mut self,
        name: Name,
        token: Token,
        deadline: Option<Instant>,
        room: &mut Room,
    ) {
        room.names.take(1);
        self.0.push(Asked { name, token, deadline, letters: Vec::new() });
    }

    /// Keeps a datagram until its name, which is asked for, has an address.
    pub(super) fn keep(
        &mut self,
        name: &Name,
        port: u16,
        data: &[u8],
        room: &mut Room,
    ) -> Result<(), Full> {
        let asked = self.0.iter_mut().find(|asked| asked.name == *name).ok_or(Full)?;
        if asked.letters.len() == Self::LETTERS_MAX || !room.bytes.take(data.len()) {
            return Err(Full);
        }
        asked.letters.push(Letter { port, data: data.into() });
        Ok(())
    }

    /// The name that was asked for under `token`, if it still is: it no longer is.
    pub(super) fn end(&mut self, token: Token, room: &mut Room) -> Option<Asked> {
        let index = self.0.iter().position(|asked| asked.token == token)?;
        Some(self.take(index, room))
    }

    /// A name whose time is over: it is no longer asked for.
    pub(super) fn expire(&mut self, now: Instant, room: &mut Room) -> Option<Asked> {
        let is_due = |asked: &Asked| asked.deadline.is_some_and(|at| at <= now);
        let index = self.0.iter().position(is_due)?;
        Some(self.take(index, room))
    }

    /// Any name that is asked for: it no longer is.
    pub(super) fn give_up(&mut self, room: &mut Room) -> Option<Asked> {
        let last = self.0.len().checked_sub(1)?;
        Some(self.take(last, room))
    }

    /// When to call [`expire`](Self::expire).
    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.0.iter().filter_map(|asked| asked.deadline).min()
    }

    fn take(&mut self, index: usize, room: &mut Room) -> Asked {
        let asked = self.0.remove(index);
        room.names.give_back(1);
        room.bytes.give_back(asked.letters.iter().map(|letter| letter.data.len()).sum());
        asked
    }
}

impl Asked {
    pub(super) fn token(&self) -> Token {
        self.token
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::Host;
    use crate::token::Role;

    fn name(text: &str) -> Name {
        let Ok(Host::Name(name)) = Host::parse_name(text.as_bytes()) else { panic!("{text}") };
        name
    }

    fn room(bytes: usize) -> Room {
        Room { names: Budget::new(Room::NAMES_MAX), bytes: Budget::new(bytes) }
    }

    fn token(number: u32) -> Token {
        Token::new(number, Role::Answer, 0)
    }

    #[test]
    fn each_name_keeps_its_order() {
        let (mut naming, mut room) = (Naming::default(), room(100));
        for (number, text) in [(1, "a.example"), (2, "b.example")] {
            assert!(!naming.is_asked(&name(text)));
            naming.begin(name(text), token(number), None, &mut room);
            assert!(naming.is_asked(&name(text)));
        }
        for (text, port, data) in
            [("a.example", 1, "one"), ("b.example", 2, "other"), ("a.example", 3, "two")]
        {
            naming.keep(&name(text), port, data.as_bytes(), &mut room).unwrap();
        }
        assert_eq!(room.bytes.used(), 11);
        let first = naming.end(token(1), &mut room).unwrap();
        let sent: Vec<_> = first.letters.iter().map(|it| (it.port, &it.data[..])).collect();
        assert_eq!(sent, [(1, &b"one"[..]), (3, b"two")]);
        assert!(naming.end(token(1), &mut room).is_none());
        assert_eq!(naming.give_up(&mut room).unwrap().token(), token(2));
        assert!(naming.give_up(&mut room).is_none());
        assert_eq!(room.bytes.used(), 0);
    }

    #[test]
    fn it_is_bounded_in_every_way() {
        let (mut naming, mut room) = (Naming::default(), room(1000));
        let names: Vec<Name> = (0..Naming::NAMES_MAX).map(|n| name(&format!("n{n}.x"))).collect();
        for (number, name) in names.iter().enumerate() {
            assert!(naming.has_room(&room));
            naming.begin(name.clone(), token(number as u32), None, &mut room);
        }
        assert!(!naming.has_room(&room));
        for _ in 0..Naming::LETTERS_MAX {
            naming.keep(&names[0], 1, b"x", &mut room).unwrap();
        }
        assert_eq!(naming.keep(&names[0], 1, b"x", &mut room), Err(Full));
        assert_eq!(naming.keep(&names[1], 1, &[0; 1000], &mut room), Err(Full));
        assert_eq!(naming.keep(&name("other.x"), 1, b"x", &mut room), Err(Full));
        assert_eq!(room.bytes.used(), Naming::LETTERS_MAX);
    }

    #[test]
    fn a_name_has_its_time() {
        let (mut naming, mut room) = (Naming::default(), room(1000));
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        naming.begin(name("late.x"), token(1), Some(now + 2 * second), &mut room);
        naming.begin(name("soon.x"), token(2), Some(now + second), &mut room);
        naming.begin(name("never.x"), token(3), None, &mut room);
        assert_eq!(naming.expires_at(), Some(now + second));
        assert!(naming.expire(now, &mut room).is_none());
        let expired = |naming: &mut Naming, room: &mut Room| {
            naming.expire(now + 9 * second, room).map(|asked| asked.token())
        };
        assert_eq!(expired(&mut naming, &mut room), Some(token(1)));
        assert_eq!(expired(&mut naming, &mut room), Some(token(2)));
        assert_eq!(expired(&mut naming, &mut room), None);
        assert_eq!(naming.expires_at(), None);
    }
}
