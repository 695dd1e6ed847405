//! Who may answer: the addresses that associations have sent to, those sent to last.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use slab::Slab;

/// Fewer entries than these are not worth giving their room back.
const ROOM_MIN: usize = 64;

/// What makes an address another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The IP address, whatever the port.
    Address,
    /// The IP address and the port.
    AddressPort,
}

/// The contacts of all associations of a reactor.
///
/// Each association has its own, its [`Circle`], of a bounded number; a second bound is for all. Who
/// was not sent to for the longest time goes first: an answer keeps nobody (RFC 4787 REQ-6). Once
/// all are as many as there may be, an association that has its share of them makes room itself. All
/// takes constant time a contact, and memory grows and shrinks with their number.
pub struct Contacts {
    identity: Identity,
    per_association: usize,
    total: usize,
    /// Where each contact's node is.
    places: HashMap<Contact, u32>,
    nodes: Vec<Node>,
    circles: Slab<Ring>,
    everyone: Ring,
}

/// An association's contacts. Whoever has it [forgets](Contacts::forget) it in the end.
#[derive(Debug)]
#[must_use]
pub struct Circle(u32);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Contact {
    circle: u32,
    /// IPv4 as mapped.
    ip: Ipv6Addr,
    /// 0 where ports make no difference.
    port: u16,
}

struct Node {
    contact: Contact,
    /// By [`List`].
    links: [Links; 2],
}

/// The two lists that a node is in.
#[derive(Clone, Copy)]
enum List {
    Circle,
    Everyone,
}

/// A node's neighbours. The newest of all is followed by the oldest.
#[derive(Clone, Copy)]
struct Links {
    older: u32,
    newer: u32,
}

/// A list of nodes in the order in which they were sent to.
#[derive(Clone, Copy, Default)]
struct Ring {
    /// Of no meaning while there are none.
    newest: u32,
    len: u32,
}

impl Contacts {
    /// Nobody yet; at most `per_association` contacts for one association and `total` for all, of
    /// either at least one.
    pub fn new(identity: Identity, per_association: usize, total: usize) -> Contacts {
        Contacts {
            identity,
            per_association: per_association.max(1),
            total: total.clamp(1, u32::MAX as usize),
            places: HashMap::new(),
            nodes: Vec::new(),
            circles: Slab::new(),
            everyone: Ring::default(),
        }
    }

    /// A circle of nobody, for a new association.
    pub fn open(&mut self) -> Circle {
        Circle(self.circles.insert(Ring::default()) as u32)
    }

    /// A datagram goes out to `address`, which may answer from now on.
    pub fn touch(&mut self, circle: &Circle, address: SocketAddr) {
        let contact = self.contact(circle, address);
        match self.find(&contact) {
            Some(at) => self.renew(at),
            None => self.insert(contact),
        }
    }

    /// Whether `address` may answer.
    pub fn contains(&self, circle: &Circle, address: SocketAddr) -> bool {
        self.find(&self.contact(circle, address)).is_some()
    }

    /// The association is over.
    pub fn forget(&mut self, circle: Circle) {
        while let Some(oldest) = self.circles[circle.0 as usize].oldest(&self.nodes, List::Circle) {
            self.detach(oldest);
            self.remove_detached(oldest);
        }
        self.circles.remove(circle.0 as usize);
        self.shrink_if_sparse();
    }

    /// How many contacts there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How many associations have a circle.
    pub fn circles(&self) -> usize {
        self.circles.len()
    }

    fn contact(&self, circle: &Circle, address: SocketAddr) -> Contact {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let port = match self.identity {
            Identity::Address => 0,
            Identity::AddressPort => address.port(),
        };
        Contact { circle: circle.0, ip, port }
    }

    /// Mostly it is whom the association sent to last.
    fn find(&self, contact: &Contact) -> Option<u32> {
        let newest = self.circles[contact.circle as usize].newest;
        match self.nodes.get(newest as usize) {
            Some(node) if node.contact == *contact => Some(newest),
            _ => self.places.get(contact).copied(),
        }
    }

    fn renew(&mut self, at: u32) {
        if self.everyone.newest != at {
            self.detach(at);
            self.attach(at);
        }
    }

    fn insert(&mut self, contact: Contact) {
        let at = match self.surplus(contact.circle) {
            Some(oldest) => {
                self.detach(oldest);
                let node = &mut self.nodes[oldest as usize];
                self.places.remove(&node.contact);
                node.contact = contact;
                oldest
            }
            None => {
                let links = [Links { older: 0, newer: 0 }; 2];
                self.nodes.push(Node { contact, links });
                self.nodes.len() as u32 - 1
            }
        };
        self.places.insert(contact, at);
        self.attach(at);
    }

