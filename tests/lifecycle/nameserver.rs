//! A server for which names are not what they are elsewhere on this machine.

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
        let resolv_conf = file(&format!("nameserver {address}\nsearch corp.example\n"));
        SilentNameserver { socket, resolv_conf }
    }

    /// The real binary where this is the only name server.
    pub(crate) fn server(&self, env: &[(&str, &str)]) -> Server {
        server_with(&self.resolv_conf, "/etc/resolv.conf", env)
    }

    /// A client whose name is being asked for.
    pub(crate) fn asking_client(&self, server: &Server) -> Peer {
        self.client_asking_for(server, "silent.invalid").0
    }

    /// A client that wants this name, and the first question that follows from it.
    pub(crate) fn client_asking_for(&self, server: &Server, name: &str) -> (Peer, Vec<u8>) {
        let client = Peer::connect(server.address());
        client.send(&greeting(&[0]));
        client.expect(&[5, 0]);
        client.send(&connect_to_name(name.as_bytes(), 80));
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a deadline above zero");
        let mut question = [0; 512];
        let len = self.socket.recv(&mut question).expect("the question arrives");
        (client, question[..len].to_vec())
    }
}

/// The real binary in a mount namespace where `file` stands in the place of another.
pub(crate) fn server_with(file: &NamedTempFile, place: &str, env: &[(&str, &str)]) -> Server {
    let script = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(file.path()).arg(place);
    command.args([binary(), "--listen", "127.0.0.1:0"]).envs(env.iter().copied());
    Server::spawn(command)
}
