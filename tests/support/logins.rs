//! Clients that say who they are.

use std::net::{IpAddr, Ipv4Addr};

use super::peer::Peer;
use super::server::Server;
use super::socks::{credentials, greeting};

/// A method's number.
pub const NONE: u8 = 0;
pub const GSSAPI: u8 = 1;
pub const PASSWORD: u8 = 2;
/// None that is offered will do.
pub const NO_METHOD: u8 = 0xff;

/// The last octet of a client's address on 127.0.0.0/24.
pub fn local(host: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, host).into()
}

/// A client from there that offers these methods, and is told to use this one.
#[track_caller]
pub fn offer(server: &Server, source: IpAddr, methods: &[u8], chosen: u8) -> Peer {
    let client = Peer::connect_from((source, 0).into(), server.address());
    client.send(&greeting(methods));
    client.expect(&[5, chosen]);
    client
}

/// A client from there that has been asked for its name and password.
#[track_caller]
pub fn asked(server: &Server, source: IpAddr) -> Peer {
    offer(server, source, &[PASSWORD], PASSWORD)
}

/// Whether a client from there is let in; who is not hears nothing more.
#[track_caller]
pub fn log_in_from(
    source: impl Into<IpAddr>,
    server: &Server,
    user: &[u8],
    password: &[u8],
) -> bool {
    let client = asked(server, source.into());
    client.send(&credentials(user, password));
    is_let_in(&client)
}

/// What a client that has sent its name and password is told.
#[track_caller]
pub fn is_let_in(client: &Peer) -> bool {
    match client.read_exact(2)[..] {
        [1, 0] => true,
        [1, 1] => {
            client.expect_eof();
            false
        }
        ref answer => panic!("{answer:02x?} answers no login"),
    }
}
