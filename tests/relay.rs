//! Sessions that move bytes through the real binary. Each test ends with everything given back.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::origin::Service;
use support::peer::{End, Peer, Received};
use support::server::Server;
use support::socks::{connect_to, greeting, open_session, request_session};
use support::{
    PATIENCE, assert_same_bytes, raise_descriptor_limit, random_bytes, session, wait_until,
};

const MIB: usize = 1 << 20;

#[test]
fn five_hundred_sessions_echo_side_by_side() {
    raise_descriptor_limit();
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let echo = Service::echo();

    let clients: Vec<Peer> =
        (0..500).map(|_| request_session(server.address(), echo.address())).collect();
    for (seed, client) in (0..).zip(&clients) {
        client.expect_granted();
        client.send(&random_bytes(seed, 4096));
    }
    assert_eq!(server.counters()["open"], 500);
    for (seed, client) in (0..).zip(&clients) {
        client.expect(&random_bytes(seed, 4096));
        client.fin();
        client.expect_eof();
    }

    drop(clients);
    baseline.assert_restored();
    assert_eq!(server.counters()["finished"], 500);
}

#[test]
fn sixty_four_mebibytes_both_ways_at_once() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let (up, down) = (random_bytes(1, 64 * MIB), random_bytes(2, 64 * MIB));

    let (client, target) = session(&server);
    thread::scope(|scope| {
        let at_target = scope.spawn(|| target.exchange(&down));
        assert_whole(&client.exchange(&up), &down);
        assert_whole(&at_target.join().expect("reading does not panic"), &up);
    });

    drop((client, target));
    baseline.assert_restored();
}

#[test]
fn half_close_by_the_client_leaves_the_answer_whole() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let (client, target) = session(&server);
    assert_answered_after_fin(&client, &target);
    drop((client, target));
    baseline.assert_restored();
}

#[test]
fn half_close_by_the_target_leaves_the_answer_whole() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let (client, target) = session(&server);
    assert_answered_after_fin(&target, &client);
    drop((client, target));
    baseline.assert_restored();
}

#[test]
fn a_reset_stays_a_reset_wherever_it_cuts() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    for seed in 0..40 {
        let (client, target) = session(&server);
        let data = random_bytes(seed, cut_for(seed));
        assert_reset_arrives(client, &target, &data);
        let (client, target) = session(&server);
        assert_reset_arrives(target, &client, &data);
    }
    baseline.assert_restored();
    let counters = server.counters();
    assert_eq!((counters["client_reset"], counters["target_reset"]), (40, 40), "{counters:?}");
}

#[test]
fn stalled_readers_bound_memory_and_stop_nobody() {
    raise_descriptor_limit();
    let limit: u64 = 4 << 20;
    let env = [("RINGSOCKS_LIMIT_BUFFERS", "4MiB")];
    let server = Server::start_with_env(&["--workers", "1"], &env);
    let baseline = server.baseline();
    let echo = Service::echo();
    let (flood, _) = Service::flood();
    let rss_before = server.rss();

    let stalled: Vec<Peer> =
        (0..200).map(|_| open_session(server.address(), flood.address())).collect();
    // Room for the sessions themselves beside their rings, and for the allocator.
    let rss_max = rss_before + limit + 16 * MIB as u64;
    server.wait_counters("no ring is left", |counters| counters["rings_free"] == 0);

    for seed in 0..10 {
        let client = open_session(server.address(), echo.address());
        let data = random_bytes(seed, MIB);
        assert_whole(&client.exchange(&data), &data);
    }

    assert!(server.rss() < rss_max, "{} bytes resident, {rss_max} allowed", server.rss());
    assert_eq!(server.counters()["open"], 200, "the stalled sessions pay nothing for it");
    drop(stalled);
    baseline.assert_restored();
}

#[test]
fn a_stalled_reader_costs_no_processor_time() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let (flood, taken) = Service::flood();
    let stalled = open_session(server.address(), flood.address());
    wait_until_still(&taken);

    let before = server.cpu_time();
    thread::sleep(Duration::from_secs(1));
    let used = server.cpu_time() - before;
    assert!(used < Duration::from_millis(200), "{used:?} of one second for nothing");

    drop(stalled);
    baseline.assert_restored();
}

#[test]
fn an_idle_session_holds_no_ring() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let echo = Service::echo();
    let clients: Vec<Peer> =
        (0..50).map(|_| open_session(server.address(), echo.address())).collect();
    for client in &clients {
        client.send(b"ping");
        client.expect(b"ping");
    }
    server.wait_counters("50 open sessions without a ring", |counters| {
        (counters["open"], counters["rings_in_use"]) == (50, 0)
    });
    drop(clients);
    baseline.assert_restored();
}

#[test]
fn a_target_that_answers_and_closes_during_the_upload_is_heard() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    // Small enough to have left the target when it closes: its kernel discards the rest.
    let answer = random_bytes(7, 32 * 1024);
    for _ in 0..10 {
        let (client, target) = session(&server);
        let heard = upload_into(&client, || {
            target.read_exact(100_000);
            target.send(&answer);
            target.fin();
            // Closing with the upload unread resets the direction into the target.
            drop(target);
        });
        assert_whole(&heard, &answer);
        drop(client);
    }
    baseline.assert_restored();
}

