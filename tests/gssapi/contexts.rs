//! How a context comes about, and what is refused: with `01 FF` and an end that loses nothing.

use std::thread;
use std::time::Duration;

use crate::client::{
    ABORT, BOTH_LEVELS, CONTEXT, Client, DATA, LEVEL, Level, TOKEN_MAX, expect_aborted, frame,
    read_frame,
};
use crate::support::initiator::{Flag, Initiator, Mechanism};
use crate::support::origin::Origin;
use crate::support::peer::{End, Peer};
use crate::support::random_bytes;
use crate::support::realm::Realm;
use crate::support::socks::greeting;
use crate::world::{World, serve};

/// How a handshake that says nothing more ends soon.
const SOON: (&str, &str) = ("RINGSOCKS_TIMEOUT_HANDSHAKE", "1s");

/// For how long `kinit` gets a ticket that is soon of no use: time enough to use it.
const A_WHILE: &[&str] = &["-l", "10s"];

const MORE_THAN_A_WHILE: Duration = Duration::from_secs(14);

/// A token that begins as SPNEGO's do and offers NTLM, and nothing else.
const NTLM_OFFER: &[u8] = &[
    0x60, 0x28, 0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02, 0xa0, 0x1e, 0x30, 0x1c, 0xa0, 0x0e,
    0x30, 0x0c, 0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a, 0xa2, 0x0a,
    0x04, 0x08, b'N', b'T', b'L', b'M', b'S', b'S', b'P', 0x00,
];

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_session_is_granted_at_each_level() {
    let world = World::start();
    let baseline = world.server.baseline();
    for level in BOTH_LEVELS {
        let (client, target) = world.session(level);
        client.expect_flow(&target);
        client.expect_clean_end(&target);
    }
    baseline.assert_restored();
    assert_eq!(world.server.counters()["finished"], 2);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn the_context_is_mutual_and_no_more_than_was_asked_for() {
    let world = World::start();
    let client = world.established();
    for flag in Flag::USUAL {
        assert!(client.context.has(*flag), "{flag:?}");
    }
    assert!(!client.context.has(Flag::Delegate));
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_context_that_comes_byte_by_byte_is_one() {
    let world = World::start();
    let context = world.alice.begin();
    let client = world.greeted();
    client.send_byte_by_byte(&frame(CONTEXT, &context.first()));
    context.step(&read_frame(&client, CONTEXT));
    let mut client = Client::established(client, context);
    client.peer.send_byte_by_byte(&client.level_frame(&[2]));
    assert_eq!(client.read_level(), 2);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_token_right_behind_the_greeting_is_heard() {
    let world = World::start();
    let context = world.alice.begin();
    let client = Peer::connect(world.server.address());
    client.send(&[greeting(&[1]), frame(CONTEXT, &context.first())].concat());
    client.expect(&[5, 1]);
    assert!(context.step(&read_frame(&client, CONTEXT)).is_complete);
}

/// A third leg: the client acknowledges the server's token, which has nothing more to say.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_context_of_three_legs_ends_with_a_token_of_no_bytes() {
    let world = World::start();
    let context = world.alice.begin_with(Mechanism::Kerberos, &Flag::usual_with(Flag::DceStyle));
    let client = world.greeted();
    client.send(&frame(CONTEXT, &context.first()));
    let step = context.step(&read_frame(&client, CONTEXT));
    client.send(&frame(CONTEXT, &step.token.expect("a third leg")));
    client.expect(&frame(CONTEXT, &[]));
    expect_works(&world, Client::established(client, context));
}

/// SPNEGO would be another, though it had Kerberos inside: what is negotiated there is not bound to
/// what either could do.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_mechanism_that_is_not_kerberos_is_refused() {
    let world = World::start();
    expect_first_token_refused(&world, NTLM_OFFER);
    let context = world.alice.begin_with(Mechanism::Spnego, Flag::USUAL);
    expect_first_token_refused(&world, &context.first());
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_first_token_of_no_bytes_is_refused() {
    expect_first_token_refused(&World::start(), &[]);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn messages_of_another_kind_are_refused() {
    let world = World::start();
    let token = world.alice.begin().first();
    for mtyp in [0, LEVEL, DATA, 4, 0x80] {
        expect_refused(&world, &frame(mtyp, &token));
    }
    for version in [0, 2, 5, 0xff] {
        let mut message = frame(CONTEXT, &token);
        message[0] = version;
        expect_refused(&world, &message);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_client_that_gives_up_is_answered_alike() {
    let world = World::start();
    expect_refused(&world, &ABORT);
    let client = world.established();
    client.peer.send(&ABORT);
    expect_aborted(&client.peer);
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn garbage_is_refused_however_long_it_is() {
    let world = World::start();
    let baseline = world.server.baseline();
    for len in [1, 2, 16, 715, 1024, 4096, 30_000, TOKEN_MAX] {
        expect_first_token_refused(&world, &random_bytes(len as u64, len));
    }
    baseline.assert_restored();
}

/// The two bytes must not be lost to a reset, which is what closing on unread bytes makes.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_refusal_arrives_though_more_comes_behind() {
    let world = World::start();
    let client = world.greeted();
    let more = [frame(CONTEXT, &random_bytes(1, TOKEN_MAX)), random_bytes(2, 50_000)].concat();
    let heard = client.exchange(&more);
    assert_eq!((&heard.bytes[..], heard.end), (&ABORT[..], End::Fin));
}

/// It is known by its first two bytes, and all the others are thrown away.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_refusal_arrives_though_the_longest_message_was_of_another_kind() {
    let world = World::start();
    for mtyp in [LEVEL, DATA] {
        expect_refused(&world, &frame(mtyp, &random_bytes(3, TOKEN_MAX)));
        let client = world.established();
        client.peer.send(&frame(CONTEXT, &random_bytes(4, TOKEN_MAX)));
        expect_aborted(&client.peer);
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_token_that_is_cut_or_changed_is_refused() {
    let world = World::start();
    // Tokens differ in length by a few bytes, and one that comes twice is refused for that.
    let fresh = || world.alice.begin().first();
    for left_out in [1, 2, 17, 100, 300, 600] {
        let token = fresh();
        expect_first_token_refused(&world, &token[..token.len() - left_out]);
    }
    // Of the ticket, of the authenticator, of its checksum.
    for from_the_end in [450, 350, 60, 20, 1] {
        let mut token = fresh();
        let changed = token.len() - from_the_end;
        token[changed] ^= 1;
        expect_first_token_refused(&world, &token);
    }
}

/// Whoever has seen it on its way may not use it.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_token_that_has_been_seen_is_refused() {
    let world = World::start();
    let context = world.alice.begin();
    let token = context.first();
    let client = world.greeted();
    client.send(&frame(CONTEXT, &token));
    context.step(&read_frame(&client, CONTEXT));
    expect_first_token_refused(&world, &token);
}

/// What has not come costs no memory, and a handshake has its deadline.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_promise_of_bytes_that_never_come_costs_nothing() {
    const CLIENTS: usize = 300;
    let env =
        [("RINGSOCKS_TIMEOUT_HANDSHAKE", "5s"), ("RINGSOCKS_LIMIT_HANDSHAKES_PER_CLIENT", "0")];
    let world = World::start_with(&env);
    let baseline = world.server.baseline();
    let before = world.server.rss_anon();
    let promise = [&[1, CONTEXT, 0xff, 0xff][..], &[0x60; 10]].concat();
    let clients: Vec<Peer> = (0..CLIENTS).map(|_| world.greeted()).collect();
    clients.iter().for_each(|client| client.send(&promise));
    let grown = world.server.rss_anon().saturating_sub(before);
    assert!(grown < (CLIENTS * 16 * 1024) as u64, "{grown} bytes for {CLIENTS} promises");
    for client in clients {
        client.expect_silent_close();
    }
    baseline.assert_restored();
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_client_that_says_nothing_more_is_closed_at_the_deadline() {
    let world = World::start_with(&[SOON]);
    let baseline = world.server.baseline();
    world.greeted().expect_silent_close();
    world.established().peer.expect_silent_close();
    world.agreed(Level::Integrity).peer.expect_silent_close();
    baseline.assert_restored();
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn clients_that_leave_in_the_middle_leave_nothing() {
    let world = World::start();
    let baseline = world.server.baseline();
    for end in [Peer::reset, drop::<Peer>] {
        for _ in 0..20 {
            let client = world.greeted();
            client.send(&frame(CONTEXT, &world.alice.begin().first()));
            end(client);
            end(world.established().peer);
            end(world.agreed(Level::Confidentiality).peer);
        }
    }
    baseline.assert_restored();
}

/// MIT's contexts keep integrity and confidentiality, asked for or not.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_context_that_is_not_mutual_or_lets_messages_come_twice_is_refused() {
    let world = World::start();
    for missing in [Flag::Mutual, Flag::Replay] {
        let context = world.alice.begin_with(Mechanism::Kerberos, &Flag::usual_without(missing));
        expect_first_token_refused(&world, &context.first());
    }
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn delegated_credentials_are_taken_and_thrown_away() {
    let realm = Realm::start();
    let tickets = realm.tickets_with("alice", &["-f"]);
    let alice = Initiator::start(&realm, &tickets);
    let flags = Flag::usual_with(Flag::Delegate);
    let short = alice.begin().first().len();
    let long = alice.begin_with(Mechanism::Kerberos, &flags).first().len();
    assert!(long > short + 300, "nothing is delegated: {long} bytes, {short} without");

    let world = World { server: serve(&realm, &[], &[]), alice, realm };
    let baseline = world.server.baseline();
    expect_works(&world, world.establish(world.alice.begin_with(Mechanism::Kerberos, &flags)));
    baseline.assert_restored();
}

/// Other clocks are allowed to be wrong by five minutes, unless Kerberos is told otherwise.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_ticket_whose_time_is_over_is_refused() {
    let realm = Realm::start();
    let strict = realm.configure("strict.conf", "clockskew = 1");
    let strict = strict.to_str().expect("a path of ours");
    let env = [("KRB5_CONFIG", strict), ("RINGSOCKS_LOG", "debug")];
    let world = World::start_in(realm, &[], &env);
    let brief = Initiator::start(&world.realm, &world.realm.tickets_with("brief", A_WHILE));
    let late = brief.begin().first();
    thread::sleep(MORE_THAN_A_WHILE);
    expect_first_token_refused(&world, &late);
    world.server.wait_line("Ticket expired");
}

/// A session is none of the ticket's business any more.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn a_session_outlives_the_ticket() {
    let world = World::start();
    let brief = Initiator::start(&world.realm, &world.realm.tickets_with("brief", A_WHILE));
    let origin = Origin::start();
    let mut client = world.establish(brief.begin());
    client.agree(Level::Confidentiality);
    client.connect(origin.address());
    let target = origin.accept();
    thread::sleep(MORE_THAN_A_WHILE);
    client.expect_flow(&target);
}

/// A client with such a context has itself connected.
#[track_caller]
fn expect_works(world: &World, mut client: Client<'_>) {
    let origin = Origin::start();
    client.agree(Level::Confidentiality);
    client.connect(origin.address());
    let target = origin.accept();
    client.expect_flow(&target);
    client.expect_clean_end(&target);
    world.server.wait_counters("it has finished", |counters| counters["open"] == 0);
}

#[track_caller]
pub(crate) fn expect_first_token_refused(world: &World, token: &[u8]) {
    expect_refused(world, &frame(CONTEXT, token));
}

/// Such a message instead of the first token, and nothing behind it.
#[track_caller]
fn expect_refused(world: &World, message: &[u8]) {
    let client = world.greeted();
    client.send(message);
    expect_aborted(&client);
}