    /// Whose place another contact of this circle takes.
    fn surplus(&self, circle: u32) -> Option<u32> {
        let own = self.circles[circle as usize];
        let is_crowded = self.nodes.len() >= self.total;
        let share = if is_crowded { self.total / self.circles.len() } else { usize::MAX };
        if own.len as usize >= self.per_association.min(share.max(1)) {
            return own.oldest(&self.nodes, List::Circle);
        }
        is_crowded.then(|| self.everyone.oldest(&self.nodes, List::Everyone)).flatten()
    }

    fn attach(&mut self, at: u32) {
        let circle = self.nodes[at as usize].contact.circle;
        self.circles[circle as usize].push(&mut self.nodes, List::Circle, at);
        self.everyone.push(&mut self.nodes, List::Everyone, at);
    }

    fn detach(&mut self, at: u32) {
        let circle = self.nodes[at as usize].contact.circle;
        self.circles[circle as usize].remove(&mut self.nodes, List::Circle, at);
        self.everyone.remove(&mut self.nodes, List::Everyone, at);
    }

    /// The last node moves to where this one was, so that there are no holes.
    fn remove_detached(&mut self, at: u32) {
        let removed = self.nodes.swap_remove(at as usize);
        self.places.remove(&removed.contact);
        let Some(moved) = self.nodes.get(at as usize).map(|node| node.contact) else { return };
        let from = self.nodes.len() as u32;
        self.circles[moved.circle as usize].follow(&mut self.nodes, List::Circle, from, at);
        self.everyone.follow(&mut self.nodes, List::Everyone, from, at);
        self.places.insert(moved, at);
    }

    /// What a crowd took is given back when it has gone.
    fn shrink_if_sparse(&mut self) {
        let room = (2 * self.nodes.len()).max(ROOM_MIN);
        if self.nodes.capacity() > 2 * room {
            self.nodes.shrink_to(room);
            self.places.shrink_to(room);
        }
    }
}

impl Node {
    fn links(&mut self, list: List) -> &mut Links {
        &mut self.links[list as usize]
    }
}

impl Ring {
    fn oldest(&self, nodes: &[Node], list: List) -> Option<u32> {
        (self.len > 0).then(|| nodes[self.newest as usize].links[list as usize].newer)
    }

    fn push(&mut self, nodes: &mut [Node], list: List, at: u32) {
        *nodes[at as usize].links(list) = match self.oldest(nodes, list) {
            Some(oldest) => Links { older: self.newest, newer: oldest },
            None => Links { older: at, newer: at },
        };
        Ring::join(nodes, list, at);
        self.newest = at;
        self.len += 1;
    }

    fn remove(&mut self, nodes: &mut [Node], list: List, at: u32) {
        let Links { older, newer } = *nodes[at as usize].links(list);
        nodes[older as usize].links(list).newer = newer;
        nodes[newer as usize].links(list).older = older;
        if self.newest == at {
            self.newest = older;
        }
        self.len -= 1;
    }

    /// The node that was at `from` is at `at` now.
    fn follow(&mut self, nodes: &mut [Node], list: List, from: u32, at: u32) {
        if self.len == 1 {
            *nodes[at as usize].links(list) = Links { older: at, newer: at };
        }
        Ring::join(nodes, list, at);
        if self.newest == from {
            self.newest = at;
        }
    }

