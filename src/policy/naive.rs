//! Targets decided by octets and text, as slow as can be, and whether the real thing agrees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;

use crate::config::TargetRule;
use crate::policy::{Host, Targets};

const DENIED: [&str; 31] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "::/8",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/8",
    "200::/7",
    "400::/6",
    "800::/5",
    "1000::/4",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "4000::/2",
    "8000::/1",
    "ff00::/8",
];

fn parse(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn rule(text: &str) -> TargetRule {
    match text {
        "public" => TargetRule::Public,
        network => TargetRule::Network(network.parse().unwrap()),
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn bit(octets: &[u8], n: usize) -> bool {
    octets[n / 8] & (0x80 >> (n % 8)) != 0
}

fn is_in(ip: IpAddr, network: &str) -> bool {
    let (base, prefix) = network.split_once('/').unwrap();
    let (ip, base) = (octets(ip), octets(parse(base)));
    let prefix: usize = prefix.parse().unwrap();
    ip.len() == base.len() && (0..prefix).all(|n| bit(&ip, n) == bit(&base, n))
}

fn inside(ip: IpAddr, prefix: usize) -> Vec<IpAddr> {
    let at = |places: [usize; 4]| IpAddr::from(places.map(|n| octets(ip)[n]));
    match () {
        () if ip == parse("::1") => vec![],
        () if ["::/96", "::ffff:0:0:0/96", "64:ff9b::/96"].iter().any(|it| is_in(ip, it)) => {
            vec![at([12, 13, 14, 15])]
        }
        () if is_in(ip, "2002::/16") => vec![at([2, 3, 4, 5])],
        () if is_in(ip, "2001::/32") => {
            let client = [12, 13, 14, 15].map(|n| !octets(ip)[n]);
            vec![at([4, 5, 6, 7]), IpAddr::from(client)]
        }
        () if is_in(ip, "64:ff9b:1::/48") && prefix == 64 => vec![at([9, 10, 11, 12])],
        () if is_in(ip, "64:ff9b:1::/48") => {
            let mut found = vec![at([12, 13, 14, 15])];
            if prefix < 64 {
                found.push(at([9, 10, 11, 12]));
            }
            if prefix <= 56 {
                found.push(at([7, 9, 10, 11]));
            }
            if prefix <= 48 {
                found.push(at([6, 7, 9, 10]));
            }
            found
        }
        () => vec![],
    }
}

fn is_local(host: &Host, ip: IpAddr) -> bool {
    host.addresses.contains(&ip) || is_in(ip, "127.0.0.0/8") || ip == parse("::1")
}

fn is_ours(host: &Host, ip: IpAddr, port: u16) -> bool {
    let wildcard = parse(if ip.is_ipv4() { "0.0.0.0" } else { "::" });
    host.listeners.contains(&SocketAddr::new(ip, port))
        || is_local(host, ip) && host.listeners.contains(&SocketAddr::new(wildcard, port))
}

fn admits(rules: &[&str], host: &Host, ip: IpAddr, port: u16) -> bool {
    if is_ours(host, ip, port) {
        return false;
    }
    rules.iter().any(|rule| match *rule {
        "public" => !DENIED.iter().any(|denied| is_in(ip, denied)) && !is_local(host, ip),
        network => {
            let prefix = network.split_once('/').unwrap().1.parse().unwrap();
            let inside = inside(ip, prefix);
            is_in(ip, network) && inside.iter().all(|&ip| admits(rules, host, ip, port))
        }
    })
}

fn permits(rules: &[&str], host: &Host, ip: IpAddr, port: u16) -> bool {
    let nobody = ["0.0.0.0/32", "::/128"].iter().any(|nobody| is_in(ip, nobody));
    !nobody && admits(rules, host, ip, port)
}

const RULES: [&str; 16] = [
    "public",
    "0.0.0.0/0",
    "10.0.0.0/8",
    "127.0.0.0/8",
    "8.8.8.8/32",
    "0.0.0.0/8",
    "::/0",
    "64:ff9b::/96",
    "64:ff9b::/32",
    "64:ff9b:1::/48",
    "64:ff9b:1::/56",
    "64:ff9b:1::/64",
    "64:ff9b:1::/96",
    "2002::/16",
    "2001::/32",
    "::/96",
];

fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    let known = ["10.0.0.1", "10.0.0.2", "127.0.0.1", "8.8.8.8", "8.8.4.4", "0.0.0.0"];
    let known = known.map(|text| text.parse().unwrap()).to_vec();
    prop_oneof![any::<u32>().prop_map(Ipv4Addr::from_bits), prop::sample::select(known)]
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    let prefixes = [
        "::",
        "::ffff:0:0",
        "::ffff:0:0:0",
        "64:ff9b::",
        "64:ff9b:1::",
        "2002::",
        "2001::",
        "2001:db8::",
        "2a00::",
        "fe80::",
        "3fff::",
        "ff02::",
    ];
    let prefixes = prefixes.map(|text| text.parse::<Ipv6Addr>().unwrap().to_bits()).to_vec();
    let inside = (prop::sample::select(prefixes), any_v4(), 0..13u32, any::<bool>());
    let embedding = inside.prop_map(|(prefix, v4, place, turned)| {
        let v4 = u128::from(if turned { !v4.to_bits() } else { v4.to_bits() });
        IpAddr::V6(Ipv6Addr::from_bits(prefix | v4 << (place * 8).min(80)))
    });
    prop_oneof![
        any_v4().prop_map(IpAddr::V4),
        embedding,
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn it_answers_like_a_naive_evaluator(
        rules in prop::sample::subsequence(RULES.to_vec(), 1..5),
        wildcard: bool,
        ip in any_ip(),
        port in 79..82u16,
        scope: u32,
    ) {
        let listeners: &[&str] = match wildcard {
            true => &["0.0.0.0:80", "[::]:80"],
            false => &["127.0.0.1:80", "[2a00::8]:80", "8.8.8.8:81"],
        };
        let host = Host {
            listeners: listeners.iter().map(|text| text.parse().unwrap()).collect(),
            addresses: ["10.0.0.1", "8.8.4.4", "2a00::8"].map(parse).to_vec(),
            networks: Vec::new(),
        };
        let canonical = ip.to_canonical();
        let expected = permits(&rules, &host, canonical, port);
        let targets = Targets::new(Some(rules.iter().map(|text| rule(text)).collect()));
        let elsewhere = "192.168.55.55:5000".parse().unwrap();
        let forms = match ip {
            IpAddr::V4(v4) => [ip, IpAddr::V6(v4.to_ipv6_mapped())],
            IpAddr::V6(_) => [ip, canonical],
        };
        for form in forms {
            let mut target = SocketAddr::new(form, port);
            if let SocketAddr::V6(v6) = &mut target {
                v6.set_scope_id(scope);
                v6.set_flowinfo(scope);
            }
            for client in ["127.0.0.1", "192.168.7.7"].map(parse) {
                prop_assert_eq!(targets.permits(&host, client, target), expected);
                let after = targets.permits_connected(&host, client, target, elsewhere);
                prop_assert_eq!(after, expected);
            }
        }
    }
}
