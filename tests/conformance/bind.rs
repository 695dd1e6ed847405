//! BIND: the client waits for somebody to connect (RFC 1928 sections 4 and 6).

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::connect::{expect_clean_end, expect_flow};
use crate::support::origin::Origin;
use crate::support::peer::{End, Peer};
use crate::support::socks::{BIND, connect_to, refusal, request, request_by_name, socks4};
use crate::support::{assert_same_bytes, random_bytes, wait_until};

crate::rows! {
    Bind:
        b01_first_reply_names_where_to_connect
        b02_second_reply_names_who_connected
        b02_data_right_behind_the_connection
        b02_peer_resets
        b02_client_resets
        b02_peer_ends_first
        b02_client_ends_first
        b03_port_of_dst_does_not_matter
        b03_dst_by_name
        b03_unknown_name
        b04_one_peer_then_nobody
        b04_one_of_many_at_once
        b05_client_gone_closes_the_listener
        b05_client_reset_closes_the_listener
        b06_early_data_behind_the_request
        b06_early_data_between_the_replies
        b06_everything_in_one_segment_cut_everywhere
        b06_a_megabyte_of_early_data
        q42_active_ftp;
    [Bind Loopback]:
        b01_listens_at_the_address_of_dst
        b03_s11_stranger_is_not_let_in
        b03_zeros_let_anyone_in;
    [Bind Users]:
        q42_active_ftp_with_a_password;
    [Bind V6]:
        b08_dst_v6_is_listened_for_in_v6;
    [Bind V6Client]:
        b08_dst_v4_is_listened_for_in_v4
        b08_v6_zeros;
    [Bind Socks4]:
        socks4_b02_both_replies
        socks4_b03_zeros_let_anyone_in
        socks4a_b03_dst_by_name
        socks4_b06_early_data_between_the_replies
        socks4_b05_client_gone_closes_the_listener;
    Ours:
        b03_s11_stranger_is_ignored_and_waiting_goes_on
        b03_many_strangers_are_ignored
        b03_denied_dst
        b03_s11_peer_passes_the_rules
        b05_deadline
        b05_deadline_of_socks4
        b05_fin_without_early_data_is_a_hang_up
        b06_half_close_behind_early_data
        b01_advertised_address
        b07_p02_ports_of_the_range_used_up
        b07_p02_cap_per_client;
}

const EARLY: &[u8] = b"EARLY";
const LATE: &[u8] = b"LATE";

/// A loopback address that is no request's DST.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

const ANYONE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

fn b01_first_reply_names_where_to_connect(bench: &Bench) {
    let (_client, listening) = waiting(bench, us(bench));
    // No peer can connect to "any address", and no client may ask for a port of the system's.
    assert!(!listening.ip().is_unspecified() && listening.port() >= 1024, "BND {listening}");
    Peer::connect(listening);
}

fn b01_listens_at_the_address_of_dst(bench: &Bench) {
    let (_client, listening) = waiting(bench, us(bench));
    assert_eq!(listening.ip(), bench.host(), "our own address is how we are reached from here");
}

fn b02_second_reply_names_who_connected(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    client.expect_silence(Duration::from_millis(100));
    let peer = Peer::connect(listening);
    expect_let_in(bench, &client, &peer);
    expect_clean_end(&client, &peer);
}

fn b02_data_right_behind_the_connection(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    let file = random_bytes(2, 100_000);
    let peer = Peer::connect(listening);
    thread::scope(|scope| {
        scope.spawn(|| {
            peer.send(&file);
            peer.fin();
        });
        expect_second_reply(bench, &client, &peer);
        let heard = client.read_to_end();
        assert_same_bytes(&heard.bytes, &file);
        assert_eq!(heard.end, End::Fin);
    });
}

fn b02_peer_resets(bench: &Bench) {
    let (client, peer) = session(bench);
    peer.reset();
    client.expect_reset();
}

fn b02_client_resets(bench: &Bench) {
    let (client, peer) = session(bench);
    client.reset();
    peer.expect_reset();
}

