//! UDP ASSOCIATE: who may use an association, and how long it lives (RFC 1928 sections 4 and 7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::connect::expect_session;
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::socks::{
    BIND, UDP_ASSOCIATE, connect_to, datagram, refusal, request, request_by_name,
};
use crate::support::udp::{self, Association, UNSAID, UdpEcho, UdpOrigin};
use crate::support::wait_until;

crate::rows! {
    Udp:
        d01_bnd_is_where_to_send
        d02_q23_zeros
        d02_q24_the_target_in_dst
        d02_q25_pysocks_says_the_name_0
        d02_zeros_with_a_port
        d02_q27_an_address_behind_nat
        d05_q30_stray_bytes_on_the_control_connection
        d05_q30_stray_bytes_behind_the_request
        q29_a_hundred_at_once
        q29_a_hundred_one_after_another
        q45_streams_and_datagrams_in_parallel;
    [Udp Loopback]:
        d01_bnd_is_the_servers_address
        d02_request_pins_the_port
        d03_s01_other_address_is_ignored
        d03_s01_other_address_is_ignored_before_the_first_datagram
        d03_s01_other_port_is_ignored
        d04_fin_ends_it
        d04_reset_ends_it
        d04_answers_on_their_way_are_lost
        d04_the_ports_are_closed
        s01_datagrams_to_the_listeners_port_number
        s02_listens_at_the_clients_side_only
        s02_outgoing_port_is_no_relay;
    [Udp Users]:
        q45_streams_and_datagrams_with_a_password;
    [Udp V6]:
        d02_q26_v6_zeros;
    [Udp V6Client]:
        d01_bnd_of_v6
        d02_v4_zeros_of_a_v6_client
        d03_other_v6_port_is_ignored;
    Ours:
        d01_advertised_address
        d02_q28_the_first_datagram_may_come_late
        d03_check_of_addresses_only
        d03_no_check
        d06_idle
        d06_datagrams_are_activity
        d01_p02_ports_of_the_range_used_up
        d01_p02_cap_per_client;
}

/// A loopback address that is no client's.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A loopback address that only those clients have that send where an association was: somebody
/// else's may be there by now, and would take them for its own client.
const LATE_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// How long nothing is to come, where something better has proven that nothing did.
const A_MOMENT: Duration = Duration::from_millis(100);

fn d01_bnd_is_where_to_send(bench: &Bench) {
    let client = bench.requesting(&request(UDP_ASSOCIATE, UNSAID));
    let bnd = client.expect_granted();
    assert!(!bnd.ip().is_unspecified() && bnd.port() >= 1024, "BND {bnd}");
}

fn d01_bnd_is_the_servers_address(bench: &Bench) {
    let association = bench.associated();
    assert_eq!(association.relay().ip(), association.control().remote_address().ip());
    assert_eq!(association.relay().ip(), bench.address.ip().to_canonical());
}

fn d01_bnd_of_v6(bench: &Bench) {
    let association = bench.associated();
    assert_eq!(association.relay().ip(), IpAddr::V6(Ipv6Addr::LOCALHOST));
    expect_usable(bench, &association);
}

fn d02_q23_zeros(bench: &Bench) {
    expect_usable(bench, &bench.associated());
}

fn d02_q24_the_target_in_dst(bench: &Bench) {
    expect_usable_however_asked(bench, &request(UDP_ASSOCIATE, ([8, 8, 8, 8], 53).into()));
}

fn d02_q25_pysocks_says_the_name_0(bench: &Bench) {
    expect_usable_however_asked(bench, &request_by_name(UDP_ASSOCIATE, b"0", 0));
    let client = bench.negotiated();
    let socket = udp::bind(client.local_address().ip());
    client.send(&request_by_name(UDP_ASSOCIATE, b"0", port_of(&socket)));
    expect_usable(bench, &Association::granted_from(client, socket));
}

/// Whatever the port: an address that is not the client's says nothing about it.
fn d02_zeros_with_a_port(bench: &Bench) {
    let zeros = SocketAddr::new(UNSAID.ip(), 9);
    expect_usable_however_asked(bench, &request(UDP_ASSOCIATE, zeros));
    expect_usable_however_asked(bench, &request_by_name(UDP_ASSOCIATE, b"0", 9));
}

fn d02_v4_zeros_of_a_v6_client(bench: &Bench) {
    expect_usable_however_asked(bench, &request(UDP_ASSOCIATE, UNSAID));
}

