//! What a request may say, and what it is answered (RFC 1928 sections 4 and 5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::bench::Bench;
use crate::connect::expect_session;
use crate::support::origin::{ClosedPort, Origin};
use crate::support::peer::hex;
use crate::support::socks::{BIND, CONNECT, UDP_ASSOCIATE, connect_to, connect_to_name, request};

crate::rows! {
    Anything:
        r02_wrong_version
        r03_q22_unknown_commands
        r04_q20_rsv_is_ignored
        r05_q22_unknown_address_types
        r05_v4_request_split_everywhere
        r05_name_request_split_everywhere
        r06_q18_empty_name
        r07_q19_nul_in_a_name
        r07_q19_controls_and_spaces_in_a_name
        r07_q17_raw_bytes_in_a_name
        r07_q17_label_of_64
        r07_q17_name_of_254_and_255
        r08_q15_v4_literal_as_a_name
        r08_inet_aton_forms_are_no_addresses
        r10_q21_port_zero
        r11_all_zero_targets
        q17_odd_names_that_do_not_exist
        q17_longest_name;
    Loopback:
        q17_upper_case_name
        q17_trailing_dot
        s02_own_listener;
    V6:
        r05_v6_request_split_everywhere
        r08_q16_v6_literal_as_a_name
        r09_mapped_v4_is_v4;
    Ours:
        r03_commands_switched_off;
}

fn r02_wrong_version(bench: &Bench) {
    let origin = Origin::start_everywhere();
    for version in [0, 1, 4, 6, 0xff] {
        let mut message = connect_to(bench.sees(&origin));
        message[0] = version;
        bench.requesting(&message).expect_refused(1);
    }
    origin.expect_nobody();
}

fn r03_q22_unknown_commands(bench: &Bench) {
    let origin = Origin::start_everywhere();
    for command in (0..=255).filter(|command| !matches!(*command, CONNECT | BIND | UDP_ASSOCIATE)) {
        bench.requesting(&request(command, bench.sees(&origin))).expect_refused(7);
    }
    origin.expect_nobody();
}

fn r03_commands_switched_off(_: &Bench) {
    let commands = [(CONNECT, "connect"), (UDP_ASSOCIATE, "udp"), (BIND, "bind")];
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    for (command, name) in commands {
        let others: Vec<&str> =
            commands.iter().map(|(_, other)| *other).filter(|other| *other != name).collect();
        Bench::with_own(&[("RINGSOCKS_LISTEN_COMMANDS", &others.join(","))], |bench| {
            bench.requesting(&request(command, target)).expect_refused(7);
        });
    }
}

fn r04_q20_rsv_is_ignored(bench: &Bench) {
    let origin = Origin::start_everywhere();
    for rsv in [1, 4, 0x7f, 0xff] {
        let mut message = connect_to(bench.sees(&origin));
        message[2] = rsv;
        expect_session(&origin, &bench.requesting(&message));
    }
}

fn r05_q22_unknown_address_types(bench: &Bench) {
    for atyp in (0..=255).filter(|atyp| !matches!(atyp, 1 | 3 | 4)) {
        let message = [5, CONNECT, 0, atyp, 127, 0, 0, 1, 0, 80];
        bench.requesting(&message).expect_refused(8);
    }
}

fn r05_v4_request_split_everywhere(bench: &Bench) {
    expect_sessions_at_every_split(bench, |origin| connect_to(bench.sees(origin)));
}

fn r05_v6_request_split_everywhere(bench: &Bench) {
    expect_sessions_at_every_split(bench, |origin| {
        connect_to((Ipv6Addr::LOCALHOST, origin.port()).into())
    });
}

fn r05_name_request_split_everywhere(bench: &Bench) {
    expect_sessions_at_every_split(bench, |origin| {
        connect_to_name(bench.host_name().as_bytes(), origin.port())
    });
}

fn r06_q18_empty_name(bench: &Bench) {
    expect_name_refused(bench, b"", 1);
}

fn r07_q19_nul_in_a_name(bench: &Bench) {
    let host = bench.host_name();
    for name in [&b"\0"[..], b"a\0.example", b"\0localhost"] {
        expect_name_refused(bench, name, 1);
    }
    expect_name_refused(bench, &[host.as_bytes(), b"\0"].concat(), 1);
    expect_name_refused(bench, &[host.as_bytes(), b"\0evil"].concat(), 1);
}

fn r07_q19_controls_and_spaces_in_a_name(bench: &Bench) {
    let host = bench.host_name();
    for byte in (1..=b' ').chain([0x7f]) {
        expect_name_refused(bench, &[host.as_bytes(), &[byte]].concat(), 1);
        expect_name_refused(bench, &[&b"a"[..], &[byte], b".invalid"].concat(), 1);
    }
}

fn r07_q17_raw_bytes_in_a_name(bench: &Bench) {
    expect_name_refused(bench, "bücher.invalid".as_bytes(), 1);
    expect_name_refused(bench, b"\xff\xfe.invalid", 1);
}

