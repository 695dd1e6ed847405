use std::net::SocketAddr;

use super::{Associated, Family};
use crate::metrics::{DropReason, Traffic};
use crate::proto::udp::Header;
use crate::relay::{Parcel, Parcels};
use crate::session::{Context, Net};
use crate::sys::Batch;

/// The most that a datagram carries over IPv4 and over IPv6 (RFC 768, RFC 8200), by family.
const CARRIED_MAX: [usize; 2] = [65_507, 65_527];

/// From targets to the client.
impl<N: Net> Associated<N> {
    pub(super) fn relay_down(&mut self, cx: &mut Context<N>, family: Family, batch: &mut Batch) {
        let Some(outside) = &mut self.outside[family as usize] else { return };
        if !outside.port.endpoint.is_readable() {
            return;
        }
        let lost = outside.port.endpoint.receive(batch);
        self.count_drop(cx, DropReason::Overflow, lost.into());
        // Two associations that were each other's client would go on for ever.
        let client = self.inside.address().filter(|(client, _)| !cx.is_own_port(*client));
        let (carried_max, to) =
            client.map_or((0, None), |(client, to)| (CARRIED_MAX[Family::of(client) as usize], to));
        let mut parcels = Parcels::new();
        for message in batch.messages() {
            let reason = match () {
                () if client.is_none() || !self.may_answer(cx, message.source) => {
                    DropReason::Unsolicited
                }
                () if message.is_truncated => DropReason::TooLarge,
                () => {
                    let header = Some(Header::new(message.source));
                    for data in message.datagrams() {
                        let parcel = Parcel { to, header, data };
                        if parcel.wire_len() > carried_max {
                            self.count_drop(cx, DropReason::TooLarge, 1);
                            continue;
                        }
                        if parcels.is_full() {
                            self.post_down(cx, &mut parcels);
                        }
                        parcels.push(parcel);
                    }
                    continue;
                }
            };
            self.count_drop(cx, reason, message.datagrams().count() as u64);
        }
        self.post_down(cx, &mut parcels);
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
