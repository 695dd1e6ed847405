//! Twelve ephemeral ports for everything.

use std::net::{Ipv4Addr, SocketAddr};

use crate::support::finish;
use crate::support::netns::Netns;
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::server::Server;
use crate::support::socks::{connect_to, greeting};

/// An even number: of an odd one the kernel leaves a port out that chance chooses.
const PORTS: usize = 12;

fn network() -> Netns {
    let network = Netns::new();
    network.run("echo 40000 40011 >/proc/sys/net/ipv4/ip_local_port_range");
    network
}

/// Clients that take their ports elsewhere, and leave the range to the server.
struct Clients {
    server: SocketAddr,
    next_port: u16,
}

impl Clients {
    fn request(&mut self, target: SocketAddr) -> Peer {
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next_port));
        self.next_port += 1;
        let client = Peer::connect_from(source, self.server);
        client.send(&greeting(&[0]));
        client.expect(&[5, 0]);
        client.send(&connect_to(target));
        client
    }
}

fn listening() -> (Server, Origin, Origin) {
    let server = Server::start(&["--listen", "127.0.0.1:1080"]);
    let origin = |port| {
        Origin::try_start_at((Ipv4Addr::LOCALHOST, port).into()).expect("all ports are free here")
    };
    (server, origin(2001), origin(2002))
}

#[test]
#[ignore = "needs root: tests/run"]
fn without_a_port_left_a_request_is_refused_and_other_targets_are_not() {
    network().enter(|| {
        let (server, full, other) = listening();
        let baseline = server.baseline();
        let mut clients = Clients { server: server.address(), next_port: 20_000 };
        let mut sessions: Vec<(Peer, Peer)> = (0..PORTS)
            .map(|_| {
                let client = clients.request(full.address());
                client.expect_granted();
                (client, full.accept())
            })
            .collect();
        for _ in 0..5 {
            clients.request(full.address()).expect_refused(1);
        }
        assert_eq!(server.counters()["refused_01"], 5);

        let client = clients.request(other.address());
        client.expect_granted();
        finish(client, &other.accept());
        let (client, target) = sessions.pop().expect("twelve sessions");
        client.send(b"unharmed");
        target.expect(b"unharmed");
        client.reset();
        target.expect_reset();
        server.wait_counter("client_reset", 1);
        let client = clients.request(full.address());
        client.expect_granted();
        drop((client, full.accept(), sessions));
        baseline.assert_at_rest();
    });
}

#[test]
#[ignore = "needs root: tests/run"]
fn ports_that_rest_are_no_loss_for_other_targets() {
    network().enter(|| {
        let (server, origin, _) = listening();
        drop(origin);
        let baseline = server.baseline();
        let mut clients = Clients { server: server.address(), next_port: 20_000 };
        let everywhere = Origin::try_start_at((Ipv4Addr::UNSPECIFIED, 2003).into()).expect("free");
        // Each ends with our FIN first, which leaves the port resting for a minute.
        for round in 0..10 * PORTS {
            let target = Ipv4Addr::new(127, 0, 1, round as u8 + 1);
            let client = clients.request((target, 2003).into());
            client.expect_granted();
            finish(client, &everywhere.accept());
        }
        baseline.assert_at_rest();
        assert_eq!(server.counters()["finished"], 10 * PORTS as u64);
    });
}