fn b02_peer_ends_first(bench: &Bench) {
    let (client, peer) = session(bench);
    expect_answer_after_fin(&peer, &client);
}

fn b02_client_ends_first(bench: &Bench) {
    let (client, peer) = session(bench);
    expect_answer_after_fin(&client, &peer);
}

fn b03_port_of_dst_does_not_matter(bench: &Bench) {
    for port in [0, 1, 21, 65535] {
        let (client, listening) = waiting(bench, SocketAddr::new(bench.host(), port));
        expect_let_in(bench, &client, &Peer::connect(listening));
    }
}

fn b03_dst_by_name(bench: &Bench) {
    let client = bench.requesting(&request_by_name(BIND, bench.host_name().as_bytes(), 21));
    let listening = client.expect_granted();
    let peer = Peer::connect(listening);
    let second = client.expect_granted();
    assert_eq!(second.port(), peer.local_address().port());
    expect_flow(&client, &peer);
}

fn b03_unknown_name(bench: &Bench) {
    bench.requesting(&request_by_name(BIND, b"no-such-host.invalid", 21)).expect_refused(4);
}

fn b03_zeros_let_anyone_in(bench: &Bench) {
    for ip in [bench.host(), STRANGER] {
        let (client, listening) = waiting(bench, ANYONE);
        assert!(!listening.ip().is_unspecified(), "BND {listening}");
        let peer = Peer::connect_from((ip, 0).into(), listening);
        assert_eq!(client.expect_granted(), peer.local_address());
        expect_flow(&client, &peer);
    }
}

/// Whether the waiting ends with it or goes on: nothing passes between client and stranger.
fn b03_s11_stranger_is_not_let_in(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    let stranger = Peer::connect_from((STRANGER, 0).into(), listening);
    // It may be closed already.
    let _ = stranger.try_send(b"let me in");
    stranger.expect_silent_close();
    if client.has_input_within(Duration::from_millis(100)) {
        assert_ne!(client.expect_reply().rep, 0, "the stranger was let in");
        client.expect_eof();
    }
}

fn b03_s11_stranger_is_ignored_and_waiting_goes_on(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    Peer::connect_from((STRANGER, 0).into(), listening).expect_silent_close();
    client.expect_silence(Duration::from_millis(100));
    let peer = Peer::connect(listening);
    expect_let_in(bench, &client, &peer);
    expect_clean_end(&client, &peer);
}

fn b03_many_strangers_are_ignored(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    client.send(EARLY);
    let strangers: Vec<Peer> =
        (0..200).map(|_| Peer::connect_from((STRANGER, 0).into(), listening)).collect();
    let peer = Peer::connect(listening);
    expect_second_reply(bench, &client, &peer);
    peer.expect(EARLY);
    expect_flow(&client, &peer);
    for stranger in strangers {
        stranger.expect_silent_close();
    }
}

fn b03_denied_dst(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_LISTEN_TARGETS", "public")], |bench| {
        bench.requesting(&request(BIND, us(bench))).expect_refused(2);
    });
}

fn b03_s11_peer_passes_the_rules(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_LISTEN_TARGETS", "public")], |bench| {
        let (client, listening) = waiting(bench, ANYONE);
        Peer::connect(listening).expect_silent_close();
        client.expect_silence(Duration::from_millis(100));
    });
}

fn b04_one_peer_then_nobody(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    let peer = Peer::connect(listening);
    expect_let_in(bench, &client, &peer);
    expect_refusing(listening);
    expect_flow(&client, &peer);
}

fn b04_one_of_many_at_once(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    let mut peers: Vec<Peer> = (0..5)
        .filter_map(|_| Peer::try_connect_from((unspecified(listening), 0).into(), listening).ok())
        .collect();
    let second = client.expect_granted();
    let let_in = peers.iter().position(|peer| peer.local_address().port() == second.port());
    let peer = peers.remove(let_in.expect("BND of the second reply is one of the peers"));
    expect_flow(&client, &peer);
    for other in peers {
        other.expect_silent_close();
    }
}

