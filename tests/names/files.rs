//! resolv.conf and hosts: what they say, and when they say something else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::etc::Etc;
use crate::support::dns::message::SERVFAIL;
use crate::support::dns::{Nameserver, Response};
use crate::support::origin::{DeafTarget, Origin, Service, host_has_v6};
use crate::support::server::Server;
use crate::support::socks::request_name;
use crate::support::wait_until;
use crate::{assert_reaches, assert_refused};

/// At least two looks of the server at its files.
const TWO_LOOKS: Duration = Duration::from_secs(5);

/// A name server that a resolv.conf may name, at which every name is 127.0.0.1.
fn helpful() -> Nameserver {
    let nameserver = Nameserver::start_on_port_53();
    nameserver.script_others(|question| question.addresses(&["127.0.0.1"]));
    nameserver
}

fn resolv_conf(nameservers: &[&Nameserver]) -> String {
    nameservers.iter().map(|it| format!("nameserver {}\n", it.address().ip())).collect()
}

/// The REP for this name.
#[track_caller]
fn rep(server: &Server, name: &str, port: u16) -> u8 {
    request_name(server.address(), name, port).expect_reply().rep
}

/// Waits until new names are asked of `nameserver`.
#[track_caller]
fn wait_until_asked(server: &Server, nameserver: &Nameserver, prefix: &str) {
    let mut n = 0;
    wait_until("the other server is asked", || {
        n += 1;
        let name = format!("{prefix}-{n}.example");
        rep(server, &name, 9);
        !nameserver.questions_for(&name).is_empty()
    });
}

