//! Many sessions over a model of TCP, driven by nothing but a seed.
//!
//! Each seed throws a handful of clients, their targets, a resolver and the weather between them,
//! and plays them against the sessions the reactor runs, with a shadow beside each that knows every
//! byte. Where a seed fails, `RINGSOCKS_SIMULATION_SEED=n cargo test --test simulation -- --nocapture`
//! plays it alone and prints what happened.

mod counts;
mod gateway;
mod life;
mod listening;
#[path = "../support/mechanism.rs"]
mod mechanism;
mod opening;
mod payload;
mod peers;
mod random;
mod script;
mod sealed;
mod seeds;
mod shadow;
mod socket;
mod tcp;
mod world;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringsocks::auth::{Auth, Groups, Mechanism, Passwords};
use ringsocks::config::{
    AuthMethod, AuthRule, Config, ListenCommand, RelayMode, TargetRule, Timeouts,
};
use ringsocks::policy::{
    Admitted, ClientLimits, Commands, Methods, Penalties, Ports, SessionLimit, Targets,
};
use ringsocks::session::{Sealing, Terms};

use crate::counts::Event;
use crate::gateway::{DESCRIPTORS_MAX, Gateway};
use crate::listening::{ADVERTISED, Harbour};
use crate::mechanism::MockMechanism;
use crate::random::Random;
use crate::script::{House, Script};
use crate::seeds::Played;
use crate::tcp::{OURS, PEER};
use crate::world::{Happening, Limits, World};

const SEEDS: u64 = 3000;

/// The cheapest hash there is.
const WONDER_HASHED: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$KfWPuOIuxu2PXKSRwYMH4w";

#[test]
fn thousands_of_seeds() {
    if let Some(all) = seeds::play_seeds("simulation", SEEDS, play) {
        all.assert_interesting(Event::ALL.iter().map(|it| format!("{it:?}")), |_| true);
    }
}

#[test]
fn the_same_seed_plays_the_same() {
    seeds::assert_repeatable(play);
}

fn play(seed: u64, verbose: bool) -> Played {
    let mut random = Random::new(seed);
    let house = throw_house(&mut random);
    let (terms, limits, harbour) = throw_terms(&mut random, house);
    let auth = throw_auth(&mut random, house);
    let buffers_max = (random.pick(&[1, 2, 2, 4]), random.pick(&[0, 1, 3]));
    let mode = random.pick(&[RelayMode::Auto, RelayMode::Copy, RelayMode::Splice]);
    let lives = random.between(3, 12);
    let scripts: Vec<Script> =
        (0..lives).map(|life| Script::throw(&mut random, life as u8, house)).collect();
    let ticks_max = random.pick(&[100, 600, 2000]);
    let drains = random.once_in(10);

    let mut world = World::new(random, Instant::now(), verbose);
    world.harbour = harbour;
    let world = Rc::new(RefCell::new(world));
    scripts.into_iter().for_each(|script| world.borrow_mut().add_life(script));
    let longest = limits.longest();
    let Limits { idle, half_closed, bind, .. } = limits;
    let never_ends = idle.is_none() || half_closed.is_none() || bind.is_none();
    let mut gateway = Gateway::new(Rc::clone(&world), buffers_max, mode, (terms, auth), limits);

    let mut ticks = 0;
    while ticks < ticks_max && !(gateway.is_empty() && world.borrow().happenings.is_empty()) {
        ticks += 1;
        let moved = stir(&mut world.borrow_mut(), true);
        gateway.tick(!moved);
        pass_time(&gateway, moved);
    }
    world.borrow_mut().note("peers fall silent", 0, 0);
    // Who has not come by now comes no more.
    let comes = |it: &Happening| matches!(it, Happening::Arrival(_) | Happening::Visit { .. });
    world.borrow_mut().happenings.retain(|_, it| !comes(it));
    if drains || never_ends {
        if !gateway.is_empty() {
            world.borrow_mut().count(Event::DrainWhileBusy);
        }
        gateway.abort_all();
    }
    ticks += outlive(&mut gateway, longest);
    gateway.check_empty();
    let world = &mut *world.borrow_mut();
    settle(world);
    for life in 0..world.lives.len() {
        world.check_finals(life);
    }
    Played { hash: world.hash, ticks, counts: world.counts.to_vec(), outcomes: gateway.outcomes }
}

fn throw_house(random: &mut Random) -> House {
    let confidential = random.once_in(3);
    House {
        with_users: random.once_in(3),
        with_contexts: random.once_in(2),
        sealing: Sealing { confidential, may_be_clear: !confidential && random.once_in(2) },
    }
}

