use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Resolver;
use crate::dns::Failure;
use crate::dns::cache::Findings;
use crate::dns::channels::{ChannelId, Transport};
use crate::dns::lookup::{Part, Sent};
use crate::dns::message::{self, Family, Mismatch, Reply};

/// What comes back, and what follows from it.
impl Resolver {
    /// The next bytes of a stream have arrived.
    pub fn handle_stream(&mut self, id: ChannelId, bytes: &[u8], now: Instant) {
        let Some(channel) = self.channels.find(id) else { return };
        channel.inbound.extend_from_slice(bytes);
        let Some((len, rest)) = channel.inbound.split_first_chunk() else { return };
        if let Some(message) = rest.get(..u16::from_be_bytes(*len).into()) {
            let message = message.to_vec();
            self.handle_message(id, &message, now);
            // One question, one answer: if it was none, there will be no other.
            self.handle_failure(id, now);
        }
    }

    /// A channel is of no use: nobody listens there, or the stream has ended.
    pub fn handle_failure(&mut self, channel: ChannelId, now: Instant) {
        let Some(channel) = self.close(channel) else { return };
        for asked in channel.asked.into_values() {
            self.fail_try(asked.lookup, asked.family, channel.server, now);
        }
    }

    pub(super) fn handle_message(&mut self, id: ChannelId, bytes: &[u8], now: Instant) {
        let Some(channel) = self.channels.find(id) else { return };
        let server = channel.server;
        let asked = message::answer_id(bytes).and_then(|it| channel.asked.get(&it));
        let read =
            asked.map(|asked| (asked.lookup, asked.family, message::read(bytes, &asked.question)));
        match read {
            Some((index, family, Ok(reply))) => {
                let transport = channel.transport;
                self.handle_reply(index, family, reply, server, transport, now);
                self.tell(index, now);
            }
            Some((index, family, Err(Mismatch::Letters))) => {
                self.counters.strangers += 1;
                self.ask_plainly(index, family, server, now);
                self.tell(index, now);
            }
            Some((.., Err(Mismatch::Stranger | Mismatch::Garbage))) | None => {
                self.handle_stranger(id, now);
            }
        }
    }

    /// Somebody guesses, or is late. Too many guesses at one port, and it is given up for a stream,
    /// which a forger cannot get into, or for another port while there are no more streams.
    fn handle_stranger(&mut self, id: ChannelId, now: Instant) {
        self.counters.strangers += 1;
        let Some(channel) = self.channels.find(id) else { return };
        channel.strangers += 1;
        if channel.strangers < Self::STRANGERS_MAX {
            return;
        }
        let Some(channel) = self.close(id) else { return };
        let (server, servers) = (channel.server, self.servers.len());
        for asked in channel.asked.into_values() {
            let has_room = self.channels.has_room(server, Transport::Tcp, servers);
            if let Some(query) = self.query(asked.lookup, asked.family) {
                query.stream = has_room.then_some(server);
                query.ask_again(server);
                self.send(asked.lookup, asked.family, now);
                self.set_timer(asked.lookup);
            }
        }
    }

    /// A server that does not keep the letters is asked once without that check; so are the
    /// others, for they would be asked with it again by a question that is on its way.
    fn ask_plainly(&mut self, index: usize, family: Family, server: SocketAddr, now: Instant) {
        self.withdraw_all(index, family);
        let Some(query) = self.query(index, family) else { return };
        query.is_exact = false;
        query.ask_again(server);
        self.send(index, family, now);
    }

    fn handle_reply(
        &mut self,
        index: usize,
        family: Family,
        reply: Reply,
        server: SocketAddr,
        transport: Transport,
        now: Instant,
    ) {
        let Some(query) = self.query(index, family) else { return };
        let least = |ttl: u32| Duration::from_secs(ttl.min(query.ttl).into());
        match reply {
            Reply::Addresses { links, .. } if query.links + links > Self::LINKS_MAX => {
                self.give_up(index, family, now);
            }
            Reply::Addresses { addresses, ttl, .. } => {
                let kept = least(ttl).min(Self::KEPT_MAX);
                self.servers.praise(server, now);
                self.finish_part(index, family, Ok(addresses), kept, now);
            }
            Reply::None { exists, ttl } => {
                let failure = if exists { Failure::NoAddress } else { Failure::NotFound };
                let kept = ttl.map_or(Self::FAILURE_KEPT, least).min(Self::NOTHING_KEPT_MAX);
                self.servers.praise(server, now);
                self.finish_part(index, family, Err(failure), kept, now);
            }
            Reply::Alias { name, links, ttl } => {
                self.servers.praise(server, now);
                self.follow(index, family, name, links, ttl, now);
            }
            Reply::Truncated if transport == Transport::Udp => {
                // Another server may have said so, or the network says it twice.
                if query.stream.is_none() {
                    query.stream = Some(server);
                    self.counters.truncated += 1;
                    self.send(index, family, now);
                }
            }
            Reply::NoEdns if query.edns => {
                query.edns = false;
                let sent = query.sent_to(server, transport);
                match (sent, transport) {
                    (Some(sent), Transport::Udp) => self.send_again(sent),
                    _ => self.fail_try(index, family, server, now),
                }
            }
            Reply::Failed | Reply::NoEdns | Reply::Truncated => {
                self.fail_try(index, family, server, now);
            }
        }
    }

    fn follow(
        &mut self,
        index: usize,
        family: Family,
        name: Box<str>,
        links: u8,
        ttl: u32,
        now: Instant,
    ) {
        self.withdraw_all(index, family);
        let Some(query) = self.query(index, family) else { return };
        query.follow(name, links, ttl, now);
        if query.links > Self::LINKS_MAX {
            return self.give_up(index, family, now);
        }
        self.send(index, family, now);
    }

    /// No server will find out.
    fn give_up(&mut self, index: usize, family: Family, now: Instant) {
        self.finish_part(index, family, Err(Failure::ServerFailed), Self::FAILURE_KEPT, now);
    }

    /// A server could not help: the next one may.
    pub(super) fn fail_try(
        &mut self,
        index: usize,
        family: Family,
        server: SocketAddr,
        now: Instant,
    ) {
        let count = self.servers.len();
        let Some(query) = self.query(index, family) else { return };
        query.failures += 1;
        query.stream = None;
        let (failures, asked_at) = (query.failures, query.last_try.take().map_or(now, |it| it.at));
        let (there, elsewhere) = query.take_sent().into_iter().partition(|it| it.server == server);
        query.sent = elsewhere;
        let there: Vec<Sent> = there;
        there.into_iter().for_each(|sent| self.withdraw(sent.channel, sent.id));
        self.servers.blame(server, asked_at, now);
        if failures >= count.max(2) {
            self.give_up(index, family, now);
        } else if count > 1 {
            self.send(index, family, now);
        } else {
            self.try_again_soon(index, family, now);
        }
        self.tell(index, now);
    }

    pub(super) fn finish_part(
        &mut self,
        index: usize,
        family: Family,
        findings: Findings,
        kept: Duration,
        now: Instant,
    ) {
        self.withdraw_all(index, family);
        let Some(lookup) = self.lookups.get_mut(index) else { return };
        self.cache.keep(&lookup.name, family, &findings, kept, now);
        lookup.parts[family as usize] = Part::Done(findings);
    }
}