fn d02_q26_v6_zeros(bench: &Bench) {
    let unspecified = (Ipv6Addr::UNSPECIFIED, 0).into();
    expect_usable_however_asked(bench, &request(UDP_ASSOCIATE, unspecified));
}

fn d02_q27_an_address_behind_nat(bench: &Bench) {
    let behind_nat = ([192, 168, 1, 2], 50_000).into();
    expect_usable_however_asked(bench, &request(UDP_ASSOCIATE, behind_nat));
}

fn d02_request_pins_the_port(bench: &Bench) {
    let client = bench.negotiated();
    let own = udp::bind(client.local_address().ip());
    let other = udp::bind(client.local_address().ip());
    client.send(&request(UDP_ASSOCIATE, own.local_addr().expect("a bound socket")));
    let association = Association::granted_from(client, own);
    expect_ignored(bench, &association, &other);
}

fn d02_q28_the_first_datagram_may_come_late(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_TIMEOUT_HANDSHAKE", "500ms")], |bench| {
        let association = bench.associated();
        association.control().expect_silence(Duration::from_millis(1500));
        expect_usable(bench, &association);
    });
}

fn d03_s01_other_address_is_ignored(bench: &Bench) {
    let association = bench.associated();
    expect_usable(bench, &association);
    expect_ignored(bench, &association, &udp::bind(STRANGER));
}

fn d03_s01_other_address_is_ignored_before_the_first_datagram(bench: &Bench) {
    expect_ignored(bench, &bench.associated(), &udp::bind(STRANGER));
}

fn d03_s01_other_port_is_ignored(bench: &Bench) {
    let association = bench.associated();
    expect_usable(bench, &association);
    expect_ignored(bench, &association, &udp::bind(association.control().local_address().ip()));
}

fn d03_other_v6_port_is_ignored(bench: &Bench) {
    d03_s01_other_port_is_ignored(bench);
}

fn d03_check_of_addresses_only(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_UDP_CLIENT_CHECK", "address")], |bench| {
        let association = bench.associated();
        expect_usable(bench, &association);
        expect_answered_instead(bench, &association, &udp::bind(bench.host()));
        expect_ignored(bench, &association, &udp::bind(STRANGER));
    });
}

fn d03_no_check(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_UDP_CLIENT_CHECK", "off")], |bench| {
        let association = bench.associated();
        expect_usable(bench, &association);
        expect_answered_instead(bench, &association, &udp::bind(bench.host()));
        expect_answered_instead(bench, &association, &udp::bind(STRANGER));
        expect_usable(bench, &association);
    });
}

fn d04_fin_ends_it(bench: &Bench) {
    expect_ended_by(bench, drop);
}

fn d04_reset_ends_it(bench: &Bench) {
    expect_ended_by(bench, Peer::reset);
}

fn d04_answers_on_their_way_are_lost(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = late_client(bench);
    let asked_from = association.expect_exchange(&origin, bench.sees_udp(&origin));
    let relay = association.relay();
    let client = association.hang_up(drop);
    expect_relays_no_more(bench, &client, relay);
    origin.send_to(asked_from, b"too late");
    assert!(!hears_anything(&client, A_MOMENT), "an answer came after the end");
}

fn d04_the_ports_are_closed(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    for end in [drop, Peer::reset] {
        let association = late_client(bench);
        let asked_from = association.expect_exchange(&origin, bench.sees_udp(&origin));
        let relay = association.relay();
        association.hang_up(end);
        wait_until("the relay's port is closed", || udp::is_refused(LATE_CLIENT, relay));
        wait_until("the outgoing port is closed", || udp::is_refused(LATE_CLIENT, asked_from));
    }
}

fn d05_q30_stray_bytes_on_the_control_connection(bench: &Bench) {
    let association = bench.associated();
    expect_usable(bench, &association);
    let chunk = [0x5a; 64 * 1024];
    for _ in 0..16 {
        association.control().send(&chunk);
        expect_usable(bench, &association);
    }
    association.control().expect_silence(A_MOMENT);
}

fn d05_q30_stray_bytes_behind_the_request(bench: &Bench) {
    let (prologue, answers) = bench.pipelined_prologue();
    let client = bench.client();
    client.send(&[&prologue, &request(UDP_ASSOCIATE, UNSAID)[..], b"stray bytes"].concat());
    client.expect(&answers);
    let association = Association::granted(client);
    expect_usable(bench, &association);
    association.control().expect_silence(A_MOMENT);
}

