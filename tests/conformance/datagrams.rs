//! What an association relays, and what it drops (RFC 1928 section 7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::bench::Bench;
use crate::support::server::Server;
use crate::support::socks::{datagram, datagram_by_name};
use crate::support::udp::{self, Association, UdpOrigin};
use crate::support::{assert_same_bytes, random_bytes};

crate::rows! {
    Udp:
        d07_q34_short_datagrams
        d07_unknown_address_types
        d07_headers_cut_short
        d07_malformed_names
        d07_port_zero
        d07_unknown_name
        d08_rsv_is_ignored
        d09_q32_header_names_the_true_source
        d12_q31_by_name
        d12_q31_order_is_kept_per_name
        d12_q31_unknown_names_hold_up_nobody
        d13_q35_sizes_to_the_target
        d13_q35_sizes_to_the_client
        q34_header_only_is_an_empty_datagram;
    [Udp Loopback]:
        d07_malformed_first_datagram_pins_nothing
        d07_s12_addresses_nobody_has
        d09_answer_from_another_port
        d11_third_party_is_dropped
        d12_v4_literal_as_a_name
        d15_refusing_port_then_an_open_one
        d15_refusing_port_costs_no_other_datagram
        d16_other_associations_are_no_targets
        d16_no_loop_through_itself
        q45_one_outgoing_port_for_all_targets
        q45_a_thousand_targets;
    [Udp V6]:
        d09_v6_target_of_a_v4_client
        d09_mapped_v4_is_v4
        d12_v6_literal_as_a_name;
    [Udp V6Client]:
        d09_v6_target_of_a_v6_client
        d09_v4_target_of_a_v6_client
        d13_q35_sizes_over_v6;
    Ours:
        d07_denied_target
        d11_filter_by_address_and_port
        d11_no_filter
        d11_contacted_addresses_are_bounded
        d13_every_size_arrives_here
        d14_what_grows_too_large_is_dropped
        d16_own_outgoing_port_is_no_target;
}

/// How long nothing is to come, where something better has proven that nothing did.
const A_MOMENT: Duration = Duration::from_millis(100);

/// The most that fits into one datagram behind the header of a v4 address.
const DATA_MAX: usize = 65_507 - 10;

const SIZES: [usize; 6] = [0, 1, 1472, 1473, 9000, DATA_MAX];

fn d07_q34_short_datagrams(bench: &Bench) {
    let header = datagram(([127, 0, 0, 1], 9).into(), b"");
    let prefixes = (0..header.len()).map(|len| header[..len].to_vec());
    let zeros = (0..10).map(|len| vec![0; len]);
    expect_dropped(bench, |_| prefixes.chain(zeros).collect());
}

fn d07_unknown_address_types(bench: &Bench) {
    expect_dropped(bench, |target| {
        let with_atyp = |atyp| {
            let mut bytes = datagram(target, b"of an unknown type");
            bytes[3] = atyp;
            bytes
        };
        [0, 2, 5, 6, 0x7f, 0x80, 0xff].map(with_atyp).to_vec()
    });
}

/// Of each address type, with fewer bytes than its length asks for.
fn d07_headers_cut_short(bench: &Bench) {
    let v6 = datagram((Ipv6Addr::LOCALHOST, 9).into(), b"");
    let name = datagram_by_name(b"localhost", 9, b"");
    let longest = datagram_by_name(&[b'a'; 255], 9, b"");
    expect_dropped(bench, |_| {
        [v6, name, longest]
            .iter()
            .flat_map(|header| (4..header.len()).map(|len| header[..len].to_vec()))
            .collect()
    });
}

fn d07_malformed_names(bench: &Bench) {
    let host = bench.host_name().into_bytes();
    let names = [
        b"".to_vec(),
        b"\0".to_vec(),
        [&host[..], b"\0"].concat(),
        [&host[..], b"\0evil"].concat(),
        [&host[..], b"\n"].concat(),
        [b" ", &host[..]].concat(),
        "bücher.invalid".as_bytes().to_vec(),
        [b'a'; 255].to_vec(),
        b"2130706433".to_vec(),
        b"0x7f000001".to_vec(),
        b"127.1".to_vec(),
        b"0.0.0.0".to_vec(),
    ];
    expect_dropped(bench, |target| {
        names.iter().map(|name| datagram_by_name(name, target.port(), b"by a bad name")).collect()
    });
}

