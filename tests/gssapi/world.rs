//! A realm, the server with its keytab, and a user with tickets.

use crate::client::{Client, Level};
use crate::support::initiator::{Context, Initiator};
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::realm::Realm;
use crate::support::server::Server;
use crate::support::socks::greeting;

/// A server that accepts contexts, and `alice`.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) alice: Initiator,
    pub(crate) realm: Realm,
}

impl World {
    /// As the server is where nothing but its keytab is configured.
    #[track_caller]
    pub(crate) fn start() -> World {
        World::start_with(&[])
    }

    /// With these variables, such as `RINGSOCKS_GSSAPI_REQUIRE`.
    #[track_caller]
    pub(crate) fn start_with(env: &[(&str, &str)]) -> World {
        World::start_with_args(&[], env)
    }

    #[track_caller]
    pub(crate) fn start_with_args(args: &[&str], env: &[(&str, &str)]) -> World {
        World::start_in(Realm::start(), args, env)
    }

    /// In a realm that has been prepared.
    #[track_caller]
    pub(crate) fn start_in(realm: Realm, args: &[&str], env: &[(&str, &str)]) -> World {
        let alice = Initiator::start(&realm, &realm.tickets("alice"));
        let server = serve(&realm, args, env);
        World { server, alice, realm }
    }

    /// Another user, with tickets.
    #[track_caller]
    pub(crate) fn initiator(&self, user: &str) -> Initiator {
        Initiator::start(&self.realm, &self.realm.tickets(user))
    }

    /// A client that has been answered `05 01`.
    #[track_caller]
    pub(crate) fn greeted(&self) -> Peer {
        greeted(&self.server)
    }

    /// A client whose context stands.
    #[track_caller]
    pub(crate) fn established(&self) -> Client<'_> {
        self.establish(self.alice.begin())
    }

    /// A client whose context stands, which it has begun so.
    #[track_caller]
    pub(crate) fn establish<'a>(&self, context: Context<'a>) -> Client<'a> {
        Client::establish(self.greeted(), context)
    }

    /// A client whose next message is the request.
    #[track_caller]
    pub(crate) fn agreed(&self, level: Level) -> Client<'_> {
        let mut client = self.established();
        client.agree(level);
        client
    }

    /// A granted session: the client, and the target's end.
    #[track_caller]
    pub(crate) fn session(&self, level: Level) -> (Client<'_>, Peer) {
        let origin = Origin::start();
        let client = self.agreed(level);
        client.connect(origin.address());
        (client, origin.accept())
    }
}

/// A client of any server that has been answered `05 01`.
#[track_caller]
pub(crate) fn greeted(server: &Server) -> Peer {
    let peer = Peer::connect(server.address());
    peer.send(&greeting(&[1]));
    peer.expect(&[5, 1]);
    peer
}

/// The server of a realm.
#[track_caller]
pub(crate) fn serve(realm: &Realm, args: &[&str], env: &[(&str, &str)]) -> Server {
    let keytab = realm.keytab();
    let ours = realm.env();
    let mut all: Vec<(&str, &str)> = ours.iter().map(|(name, value)| (*name, &value[..])).collect();
    all.push(("RINGSOCKS_GSSAPI_KEYTAB", keytab.to_str().expect("a path of ours")));
    all.extend(env);
    Server::start_with_env(args, &all)
}
