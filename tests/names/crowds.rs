//! Many names, and many who wait.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::nameserver::{A, Nameserver, Say, at_once};
use crate::support::origin::Service;
use crate::support::peer::Peer;
use crate::support::raise_descriptor_limit;
use crate::support::server::Server;
use crate::support::socks::{connect_to_name, greeting};
use crate::{rep, server_asking};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// As many as the descriptors of this process and the server's allow.
const WAITING: usize = 6000;
const SESSIONS: usize = 500;

#[test]
fn who_waits_for_a_slow_name_waits_alone() {
    raise_descriptor_limit();
    let nameserver = Nameserver::start(|asked| match asked.is("known.example") {
        true => vec![at_once(asked.addresses(&[HERE], 3600))],
        false => Vec::new(),
    });
    let env = [("RINGSOCKS_TIMEOUT_RESOLVE", "60s"), ("RINGSOCKS_TIMEOUT_HANDSHAKE", "60s")];
    let server = server_asking(&[&nameserver], &env);
    let baseline = server.baseline();
    let echo = Service::echo();
    let alone = known_sessions(&server, echo.address());

    let waiting: Vec<Peer> = (0..WAITING).map(|number| waiting(&server, number)).collect();
    server.wait_counter("resolving", WAITING as u64);
    let beside = known_sessions(&server, echo.address());
    assert_eq!(server.counters()["resolving"], WAITING as u64, "nobody has been answered");
    assert!(
        beside < 10 * alone.max(Duration::from_millis(200)),
        "{SESSIONS} sessions took {alone:?} alone and {beside:?} beside {WAITING} that wait"
    );
    drop(waiting);
    baseline.assert_at_rest();
}

/// How long it takes to open, use and close many sessions with a name that is known.
fn known_sessions(server: &Server, target: SocketAddr) -> Duration {
    let start = Instant::now();
    for _ in 0..SESSIONS {
        let client = Peer::connect(server.address());
        client.send(&greeting(&[0]));
        client.expect(&[5, 0]);
        client.send(&connect_to_name(b"known.example", target.port()));
        client.expect_granted();
        client.send(b"ping");
        client.expect(b"ping");
    }
    start.elapsed()
}

/// A client that asks for a name of its own that nobody answers for.
fn waiting(server: &Server, number: usize) -> Peer {
    let [.., high, low] = (number as u32).to_be_bytes();
    let source = SocketAddr::from(([127, 1, high, low.max(1)], 0));
    let client = Peer::connect_from(source, server.address());
    client.send(&greeting(&[0]));
    client.expect(&[5, 0]);
    client.send(&connect_to_name(format!("slow{number}.example").as_bytes(), 80));
    client
}

#[test]
fn a_slow_name_that_thousands_wait_for_is_handed_to_all() {
    const CROWD: usize = 2000;
    raise_descriptor_limit();
    let nameserver = Nameserver::start(|asked| {
        let answer = asked.reply().rcode(3).soa(60).bytes();
        vec![Say::Message(Duration::from_secs(3), answer)]
    });
    let env = [("RINGSOCKS_TIMEOUT_RESOLVE", "60s"), ("RINGSOCKS_WORKERS", "1")];
    let server = server_asking(&[&nameserver], &env);
    let baseline = server.baseline();
    let crowd: Vec<Peer> = (0..CROWD)
        .map(|number| {
            let [.., high, low] = (number as u32).to_be_bytes();
            let source = SocketAddr::from(([127, 2, high, low.max(1)], 0));
            let client = Peer::connect_from(source, server.address());
            client.send(&greeting(&[0]));
            client.expect(&[5, 0]);
            client.send(&connect_to_name(b"crowded.example", 80));
            client
        })
        .collect();
    for client in &crowd {
        client.expect_refused(4);
    }
    drop(crowd);
    baseline.assert_at_rest();
}

#[test]
fn many_names_do_not_fill_the_memory() {
    /// More than the cache holds, of names with so many addresses.
    const NAMES: usize = 4000;
    const ADDRESSES: u8 = 60;
    let addresses: Vec<IpAddr> =
        (1..=ADDRESSES).map(|n| Ipv4Addr::new(127, 0, 0, n).into()).collect();
    let nameserver = Nameserver::start(move |asked| match asked.kind {
        A => vec![at_once(asked.addresses(&addresses, 3600))],
        _ => vec![at_once(asked.reply().soa(3600).bytes())],
    });
    // None of them may be connected to: the names are all that is tried.
    let env = [("RINGSOCKS_WORKERS", "1"), ("RINGSOCKS_LISTEN_TARGETS", "public")];
    let server = server_asking(&[&nameserver], &env);
    let baseline = server.baseline();
    ask_for_many(&server, "first", NAMES);
    let full = server.rss_anon();
    ask_for_many(&server, "second", 2 * NAMES);
    let grown = server.rss_anon().saturating_sub(full);
    // Kept, they would take more than twice that for their addresses alone.
    let kept = 2 * NAMES * usize::from(ADDRESSES) * size_of::<IpAddr>();
    assert!(grown < kept as u64 / 2, "{grown} bytes for {NAMES} names more");
    baseline.assert_at_rest();
}

fn ask_for_many(server: &Server, tag: &str, names: usize) {
    thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                for number in 0..names / 4 {
                    assert_eq!(rep(server, &format!("{tag}{part}-{number}.example"), 80), 2);
                }
            });
        }
    });
}

#[test]
fn names_that_do_not_exist_do_not_fill_the_memory() {
    /// More than the cache holds.
    const NAMES: usize = 11_000;
    let nameserver =
        Nameserver::start(|asked| vec![at_once(asked.reply().rcode(3).soa(300).bytes())]);
    let server = server_asking(&[&nameserver], &[("RINGSOCKS_WORKERS", "1")]);
    let baseline = server.baseline();
    ask_for_nothing(&server, "first", NAMES);
    let full = server.rss_anon();
    ask_for_nothing(&server, "second", NAMES);
    let grown = server.rss_anon().saturating_sub(full);
    // Kept, they would take more than that for their letters alone.
    assert!(grown < NAMES as u64 * 200, "{grown} bytes for {NAMES} names more");
    assert_eq!(server.counters()["names_asked"], 2 * NAMES as u64);
    baseline.assert_at_rest();
}

/// Names of 200 letters that nobody has asked for before; each is answered 04.
fn ask_for_nothing(server: &Server, tag: &str, names: usize) {
    const THREADS: usize = 4;
    let (filler, rest) = ("random".repeat(10), "names.example");
    thread::scope(|scope| {
        for part in 0..THREADS {
            let (filler, rest) = (&filler, &rest);
            scope.spawn(move || {
                for number in 0..names / THREADS {
                    let [.., high, low] = (number as u32 / 100).to_be_bytes();
                    let source = SocketAddr::from(([127, 4 + part as u8, high, low.max(1)], 0));
                    let client = Peer::connect_from(source, server.address());
                    let name = format!("{tag}{part}-{number}.{filler}.{filler}.{filler}.{rest}");
                    let request = connect_to_name(name.as_bytes(), 80);
                    client.send(&[greeting(&[0]), request].concat());
                    client.expect(&[5, 0, 5, 4]);
                }
            });
        }
    });
}
