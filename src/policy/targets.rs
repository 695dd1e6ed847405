use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::TargetRule;
use crate::policy::covers;
use crate::policy::special::{embedded, is_public};

/// What clients may connect to. It is asked of the very address that goes to the call, and again
/// once that is connected to.
#[derive(Clone, Debug, Default)]
pub struct Targets(Option<Vec<TargetRule>>);

/// What is known of the host we run on: nobody is connected to us by ourselves, and its own
/// addresses are not public.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Where we listen.
    pub listeners: Vec<SocketAddr>,
    /// The addresses of its interfaces; loopback is known without.
    pub addresses: Vec<IpAddr>,
    /// What is routed to it besides, though no interface has it.
    pub networks: Vec<IpNet>,
}

const EVERYTHING: [TargetRule; 2] = [
    TargetRule::Network(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0))),
    TargetRule::Network(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0))),
];
const PUBLIC: [TargetRule; 1] = [TargetRule::Public];

impl Targets {
    /// Those of these rules, for every client; without rules, everything for clients on this host
    /// and what is public for others.
    pub fn new(rules: Option<Vec<TargetRule>>) -> Targets {
        Targets(rules)
    }

    /// Whether `client` may be connected to `target`.
    pub fn permits(&self, host: &Host, client: IpAddr, target: SocketAddr) -> bool {
        let ip = target.ip().to_canonical();
        self.question(host, client, target.port()).permits(ip, host.is_local(ip))
    }

    /// Whether `client` may keep a connection to `target` that came from `local`: an address of
    /// this host is connected to from that same address, whether `host` knows of it or not.
    pub fn permits_connected(
        &self,
        host: &Host,
        client: IpAddr,
        target: SocketAddr,
        local: SocketAddr,
    ) -> bool {
        let ip = target.ip().to_canonical();
        let is_local = local.ip().to_canonical() == ip || host.is_local(ip);
        self.question(host, client, target.port()).permits(ip, is_local)
    }

    fn question<'a>(&'a self, host: &'a Host, client: IpAddr, port: u16) -> Question<'a> {
        let rules = match &self.0 {
            Some(rules) => rules,
            None if client.to_canonical().is_loopback() => &EVERYTHING[..],
            None => &PUBLIC,
        };
        Question { rules, host, port }
    }
}

impl Host {
    /// Whether `ip` is an address of this host, as far as is known.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_loopback()
            || self.addresses.contains(&ip)
            || self.networks.iter().any(|network| network.contains(&ip))
    }

    /// Whether we listen there. A scope does not matter: what cannot be told apart here is ours.
    fn listens_at(&self, address: SocketAddr, is_local: bool) -> bool {
        self.listeners.iter().any(|&listener| {
            let exact = (listener.ip(), listener.port()) == (address.ip(), address.port());
            exact || (is_local && covers(listener, address))
        })
    }
}

/// What is asked of each address of a target: its own, and those inside of it.
struct Question<'a> {
    rules: &'a [TargetRule],
    host: &'a Host,
    port: u16,
}