fn throw_terms(random: &mut Random, house: House) -> (Terms, Limits, Harbour) {
    let mut rarely_never = |ms: u64| (!random.once_in(12)).then_some(ms * 1000);
    let limits = Limits {
        handshake: Some(10_000_000),
        resolve: Some(5_000_000),
        connect: Some(10_000_000),
        idle: rarely_never(45_000),
        half_closed: rarely_never(8_000),
        closing: rarely_never(2_000),
        bind: rarely_never(20_000),
    };
    let duration = |us: Option<u64>| us.map(Duration::from_micros);
    let timeout = Timeouts {
        handshake: duration(limits.handshake),
        resolve: duration(limits.resolve),
        connect: duration(limits.connect),
        idle: duration(limits.idle),
        half_closed: duration(limits.half_closed),
        closing: duration(limits.closing),
    };
    let descriptors_max = if random.once_in(5) { DESCRIPTORS_MAX } else { usize::MAX };
    let limit = Arc::new(SessionLimit::new(usize::MAX, descriptors_max));
    let permitted = ["203.0.0.0/16", "198.18.0.0/16", "2001:db8::/32"];
    let permitted = permitted.map(|it| TargetRule::Network(it.parse().unwrap()));
    let targets = vec![Targets::new(Some(permitted.to_vec()))];
    let (harbour, Config { udp, bind, penalty, .. }) = throw_harbour(random, limits.bind);
    let clients = Arc::new(ClientLimits::new(None, None, harbour.per_client));
    let commands = vec![Commands::new(Some(vec![ListenCommand::Connect, ListenCommand::Bind]))];
    let udp_ports = Ports::new(udp.ports, 0).into();
    let bind_ports = Ports::new(bind.ports, random.next() as u32).into();
    let last = if house.with_users { AuthMethod::Password } else { AuthMethod::None };
    let context = house.with_contexts.then_some(AuthMethod::Gssapi);
    let accepted = context.into_iter().chain([last]).collect();
    let terms = Terms {
        methods: vec![Methods::new(vec![AuthRule::for_everyone(accepted)])],
        penalties: Penalties::new(penalty).into(),
        admitted: Admitted::new(None).into(),
        sealing: house.sealing,
        timeout,
        commands,
        targets,
        udp,
        udp_ports,
        bind,
        bind_ports,
        limit,
        clients,
    };
    (terms, limits, harbour)
}

/// Some passwords are hashed: it takes a while to know whether they are right.
fn throw_auth(random: &mut Random, house: House) -> Auth {
    let mechanism: Option<Arc<dyn Mechanism>> = match house.with_contexts {
        true => Some(Arc::new(MockMechanism)),
        false => None,
    };
    let users = match house.with_users {
        true if mechanism.is_none() && random.once_in(2) => format!("alice = {WONDER_HASHED:?}"),
        true => "alice = \"plain:wonder\"".to_owned(),
        false => String::new(),
    };
    let config = Config::parse("simulation", &format!("[users]\n{users}\n"));
    let passwords = Passwords::load(&config.expect("a configuration")).expect("users or none");
    Auth::new(passwords, Groups::default(), mechanism)
}

fn throw_harbour(random: &mut Random, timeout: Option<u64>) -> (Harbour, Config) {
    let (ports, ports_max) = random.pick(&[
        ("41000-41999", Some(1000)),
        ("41000-41999", Some(1000)),
        ("41000-41001", Some(2)),
        ("0", None),
    ]);
    let told = if random.once_in(3) { format!("{ADVERTISED:?}") } else { "[]".to_owned() };
    let text = format!("[bind]\nports = {ports:?}\nadvertise = {told}\n");
    let mut config = Config::parse("simulation", &text).expect("a configuration");
    config.bind.timeout = timeout.map(Duration::from_micros);
    let harbour = Harbour {
        advertise: config.bind.advertise.clone(),
        ports_max,
        per_client: random.pick(&[None, None, Some(1), Some(3)]),
        is_remote: random.once_in(6),
        ..Harbour::default()
    };
    (harbour, config)
}

/// Lets the network and the peers do something. Says whether anything happened.
fn stir(world: &mut World, peers_act: bool) -> bool {
    let links = world.links.len();
    let mut moved = false;
    for link in 0..links {
        for end in [PEER, OURS] {
            moved |= world.random.once_in(2) && world.deliver(link, end);
        }
        moved |= peers_act && world.random.once_in(2) && world.act(link);
        if world.random.once_in(100) {
            world.links[link].tcp.repeat_edge(OURS);
        }
    }
    moved || stir_all(world, peers_act)
}

/// The same with everything that can happen.
fn stir_all(world: &mut World, peers_act: bool) -> bool {
    let mut moved = false;
    for link in 0..world.links.len() {
        moved |= world.deliver(link, PEER) | world.deliver(link, OURS);
        moved |= peers_act && world.act(link);
    }
    moved
}

/// Moves the clock: a little while things happen, else to whatever is next; sometimes too far.
fn pass_time(gateway: &Gateway, moved: bool) {
    let world = &mut *gateway.world.borrow_mut();
    let stays = gateway.is_busy() || moved || world.links.iter().any(|it| it.tcp.has_edge(OURS));
    if stays {
        world.now += world.random.below(5000) as u64;
        if world.random.once_in(250) {
            world.count(Event::ClockJump);
            world.now += world.random.pick(&[300_000, 3_000_000, 20_000_000]);
        }
        return;
    }
    let timer = gateway.wakes_at().map(|at| world.time_of(at));
    let happening = world.happenings.keys().next().map(|(at, _)| *at);
    let next = timer.into_iter().chain(happening).min().unwrap_or(world.now);
    world.now = next.max(world.now) + world.random.below(1000) as u64;
    if world.random.once_in(12) {
        world.now += world.random.below(5_000_000) as u64;
    }
}

/// Plays on with silent peers until every session has ended, which must not take for ever.
fn outlive(gateway: &mut Gateway, longest: u64) -> u64 {
    let mut progress = 0;
    let mut end = 0;
    let mut ticks = 0;
    while !gateway.is_empty() {
        ticks += 1;
        assert!(ticks < 50_000, "sessions are busy with nothing");
        let moved = stir(&mut gateway.world.borrow_mut(), false);
        gateway.tick(true);
        pass_time(gateway, moved);
        // What the peers' kernels had taken before may go on for long.
        let world = gateway.world.borrow();
        if progress < world.progress || end == 0 {
            (progress, end) = (world.progress, world.now + longest);
        }
        assert!(gateway.is_empty() || world.now < end, "a session outlives all");
    }
    ticks
}

/// Lets what the closed sockets left behind arrive.
fn settle(world: &mut World) {
    let mut rounds = 0;
    while stir_all(world, true) {
        rounds += 1;
        assert!(rounds < 100_000, "the network never comes to rest");
    }
}
