//! The messages are built by hand here: what the crate for the wire format makes of them is what
//! is tested.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::proto::Host;

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const IN: u16 = 1;
const CHAOS: u16 = 3;
const ID: u16 = 0xbeef;
const ONE: [u8; 4] = [192, 0, 2, 1];
const TWO: [u8; 4] = [192, 0, 2, 2];

fn question(name: &str) -> Question {
    Question { id: ID, name: name.into(), family: Family::V4, is_exact: true }
}

fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// A message under construction: sections in the order they are to have.
struct Built(Vec<u8>);

impl Built {
    fn new(id: u16, flags: u16) -> Built {
        let mut message = vec![0; 12];
        message[..2].copy_from_slice(&id.to_be_bytes());
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        Built(message)
    }

    /// An answer with recursion to A questions.
    fn answer(name: &str) -> Built {
        Built::error(name, 0)
    }

    fn error(name: &str, rcode: u16) -> Built {
        Built::new(ID, 0x8180 | rcode).question(name, A, IN)
    }

    fn count(&mut self, section: usize) {
        let at = 4 + 2 * section;
        let count = u16::from_be_bytes([self.0[at], self.0[at + 1]]) + 1;
        self.0[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }

    fn question(mut self, name: &str, rtype: u16, class: u16) -> Built {
        self.count(0);
        self.0.extend(wire(name));
        self.0.extend([rtype, class].map(u16::to_be_bytes).concat());
        self
    }

    fn raw(mut self, section: usize, owner: &[u8], fields: (u16, u16, u32), data: &[u8]) -> Built {
        let (rtype, class, ttl) = fields;
        self.count(section);
        self.0.extend(owner);
        self.0.extend([rtype, class].map(u16::to_be_bytes).concat());
        self.0.extend(ttl.to_be_bytes());
        self.0.extend((data.len() as u16).to_be_bytes());
        self.0.extend(data);
        self
    }

    fn a(self, name: &str, ttl: u32, ip: [u8; 4]) -> Built {
        self.raw(1, &wire(name), (A, IN, ttl), &ip)
    }

    fn cname(self, name: &str, ttl: u32, target: &str) -> Built {
        self.raw(1, &wire(name), (CNAME, IN, ttl), &wire(target))
    }

    fn soa(self, zone: &str, ttl: u32, minimum: u32) -> Built {
        let numbers = [1, 2, 3, 4, minimum].map(u32::to_be_bytes).concat();
        let data = [wire("ns.example"), wire("admin.example"), numbers].concat();
        self.raw(2, &wire(zone), (SOA, IN, ttl), &data)
    }

    fn read(&self) -> Result<Reply, Mismatch> {
        read(&self.0, &question("a.example"))
    }
}

fn addresses(ips: &[[u8; 4]], ttl: u32) -> Result<Reply, Mismatch> {
    addresses_behind(0, ips, ttl)
}

fn addresses_behind(links: u8, ips: &[[u8; 4]], ttl: u32) -> Result<Reply, Mismatch> {
    let addresses = ips.iter().map(|&ip| Ipv4Addr::from(ip).into()).collect();
    Ok(Reply::Addresses { addresses, links, ttl })
}

fn alias(name: &str, links: u8, ttl: u32) -> Result<Reply, Mismatch> {
    Ok(Reply::Alias { name: name.into(), links, ttl })
}

fn none(exists: bool, ttl: Option<u32>) -> Result<Reply, Mismatch> {
    Ok(Reply::None { exists, ttl })
}

#[test]
fn a_query_is_what_rfc_1035_and_6891_say() {
    let question = Question { family: Family::V6, ..question("wWw.a-b.example") };
    let mut query = vec![7];
    question.encode(true, &mut query);
    let expected = b"\x07\xbe\xef\x01\0\0\x01\0\0\0\0\0\x01\x03wWw\x03a-b\x07example\0\0\x1c\0\x01\
        \0\0\x29\x04\xd0\0\0\0\0\0\0";
    assert_eq!(query, expected);
    query.clear();
    question.encode(false, &mut query);
    let expected = b"\xbe\xef\x01\0\0\x01\0\0\0\0\0\0\x03wWw\x03a-b\x07example\0\0\x1c\0\x01";
    assert_eq!(query, expected);
    assert_eq!(answer_id(&query), None);
}

#[test]
fn letters_are_mixed_by_all_random_bits() {
    assert_eq!(&*mix_letters("aB-c9.d", || !0), "AB-C9.D");
    assert_eq!(&*mix_letters("aB-c9.d", || 0), "ab-c9.d");
    assert_eq!(&*mix_letters("abcdefg", || 0b100_1010), "aBcDefG");
    let mut words = [1, 0, 2].into_iter();
    let mixed = mix_letters(&"a".repeat(130), || words.next().unwrap());
    let upper: Vec<_> = mixed.match_indices('A').map(|(at, _)| at).collect();
    assert_eq!(upper, [0, 129]);
}

#[test]
fn addresses_are_kept_in_order_once_each() {
    let message = Built::answer("a.example").a("a.example", 60, TWO).a("A.EXAMPLE", 30, ONE);
    assert_eq!(message.a("a.example", 90, TWO).read(), addresses(&[TWO, ONE], 30));
}

#[test]
fn v6_addresses_are_read_and_mapped_ones_are_what_they_stand_for() {
    let question = Question { family: Family::V6, ..question("a.example") };
    let ip: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let mapped = Ipv4Addr::from(ONE).to_ipv6_mapped();
    let message = Built::new(ID, 0x8180)
        .question("a.example", AAAA, IN)
        .raw(1, &[0xc0, 12], (AAAA, IN, 5), &ip.octets())
        .raw(1, &[0xc0, 12], (AAAA, IN, 5), &mapped.octets());
    let addresses = vec![ip.into(), IpAddr::from(ONE)];
    let expected = Reply::Addresses { addresses, links: 0, ttl: 5 };
    assert_eq!(read(&message.0, &question), Ok(expected));
}

#[test]
fn what_is_not_about_the_name_is_ignored() {
    let message = Built::answer("a.example")
        .a("b.example", 1, TWO)
        .a("a.example.example", 1, TWO)
        .a("example", 1, TWO)
        .raw(1, &wire("a.example"), (A, CHAOS, 1), &TWO)
        .raw(1, &wire("a.example"), (TXT, IN, 1), b"\x04text")
        .raw(1, &wire("a.example"), (AAAA, IN, 1), &[0; 16])
        .a("a.example", 60, ONE)
        .raw(2, &wire("a.example"), (A, IN, 1), &TWO)
        .raw(2, &wire("example"), (NS, IN, 1), &wire("a.example"))
        .raw(3, &wire("a.example"), (A, IN, 1), &TWO)
        .raw(3, &[0], (OPT, 1232, 0), &[]);
    assert_eq!(message.read(), addresses(&[ONE], 60));
}

#[test]
fn sixty_four_addresses_are_kept() {
    let ip = |n: u16| Ipv4Addr::from_bits(u32::from(n)).octets();
    let message = (0..4000).fold(Built::answer("a.example"), |message, n| {
        message.raw(1, &[0xc0, 12], (A, IN, 9), &ip(n))
    });
    let kept: Vec<_> = (0..64).map(ip).collect();
    assert_eq!(message.read(), addresses(&kept, 9));
}

#[test]
fn aliases_are_followed_in_any_order_of_records() {
    let message = Built::answer("a.example")
        .a("c.example", 300, ONE)
        .cname("B.example", 20, "C.EXAMPLE")
        .cname("a.example", 100, "b.example");
    assert_eq!(message.read(), addresses_behind(2, &[ONE], 20));
}

/// a.example, 0.example, 1.example and so on.
fn chain(links: usize) -> Built {
    let owner = |n: usize| match n {
        0 => "a.example".to_owned(),
        n => format!("{}.example", n - 1),
    };
    (0..links)
        .fold(Built::answer("a.example"), |message, n| message.cname(&owner(n), 50, &owner(n + 1)))
}

#[test]
fn eight_links_are_followed_and_no_more() {
    assert_eq!(chain(8).a("7.example", 60, ONE).read(), addresses_behind(8, &[ONE], 50));
    assert_eq!(chain(8).read(), alias("7.example", 8, 50));
    assert_eq!(chain(9).a("8.example", 60, ONE).read(), Ok(Reply::Failed));
    assert_eq!(chain(2).cname("1.example", 9, "a.example").read(), Ok(Reply::Failed));
    assert_eq!(
        Built::answer("a.example").cname("a.example", 9, "a.example").read(),
        Ok(Reply::Failed)
    );
}

#[test]
fn an_alias_out_of_the_message_is_asked_for() {
    let message = Built::answer("a.example").cname("a.example", 7, "B.example").a("c", 9, ONE);
    assert_eq!(message.read(), alias("b.example", 1, 7));
}

#[test]
fn an_alias_to_what_is_no_host_name_fails() {
    let long = format!("{}.example", "a".repeat(60));
    let fine = Built::answer("a.example").cname("a.example", 7, &long);
    assert_eq!(fine.read(), alias(&long, 1, 7));
    for target in ["", "127.0.0.1", "127.1", "a b.example", "a\\b", "[::1]", "a\0", "\u{e4}"] {
        let message = Built::answer("a.example").cname("a.example", 7, target);
        assert_eq!(message.read(), Ok(Reply::Failed), "{target:?}");
    }
    let dotted = b"\x03b.c\x07example\0";
    let message = Built::answer("a.example").raw(1, &wire("a.example"), (CNAME, IN, 7), dotted);
    assert_eq!(message.read(), Ok(Reply::Failed));
}

#[test]
fn a_negative_answer_holds_as_long_as_its_zone_says() {
    let nodata = || Built::answer("a.example");
    let nxdomain = || Built::error("a.example", 3);
    assert_eq!(nodata().read(), none(true, None));
    assert_eq!(nxdomain().read(), none(false, None));
    assert_eq!(nodata().soa("example", 900, 60).read(), none(true, Some(60)));
    assert_eq!(nxdomain().soa("EXAMPLE", 30, 60).read(), none(false, Some(30)));
    assert_eq!(nxdomain().soa("", 30, 60).read(), none(false, Some(30)));
    assert_eq!(nxdomain().soa("b.example", 30, 60).read(), none(false, None));
    assert_eq!(nxdomain().soa("example", 30, 1 << 31).read(), none(false, Some(0)));
}

#[test]
fn a_negative_answer_is_about_the_last_alias() {
    let aliased = |rcode| Built::error("a.example", rcode).cname("a.example", 20, "b.other");
    assert_eq!(aliased(0).soa("other", 900, 60).read(), none(true, Some(20)));
    assert_eq!(aliased(0).soa("example", 900, 60).read(), alias("b.other", 1, 20));
    assert_eq!(aliased(3).soa("other", 900, 10).read(), none(false, Some(10)));
    assert_eq!(aliased(3).read(), none(false, None));
}

#[test]
fn a_ttl_with_the_top_bit_counts_as_zero() {
    let read = |ttl| Built::answer("a.example").a("a.example", ttl, ONE).read();
    assert_eq!(read(0x7fff_ffff), addresses(&[ONE], 0x7fff_ffff));
    assert_eq!(read(0x8000_0000), addresses(&[ONE], 0));
    assert_eq!(read(u32::MAX), addresses(&[ONE], 0));
}

#[test]
fn errors_say_whether_edns_may_be_to_blame() {
    for (rcode, reply) in [
        (1, Reply::NoEdns),
        (2, Reply::Failed),
        (4, Reply::NoEdns),
        (5, Reply::Failed),
        (9, Reply::Failed),
        (15, Reply::Failed),
    ] {
        let message = Built::error("a.example", rcode).a("a.example", 60, ONE);
        assert_eq!(message.read(), Ok(reply), "{rcode}");
    }
    let extended = |upper: u32, rcode| {
        Built::error("a.example", rcode).raw(3, &[0], (OPT, 1232, upper << 24), &[]).read()
    };
    assert_eq!(extended(0, 0), none(true, None));
    assert_eq!(extended(1, 0), Ok(Reply::NoEdns));
    assert_eq!(extended(1, 3), Ok(Reply::Failed));
    assert_eq!(extended(2, 0), Ok(Reply::Failed));
}

#[test]
fn without_its_question_only_an_error_is_an_answer() {
    let bare = |rcode: u16| Built::new(ID, 0x8180 | rcode).read();
    assert_eq!(bare(1), Ok(Reply::NoEdns));
    assert_eq!(bare(2), Ok(Reply::Failed));
    assert_eq!(bare(4), Ok(Reply::NoEdns));
    for rcode in [0, 3, 5, 9] {
        assert_eq!(bare(rcode), Err(Mismatch::Stranger), "{rcode}");
    }
    let truncated = Built::new(ID, 0x8380);
    assert_eq!(truncated.read(), Err(Mismatch::Stranger));
    assert_eq!(Built::new(ID + 1, 0x8182).read(), Err(Mismatch::Stranger));
    assert_eq!(Built::new(ID, 0x8180).a("a.example", 60, ONE).read(), Err(Mismatch::Stranger));
}

#[test]
fn a_truncated_answer_says_only_that() {
    let message = Built::new(ID, 0x8380).question("a.example", A, IN);
    assert_eq!(message.read(), Ok(Reply::Truncated));
    let mut message = message.a("a.example", 60, ONE);
    assert_eq!(message.read(), Ok(Reply::Truncated));
    message.0.pop();
    assert_eq!(message.read(), Ok(Reply::Truncated));
    let other = Built::new(ID, 0x8380).question("b.example", A, IN);
    assert_eq!(other.read(), Err(Mismatch::Stranger));
}

#[test]
fn an_answer_to_another_question_is_a_strangers() {
    let with = |id, flags, name, rtype, class| {
        Built::new(id, flags).question(name, rtype, class).a("a.example", 60, ONE).read()
    };
    assert_eq!(with(ID, 0x8180, "a.example", A, IN), addresses(&[ONE], 60));
    for message in [
        with(ID ^ 1, 0x8180, "a.example", A, IN),
        with(ID, 0x0180, "a.example", A, IN),
        with(ID, 0x9180, "a.example", A, IN),
        with(ID, 0x8180, "b.example", A, IN),
        with(ID, 0x8180, "a.example.b", A, IN),
        with(ID, 0x8180, "example", A, IN),
        with(ID, 0x8180, "", A, IN),
        with(ID, 0x8180, "a.example", AAAA, IN),
        with(ID, 0x8180, "a.example", A, CHAOS),
    ] {
        assert_eq!(message, Err(Mismatch::Stranger));
    }
    let dotted = [&Built::new(ID, 0x8180).0[..], b"\x09a.example\0\0\x01\0\x01"].concat();
    let mut dotted = Built(dotted);
    dotted.count(0);
    assert_eq!(dotted.read(), Err(Mismatch::Stranger));
    let two = Built::answer("a.example").question("a.example", A, IN).a("a.example", 60, ONE);
    assert_eq!(two.read(), Err(Mismatch::Stranger));
}

#[test]
fn letters_come_back_as_they_were_sent_if_that_is_asked_for() {
    let message = Built::answer("A.eXample").a("a.example", 60, ONE);
    assert_eq!(message.read(), Err(Mismatch::Letters));
    assert_eq!(read(&message.0, &question("A.eXample")), addresses(&[ONE], 60));
    let inexact = Question { is_exact: false, ..question("a.example") };
    assert_eq!(read(&message.0, &inexact), addresses(&[ONE], 60));
}

#[test]
fn what_is_malformed_is_garbage() {
    let message = || Built::answer("a.example");
    let owner = &[0xc0, 12];
    for garbage in [
        message().raw(1, owner, (A, IN, 1), &[1, 2, 3]),
        message().raw(1, owner, (A, IN, 1), &[1, 2, 3, 4, 5]),
        message().raw(1, owner, (CNAME, IN, 1), b"\x01b"),
        message().raw(1, owner, (CNAME, IN, 1), b"\x01b\0\0"),
        message().raw(1, owner, (CNAME, IN, 1), &[]),
        message().raw(2, owner, (SOA, IN, 1), &[0, 0, 0]),
        message().raw(1, &[0x40, 0], (A, IN, 1), &ONE),
        message().raw(1, &[0x80, 0], (A, IN, 1), &ONE),
        message().raw(1, &[0xff, 0xff], (A, IN, 1), &ONE),
        message().raw(1, &wire(&"abc.".repeat(64)), (A, IN, 1), &ONE),
    ] {
        assert_eq!(garbage.read(), Err(Mismatch::Garbage));
    }
    let mut missing = message();
    missing.count(3);
    assert_eq!(missing.read(), Err(Mismatch::Garbage));
}

#[test]
fn pointers_that_go_forward_or_round_are_garbage() {
    let at = Built::answer("a.example").0.len() as u8;
    for owner in [
        vec![0xc0, at],
        vec![0xc0, at + 2],
        vec![1, b'a', 0xc0, at],
        vec![1, b'a', 0xc0, at + 2],
        vec![0xc0, at + 4, 0, 0],
    ] {
        let message = Built::answer("a.example").raw(1, &owner, (A, IN, 1), &ONE);
        assert_eq!(message.read(), Err(Mismatch::Garbage), "{owner:?}");
    }
    let looped = [&Built::new(ID, 0x8180).0[..], &[0xc0, 12, 0, 1, 0, 1]].concat();
    let mut looped = Built(looped);
    looped.count(0);
    assert_eq!(looped.read(), Err(Mismatch::Garbage));
}

#[test]
fn pointers_to_pointers_are_not_followed_for_long() {
    let mut message = Built::answer("a.example");
    let mut links = Vec::new();
    let first = message.0.len() + 11;
    for n in 0..8000 {
        let to = if n == 0 { 12 } else { first + 2 * (n - 1) };
        links.extend((0xc000 | to as u16).to_be_bytes());
    }
    message = message.raw(1, &[0], (TXT, IN, 1), &links);
    let near = (0xc000 | (first + 2 * 9) as u16).to_be_bytes();
    let far = (0xc000 | (first + 2 * 7999) as u16).to_be_bytes();
    assert_eq!(message.raw(1, &near, (A, IN, 1), &ONE).read(), addresses(&[ONE], 1));
    let mut message = Built::answer("a.example").raw(1, &[0], (TXT, IN, 1), &links);
    message = message.raw(1, &far, (A, IN, 1), &ONE);
    assert_eq!(message.read(), Err(Mismatch::Garbage));
}

fn any_record() -> impl Strategy<Value = (usize, Vec<u8>, u16, u32, Vec<u8>)> {
    let name = || {
        prop_oneof![
            Just(vec![0xc0, 12]),
            Just(wire("b.example")),
            Just(wire("a.example")),
            (0_u8..80).prop_map(|at| vec![0xc0, at]),
            (12_u8..40).prop_map(|at| vec![1, b'x', 0xc0, at]),
        ]
    };
    let rtype = prop::sample::select(&[A, CNAME, SOA, AAAA, TXT, OPT][..]);
    let bytes = prop::collection::vec(any::<u8>(), 0..30);
    let data = prop_oneof![name(), Just(ONE.to_vec()), bytes];
    (1_usize..4, name(), rtype, any::<u32>(), data)
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let records = prop::collection::vec(any_record(), 0..20);
    (records, prop::sample::select(&[0, 3][..])).prop_map(|(mut records, rcode)| {
        records.sort_by_key(|record| record.0);
        let start = Built::error("a.example", rcode);
        let built =
            records.into_iter().fold(start, |message, (section, owner, rtype, ttl, data)| {
                message.raw(section, &owner, (rtype, IN, ttl), &data)
            });
        built.0
    })
}

/// What holds of whatever is read.
fn check(message: &[u8]) {
    match read(message, &question("a.example")) {
        Ok(Reply::Addresses { addresses, .. }) => {
            assert!((1..=ADDRESSES_MAX).contains(&addresses.len()));
            for ip in addresses {
                let IpAddr::V4(ip) = ip else { panic!("{ip} was not asked for") };
                assert!(message.windows(4).any(|octets| octets == ip.octets()));
            }
        }
        Ok(Reply::Alias { name, links, .. }) => {
            assert!((1..=LINKS_MAX).contains(&links));
            assert!(matches!(Host::parse_name(name.as_bytes()), Ok(Host::Name(_))));
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(message in prop::collection::vec(any::<u8>(), 0..600)) {
        check(&message);
        let behind_the_question = [&Built::answer("a.example").0[..], &message].concat();
        check(&behind_the_question);
    }

    #[test]
    fn any_bytes_behind_a_question_are_read_as_any_number_of_records(
        counts: [u8; 3],
        rest in prop::collection::vec(any::<u8>(), 0..600)
    ) {
        let mut message = [&Built::answer("a.example").0[..], &rest].concat();
        for (section, count) in counts.into_iter().enumerate() {
            message[7 + 2 * section] = count % 8;
        }
        check(&message);
    }

    #[test]
    fn any_records_are_read(message in any_message()) {
        check(&message);
    }

    #[test]
    fn any_flipped_octet_is_read(
        message in any_message(), at: prop::sample::Index, octet: u8
    ) {
        let mut message = message;
        let at = at.index(message.len());
        message[at] = octet;
        check(&message);
    }

    #[test]
    fn no_part_of_an_answer_is_an_answer(
        ips in prop::collection::vec(any::<[u8; 4]>(), 1..9), links in 0_usize..9, cut: prop::sample::Index
    ) {
        let owner = if links == 0 { "a.example".to_owned() } else { format!("{}.example", links - 1) };
        let whole = ips.iter().fold(chain(links), |message, &ip| message.a(&owner, 60, ip));
        let whole = whole.raw(3, &[0], (OPT, 1232, 0), &[]);
        let is_whole = matches!(whole.read(), Ok(Reply::Addresses { .. }));
        prop_assert!(is_whole);
        let part = &whole.0[..cut.index(whole.0.len())];
        let reply = read(part, &question("a.example"));
        prop_assert!(matches!(reply, Err(Mismatch::Garbage | Mismatch::Stranger)), "{:?}", reply);
    }

    #[test]
    fn mixed_letters_are_the_same_name(name in "[a-zA-Z0-9-]{1,60}(\\.[a-z]{1,60}){0,3}", bits: u64) {
        let mixed = mix_letters(&name, || bits);
        prop_assert!(mixed.eq_ignore_ascii_case(&name));
        let message = Built::answer(&mixed).a(&name, 60, ONE);
        prop_assert_eq!(read(&message.0, &question(&mixed)), addresses(&[ONE], 60));
    }
}