fn b05_client_gone_closes_the_listener(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    drop(client);
    expect_refusing(listening);
}

fn b05_client_reset_closes_the_listener(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    client.reset();
    expect_refusing(listening);
}

fn b05_deadline(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_BIND_TIMEOUT", "1s")], |bench| {
        let asked = Instant::now();
        let (client, listening) = waiting(bench, us(bench));
        client.expect_refused(6);
        assert!(asked.elapsed() >= Duration::from_secs(1), "{:?}", asked.elapsed());
        expect_refusing(listening);
    });
}

fn b05_deadline_of_socks4(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_BIND_TIMEOUT", "1s")], |bench| {
        let client = bench.client();
        client.send(&socks4(BIND, v4(bench.host()), 21, b"user", None));
        client.expect_socks4_granted();
        client.expect_socks4_rejected();
    });
}

fn b05_fin_without_early_data_is_a_hang_up(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    client.fin();
    client.expect_silent_close();
    expect_refusing(listening);
}

fn b06_early_data_behind_the_request(bench: &Bench) {
    let client = bench.requesting(&[request(BIND, us(bench)), EARLY.to_vec()].concat());
    let listening = client.expect_granted();
    client.send(LATE);
    let peer = Peer::connect(listening);
    expect_second_reply(bench, &client, &peer);
    peer.expect(EARLY);
    peer.expect(LATE);
    expect_clean_end(&client, &peer);
}

fn b06_early_data_between_the_replies(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    client.send_byte_by_byte(EARLY);
    client.expect_silence(Duration::from_millis(50));
    client.send(LATE);
    let peer = Peer::connect(listening);
    expect_second_reply(bench, &client, &peer);
    peer.expect(EARLY);
    peer.expect(LATE);
    expect_flow(&client, &peer);
    expect_clean_end(&client, &peer);
}

fn b06_everything_in_one_segment_cut_everywhere(bench: &Bench) {
    let (prologue, answers) = bench.pipelined_prologue();
    let whole = [prologue, request(BIND, us(bench)), EARLY.to_vec()].concat();
    let every_byte: Vec<usize> = (1..whole.len()).collect();
    let cuts = every_byte.iter().map(std::slice::from_ref).chain([&[][..], &every_byte]);
    for cuts in cuts {
        let client = bench.client();
        client.send_split(&whole, cuts);
        client.expect(&answers);
        let peer = Peer::connect(client.expect_granted());
        expect_second_reply(bench, &client, &peer);
        peer.expect(EARLY);
        expect_clean_end(&client, &peer);
    }
}

fn b06_a_megabyte_of_early_data(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    let early = random_bytes(6, 1 << 20);
    thread::scope(|scope| {
        scope.spawn(|| {
            client.send(&early);
            client.fin();
        });
        client.expect_silence(Duration::from_millis(200));
        let peer = Peer::connect(listening);
        expect_second_reply(bench, &client, &peer);
        assert_same_bytes(&peer.exchange(b"done").bytes, &early);
        client.expect(b"done");
        client.expect_eof();
    });
}

fn b06_half_close_behind_early_data(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    client.send(EARLY);
    client.fin();
    client.expect_silence(Duration::from_millis(100));
    let peer = Peer::connect(listening);
    peer.expect(EARLY);
    peer.expect_eof();
    peer.send(b"the whole answer");
    peer.fin();
    expect_second_reply(bench, &client, &peer);
    client.expect(b"the whole answer");
    client.expect_eof();
}

fn b08_dst_v6_is_listened_for_in_v6(bench: &Bench) {
    let (client, listening) = waiting(bench, (Ipv6Addr::LOCALHOST, 21).into());
    assert_eq!(listening.ip(), IpAddr::V6(Ipv6Addr::LOCALHOST));
    expect_let_in(bench, &client, &Peer::connect(listening));
}