fn d07_port_zero(bench: &Bench) {
    let name = bench.host_name().into_bytes();
    expect_dropped(bench, |target| {
        let port_zero = SocketAddr::new(target.ip(), 0);
        vec![datagram(port_zero, b"to port 0"), datagram_by_name(&name, 0, b"to port 0")]
    });
}

fn d07_unknown_name(bench: &Bench) {
    expect_dropped(bench, |target| {
        vec![datagram_by_name(b"no-such-host.invalid", target.port(), b"to nobody")]
    });
}

fn d07_malformed_first_datagram_pins_nothing(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let target = bench.sees_udp(&origin);
    let association = bench.associated();
    let other = udp::bind(association.control().local_address().ip());
    let mut of_unknown_type = datagram(target, b"malformed");
    of_unknown_type[3] = 9;
    for malformed in [&b""[..], b"hello", &of_unknown_type] {
        udp::send_from(&other, association.relay(), malformed);
    }
    association.expect_exchange(&origin, target);
    udp::send_from(&other, association.relay(), &datagram(target, b"too late"));
    association.expect_exchange(&origin, target);
    origin.expect_silence(A_MOMENT);
}

/// All-zero addresses mean this very host to the kernel.
fn d07_s12_addresses_nobody_has(bench: &Bench) {
    let mapped_zero = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    let groups: [IpAddr; 7] = [
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv6Addr::UNSPECIFIED.into(),
        mapped_zero.into(),
        Ipv4Addr::BROADCAST.into(),
        [127, 255, 255, 255].into(),
        [224, 0, 0, 1].into(),
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
    ];
    expect_dropped(bench, |target| {
        groups
            .iter()
            .map(|ip| datagram(SocketAddr::new(*ip, target.port()), b"to nobody's address"))
            .collect()
    });
}

fn d07_denied_target(_: &Bench) {
    let allowed = "127.0.0.11/32";
    Bench::with_own(&[("RINGSOCKS_LISTEN_TARGETS", allowed)], |bench| {
        let [denied, origin] = [[127, 0, 0, 1], [127, 0, 0, 11]].map(origin_on);
        let association = bench.associated();
        association.send_to(denied.address(), b"not here");
        association.send_to_name(b"127.0.0.1", denied.port(), b"nor here");
        association.expect_exchange(&origin, origin.address());
        denied.expect_silence(A_MOMENT);
    });
}

fn d08_rsv_is_ignored(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    for rsv in [[0, 1], [1, 0], [0x7f, 0x7f], [0xff, 0xff]] {
        let mut bytes = datagram(bench.sees_udp(&origin), &rsv);
        bytes[..2].copy_from_slice(&rsv);
        association.send_raw(&bytes);
        origin.expect(&rsv);
    }
}

fn d09_q32_header_names_the_true_source(bench: &Bench) {
    let origins = [0, 1, 2].map(|_| UdpOrigin::start_everywhere());
    let association = bench.associated();
    for _ in 0..3 {
        for origin in &origins {
            association.expect_exchange(origin, bench.sees_udp(origin));
        }
    }
}

fn d09_answer_from_another_port(bench: &Bench) {
    let (origin, other) = (UdpOrigin::start(), UdpOrigin::start());
    let association = bench.associated();
    let asked_from = association.expect_exchange(&origin, origin.address());
    other.send_to(asked_from, b"from another port");
    association.expect(other.address(), b"from another port");
}

fn d09_v6_target_of_a_v4_client(bench: &Bench) {
    expect_v6_target(bench);
}

fn d09_v6_target_of_a_v6_client(bench: &Bench) {
    expect_v6_target(bench);
}

fn d09_v4_target_of_a_v6_client(bench: &Bench) {
    let origin = UdpOrigin::start();
    bench.associated().expect_exchange(&origin, origin.address());
}

