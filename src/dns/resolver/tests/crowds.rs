//! Many names at a time.

use std::collections::HashSet;

use super::*;

fn fill(bench: &mut Bench) {
    for number in 0..Resolver::LOOKUPS_MAX {
        bench.ask_pending(&format!("n{number}.example"));
    }
}

#[test]
fn the_table_has_an_end_and_its_channels_are_shared() {
    let mut bench = Bench::new(1);
    fill(&mut bench);
    assert_eq!(bench.ask("one-more.example").1, Asked::Full);
    assert!(matches!(bench.ask("known.example").1, Asked::Known(_)), "what is known is told");
    assert_eq!(bench.ask("n5.example").1, Asked::Pending, "and who waits for the same may wait");
    assert_eq!(bench.resolver.channels(), 48);
    let queries = bench.queries();
    assert_eq!(queries.len(), 2 * Resolver::LOOKUPS_MAX);
    let distinct: HashSet<_> = queries.iter().map(|it| (it.channel, it.id)).collect();
    assert_eq!(distinct.len(), queries.len(), "an id stands for one question");
    for query in queries {
        let ip = if query.family == Family::V4 { "192.0.2.7" } else { "2001:db8::7" };
        bench.reply(&query, &addresses(&query, &[ip], 60));
    }
    let whole = bench.answers().into_iter().filter(|it| it.1.is_last()).count();
    assert_eq!(whole, Resolver::LOOKUPS_MAX + 1);
    bench.assert_at_rest();
}

#[test]
fn names_under_a_silent_server_leave_the_next_one_to_others() {
    let mut bench = Bench::new(2);
    for number in 0..5000 {
        bench.ask_pending(&format!("n{number}.example"));
    }
    assert!(bench.queries().iter().all(|it| it.server == server(1)));
    bench.pass(SECOND);
    let queries = bench.queries();
    let asked: Vec<_> = queries.iter().filter(|it| it.server == server(2)).collect();
    assert_eq!(asked.len(), 10_000, "none had to wait for a way there");
    let token = bench.ask_pending("other.example");
    let [v4, v6] = bench.pair();
    assert_eq!(v4.server, server(2));
    bench.reply(&v4, &addresses(&v4, &["192.0.2.7"], 60));
    bench.reply(&v6, &negative(&v6, 0, None));
    assert_eq!(bench.answers().last(), Some(&(token, found(&[], false))));
}

#[test]
fn a_crowd_under_a_silent_server_fails_and_leaves_nothing() {
    let mut bench = Bench::new(1);
    fill(&mut bench);
    bench.pass(5 * SECOND);
    let told = bench.answers();
    assert_eq!(told.len(), Resolver::LOOKUPS_MAX);
    assert!(told.iter().all(|it| it.1 == Answer::Failed(Failure::TimedOut)));
    // At once, after a second, after two more; both families.
    assert_eq!(bench.queries().len(), 3 * 2 * Resolver::LOOKUPS_MAX);
    bench.assert_at_rest();
}

#[test]
fn ports_that_were_used_often_are_used_on_where_there_are_no_others() {
    let mut bench = Bench::new(1);
    // Each port is asked through a thousand times while something is always open on it.
    for number in 0..48 * 600 {
        let text = format!("n{number}.example");
        let token = bench.ask_pending(&text);
        let sent = bench.queries().into_iter().filter(|it| it.name.eq_ignore_ascii_case(&text));
        assert_eq!(sent.count(), 2, "{text}");
        bench.pass(MS / 4);
        if number % 2 == 0 {
            bench.resolver.forget(token);
        }
    }
}

#[test]
fn a_forger_at_a_shared_port_sends_no_crowd_to_streams() {
    let mut bench = Bench::new(1);
    for number in 0..4800 {
        bench.ask_pending(&format!("n{number}.example"));
    }
    let queries = bench.queries();
    let victim = queries[0].channel;
    let there: HashSet<_> = queries.iter().filter(|it| it.channel == victim).collect();
    assert!(there.len() > 100);
    let forged = Query { name: "other.example".into(), ..queries[0].clone() };
    for _ in 0..100 {
        bench.reply(&queries[0], &addresses(&forged, &["192.0.2.66"], 60));
    }
    let again = bench.queries();
    assert_eq!(again.len(), there.len(), "each is asked anew");
    let streams = again.iter().filter(|it| it.transport == Transport::Tcp).count();
    assert_eq!(streams, 16);
    assert!(again.iter().all(|it| it.channel != victim));
    assert_eq!(bench.answers(), []);
}

#[test]
fn a_thousand_who_wait_for_one_name_and_leave_take_no_room() {
    let mut bench = Bench::new(1);
    bench.ask_pending("a.example");
    for _ in 0..1000 {
        let token = bench.ask_pending("a.example");
        bench.resolver.forget(token);
    }
    let lookup = bench.resolver.lookups.iter().next().unwrap().1;
    assert!(lookup.waiters().count() < 40);
    assert_eq!(bench.resolver.waits.len(), 1);
}
