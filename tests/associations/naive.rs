//! What must become of every datagram of an association, decided from nothing but the rules: no
//! batches, no indices, no memory that is given back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str;

use ringsocks::config::{ClientCheck, Filter, Fragments};
use ringsocks::metrics::{Datagrams, DropReason};

use crate::counts::Event;
use crate::opener::Opener;
use crate::script::{DENIED, addressed};
use crate::sealer::Genuine;

/// RFC 1928 section 7 asks for no less than five seconds.
const FRAGMENTS_PATIENCE: u64 = 5_000_000;
const FRAGMENTS_BYTES: usize = 65_507;
/// How many names one association may ask for, and how many datagrams wait for each.
const NAMES_MAX: usize = 32;
const LETTERS_MAX: usize = 64;

/// How the house relays datagrams.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) check: ClientCheck,
    pub(crate) filter: Filter,
    pub(crate) fragments: Fragments,
    pub(crate) peers: usize,
    /// How long a name may take, in microseconds.
    pub(crate) resolve: Option<u64>,
}

/// What is the case around an association while it takes a datagram.
pub(crate) trait Surroundings {
    fn now(&self) -> u64;
    /// Whether the rules of the house permit datagrams to this address, and it is none of our ports.
    fn permits(&self, to: SocketAddr) -> bool;
    /// Whether there is a way to this address, or to others of its network.
    fn has_way(&self, ip: IpAddr) -> bool;
    /// Whether this is a port of ours.
    fn is_own_port(&self, address: SocketAddr) -> bool;
    /// Whether there is, or can be had, a socket for IPv4 or else for IPv6.
    fn has_outside(&mut self, is_v4: bool) -> bool;
    /// What asking for this name will come to, which it does next.
    fn foresee(&mut self, name: &str) -> Foreseen;
    /// What is known of this name without asking.
    fn known(&self, name: &str) -> Option<Meaning>;
    /// What these bytes carry, if the client has sealed them.
    fn opened(&self, bytes: &[u8]) -> Option<Genuine>;
    fn count(&mut self, event: Event);
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Foreseen {
    /// This, and whether it is all.
    Known(Meaning, bool),
    Pending,
    Full,
}

/// The addresses of a name, or that it has none.
pub(crate) type Meaning = Option<Vec<IpAddr>>;

pub(crate) struct Naive {
    rules: Rules,
    ip: IpAddr,
    /// What opens and seals its datagrams, if they are.
    opener: Option<Opener>,
    /// Where the client's datagrams come from, as far as is known.
    pub(crate) client: Option<SocketAddr>,
    /// Those sent to last at the end.
    contacts: Vec<SocketAddr>,
    parts: Vec<Part>,
    parts_since: u64,
    pub(crate) asked: Vec<Question>,
    /// What must be sent before its turn is over, in this order to each.
    due: Vec<Due>,
    pub(crate) tally: Datagrams,
    pub(crate) active_at: u64,
}

/// A name that is asked for, and what waits for it.
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) deadline: Option<u64>,
    letters: Vec<(u16, Vec<u8>)>,
}

struct Part {
    place: u8,
    to: (Whither, u16),
    data: Vec<u8>,
}

struct Due {
    to: SocketAddr,
    goes_up: bool,
    bytes: Vec<u8>,
    /// How many of them are the client's or the target's.
    data: usize,
    /// Why it need not be sent.
    excuse: Option<DropReason>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Whither {
    Ip(IpAddr),
    Name(String),
}

struct Heard {
    frag: u8,
    to: (Whither, u16),
    data: Vec<u8>,
}

impl Naive {
    /// An association of the client at `ip`, which has said that it will send from `hint`.
    pub(crate) fn new(
        rules: Rules,
        (ip, hint): (IpAddr, SocketAddr),
        opener: Option<Opener>,
        now: u64,
    ) -> Naive {
        let counts = rules.check == ClientCheck::Strict && hint.ip() == ip && hint.port() != 0;
        Naive {
            rules,
            ip,
            opener,
            client: counts.then_some(hint),
            contacts: Vec::new(),
            parts: Vec::new(),
            parts_since: 0,
            asked: Vec::new(),
            due: Vec::new(),
            tally: Datagrams::default(),
            active_at: now,
        }
    }

