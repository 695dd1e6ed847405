//! `resolver = "system"`: names as every other program on this host sees them.

use std::time::Duration;

use crate::etc::Etc;
use crate::support::dns::{Nameserver, Response};
use crate::support::origin::{Origin, Service};
use crate::support::peer::Peer;
use crate::support::socks::{open_session, request_name};
use crate::{assert_reaches, assert_refused};

const SYSTEM: (&str, &str) = ("RINGSOCKS_RESOLVER", "system");

#[test]
#[ignore = "needs root: tests/run"]
fn the_system_answers_from_files_and_servers() {
    let (etc, origin) = (Etc::new(), Origin::start());
    let nameserver = Nameserver::start_on_port_53();
    nameserver.addresses("asked.example", &["127.0.0.1"]);
    etc.write("resolv.conf", &format!("nameserver {}\n", nameserver.address().ip()));
    etc.write("hosts", "127.0.0.1 known.example\n");
    let server = etc.server(&[SYSTEM]);
    assert_reaches(&server, "known.example", &origin);
    assert_reaches(&server, "asked.example", &origin);
    assert_refused(&server, "nobody.example", 4);
    assert_eq!(server.counters()["names_asked"], 0, "our own was asked");
    assert!(!nameserver.questions_for("asked.example").is_empty());
    assert!(nameserver.questions_for("known.example").is_empty());
}

#[test]
#[ignore = "needs root: tests/run"]
fn what_nsswitch_leaves_out_is_not_asked() {
    let etc = Etc::new();
    let nameserver = Nameserver::start_on_port_53();
    nameserver.script_others(|question| question.addresses(&["127.0.0.1"]));
    etc.write("resolv.conf", &format!("nameserver {}\n", nameserver.address().ip()));
    etc.write("nsswitch.conf", "hosts: files\n");
    let server = etc.server(&[SYSTEM]);
    assert_refused(&server, "asked.example", 4);
    assert_eq!(nameserver.questions().len(), 0);
}

#[test]
#[ignore = "needs root: tests/run"]
fn names_that_hang_stop_no_other_name_and_no_address() {
    let (etc, origin, echo) = (Etc::new(), Origin::start(), Service::echo());
    let nameserver = Nameserver::start_on_port_53();
    nameserver.script_others(|_| Response::silence());
    etc.write("resolv.conf", &format!("nameserver {}\n", nameserver.address().ip()));
    etc.write("hosts", "127.0.0.1 known.example\n");
    let server = etc.server(&[SYSTEM, ("RINGSOCKS_TIMEOUT_RESOLVE", "3s")]);
    let ask = |n: usize| request_name(server.address(), &format!("hangs-{n}.example"), 80);
    // Fewer than work at a time: the rest go on.
    let hanging: Vec<Peer> = (0..8).map(ask).collect();
    nameserver.wait_for_question("hangs-7.example");
    for _ in 0..20 {
        assert_reaches(&server, "known.example", &origin);
    }
    // More than work at a time: names wait, addresses do not.
    let crowd: Vec<Peer> = (8..300).map(ask).collect();
    let cpu_before = server.cpu_time();
    for _ in 0..20 {
        let client = open_session(server.address(), echo.address());
        client.send(b"ping");
        client.expect(b"ping");
    }
    for client in hanging.iter().chain(&crowd) {
        client.expect_refused(4);
    }
    let used = server.cpu_time() - cpu_before;
    assert!(used < Duration::from_secs(2), "{used:?} to wait");
    drop((hanging, crowd));
    server.wait_counter("open", 0);
    server.wait_counter("rings_in_use", 0);
}
