//! What becomes of a name.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tempfile::NamedTempFile;

use crate::file;
use crate::nameserver::{SilentNameserver, server_with};
use crate::support::origin::{DeafTarget, Origin, host_has_v6};
use crate::support::peer::Peer;
use crate::support::socks::{connect_to_name, greeting};

#[test]
#[ignore = "needs root: tests/run"]
fn no_search_list_is_applied() {
    let nameserver = SilentNameserver::start();
    let server = nameserver.server(&[]);
    let (_client, question) = nameserver.client_asking_for(&server, "intranet");
    let name = b"\x08intranet\x00";
    assert!(
        question.windows(name.len()).any(|it| it.eq_ignore_ascii_case(name)),
        "{}",
        question.escape_ascii()
    );
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_deaf_first_address_does_not_use_up_the_deadline() {
    assert!(host_has_v6(), "this test needs an IPv6 loopback");
    let (_deaf, origin) = deaf_on_v6_only();
    let hosts = file("::1 many.example\n127.0.0.1 many.example\n");
    assert_reached(&hosts, &origin);
}

#[test]
#[ignore = "needs root: tests/run"]
fn many_dead_addresses_do_not_hide_the_living_one() {
    let origin = Origin::start();
    let dead: String = (2..12).map(|host| format!("::{host} many.example\n")).collect();
    assert_reached(&file(&format!("{dead}127.0.0.1 many.example\n")), &origin);
}

/// By a name with these addresses a client reaches `origin`, which is one of them.
#[track_caller]
fn assert_reached(hosts: &NamedTempFile, origin: &Origin) {
    let server = server_with(hosts, "/etc/hosts", &[("RINGSOCKS_TIMEOUT_CONNECT", "1h")]);
    let baseline = server.baseline();
    let client = Peer::connect(server.address());
    client.send(&greeting(&[0]));
    client.expect(&[5, 0]);
    client.send(&connect_to_name(b"many.example", origin.port()));
    let bnd = client.expect_granted();
    assert!(bnd.is_ipv4(), "{bnd}");
    let target = origin.accept();
    client.send(b"here");
    target.expect(b"here");
    drop((client, target));
    baseline.assert_restored();
}

/// A port at which ::1 never answers and 127.0.0.1 does.
fn deaf_on_v6_only() -> (DeafTarget, Origin) {
    for _ in 0..20 {
        let origin = Origin::start();
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, origin.port()));
        if let Some(deaf) = Origin::try_start_at(v6) {
            assert_eq!(origin.address().ip(), Ipv4Addr::LOCALHOST);
            return (DeafTarget::instead_of(deaf, v6), origin);
        }
    }
    panic!("no port is free on both loopbacks");
}
