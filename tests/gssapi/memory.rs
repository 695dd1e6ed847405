//! Contexts end with their sessions: ten thousand leave nothing.

use std::{iter, thread};

use crate::client::{BOTH_LEVELS, Client, expect_aborted};
use crate::contexts::expect_first_token_refused;
use crate::support::initiator::{Flag, Initiator, Mechanism};
use crate::support::origin::Service;
use crate::world::World;

/// How many clients are there at once.
const CLIENTS: usize = 4;

/// After so many, what is kept for later is there.
const WARM_UP: usize = 2000;

const SESSIONS: usize = 10_000;

/// A context is some kilobytes, the name of its user a hundred bytes.
const GROWTH_MAX: u64 = 512 * 1024;

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn ten_thousand_sessions_leave_nothing() {
    let echo = Service::echo();
    expect_flat(|world, initiator, number| {
        let level = BOTH_LEVELS[number % 2];
        let mut client = world.establish(match number % 10 {
            0 => initiator.begin_with(Mechanism::Kerberos, &Flag::usual_with(Flag::Delegate)),
            _ => initiator.begin(),
        });
        client.agree(level);
        client.connect(echo.address());
        client.send(b"ping");
        client.expect(b"ping");
        end(client, number);
    });
}

/// Those who do not get that far, each in its way.
#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn ten_thousand_refusals_leave_nothing() {
    expect_flat(|world, initiator, number| match number % 4 {
        0 => expect_first_token_refused(world, b"nonsense"),
        1 => {
            let flags = Flag::usual_without(Flag::Mutual);
            let context = initiator.begin_with(Mechanism::Kerberos, &flags);
            expect_first_token_refused(world, &context.first());
        }
        2 => {
            let client = world.establish(initiator.begin());
            client.peer.send(&client.level_frame(&[9]));
            expect_aborted(&client.peer);
        }
        _ => end(world.establish(initiator.begin()), number),
    });
}

/// One way or the other.
fn end(client: Client<'_>, number: usize) {
    if number.is_multiple_of(3) {
        client.peer.reset();
    } else {
        drop(client.peer);
    }
}

/// So many sessions of this kind, and anonymous memory afterwards as it was when they had begun.
#[track_caller]
fn expect_flat(session: impl Fn(&World, &Initiator, usize) + Sync) {
    // Nobody is slowed down for failing; and the way to the access log has room for many records,
    // which is used for the first time when they come.
    let env = [("RINGSOCKS_PENALTY_FAILURE", "0"), ("RINGSOCKS_ACCESS_LOG", "off")];
    let world = World::start_with(&env);
    // They may be forwarded, so that there is something to delegate.
    let tickets = world.realm.tickets_with("bob", &["-f"]);
    let start = || Initiator::start(&world.realm, &tickets);
    let initiators: Vec<Initiator> = iter::repeat_with(start).take(CLIENTS).collect();
    let baseline = world.server.baseline();
    let run = |sessions: usize| {
        thread::scope(|scope| {
            for initiator in &initiators {
                let (world, session) = (&world, &session);
                scope.spawn(move || {
                    (0..sessions / CLIENTS).for_each(|number| session(world, initiator, number));
                });
            }
        });
        baseline.assert_restored();
        world.server.rss_anon()
    };
    let before = run(WARM_UP);
    let after = run(SESSIONS);
    let grown = after.saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes for {SESSIONS} sessions, from {before}");
}
