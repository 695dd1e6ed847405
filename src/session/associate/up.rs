use std::mem;
use std::net::SocketAddr;

use super::naming::Letter;
use super::sealing::Sealed;
use super::{Associated, Family};
use crate::config::Fragments;
use crate::dns::{Answer, Asked};
use crate::metrics::{DropReason, Traffic};
use crate::proto::udp::{self, Datagram, Fragment};
use crate::proto::{Host, Name, canonical};
use crate::relay::{Parcel, Parcels};
use crate::session::context::Visitor;
use crate::session::{Context, Net};
use crate::sys::{Batch, Message};
use crate::token::Role;

/// From the client to its targets.
impl<N: Net> Associated<N> {
    pub(super) fn relay_up(&mut self, cx: &mut Context<N>, visitor: Visitor, batch: &mut Batch) {
        if !self.inside.port.endpoint.is_readable() {
            return;
        }
        let max = self.messages_max();
        let lost = self.inside.port.endpoint.receive(batch, max);
        self.count_drop(cx, DropReason::Overflow, lost.into());
        match self.control.is_sealed() {
            true => self.take_sealed(cx, visitor, batch),
            false => self.take_plain(cx, visitor, batch),
        }
    }

    fn take_plain(&mut self, cx: &mut Context<N>, visitor: Visitor, batch: &Batch) {
        let mut parcels = Parcels::new();
        for message in batch.messages() {
            if self.may_be_clients(cx, message) {
                for datagram in message.datagrams() {
                    self.take_up(cx, visitor, message.source, datagram, &mut parcels);
                }
            }
        }
        self.post_up(cx, &mut parcels);
    }

    /// Who cannot seal as the client does is not the client, wherever it comes from.
    fn take_sealed(&mut self, cx: &mut Context<N>, visitor: Visitor, batch: &Batch) {
        let mut opened = mem::take(&mut cx.datagrams.sealed);
        for message in batch.messages() {
            // Whether it may be the client's depends on where the client's came from before it.
            if opened.is_from_elsewhere(message.source) {
                self.take_opened(cx, visitor, &mut opened);
            }
            if !self.may_be_clients(cx, message) {
                continue;
            }
            for datagram in message.datagrams() {
                let stage = self.control.stage();
                if !stage.is_some_and(|stage| opened.open(stage, message.source, datagram)) {
                    self.count_drop(cx, DropReason::Unsealed, 1);
                }
            }
        }
        self.take_opened(cx, visitor, &mut opened);
        cx.datagrams.sealed = opened;
    }

    fn take_opened(&mut self, cx: &mut Context<N>, visitor: Visitor, opened: &mut Sealed) {
        let mut parcels = Parcels::new();
        for (source, datagram, _) in opened.datagrams() {
            self.take_up(cx, visitor, source, datagram, &mut parcels);
        }
        self.post_up(cx, &mut parcels);
        drop(parcels);
        opened.clear();
    }

    fn may_be_clients(&mut self, cx: &mut Context<N>, message: Message<'_>) -> bool {
        let reason = match () {
            () if !self.inside.client.may_be(message.source) => DropReason::Stranger,
            () if message.is_truncated => DropReason::TooLarge,
            () => return true,
        };
        self.count_drop(cx, reason, message.datagrams().count() as u64);
        false
    }

    /// Sends what has waited for a name that now has these addresses, or none.
    pub(super) fn send_letters(
        &mut self,
        cx: &mut Context<N>,
        visitor: Visitor,
        letters: &[Letter],
        answer: &Answer,
    ) {
        let mut parcels = Parcels::new();
        for letter in letters {
            self.send_to_any(cx, visitor, answer, letter.port, &letter.data, &mut parcels);
        }
        self.post_up(cx, &mut parcels);
    }

