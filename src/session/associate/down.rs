use std::mem;
use std::net::SocketAddr;

use super::{Associated, Family};
use crate::metrics::{DropReason, Traffic};
use crate::proto::udp::Header;
use crate::relay::{Parcel, Parcels};
use crate::session::{Context, Net};
use crate::sys::{Batch, Message};

/// The most that a datagram carries over IPv4 and over IPv6 (RFC 768, RFC 8200), by family.
const CARRIED_MAX: [usize; 2] = [65_507, 65_527];

/// From targets to the client.
impl<N: Net> Associated<N> {
    pub(super) fn relay_down(&mut self, cx: &mut Context<N>, family: Family, batch: &mut Batch) {
        let max = self.messages_max();
        let Some(outside) = &mut self.outside[family as usize] else { return };
        if !outside.port.endpoint.is_readable() {
            return;
        }
        let lost = outside.port.endpoint.receive(batch, max);
        self.count_drop(cx, DropReason::Overflow, lost.into());
        // Two associations that were each other's client would go on for ever.
        let client = self.inside.address().filter(|(client, _)| !cx.is_own_port(*client));
        let Some((client, to)) = client else {
            let unsolicited: usize = batch.messages().map(|it| it.datagrams().count()).sum();
            return self.count_drop(cx, DropReason::Unsolicited, unsolicited as u64);
        };
        let carried_max = CARRIED_MAX[Family::of(client) as usize];
        match self.control.is_sealed() {
            true => self.give_sealed(cx, batch, carried_max, to),
            false => self.give_plain(cx, batch, carried_max, to),
        }
    }

    fn give_plain(
        &mut self,
        cx: &mut Context<N>,
        batch: &Batch,
        carried_max: usize,
        to: Option<SocketAddr>,
    ) {
        let mut parcels = Parcels::new();
        for message in batch.messages() {
            if !self.is_wanted(cx, message) {
                continue;
            }
            let header = Some(Header::new(message.source));
            for data in message.datagrams() {
                let parcel = Parcel { to, header, data, wrapping: 0 };
                if parcel.wire_len() > carried_max {
                    self.count_drop(cx, DropReason::TooLarge, 1);
                    continue;
                }
                self.push_down(cx, &mut parcels, parcel);
            }
        }
        self.post_down(cx, &mut parcels);
    }

    fn give_sealed(
        &mut self,
        cx: &mut Context<N>,
        batch: &Batch,
        carried_max: usize,
        to: Option<SocketAddr>,
    ) {
        let mut sealed = mem::take(&mut cx.datagrams.sealed);
        let stage = self.control.stage();
        let message_max = stage.map_or(0, |stage| stage.datagram_max(carried_max));
        for message in batch.messages() {
            if !self.is_wanted(cx, message) {
                continue;
            }
            let header = Header::new(message.source).as_slice().len();
            for data in message.datagrams() {
                if header + data.len() > message_max {
                    self.count_drop(cx, DropReason::TooLarge, 1);
                    continue;
                }
                let stage = self.control.stage();
                if !stage.is_some_and(|stage| sealed.seal(stage, message.source, data)) {
                    self.count_drop(cx, DropReason::Unsent, 1);
                }
            }
        }
        let mut parcels = Parcels::new();
        for (_, data, wrapping) in sealed.datagrams() {
            self.push_down(cx, &mut parcels, Parcel { to, header: None, data, wrapping });
        }
        self.post_down(cx, &mut parcels);
        drop(parcels);
        sealed.clear();
        cx.datagrams.sealed = sealed;
    }

    fn push_down<'d>(
        &mut self,
        cx: &mut Context<N>,
        parcels: &mut Parcels<'d>,
        parcel: Parcel<'d>,
    ) {
        if parcels.is_full() {
            self.post_down(cx, parcels);
        }
        parcels.push(parcel);
    }

    /// Whether the client wants what comes from there, and it is whole.
    fn is_wanted(&mut self, cx: &mut Context<N>, message: Message<'_>) -> bool {
        let reason = match () {
            () if !self.may_answer(cx, message.source) => DropReason::Unsolicited,
            () if message.is_truncated => DropReason::TooLarge,
            () => return true,
        };
        self.count_drop(cx, reason, message.datagrams().count() as u64);
        false
    }

    /// Whether the client wants to hear of `source`.
    fn may_answer(&self, cx: &Context<N>, source: SocketAddr) -> bool {
        let contacts = cx.datagrams.contacts.as_ref().zip(self.circle.as_ref());
        contacts.is_none_or(|(contacts, circle)| contacts.contains(circle, source))
    }

    fn post_down(&mut self, cx: &mut Context<N>, parcels: &mut Parcels<'_>) {
        let posted = self.inside.port.endpoint.post(parcels, &mut cx.datagrams.segmentation);
        self.count_posted(cx, posted, Traffic::downwards);
    }
}
