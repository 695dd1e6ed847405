use std::net::{IpAddr, SocketAddr};

use super::accepting::{Accepting, Door, Expected};
use super::associate::{Associated, Inside};
use super::connecting::{Candidates, Connecting};
use super::journal::Step;
use super::{Context, Net, Pending, Purpose, Session, State};
use crate::dns::{Answer, Asked};
use crate::outcome::Refusal;
use crate::proto::{Command, Dialect, Host, Name, Reply, Request, Target, canonical};
use crate::token::Role;

/// From a request to the state that meets it.
impl<N: Net> Session<N> {
    /// A well-formed request: does what it asks, or says that we do not.
    pub(super) fn meet(
        &mut self,
        cx: &mut Context<N>,
        pending: Pending<N::Socket>,
        request: Request,
    ) -> State<N> {
        let commands = &cx.terms.commands[usize::from(self.listener)];
        if let Some(refusal) = commands.refusal(request.command, self.journal.client()) {
            self.journal.requested(request.command, request.target);
            return self.refuse(cx, pending, refusal);
        }
        let Request { command, target, .. } = request;
        let port = target.port;
        let state = match (command, &target.host) {
            (Command::Connect, Host::Ip(ip)) => {
                self.connect(cx, pending, Candidates::asked(*ip), port, false)
            }
            (Command::Connect, Host::Name(name)) => {
                self.resolve(cx, pending, name, Purpose::Connect(port))
            }
            (Command::Bind, Host::Ip(ip)) if ip.is_unspecified() => {
                self.listen(cx, pending, Expected::Anyone)
            }
            (Command::Bind, Host::Ip(ip)) => {
                let peers = self.permitted(cx, vec![*ip], port);
                self.listen_for(cx, pending, peers)
            }
            (Command::Bind, Host::Name(name)) => {
                self.resolve(cx, pending, name, Purpose::Bind { port, found: Vec::new() })
            }
            (Command::UdpAssociate, _) => self.associate(cx, pending, &target),
        };
        self.journal.requested(command, target);
        state
    }

    fn resolve(
        &mut self,
        cx: &mut Context<N>,
        pending: Pending<N::Socket>,
        name: &Name,
        purpose: Purpose,
    ) -> State<N> {
        let token = cx.token(Role::Answer, self.client.slot());
        self.deadline = cx.after(cx.terms.timeout.resolve);
        self.journal.begin(Step::Resolve, cx.now);
        let asked = cx.net.resolve(name, self.visitor().client, token, self.deadline, cx.now);
        if asked.is_open() {
            self.other = Some(token);
        }
        match asked {
            Asked::Known(answer) => self.resolved(cx, pending, purpose, answer),
            Asked::Pending => State::Resolving(pending, purpose),
            Asked::Full => self.refuse(cx, pending, Refusal::General),
        }
    }

    /// The first answer has come.
    pub(super) fn resolved(
        &mut self,
        cx: &mut Context<N>,
        pending: Pending<N::Socket>,
        purpose: Purpose,
        answer: Answer,
    ) -> State<N> {
        match (answer, purpose) {
            (Answer::Addresses { addresses, more }, Purpose::Connect(port)) => {
                self.connect(cx, pending, Candidates::named(addresses), port, more)
            }
            (Answer::Addresses { addresses, more }, Purpose::Bind { port, mut found }) => {
                found.extend(self.permitted(cx, addresses, port));
                let is_v4 = tells_v4(&pending, self.journal.client());
                match more && !found.iter().any(|ip| ip.is_ipv4() == is_v4) {
                    true => State::Resolving(pending, Purpose::Bind { port, found }),
                    false => self.listen_for(cx, pending, found),
                }
            }
            (Answer::Failed(_), Purpose::Bind { found, .. }) if !found.is_empty() => {
                self.listen_for(cx, pending, found)
            }
            (Answer::Failed(failure), _) => self.refuse(cx, pending, failure.refusal()),
        }
    }

    /// Listens for any of these, if there is one.
    pub(super) fn listen_for(
        &mut self,
        cx: &mut Context<N>,
        pending: Pending<N::Socket>,
        peers: Vec<IpAddr>,
    ) -> State<N> {
        match peers.is_empty() {
            true => self.refuse(cx, pending, Refusal::Denied),
            false => self.listen(cx, pending, Expected::These(peers)),
        }
    }

