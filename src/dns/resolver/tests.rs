use std::net::IpAddr;

use super::*;
use crate::dns::CHANNELS_MAX;
use crate::proto::Host;
use crate::token::Role;

mod building;
mod crowds;

use building::{Query, addresses, alias, negative, rcode, truncated};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A resolver, its clock, and what it has done with its sockets.
struct Bench {
    resolver: Resolver,
    now: Instant,
    open: Vec<(ChannelId, SocketAddr, Transport)>,
    sent: VecDeque<Query>,
    tokens: usize,
}

fn server(last: u8) -> SocketAddr {
    ([192, 0, 2, last], 53).into()
}

fn sources(servers: u8, hosts: &str, prefers_v6: bool) -> Arc<Sources> {
    let servers = (1..=servers).map(server).collect();
    Arc::new(Sources::new(servers, hosts.as_bytes(), prefers_v6))
}

fn name(text: &str) -> Name {
    match Host::parse_name(text.as_bytes()) {
        Ok(Host::Name(name)) => name,
        other => panic!("{other:?}"),
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn found(texts: &[&str], more: bool) -> Answer {
    Answer::Addresses { addresses: ips(texts), more }
}

impl Bench {
    fn new(servers: u8) -> Bench {
        Bench::with(sources(servers, "203.0.113.1 known.example", false))
    }

    fn with(sources: Arc<Sources>) -> Bench {
        let mut state = 1u64;
        let entropy = move |bytes: &mut [u8]| {
            bytes.fill_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            });
        };
        let now = Instant::now();
        let resolver = Resolver::new(sources, Box::new(entropy), CHANNELS_MAX, now);
        Bench { resolver, now, open: Vec::new(), sent: VecDeque::new(), tokens: 0 }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token::new(0, Role::Answer, self.tokens)
    }

    /// Asks with five seconds of time.
    fn ask(&mut self, text: &str) -> (Token, Asked) {
        let token = self.token();
        let asked = self.resolver.ask(&name(text), token, Some(self.now + 5 * SECOND), self.now);
        self.act();
        (token, asked)
    }

    fn ask_pending(&mut self, text: &str) -> Token {
        let (token, asked) = self.ask(text);
        assert_eq!(asked, Asked::Pending, "{text}");
        token
    }

    fn act(&mut self) {
        while let Some(action) = self.resolver.poll_action() {
            match action {
                Action::Open { channel, server, transport } => {
                    self.open.push((channel, server, transport));
                }
                Action::Send { channel, bytes } => {
                    let wire = self.open.iter().find(|it| it.0 == channel);
                    let &(_, server, transport) = wire.expect("an open channel");
                    self.sent.push_back(Query::read(channel, server, transport, &bytes));
                }
                Action::Close { channel } => {
                    let place = self.open.iter().position(|it| it.0 == channel);
                    self.open.swap_remove(place.expect("an open channel"));
                }
            }
        }
    }

    /// What has been sent since it was asked last.
    fn queries(&mut self) -> Vec<Query> {
        self.sent.drain(..).collect()
    }

    /// The two questions for a name: of IPv4, of IPv6.
    #[track_caller]
    fn pair(&mut self) -> [Query; 2] {
        let queries = self.queries();
        let pair: [Query; 2] = queries.try_into().map_err(|it: Vec<_>| it.len()).expect("two");
        assert_eq!([pair[0].family, pair[1].family], [Family::V4, Family::V6]);
        pair
    }

    fn reply(&mut self, query: &Query, bytes: &[u8]) {
        match query.transport {
            Transport::Udp => self.resolver.handle_datagram(query.channel, bytes, self.now),
            Transport::Tcp => {
                let framed = [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
                self.resolver.handle_stream(query.channel, &framed, self.now);
            }
        }
        self.act();
    }

    fn answers(&mut self) -> Vec<(Token, Answer)> {
        std::iter::from_fn(|| self.resolver.poll_answer()).collect()
    }

    /// Lets time pass, and what is due be done.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.resolver.next_deadline().filter(|at| *at <= end) {
            self.now = next.max(self.now);
            self.expire();
        }
        self.now = end;
        self.expire();
    }

    fn expire(&mut self) {
        loop {
            self.resolver.handle_deadline(self.now);
            self.act();
            if self.resolver.due.is_empty() {
                return;
            }
        }
    }

    #[track_caller]
    fn assert_at_rest(&mut self) {
        assert_eq!(self.answers(), []);
        assert_eq!((self.resolver.open(), self.resolver.channels()), (0, 0));
        assert_eq!(self.open, []);
        assert!(self.resolver.waits.is_empty() && self.resolver.open.is_empty());
        assert_eq!(self.resolver.next_deadline(), None);
    }
}

