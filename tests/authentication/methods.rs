//! Which methods there are, by listener and by where a client comes from; the order is the server's.

use std::net::Ipv4Addr;

use crate::support::logins::{GSSAPI, NO_METHOD, NONE, PASSWORD as BY_PASSWORD, local, offer};
use crate::support::origin::Origin;
use crate::support::peer::{End, Peer};
use crate::support::server::Server;
use crate::support::socks::{CONNECT, connect_to, credentials, socks4};
use crate::support::stubs::Stub;
use crate::world::{PASSWORD, failures, text, write_secret};

/// A listener for each of these lists of rules, as a file has them.
pub(crate) fn serve(listeners: &[&str], more: &str) -> Server {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("ringsocks.toml");
    let listen: String = listeners
        .iter()
        .map(|rules| format!("[[listen]]\naddress = \"127.0.0.1:0\"\nauth = [{rules}]\n"))
        .collect();
    let users = "users = { alice = \"plain:canary-wonder\", bob = \"plain:canary-wonder\" }";
    write_secret(&path, &format!("{users}\n{more}\n{listen}"));
    Server::start_listening(listeners.len(), &["-c", text(&path)])
}

/// What a client of listener `at` that comes from there and offers these is told to use.
#[track_caller]
pub(crate) fn chosen(server: &Server, at: usize, host: u8, offered: &[u8]) -> u8 {
    let client = Peer::connect_from((local(host), 0).into(), server.addresses()[at]);
    client.send(&[&[5, offered.len() as u8], offered].concat());
    match client.read_exact(2)[..] {
        [5, NO_METHOD] => {
            client.expect_eof();
            NO_METHOD
        }
        [5, method] => method,
        ref answer => panic!("{answer:02x?} answers no greeting"),
    }
}

#[test]
fn listeners_and_networks_have_rules_of_their_own() {
    let server = serve(
        &[
            "{ from = \"127.0.0.1\", methods = [\"none\"] },
             { from = [\"127.0.0.2\", \"127.0.0.64/26\"], methods = [\"password\"] }",
            "{ methods = [\"password\"] }",
        ],
        "",
    );
    const ALL: &[u8] = &[NONE, GSSAPI, BY_PASSWORD];
    for (at, host, method) in [
        (0, 1, NONE),
        (0, 2, BY_PASSWORD),
        (0, 64, BY_PASSWORD),
        (0, 127, BY_PASSWORD),
        (0, 3, NO_METHOD),
        (0, 63, NO_METHOD),
        (0, 128, NO_METHOD),
        (1, 1, BY_PASSWORD),
        (1, 2, BY_PASSWORD),
        (1, 3, BY_PASSWORD),
    ] {
        assert_eq!(chosen(&server, at, host, ALL), method, "listener {at}, 127.0.0.{host}");
    }
    assert_eq!(chosen(&server, 0, 1, &[BY_PASSWORD, GSSAPI]), NO_METHOD);
    assert_eq!(chosen(&server, 0, 2, &[NONE, GSSAPI]), NO_METHOD);
    assert_eq!(chosen(&server, 1, 1, &[NONE]), NO_METHOD);
}

#[test]
fn socks4_is_spoken_only_where_nobody_need_log_in() {
    let server = serve(
        &["{ from = \"127.0.0.1\", methods = [\"none\"] },
             { from = \"127.0.0.2\", methods = [\"password\", \"none\"] },
             { methods = [\"password\"] }"],
        "",
    );
    let origin = Origin::start();
    let ask = |host| {
        let client = Peer::connect_from((local(host), 0).into(), server.address());
        let localhost = Ipv4Addr::LOCALHOST.octets();
        client.send(&socks4(CONNECT, localhost, origin.port(), b"alice", None));
        client
    };
    ask(1).expect_socks4_granted();
    ask(2).expect_socks4_granted();
    ask(3).expect_silent_close();
}

#[test]
fn the_order_is_the_servers() {
    let stub = Stub::build("gssapi");
    let gssapi =
        format!("[gssapi]\nlibrary = \"{}\"\nservice = \"rcmd\"\n", stub.library().display());
    let rules = [
        ["none", "password", "gssapi"],
        ["gssapi", "password", "none"],
        ["password", "gssapi", "none"],
    ];
    let shown = rules.map(|methods| format!("{{ methods = {methods:?} }}"));
    let server = serve(&shown.each_ref().map(String::as_str), &gssapi);
    for (at, methods) in rules.iter().enumerate() {
        let methods = methods.map(|method| match method {
            "none" => NONE,
            "gssapi" => GSSAPI,
            _ => BY_PASSWORD,
        });
        let [first, second, third] = methods;
        for offered in [[first, second, third], [third, second, first], [second, third, first]] {
            assert_eq!(chosen(&server, at, 1, &offered), first, "{offered:?}");
        }
        assert_eq!(chosen(&server, at, 1, &[third, second]), second);
        assert_eq!(chosen(&server, at, 1, &[third, 0x80]), third);
        assert_eq!(chosen(&server, at, 1, &[0x80, 3]), NO_METHOD);
    }
}

/// The password is right, and that is all that is not enough: the answer is as for a wrong one.
#[test]
fn who_is_in_no_group_of_the_rule_is_refused() {
    let server = serve(
        &["{ from = \"127.0.0.1\", methods = [\"password\"], groups = [\"staff\"] },
           { methods = [\"password\"] }"],
        "groups = { staff = [\"alice\"] }",
    );
    let origin = Origin::start();
    let ask = |host, user: &[u8]| {
        let client = offer(&server, local(host), &[BY_PASSWORD], BY_PASSWORD);
        let request = connect_to(origin.address());
        client.send(&[credentials(user, PASSWORD), request].concat());
        client
    };
    let refused = ask(1, b"bob").read_to_end();
    assert_eq!((&refused.bytes[..], refused.end), (&[1, 1][..], End::Fin));
    origin.expect_nobody();
    let told = failures(&server, 1).remove(0);
    assert_eq!((&*told["user"], &*told["reason"]), ("bob", "group"));
    for (host, user) in [(1, &b"alice"[..]), (2, b"bob")] {
        let client = ask(host, user);
        client.expect(&[1, 0]);
        client.expect_granted();
        origin.accept();
    }
}