impl Question<'_> {
    /// Linux takes the unspecified address for the host itself: nobody means that by it.
    fn permits(&self, ip: IpAddr, is_local: bool) -> bool {
        !ip.is_unspecified() && self.admits(ip, is_local)
    }

    fn admits(&self, ip: IpAddr, is_local: bool) -> bool {
        let admits_inside = |ip: Ipv4Addr| self.admits(ip.into(), self.host.is_local(ip.into()));
        let is_admitted = |rule: &TargetRule| match rule {
            TargetRule::Public => !is_local && is_public(ip),
            TargetRule::Network(network) => {
                network.contains(&ip) && embedded(ip, network.prefix_len()).all(admits_inside)
            }
        };
        let is_ours = self.host.listens_at(SocketAddr::new(ip, self.port), is_local);
        !is_ours && self.rules.iter().any(is_admitted)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;
    use crate::proto;

    const HERE: &str = "127.0.0.1";
    const AFAR: &str = "192.168.7.7";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn host(listeners: &[&str], addresses: &[&str]) -> Host {
        let listeners = listeners.iter().map(|text| text.parse().unwrap()).collect();
        let addresses = addresses.iter().map(|text| ip(text)).collect();
        Host { listeners, addresses, networks: Vec::new() }
    }

    fn rule(text: &str) -> TargetRule {
        match text {
            "public" => TargetRule::Public,
            network => TargetRule::Network(network.parse().unwrap()),
        }
    }

    fn targets(rules: &[&str]) -> Targets {
        Targets::new(Some(rules.iter().map(|text| rule(text)).collect()))
    }

    /// Asks of port 80, before and after the connection, which must agree.
    fn asks(targets: &Targets, host: &Host, client: &str, target: &str) -> bool {
        let address = SocketAddr::new(ip(target), 80);
        let elsewhere = SocketAddr::new(ip("192.168.55.55"), 50000);
        let permits = targets.permits(host, ip(client), address);
        assert_eq!(targets.permits_connected(host, ip(client), address, elsewhere), permits);
        permits
    }

    #[test]
    fn without_rules_it_depends_on_where_the_client_is() {
        let (targets, host) = (Targets::new(None), host(&[], &["10.0.0.1", "8.8.4.4"]));
        for client in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            for target in ["127.0.0.1", "10.0.0.1", "::1", "8.8.8.8", "169.254.169.254", "fe80::1"]
            {
                assert!(asks(&targets, &host, client, target), "{client} to {target}");
            }
            for target in ["64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1", "2002:a00:1::1"] {
                assert!(asks(&targets, &host, client, target), "{client} to {target}");
            }
        }
        for client in ["10.0.0.1", "8.8.8.8", "::ffff:10.0.0.1", "fd00::1", "2001:db8::1", "::2"] {
            assert!(asks(&targets, &host, client, "8.8.8.8"), "{client}");
            assert!(asks(&targets, &host, client, "2a00::1"), "{client}");
            for target in ["127.0.0.1", "10.9.9.9", "::1", "8.8.4.4", "169.254.169.254", "fe80::1"]
            {
                assert!(!asks(&targets, &host, client, target), "{client} to {target}");
            }
        }
    }

    #[test]
    fn what_is_routed_to_this_host_is_local() {
        let networks = vec!["8.8.77.0/24".parse().unwrap(), "2a00:77::/64".parse().unwrap()];
        let host = Host { networks, ..host(&["0.0.0.0:80", "[::]:80"], &[]) };
        for target in ["8.8.77.5", "2a00:77::5"] {
            assert!(!asks(&targets(&["public"]), &host, AFAR, target), "{target}");
            assert!(!asks(&targets(&["0.0.0.0/0", "::/0"]), &host, HERE, target), "{target}");
        }
        assert!(asks(&targets(&["public"]), &host, AFAR, "8.8.78.5"));
    }

    #[test]
    fn rules_hold_for_every_client() {
        let (targets, host) = (targets(&["public", "10.0.0.0/8"]), host(&[], &["10.0.0.1"]));
        for client in [HERE, AFAR] {
            for target in ["8.8.8.8", "10.0.0.1", "10.255.255.255", "::ffff:10.0.0.1"] {
                assert!(asks(&targets, &host, client, target), "{target}");
            }
            for target in ["127.0.0.1", "192.168.0.1", "::1", "fd00::1"] {
                assert!(!asks(&targets, &host, client, target), "{target}");
            }
        }
    }

    #[test]
    fn what_is_inside_of_an_address_must_be_admitted_too() {
        let known = host(&[], &["8.8.4.4"]);
        let dns64 = targets(&["64:ff9b::/96", "public"]);
        assert!(asks(&dns64, &known, AFAR, "64:ff9b::8.8.8.8"));
        for inside in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0", "8.8.4.4"] {
            assert!(!asks(&dns64, &known, AFAR, &format!("64:ff9b::{inside}")), "{inside}");
        }
        let local = targets(&["64:ff9b:1:7::/96", "public"]);
        assert!(asks(&local, &known, AFAR, "64:ff9b:1:7::8.8.8.8"));
        assert!(!asks(&local, &known, AFAR, "64:ff9b:1:7::10.0.0.1"));
        assert!(!asks(&local, &known, AFAR, "64:ff9b:1:8::8.8.8.8"));
        let vague = targets(&["64:ff9b:1::/48", "public"]);
        assert!(!asks(&vague, &known, AFAR, "64:ff9b:1:808:a00:1:808:808"));
        let tunnels = targets(&["2002::/16", "2001::/32", "::/96", "::ffff:0:0:0/96", "public"]);
        for (good, bad) in [
            ("2002:808:808::1", "2002:a00:1::1"),
            ("::8.8.8.8", "::10.0.0.1"),
            ("::ffff:0:8.8.8.8", "::ffff:0:10.0.0.1"),
            ("2001:0:808:808::f7f7:f7f7", "2001:0:808:808::f5ff:fffe"),
            ("2001:0:808:808::f7f7:f7f7", "2001:0:a00:1::f7f7:f7f7"),
        ] {
            assert!(asks(&tunnels, &known, AFAR, good), "{good}");
            assert!(!asks(&tunnels, &known, AFAR, bad), "{bad}");
        }
        let public = targets(&["public"]);
        for target in ["64:ff9b::8.8.8.8", "2002:808:808::1", "::8.8.8.8", "64:ff9b:1::8.8.8.8"] {
            assert!(!asks(&public, &known, AFAR, target), "{target}");
        }
    }

    #[test]
    fn our_own_listeners_are_never_targets() {
        let everything = targets(&["0.0.0.0/0", "::/0"]);
        let permits = |listeners: &[&str], target: &str| {
            let host = host(listeners, &["10.0.0.1", "2a00::1", "fe80::1"]);
            everything.permits(&host, ip(HERE), target.parse().unwrap())
        };
        let exact = ["127.0.0.1:1080", "[::1]:1080", "10.0.0.1:80", "[fe80::1%2]:1080"];
        for listener in exact {
            assert!(!permits(&exact, listener), "{listener}");
        }
        for other in ["127.0.0.2:1080", "127.0.0.1:1081", "10.0.0.1:1080", "[2a00::1]:1080"] {
            assert!(permits(&exact, other), "{other}");
        }
        for same in ["[::ffff:127.0.0.1]:1080", "[fe80::1]:1080", "[fe80::1%9]:1080"] {
            assert!(!permits(&exact, same), "{same}");
        }
        for ours in ["127.0.0.2:1080", "10.0.0.1:1080", "[::ffff:10.0.0.1]:1080"] {
            assert!(!permits(&["0.0.0.0:1080"], ours), "{ours}");
            assert!(permits(&["[::]:1080"], ours), "our IPv6 sockets take IPv6 only");
        }
        for ours in ["[::1]:1080", "[2a00::1]:1080", "[fe80::1%2]:1080"] {
            assert!(!permits(&["[::]:1080"], ours), "{ours}");
            assert!(permits(&["0.0.0.0:1080"], ours), "{ours}");
        }
        for other in ["10.0.0.2:1080", "10.0.0.1:1081", "[2a00::2]:1080"] {
            assert!(permits(&["0.0.0.0:1080", "[::]:1080"], other), "{other}");
        }
        for nobody in ["0.0.0.0:80", "[::]:80", "[::ffff:0.0.0.0]:80", "[::%3]:80"] {
            assert!(!permits(&[], nobody), "{nobody}");
        }
    }

    #[test]
    fn an_address_that_came_up_meanwhile_shows_by_its_own_end() {
        let host = host(&["0.0.0.0:1080"], &[]);
        let asks = |targets: &Targets, target: &str, local: &str| {
            let (target, local) = (target.parse().unwrap(), local.parse().unwrap());
            assert!(targets.permits(&host, ip(AFAR), target), "nothing is known of it before");
            targets.permits_connected(&host, ip(AFAR), target, local)
        };
        let (public, everything) = (targets(&["public"]), targets(&["0.0.0.0/0", "::/0"]));
        for targets in [&public, &everything] {
            assert!(asks(targets, "9.9.9.9:1080", "8.8.8.8:50000"));
            assert!(!asks(targets, "9.9.9.9:1080", "9.9.9.9:50000"), "it is our listener");
            assert!(!asks(targets, "9.9.9.9:1080", "[::ffff:9.9.9.9]:50000"));
        }
        assert!(!asks(&public, "9.9.9.9:80", "9.9.9.9:50000"), "this host is not public");
        assert!(!asks(&public, "[2a00::1]:80", "[2a00::1]:50000"));
        assert!(asks(&everything, "9.9.9.9:80", "9.9.9.9:50000"));
        let both = targets(&["public", "9.9.9.9/32"]);
        assert!(asks(&both, "9.9.9.9:80", "9.9.9.9:50000"), "it is admitted by its network");
    }

    /// As the address of a request, as an address in a name's answer, and with what a socket
    /// address has besides.
    fn sockets(ip: IpAddr) -> Vec<SocketAddr> {
        let port = 1080;
        let mapped = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let with = |flow, scope| SocketAddrV6::new(mapped, port, flow, scope).into();
        vec![
            SocketAddr::new(ip, port),
            with(0, 0),
            with(7, 0),
            with(0, 7),
            with(u32::MAX, u32::MAX),
        ]
    }

    #[test]
    fn no_spelling_gets_past_the_rules() {
        let spellings = [
            // Loopback
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "017700000001",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.0.0.01",
            "127.0.0.1.",
            "127.255.255.254",
            "::1",
            "[::1]",
            "0:0:0:0:0:0:0:1",
            "::ffff:127.0.0.1",
            "::FFFF:7F00:1",
            "[::ffff:127.0.0.1]",
            "::127.0.0.1",
            "::7f00:1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::127.0.0.1",
            "64:ff9b:1:7f00:0:100::",
            "2002:7f00:1::",
            "2002:7f00:1::1",
            "2001:0:7f00:1::",
            "2001::80ff:fffe",
            "0.0.0.0",
            "0",
            "::",
            "::ffff:0.0.0.0",
            "0x0",
            // Metadata and link-local
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0xa9.0xfe.0xa9.0xfe",
            "169.16689662",
            "0251.0376.0251.0376",
            "169.254.43518",
            "::ffff:169.254.169.254",
            "::ffff:a9fe:a9fe",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001::5601:5601",
            "fd00:ec2::254",
            "100.100.100.200",
            "fe80::a9fe:a9fe",
            "fec0::1",
            // Our listener, by the addresses of this host
            "8.8.4.4",
            "::ffff:8.8.4.4",
            "::ffff:808:404",
            "64:ff9b::8.8.4.4",
            "2002:808:404::1",
            "2a00::1",
            "2a00:0::0:1",
            "[2a00:0000:0000::0001]",
            "10.0.0.1",
            "167772161",
            "0xa000001",
        ];
        let host = host(&["0.0.0.0:1080", "[::]:1080"], &["10.0.0.1", "8.8.4.4", "2a00::1"]);
        let (defaults, dns64) =
            (Targets::new(None), targets(&["64:ff9b::/32", "2002::/16", "public"]));
        let mut addresses = 0;
        for text in spellings {
            // What is neither an address nor a name never comes as far as a socket.
            let Ok(parsed) = proto::Host::parse_name(text.as_bytes()) else { continue };
            let proto::Host::Ip(ip) = parsed else { panic!("{text} became a name") };
            for socket in sockets(ip).into_iter().chain(sockets(text.parse().unwrap_or(ip))) {
                assert!(!defaults.permits(&host, AFAR.parse().unwrap(), socket), "{text} {socket}");
                assert!(!dns64.permits(&host, HERE.parse().unwrap(), socket), "{text} {socket}");
                addresses += 1;
            }
        }
        assert!(addresses > 300, "only {addresses} were asked about");
    }
}