    /// Somebody's datagram has come to the client's port.
    pub(crate) fn hear_inside(
        &mut self,
        around: &mut impl Surroundings,
        source: SocketAddr,
        bytes: &[u8],
    ) {
        if !self.may_be_the_client(source) {
            return self.drop_some(DropReason::Stranger, 1);
        }
        let opened;
        let bytes = match &mut self.opener {
            None => bytes,
            Some(opener) => match opener.open(around, bytes) {
                Some(message) => {
                    opened = message;
                    &opened
                }
                None => return self.drop_some(DropReason::Unsealed, 1),
            },
        };
        let Some(Heard { frag, to, data }) = parse(bytes) else {
            return self.drop_some(DropReason::Malformed, 1);
        };
        if self.rules.check != ClientCheck::Strict || self.client.is_none() {
            self.client = Some(source);
        }
        if frag != 0 && self.rules.fragments == Fragments::Drop {
            return self.drop_some(DropReason::Fragment, 1);
        }
        if frag == 0 {
            self.abandon_parts();
            return self.send(around, to, data);
        }
        let place = frag & 0x7f;
        if let Some(data) = self.hear_part(Part { place, to: to.clone(), data }, frag, around.now())
        {
            around.count(Event::Reassembled);
            self.send(around, to, data);
        }
    }

    fn may_be_the_client(&self, source: SocketAddr) -> bool {
        match (self.rules.check, self.client) {
            (ClientCheck::Strict, Some(client)) => is_same(source, client),
            (ClientCheck::Strict | ClientCheck::Address, _) => source.ip() == self.ip,
            (ClientCheck::Off, _) => true,
        }
    }

    /// All data, if it is complete with this.
    fn hear_part(&mut self, part: Part, frag: u8, now: u64) -> Option<Vec<u8>> {
        self.expire_parts(now);
        let is_last = frag & 0x80 != 0;
        if let Some(last) = self.parts.last() {
            let is_first_again = part.place == 1 && (is_last || part.data != last.data);
            if part.to == last.to && part.place == last.place && !is_first_again {
                self.drop_some(DropReason::Fragment, 1);
                return None;
            }
            if part.to != last.to || part.place != last.place + 1 {
                self.abandon_parts();
            }
        }
        let len: usize = self.parts.iter().chain([&part]).map(|part| part.data.len()).sum();
        let follows = part.place as usize == self.parts.len() + 1;
        if !follows || part.place == 127 && !is_last || len > FRAGMENTS_BYTES {
            self.abandon_parts();
            self.drop_some(DropReason::Fragment, 1);
            return None;
        }
        if self.parts.is_empty() {
            self.parts_since = now;
        }
        self.parts.push(part);
        is_last.then(|| self.parts.drain(..).map(|part| part.data).collect::<Vec<_>>().concat())
    }

    fn expire_parts(&mut self, now: u64) {
        if self.parts_since + FRAGMENTS_PATIENCE <= now {
            self.abandon_parts();
        }
    }

    fn abandon_parts(&mut self) {
        let count = self.parts.drain(..).count();
        self.drop_some(DropReason::Fragment, count);
    }

    fn send(&mut self, around: &mut impl Surroundings, to: (Whither, u16), data: Vec<u8>) {
        let name = match to.0 {
            Whither::Ip(ip) => return self.send_to_any(around, &[ip], to.1, data),
            Whither::Name(name) => name,
        };
        if let Some(question) = self.asked.iter_mut().find(|it| it.name == name) {
            if question.letters.len() < LETTERS_MAX {
                return question.letters.push((to.1, data));
            }
            around.count(Event::ManyLetters);
            return self.drop_some(DropReason::Unresolved, 1);
        }
        if self.asked.len() == NAMES_MAX {
            around.count(Event::ManyNames);
            return match around.known(&name).flatten() {
                Some(ips) => self.send_to_any(around, &ips, to.1, data),
                None => self.drop_some(DropReason::Unresolved, 1),
            };
        }
        match around.foresee(&name) {
            Foreseen::Known(Some(ips), more) if !more || may_do(around, &ips) => {
                self.send_to_any(around, &ips, to.1, data);
            }
            Foreseen::Known(None, _) | Foreseen::Full => {
                self.drop_some(DropReason::Unresolved, 1);
            }
            Foreseen::Known(Some(_), _) | Foreseen::Pending => {
                let deadline = self.rules.resolve.map(|it| around.now() + it);
                self.asked.push(Question { name, deadline, letters: vec![(to.1, data)] });
            }
        }
    }

    /// The first address that is permitted and that there is a socket for.
    fn send_to_any(
        &mut self,
        around: &mut impl Surroundings,
        ips: &[IpAddr],
        port: u16,
        data: Vec<u8>,
    ) {
        let mut reason = DropReason::Denied;
        for ip in ips {
            let to = SocketAddr::new(ip.to_canonical(), port);
            if !around.permits(to) {
                continue;
            }
            if around.has_outside(to.is_ipv4()) {
                self.touch(around, to);
                let len = data.len();
                let bytes = data;
                return self.due.push(Due { to, goes_up: true, bytes, data: len, excuse: None });
            }
            reason = DropReason::Unsent;
        }
        self.drop_some(reason, 1);
    }