#[test]
fn the_hosts_file_is_asked_first() {
    let mut bench = Bench::new(1);
    for text in ["known.example", "KNOWN.example.", "a.localhost"] {
        let (_, asked) = bench.ask(text);
        assert!(matches!(asked, Asked::Known(Answer::Addresses { more: false, .. })), "{asked:?}");
    }
    assert!(bench.queries().is_empty());
    bench.assert_at_rest();
}

#[test]
fn one_lookup_serves_all_who_wait() {
    let mut bench = Bench::new(1);
    let tokens = ["a.example", "A.EXAMPLE", "a.example."].map(|text| bench.ask_pending(text));
    let [v4, v6] = bench.pair();
    assert_eq!((v4.channel, v4.id == v6.id), (v6.channel, false));
    bench.resolver.forget(tokens[1]);
    bench.reply(&v6, &negative(&v6, 0, Some(60)));
    bench.reply(&v4, &addresses(&v4, &["192.0.2.7", "192.0.2.5"], 60));
    let answer = found(&["192.0.2.7", "192.0.2.5"], false);
    assert_eq!(bench.answers(), [(tokens[0], answer.clone()), (tokens[2], answer)]);
    bench.assert_at_rest();
}

#[test]
fn the_preferred_family_is_told_at_once_and_the_other_follows() {
    let mut bench = Bench::new(1);
    let token = bench.ask_pending("a.example");
    let [v4, v6] = bench.pair();
    bench.reply(&v4, &addresses(&v4, &["192.0.2.7"], 60));
    assert_eq!(bench.answers(), [(token, found(&["192.0.2.7"], true))]);
    let (late, asked) = bench.ask("a.example");
    assert_eq!(asked, Asked::Known(found(&["192.0.2.7"], true)));
    bench.reply(&v6, &addresses(&v6, &["2001:db8::7"], 60));
    let last = found(&["2001:db8::7"], false);
    assert_eq!(bench.answers(), [(token, last.clone()), (late, last)]);
    bench.assert_at_rest();
}

#[test]
fn the_other_family_is_held_for_fifty_milliseconds() {
    let mut bench = Bench::new(1);
    let token = bench.ask_pending("a.example");
    let [v4, v6] = bench.pair();
    bench.reply(&v6, &addresses(&v6, &["2001:db8::7"], 60));
    bench.pass(49 * MS);
    assert_eq!(bench.answers(), []);
    bench.pass(2 * MS);
    assert_eq!(bench.answers(), [(token, found(&["2001:db8::7"], true))]);
    bench.reply(&v4, &negative(&v4, 0, None));
    assert_eq!(bench.answers(), [(token, found(&[], false))]);
    bench.assert_at_rest();
}

#[test]
fn what_comes_while_the_other_family_is_held_goes_first() {
    for prefers_v6 in [false, true] {
        let mut bench = Bench::with(sources(1, "", prefers_v6));
        let token = bench.ask_pending("a.example");
        let [v4, v6] = bench.pair();
        let ways = [(&v4, "192.0.2.7"), (&v6, "2001:db8::7")];
        let (preferred, other) = (ways[usize::from(prefers_v6)], ways[usize::from(!prefers_v6)]);
        bench.reply(other.0, &addresses(other.0, &[other.1], 60));
        bench.pass(30 * MS);
        bench.reply(preferred.0, &addresses(preferred.0, &[preferred.1], 60));
        assert_eq!(bench.answers(), [(token, found(&[preferred.1, other.1], false))]);
        bench.assert_at_rest();
    }
}

#[test]
fn failures_say_what_is_known() {
    let cases: [(u8, u8, Failure); 3] =
        [(3, 3, Failure::NotFound), (0, 0, Failure::NoAddress), (3, 0, Failure::NotFound)];
    for (v4_code, v6_code, failure) in cases {
        let mut bench = Bench::new(1);
        let token = bench.ask_pending("a.example");
        let [v4, v6] = bench.pair();
        bench.reply(&v4, &negative(&v4, v4_code, Some(60)));
        assert_eq!(bench.answers(), []);
        bench.reply(&v6, &negative(&v6, v6_code, Some(60)));
        assert_eq!(bench.answers(), [(token, Answer::Failed(failure))]);
        assert_eq!(bench.ask("a.example").1, Asked::Known(Answer::Failed(failure)));
        bench.assert_at_rest();
    }
}