#[test]
fn a_storm_of_short_lives_leaves_nothing_and_mixes_nothing_up() {
    let server = Server::start(&[]);
    let baseline = server.baseline();
    let echo = Service::echo();
    let storm_over = AtomicBool::new(false);
    let (one_server, one_echo) = (&server, &echo);
    thread::scope(|scope| {
        let steady = scope.spawn(|| {
            for seed in (0..).take_while(|_| !storm_over.load(Ordering::Relaxed)) {
                let client = open_session(server.address(), echo.address());
                let data = random_bytes(seed, 20_000);
                assert_whole(&client.exchange(&data), &data);
            }
        });
        let storm: Vec<_> = (0..4)
            .map(|seed| {
                scope.spawn(move || {
                    (0..300).for_each(|turn| die_young(one_server, one_echo, seed * 300 + turn))
                })
            })
            .collect();
        for thread in storm {
            thread.join().expect("a client that gives up does not panic");
        }
        storm_over.store(true, Ordering::Relaxed);
        steady.join().expect("every steady session got its own bytes");
    });
    baseline.assert_restored();
}

#[test]
fn one_hot_session_leaves_the_others_their_turn() {
    let server = Server::start(&["--workers", "1"]);
    let baseline = server.baseline();
    let echo = Service::echo();
    let hot = open_session(server.address(), echo.address());
    let quiet = open_session(server.address(), echo.address());

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| hot.read_to_end());
        scope.spawn(|| {
            let chunk = random_bytes(8, MIB);
            while !done.load(Ordering::Relaxed) {
                hot.send(&chunk);
            }
            hot.fin();
        });
        for _ in 0..200 {
            quiet.send(b"ping");
            quiet.expect(b"ping");
        }
        done.store(true, Ordering::Relaxed);
    });

    drop((hot, quiet));
    baseline.assert_restored();
}

/// `first` sends 8 MiB and ends; 1 MiB comes back over the half-closed session.
#[track_caller]
fn assert_answered_after_fin(first: &Peer, second: &Peer) {
    let (question, answer) = (random_bytes(3, 8 * MIB), random_bytes(4, MIB));
    thread::scope(|scope| {
        let heard_back = scope.spawn(|| first.exchange(&question));
        assert_whole(&second.read_to_end(), &question);
        second.send(&answer);
        second.fin();
        assert_whole(&heard_back.join().expect("reading does not panic"), &answer);
    });
}

/// `sender` resets behind `data`: the other side gets a prefix of it and the reset.
#[track_caller]
fn assert_reset_arrives(sender: Peer, receiver: &Peer, data: &[u8]) {
    thread::scope(|scope| {
        let heard = scope.spawn(|| receiver.read_to_end());
        sender.send(data);
        sender.reset();
        let heard = heard.join().expect("reading does not panic");
        assert!(data.starts_with(&heard.bytes), "no prefix of the {} bytes sent", data.len());
        assert_eq!(heard.end, End::Reset, "after {} bytes of {}", heard.bytes.len(), data.len());
    });
}

/// A client that gives up somewhere between its first byte and the middle of its data.
fn die_young(server: &Server, echo: &Service, seed: u64) {
    let life = [
        greeting(&[0]),
        connect_to(echo.address()),
        random_bytes(seed, (seed % 7) as usize * 10_000),
    ]
    .concat();
    let client = Peer::connect(server.address());
    // The server may have given up on us first.
    let _ = client.try_send(&life[..seed as usize * 31 % life.len()]);
    match seed % 3 {
        0 => client.reset(),
        1 => drop(client),
        _ => client.fin(),
    }
}

/// What the client hears while it uploads without end, and `target` does its part.
fn upload_into(client: &Peer, target: impl FnOnce() + Send) -> Received {
    let chunk = vec![0; 64 * 1024];
    thread::scope(|scope| {
        scope.spawn(|| while client.try_send(&chunk).is_ok() {});
        scope.spawn(target);
        client.read_to_end()
    })
}

#[track_caller]
fn assert_whole(received: &Received, expected: &[u8]) {
    assert_same_bytes(&received.bytes, expected);
    assert_eq!(received.end, End::Fin);
}

/// From nothing to some hundred thousand bytes, most of them no round number.
fn cut_for(seed: u64) -> usize {
    let [low, high, ..] = random_bytes(seed ^ 0xc0ffee, 2)[..] else { return 0 };
    match seed % 4 {
        0 => seed as usize,
        1 => usize::from(low),
        _ => usize::from(u16::from_le_bytes([low, high])) * 5,
    }
}

/// Waits until nobody takes another byte: everyone is stalled.
#[track_caller]
fn wait_until_still(taken: &AtomicU64) {
    let mut last = (0, Instant::now());
    let deadline = Instant::now() + 3 * PATIENCE;
    wait_until("somebody takes a first byte", || taken.load(Ordering::Relaxed) > 0);
    while last.1.elapsed() < Duration::from_millis(500) {
        assert!(Instant::now() < deadline, "the flood never stalls");
        let now = taken.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(10));
    }
}
