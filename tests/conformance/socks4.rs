//! SOCKS4 and SOCKS4a, where no password is required.

use std::net::IpAddr;

use crate::bench::Bench;
use crate::connect::{expect_clean_end, expect_flow, expect_session};
use crate::support::origin::{ClosedPort, Origin};
use crate::support::peer::Peer;
use crate::support::socks::{BIND, CONNECT, connect_to, socks4};

crate::rows! {
    Socks4:
        socks4_granted_at_every_split
        socks4a_granted_at_every_split
        socks4_early_data_arrives_once
        socks4_long_userid
        socks4_refused_port
        socks4a_refused_port
        socks4a_unknown_name
        socks4a_malformed_names
        socks4_unknown_command
        socks4_port_zero
        socks4_all_zero_target
        socks4_endless_userid_is_closed
        socks4_fin_in_the_middle
        socks4_and_socks5_on_one_port;
    Ours:
        socks4_bind_switched_off;
}

/// The address that says that a name follows (SOCKS4a).
const NAME_FOLLOWS: [u8; 4] = [0, 0, 0, 1];

fn socks4_granted_at_every_split(bench: &Bench) {
    expect_granted_at_every_split(bench, |port| to_host(bench, port));
}

fn socks4a_granted_at_every_split(bench: &Bench) {
    expect_granted_at_every_split(bench, |port| to_name(bench.host_name().as_bytes(), port));
}

fn socks4_early_data_arrives_once(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let whole = [to_host(bench, origin.port()), b"EARLY".to_vec()].concat();
    for cut in 1..whole.len() {
        let client = bench.client();
        client.send_split(&whole, &[cut]);
        let target = expect_granted(&client, &origin);
        target.expect(b"EARLY");
        expect_clean_end(&client, &target);
    }
}

fn socks4_long_userid(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let client = bench.client();
    client.send(&socks4(CONNECT, host(bench), origin.port(), &[b'u'; 200], None));
    expect_granted(&client, &origin);
}

fn socks4_refused_port(bench: &Bench) {
    let closed = ClosedPort::everywhere();
    expect_rejected(bench, &to_host(bench, closed.port()));
}

fn socks4a_refused_port(bench: &Bench) {
    let closed = ClosedPort::everywhere();
    expect_rejected(bench, &to_name(bench.host_name().as_bytes(), closed.port()));
}

fn socks4a_unknown_name(bench: &Bench) {
    expect_rejected(bench, &to_name(b"no-such-host.invalid", 80));
}

fn socks4a_malformed_names(bench: &Bench) {
    let origin = Origin::start_everywhere();
    for name in [&b""[..], b"local host", b"local\nhost", b"b\xc3\xbccher.invalid", b"127.1"] {
        expect_rejected(bench, &to_name(name, origin.port()));
    }
    origin.expect_nobody();
}

fn socks4_unknown_command(bench: &Bench) {
    let origin = Origin::start_everywhere();
    for command in [0, 3, 9, 0xff] {
        expect_rejected(bench, &socks4(command, host(bench), origin.port(), b"", None));
    }
    origin.expect_nobody();
}

fn socks4_bind_switched_off(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_LISTEN_COMMANDS", "connect,udp")], |bench| {
        expect_rejected(bench, &socks4(BIND, host(bench), 80, b"", None));
    });
}

fn socks4_port_zero(bench: &Bench) {
    expect_rejected(bench, &to_host(bench, 0));
}

fn socks4_all_zero_target(bench: &Bench) {
    let origin = Origin::start_everywhere();
    expect_rejected(bench, &socks4(CONNECT, [0; 4], origin.port(), b"", None));
    origin.expect_nobody();
}

fn socks4_endless_userid_is_closed(bench: &Bench) {
    let client = bench.client();
    client.send(&[4, CONNECT, 0, 80, 127, 0, 0, 1]);
    let mut sent = 0;
    while client.try_send(&[b'u'; 4096]).is_ok() {
        sent += 4096;
        assert!(sent < 64 << 20, "64 MiB of a user's name and still read");
    }
}

fn socks4_fin_in_the_middle(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let message = to_host(bench, origin.port());
    for cut in 1..message.len() {
        let client = bench.client();
        client.send(&message[..cut]);
        client.fin();
        client.expect_silent_close();
    }
    origin.expect_nobody();
}

fn socks4_and_socks5_on_one_port(bench: &Bench) {
    let origin = Origin::start_everywhere();
    socks4_long_userid(bench);
    expect_session(&origin, &bench.requesting(&connect_to(bench.sees(&origin))));
}

#[track_caller]
fn expect_granted_at_every_split(bench: &Bench, request: impl Fn(u16) -> Vec<u8>) {
    let origin = Origin::start_everywhere();
    let message = request(origin.port());
    let every_byte: Vec<usize> = (1..message.len()).collect();
    let cuts = every_byte.iter().map(std::slice::from_ref).chain([&[][..], &every_byte]);
    for cuts in cuts {
        let client = bench.client();
        client.send_split(&message, cuts);
        let target = expect_granted(&client, &origin);
        expect_flow(&client, &target);
        expect_clean_end(&client, &target);
    }
}

/// Granted; returns the target's end.
#[track_caller]
fn expect_granted(client: &Peer, origin: &Origin) -> Peer {
    client.expect_socks4_granted();
    origin.accept()
}

#[track_caller]
fn expect_rejected(bench: &Bench, message: &[u8]) {
    let client = bench.client();
    client.send(message);
    client.expect_socks4_rejected();
}

fn to_host(bench: &Bench, port: u16) -> Vec<u8> {
    socks4(CONNECT, host(bench), port, b"user", None)
}

fn to_name(name: &[u8], port: u16) -> Vec<u8> {
    socks4(CONNECT, NAME_FOLLOWS, port, b"", Some(name))
}

/// SOCKS4 has room for a v4 address only.
fn host(bench: &Bench) -> [u8; 4] {
    match bench.host() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => panic!("rows of SOCKS4 need a v4 origin, not {ip}"),
    }
}