#[test]
fn a_silent_server_is_asked_again_after_one_second_and_after_two() {
    let mut bench = Bench::new(1);
    let token = bench.ask_pending("a.example");
    let first = bench.pair();
    bench.pass(SECOND - MS);
    assert!(bench.queries().is_empty());
    bench.pass(MS);
    assert_eq!(bench.pair(), first, "the same question from the same port");
    bench.pass(2 * SECOND - MS);
    assert!(bench.queries().is_empty());
    bench.pass(MS);
    assert_eq!(bench.pair(), first);
    bench.pass(2 * SECOND - MS);
    assert_eq!(bench.answers(), []);
    bench.pass(MS);
    assert_eq!(bench.answers(), [(token, Answer::Failed(Failure::TimedOut))]);
    bench.assert_at_rest();
    // A crowd cannot ask again at once.
    assert_eq!(bench.ask("a.example").1, Asked::Known(Answer::Failed(Failure::TimedOut)));
    bench.pass(SECOND);
    bench.ask_pending("a.example");
}

#[test]
fn each_server_is_asked_in_turn_and_any_may_answer() {
    let mut bench = Bench::new(3);
    let token = bench.ask_pending("a.example");
    let first = bench.pair();
    assert_eq!(first[0].server, server(1));
    for last in [2, 3] {
        bench.pass(SECOND);
        assert_eq!(bench.pair()[0].server, server(last));
    }
    bench.reply(&first[0], &addresses(&first[0], &["192.0.2.7"], 60));
    bench.reply(&first[1], &negative(&first[1], 0, None));
    assert_eq!(bench.answers().pop(), Some((token, found(&[], false))));
    bench.assert_at_rest();
}

#[test]
fn the_next_server_is_asked_at_once_after_a_failure() {
    let mut bench = Bench::new(3);
    let token = bench.ask_pending("a.example");
    for last in 1..=3 {
        let [v4, v6] = bench.pair();
        assert_eq!((v4.server, v6.server), (server(last), server(last)));
        bench.reply(&v4, &rcode(&v4, 2));
        bench.reply(&v6, &rcode(&v6, 5));
    }
    assert_eq!(bench.answers(), [(token, Answer::Failed(Failure::ServerFailed))]);
    bench.assert_at_rest();
}

#[test]
fn a_server_that_is_not_there_fails_all_that_it_was_asked() {
    let mut bench = Bench::new(2);
    bench.ask_pending("a.example");
    let [v4, _] = bench.pair();
    bench.resolver.handle_failure(v4.channel, bench.now);
    bench.act();
    let again = bench.pair();
    assert!(again.iter().all(|it| it.server == server(2)));
    // It is avoided from now on.
    bench.ask_pending("b.example");
    assert!(bench.queries().iter().all(|it| it.server == server(2)));
}

#[test]
fn the_only_server_is_asked_once_more_after_a_failure() {
    let mut bench = Bench::new(1);
    let token = bench.ask_pending("a.example");
    let [v4, v6] = bench.pair();
    bench.reply(&v6, &negative(&v6, 0, None));
    bench.reply(&v4, &rcode(&v4, 2));
    assert!(bench.queries().is_empty());
    bench.pass(250 * MS);
    let again = bench.queries();
    assert_eq!(again.len(), 1);
    bench.reply(&again[0], &rcode(&again[0], 2));
    assert_eq!(bench.answers(), [(token, Answer::Failed(Failure::ServerFailed))]);
    bench.assert_at_rest();
}

#[test]
fn what_is_truncated_is_asked_for_over_a_stream() {
    let mut bench = Bench::new(2);
    let token = bench.ask_pending("a.example");
    let [v4, v6] = bench.pair();
    bench.reply(&v6, &negative(&v6, 0, None));
    bench.reply(&v4, &truncated(&v4));
    bench.reply(&v4, &truncated(&v4));
    let over = bench.queries();
    assert_eq!(over.len(), 1, "a copy of the message changes nothing");
    assert_eq!((over[0].server, over[0].transport), (server(1), Transport::Tcp));
    let message = addresses(&over[0], &["192.0.2.7"], 60);
    let framed = [&(message.len() as u16).to_be_bytes(), &message[..]].concat();
    for byte in &framed[..framed.len() - 1] {
        bench.resolver.handle_stream(over[0].channel, &[*byte], bench.now);
        assert_eq!(bench.answers(), []);
    }
    bench.resolver.handle_stream(over[0].channel, &framed[framed.len() - 1..], bench.now);
    bench.act();
    assert_eq!(bench.answers(), [(token, found(&["192.0.2.7"], false))]);
    bench.assert_at_rest();
}

