//! What peers and the network do.

use crate::counts::Event;
use crate::script::{Ending, Reading};
use crate::tcp::{OURS, PEER};
use crate::world::{Link, Saw, World};

impl World {
    /// Lets some of what is under way arrive. Says whether anything did.
    pub(crate) fn deliver(&mut self, link: usize, from: usize) -> bool {
        if !self.links[link].tcp.can_deliver(from) {
            return false;
        }
        let max = match self.random.below(8) {
            0 => 1,
            1 => self.random.between(1, 20),
            2..5 => self.random.between(1, 2000),
            _ => self.random.between(1, 600_000),
        };
        self.note("arrives", link, from);
        self.links[link].tcp.deliver(from, max);
        if from == OURS {
            self.links[link].acknowledged_at = self.now;
        }
        true
    }

    /// Lets a peer do what it would do next. Says whether it did anything.
    pub(crate) fn act(&mut self, link: usize) -> bool {
        if self.links[link].tcp.is_closed(PEER) || !self.links[link].tcp.is_established() {
            return false;
        }
        let read = self.peer_reads(link);
        let sent = self.peer_sends(link);
        self.peer_ends(link) || read || sent
    }

    pub(super) fn peer_reads(&mut self, link: usize) -> bool {
        if self.links[link].saw != Saw::Nothing {
            return false;
        }
        let most = match self.plan(link).reading {
            Reading::Everything => usize::MAX,
            Reading::Nothing => 0,
            Reading::UpTo(n) => n - n.min(self.links[link].received),
        };
        if most == 0 {
            return false;
        }
        let max = most.min(self.random.pick(&[1, 100, 5000, 200_000]));
        let Link { tcp, life, target, received, .. } = &mut self.links[link];
        let life = &self.lives[*life];
        let mut right = true;
        let found = tcp.recv(PEER, max, |bytes| right = life.is_due(*target, *received, bytes));
        match found {
            Ok(0) => {
                let clean = self.links[link].tcp.fin_arrived(PEER);
                self.links[link].saw = if clean { Saw::End } else { Saw::Reset };
                self.note("peer sees the end", link, self.links[link].received);
                self.check_clean_end(link);
            }
            Ok(n) => {
                assert!(right, "link {link}: wrong bytes at {}", self.links[link].received);
                self.links[link].received += n;
                self.note("peer reads", link, n);
            }
            Err(libc::EAGAIN) => return false,
            Err(_) => {
                self.links[link].saw = Saw::Reset;
                self.note("peer sees a reset", link, self.links[link].received);
            }
        }
        true
    }

    pub(super) fn peer_sends(&mut self, link: usize) -> bool {
        let Link { life, target, sent, finished, mute, urgent_sent, received, .. } =
            self.links[link];
        let life = &self.lives[life];
        if finished || mute {
            return false;
        }
        let plan = life.plan(target);
        let allowed = match target {
            None => life.client_may_send(sent, received),
            Some(_) => plan.payload,
        };
        let chunk_max = plan.chunk_max;
        let asks = life.asks(target);
        let mark_at = plan.urgent_at.map(|at| at + asks);
        if mark_at == Some(sent) && !urgent_sent && allowed > sent {
            self.links[link].urgent_sent = true;
            if self.links[link].tcp.send_urgent(PEER) {
                self.count(Event::UrgentByte);
            }
        }
        // A chunk ends before the urgent byte, so that there is a place for it.
        let mark = mark_at.filter(|mark| *mark > sent).unwrap_or(usize::MAX);
        let n = (allowed.min(mark) - sent.min(allowed)).min(chunk_max);
        let n = if n > 0 { self.random.between(1, n) } else { return false };
        let life = &self.lives[self.links[link].life];
        let bytes = life.stream(target, sent, n);
        match self.links[link].tcp.send(PEER, &bytes) {
            Ok(n) => {
                self.links[link].sent += n;
                self.note("peer sends", link, n);
                true
            }
            Err(libc::EAGAIN) => false,
            Err(_) => {
                self.links[link].mute = true;
                true
            }
        }
    }

    pub(super) fn peer_ends(&mut self, link: usize) -> bool {
        let Link { sent, finished, mute, saw, target, .. } = self.links[link];
        let life = &self.lives[self.links[link].life];
        let all = sent == life.total(target);
        let ending = life.plan(target).ending;
        let refused = saw == Saw::End && life.granted.is_none();
        if saw == Saw::Reset || (finished || mute) && saw == Saw::End || refused {
            self.peer_closes(link);
            return true;
        }
        if finished || mute || !all || ending == Ending::Silence {
            return false;
        }
        if ending == Ending::AfterTheOther && saw != Saw::End {
            return false;
        }
        if ending == Ending::Reset {
            self.links[link].tcp.reset_on_close(PEER);
        }
        let stays = matches!(ending, Ending::HalfClose | Ending::AfterTheOther);
        if stays && self.links[link].tcp.is_dead(PEER) {
            self.links[link].mute = true;
        } else if stays {
            self.links[link].finished = self.links[link].tcp.shutdown_write(PEER).is_ok();
            self.note("peer finishes", link, sent);
        } else {
            self.peer_closes(link);
        }
        true
    }

    pub(super) fn peer_closes(&mut self, link: usize) {
        let was_dead = tcp_dead(&self.links[link]);
        let reset = self.links[link].tcp.close(PEER);
        self.links[link].sent_reset |= reset;
        self.links[link].finished |= !reset && !was_dead;
        self.note("peer closes", link, usize::from(reset));
    }

    pub(crate) fn peer_aborts(&mut self, link: usize, reset: bool) {
        let tcp = &self.links[link].tcp;
        if tcp.is_closed(PEER) || !tcp.is_established() {
            return;
        }
        if reset {
            self.links[link].tcp.reset_on_close(PEER);
        }
        self.peer_closes(link);
    }
}

pub(super) fn tcp_dead(link: &Link) -> bool {
    link.tcp.is_dead(PEER)
}