#[test]
#[ignore = "needs root: tests/run"]
fn no_search_list_is_applied() {
    let (etc, nameserver) = (Etc::new(), Nameserver::start_on_port_53());
    let servers = resolv_conf(&[&nameserver]);
    etc.write("resolv.conf", &format!("{servers}search corp.example\noptions ndots:5\n"));
    let server = etc.server(&[]);
    let baseline = server.baseline();
    assert_refused(&server, "intranet", 4);
    assert_refused(&server, "intranet.corp", 4);
    let asked: Vec<String> = nameserver.questions().iter().map(|it| it.lower_name()).collect();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked.iter().all(|name| ["intranet", "intranet.corp"].contains(&name.as_str())));
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn the_servers_of_resolv_conf_are_asked_in_turn() {
    let (etc, origin) = (Etc::new(), Origin::start());
    let (silent, failing, helpful) =
        (Nameserver::start_on_port_53(), Nameserver::start_on_port_53(), helpful());
    silent.script_others(|_| Response::silence());
    failing.script_others(|question| question.failure(SERVFAIL));
    let servers = resolv_conf(&[&silent, &failing, &helpful]);
    // What is no good must not cost the rest.
    etc.write("resolv.conf", &format!("# ours\nnameserver nonsense\n{servers}nonsense\n"));
    let server = etc.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "10s")]);
    let baseline = server.baseline();
    assert_reaches(&server, "a.example", &origin);
    for nameserver in [&silent, &failing, &helpful] {
        assert_eq!(nameserver.counts_for("a.example"), [1, 1]);
    }
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn resolv_conf_is_read_again_when_it_changes() {
    let (etc, first, second, third) = (Etc::new(), helpful(), helpful(), helpful());
    etc.write("resolv.conf", &resolv_conf(&[&first]));
    let server = etc.server(&[]);
    let baseline = server.baseline();
    wait_until_asked(&server, &first, "first");
    etc.write("resolv.conf", &resolv_conf(&[&second]));
    wait_until_asked(&server, &second, "second");
    etc.replace("resolv.conf", &resolv_conf(&[&third]));
    wait_until_asked(&server, &third, "third");
    let asked = [&first, &second].map(|it| it.questions().len());
    assert_eq!(rep(&server, "afterwards.example", 9), 5);
    assert_eq!([&first, &second].map(|it| it.questions().len()), asked, "both are gone");
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn hosts_is_read_again_when_it_changes() {
    let (etc, echo) = (Etc::new(), Service::echo());
    let port = echo.address().port();
    let nameserver = Nameserver::start();
    let server = etc.server(&[("RINGSOCKS_RESOLVER", &nameserver.address().to_string())]);
    let baseline = server.baseline();
    assert_refused(&server, "moved.example", 4);
    etc.write("hosts", "127.0.0.1 localhost moved.example\n");
    wait_until("what was written is read", || rep(&server, "moved.example", port) == 0);
    etc.replace("hosts", "127.0.0.66 moved.example\n127.0.0.1 other.example\n");
    wait_until("what was put there is read", || rep(&server, "moved.example", port) == 5);
    assert_eq!(rep(&server, "other.example", port), 0);
    etc.replace("hosts", "\u{1}\u{2}garbage\n\n::zz other.example\n");
    wait_until("a name may go", || rep(&server, "other.example", port) == 4);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_hangup_reads_both_files_again() {
    let (etc, origin, first, second) = (Etc::new(), Origin::start(), helpful(), helpful());
    etc.write("resolv.conf", &resolv_conf(&[&first]));
    let server = etc.server(&[]);
    let baseline = server.baseline();
    assert_reaches(&server, "before.example", &origin);
    for (n, nameserver) in [&second, &first, &second, &first].into_iter().enumerate() {
        etc.write("resolv.conf", &resolv_conf(&[nameserver]));
        etc.write("hosts", &format!("127.0.0.1 known-{n}.example\n"));
        server.signal(Signal::HUP);
        // Signals are seen in order: what is counted is told after what was read.
        server.counters();
        let name = format!("asked-{n}.example");
        assert_reaches(&server, &name, &origin);
        assert_eq!(nameserver.counts_for(&name), [1, 1], "{n}: not yet read");
        let known = format!("known-{n}.example");
        assert_reaches(&server, &known, &origin);
        assert_eq!(nameserver.counts_for(&known), [0, 0], "{n}: not yet read");
    }
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn files_that_disappear_stay_true() {
    let (etc, origin, nameserver) = (Etc::new(), Origin::start(), helpful());
    etc.write("resolv.conf", &resolv_conf(&[&nameserver]));
    etc.write("hosts", "127.0.0.1 known.example\n");
    let server = etc.server(&[]);
    let baseline = server.baseline();
    let assert_all_true = |stage: &str| {
        assert_reaches(&server, "known.example", &origin);
        assert_reaches(&server, &format!("{stage}.example"), &origin);
        assert_eq!(nameserver.counts_for(&format!("{stage}.example")), [1, 1], "{stage}");
    };
    assert_all_true("before");
    etc.remove("resolv.conf");
    etc.remove("hosts");
    server.signal(Signal::HUP);
    server.counters();
    assert_all_true("gone");
    let looks = Instant::now() + TWO_LOOKS;
    let mut n = 0;
    while Instant::now() < looks {
        n += 1;
        assert_all_true(&format!("gone-{n}"));
        thread::sleep(Duration::from_millis(100));
    }
    // Back again, they are read as ever.
    etc.replace("hosts", "127.0.0.66 known.example\n");
    let echo = Service::echo();
    wait_until("they are read", || rep(&server, "known.example", echo.address().port()) == 5);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_server_that_starts_without_files_asks_its_own_host() {
    let etc = Etc::new();
    etc.remove("resolv.conf");
    etc.remove("hosts");
    let server = etc.server(&[("RINGSOCKS_TIMEOUT_RESOLVE", "2s")]);
    let baseline = server.baseline();
    let origin = Origin::start();
    assert_reaches(&server, "localhost", &origin);
    assert_refused(&server, "a.example", 4);
    let nameserver = helpful();
    etc.write("resolv.conf", &resolv_conf(&[&nameserver]));
    wait_until_asked(&server, &nameserver, "late");
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn hosts_counts_over_servers_and_in_any_letters() {
    let (etc, origin) = (Etc::new(), Origin::start());
    let nameserver = Nameserver::start();
    nameserver.script_others(|question| question.addresses(&["127.0.0.66"]));
    etc.write(
        "hosts",
        "127.0.0.1\tFirst.Example  alias # not-this.example\nnonsense bad.example\n",
    );
    let server = etc.server(&[("RINGSOCKS_RESOLVER", &nameserver.address().to_string())]);
    let baseline = server.baseline();
    for name in ["first.example", "FIRST.EXAMPLE", "alias", "first.example."] {
        assert_reaches(&server, name, &origin);
    }
    assert_eq!(nameserver.questions().len(), 0);
    for name in ["not-this.example", "bad.example"] {
        rep(&server, name, 9);
        assert_eq!(nameserver.counts_for(name), [1, 1], "{name}");
    }
    baseline.assert_at_rest();
}

#[test]
fn localhost_is_this_host_whatever_a_server_says() {
    let origin = Origin::start();
    let nameserver = Nameserver::start();
    nameserver.script_others(|question| question.addresses(&["127.0.0.66", "::1"]));
    let server = nameserver.server(&[]);
    let baseline = server.baseline();
    for name in ["localhost", "LOCALHOST", "localhost.", "sub.localhost"] {
        assert_reaches(&server, name, &origin);
    }
    assert_eq!(nameserver.questions().len(), 0);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_deaf_first_address_does_not_use_up_the_deadline() {
    assert!(host_has_v6(), "this test needs an IPv6 loopback");
    let (_deaf, origin) = deaf_on_v6_only();
    assert_reached_by("::1 many.example\n127.0.0.1 many.example\n", &origin);
}

#[test]
#[ignore = "needs root: tests/run"]
fn many_dead_addresses_do_not_hide_the_living_one() {
    let dead: String = (2..12).map(|host| format!("::{host} many.example\n")).collect();
    assert_reached_by(&format!("{dead}127.0.0.1 many.example\n"), &Origin::start());
}

/// By a name with these addresses a client reaches `origin`, which is one of them.
#[track_caller]
fn assert_reached_by(hosts: &str, origin: &Origin) {
    let etc = Etc::new();
    etc.write("hosts", hosts);
    let server = etc.server(&[("RINGSOCKS_TIMEOUT_CONNECT", "1h")]);
    let baseline = server.baseline();
    let client = request_name(server.address(), "many.example", origin.port());
    let bnd = client.expect_granted();
    assert!(bnd.is_ipv4(), "{bnd}");
    let target = origin.accept();
    client.send(b"here");
    target.expect(b"here");
    drop((client, target));
    baseline.assert_at_rest();
}

/// A port at which ::1 never answers and 127.0.0.1 does.
fn deaf_on_v6_only() -> (DeafTarget, Origin) {
    for _ in 0..20 {
        let origin = Origin::start();
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, origin.port()));
        if let Some(deaf) = Origin::try_start_at(v6) {
            assert_eq!(origin.address().ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
            return (DeafTarget::instead_of(deaf, v6), origin);
        }
    }
    panic!("no port is free on both loopbacks");
}