#[test]
fn a_stream_that_ends_or_stays_silent_or_is_no_answer_fails() {
    for way in 0..4 {
        let mut bench = Bench::new(2);
        bench.ask_pending("a.example");
        let [v4, v6] = bench.pair();
        bench.reply(&v6, &negative(&v6, 0, None));
        bench.reply(&v4, &truncated(&v4));
        let over = bench.queries().remove(0);
        match way {
            0 => bench.resolver.handle_failure(over.channel, bench.now),
            1 => bench.resolver.handle_stream(over.channel, &[0, 0], bench.now),
            2 => bench.resolver.handle_stream(over.channel, b"\0\x0212", bench.now),
            _ => {
                bench.pass(3 * SECOND - MS);
                assert!(bench.queries().is_empty());
                bench.pass(MS);
            }
        }
        bench.act();
        let next = bench.queries().remove(0);
        assert_eq!((next.server, next.transport), (server(2), Transport::Udp), "{way}");
    }
}

#[test]
fn who_does_not_know_edns_is_asked_without() {
    for code in [1, 4] {
        let mut bench = Bench::new(1);
        let token = bench.ask_pending("a.example");
        let [v4, v6] = bench.pair();
        assert!(v4.edns);
        bench.reply(&v6, &negative(&v6, 0, None));
        bench.reply(&v4, &rcode(&v4, code));
        let plain = bench.queries().remove(0);
        assert_eq!(plain, Query { edns: false, ..v4 });
        bench.reply(&plain, &addresses(&plain, &["192.0.2.7"], 60));
        assert_eq!(bench.answers(), [(token, found(&["192.0.2.7"], false))]);
        bench.assert_at_rest();
    }
}

#[test]
fn a_server_that_does_not_keep_the_letters_is_asked_once_more() {
    let mut bench = Bench::new(2);
    let token = bench.ask_pending("letters.example");
    let [v4, v6] = bench.pair();
    bench.reply(&v6, &negative(&v6, 0, None));
    let lower = |query: &Query| Query { name: query.name.to_lowercase(), ..query.clone() };
    bench.reply(&v4, &addresses(&lower(&v4), &["192.0.2.66"], 60));
    assert_eq!(bench.answers(), []);
    let again = bench.queries().remove(0);
    assert_eq!(again.server, server(1));
    assert_ne!((&again.name, again.id), (&v4.name, v4.id));
    bench.reply(&again, &addresses(&lower(&again), &["192.0.2.7"], 60));
    assert_eq!(bench.answers(), [(token, found(&["192.0.2.7"], false))]);
    bench.assert_at_rest();
}

#[test]
fn aliases_are_followed_over_several_questions() {
    let mut bench = Bench::new(1);
    let token = bench.ask_pending("a0.example");
    let [v4, v6] = bench.pair();
    bench.reply(&v6, &negative(&v6, 0, Some(1000)));
    let mut query = v4;
    for link in 1..=8 {
        bench.reply(&query, &alias(&query, &format!("a{link}.example"), 100 - link));
        query = bench.queries().remove(0);
        assert!(query.name.eq_ignore_ascii_case(&format!("a{link}.example")));
    }
    bench.reply(&query, &addresses(&query, &["192.0.2.7"], 95));
    let answer = found(&["192.0.2.7"], false);
    assert_eq!(bench.answers(), [(token, answer.clone())]);
    bench.assert_at_rest();
    // For as long as the shortest of them holds.
    bench.pass(91 * SECOND);
    assert_eq!(bench.ask("a0.example").1, Asked::Known(answer));
    bench.pass(SECOND);
    let (_, asked) = bench.ask("a0.example");
    assert_eq!(asked, Asked::Pending);
}

#[test]
fn a_ninth_alias_is_not_followed() {
    let mut bench = Bench::new(1);
    let token = bench.ask_pending("a0.example");
    let [v4, v6] = bench.pair();
    bench.reply(&v6, &negative(&v6, 0, None));
    let mut query = v4;
    for link in 1..=8 {
        bench.reply(&query, &alias(&query, &format!("a{link}.example"), 60));
        query = bench.queries().remove(0);
    }
    bench.reply(&query, &alias(&query, "a0.example", 60));
    assert_eq!(bench.answers(), [(token, Answer::Failed(Failure::ServerFailed))]);
    bench.assert_at_rest();
}

#[test]
fn each_waits_no_longer_than_it_can() {
    let mut bench = Bench::new(1);
    let patient = bench.ask_pending("a.example");
    let hasty = bench.token();
    let deadline = Some(bench.now + 300 * MS);
    let asked = bench.resolver.ask(&name("a.example"), hasty, deadline, bench.now);
    assert_eq!(asked, Asked::Pending);
    let [v4, v6] = bench.pair();
    bench.pass(299 * MS);
    assert_eq!(bench.answers(), []);
    bench.pass(MS);
    assert_eq!(bench.answers(), [(hasty, Answer::Failed(Failure::TimedOut))]);
    bench.reply(&v4, &addresses(&v4, &["192.0.2.7"], 60));
    bench.reply(&v6, &negative(&v6, 0, None));
    let told = [(patient, found(&["192.0.2.7"], true)), (patient, found(&[], false))];
    assert_eq!(bench.answers(), told);
    bench.assert_at_rest();
}