fn d09_mapped_v4_is_v4(bench: &Bench) {
    let origin = UdpOrigin::start();
    let association = bench.associated();
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    association.send_to((mapped, origin.port()).into(), b"mapped");
    let asked_from = origin.expect(b"mapped");
    origin.send_to(asked_from, b"canonical");
    association.expect(origin.address(), b"canonical");
}

fn d11_third_party_is_dropped(bench: &Bench) {
    let [origin, third] = [[127, 0, 0, 1], [127, 0, 0, 12]].map(origin_on);
    let association = bench.associated();
    let asked_from = association.expect_exchange(&origin, origin.address());
    for _ in 0..3 {
        third.send_to(asked_from, b"unasked");
        origin.send_to(asked_from, b"asked");
        association.expect(origin.address(), b"asked");
    }
    association.expect_silence(A_MOMENT);
    association.expect_exchange(&third, third.address());
    third.send_to(asked_from, b"asked by now");
    association.expect(third.address(), b"asked by now");
}

fn d11_filter_by_address_and_port(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_UDP_FILTER", "address-port")], |bench| {
        let (origin, other) = (UdpOrigin::start(), UdpOrigin::start());
        let association = bench.associated();
        let asked_from = association.expect_exchange(&origin, origin.address());
        other.send_to(asked_from, b"from another port");
        association.expect_exchange(&origin, origin.address());
        association.expect_silence(A_MOMENT);
    });
}

fn d11_no_filter(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_UDP_FILTER", "endpoint-independent")], |bench| {
        let [origin, third] = [[127, 0, 0, 1], [127, 0, 0, 12]].map(origin_on);
        let association = bench.associated();
        let asked_from = association.expect_exchange(&origin, origin.address());
        third.send_to(asked_from, b"unasked");
        association.expect(third.address(), b"unasked");
    });
}

/// The one asked longest ago is forgotten first.
fn d11_contacted_addresses_are_bounded(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_UDP_PEERS", "2")], |bench| {
        let [first, second, third] =
            [[127, 0, 0, 11], [127, 0, 0, 12], [127, 0, 0, 13]].map(origin_on);
        let association = bench.associated();
        for origin in [&first, &second, &first] {
            association.expect_exchange(origin, origin.address());
        }
        let asked_from = association.expect_exchange(&third, third.address());
        second.send_to(asked_from, b"forgotten");
        for origin in [&first, &third] {
            origin.send_to(asked_from, b"remembered");
            association.expect(origin.address(), b"remembered");
        }
        association.expect_silence(A_MOMENT);
    });
}

fn d12_q31_by_name(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    for data in [&b"one"[..], b"two", b"three"] {
        association.send_to_name(bench.host_name().as_bytes(), origin.port(), data);
        let asked_from = origin.expect(data);
        origin.send_to(asked_from, b"answer");
        let (source, answer) = association.receive();
        assert_eq!((source.port(), &answer[..]), (origin.port(), &b"answer"[..]));
    }
}

fn d12_q31_order_is_kept_per_name(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    for number in 0..20 {
        association.send_to_name(bench.host_name().as_bytes(), origin.port(), &[number]);
    }
    for number in 0..20 {
        origin.expect(&[number]);
    }
}

fn d12_q31_unknown_names_hold_up_nobody(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    for number in 0..100 {
        let name = format!("no-such-host-{number}.invalid");
        association.send_to_name(name.as_bytes(), origin.port(), b"to nobody");
    }
    association.expect_exchange(&origin, bench.sees_udp(&origin));
    origin.expect_silence(A_MOMENT);
}

fn d12_v4_literal_as_a_name(bench: &Bench) {
    expect_reached_by_name(bench, b"127.0.0.1", Ipv4Addr::LOCALHOST.into());
}

fn d12_v6_literal_as_a_name(bench: &Bench) {
    expect_reached_by_name(bench, b"::1", Ipv6Addr::LOCALHOST.into());
    expect_reached_by_name(bench, b"[::1]", Ipv6Addr::LOCALHOST.into());
}

