//! Associations over a model of datagram sockets, driven by nothing but a seed.
//!
//! Each seed throws clients that send and seal well and badly, targets that answer or do not,
//! strangers, names, and the weather between them, and plays them against the sessions the reactor runs. Beside
//! each association goes a naive one, which decides datagram by datagram what must become of it.
//! Where a seed fails, `RINGSOCKS_SIMULATION_SEED=n cargo test --test associations -- --nocapture`
//! plays it alone and prints what happened.

mod clients;
mod counts;
mod gateway;
mod kernel;
#[path = "../support/mechanism.rs"]
mod mechanism;
mod naive;
mod names;
mod net;
mod opener;
#[path = "../simulation/random.rs"]
mod random;
mod replies;
mod script;
mod sealer;
mod secured;
#[path = "../simulation/seeds.rs"]
mod seeds;
#[path = "../simulation/tcp.rs"]
#[allow(dead_code)]
mod tcp;
mod world;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringsocks::config::{
    AuthMethod, AuthRule, ClientCheck, Config, Filter, Fragments, ListenCommand, TargetRule,
    Timeouts,
};
use ringsocks::policy::{
    Admitted, ClientLimits, Commands, Methods, Penalties, Ports, SessionLimit, Targets,
};
use ringsocks::session::{Sealing, Terms};

use crate::counts::Event;
use crate::gateway::{DESCRIPTORS_MAX, Gateway};
use crate::naive::Rules;
use crate::random::Random;
use crate::script::Script;
use crate::seeds::Played;
use crate::tcp::{OURS, PEER};
use crate::world::{ADVERTISED, Happening, House, Weather, World};

const SEEDS: u64 = 2000;
/// How sessions of these end, and no others.
const OUTCOMES: [&str; 10] = [
    "finished",
    "client_gone",
    "client_reset",
    "idle_timeout",
    "handshake_timeout",
    "drained",
    "refused_01",
    "refused_02",
    "empty",
    "bad_token",
];

#[test]
fn thousands_of_seeds() {
    if let Some(all) = seeds::play_seeds("associations", SEEDS, play) {
        all.assert_interesting(Event::ALL.iter().map(|it| format!("{it:?}")), |it| {
            OUTCOMES.contains(&it.to_string().as_str())
        });
    }
}

#[test]
fn the_same_seed_plays_the_same() {
    seeds::assert_repeatable(play);
}

fn play(seed: u64, verbose: bool) -> Played {
    let mut random = Random::new(seed);
    let (terms, house, rules) = throw_terms(&mut random);
    let weather = throw_weather(&mut random);
    let clients = random.between(1, 6);
    let scripts: Vec<Script> =
        (0..clients).map(|it| Script::throw(&mut random, it as u16, terms.sealing)).collect();
    let ticks_max = random.pick(&[300, 2000]);
    let drains = random.once_in(10);
    let (handshake, idle) = (house.handshake, house.idle);

    let world = World::new(random, (house, rules, weather), Instant::now(), verbose);
    let world = Rc::new(RefCell::new(world));
    scripts.into_iter().for_each(|script| world.borrow_mut().add_client(script));
    let mut gateway = Gateway::new(Rc::clone(&world), terms);

    let mut ticks = 0;
    while ticks < ticks_max && !(gateway.is_empty() && world.borrow().happenings.is_empty()) {
        ticks += 1;
        let moved = stir(&mut world.borrow_mut());
        gateway.tick(!moved);
        pass_time(&gateway, moved);
    }
    world.borrow_mut().note("clients fall silent", 0, 0);
    // Who has not come by now comes no more, and nobody does what is left to be done.
    let goes_on = |it: &Happening| !matches!(it, Happening::Arrival(_) | Happening::Act(..));
    world.borrow_mut().happenings.retain(|_, it| goes_on(it));
    if drains || idle.is_none() {
        if !gateway.is_empty() {
            world.borrow_mut().count(Event::DrainWhileBusy);
        }
        gateway.abort_all();
    }
    let longest = handshake.into_iter().chain(idle).sum::<u64>() + 60_000_000;
    ticks += outlive(&mut gateway, longest);
    gateway.check_empty();
    let world = &*world.borrow();
    Played { hash: world.hash, ticks, counts: world.counts.to_vec(), outcomes: gateway.outcomes }
}

