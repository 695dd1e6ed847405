//! A name server that is no help.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use tempfile::NamedTempFile;

use crate::file;
use crate::support::PATIENCE;
use crate::support::peer::Peer;
use crate::support::server::{Server, binary};
use crate::support::socks::{connect_to_name, greeting};

/// A name server that hears every question and answers none, for a server that knows no other.
pub(crate) struct SilentNameserver {
    socket: UdpSocket,
    resolv_conf: NamedTempFile,
}

impl SilentNameserver {
    pub(crate) fn start() -> SilentNameserver {
        let socket = (1..=250)
            .find_map(|host| UdpSocket::bind((Ipv4Addr::new(127, 9, 9, host), 53)).ok())
            .expect("root has a port 53 on one of 250 addresses");
        let address = socket.local_addr().expect("a socket has an address").ip();
        let resolv_conf = file(&format!("nameserver {address}\n"));
        SilentNameserver { socket, resolv_conf }
    }

    /// The real binary in a mount namespace where this is the only name server.
    pub(crate) fn server(&self, env: &[(&str, &str)]) -> Server {
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(self.resolv_conf.path());
        command.args([binary(), "--listen", "127.0.0.1:0"]).envs(env.iter().copied());
        Server::spawn(command)
    }

    /// A client whose name is being asked for.
    pub(crate) fn asking_client(&self, server: &Server) -> Peer {
        let client = Peer::connect(server.address());
        client.send(&greeting(&[0]));
        client.expect(&[5, 0]);
        client.send(&connect_to_name(b"silent.invalid", 80));
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a deadline above zero");
        self.socket.recv(&mut [0; 512]).expect("the question arrives");
        client
    }
}