fn d13_q35_sizes_to_the_target(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    for size in SIZES {
        let arrived = sent_to_target(&association, &origin, bench.sees_udp(&origin), size);
        assert!(arrived || size > 1472, "{size} bytes were dropped");
    }
}

fn d13_q35_sizes_to_the_client(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    for size in SIZES {
        let arrived = sent_to_client(&association, &origin, bench.sees_udp(&origin), size);
        assert!(arrived || size > 1472, "{size} bytes were dropped");
    }
}

fn d13_q35_sizes_over_v6(bench: &Bench) {
    let origin = UdpOrigin::start_on(Ipv6Addr::LOCALHOST.into());
    let association = bench.associated();
    for size in [0, 1, 1452, 1453, 9000, 65_507 - 22] {
        let to_target = sent_to_target(&association, &origin, origin.address(), size);
        let to_client = sent_to_client(&association, &origin, origin.address(), size);
        assert!((to_target && to_client) || size > 1452, "{size} bytes were dropped");
    }
}

fn d13_every_size_arrives_here(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    for size in SIZES.into_iter().chain(1..100).chain(1400..1500).chain(DATA_MAX - 50..DATA_MAX) {
        assert!(sent_to_target(&association, &origin, bench.sees_udp(&origin), size), "{size} up");
        assert!(
            sent_to_client(&association, &origin, bench.sees_udp(&origin), size),
            "{size} down"
        );
    }
}

fn d14_what_grows_too_large_is_dropped(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    for size in [DATA_MAX + 1, DATA_MAX + 9, DATA_MAX + 10] {
        assert!(
            !sent_to_client(&association, &origin, bench.sees_udp(&origin), size),
            "{size} bytes"
        );
    }
    assert!(sent_to_client(&association, &origin, bench.sees_udp(&origin), DATA_MAX));
}

fn d15_refusing_port_then_an_open_one(bench: &Bench) {
    let association = bench.associated();
    let address = udp::closed_address();
    for _ in 0..5 {
        association.send_to(address, b"refused");
    }
    association.expect_silence(A_MOMENT);
    let Some(origin) = UdpOrigin::try_start_at(address) else {
        // Somebody has the port by now.
        return d15_refusing_port_then_an_open_one(bench);
    };
    association.expect_exchange(&origin, address);
}

fn d15_refusing_port_costs_no_other_datagram(bench: &Bench) {
    let closed = udp::closed_address();
    let origin = UdpOrigin::start();
    let association = bench.associated();
    for _ in 0..100 {
        association.send_to(closed, b"refused");
        association.expect_exchange(&origin, origin.address());
    }
    for number in 0..100 {
        association.send_to(closed, b"refused");
        association.send_to(origin.address(), &[number]);
    }
    for number in 0..100 {
        origin.expect(&[number]);
    }
}

/// Nor does one become another's client: the second association has not heard from its own yet.
fn d16_other_associations_are_no_targets(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let (one, other) = (bench.associated(), bench.associated());
    let nested = datagram(bench.sees_udp(&origin), b"through both");
    one.expect_exchange(&origin, bench.sees_udp(&origin));
    one.send_to(other.relay(), &nested);
    one.expect_exchange(&origin, bench.sees_udp(&origin));
    other.expect_exchange(&origin, bench.sees_udp(&origin));
    one.send_to(other.relay(), &nested);
    other.send_to(one.relay(), &nested);
    one.expect_exchange(&origin, bench.sees_udp(&origin));
    other.expect_exchange(&origin, bench.sees_udp(&origin));
    origin.expect_silence(A_MOMENT);
}

fn d16_no_loop_through_itself(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    let relay = association.relay();
    let nested = datagram(bench.sees_udp(&origin), b"through itself");
    association.send_to(relay, &nested);
    association.send_to(relay, &datagram(relay, &nested));
    association.expect_exchange(&origin, bench.sees_udp(&origin));
    origin.expect_silence(A_MOMENT);
}