fn throw_terms(random: &mut Random) -> (Terms, House, Rules) {
    let (ports, ports_max) = random.pick(&[
        ("40000-40999", Some(1000)),
        ("40000-40999", Some(1000)),
        ("40000-40001", Some(2)),
        ("0", None),
    ]);
    let told = if random.once_in(3) {
        format!("{:?}", ADVERTISED.map(|it| it.to_string()))
    } else {
        "[]".to_owned()
    };
    let text = format!("[udp]\nports = {ports:?}\nadvertise = {told}\n");
    let Config { mut udp, bind, penalty, .. } =
        Config::parse("simulation", &text).expect("a configuration");
    let rarely_never = |random: &mut Random, us: u64| (!random.once_in(12)).then_some(us);
    let (handshake, resolve) = (Some(10_000_000), rarely_never(random, 5_000_000));
    let idle = rarely_never(random, 45_000_000);
    let duration = |us: Option<u64>| us.map(Duration::from_micros);
    udp.idle = duration(idle);
    udp.peers = random.pick(&[1, 2, 3, 4096]);
    udp.client_check = random.pick(&[
        ClientCheck::Strict,
        ClientCheck::Strict,
        ClientCheck::Address,
        ClientCheck::Off,
    ]);
    udp.filter = random.pick(&[Filter::Address, Filter::AddressPort, Filter::EndpointIndependent]);
    udp.fragments = random.pick(&[Fragments::Reassemble, Fragments::Reassemble, Fragments::Drop]);
    let rules = Rules {
        check: udp.client_check,
        filter: udp.filter,
        fragments: udp.fragments,
        peers: udp.peers,
        resolve,
    };
    let per_client = random.pick(&[None, None, Some(1), Some(2)]);
    let advertise = udp.advertise.clone();
    let house = House { advertise, ports_max, per_client, handshake, idle };
    let descriptors_max = if random.once_in(4) { DESCRIPTORS_MAX } else { usize::MAX };
    let permitted = ["0.0.0.0/5", "128.0.0.0/1", "2000::/3", "fe80::/10", "ff00::/8"];
    let permitted = permitted.map(|it| TargetRule::Network(it.parse().unwrap()));
    let udp_ports = Ports::new(udp.ports, random.next() as u32).into();
    let bind_ports = Ports::new(bind.ports, 0).into();
    let accepted = vec![AuthMethod::Gssapi, AuthMethod::None];
    let confidential = random.once_in(3);
    let timeout = Timeouts {
        handshake: duration(handshake),
        resolve: duration(resolve),
        ..Config::default().timeout
    };
    let terms = Terms {
        methods: vec![Methods::new(vec![AuthRule::for_everyone(accepted)])],
        penalties: Penalties::new(penalty).into(),
        admitted: Admitted::new(None).into(),
        sealing: Sealing { confidential, may_be_clear: !confidential && random.once_in(3) },
        timeout,
        commands: vec![Commands::new(Some(vec![ListenCommand::Udp]))],
        targets: vec![Targets::new(Some(permitted.to_vec()))],
        udp,
        udp_ports,
        bind,
        bind_ports,
        limit: Arc::new(SessionLimit::new(usize::MAX, descriptors_max)),
        clients: Arc::new(ClientLimits::new(None, None, per_client)),
    };
    (terms, house, rules)
}

fn throw_weather(random: &mut Random) -> Weather {
    Weather {
        loses: random.pick(&[0, 0, 20]),
        doubles: random.pick(&[0, 0, 20]),
        delays: random.pick(&[0, 0, 10]),
        fails: random.pick(&[0, 0, 15, 60]),
        segment_max: random.pick(&[Some(65_000), Some(65_000), Some(700), None]),
        no_v6: random.once_in(4),
        queue_max: random.pick(&[1000, 1000, 100, 5]),
        ..Weather::default()
    }
}

/// Lets the network and the clients do something. Says whether anything happened.
fn stir(world: &mut World) -> bool {
    let mut moved = false;
    for client in 0..world.clients.len() {
        for end in [PEER, OURS] {
            moved |= world.random.once_in(2) && world.deliver(client, end);
        }
        moved |= world.random.once_in(2) && world.act(client);
        if world.random.once_in(100) {
            world.clients[client].tcp.repeat_edge(OURS);
        }
    }
    moved || stir_all(world)
}

/// The same with everything that can happen.
fn stir_all(world: &mut World) -> bool {
    let mut moved = false;
    for client in 0..world.clients.len() {
        moved |= world.deliver(client, PEER) | world.deliver(client, OURS) | world.act(client);
    }
    moved
}

/// Moves the clock: a little while things happen, else to whatever is next; sometimes too far.
fn pass_time(gateway: &Gateway, moved: bool) {
    let world = &mut *gateway.world.borrow_mut();
    let edges = world.clients.iter().any(|it| it.token.is_some() && it.tcp.has_edge(OURS))
        || world.ports.iter().any(|it| it.is_open && it.edge);
    if gateway.is_busy() || moved || edges {
        world.now += world.random.below(800) as u64;
        if world.random.once_in(400) {
            world.count(Event::ClockJump);
            world.now += world.random.pick(&[300_000, 3_000_000, 20_000_000]);
        }
        return;
    }
    let timer = gateway.wakes_at().map(|at| world.time_of(at));
    let happening = world.happenings.keys().next().map(|(at, _)| *at);
    let next = timer.into_iter().chain(happening).min().unwrap_or(world.now);
    world.now = next.max(world.now) + world.random.pick(&[0, 0, 100, 1000]);
    if world.random.once_in(30) {
        world.now += world.random.below(1_000_000) as u64;
    }
}

/// Plays on with silent clients until every session has ended, which must not take for ever.
fn outlive(gateway: &mut Gateway, longest: u64) -> u64 {
    let (mut progress, mut end, mut ticks) = (0, 0, 0);
    while !gateway.is_empty() {
        ticks += 1;
        assert!(ticks < 50_000, "sessions are busy with nothing");
        let moved = stir(&mut gateway.world.borrow_mut());
        gateway.tick(true);
        pass_time(gateway, moved);
        let world = gateway.world.borrow();
        if progress < world.progress || end == 0 {
            (progress, end) = (world.progress, world.now + longest);
        }
        assert!(gateway.is_empty() || world.now < end, "a session outlives all");
    }
    ticks
}
