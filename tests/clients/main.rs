//! Real clients against the real binary. Each test needs its client, which `tests/run` installs;
//! where the client is missing the test fails.

mod chromium;
mod curl;
mod datagrams;
mod ftp;
mod gssapi;
mod http;
mod nc;
mod ncat;
mod nmap;
mod npm;
mod office;
mod program;
mod proxychains;
mod pysocks;
mod readme;
mod site;
mod socksify;
mod ssh;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod torrent;

use std::net::{Ipv6Addr, TcpListener};

use support::server::Server;

/// A user's name and password, as `-u` takes them.
const LOGIN: &str = "alice:canary-land";

/// These sessions and bytes went through the server, and no others; asked once all have ended.
#[track_caller]
fn assert_relayed(server: &Server, sessions: u64, up: u64, down: u64) {
    let counters = server.counters();
    let relayed = ["finished", "bytes_up", "bytes_down"].map(|name| counters[name]);
    assert_eq!(relayed, [sessions, up, down], "sessions, bytes up, bytes down: {counters:?}");
}

/// Whether this host has the IPv6 loopback address. Where it has none, tests of IPv6 end at once.
fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// A port of 127.0.0.1 that nothing listens on, held so that nothing will.
struct ClosedPort(socket2::Socket);

impl ClosedPort {
    fn reserve() -> ClosedPort {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        let any_port = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any_port.into()).expect("the kernel has a port for us");
        ClosedPort(socket)
    }

    fn port(&self) -> u16 {
        let address = self.0.local_addr().expect("a bound socket has an address");
        address.as_socket().expect("an internet address").port()
    }
}