    /// Tells a node's neighbours of it.
    fn join(nodes: &mut [Node], list: List, at: u32) {
        let Links { older, newer } = *nodes[at as usize].links(list);
        nodes[older as usize].links(list).newer = at;
        nodes[newer as usize].links(list).older = at;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All contacts as lists, those sent to last at the end.
    #[derive(Default)]
    struct Naive {
        contacts: Vec<(usize, SocketAddr)>,
    }

    impl Naive {
        /// Beside so many others, below these bounds of each and of all.
        fn touch(
            &mut self,
            which: usize,
            address: SocketAddr,
            circles: usize,
            bounds: (usize, usize),
        ) {
            self.contacts.retain(|contact| *contact != (which, address));
            self.contacts.push((which, address));
            let share = (bounds.1 / circles).max(1);
            let (own, is_crowded) = (self.of(which).len(), self.contacts.len() > bounds.1);
            if own > bounds.0 || is_crowded && own > share {
                let oldest = self.contacts.iter().position(|(of, _)| *of == which).unwrap();
                self.contacts.remove(oldest);
            } else if is_crowded {
                self.contacts.remove(0);
            }
        }

        fn of(&self, which: usize) -> Vec<SocketAddr> {
            self.contacts.iter().filter(|(of, _)| *of == which).map(|(_, it)| *it).collect()
        }
    }

    impl Contacts {
        /// From the oldest to the newest, by either way through the list.
        fn walk(&self, ring: Ring, list: List) -> Vec<Contact> {
            let node = |at: u32| &self.nodes[at as usize];
            let mut forwards = Vec::new();
            let mut at = ring.oldest(&self.nodes, list).unwrap_or_default();
            for _ in 0..ring.len {
                forwards.push(node(at).contact);
                at = node(at).links[list as usize].newer;
            }
            let mut backwards = Vec::new();
            let mut at = ring.newest;
            for _ in 0..ring.len {
                backwards.push(node(at).contact);
                at = node(at).links[list as usize].older;
            }
            backwards.reverse();
            assert!(forwards == backwards, "the two ways through a list differ");
            forwards
        }

        fn of(&self, circle: &Circle) -> Vec<SocketAddr> {
            let contacts = self.walk(self.circles[circle.0 as usize], List::Circle);
            assert!(contacts.iter().all(|contact| contact.circle == circle.0));
            contacts.iter().map(Contact::address).collect()
        }

        fn check(&self) {
            assert_eq!(self.everyone.len as usize, self.nodes.len());
            assert_eq!(self.places.len(), self.nodes.len());
            for (contact, at) in &self.places {
                assert!(self.nodes[*at as usize].contact == *contact);
            }
        }
    }

    impl Contact {
        fn address(&self) -> SocketAddr {
            SocketAddr::new(IpAddr::V6(self.ip).to_canonical(), self.port)
        }
    }

    fn address(number: u32) -> SocketAddr {
        SocketAddr::from((number.to_be_bytes(), 53))
    }

    fn parse(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_was_sent_to_may_answer_and_nobody_else() {
        let mut contacts = Contacts::new(Identity::AddressPort, 8, 8);
        let (one, other) = (contacts.open(), contacts.open());
        for here in ["192.0.2.1:53", "[2001:db8::1]:53"].map(parse) {
            assert!(!contacts.contains(&one, here));
            contacts.touch(&one, here);
            assert!(contacts.contains(&one, here));
            assert!(!contacts.contains(&other, here));
        }
        for stranger in ["192.0.2.1:54", "192.0.2.2:53", "[2001:db8::1]:54", "[::c000:201]:53"] {
            assert!(!contacts.contains(&one, parse(stranger)), "{stranger}");
        }
        contacts.forget(one);
        let next = contacts.open();
        assert!(!contacts.contains(&next, parse("192.0.2.1:53")));
    }

    #[test]
    fn ports_make_a_difference_where_they_are_to() {
        for (identity, differs) in [(Identity::Address, false), (Identity::AddressPort, true)] {
            let mut contacts = Contacts::new(identity, 8, 8);
            let circle = contacts.open();
            contacts.touch(&circle, parse("192.0.2.1:53"));
            contacts.touch(&circle, parse("[2001:db8::1]:53"));
            assert_eq!(contacts.contains(&circle, parse("192.0.2.1:54")), !differs);
            assert_eq!(contacts.contains(&circle, parse("[2001:db8::1]:54")), !differs);
            assert!(contacts.contains(&circle, parse("192.0.2.1:53")));
            assert!(!contacts.contains(&circle, parse("192.0.2.2:53")));
        }
    }

    #[test]
    fn a_mapped_address_is_the_one_it_stands_for() {
        let mut contacts = Contacts::new(Identity::AddressPort, 8, 8);
        let circle = contacts.open();
        contacts.touch(&circle, parse("192.0.2.1:53"));
        assert!(contacts.contains(&circle, parse("[::ffff:192.0.2.1]:53")));
    }

    #[test]
    fn sending_keeps_a_contact_and_an_answer_does_not() {
        let mut contacts = Contacts::new(Identity::Address, 2, 8);
        let circle = contacts.open();
        contacts.touch(&circle, address(1));
        contacts.touch(&circle, address(2));
        contacts.touch(&circle, address(1));
        assert!(contacts.contains(&circle, address(2)));
        contacts.touch(&circle, address(3));
        assert!(!contacts.contains(&circle, address(2)));
        assert!(contacts.contains(&circle, address(1)));
    }

    #[test]
    fn fifty_thousand_addresses_take_the_room_of_those_that_may_answer() {
        const BOUND: u32 = 4096;
        const ALL: u32 = 50_000;
        let mut contacts = Contacts::new(Identity::AddressPort, BOUND as usize, 1 << 20);
        let (busy, quiet) = (contacts.open(), contacts.open());
        contacts.touch(&quiet, address(0));
        (0..ALL).for_each(|number| contacts.touch(&busy, address(number)));
        let known = |number: &u32| contacts.contains(&busy, address(*number));
        assert_eq!((0..ALL).filter(known).collect::<Vec<_>>(), Vec::from_iter(ALL - BOUND..ALL));
        assert!(contacts.contains(&quiet, address(0)));
        assert_eq!(contacts.nodes.len(), BOUND as usize + 1);
        assert!(contacts.nodes.capacity() <= 2 * BOUND as usize);
        contacts.check();
    }

    #[test]
    fn beyond_the_bound_for_all_the_oldest_of_all_goes_and_who_has_its_share_takes_no_more() {
        let mut contacts = Contacts::new(Identity::AddressPort, 10, 12);
        let (old, busy) = (contacts.open(), contacts.open());
        (0..10).for_each(|number| contacts.touch(&old, address(number)));
        (0..5).for_each(|number| contacts.touch(&busy, address(number)));
        assert_eq!(contacts.of(&old), (3..10).map(address).collect::<Vec<_>>());
        assert_eq!(contacts.of(&busy), (0..5).map(address).collect::<Vec<_>>());
        (5..99).for_each(|number| contacts.touch(&busy, address(number)));
        assert_eq!(contacts.of(&old), (4..10).map(address).collect::<Vec<_>>());
        assert_eq!(contacts.of(&busy), (93..99).map(address).collect::<Vec<_>>());
        contacts.check();
    }

    #[test]
    fn a_bound_of_nothing_is_one_of_one() {
        let mut contacts = Contacts::new(Identity::AddressPort, 0, 0);
        let circle = contacts.open();
        contacts.touch(&circle, address(1));
        contacts.touch(&circle, address(2));
        assert_eq!(contacts.of(&circle), [address(2)]);
    }

    #[test]
    fn what_a_crowd_took_is_given_back() {
        let mut contacts = Contacts::new(Identity::AddressPort, 4096, 1 << 20);
        let stays = contacts.open();
        contacts.touch(&stays, address(7));
        let crowd: Vec<Circle> = (0..100).map(|_| contacts.open()).collect();
        for circle in &crowd {
            (0..300).for_each(|number| contacts.touch(circle, address(number)));
        }
        assert!(contacts.nodes.capacity() > 30_000);
        crowd.into_iter().for_each(|circle| contacts.forget(circle));
        assert_eq!(contacts.of(&stays), [address(7)]);
        assert!(contacts.nodes.capacity() <= 4 * ROOM_MIN, "{}", contacts.nodes.capacity());
        assert!(contacts.places.capacity() <= 4 * ROOM_MIN, "{}", contacts.places.capacity());
        contacts.check();
    }

    #[test]
    fn a_contact_is_small() {
        assert_eq!(size_of::<Node>(), 40);
        assert_eq!(size_of::<(Contact, u32)>(), 28);
    }

    proptest! {
        #[test]
        fn it_knows_whom_a_naive_list_knows(
            per_association in 1usize..6,
            total in 1usize..12,
            steps in prop::collection::vec((0usize..5, prop::option::weighted(0.95, 0u32..8)), 0..300),
        ) {
            let bounds = (per_association, total);
            let mut contacts = Contacts::new(Identity::AddressPort, per_association, total);
            let mut naive = Naive::default();
            let mut circles = Vec::from_iter((0..5).map(|_| contacts.open()));
            for (which, step) in steps {
                match step {
                    Some(number) => {
                        let before = naive.of(which).contains(&address(number));
                        prop_assert_eq!(contacts.contains(&circles[which], address(number)), before);
                        contacts.touch(&circles[which], address(number));
                        naive.touch(which, address(number), circles.len(), bounds);
                    }
                    None => {
                        let next = contacts.open();
                        contacts.forget(std::mem::replace(&mut circles[which], next));
                        naive.contacts.retain(|(of, _)| *of != which);
                    }
                }
                contacts.check();
                for (which, circle) in circles.iter().enumerate() {
                    prop_assert_eq!(contacts.of(circle), naive.of(which));
                }
                let everyone = contacts.walk(contacts.everyone, List::Everyone);
                let everyone: Vec<_> = everyone.iter().map(Contact::address).collect();
                let expected: Vec<_> = naive.contacts.iter().map(|(_, it)| *it).collect();
                prop_assert_eq!(everyone, expected);
            }
        }
    }
}
