//! What is believed of a message is an answer to the question, and of a kind and size to be
//! expected.

use std::net::IpAddr;

use ringsocks::dns::message::{Family, Mismatch, Question, Reply, answer_id, mix_letters, read};
use ringsocks::proto::Host;

const ID: u16 = 0x1234;
const NAME: &str = "www.example.com";

/// The longest chain of aliases, and the most addresses, that a message may lead to.
const LINKS_MAX: u8 = 8;
const ADDRESSES_MAX: usize = 64;
/// RFC 2181 section 8.
const TTL_MAX: u32 = i32::MAX as u32;

const WITH_V6: u8 = 1;
const WITH_EXACT_LETTERS: u8 = 2;
const WITH_HEAD: u8 = 4;

/// `input` is a byte of the flags above and a message; or, `WITH_HEAD`, that of an answer to the
/// question: flags, three numbers of records, and the records.
pub fn check(input: &[u8]) {
    let Some((&flags, rest)) = input.split_first() else { return };
    let question = Question {
        id: ID,
        name: mix_letters(NAME, || 0x5a5a_5a5a_5a5a_5a5a),
        family: if flags & WITH_V6 == 0 { Family::V4 } else { Family::V6 },
        is_exact: flags & WITH_EXACT_LETTERS != 0,
    };
    let message = match flags & WITH_HEAD {
        0 => rest.to_vec(),
        _ => answer_to(&question, rest),
    };
    let reply = read(&message, &question);
    if let Ok(reply) = &reply {
        assert_eq!(answer_id(&message), Some(ID));
        check_reply(reply, question.family);
    }
    check_others(&message, &question, &reply);
}

fn answer_to(question: &Question, rest: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    question.encode(false, &mut message);
    let (head, records) = rest.split_at(rest.len().min(5));
    for (place, byte) in [2, 3, 7, 9, 11].into_iter().zip(head) {
        message[place] = *byte;
    }
    message[2] |= 0x80;
    message.extend(records);
    message
}

fn check_reply(reply: &Reply, family: Family) {
    match reply {
        Reply::Addresses { addresses, links, ttl } => {
            assert!(*links <= LINKS_MAX, "{reply:?}");
            assert!((1..=ADDRESSES_MAX).contains(&addresses.len()), "{reply:?}");
            assert!(addresses.iter().all(|ip| is_of(family, ip)), "{reply:?}");
            assert!(*ttl <= TTL_MAX, "{reply:?}");
        }
        Reply::Alias { name, links, ttl } => {
            assert!((1..=LINKS_MAX).contains(links), "{reply:?}");
            assert!(*ttl <= TTL_MAX, "{reply:?}");
            let host = Host::parse_name(name.as_bytes());
            assert!(matches!(&host, Ok(Host::Name(host)) if host.as_str() == &**name), "{reply:?}");
            assert_eq!(name.to_ascii_lowercase(), **name);
        }
        Reply::None { ttl, .. } => assert!(ttl.is_none_or(|ttl| ttl <= TTL_MAX), "{reply:?}"),
        Reply::Truncated | Reply::Failed | Reply::NoEdns => {}
    }
}

/// Nobody else's question has the same answer; but that a server is of no help may be said without
/// repeating any.
fn check_others(message: &[u8], question: &Question, reply: &Result<Reply, Mismatch>) {
    let no_help = [Ok(Reply::Truncated), Ok(Reply::Failed), Ok(Reply::NoEdns)];
    let is_an_answer = reply.is_ok() && !no_help.contains(reply);
    let other_id = Question { id: ID ^ 1, ..question.clone() };
    let other_name = Question { name: "www.example.org".into(), ..question.clone() };
    let longer = Question { name: "a.www.example.com".into(), ..question.clone() };
    let other_family = Question { family: question.family.other(), ..question.clone() };
    for other in [other_id, other_name, longer, other_family] {
        let believed = read(message, &other);
        assert!(!is_an_answer || believed.is_err(), "{reply:?}, and {believed:?} to {other:?}");
    }
}

/// In canonical form: a server may write an IPv4 address as IPv6, and it is one of IPv4 here.
fn is_of(family: Family, ip: &IpAddr) -> bool {
    ip.to_canonical() == *ip && (ip.is_ipv4() || family == Family::V6)
}