fn d16_own_outgoing_port_is_no_target(bench: &Bench) {
    let origin = UdpOrigin::start();
    let association = bench.associated();
    let outgoing = association.expect_exchange(&origin, origin.address());
    association.send_to(outgoing, b"to itself");
    association.expect_exchange(&origin, origin.address());
    association.expect_silence(A_MOMENT);
}

fn q34_header_only_is_an_empty_datagram(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    association.send_to(bench.sees_udp(&origin), b"");
    let asked_from = origin.expect(b"");
    origin.send_to(asked_from, b"");
    association.expect(bench.sees_udp(&origin), b"");
}

/// Thousands of peers see the same client, as those that look for each other must.
fn q45_one_outgoing_port_for_all_targets(bench: &Bench) {
    let association = bench.associated();
    let origins = [1, 11, 12, 13].map(|host| origin_on([127, 0, 0, host]));
    let asked_from: Vec<SocketAddr> = origins
        .iter()
        .map(|origin| association.expect_exchange(origin, origin.address()))
        .collect();
    assert!(asked_from.iter().all(|address| *address == asked_from[0]), "{asked_from:?}");
}

fn q45_a_thousand_targets(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    let asked_from = association.expect_exchange(&origin, bench.sees_udp(&origin));
    let descriptors = bench.own_server().map(Server::fds);
    for (host, number) in (1..=1000_u16).map(|number| (number.to_be_bytes(), number)) {
        let target = SocketAddr::from(([127, 3, host[0], host[1]], origin.port()));
        association.send_to(target, &number.to_be_bytes());
        assert_eq!(origin.expect(&number.to_be_bytes()), asked_from);
    }
    assert_eq!(bench.own_server().map(Server::fds), descriptors, "descriptors");
}

/// None of these datagrams for `target` arrives, and each good one between them does.
#[track_caller]
fn expect_dropped(bench: &Bench, datagrams: impl FnOnce(SocketAddr) -> Vec<Vec<u8>>) {
    let origin = UdpOrigin::start_everywhere();
    let target = bench.sees_udp(&origin);
    let association = bench.associated();
    for bad in datagrams(target) {
        association.send_raw(&bad);
        association.expect_exchange(&origin, target);
    }
    origin.expect_silence(A_MOMENT);
    association.expect_silence(A_MOMENT);
}

#[track_caller]
fn expect_v6_target(bench: &Bench) {
    let origin = UdpOrigin::start_on(Ipv6Addr::LOCALHOST.into());
    bench.associated().expect_exchange(&origin, origin.address());
}

#[track_caller]
fn expect_reached_by_name(bench: &Bench, name: &[u8], ip: IpAddr) {
    let origin = UdpOrigin::start_on(ip);
    let association = bench.associated();
    association.send_to_name(name, origin.port(), b"by name");
    let asked_from = origin.expect(b"by name");
    origin.send_to(asked_from, b"answer");
    association.expect(origin.address(), b"answer");
}

/// Whether so many bytes arrive: exact, or not at all.
#[track_caller]
fn sent_to_target(
    association: &Association,
    origin: &UdpOrigin,
    target: SocketAddr,
    size: usize,
) -> bool {
    let data = random_bytes(size as u64, size);
    association.send_to(target, &data);
    association.send_to(target, b"behind it");
    let (came, _) = origin.receive();
    if came == b"behind it" {
        return false;
    }
    assert_same_bytes(&came, &data);
    origin.expect(b"behind it");
    true
}

/// As [`sent_to_target`], the other way.
#[track_caller]
fn sent_to_client(
    association: &Association,
    origin: &UdpOrigin,
    target: SocketAddr,
    size: usize,
) -> bool {
    let asked_from = association.expect_exchange(origin, target);
    let data = random_bytes(size as u64, size);
    origin.send_to(asked_from, &data);
    origin.send_to(asked_from, b"behind it");
    let (_, came) = association.receive();
    if came == b"behind it" {
        return false;
    }
    assert_same_bytes(&came, &data);
    association.expect(target, b"behind it");
    true
}

fn origin_on(ip: [u8; 4]) -> UdpOrigin {
    UdpOrigin::start_on(ip.into())
}