    fn touch(&mut self, around: &mut impl Surroundings, to: SocketAddr) {
        let Some(contact) = self.contact(to) else { return };
        self.contacts.retain(|it| *it != contact);
        self.contacts.push(contact);
        if self.contacts.len() > self.rules.peers {
            self.contacts.remove(0);
            around.count(Event::Evicted);
        }
    }

    /// What is remembered of an address; none: anybody may answer.
    fn contact(&self, mut address: SocketAddr) -> Option<SocketAddr> {
        match self.rules.filter {
            Filter::Address => address.set_port(0),
            Filter::AddressPort => {}
            Filter::EndpointIndependent => return None,
        }
        Some(address)
    }

    /// The name means this, or more; whether it still was asked for.
    pub(crate) fn answer(
        &mut self,
        around: &mut impl Surroundings,
        name: &str,
        meaning: &Meaning,
        more: bool,
    ) -> bool {
        let Some(at) = self.asked.iter().position(|it| it.name == name) else { return false };
        if more && !meaning.as_ref().is_some_and(|ips| may_do(around, ips)) {
            return true;
        }
        for (port, data) in self.asked.remove(at).letters {
            match meaning {
                Some(ips) => self.send_to_any(around, ips, port, data),
                None => self.drop_some(DropReason::Unresolved, 1),
            }
        }
        true
    }

    /// Somebody's datagram has come to the port for targets.
    pub(crate) fn hear_outside(
        &mut self,
        around: &mut impl Surroundings,
        source: SocketAddr,
        bytes: &[u8],
    ) {
        let is_contacted = self.contact(source).is_none_or(|it| self.contacts.contains(&it));
        let is_client = |it: &SocketAddr| is_contacted && !around.is_own_port(*it);
        let Some(client) = self.client.filter(is_client) else {
            return self.drop_some(DropReason::Unsolicited, 1);
        };
        let bytes_max = if client.is_ipv4() { 65_507 } else { 65_527 };
        let data = bytes.len();
        let bytes = [&addressed(0, source)[..], bytes].concat();
        let has_room = match &self.opener {
            Some(opener) => opener.has_room(bytes.len(), bytes_max),
            None => bytes.len() <= bytes_max,
        };
        if !has_room {
            let would = bytes.len() <= bytes_max;
            around.count(if would { Event::NoRoomToSeal } else { Event::TooLong });
            return self.drop_some(DropReason::TooLarge, 1);
        }
        let sealed = match &mut self.opener {
            Some(opener) => {
                if !opener.has_room(bytes.len() + 1, bytes_max) {
                    around.count(Event::SealedFull);
                }
                opener.seal(&bytes)
            }
            None => Some(bytes),
        };
        let Some(bytes) = sealed else {
            around.count(Event::ContextOver);
            return self.drop_some(DropReason::Unsent, 1);
        };
        self.due.push(Due { to: client, goes_up: false, bytes, data, excuse: None });
    }

    /// The kernel says that so many more had no room.
    pub(crate) fn lose(&mut self, count: u32) {
        self.drop_some(DropReason::Overflow, count as usize);
    }

    /// This was sent.
    pub(crate) fn note_sent(&mut self, goes_up: bool, to: SocketAddr, bytes: &[u8], now: u64) {
        let is_for_it = |it: &Due| it.goes_up == goes_up && is_same(it.to, to);
        let same: Vec<usize> = (0..self.due.len()).filter(|at| is_for_it(&self.due[*at])).collect();
        let next = same.iter().copied().find(|at| self.due[*at].excuse.is_none());
        let is_it = |at: &usize| self.due[*at].bytes == bytes;
        // Those before it are not sent any more.
        let before = |at: &usize| next.is_none_or(|next| *at < next);
        let Some(at) = next.filter(is_it).or(same.iter().copied().filter(before).find(is_it))
        else {
            panic!(
                "{} bytes out of turn to {to}: {:02x?}",
                bytes.len(),
                &bytes[..bytes.len().min(40)]
            );
        };
        let due = self.due.remove(at);
        // Of two that are the same nobody knows which was refused: the other may still be sent.
        let differs = |at: &usize| self.due[*at].bytes != due.bytes;
        let passed: Vec<usize> = same.into_iter().filter(|it| *it < at).filter(differs).collect();
        for at in passed.into_iter().rev() {
            let reason = self.due.remove(at).excuse.expect("it is before the next");
            self.drop_some(reason, 1);
        }
        let Datagrams { relayed, bytes, .. } = &mut self.tally;
        let (relayed, bytes) = match goes_up {
            true => (&mut relayed.up, &mut bytes.up),
            false => (&mut relayed.down, &mut bytes.down),
        };
        (*relayed, *bytes) = (*relayed + 1, *bytes + due.data as u64);
        self.active_at = now;
    }

