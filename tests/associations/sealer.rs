//! How a client seals its datagrams, well and badly, and what it remembers of them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use ringsocks::proto::gssapi::{HEADER_BYTES, MessageType, Order, Seal};

use crate::counts::Event;
use crate::kernel::DATAGRAM_MAX;
use crate::mechanism::{MockSeal, overhead};
use crate::random::Random;
use crate::world::{Happening, World};

/// How many tokens are remembered, to be sent once more.
const REMEMBERED: usize = 80;

/// A client's end of its context.
pub(crate) struct Sealer {
    seal: MockSeal,
    confidential: bool,
    /// The number of its next token, from where its request began.
    number: u64,
    /// What each token carries that it has sealed.
    genuine: BTreeMap<Vec<u8>, Genuine>,
    /// The last of these, and of those that it was sent.
    sealed: VecDeque<Vec<u8>>,
    heard: VecDeque<Vec<u8>>,
}

/// What a token carries, and whether it is sealed as was agreed.
#[derive(Clone)]
pub(crate) struct Genuine {
    pub(crate) number: u64,
    pub(crate) message: Vec<u8>,
    pub(crate) is_as_agreed: bool,
}

/// What becomes of a datagram before it is sent.
#[derive(Clone, Copy)]
enum Manner {
    Well,
    Unsealed,
    Tampered,
    OtherLevel,
    OtherFrame,
    Twice,
    Again,
    Foreign,
    Reflected,
    Late,
    Gap,
}

/// All that is not done well.
const BADLY: [Manner; 10] = [
    Manner::Unsealed,
    Manner::Tampered,
    Manner::OtherLevel,
    Manner::OtherFrame,
    Manner::Twice,
    Manner::Again,
    Manner::Foreign,
    Manner::Reflected,
    Manner::Late,
    Manner::Gap,
];

impl Sealer {
    pub(crate) fn new(seal: MockSeal, confidential: bool) -> Sealer {
        Sealer {
            seal,
            confidential,
            number: 0,
            genuine: BTreeMap::new(),
            sealed: VecDeque::new(),
            heard: VecDeque::new(),
        }
    }

    /// The next token, behind its header.
    pub(crate) fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        self.seal_as(message, self.confidential)
    }

    fn seal_as(&mut self, message: &[u8], confidential: bool) -> Vec<u8> {
        let token = self.seal.framed(MessageType::Data, message, confidential);
        let is_as_agreed = confidential == self.confidential;
        let genuine = Genuine { number: self.number, message: message.to_vec(), is_as_agreed };
        self.number += 1;
        self.genuine.insert(token.clone(), genuine);
        remember(&mut self.sealed, token.clone());
        token
    }

    /// What this carries, if it is a token that the client has sealed.
    pub(crate) fn opened(&self, token: &[u8]) -> Option<Genuine> {
        self.genuine.get(token).cloned()
    }

    /// How many tokens it has sealed.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The client is sent this.
    pub(crate) fn hear(&mut self, token: &[u8]) {
        let mut opened = token.to_vec();
        let order = match self.seal.unwrap(&mut opened[HEADER_BYTES..]) {
            Ok(opened) if opened.confidential == self.confidential => opened.order,
            other => panic!("{other:?} is sent to a client"),
        };
        // The kernel may have refused some.
        assert!(matches!(order, Order::Next | Order::Gap), "{order:?} is sent to a client");
        remember(&mut self.heard, token.to_vec());
    }
}

/// As much of a datagram's message as can be sent, whatever level it is sealed at.
fn fitting(message: &[u8]) -> &[u8] {
    &message[..message.len().min(DATAGRAM_MAX[0] - HEADER_BYTES - overhead(true))]
}

fn remember(tokens: &mut VecDeque<Vec<u8>>, token: Vec<u8>) {
    tokens.push_back(token);
    if tokens.len() > REMEMBERED {
        tokens.pop_front();
    }
}

fn pick(random: &mut Random, tokens: &VecDeque<Vec<u8>>) -> Option<Vec<u8>> {
    (!tokens.is_empty()).then(|| tokens[random.below(tokens.len())].clone())
}