fn b08_dst_v4_is_listened_for_in_v4(bench: &Bench) {
    let (client, listening) = waiting(bench, us(bench));
    assert_eq!(listening.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    expect_let_in(bench, &client, &Peer::connect(listening));
}

fn b08_v6_zeros(bench: &Bench) {
    let (client, listening) = waiting(bench, (Ipv6Addr::UNSPECIFIED, 0).into());
    assert_eq!(listening.ip(), IpAddr::V6(Ipv6Addr::LOCALHOST));
    expect_let_in(bench, &client, &Peer::connect(listening));
}

fn q42_active_ftp(bench: &Bench) {
    let server = Origin::start_everywhere();
    let control = bench.requesting(&connect_to(bench.sees(&server)));
    control.expect_granted();
    let server_control = server.accept();
    let (client, listening) = waiting(bench, SocketAddr::new(bench.host(), 21));
    control.send(format!("EPRT |{listening}|").as_bytes());
    server_control.expect(format!("EPRT |{listening}|").as_bytes());
    let file = random_bytes(42, 300_000);
    let server_data = Peer::connect(listening);
    thread::scope(|scope| {
        scope.spawn(|| {
            server_data.send(&file);
            server_data.fin();
        });
        expect_second_reply(bench, &client, &server_data);
        let heard = client.read_to_end();
        assert_same_bytes(&heard.bytes, &file);
        assert_eq!(heard.end, End::Fin);
    });
    client.fin();
    server_data.expect_eof();
    expect_flow(&control, &server_control);
}

fn q42_active_ftp_with_a_password(bench: &Bench) {
    q42_active_ftp(bench);
}

fn socks4_b02_both_replies(bench: &Bench) {
    let (client, listening) = waiting_by_socks4(bench, v4(bench.host()), None);
    let peer = Peer::connect(listening);
    let second = client.expect_socks4_granted();
    assert_eq!(second, peer.local_address());
    expect_flow(&client, &peer);
    expect_clean_end(&client, &peer);
}

fn socks4_b03_zeros_let_anyone_in(bench: &Bench) {
    let (client, listening) = waiting_by_socks4(bench, [0; 4], None);
    let peer = Peer::connect(listening);
    client.expect_socks4_granted();
    expect_flow(&client, &peer);
}

fn socks4a_b03_dst_by_name(bench: &Bench) {
    let (client, listening) = waiting_by_socks4(bench, [0, 0, 0, 1], Some(&bench.host_name()));
    let peer = Peer::connect(listening);
    client.expect_socks4_granted();
    expect_flow(&client, &peer);
}

fn socks4_b06_early_data_between_the_replies(bench: &Bench) {
    let (client, listening) = waiting_by_socks4(bench, v4(bench.host()), None);
    client.send(EARLY);
    let peer = Peer::connect(listening);
    client.expect_socks4_granted();
    peer.expect(EARLY);
    expect_flow(&client, &peer);
}

fn socks4_b05_client_gone_closes_the_listener(bench: &Bench) {
    let (client, listening) = waiting_by_socks4(bench, v4(bench.host()), None);
    drop(client);
    expect_refusing(listening);
}

fn b01_advertised_address(_: &Bench) {
    let advertised: IpAddr = [203, 0, 113, 7].into();
    // Who is on this host reaches it where it is, unless the rule names them.
    for (rule, told) in
        [("127.0.0.0/8=203.0.113.7", advertised), ("203.0.113.7", Ipv4Addr::LOCALHOST.into())]
    {
        Bench::with_own(&[("RINGSOCKS_BIND_ADVERTISE", rule)], |bench| {
            let (client, bnd) = waiting(bench, us(bench));
            assert_eq!(bnd.ip(), told, "{rule}");
            let peer = Peer::connect(SocketAddr::new(bench.host(), bnd.port()));
            expect_let_in(bench, &client, &peer);
        });
    }
}

fn b07_p02_ports_of_the_range_used_up(_: &Bench) {
    let port = free_port();
    Bench::with_own(&[("RINGSOCKS_BIND_PORTS", &format!("{port}-{port}"))], |bench| {
        let (client, listening) = waiting(bench, us(bench));
        assert_eq!(listening.port(), port);
        bench.requesting(&request(BIND, us(bench))).expect_refused(1);
        let peer = Peer::connect(listening);
        expect_let_in(bench, &client, &peer);
        drop((client, peer));
        expect_granted_again(bench);
    });
}

fn b07_p02_cap_per_client(_: &Bench) {
    Bench::with_own(&[("RINGSOCKS_LIMIT_PORTS_PER_CLIENT", "1")], |bench| {
        let (client, _) = waiting(bench, us(bench));
        let second = bench.requesting(&request(BIND, us(bench)));
        second.expect(&refusal(2));
        second.expect_eof();
        drop(client);
        expect_granted_again(bench);
    });
}

/// A client whose BIND waits, and where its peer shall connect.
#[track_caller]
fn waiting(bench: &Bench, dst: SocketAddr) -> (Peer, SocketAddr) {
    let client = bench.requesting(&request(BIND, dst));
    let listening = client.expect_granted();
    (client, listening)
}

/// As [`waiting`], by SOCKS4: an all-zero address in its reply is the server's own.
#[track_caller]
fn waiting_by_socks4(bench: &Bench, dst: [u8; 4], name: Option<&str>) -> (Peer, SocketAddr) {
    let client = bench.client();
    client.send(&socks4(BIND, dst, 21, b"user", name.map(str::as_bytes)));
    let mut listening = client.expect_socks4_granted();
    if listening.ip().is_unspecified() {
        listening.set_ip(bench.address.ip());
    }
    (client, listening)
}

/// A client and the peer that it waited for.
#[track_caller]
fn session(bench: &Bench) -> (Peer, Peer) {
    let (client, listening) = waiting(bench, us(bench));
    let peer = Peer::connect(listening);
    expect_let_in(bench, &client, &peer);
    (client, peer)
}

#[track_caller]
fn expect_let_in(bench: &Bench, client: &Peer, peer: &Peer) {
    expect_second_reply(bench, client, peer);
    expect_flow(client, peer);
}

#[track_caller]
fn expect_second_reply(bench: &Bench, client: &Peer, peer: &Peer) {
    let bnd = client.expect_granted();
    let ours = peer.local_address();
    if bnd.port() != ours.port() || (bench.host().is_loopback() && bnd.ip() != ours.ip()) {
        client.fail(&format!("BND {ours}"), &format!("BND {bnd}"));
    }
}

/// `first` ends its direction; the other one still carries a whole answer.
#[track_caller]
fn expect_answer_after_fin(first: &Peer, second: &Peer) {
    first.send(b"question");
    first.fin();
    second.expect(b"question");
    second.expect_eof();
    second.send(b"the whole answer");
    second.fin();
    first.expect(b"the whole answer");
    first.expect_eof();
}

/// Sooner or later nobody listens there.
#[track_caller]
fn expect_refusing(listening: SocketAddr) {
    wait_until("the listener refuses", || {
        let knock = TcpStream::connect_timeout(&listening, Duration::from_secs(1));
        matches!(knock, Err(error) if error.kind() == ErrorKind::ConnectionRefused)
    });
}

/// Once what was held is given back, the next one may wait.
#[track_caller]
fn expect_granted_again(bench: &Bench) {
    wait_until("a BIND is granted again", || {
        bench.requesting(&request(BIND, us(bench))).expect_reply().rep == 0
    });
}

/// We are who shall connect.
fn us(bench: &Bench) -> SocketAddr {
    SocketAddr::new(bench.host(), 21)
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// SOCKS4 has room for a v4 address only.
fn v4(ip: IpAddr) -> [u8; 4] {
    match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => panic!("rows of SOCKS4 need a v4 origin, not {ip}"),
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the kernel has a port");
    listener.local_addr().expect("a listener has an address").port()
}