fn d06_idle(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_UDP_IDLE", "1s")], |bench| {
        let association = bench.associated();
        let last_active = Instant::now();
        expect_usable(bench, &association);
        association.control().expect_reset();
        assert!(last_active.elapsed() >= Duration::from_secs(1), "{:?}", last_active.elapsed());
    });
}

/// Those of either direction are.
fn d06_datagrams_are_activity(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_UDP_IDLE", "2s")], |bench| {
        let origin = UdpOrigin::start();
        let (asking, asked) = (bench.associated(), bench.associated());
        let asked_from = asked.expect_exchange(&origin, origin.address());
        for _ in 0..30 {
            asking.send_to(origin.address(), b"still here");
            origin.expect(b"still here");
            origin.send_to(asked_from, b"and here");
            asked.expect(origin.address(), b"and here");
            thread::sleep(Duration::from_millis(100));
        }
        assert!(!asking.control().has_input() && !asked.control().has_input());
    });
}

fn d01_advertised_address(_: &Bench) {
    let advertised: IpAddr = [203, 0, 113, 7].into();
    // Who is on this host reaches it where it is, unless the rule names them.
    for (rule, told) in
        [("127.0.0.0/8=203.0.113.7", advertised), ("203.0.113.7", Ipv4Addr::LOCALHOST.into())]
    {
        Bench::with_own(&[("RINGSOCKS_UDP_ADVERTISE", rule)], |bench| {
            let client = bench.requesting(&request(UDP_ASSOCIATE, UNSAID));
            let bnd = client.expect_granted();
            assert_eq!(bnd.ip(), told, "{rule}");
            let origin = UdpOrigin::start();
            let socket = udp::bind(bench.host());
            let relay = SocketAddr::new(bench.host(), bnd.port());
            udp::send_from(&socket, relay, &datagram(origin.address(), b"by the real address"));
            origin.expect(b"by the real address");
        });
    }
}

fn q29_a_hundred_at_once(bench: &Bench) {
    let associations: Vec<Association> = (0..100).map(|_| bench.associated()).collect();
    for association in &associations {
        expect_usable(bench, association);
    }
}

fn q29_a_hundred_one_after_another(bench: &Bench) {
    for _ in 0..100 {
        expect_usable(bench, &bench.associated());
    }
}

fn q45_streams_and_datagrams_in_parallel(bench: &Bench) {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let association = bench.associated();
                let echo = UdpEcho::start_everywhere();
                let origin = Origin::start_everywhere();
                for len in [1, 64, 512, 1400] {
                    association.expect_echo(SocketAddr::new(bench.host(), echo.port()), len);
                    expect_session(&origin, &bench.requesting(&connect_to(bench.sees(&origin))));
                }
            });
        }
    });
}

fn q45_streams_and_datagrams_with_a_password(bench: &Bench) {
    q45_streams_and_datagrams_in_parallel(bench);
}

fn s01_datagrams_to_the_listeners_port_number(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = late_client(bench);
    let to_origin = datagram(bench.sees_udp(&origin), b"to the listener");
    udp::send_from(association.client(), bench.address, &to_origin);
    association.expect_exchange(&origin, bench.sees_udp(&origin));
    origin.expect_silence(A_MOMENT);
}

/// A port on every address would take this one too.
fn s02_listens_at_the_clients_side_only(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    let elsewhere = SocketAddr::from(([127, 0, 0, 3], association.relay().port()));
    let to_origin = datagram(bench.sees_udp(&origin), b"to another address");
    udp::send_from(association.client(), elsewhere, &to_origin);
    association.expect_exchange(&origin, bench.sees_udp(&origin));
    origin.expect_silence(A_MOMENT);
}

fn s02_outgoing_port_is_no_relay(bench: &Bench) {
    let origin = UdpOrigin::start_everywhere();
    let association = bench.associated();
    let outgoing = association.expect_exchange(&origin, bench.sees_udp(&origin));
    let to_origin = datagram(bench.sees_udp(&origin), b"to the outgoing port");
    udp::send_from(association.client(), outgoing, &to_origin);
    udp::send_from(&udp::bind(STRANGER), outgoing, &to_origin);
    // From the client's own address, it may be taken for an answer.
    while association.receive_within(A_MOMENT).is_some() {}
    association.expect_exchange(&origin, bench.sees_udp(&origin));
    origin.expect_silence(A_MOMENT);
}

