use std::net::SocketAddr;
use std::time::Instant;

use super::{Action, Resolver};
use crate::dns::channels::{Asked, Channel, ChannelId, Transport};
use crate::dns::lookup::Sent;
use crate::dns::message::{self, Family, Question};

/// How questions get onto channels, and off them.
impl Resolver {
    /// Sends a query to the server whose turn it is.
    pub(super) fn send(&mut self, index: usize, family: Family, now: Instant) {
        let Some(query) = self.lookups.get_mut(index).and_then(|it| it.query(family)) else {
            return;
        };
        let (server, transport) = match query.stream.filter(|server| self.servers.has(*server)) {
            Some(server) => (server, Transport::Tcp),
            None => (self.servers.next(&mut query.asked, now), Transport::Udp),
        };
        query.begin_try(server, transport, self.servers.len(), now);
        match query.sent_to(server, transport) {
            Some(sent) => self.send_again(sent),
            None => self.send_anew(index, family, server, transport, now),
        }
    }

    /// The same question on the same channel: neither gives a forger another chance.
    pub(super) fn send_again(&mut self, sent: Sent) {
        let edns = self.edns_of(sent);
        let Some(channel) = self.channels.find(sent.channel) else { return };
        // A stream loses nothing.
        if channel.transport == Transport::Udp
            && let Some(asked) = channel.asked.get(&sent.id)
        {
            let bytes = encode(&asked.question, edns, Transport::Udp);
            self.counters.sent += 1;
            self.actions.push_back(Action::Send { channel: sent.channel, bytes });
        }
    }

    fn edns_of(&mut self, sent: Sent) -> bool {
        let asked = self.channels.find(sent.channel).and_then(|it| it.asked.get(&sent.id));
        let asked = asked.map(|asked| (asked.lookup, asked.family));
        asked.and_then(|(index, family)| self.query(index, family)).is_none_or(|query| query.edns)
    }

    fn send_anew(
        &mut self,
        index: usize,
        family: Family,
        server: SocketAddr,
        transport: Transport,
        now: Instant,
    ) {
        let Some(id) = self.channel_for(index, family, server, transport, now) else {
            return self.try_again_soon(index, family, now);
        };
        let Some(channel) = self.channels.find(id) else { return };
        let Some(question_id) = channel.free_id(|| self.random.number()) else {
            return self.try_again_soon(index, family, now);
        };
        let Some(query) = self.lookups.get_mut(index).and_then(|it| it.query(family)) else {
            return;
        };
        let name = message::mix_letters(&query.name, || u64::from_ne_bytes(self.random.bytes()));
        let question = Question { id: question_id, name, family, is_exact: query.is_exact };
        let bytes = encode(&question, query.edns, transport);
        query.sent.push(Sent { channel: id, id: question_id, server, transport });
        channel.asked.insert(question_id, Asked { question, lookup: index, family });
        self.counters.sent += 1;
        self.actions.push_back(Action::Send { channel: id, bytes });
    }

    /// The other family's channel if it goes there, else a new one, else one that others use.
    fn channel_for(
        &mut self,
        index: usize,
        family: Family,
        server: SocketAddr,
        transport: Transport,
        now: Instant,
    ) -> Option<ChannelId> {
        if transport == Transport::Udp
            && let Some(other) = self.query(index, family.other())
            && let Some(sent) = other.sent_to(server, transport)
            && self.channels.find(sent.channel).is_some_and(|it| it.strangers == 0)
        {
            return Some(sent.channel);
        }
        let is_short = self.short_until.is_some_and(|until| until > now);
        let shared = if transport == Transport::Udp { self.channels.share(server) } else { None };
        let has_room = self.channels.has_room(server, transport, self.servers.len());
        if !has_room || is_short && shared.is_some() {
            return shared;
        }
        let channel = self.channels.open(server, transport);
        self.actions.push_back(Action::Open { channel, server, transport });
        Some(channel)
    }

    pub(super) fn try_again_soon(&mut self, index: usize, family: Family, now: Instant) {
        if let Some(query) = self.query(index, family) {
            query.put_off(now + Self::PAUSE);
        }
    }

    /// Gives up what goes to servers that are not ours any more.
    pub(super) fn leave_servers(&mut self, now: Instant) {
        for id in self.channels.to_others(|server| self.servers.has(server)) {
            let Some(channel) = self.close(id) else { continue };
            for asked in channel.asked.into_values() {
                let Some(query) = self.query(asked.lookup, asked.family) else { continue };
                query.put_off(now);
                self.set_timer(asked.lookup);
            }
        }
    }

    pub(super) fn withdraw_all(&mut self, index: usize, family: Family) {
        let Some(query) = self.query(index, family) else { return };
        for sent in query.take_sent() {
            self.withdraw(sent.channel, sent.id);
        }
    }

    /// Takes a question off its channel, which is closed if that was the last.
    pub(super) fn withdraw(&mut self, id: ChannelId, question: u16) {
        let Some(channel) = self.channels.find(id) else { return };
        channel.asked.remove(&question);
        if channel.asked.is_empty() {
            self.close(id);
        }
    }

    /// Closes a channel; what was on its way there is no more.
    pub(super) fn close(&mut self, id: ChannelId) -> Option<Channel> {
        let channel = self.channels.close(id)?;
        self.actions.push_back(Action::Close { channel: id });
        for asked in channel.asked.values() {
            if let Some(query) = self.query(asked.lookup, asked.family) {
                query.sent.retain(|sent| sent.channel != id);
            }
        }
        Some(channel)
    }
}

/// A question as it travels: on a stream with its length before it.
fn encode(question: &Question, edns: bool, transport: Transport) -> Vec<u8> {
    let mut message = Vec::new();
    question.encode(edns, &mut message);
    match transport {
        Transport::Udp => message,
        Transport::Tcp => [&(message.len() as u16).to_be_bytes(), &message[..]].concat(),
    }
}