    /// Those of these addresses that the client may have to do with, in canonical form.
    pub(super) fn permitted(
        &self,
        cx: &Context<N>,
        addresses: Vec<IpAddr>,
        port: u16,
    ) -> Vec<IpAddr> {
        let visitor = self.visitor();
        let addresses = addresses.into_iter().map(canonical);
        addresses.filter(|ip| cx.permits(visitor, SocketAddr::new(*ip, port))).collect()
    }

    /// Listens for whom the client expects, and tells it where (the first of two replies).
    fn listen(
        &mut self,
        cx: &mut Context<N>,
        pending: Pending<N::Socket>,
        expected: Expected,
    ) -> State<N> {
        let opened = own_address(cx, &pending, &expected)
            .and_then(|(own, peer)| Door::open(cx, self.visitor(), own, peer));
        let (door, own, bnd) = match opened {
            Ok(opened) => opened,
            Err(refusal) => return self.refuse(cx, pending, refusal),
        };
        let reply = Reply::Granted { dialect: pending.dialect, bnd };
        self.outbox.push(reply.encode().as_slice());
        self.journal.listening(own, bnd, cx.now);
        self.deadline = cx.after(cx.terms.bind.timeout);
        State::Accepting(Accepting::new(pending, expected, door).into())
    }

    /// Opens a relay for the client's datagrams, and tells it where.
    fn associate(
        &mut self,
        cx: &mut Context<N>,
        mut pending: Pending<N::Socket>,
        hint: &Target,
    ) -> State<N> {
        let own = pending.client.local_addr().map_err(|_| Refusal::General);
        let opened = own.and_then(|own| Inside::open(cx, self.visitor(), own, hint));
        let (inside, bnd) = match opened {
            Ok(opened) => opened,
            Err(refusal) => return self.refuse(cx, pending, refusal),
        };
        // What came behind the request is of no use.
        pending.forget_early(&mut cx.buffers);
        let reply = Reply::Granted { dialect: pending.dialect, bnd };
        self.outbox.push(reply.encode().as_slice());
        self.journal.associated(bnd, cx.now);
        self.deadline = None;
        State::Associated(Associated::new(cx, pending.client, inside).into())
    }

    fn connect(
        &mut self,
        cx: &Context<N>,
        pending: Pending<N::Socket>,
        candidates: Candidates,
        port: u16,
        more: bool,
    ) -> State<N> {
        self.deadline = cx.after(cx.terms.timeout.connect);
        self.journal.begin(Step::Connect, cx.now);
        State::Connecting(Connecting::new(pending, candidates, port, more, cx.now))
    }
}

/// The address of ours where a peer may find us: the one that the way to it begins at, or else the one
/// that the client found us at. And the peer, if it is known: of a name's addresses one that the
/// client, who is to tell it where we are, has the family of.
fn own_address<N: Net>(
    cx: &mut Context<N>,
    pending: &Pending<N::Socket>,
    expected: &Expected,
) -> Result<(SocketAddr, Option<IpAddr>), Refusal> {
    let found = pending.client.local_addr().map_err(|_| Refusal::General)?;
    let peer = expected.nearest(tells_v4(pending, found.ip()));
    let own = match peer.map(|peer| (peer, cx.net.source_towards(peer))) {
        Some((_, Ok(source))) => source,
        Some((peer, Err(error))) if found.is_ipv4() != peer.is_ipv4() => {
            return Err(Refusal::of_connect(&error));
        }
        _ => found,
    };
    // SOCKS4 has no words for another.
    match pending.dialect == Dialect::Socks4 && canonical(own.ip()).is_ipv6() {
        true => Err(Refusal::General),
        false => Ok((own, peer)),
    }
}

/// Whether a client with an end at `ip` is likely to have use for an address of IPv4.
fn tells_v4<S>(pending: &Pending<S>, ip: IpAddr) -> bool {
    pending.dialect == Dialect::Socks4 || canonical(ip).is_ipv4()
}
