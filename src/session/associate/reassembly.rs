//! A client's fragments, put together again (RFC 1928 section 7).
//!
//! Fragments carry a place and no number of their datagram, so that only strict order keeps those of
//! two apart: what does not follow what is there ends it.

use std::time::{Duration, Instant};

use crate::proto::Host;
use crate::proto::udp::{Datagram, Fragment};

/// How long a sequence may take from its first fragment on; RFC 1928 asks for no less.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most data that a UDP datagram over IPv4 has.
const DATA_MAX: usize = 65_507;

/// The last place that FRAG can tell.
const POSITION_MAX: u8 = 127;

/// The bytes that all sequences of a reactor may hold.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    used: usize,
}

impl Budget {
    /// A budget of so many bytes of data, none of them used.
    pub fn new(max: usize) -> Budget {
        Budget { max, used: 0 }
    }

    /// How many bytes are held.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether so much is left.
    pub(super) fn has(&self, bytes: usize) -> bool {
        bytes <= self.max - self.used
    }

    /// Takes so much, if it is left.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = self.has(bytes);
        if fits {
            self.used += bytes;
        }
        fits
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.used -= bytes;
    }
}

/// One association's queue: at most one sequence, and no memory but while there is one.
///
/// All calls are to be made with the same budget, and [`abandon`](Self::abandon) is the last.
#[derive(Debug, Default)]
pub struct Reassembly(Option<Box<Sequence>>);

/// The fragments from the first on, without a gap.
#[derive(Debug)]
struct Sequence {
    host: Host,
    port: u16,
    /// Of all fragments; as much is taken of the budget.
    data: Vec<u8>,
    /// The place of the last one, and how many there are.
    highest: u8,
    expires_at: Instant,
}

/// What came of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub struct Handled {
    /// The datagram that it completes.
    pub whole: Option<Whole>,
    /// How many fragments never get out, this one perhaps among them: each is counted once.
    pub dropped: u64,
}

/// A datagram put together.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// Where to.
    pub host: Host,
    /// The port there.
    pub port: u16,
    /// All data.
    pub data: Vec<u8>,
}

impl Reassembly {
    /// Nothing yet.
    pub fn new() -> Reassembly {
        Reassembly(None)
    }

    /// A fragment has come; its place is judged against what came before, if that is not too old.
    ///
    /// A datagram that is no fragment is complete, and ends what was under way. Who has no use for a
    /// copy of it calls [`abandon`](Self::abandon) instead.
    pub fn handle_part(
        &mut self,
        datagram: Datagram<'_>,
        now: Instant,
        budget: &mut Budget,
    ) -> Handled {
        let expired = self.expire(now, budget);
        let (position, is_last) = place(datagram.fragment);
        let handled = match self.0.take() {
            Some(sequence) if sequence.has(&datagram) => {
                self.0 = Some(sequence);
                Handled::dropped(1)
            }
            Some(sequence) if sequence.goes_on_with(&datagram) => {
                self.append(sequence, datagram.data, is_last, budget)
            }
            sequence => {
                self.0 = sequence;
                let abandoned = self.abandon(budget);
                let data = datagram.data;
                match position {
                    1 => self.append(Sequence::new(datagram, now), data, is_last, budget),
                    _ => Handled::dropped(1),
                }
                .after(abandoned)
            }
        };
        handled.after(expired)
    }

    /// When to call [`expire`](Self::expire).
    pub fn expires_at(&self) -> Option<Instant> {
        self.0.as_ref().map(|sequence| sequence.expires_at)
    }

    /// Gives up a sequence that has taken too long: how many fragments are dropped by that.
    pub fn expire(&mut self, now: Instant, budget: &mut Budget) -> u64 {
        match self.expires_at() {
            Some(at) if at <= now => self.abandon(budget),
            _ => 0,
        }
    }

    /// Gives up what is under way, for a datagram came that is no fragment, or none will come any
    /// more: how many fragments are dropped by that.
    pub fn abandon(&mut self, budget: &mut Budget) -> u64 {
        self.0.take().map_or(0, |sequence| sequence.abandon(budget))
    }