#[test]
fn who_must_go_takes_what_there_is() {
    let mut bench = Bench::new(1);
    let token = bench.token();
    let deadline = Some(bench.now + 20 * MS);
    assert_eq!(bench.resolver.ask(&name("a.example"), token, deadline, bench.now), Asked::Pending);
    bench.act();
    bench.ask_pending("a.example");
    let [_, v6] = bench.pair();
    bench.reply(&v6, &addresses(&v6, &["2001:db8::7"], 60));
    bench.pass(20 * MS);
    assert_eq!(bench.answers(), [(token, found(&["2001:db8::7"], false))]);
}

#[test]
fn a_name_that_is_asked_for_again_and_again_fails_in_time() {
    let mut bench = Bench::new(1);
    let mut told = Vec::new();
    for _ in 0..60 {
        bench.ask("a.example");
        bench.pass(SECOND);
        told.extend(bench.answers());
    }
    assert!(told.len() >= 50, "{}", told.len());
    assert!(told.iter().all(|it| it.1 == Answer::Failed(Failure::TimedOut)));
}

#[test]
fn what_nobody_waits_for_is_given_up() {
    let mut bench = Bench::new(1);
    let token = bench.ask_pending("a.example");
    bench.resolver.forget(token);
    bench.resolver.forget(token);
    bench.queries();
    bench.pass(SECOND);
    assert!(bench.queries().is_empty());
    bench.assert_at_rest();
    // It is nothing against the name.
    bench.ask_pending("a.example");
}

#[test]
fn an_answer_that_comes_before_it_is_given_up_is_kept() {
    let mut bench = Bench::new(1);
    let token = bench.ask_pending("a.example");
    bench.resolver.forget(token);
    let [v4, v6] = bench.pair();
    bench.reply(&v4, &addresses(&v4, &["192.0.2.7"], 60));
    bench.reply(&v6, &addresses(&v6, &["2001:db8::7"], 60));
    let whole = found(&["192.0.2.7", "2001:db8::7"], false);
    assert_eq!(bench.ask("a.example").1, Asked::Known(whole));
    bench.assert_at_rest();
}

#[test]
fn new_servers_are_asked_what_the_old_ones_were() {
    let mut bench = Bench::new(1);
    let token = bench.ask_pending("a.example");
    let old = bench.pair();
    let new = Arc::new(Sources::new(vec![server(9)], b"", false));
    bench.resolver.use_sources(new, bench.now);
    bench.act();
    bench.pass(Duration::ZERO);
    let [v4, v6] = bench.pair();
    assert_eq!((v4.server, v6.server), (server(9), server(9)));
    bench.reply(&old[0], &addresses(&old[0], &["192.0.2.66"], 60));
    bench.reply(&v4, &addresses(&v4, &["192.0.2.7"], 60));
    bench.reply(&v6, &negative(&v6, 0, Some(60)));
    assert_eq!(bench.answers()[0], (token, found(&["192.0.2.7"], true)));
    // What others said is forgotten; a change of the hosts file alone changes nothing of it.
    bench.resolver.use_sources(Arc::new(Sources::new(vec![server(9)], b"::1 x", true)), bench.now);
    assert_eq!(bench.ask("a.example").1, Asked::Known(found(&["192.0.2.7"], false)));
    bench.resolver.use_sources(sources(1, "", false), bench.now);
    bench.ask_pending("a.example");
}

#[test]
fn without_a_socket_there_is_another_try_soon() {
    let mut bench = Bench::new(2);
    bench.ask_pending("a.example");
    let [v4, _] = bench.pair();
    bench.resolver.handle_shortage(v4.channel, bench.now);
    bench.act();
    assert!(bench.queries().is_empty());
    bench.pass(250 * MS);
    let [v4, v6] = bench.pair();
    assert_eq!(v4.channel, v6.channel);
    assert_eq!(bench.resolver.counters().retries, 0, "nothing was in vain");
    // As long as they are short, others share what there is.
    bench.ask_pending("b.example");
    let server_of_both = v4.server;
    let shared: Vec<Query> = bench.queries();
    assert!(shared.iter().all(|it| it.server != server_of_both || it.channel == v4.channel));
}