impl World {
    /// A client sends a datagram, which it seals if it can.
    pub(crate) fn send_datagram(&mut self, index: usize, from: SocketAddr, bytes: Vec<u8>) {
        let Some(inside) = self.clients[index].inside else { return };
        let to = self.ports[inside].own;
        let Some(mut sealer) = self.clients[index].sealer.take() else {
            return self.dispatch(from, to, bytes);
        };
        let manner = match self.random.once_in(self.clients[index].script.slips) {
            true => self.random.pick(&BADLY),
            false => Manner::Well,
        };
        let late = matches!(manner, Manner::Late).then(|| self.random.below(3_000_000) as u64);
        let sent = self.seal_datagrams(index, &mut sealer, fitting(&bytes), manner);
        self.clients[index].sealer = Some(sealer);
        for bytes in sent {
            match late {
                Some(late) => {
                    self.at(self.now + 500 + late, Happening::Arrives { from, to, bytes });
                }
                None => self.dispatch(from, to, bytes),
            }
        }
    }

    /// What the client sends in the place of a message.
    fn seal_datagrams(
        &mut self,
        index: usize,
        sealer: &mut Sealer,
        message: &[u8],
        manner: Manner,
    ) -> Vec<Vec<u8>> {
        let random = &mut self.random;
        match manner {
            Manner::Well | Manner::Late => vec![sealer.seal(message)],
            Manner::Unsealed => vec![message.to_vec()],
            Manner::Tampered => {
                let mut token = sealer.seal(message);
                let at = random.below(token.len());
                token[at] ^= 1 << random.below(8);
                vec![token]
            }
            Manner::OtherLevel => {
                let token = sealer.seal_as(message, !sealer.confidential);
                self.count(Event::OtherLevel);
                vec![token]
            }
            Manner::OtherFrame => vec![throw_frame(random, sealer, message)],
            Manner::Twice => {
                let token = sealer.seal(message);
                vec![token.clone(), token]
            }
            Manner::Again => {
                let before = pick(random, &sealer.sealed);
                before.into_iter().chain([sealer.seal(message)]).collect()
            }
            Manner::Foreign => {
                let other = random.below(self.clients.len());
                let theirs = self.clients[other].sealer.as_ref().filter(|_| other != index);
                let token = theirs.and_then(|theirs| pick(random, &theirs.sealed));
                if token.is_some() {
                    self.count(Event::Foreign);
                }
                token.into_iter().collect()
            }
            Manner::Reflected => {
                let token = pick(random, &sealer.heard);
                if token.is_some() {
                    self.count(Event::Reflected);
                }
                token.into_iter().collect()
            }
            Manner::Gap => {
                for _ in 0..random.pick(&[1, 2, 62, 63, 64, 65, 200]) {
                    sealer.seal.skip();
                    sealer.number += 1;
                }
                vec![sealer.seal(message)]
            }
        }
    }

    /// What a client says on its control connection that has nothing to say any more.
    pub(crate) fn throw_stray(&mut self, index: usize, n: usize) -> Vec<u8> {
        self.count(Event::Stray);
        match &mut self.clients[index].sealer {
            Some(sealer) if self.random.once_in(2) => {
                self.counts[Event::StraySealed as usize] += 1;
                vec![b'?'; n].chunks(30_000).flat_map(|piece| sealer.seal(piece)).collect()
            }
            _ => vec![b'?'; n],
        }
    }
}

/// What is no token of a datagram, though it contains one.
fn throw_frame(random: &mut Random, sealer: &mut Sealer, message: &[u8]) -> Vec<u8> {
    let mut token = sealer.seal(message);
    match random.below(7) {
        0 => token[1] = random.pick(&[0, 1, 2, 4, 0xff]),
        1 => token[0] = random.pick(&[0, 2, 5]),
        2 => token.truncate(random.below(token.len())),
        3 => token.push(0),
        4 => drop(token.drain(..HEADER_BYTES)),
        5 => token.truncate(HEADER_BYTES),
        _ => token.extend_from_within(..token.len().min(DATAGRAM_MAX[0] - token.len())),
    }
    if token.len() == HEADER_BYTES {
        token[2..].fill(0);
    }
    token
}