    /// The kernel refused this for good.
    pub(crate) fn note_refused(
        &mut self,
        goes_up: bool,
        to: SocketAddr,
        bytes: &[u8],
        reason: DropReason,
    ) {
        let mut same = self.due.iter_mut().filter(|it| it.goes_up == goes_up && is_same(it.to, to));
        let due = same.find(|it| it.bytes == bytes && it.excuse.is_none());
        // One that is tried again has its excuse.
        if let Some(due) = due {
            due.excuse = Some(reason);
        }
    }

    /// The kernel has no room for any of them.
    pub(crate) fn note_no_room(&mut self, goes_up: bool, is_v4: bool) {
        let of_socket =
            |it: &&mut Due| it.goes_up == goes_up && (!goes_up || it.to.is_ipv4() == is_v4);
        for due in self.due.iter_mut().filter(of_socket) {
            due.excuse = Some(DropReason::Unsent);
        }
    }

    /// The turn is over: nothing is still to be sent.
    pub(crate) fn end_turn(&mut self) {
        for due in std::mem::take(&mut self.due) {
            let reason =
                due.excuse.unwrap_or_else(|| panic!("not sent to {}: {:02x?}", due.to, due.bytes));
            self.drop_some(reason, 1);
        }
    }

    /// Time has passed: the names that nobody waits for any more.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<String> {
        self.expire_parts(now);
        let is_over = |it: &Question| it.deadline.is_some_and(|at| at <= now);
        let (over, asked) = std::mem::take(&mut self.asked).into_iter().partition(is_over);
        self.asked = asked;
        self.give_up(over)
    }

    /// The association is over: the names that nobody waits for any more.
    pub(crate) fn end(&mut self) -> Vec<String> {
        self.abandon_parts();
        self.contacts.clear();
        let asked = std::mem::take(&mut self.asked);
        self.give_up(asked)
    }

    fn give_up(&mut self, questions: Vec<Question>) -> Vec<String> {
        let letters = questions.iter().map(|it| it.letters.len()).sum();
        self.drop_some(DropReason::Unresolved, letters);
        questions.into_iter().map(|it| it.name).collect()
    }

    /// When something of it will have waited too long.
    pub(crate) fn expires_at(&self) -> Option<u64> {
        let parts = (!self.parts.is_empty()).then_some(self.parts_since + FRAGMENTS_PATIENCE);
        self.asked.iter().filter_map(|it| it.deadline).chain(parts).min()
    }

    pub(crate) fn contacts_len(&self) -> usize {
        self.contacts.len()
    }

    pub(crate) fn fragments_len(&self) -> usize {
        self.parts.iter().map(|part| part.data.len()).sum()
    }

    pub(crate) fn letters_len(&self) -> usize {
        let letters = self.asked.iter().flat_map(|it| &it.letters);
        letters.map(|(_, data)| data.len()).sum()
    }

    fn drop_some(&mut self, reason: DropReason, count: usize) {
        self.tally.count_drop(reason, count as u64);
    }
}

/// Whether it is no use to wait for other addresses: one of these is permitted, and there is a way.
fn may_do(around: &impl Surroundings, ips: &[IpAddr]) -> bool {
    let may = |ip: IpAddr| !ip.is_unspecified() && ip != DENIED && around.has_way(ip);
    ips.iter().any(|ip| may(ip.to_canonical()))
}

/// Whether they are the same but for a scope.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip(), one.port()) == (other.ip(), other.port())
}

/// A datagram of a client's; none: it is malformed.
fn parse(bytes: &[u8]) -> Option<Heard> {
    let (&[_, _, frag, atyp], rest) = bytes.split_first_chunk()?;
    let (whither, rest) = match atyp {
        1 => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            (Whither::Ip(IpAddr::from(*ip)), rest)
        }
        4 => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            (Whither::Ip(IpAddr::from(*ip).to_canonical()), rest)
        }
        3 => {
            let (&len, rest) = rest.split_first()?;
            let (name, rest) = rest.split_at_checked(len.into())?;
            let name = str::from_utf8(name).ok()?;
            let whither = match name.parse::<Ipv4Addr>() {
                Ok(ip) => Whither::Ip(ip.into()),
                Err(_) if name.ends_with(".example") => Whither::Name(name.to_owned()),
                Err(_) => return None,
            };
            (whither, rest)
        }
        _ => return None,
    };
    let (port, data) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    let is_wrong = port == 0 || frag == 0x80;
    (!is_wrong).then(|| Heard { frag, to: (whither, port), data: data.to_vec() })
}