    fn append(
        &mut self,
        mut sequence: Box<Sequence>,
        data: &[u8],
        is_last: bool,
        budget: &mut Budget,
    ) -> Handled {
        let held = sequence.data.len();
        // What leaves at once is not held.
        if held + data.len() > DATA_MAX || !is_last && !budget.take(data.len()) {
            return Handled::dropped(1 + sequence.abandon(budget));
        }
        sequence.highest += 1;
        sequence.data.extend_from_slice(data);
        if is_last {
            budget.give_back(held);
            let Sequence { host, port, data, .. } = *sequence;
            return Handled { whole: Some(Whole { host, port, data }), dropped: 0 };
        }
        self.0 = Some(sequence);
        Handled::dropped(0)
    }
}

impl Sequence {
    /// One that the data of this first fragment is still to be appended to.
    fn new(first: Datagram<'_>, now: Instant) -> Box<Sequence> {
        let Datagram { host, port, .. } = first;
        Box::new(Sequence { host, port, data: Vec::new(), highest: 0, expires_at: now + PATIENCE })
    }

    /// Whether this is the last fragment again. Another first one is none: whoever lost the end of
    /// a datagram, and sends the next, is not to be answered with a mix of both.
    fn has(&self, datagram: &Datagram<'_>) -> bool {
        let (position, is_last) = place(datagram.fragment);
        let is_same = position != 1 || !is_last && self.data == datagram.data;
        position == self.highest && self.is_for(datagram) && is_same
    }

    /// Whether this is the fragment that follows. One that no other can follow, though it is not
    /// the last, is of no use.
    fn goes_on_with(&self, datagram: &Datagram<'_>) -> bool {
        let (position, is_last) = place(datagram.fragment);
        let leads_on = is_last || position < POSITION_MAX;
        position == self.highest + 1 && self.is_for(datagram) && leads_on
    }

    fn is_for(&self, datagram: &Datagram<'_>) -> bool {
        self.port == datagram.port && self.host == datagram.host
    }

    fn abandon(&self, budget: &mut Budget) -> u64 {
        budget.give_back(self.data.len());
        self.highest.into()
    }
}

impl Handled {
    fn dropped(dropped: u64) -> Handled {
        Handled { whole: None, dropped }
    }

    /// This, after so many were dropped before.
    fn after(self, dropped: u64) -> Handled {
        Handled { dropped: self.dropped + dropped, ..self }
    }
}