fn d01_p02_ports_of_the_range_used_up(_: &Bench) {
    let port = udp::closed_address().port();
    Bench::with_own(&[("RINGSOCKS_UDP_PORTS", &format!("{port}-{port}"))], |bench| {
        let association = bench.associated();
        assert_eq!(association.relay().port(), port);
        bench.requesting(&request(UDP_ASSOCIATE, UNSAID)).expect_refused(1);
        expect_usable(bench, &association);
        drop(association);
        expect_granted_again(bench);
    });
}

/// Waiting BINDs count as well; who is somebody else does not.
fn d01_p02_cap_per_client(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_LIMIT_PORTS_PER_CLIENT", "1")], |bench| {
        let association = bench.associated();
        for command in [UDP_ASSOCIATE, BIND] {
            let refused = bench.requesting(&request(command, (bench.host(), 0).into()));
            refused.expect(&refusal(2));
            refused.expect_eof();
        }
        let other = bench.negotiated_from(STRANGER);
        other.send(&request(UDP_ASSOCIATE, UNSAID));
        other.expect_granted();
        expect_usable(bench, &association);
        drop(association);
        expect_granted_again(bench);
    });
}

/// One datagram there and its answer back.
#[track_caller]
fn expect_usable(bench: &Bench, association: &Association) {
    let origin = UdpOrigin::start_everywhere();
    association.expect_exchange(&origin, bench.sees_udp(&origin));
}

/// This request is granted, and wherever it said the client is, the client's datagrams are relayed.
#[track_caller]
fn expect_usable_however_asked(bench: &Bench, request: &[u8]) {
    expect_usable(bench, &bench.associated_by(request));
}

/// What `stranger` sends is not relayed, answers do not go there, and the client is none the worse.
#[track_caller]
fn expect_ignored(bench: &Bench, association: &Association, stranger: &UdpSocket) {
    let origin = UdpOrigin::start_everywhere();
    let target = bench.sees_udp(&origin);
    for _ in 0..3 {
        udp::send_from(stranger, association.relay(), &datagram(target, b"from a stranger"));
        association.expect_exchange(&origin, target);
    }
    origin.expect_silence(A_MOMENT);
    assert!(!hears_anything(stranger, A_MOMENT), "the stranger was answered");
}

/// Once `socket` has sent, it is the one that is answered.
#[track_caller]
fn expect_answered_instead(bench: &Bench, association: &Association, socket: &UdpSocket) {
    let origin = UdpOrigin::start();
    let to_origin = datagram(bench.sees_udp(&origin), b"from elsewhere");
    udp::send_from(socket, association.relay(), &to_origin);
    let asked_from = origin.expect(b"from elsewhere");
    origin.send_to(asked_from, b"to elsewhere");
    assert!(hears_anything(socket, Duration::from_secs(10)), "the latest source is answered");
    association.expect_silence(A_MOMENT);
}

#[track_caller]
fn late_client(bench: &Bench) -> Association {
    let client = bench.negotiated_from(LATE_CLIENT);
    client.send(&request(UDP_ASSOCIATE, UNSAID));
    Association::granted(client)
}

#[track_caller]
fn expect_ended_by(bench: &Bench, end: impl FnOnce(Peer)) {
    let association = late_client(bench);
    expect_usable(bench, &association);
    let relay = association.relay();
    let client = association.hang_up(end);
    expect_relays_no_more(bench, &client, relay);
}

/// Sooner or later what the client sends does not arrive, and never again.
#[track_caller]
fn expect_relays_no_more(bench: &Bench, client: &UdpSocket, relay: SocketAddr) {
    let origin = UdpOrigin::start_everywhere();
    let to_origin = datagram(bench.sees_udp(&origin), b"after the end");
    wait_until("nothing is relayed any more", || {
        udp::send_from(client, relay, &to_origin);
        origin.receive_within(A_MOMENT).is_none()
    });
    for _ in 0..3 {
        udp::send_from(client, relay, &to_origin);
    }
    origin.expect_silence(A_MOMENT);
}

/// Once what was held is given back, the next one is granted.
#[track_caller]
fn expect_granted_again(bench: &Bench) {
    wait_until("an association is granted again", || {
        bench.requesting(&request(UDP_ASSOCIATE, UNSAID)).expect_reply().rep == 0
    });
}

fn hears_anything(socket: &UdpSocket, duration: Duration) -> bool {
    socket.set_read_timeout(Some(duration)).expect("a deadline above zero");
    socket.recv(&mut [0]).is_ok()
}

fn port_of(socket: &UdpSocket) -> u16 {
    socket.local_addr().expect("a bound socket has an address").port()
}
