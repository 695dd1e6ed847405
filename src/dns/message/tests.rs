use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const ID: u16 = 0x1234;
const A: u16 = 1;
const AAAA: u16 = 28;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const IN: u16 = 1;

/// A message by hand.
#[derive(Clone)]
struct Built {
    bytes: Vec<u8>,
}

impl Built {
    /// An answer to `question`, whose name stands at offset 12.
    fn to(question: &Question) -> Built {
        let mut bytes = vec![0; 12];
        bytes[..2].copy_from_slice(&question.id.to_be_bytes());
        (bytes[2], bytes[3], bytes[5]) = (0x81, 0x80, 1);
        bytes.extend(wire(&question.name));
        bytes.extend(question.family.rtype().to_int().to_be_bytes());
        bytes.extend(IN.to_be_bytes());
        Built { bytes }
    }

    fn rcode(mut self, rcode: u8) -> Built {
        self.bytes[3] |= rcode;
        self
    }

    fn truncated(mut self) -> Built {
        self.bytes[2] |= 2;
        self
    }

    fn record(mut self, owner: &[u8], rtype: u16, ttl: u32, data: &[u8]) -> Built {
        self.count(7);
        self.bytes.extend(owner);
        self.bytes.extend([rtype, IN].into_iter().flat_map(u16::to_be_bytes));
        self.bytes.extend(ttl.to_be_bytes());
        self.bytes.extend((data.len() as u16).to_be_bytes());
        self.bytes.extend(data);
        self
    }

    fn a(self, owner: &str, ttl: u32, last: u8) -> Built {
        self.record(&wire(owner), A, ttl, &[192, 0, 2, last])
    }

    fn aaaa(self, owner: &str, ttl: u32, last: u16) -> Built {
        self.record(&wire(owner), AAAA, ttl, &v6(last).octets())
    }

    fn alias(self, owner: &str, ttl: u32, of: &str) -> Built {
        self.record(&wire(owner), CNAME, ttl, &wire(of))
    }

    /// In the authority section, so it comes last.
    fn soa(self, ttl: u32, minimum: u32) -> Built {
        let mut data = [wire("ns.example"), wire("root.example")].concat();
        data.extend([0; 16]);
        data.extend(minimum.to_be_bytes());
        let answers = [self.bytes[6], self.bytes[7]];
        let mut built = self.record(&wire("example"), SOA, ttl, &data);
        built.bytes[6..8].copy_from_slice(&answers);
        built.count(9);
        built
    }

    /// One more in the section whose count ends at this byte.
    fn count(&mut self, low: usize) {
        let count = u16::from_be_bytes([self.bytes[low - 1], self.bytes[low]]) + 1;
        self.bytes[low - 1..=low].copy_from_slice(&count.to_be_bytes());
    }