    /// Takes a datagram that may be the client's.
    fn take_up<'d>(
        &mut self,
        cx: &mut Context<N>,
        visitor: Visitor,
        source: SocketAddr,
        datagram: &'d [u8],
        parcels: &mut Parcels<'d>,
    ) {
        let Ok(datagram) = udp::parse(datagram) else {
            return self.count_drop(cx, DropReason::Malformed, 1);
        };
        self.inside.confirm(source);
        match datagram.fragment {
            Fragment::Whole => {
                let abandoned = self.fragments.abandon(&mut cx.datagrams.fragments);
                self.count_drop(cx, DropReason::Fragment, abandoned);
                let Datagram { host, port, data, .. } = datagram;
                self.send_up(cx, visitor, host, port, data, parcels);
            }
            Fragment::Part { .. } => self.take_fragment(cx, visitor, datagram, parcels),
        }
    }

    fn take_fragment(
        &mut self,
        cx: &mut Context<N>,
        visitor: Visitor,
        datagram: Datagram<'_>,
        parcels: &mut Parcels<'_>,
    ) {
        if cx.terms.udp.fragments == Fragments::Drop {
            return self.count_drop(cx, DropReason::Fragment, 1);
        }
        let now = cx.now;
        let handled = self.fragments.handle_part(datagram, now, &mut cx.datagrams.fragments);
        self.count_drop(cx, DropReason::Fragment, handled.dropped);
        if let Some(whole) = handled.whole {
            // What came before it goes before it.
            self.post_up(cx, parcels);
            let mut alone = Parcels::new();
            self.send_up(cx, visitor, whole.host, whole.port, &whole.data, &mut alone);
            self.post_up(cx, &mut alone);
        }
    }

    fn send_up<'d>(
        &mut self,
        cx: &mut Context<N>,
        visitor: Visitor,
        host: Host,
        port: u16,
        data: &'d [u8],
        parcels: &mut Parcels<'d>,
    ) {
        match host {
            Host::Ip(ip) => {
                let to = SocketAddr::new(ip, port);
                match parcels.last().is_some_and(|last| last.to == Some(to))
                    || cx.permits_datagram(visitor, to)
                {
                    true => self.send_to(cx, visitor, to, data, parcels),
                    false => self.count_drop(cx, DropReason::Denied, 1),
                }
            }
            Host::Name(name) => self.send_to_name(cx, visitor, name, port, data, parcels),
        }
    }

    /// Without waiting if its addresses are known; else it waits, and those to others do not.
    fn send_to_name<'d>(
        &mut self,
        cx: &mut Context<N>,
        visitor: Visitor,
        name: Name,
        port: u16,
        data: &'d [u8],
        parcels: &mut Parcels<'d>,
    ) {
        if self.naming.is_asked(&name) {
            return self.keep(cx, &name, port, data);
        }
        if !self.naming.has_room(&cx.datagrams.room) {
            return match cx.net.known(&name, cx.now) {
                Some(answer) => self.send_to_any(cx, visitor, &answer, port, data, parcels),
                None => self.count_drop(cx, DropReason::Unresolved, 1),
            };
        }
        let token = cx.token(Role::DatagramAnswer, visitor.slot);
        let deadline = cx.after(cx.terms.timeout.resolve);
        match cx.net.resolve(&name, visitor.client, token, deadline, cx.now) {
            Asked::Known(answer) if answer.is_last() || cx.has_way_to(visitor, &answer) => {
                if !answer.is_last() {
                    cx.net.forget(token);
                }
                self.send_to_any(cx, visitor, &answer, port, data, parcels);
            }
            // The other family's addresses are still to come.
            Asked::Known(_) | Asked::Pending => {
                self.naming.begin(name.clone(), token, deadline, &mut cx.datagrams.room);
                self.keep(cx, &name, port, data);
            }
            Asked::Full => self.count_drop(cx, DropReason::Unresolved, 1),
        }
    }

    fn keep(&mut self, cx: &mut Context<N>, name: &Name, port: u16, data: &[u8]) {
        if self.naming.keep(name, port, data, &mut cx.datagrams.room).is_err() {
            self.count_drop(cx, DropReason::Unresolved, 1);
        }
    }

    /// Sends it to the first address that the client may send to and there is a socket for.
    fn send_to_any<'d>(
        &mut self,
        cx: &mut Context<N>,
        visitor: Visitor,
        answer: &Answer,
        port: u16,
        data: &'d [u8],
        parcels: &mut Parcels<'d>,
    ) {
        let Answer::Addresses { addresses, .. } = answer else {
            return self.count_drop(cx, DropReason::Unresolved, 1);
        };
        let mut reason = DropReason::Denied;
        for ip in addresses.iter().copied().map(canonical) {
            let to = SocketAddr::new(ip, port);
            if !cx.permits_datagram(visitor, to) {
                continue;
            }
            if self.outside(cx, visitor, Family::of(to)).is_some() {
                return self.send_to(cx, visitor, to, data, parcels);
            }
            reason = DropReason::Unsent;
        }
        self.count_drop(cx, reason, 1);
    }

    /// Whoever is sent something may answer.
    fn send_to<'d>(
        &mut self,
        cx: &mut Context<N>,
        visitor: Visitor,
        to: SocketAddr,
        data: &'d [u8],
        parcels: &mut Parcels<'d>,
    ) {
        let last = parcels.last().and_then(|last| last.to);
        if last != Some(to) {
            if self.outside(cx, visitor, Family::of(to)).is_none() {
                return self.count_drop(cx, DropReason::Unsent, 1);
            }
            if let Some((contacts, circle)) =
                cx.datagrams.contacts.as_mut().zip(self.circle.as_ref())
            {
                contacts.touch(circle, to);
            }
        }
        if parcels.is_full() || last.is_some_and(|last| last.is_ipv4() != to.is_ipv4()) {
            self.post_up(cx, parcels);
        }
        parcels.push(Parcel { to: Some(to), header: None, data, wrapping: 0 });
    }

    /// Sends what is ready, all of it to one family.
    fn post_up(&mut self, cx: &mut Context<N>, parcels: &mut Parcels<'_>) {
        let Some(to) = parcels.first().and_then(|first| first.to) else { return };
        let Some(outside) = &mut self.outside[Family::of(to) as usize] else { return };
        let posted = outside.port.endpoint.post(parcels, &mut cx.datagrams.segmentation);
        self.count_posted(cx, posted, Traffic::upwards);
    }
}
