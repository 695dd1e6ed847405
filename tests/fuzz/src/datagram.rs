//! A datagram of a client's is read as the octets say, one by one, and what is read of it can be
//! written again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ringsocks::proto::Host;
use ringsocks::proto::udp::{Datagram, Fragment, HEADER_MAX, Header, Malformed, parse};

/// `input` is the datagram.
pub fn check(input: &[u8]) {
    let parsed = parse(input);
    match (&parsed, read(input)) {
        (Ok(datagram), Some((frag, host, port, data))) => {
            assert_eq!(frag_of(datagram.fragment), frag);
            assert_eq!((&datagram.host, datagram.port, datagram.data), (&host, port, data));
            check_rewritten(input, datagram, frag);
        }
        (Err(Malformed), None) => {}
        (parsed, expected) => panic!("{parsed:?}, not {expected:?}"),
    }
}

/// What an answer from there would say is what was asked for, in the same octets but where an
/// address is written as another type.
fn check_rewritten(input: &[u8], datagram: &Datagram<'_>, frag: u8) {
    let header_len = input.len() - datagram.data.len();
    for end in 0..header_len {
        assert_eq!(parse(&input[..end]), Err(Malformed), "cut at {end}");
    }
    let without_data = Datagram { data: &[], ..datagram.clone() };
    assert_eq!(parse(&input[..header_len]), Ok(without_data));
    let mut other = input.to_vec();
    other[..2].fill(!input[0]);
    assert_eq!(parse(&other).as_ref(), Ok(datagram), "for what RSV says");

    let Host::Ip(ip) = datagram.host else { return };
    let header = Header::new(SocketAddr::new(ip, datagram.port));
    assert!(header.as_slice().len() <= HEADER_MAX);
    let mut rewritten = [header.as_slice(), datagram.data].concat();
    rewritten[2] = frag;
    assert_eq!(parse(&rewritten).as_ref(), Ok(datagram));
    if rewritten[3] == input[3] {
        assert_eq!(rewritten[2..], input[2..]);
    }
}

/// FRAG, host, port and data, by counting octets.
fn read(input: &[u8]) -> Option<(u8, Host, u16, &[u8])> {
    let (frag, atyp) = (*input.get(2)?, *input.get(3)?);
    let (address, address_len) = match atyp {
        1 => (4, 4),
        4 => (4, 16),
        3 => (5, usize::from(*input.get(4)?)),
        _ => return None,
    };
    let address = input.get(address..address + address_len)?;
    let port = &input[input.len().min(if atyp == 3 { 5 } else { 4 } + address_len)..];
    let (port, data) = port.split_at_checked(2)?;
    let port = u16::from(port[0]) << 8 | u16::from(port[1]);
    let host = match atyp {
        1 => Host::Ip(Ipv4Addr::from(<[u8; 4]>::try_from(address).expect("4 octets")).into()),
        4 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(address).expect("16 octets"));
            Host::Ip(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4))
        }
        _ => Host::parse_name(address).ok()?,
    };
    (port != 0 && frag != 0x80).then_some((frag, host, port, data))
}

fn frag_of(fragment: Fragment) -> u8 {
    match fragment {
        Fragment::Whole => 0,
        Fragment::Part { position, is_last } => position.get() | if is_last { 0x80 } else { 0 },
    }
}