fn r07_q17_label_of_64(bench: &Bench) {
    expect_name_refused(bench, &[&[b'a'; 64], &b".invalid"[..]].concat(), 1);
}

fn r07_q17_name_of_254_and_255(bench: &Bench) {
    expect_name_refused(bench, &name_of(254), 1);
    expect_name_refused(bench, &name_of(255), 1);
}

fn r08_q15_v4_literal_as_a_name(bench: &Bench) {
    if let IpAddr::V4(ip) = bench.host() {
        expect_name_reaches(bench, &ip.to_string());
    }
}

fn r08_q16_v6_literal_as_a_name(bench: &Bench) {
    for literal in ["::1", "[::1]", "0:0:0:0:0:0:0:1"] {
        expect_name_reaches(bench, literal);
    }
}

fn r08_inet_aton_forms_are_no_addresses(bench: &Bench) {
    for name in ["127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1"] {
        expect_name_refused(bench, name.as_bytes(), 4);
    }
    for name in ["127.0.0.256", "127.0.0.1.1", "127.0.0.01", "1.2.3.0x4"] {
        expect_name_refused(bench, name.as_bytes(), 4);
    }
}

fn r09_mapped_v4_is_v4(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let client = bench.requesting(&connect_to((mapped, origin.port()).into()));
    let bnd = client.expect_granted();
    let target = origin.accept();
    assert_eq!(bnd, target.remote_address(), "BND is canonical");
}

fn r10_q21_port_zero(bench: &Bench) {
    bench.requesting(&connect_to(SocketAddr::new(bench.host(), 0))).expect_refused(1);
    bench.requesting(&connect_to_name(bench.host_name().as_bytes(), 0)).expect_refused(1);
}

fn r11_all_zero_targets(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let port = origin.port();
    let all_zero: [IpAddr; 3] = [
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().into(),
    ];
    for ip in all_zero {
        bench.requesting(&connect_to((ip, port).into())).expect_refused(2);
    }
    for name in ["0.0.0.0", "::", "[::]", "::ffff:0.0.0.0"] {
        bench.requesting(&connect_to_name(name.as_bytes(), port)).expect_refused(2);
    }
    origin.expect_nobody();
}

fn q17_odd_names_that_do_not_exist(bench: &Bench) {
    for name in ["under_score.invalid", "xn--bcher-kva.invalid", "UPPER.INVALID", "dot.invalid."] {
        expect_name_refused(bench, name.as_bytes(), 4);
    }
}

fn q17_longest_name(bench: &Bench) {
    expect_name_refused(bench, &name_of(253), 4);
}

fn q17_upper_case_name(bench: &Bench) {
    expect_name_reaches(bench, "LocalHOST");
}

fn q17_trailing_dot(bench: &Bench) {
    // "Resolve or REP 04": a hosts file knows no trailing dots.
    let origin = Origin::start_everywhere();
    let client = bench.requesting(&connect_to_name(b"localhost.", origin.port()));
    let reply = client.expect_reply();
    if !matches!(reply.rep, 0 | 4) {
        client.fail("REP 00 or 04", &format!("{reply:x?}"));
    }
}

fn s02_own_listener(bench: &Bench) {
    bench.requesting(&connect_to(bench.address)).expect_refused(2);
    let closed = ClosedPort::everywhere();
    let elsewhere = SocketAddr::new(bench.address.ip(), closed.port());
    bench.requesting(&connect_to(elsewhere)).expect_refused(5);
}

/// The request in two pieces, cut everywhere, and byte by byte.
#[track_caller]
fn expect_sessions_at_every_split(bench: &Bench, request: impl Fn(&Origin) -> Vec<u8>) {
    let origin = Origin::start_everywhere();
    let request = request(&origin);
    for cut in 1..request.len() {
        let client = bench.negotiated();
        client.send_split(&request, &[cut]);
        expect_session(&origin, &client);
    }
    let client = bench.negotiated();
    client.send_byte_by_byte(&request);
    expect_session(&origin, &client);
}

#[track_caller]
fn expect_name_reaches(bench: &Bench, name: &str) {
    let origin = Origin::start_everywhere();
    let client = bench.requesting(&connect_to_name(name.as_bytes(), origin.port()));
    expect_session(&origin, &client);
}

/// Refused, whatever listens at that port here.
#[track_caller]
fn expect_name_refused(bench: &Bench, name: &[u8], rep: u8) {
    let origin = Origin::start_everywhere();
    let client = bench.requesting(&connect_to_name(name, origin.port()));
    let reply = client.expect_reply();
    if reply.rep != rep {
        let name = String::from_utf8_lossy(name);
        client.fail(&format!("REP {} for the name {name:?}", hex(&[rep])), &format!("{reply:x?}"));
    }
    client.expect_eof();
}

/// A name of so many visible characters, below a domain that never exists.
fn name_of(len: usize) -> Vec<u8> {
    let domain = b".invalid";
    let letter = |place: usize| if place % 60 == 59 { b'.' } else { b'a' };
    (0..len - domain.len()).map(letter).chain(*domain).collect()
}