/// The place in its sequence and whether that ends there: what is whole is a sequence of one.
fn place(fragment: Fragment) -> (u8, bool) {
    match fragment {
        Fragment::Whole => (1, true),
        Fragment::Part { position, is_last } => (position.get(), is_last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::udp;

    const HOST: [u8; 4] = [192, 0, 2, 1];

    const MS: Duration = Duration::from_millis(1);

    /// An association and the reactor's budget.
    struct Queue {
        reassembly: Reassembly,
        budget: Budget,
        now: Instant,
    }

    impl Queue {
        fn new() -> Queue {
            Queue::within(1 << 20)
        }

        fn within(max: usize) -> Queue {
            let now = Instant::now();
            Queue { reassembly: Reassembly::new(), budget: Budget::new(max), now }
        }

        fn hear(&mut self, frag: u8, data: &[u8]) -> Handled {
            self.hear_for(HOST, 80, frag, data)
        }

        fn hear_for(&mut self, host: [u8; 4], port: u16, frag: u8, data: &[u8]) -> Handled {
            let octets = [&[0, 0, frag, 1][..], &host, &port.to_be_bytes(), data].concat();
            let datagram = udp::parse(&octets).unwrap();
            self.reassembly.handle_part(datagram, self.now, &mut self.budget)
        }

        #[track_caller]
        fn keeps(&mut self, frag: u8, data: &[u8]) {
            assert_eq!(self.hear(frag, data), Handled::dropped(0));
        }

        #[track_caller]
        fn drops(&mut self, frag: u8, data: &[u8], dropped: u64) {
            assert_eq!(self.hear(frag, data), Handled::dropped(dropped));
        }

        #[track_caller]
        fn completes(&mut self, frag: u8, data: &[u8], all: &[u8], dropped: u64) {
            let whole = Whole { host: Host::Ip(HOST.into()), port: 80, data: all.to_vec() };
            assert_eq!(self.hear(frag, data), Handled { whole: Some(whole), dropped });
            self.is_empty();
        }

        #[track_caller]
        fn is_empty(&self) {
            assert_eq!(self.budget.used(), 0);
            assert_eq!(self.reassembly.expires_at(), None);
        }
    }

    #[test]
    fn fragments_in_order_become_one() {
        let mut queue = Queue::new();
        queue.keeps(1, b"ab");
        queue.keeps(2, b"");
        queue.keeps(3, b"cde");
        assert_eq!(queue.budget.used(), 5);
        queue.completes(0x84, b"f", b"abcdef", 0);
        queue.keeps(1, b"g");
        queue.completes(0x82, b"", b"g", 0);
    }

    #[test]
    fn a_sequence_of_one_is_complete_at_once() {
        let mut queue = Queue::within(0);
        queue.completes(0x81, b"all", b"all", 0);
        queue.completes(0x81, b"", b"", 0);
    }

    #[test]
    fn it_is_complete_until_five_seconds_after_its_first_fragment() {
        let mut queue = Queue::new();
        let start = queue.now;
        queue.keeps(1, b"a");
        queue.now = start + 4000 * MS;
        queue.keeps(2, b"b");
        assert_eq!(queue.reassembly.expires_at(), Some(start + 5000 * MS));
        queue.now = start + 4999 * MS;
        assert_eq!(queue.reassembly.expire(queue.now, &mut queue.budget), 0);
        queue.completes(0x83, b"c", b"abc", 0);
    }

    #[test]
    fn it_is_abandoned_five_seconds_after_its_first_fragment() {
        let mut queue = Queue::new();
        let start = queue.now;
        queue.keeps(1, b"a");
        queue.keeps(2, b"b");
        queue.now = start + 5000 * MS;
        assert_eq!(queue.reassembly.expire(queue.now, &mut queue.budget), 2);
        queue.is_empty();
        queue.drops(0x83, b"c", 1);

        // Whether or not anybody looked at the clock.
        queue.keeps(1, b"a");
        queue.now += 5000 * MS;
        queue.drops(0x82, b"b", 2);
        queue.keeps(1, b"a");
        queue.now += 5000 * MS;
        queue.drops(1, b"b", 1);
        queue.completes(0x82, b"c", b"bc", 0);
    }

    #[test]
    fn a_lower_place_abandons_and_only_the_first_starts_again() {
        let mut queue = Queue::new();
        queue.keeps(1, b"a");
        queue.keeps(2, b"b");
        queue.drops(1, b"c", 2);
        queue.completes(0x82, b"d", b"cd", 0);

        queue.keeps(1, b"a");
        queue.keeps(2, b"b");
        queue.keeps(3, b"c");
        queue.drops(2, b"d", 4);
        queue.is_empty();
        queue.drops(3, b"e", 1);

        queue.keeps(1, b"a");
        queue.keeps(2, b"b");
        queue.completes(0x81, b"c", b"c", 2);
    }

    #[test]
    fn the_same_place_again_is_a_duplicate() {
        let mut queue = Queue::new();
        queue.keeps(1, b"a");
        queue.drops(1, b"a", 1);
        queue.keeps(2, b"b");
        queue.drops(2, b"b", 1);
        queue.drops(0x82, b"b", 1);
        queue.completes(0x83, b"c", b"abc", 0);
        queue.drops(0x83, b"c", 1);

        // But this says that there is no more of it.
        queue.keeps(1, b"a");
        queue.completes(0x81, b"a", b"a", 1);
    }

    #[test]
    fn another_first_fragment_is_never_mixed_with_the_rest_of_one_before() {
        let mut queue = Queue::new();
        queue.keeps(1, b"a");
        queue.now += 3000 * MS;
        queue.drops(1, b"b", 1);
        queue.now += 3000 * MS;
        queue.completes(0x82, b"c", b"bc", 0);
    }

    #[test]
    fn a_gap_is_never_filled() {
        let mut queue = Queue::new();
        queue.drops(2, b"b", 1);
        queue.drops(0xff, b"c", 1);
        queue.keeps(1, b"a");
        queue.drops(3, b"c", 2);
        queue.is_empty();
        queue.drops(0x82, b"b", 1);
    }

    #[test]
    fn a_whole_datagram_ends_what_is_under_way() {
        let mut queue = Queue::new();
        queue.keeps(1, b"a");
        queue.keeps(2, b"b");
        assert_eq!(queue.reassembly.abandon(&mut queue.budget), 2);
        queue.is_empty();
        assert_eq!(queue.reassembly.abandon(&mut queue.budget), 0);
        queue.drops(0x83, b"c", 1);

        queue.keeps(1, b"a");
        queue.completes(0, b"b", b"b", 1);
    }

    #[test]
    fn all_fragments_are_for_one_address_and_port() {
        let mut queue = Queue::new();
        for (host, port) in [([192, 0, 2, 2], 80), (HOST, 81)] {
            for frag in [2, 0x82] {
                queue.keeps(1, b"a");
                assert_eq!(queue.hear_for(host, port, frag, b"b"), Handled::dropped(2));
                queue.is_empty();
                queue.drops(0x82, b"c", 1);
            }
            // Not even if it is the same otherwise.
            queue.keeps(1, b"a");
            assert_eq!(queue.hear_for(host, port, 1, b"a"), Handled::dropped(1));
            let whole = queue.hear_for(host, port, 0x82, b"b").whole.unwrap();
            assert_eq!((whole.host, whole.port), (Host::Ip(host.into()), port));
            assert_eq!(whole.data, b"ab");
        }
    }

    #[test]
    fn a_sequence_has_127_fragments_at_most() {
        let mut queue = Queue::new();
        (1..127).for_each(|frag| queue.keeps(frag, b"x"));
        queue.completes(0xff, b"x", &[b'x'; 127], 0);

        (1..127).for_each(|frag| queue.keeps(frag, b"x"));
        queue.drops(127, b"x", 127);
        queue.is_empty();
    }

    #[test]
    fn a_sequence_has_as_much_data_as_a_datagram_can_have() {
        let mut queue = Queue::new();
        let data = vec![b'x'; 40_000];
        queue.keeps(1, &data);
        queue.completes(0x82, &data[..25_507], &[b'x'; 65_507], 0);
        for frag in [2, 0x82] {
            queue.keeps(1, &data);
            queue.drops(frag, &data[..25_508], 2);
            queue.is_empty();
        }
    }

    #[test]
    fn all_associations_share_a_budget() {
        let mut queue = Queue::within(10);
        let mut other = Reassembly::new();
        queue.keeps(1, b"123456");
        let octets = [&[0, 0, 1, 1][..], &HOST, &[0, 80], b"7890"].concat();
        let first = || udp::parse(&octets).unwrap();
        assert_eq!(other.handle_part(first(), queue.now, &mut queue.budget), Handled::dropped(0));
        assert_eq!(queue.budget.used(), 10);

        // What leaves at once needs none.
        let last = Datagram { fragment: part(2, true), ..first() };
        let handled = other.handle_part(last, queue.now, &mut queue.budget);
        assert_eq!(handled.whole.unwrap().data, b"78907890");
        assert_eq!(queue.budget.used(), 6);

        queue.drops(2, b"12345", 2);
        queue.is_empty();
        queue.drops(1, b"12345678901", 1);
        queue.keeps(1, b"1234567890");
        assert_eq!(other.handle_part(first(), queue.now, &mut queue.budget), Handled::dropped(1));
        assert_eq!(other.expires_at(), None);
        queue.completes(0x82, b"more", b"1234567890more", 0);
    }

    #[test]
    fn who_sends_no_fragments_holds_nothing() {
        assert_eq!(size_of::<Reassembly>(), size_of::<usize>());
    }

    fn part(position: u8, is_last: bool) -> Fragment {
        Fragment::Part { position: position.try_into().unwrap(), is_last }
    }
}
