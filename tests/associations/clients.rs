//! What clients do with their control connections.

use std::net::SocketAddr;
use std::sync::mpsc;

use ringsocks::auth::Task;
use ringsocks::outcome::Outcome;
use ringsocks::token::Token;

use crate::counts::Event;
use crate::naive::Naive;
use crate::script::{Act, Script, addressed};
use crate::sealer::Sealer;
use crate::tcp::{Connection, PEER};
use crate::world::{Happening, World};

/// A client with its control connection.
pub(crate) struct Client {
    pub(crate) script: Script,
    pub(crate) tcp: Connection,
    pub(crate) token: Option<Token>,
    /// How many bytes of its request were sent, and those that are to be and say nothing.
    sent: usize,
    stray: Vec<u8>,
    /// How many of its bytes the gateway has heard.
    pub(crate) heard: usize,
    /// Whether it was sent its whole reply.
    pub(crate) is_replied: bool,
    /// Its end of its security context.
    pub(crate) sealer: Option<Sealer>,
    /// Its token that is looked at, and how many were.
    pub(crate) task: Option<Token>,
    pub(crate) steps: usize,
    /// What the gateway said, and how much of that was read.
    pub(crate) said: Vec<u8>,
    read: usize,
    pub(crate) replied_at: Option<u64>,
    ends: Option<Act>,
    pub(crate) accepted_at: u64,
    pub(crate) naive: Option<Naive>,
    pub(crate) inside: Option<usize>,
    pub(crate) outside: [Option<usize>; 2],
    /// Whether it must have them, of IPv4 and of IPv6.
    pub(crate) has_outside: [bool; 2],
    /// Questions of its association that are open.
    pub(crate) open: Vec<(String, Token)>,
    /// Whether the gateway has found the end of its control connection.
    pub(crate) end_seen: bool,
    pub(crate) short_at: Option<u64>,
    pub(crate) is_associated: bool,
    /// Why it could have no port.
    pub(crate) is_over_cap: bool,
    pub(crate) has_no_port: bool,
    pub(crate) ports_in_use: usize,
    pub(crate) outcome: Option<Outcome>,
    /// Whether its control connection was closed with a RST.
    pub(crate) was_reset: bool,
}

impl Client {
    pub(crate) fn new(mut script: Script) -> Client {
        Client {
            tcp: Connection::new(script.queues),
            ends: script.hangs_up.clone(),
            sealer: script.sealer.take(),
            task: None,
            steps: 0,
            script,
            token: None,
            sent: 0,
            stray: Vec::new(),
            heard: 0,
            is_replied: false,
            said: Vec::new(),
            read: 0,
            replied_at: None,
            accepted_at: 0,
            naive: None,
            inside: None,
            outside: [None; 2],
            has_outside: [false; 2],
            open: Vec::new(),
            end_seen: false,
            short_at: None,
            is_associated: false,
            is_over_cap: false,
            has_no_port: false,
            ports_in_use: 0,
            outcome: None,
            was_reset: false,
        }
    }
}

impl World {
    /// Lets some of what is under way on a control connection arrive. Says whether anything did.
    pub(crate) fn deliver(&mut self, client: usize, from: usize) -> bool {
        let max = self.random.pick(&[1, 20, 600_000]);
        let tcp = &mut self.clients[client].tcp;
        let can = tcp.can_deliver(from);
        if can {
            tcp.deliver(from, max);
            self.note("arrives", client, from);
        }
        can
    }

    /// Lets a client do what it would do next with its control connection. Says whether it did.
    pub(crate) fn act(&mut self, index: usize) -> bool {
        if self.clients[index].token.is_none() || self.clients[index].tcp.is_closed(PEER) {
            return false;
        }
        let read = self.client_reads(index);
        let sent = self.client_sends(index);
        self.client_ends(index) || read || sent
    }