    fn read(&self, question: &Question) -> Result<Reply, Mismatch> {
        read(&self.bytes, question)
    }
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|it| [&[it.len() as u8], it.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

fn question() -> Question {
    Question { id: ID, name: "wWw.exaMple".into(), family: Family::V4, is_exact: true }
}

fn question_v6() -> Question {
    Question { family: Family::V6, ..question() }
}

fn answer() -> Built {
    Built::to(&question())
}

fn addresses(addresses: &[IpAddr], links: u8, ttl: u32) -> Result<Reply, Mismatch> {
    Ok(Reply::Addresses { addresses: addresses.into(), links, ttl })
}

fn nothing(exists: bool, ttl: impl Into<Option<u32>>) -> Result<Reply, Mismatch> {
    Ok(Reply::None { exists, ttl: ttl.into() })
}

#[test]
fn a_question_is_encoded_as_rfc_1035_and_6891_have_it() {
    let mut bytes = Vec::new();
    question().encode(false, &mut bytes);
    let plain = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03wWw\x07exaMple\0\0\x01\0\x01";
    assert_eq!(bytes, plain);
    bytes.clear();
    question_v6().encode(true, &mut bytes);
    let edns = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\x01\x03wWw\x07exaMple\0\0\x1c\0\x01\
        \0\0\x29\x04\xd0\0\0\0\0\0\0";
    assert_eq!(bytes, edns);
}

#[test]
fn letters_are_mixed_and_nothing_else_is() {
    assert_eq!(&*mix_letters("ab-1.cd", [0; 32]), "ab-1.cd");
    assert_eq!(&*mix_letters("ab-1.cd", [0xff; 32]), "AB-1.CD");
    assert_eq!(
        &*mix_letters("abcdefghi", [[1].as_slice(), &[0; 31]].concat().try_into().unwrap()),
        "Abcdefghi"
    );
    let longest = "a".repeat(253);
    assert_eq!(&*mix_letters(&longest, [0xff; 32]), "A".repeat(253));
}

#[test]
fn addresses_come_in_the_answers_order_with_the_least_time() {
    let built = answer().a("www.example", 60, 9).a("WWW.EXAMPLE", 30, 1).a("www.example", 90, 5);
    assert_eq!(built.read(&question()), addresses(&[v4(9), v4(1), v4(5)], 0, 30));
    let built = Built::to(&question_v6()).aaaa("www.example", 60, 1);
    assert_eq!(built.read(&question_v6()), addresses(&[v6(1).into()], 0, 60));
}

#[test]
fn names_may_be_compressed() {
    let built = answer().record(&[0xc0, 12], CNAME, 60, b"\x03web\xc0\x10");
    let built = built.record(b"\x03WEB\xc0\x10", A, 60, &[192, 0, 2, 1]);
    assert_eq!(built.read(&question()), addresses(&[v4(1)], 1, 60));
}

#[test]
fn records_of_others_of_another_family_or_class_do_not_count() {
    let other_class = |mut built: Built| {
        let at = built.bytes.len() - 4 - 2 - 4 - 1;
        assert_eq!(built.bytes[at], 1);
        built.bytes[at] = 3;
        built
    };
    let built = other_class(answer().a("www.example", 60, 3))
        .a("example", 60, 4)
        .a("www.www.example", 60, 5)
        .aaaa("www.example", 60, 6)
        .record(&wire("www.example"), 16, 60, b"\x04text")
        .a("www.example", 60, 7);
    assert_eq!(built.read(&question()), addresses(&[v4(7)], 0, 60));
}

#[test]
fn aliases_are_followed_in_any_order() {
    let forward = answer()
        .alias("www.example", 60, "one.example")
        .alias("one.example", 20, "two.example.net")
        .a("two.example.net", 90, 1);
    assert_eq!(forward.read(&question()), addresses(&[v4(1)], 2, 20));
    let backward = answer()
        .a("two.example.net", 90, 1)
        .alias("ONE.example", 20, "two.example.net")
        .alias("www.example", 60, "one.EXAMPLE");
    assert_eq!(backward.read(&question()), addresses(&[v4(1)], 2, 20));
}

fn chain(links: usize) -> Built {
    let owner = |n: usize| if n == 0 { "www.example".into() } else { format!("n{n}.example") };
    let built = (0..links).fold(answer(), |built, n| built.alias(&owner(n), 60, &owner(n + 1)));
    built.a(&owner(links), 60, 1)
}

#[test]
fn eight_aliases_are_followed_and_nine_are_not() {
    assert_eq!(chain(8).read(&question()), addresses(&[v4(1)], 8, 60));
    assert_eq!(chain(9).read(&question()), Ok(Reply::Failed));
}

#[test]
fn aliases_in_a_ring_lead_nowhere() {
    let of_itself = answer().alias("www.example", 60, "www.example");
    assert_eq!(of_itself.read(&question()), Ok(Reply::Failed));
    let ring = answer().alias("www.example", 60, "b.example").alias("b.example", 60, "www.example");
    assert_eq!(ring.read(&question()), Ok(Reply::Failed));
}

#[test]
fn an_alias_without_addresses_is_to_be_asked_for() {
    let built =
        answer().alias("www.example", 60, "One.example").alias("one.example", 7, "Two.Example.");
    let alias = Reply::Alias { name: "two.example".into(), links: 2, ttl: 7 };
    assert_eq!(built.read(&question()), Ok(alias));
    // Unless the zone says that there is nothing.
    assert_eq!(built.soa(300, 200).read(&question()), nothing(true, 7));
}

#[test]
fn an_alias_that_is_no_host_name_is_not_asked_for() {
    for of in ["192.0.2.1", "a b.example", "a\0b.example", "1.2.3", "", "\u{e9}.example"] {
        let built = answer().alias("www.example", 60, of);
        assert_eq!(built.read(&question()), Ok(Reply::Failed), "{of:?}");
    }
    // A dot inside a label is no end of it.
    let built = answer().record(&wire("www.example"), CNAME, 60, b"\x04\xff.\xffb\0");
    assert_eq!(built.read(&question()), Ok(Reply::Failed));
}

#[test]
fn what_is_not_there_is_so_for_the_time_that_the_zone_says() {
    assert_eq!(answer().rcode(3).soa(300, 200).read(&question()), nothing(false, 200));
    assert_eq!(answer().rcode(3).soa(100, 200).read(&question()), nothing(false, 100));
    assert_eq!(answer().rcode(3).read(&question()), nothing(false, None));
    assert_eq!(answer().soa(100, 200).read(&question()), nothing(true, 100));
    assert_eq!(answer().read(&question()), nothing(true, None));
    let only_v6 = answer().aaaa("www.example", 60, 1).soa(50, 50);
    assert_eq!(only_v6.read(&question()), nothing(true, 50));
    let dangling = answer().rcode(3).alias("www.example", 60, "gone.example").soa(9, 9);
    assert_eq!(dangling.read(&question()), nothing(false, 9));
}

#[test]
fn a_time_with_the_top_bit_is_none() {
    let built = answer().a("www.example", 1 << 31, 1);
    assert_eq!(built.read(&question()), addresses(&[v4(1)], 0, 0));
    let built = answer().a("www.example", (1 << 31) - 1, 1);
    assert_eq!(built.read(&question()), addresses(&[v4(1)], 0, (1 << 31) - 1));
    assert_eq!(answer().rcode(3).soa(u32::MAX, 60).read(&question()), nothing(false, 0));
    assert_eq!(answer().rcode(3).soa(60, u32::MAX).read(&question()), nothing(false, 0));
}

#[test]
fn what_is_truncated_is_not_read() {
    let built = answer().a("www.example", 60, 1).truncated();
    assert_eq!(built.read(&question()), Ok(Reply::Truncated));
    assert_eq!(answer().truncated().read(&question()), Ok(Reply::Truncated));
}

#[test]
fn a_server_that_cannot_help_says_so_with_the_question_or_without() {
    for (rcode, reply) in [(1, Reply::NoEdns), (4, Reply::NoEdns), (2, Reply::Failed)] {
        let built = answer().rcode(rcode);
        assert_eq!(built.read(&question()), Ok(reply.clone()), "{rcode}");
        let mut bare = built.bytes[..12].to_vec();
        bare[5] = 0;
        assert_eq!(read(&bare, &question()), Ok(reply), "{rcode}");
    }
    for rcode in [5, 6, 9, 15] {
        assert_eq!(answer().rcode(rcode).read(&question()), Ok(Reply::Failed), "{rcode}");
    }
    // Others have no reason to leave it out.
    for rcode in [0, 3, 5] {
        let mut bare = answer().rcode(rcode).bytes[..12].to_vec();
        bare[5] = 0;
        assert_eq!(read(&bare, &question()), Err(Mismatch::Stranger), "{rcode}");
    }
}

#[test]
fn an_answer_to_another_question_is_none() {
    let changed = |change: fn(&mut Question)| {
        let mut other = question();
        change(&mut other);
        Built::to(&other).a("www.example", 60, 1).read(&question())
    };
    let stranger = Err(Mismatch::Stranger);
    assert_eq!(changed(|it| it.id ^= 1), stranger);
    assert_eq!(changed(|it| it.family = Family::V6), stranger);
    for name in ["www.examples", "ww.example", "example", "a.wWw.exaMple", "wWw.exaMple.net"] {
        let other = Question { name: name.into(), ..question() };
        assert_eq!(Built::to(&other).read(&question()), stranger, "{name}");
    }
    // Another class, two questions, a question instead of an answer, another kind of query.
    let patched = |at: usize, byte: u8| {
        let mut built = answer();
        built.bytes[at] = byte;
        built.read(&question())
    };
    let end = answer().bytes.len();
    assert_eq!(patched(end - 1, 3), stranger);
    assert_eq!(patched(5, 2), stranger);
    assert_eq!(patched(2, 0x01), stranger);
    assert_eq!(patched(2, 0x81 | 0x28), stranger);
}

#[test]
fn other_letters_are_told_apart_where_they_matter() {
    let built = Built::to(&Question { name: "www.example".into(), ..question() });
    let built = built.a("www.example", 60, 1);
    assert_eq!(built.read(&question()), Err(Mismatch::Letters));
    let lenient = Question { is_exact: false, ..question() };
    assert_eq!(built.read(&lenient), addresses(&[v4(1)], 0, 60));
}

#[test]
fn thousands_of_records_are_read_as_far_as_they_are_of_use() {
    let mut built = answer();
    // Compressed, for only so many fit into a message.
    for _ in 0..4000 {
        built = built.record(&[0xc0, 12], A, 60, &[192, 0, 2, 1]);
    }
    assert!(built.bytes.len() < 65_536);
    let all = [v4(1); ADDRESSES_MAX];
    assert_eq!(built.read(&question()), addresses(&all, 0, 60));
    // Even more are announced than are there.
    built.bytes[6..8].copy_from_slice(&10_000u16.to_be_bytes());
    assert_eq!(built.read(&question()), addresses(&all, 0, 60));
}

#[test]
fn pointers_that_lead_nowhere_end() {
    let end = answer().bytes.len() as u8;
    for (what, pointer) in [("itself", end), ("what follows", end + 4), ("the end", 0xff)] {
        let built = answer().record(&[0xc0, pointer], A, 60, &[192, 0, 2, 1]);
        assert_eq!(built.read(&question()), Err(Mismatch::Garbage), "{what}");
        let built = answer().record(&wire("www.example"), CNAME, 60, &[0xc0, pointer]);
        let read = built.read(&question());
        assert!(!matches!(read, Ok(Reply::Addresses { .. })), "{what}: {read:?}");
    }
    let mut question_points_at_itself = answer();
    question_points_at_itself.bytes.splice(12..14, [0xc0, 12]);
    let read = question_points_at_itself.read(&question());
    assert!(matches!(read, Err(Mismatch::Garbage | Mismatch::Stranger)), "{read:?}");
}

#[test]
fn what_is_cut_off_anywhere_has_no_addresses() {
    let question = question();
    let built = answer().alias("www.example", 60, "one.example").a("one.example", 60, 1).a(
        "one.example",
        60,
        2,
    );
    let question_end = answer().bytes.len();
    for len in 0..built.bytes.len() {
        let expected = if len < HEADER_BYTES { Mismatch::Stranger } else { Mismatch::Garbage };
        assert_eq!(read(&built.bytes[..len], &question), Err(expected), "{len} of {question_end}");
    }
    let absent = answer().rcode(3).soa(60, 60);
    for len in question_end..absent.bytes.len() {
        assert_eq!(read(&absent.bytes[..len], &question), nothing(false, None), "{len}");
    }
}

#[test]
fn an_address_of_the_wrong_length_is_garbage() {
    for data in [&[192, 0, 2][..], &[192, 0, 2, 1, 0], &[]] {
        let built = answer().record(&wire("www.example"), A, 60, data);
        assert_eq!(built.read(&question()), Err(Mismatch::Garbage), "{data:?}");
    }
}

/// An answer with a few records, some of them to the point.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec!["www.example", "a.example", "b.example", "c.example"]);
    let record = (names.clone(), names, any::<u8>(), 0u8..4);
    prop::collection::vec(record, 0..6).prop_map(|records| {
        let built =
            records.into_iter().fold(answer(), |built, (owner, of, last, kind)| match kind {
                0 => built.alias(owner, 60, of),
                1 => built.aaaa(owner, 60, last.into()),
                _ => built.a(owner, 60, last),
            });
        built.bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_are_too_bad_to_be_read(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = answer_id(&bytes);
        let _ = read(&bytes, &question());
    }

    #[test]
    fn no_bytes_after_a_header_and_a_question_are_too_bad(
        counts: [u8; 6],
        flags: u8,
        rest in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut bytes = answer().bytes;
        bytes[3] = flags;
        for (at, count) in (6..12).zip(counts) {
            bytes[at] = count;
        }
        bytes.extend(rest);
        let _ = read(&bytes, &question());
    }

    #[test]
    fn a_byte_changed_is_read_or_refused(
        mut bytes in message(), at: prop::sample::Index, byte: u8,
    ) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = read(&bytes, &question());
    }

    #[test]
    fn what_is_cut_off_has_no_address_that_was_not_there(
        bytes in message(), len: prop::sample::Index,
    ) {
        let len = len.index(bytes.len() + 1);
        if let Ok(Reply::Addresses { addresses: some, .. }) = read(&bytes[..len], &question()) {
            let Ok(Reply::Addresses { addresses: all, .. }) = read(&bytes, &question()) else {
                panic!("the whole of it has none");
            };
            prop_assert!(some.iter().all(|it| all.contains(it)));
        }
    }
}
