//! Answers that do not fit into a datagram: each takes a stream of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::nameserver::{A, Asked, Nameserver, Say, at_once};
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::{asking, rep, server_asking};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ONE_WORKER: (&str, &str) = ("RINGSOCKS_WORKERS", "1");

/// Too much for a datagram, and over TCP what `tcp` says.
fn large(tcp: impl Fn(&Asked) -> Vec<Say> + Send + Sync + 'static) -> Nameserver {
    Nameserver::start(move |asked| match asked.is_tcp {
        true => tcp(asked),
        false => vec![at_once(asked.reply().truncated().bytes())],
    })
}

fn right(asked: &Asked) -> Vec<Say> {
    vec![at_once(asked.addresses(&[HERE], 60))]
}

#[test]
fn what_there_is_of_a_cut_answer_is_not_believed() {
    let nameserver = Nameserver::start(|asked| {
        let elsewhere = Ipv4Addr::new(127, 66, 66, 66).into();
        let cut = asked.reply().address(&asked.name, elsewhere, 60).truncated();
        if asked.is_tcp { right(asked) } else { vec![at_once(cut.bytes())] }
    });
    let server = server_asking(&[&nameserver], &[]);
    let baseline = server.baseline();
    let origin = Origin::start();
    asking(&server, "cut.example", origin.port()).expect_granted();
    drop(origin.accept());
    assert_eq!(nameserver.count("cut.example"), 4);
    baseline.assert_at_rest();
}

#[test]
fn a_server_that_takes_no_streams_is_no_help_and_the_next_is_asked() {
    let alone = datagrams_only();
    let only = alone.to_string();
    let server = Server::start_with_env(&[], &[("RINGSOCKS_RESOLVER", only.as_str())]);
    let baseline = server.baseline();
    assert_eq!(rep(&server, "large.example", 80), 4);
    baseline.assert_at_rest();
    drop(server);

    let sound = Nameserver::with(&["127.0.0.1"]);
    let both = format!("{alone},{}", sound.text());
    let server = Server::start_with_env(&[], &[("RINGSOCKS_RESOLVER", both.as_str())]);
    let baseline = server.baseline();
    let origin = Origin::start();
    asking(&server, "large.example", origin.port()).expect_granted();
    drop(origin.accept());
    assert_eq!(server.counters()["names_retries"], 0, "there was nothing to wait for");
    baseline.assert_at_rest();
}

/// A name server that refers to a port where nobody accepts; it lives as long as the test's process.
fn datagrams_only() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = socket.local_addr().expect("a socket has an address");
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            let asked = Asked::read(&bytes[..len], from, false);
            // A server that is gone has no use for it.
            let _ = socket.send_to(&asked.reply().truncated().bytes(), from);
        }
    });
    address
}

#[test]
fn a_hundred_large_answers_at_once_arrive() {
    let nameserver = large(|asked| match asked.kind {
        A => vec![Say::Message(Duration::from_millis(20), asked.addresses(&[HERE], 60))],
        _ => vec![at_once(asked.reply().soa(60).bytes())],
    });
    let server = server_asking(&[&nameserver], &[ONE_WORKER]);
    let baseline = server.baseline();
    let origin = Origin::start();
    let clients: Vec<Peer> = (0..100)
        .map(|number| asking(&server, &format!("large{number}.example"), origin.port()))
        .collect();
    for client in clients {
        client.expect_granted();
        drop(origin.accept());
    }
    baseline.assert_at_rest();
}

#[test]
fn streams_that_stall_do_not_hold_up_the_others() {
    let nameserver = large(|asked| match asked.name.to_ascii_lowercase().starts_with("slow") {
        true => vec![Say::Bytewise(vec![0])],
        false => right(asked),
    });
    let env = [ONE_WORKER, ("RINGSOCKS_TIMEOUT_RESOLVE", "15s")];
    let server = server_asking(&[&nameserver], &env);
    let baseline = server.baseline();
    let origin = Origin::start();
    let slow: Vec<Peer> =
        (0..10).map(|number| asking(&server, &format!("slow{number}.example"), 80)).collect();
    server.wait_counter("resolving", 10);
    // They are more than there may be streams: those that have had their time make room.
    asking(&server, "quick.example", origin.port()).expect_granted();
    drop(origin.accept());
    assert_eq!(server.counters()["resolving"], 10, "it waited with the slow ones");
    drop(slow);
    baseline.assert_at_rest();
}