    fn client_reads(&mut self, index: usize) -> bool {
        let Client { script, tcp, said, read, .. } = &mut self.clients[index];
        if !script.reads {
            return false;
        }
        let mut right = true;
        let found = tcp.recv(PEER, usize::MAX, |bytes| right = said[*read..].starts_with(bytes));
        assert!(right, "client {index} is told something else");
        match found {
            Ok(n @ 1..) => {
                *read += n;
                let has_read = *read == said.len();
                if has_read && self.is_granted(index) && self.clients[index].replied_at.is_none() {
                    self.begin_acts(index);
                }
                true
            }
            Ok(0) | Err(_) if found != Err(libc::EAGAIN) => {
                self.clients[index].tcp.close(PEER);
                self.note("client sees the end", index, 0);
                true
            }
            _ => false,
        }
    }

    fn begin_acts(&mut self, index: usize) {
        let now = self.now;
        self.clients[index].replied_at = Some(now);
        for (after, act) in self.clients[index].script.acts.clone() {
            self.at(now + after, Happening::Act(index, act));
        }
    }

    fn client_sends(&mut self, index: usize) -> bool {
        let Client { script, tcp, sent, stray, .. } = &mut self.clients[index];
        let rest = &script.asks[(*sent).min(script.asks.len())..];
        let bytes = match rest.is_empty() {
            false => rest[..rest.len().min(script.chunk_max)].to_vec(),
            true => stray[..stray.len().min(30_000)].to_vec(),
        };
        if bytes.is_empty() {
            return false;
        }
        let Ok(n) = tcp.send(PEER, &bytes) else { return false };
        *sent += n;
        if rest.is_empty() {
            stray.drain(..n);
        }
        self.note("client sends", index, n);
        true
    }

    fn client_ends(&mut self, index: usize) -> bool {
        let Client { script, tcp, ends, sent, stray, .. } = &mut self.clients[index];
        let says_more = *sent < script.asks.len() || !stray.is_empty();
        match ends {
            None => return false,
            Some(Act::Fin) if says_more || tcp.is_finished(PEER) => return false,
            Some(Act::Fin) => {
                let _ = tcp.shutdown_write(PEER);
            }
            Some(_) => {
                tcp.reset_on_close(PEER);
                tcp.close(PEER);
            }
        }
        self.note("client ends", index, 0);
        true
    }

    /// A client does what it has planned.
    pub(crate) fn perform(&mut self, index: usize, act: Act) {
        let (from, bytes) = match act {
            Act::Send { from, bytes } => (from, bytes),
            Act::SendToUs { from, which, data } => {
                let open: Vec<SocketAddr> = self.own_ports().collect();
                if open.is_empty() {
                    return;
                }
                self.count(Event::ToOurselves);
                (from, [addressed(0, open[which % open.len()]), data].concat())
            }
            Act::SendAsUs { which, bytes } => {
                let is_v4 = self.clients[index].script.own.is_ipv4();
                let open = self.own_ports().filter(|port| port.is_ipv4() == is_v4);
                let open: Vec<SocketAddr> = open.collect();
                if open.is_empty() {
                    return;
                }
                self.count(Event::AsOurselves);
                (open[which % open.len()], bytes)
            }
            Act::Stray(n) => {
                let stray = self.throw_stray(index, n);
                return self.clients[index].stray.extend(stray);
            }
            end => return self.clients[index].ends = Some(end),
        };
        self.send_datagram(index, from, bytes);
    }

    /// What comes of a client's token is told in a while.
    pub(crate) fn start_task(&mut self, index: usize, token: Token, task: Task) {
        let before = self.clients[index].task.replace(token);
        assert_eq!(before, None, "client {index}: one thing at a time");
        let (report, reported) = mpsc::channel();
        task.run(Box::new(move |done| report.send(done).expect("it is waited for")));
        let done = reported.recv().expect("nobody else does the same");
        let soon = self.random.below(30_000) as u64;
        let after =
            self.random.pick(&[0, soon, soon, soon, soon, soon, soon, 3_000_000, 9_999_000]);
        self.note("task", index, after as usize);
        self.at(self.now + after, Happening::Done { client: index, token, done });
    }
}
