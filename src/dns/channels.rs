use std::collections::BTreeMap;
use std::net::SocketAddr;

use slab::Slab;

use super::message::{Family, Question};

/// Which of the resolver's sockets; no other ever has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelId {
    /// Below [`CHANNELS_MAX`]: free again when the channel is closed.
    pub slot: usize,
    /// Tells one life of a slot from another.
    pub generation: u32,
}

/// How a question travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A datagram, from a port of its own while there are few of them.
    Udp,
    /// A connection for one question.
    Tcp,
}

/// The way to one server: the questions that are on it, each under an id of its own.
pub(super) struct Channel {
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
    pub(super) asked: BTreeMap<u16, Asked>,
    /// What came over it that was no answer to any question.
    pub(super) strangers: u32,
    /// What has arrived of a message, with the length before it.
    pub(super) inbound: Vec<u8>,
    generation: u32,
    uses: u32,
}

/// A question on its way, and what it is for.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) lookup: usize,
    pub(super) family: Family,
}

/// All channels that are open.
pub(super) struct Channels {
    open: Slab<Channel>,
    max: usize,
    tcp: usize,
    generation: u32,
}

/// As few channels as names can be asked for with.
pub const CHANNELS_MIN: usize = 4;
/// As many channels as it takes to make guessing a port a bad bet; each is a descriptor.
pub const CHANNELS_MAX: usize = 64;

impl Channels {
    /// One of so many may be a stream.
    const TCP_PART: usize = 4;
    /// A port that has been used that often is known to too many, if there are others.
    const USES_MAX: u32 = 1000;

    /// None yet, and never more than `max`.
    pub(super) fn new(max: usize) -> Channels {
        let max = max.clamp(CHANNELS_MIN, CHANNELS_MAX);
        Channels { open: Slab::new(), max, tcp: 0, generation: 0 }
    }

    pub(super) fn find(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.open.get_mut(id.slot).filter(|channel| channel.generation == id.generation)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// The ids of those to a server that is not `kept`.
    pub(super) fn to_others(&self, kept: impl Fn(SocketAddr) -> bool) -> Vec<ChannelId> {
        let others = self.open.iter().filter(|(_, channel)| !kept(channel.server));
        others.map(|(slot, channel)| ChannelId { slot, generation: channel.generation }).collect()
    }

    /// Whether one more may be opened to a server, one of so many.
    pub(super) fn has_room(
        &self,
        server: SocketAddr,
        transport: Transport,
        servers: usize,
    ) -> bool {
        let tcp_max = self.max / Self::TCP_PART;
        let udp_max = self.max - tcp_max;
        if transport == Transport::Tcp {
            return self.tcp < tcp_max;
        }
        let to_it = self
            .open
            .iter()
            .filter(|(_, channel)| (channel.server, channel.transport) == (server, Transport::Udp));
        // A silent server must not keep us from asking another.
        let share = (udp_max / servers.max(1)).max(1);
        to_it.count() < share && self.open.len() - self.tcp < udp_max
    }

    /// A new channel, for which there is [room](Self::has_room).
    pub(super) fn open(&mut self, server: SocketAddr, transport: Transport) -> ChannelId {
        self.tcp += usize::from(transport == Transport::Tcp);
        self.generation = self.generation.wrapping_add(1);
        let channel = Channel {
            server,
            transport,
            asked: BTreeMap::new(),
            strangers: 0,
            inbound: Vec::new(),
            generation: self.generation,
            uses: 0,
        };
        ChannelId { slot: self.open.insert(channel), generation: self.generation }
    }

    /// The best of the channels to `server` for one more datagram: little used, and not busy.
    pub(super) fn share(&self, server: SocketAddr) -> Option<ChannelId> {
        let candidates = self
            .open
            .iter()
            .filter(|(_, channel)| (channel.server, channel.transport) == (server, Transport::Udp));
        let (slot, channel) = candidates
            .min_by_key(|(_, channel)| (channel.uses >= Self::USES_MAX, channel.asked.len()))?;
        Some(ChannelId { slot, generation: channel.generation })
    }

    pub(super) fn close(&mut self, id: ChannelId) -> Option<Channel> {
        self.find(id)?;
        let channel = self.open.remove(id.slot);
        self.tcp -= usize::from(channel.transport == Transport::Tcp);
        Some(channel)
    }
}

impl Channel {
    /// An id that no question on this channel has, or `None` if it is busy beyond sense.
    pub(super) fn free_id(&mut self, mut random: impl FnMut() -> u16) -> Option<u16> {
        self.uses += 1;
        (0..64).map(|_| random()).find(|id| !self.asked.contains_key(id))
    }
}
