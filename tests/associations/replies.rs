//! What clients are told over their control connections.

use std::net::SocketAddr;

use ringsocks::config::Advertise;
use ringsocks::proto::gssapi::ABORT;

use crate::clients::Client;
use crate::script::encoded;
use crate::tcp::OURS;
use crate::world::{ADVERTISED, World};

impl World {
    /// What the client is told of its relay port.
    pub(crate) fn told(&self, client: usize) -> Option<SocketAddr> {
        let own = self.ports[self.clients[client].inside?].own;
        let outside = ADVERTISED[usize::from(own.is_ipv6())];
        let is_told = self.house.advertise != Advertise::default();
        Some(SocketAddr::new(if is_told { outside } else { own.ip() }, own.port()))
    }

    /// All that the gateway may say to a client; what it has said is the beginning of it.
    pub(crate) fn may_say(&self, client: usize) -> Vec<u8> {
        let mut answers = self.answers(client);
        if !self.has_asked(client) {
            answers.extend(ABORT.iter().filter(|_| self.is_cut_off(client)));
            return answers;
        }
        // Why it is refused is looked at when that is over.
        let replies = match self.told(client) {
            Some(told) => vec![[&[5, 0, 0][..], &encoded(told)].concat()],
            None => [1, 2].map(|rep| [&[5, rep, 0, 1][..], &[0; 6]].concat()).to_vec(),
        };
        let Client { script, said, .. } = &self.clients[client];
        let sealed = |reply: &Vec<u8>| match &script.secured {
            Some(secured) => secured.reply(reply),
            None => reply.clone(),
        };
        let mut all = replies.iter().map(|reply| [&answers[..], &sealed(reply)].concat());
        let first = all.next().expect("there is one");
        if first.starts_with(said) { first } else { all.next().unwrap_or(first) }
    }

    /// What a client is told before its reply, so far.
    fn answers(&self, client: usize) -> Vec<u8> {
        let Client { heard, script, steps, .. } = &self.clients[client];
        match &script.secured {
            Some(secured) => secured.answers(*heard, *steps),
            None if *heard < 3 => Vec::new(),
            None => vec![5, 0],
        }
    }

    /// Whether its whole request is heard, and understood.
    fn has_asked(&self, client: usize) -> bool {
        let Client { heard, script, .. } = &self.clients[client];
        *heard >= script.request_end && self.is_known(client)
    }

    /// Whether it has nothing to prove any more.
    fn is_known(&self, client: usize) -> bool {
        let Client { script, steps, .. } = &self.clients[client];
        script.secured.as_ref().is_none_or(|it| *steps == it.legs())
    }

    /// Whether its connection ends amid a token: the end may be somebody else's.
    pub(crate) fn is_cut_off(&self, index: usize) -> bool {
        let Client { script, tcp, heard, .. } = &self.clients[index];
        let is_amid_token = script.secured.as_ref().is_some_and(|it| it.is_amid_token(*heard));
        let has_ended = tcp.fin_arrived(OURS) && !tcp.has_bytes(OURS);
        has_ended && is_amid_token && self.is_known(index) && !self.has_asked(index)
    }

    /// Whether a client knows from what it was told that it has its association: of a sealed reply
    /// it must have all.
    pub(crate) fn is_granted(&self, index: usize) -> bool {
        let Client { script, said, is_replied, inside, .. } = &self.clients[index];
        match script.secured {
            Some(_) => *is_replied && inside.is_some(),
            None => said.len() >= 2 + 10 && said[3] == 0,
        }
    }

    /// The gateway has said this to a client.
    pub(super) fn note_said(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].said.extend_from_slice(bytes);
        let (may, said) = (self.may_say(client), &self.clients[client].said);
        assert!(may.starts_with(said), "client {client} is told {said:02x?}");
        self.clients[client].is_replied = self.has_asked(client) && said.len() == may.len();
    }
}
