//! What the host says of names and of who knows them: hosts(5) and resolv.conf(5).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use resolv_conf::{Config, ScopedIp};

use crate::proto::canonical;

/// The port of a name server.
const PORT: u16 = 53;

/// The most servers that are asked.
const SERVERS_MAX: usize = 8;

/// The most servers that resolv.conf(5) names: those behind them are ignored.
const RESOLV_CONF_SERVERS_MAX: usize = 3;

/// The most addresses that a name has in the hosts file.
const ADDRESSES_MAX: usize = 64;

const LOCALHOST: &str = "localhost";

/// Where answers come from, as the host is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// In the order to ask them: at least one, at most eight.
    pub servers: Vec<SocketAddr>,
    /// Whether IPv6 addresses are tried first.
    pub prefers_v6: bool,
    /// By the names in lower case, without the trailing dot.
    hosts: HashMap<Box<str>, Vec<IpAddr>>,
}

impl Sources {
    /// Takes the first eight servers, or the local one if there is none, and the text of the hosts
    /// file.
    pub fn new(mut servers: Vec<SocketAddr>, hosts: &[u8], prefers_v6: bool) -> Sources {
        servers.truncate(SERVERS_MAX);
        if servers.is_empty() {
            servers.push(local_server());
        }
        Sources { servers, prefers_v6, hosts: read_hosts(hosts) }
    }

    /// The servers that resolv.conf(5) names, or else the local one. A line that is not understood
    /// is skipped, and so is a server on an interface that `index_of` does not know.
    pub fn servers_in(
        resolv_conf: &[u8],
        index_of: impl Fn(&str) -> Option<u32>,
    ) -> Vec<SocketAddr> {
        let (config, _errors) = Config::parse_with_errors(resolv_conf);
        let known = config.nameservers.into_iter().filter_map(|it| server(it, &index_of));
        let mut servers: Vec<_> = known.take(RESOLV_CONF_SERVERS_MAX).collect();
        if servers.is_empty() {
            servers.push(local_server());
        }
        servers
    }

    /// What the hosts file says of a name, the preferred family first, in the file's order.
    ///
    /// `localhost` and the names under it are the loopback, whatever the file says (RFC 6761
    /// section 6.3).
    pub fn hosts(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = key(name);
        let mut addresses = match is_localhost(&name) {
            true => self.loopback(&name),
            false => self.hosts.get(&*name)?.clone(),
        };
        addresses.sort_by_key(|ip| ip.is_ipv6() != self.prefers_v6);
        Some(addresses)
    }

    fn loopback(&self, name: &str) -> Vec<IpAddr> {
        let written = [name, LOCALHOST].into_iter().filter_map(|name| self.hosts.get(name));
        let of_loopback = |addresses: &Vec<IpAddr>| -> Vec<IpAddr> {
            addresses.iter().copied().filter(IpAddr::is_loopback).collect()
        };
        written
            .map(of_loopback)
            .find(|addresses| !addresses.is_empty())
            .unwrap_or_else(|| vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()])
    }
}

fn local_server() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))
}

fn server(ip: ScopedIp, index_of: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    match ip {
        ScopedIp::V6(ip, Some(scope)) => {
            let index = scope.parse().ok().or_else(|| index_of(&scope))?;
            Some(SocketAddrV6::new(ip, PORT, 0, index).into())
        }
        ip => Some(SocketAddr::new(ip.into(), PORT)),
    }
}

fn key(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_localhost(name: &str) -> bool {
    name.strip_suffix(LOCALHOST).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn read_hosts(text: &[u8]) -> HashMap<Box<str>, Vec<IpAddr>> {
    let mut hosts: HashMap<Box<str>, Vec<IpAddr>> = HashMap::new();
    for (address, name) in text.split(|&c| c == b'\n').filter_map(read_line).flatten() {
        let addresses = hosts.entry(key(name).into()).or_default();
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    hosts
}

/// An address and its names.
fn read_line(line: &[u8]) -> Option<impl Iterator<Item = (IpAddr, &str)>> {
    let said = line.split(|&c| c == b'#').next()?;
    let mut words = said
        .split(|c| c.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
        .map(std::str::from_utf8);
    let address = canonical(words.next()?.ok()?.parse().ok()?);
    Some(words.filter_map(move |name| Some((address, name.ok()?))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ips(texts: &[&str]) -> Option<Vec<IpAddr>> {
        Some(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn hosts(text: &[u8]) -> Sources {
        Sources::new(vec![], text, true)
    }

    fn servers_in(resolv_conf: &[u8]) -> Vec<String> {
        let index_of = |name: &str| (name == "eth0").then_some(7);
        let servers = Sources::servers_in(resolv_conf, index_of);
        servers.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn resolv_conf_names_the_servers() {
        let text =
            b"# by hand\nsearch example.com\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1 \r
            nameserver fe80::1%3\nnameserver 192.0.2.4\noptions rotate\n";
        assert_eq!(servers_in(text), ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%3]:53"]);
    }

    #[test]
    fn a_bad_line_of_resolv_conf_costs_no_other() {
        let text = b"nameserver\nnameserver 1.2.3\nnameserver \xff\xfe\n\xff\0\nfrobnicate 3\n\
            options ndots:many\nnameserver 192.0.2.1 and more\nnameserver fe80::1%none\n\
            sortlist x/y\nnameserver fe80::2%eth0";
        assert_eq!(servers_in(text), ["192.0.2.1:53", "[fe80::2%7]:53"]);
    }

    #[test]
    fn without_a_server_in_resolv_conf_the_local_one_is_asked() {
        assert_eq!(servers_in(b""), ["127.0.0.1:53"]);
        assert_eq!(servers_in(b"#nameserver 192.0.2.1\n;nameserver 192.0.2.1\n"), ["127.0.0.1:53"]);
    }

    #[test]
    fn there_are_one_to_eight_servers() {
        let many = (1..=9).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect::<Vec<_>>();
        assert_eq!(Sources::new(many.clone(), b"", true).servers, many[..8]);
        assert_eq!(Sources::new(vec![], b"", true).servers, [local_server()]);
    }

    #[test]
    fn a_host_has_its_name_and_aliases_in_any_letters() {
        let hosts = hosts(b"# head\n\t192.0.2.1\tWeb.example  www # alias\r\n2001:db8::1 six");
        for name in ["web.example", "WEB.EXAMPLE", "web.example.", "www"] {
            assert_eq!(hosts.hosts(name), ips(&["192.0.2.1"]), "{name}");
        }
        assert_eq!(hosts.hosts("six"), ips(&["2001:db8::1"]));
        for name in ["", ".", "#", "alias", "head", "192.0.2.1", "example", "www.."] {
            assert_eq!(hosts.hosts(name), None, "{name}");
        }
    }

    #[test]
    fn lines_for_one_name_add_up_by_family() {
        let text = b"192.0.2.2 a\n2001:db8::2 a b\n192.0.2.1 a a\n192.0.2.2 a\n2001:db8::1 a\n";
        let v6 = ["2001:db8::2", "2001:db8::1"];
        let v4 = ["192.0.2.2", "192.0.2.1"];
        let first = |prefers_v6| Sources::new(vec![], text, prefers_v6).hosts("a");
        assert_eq!(first(true), ips(&[v6, v4].concat()));
        assert_eq!(first(false), ips(&[v4, v6].concat()));
    }

    #[test]
    fn a_bad_line_of_the_hosts_file_costs_no_other() {
        let text = b"1.2.3 a\n127.1 a\nname 192.0.2.9\n192.0.2.1\n\xff a\nfe80::1%eth0 a\n\
            192.0.2.2 \xff\xfe a \xe4\n\n#\n192.0.2.3\0 a\n192.0.2.4#a\n192.0.2.5 b\n";
        assert_eq!(hosts(text).hosts("a"), ips(&["192.0.2.2"]));
        assert_eq!(hosts(text).hosts("b"), ips(&["192.0.2.5"]));
    }

    #[test]
    fn a_mapped_address_is_the_one_it_stands_for() {
        assert_eq!(hosts(b"::ffff:192.0.2.1 a").hosts("a"), ips(&["192.0.2.1"]));
    }

    #[test]
    fn localhost_is_the_loopback_whatever_the_file_says() {
        let both = ips(&["::1", "127.0.0.1"]);
        for name in ["localhost", "LocalHost.", "a.b.localhost", "A.LOCALHOST"] {
            assert_eq!(hosts(b"").hosts(name), both, "{name}");
            let elsewhere = hosts(b"192.0.2.1 localhost a.b.localhost\n::ffff:192.0.2.1 localhost");
            assert_eq!(elsewhere.hosts(name), both, "{name}");
            let mixed = hosts(b"192.0.2.1 localhost\n127.0.0.5 localhost");
            assert_eq!(mixed.hosts(name), ips(&["127.0.0.5"]), "{name}");
        }
        let own = hosts(b"127.0.0.1 localhost\n127.0.0.2 a.localhost");
        assert_eq!(own.hosts("a.localhost"), ips(&["127.0.0.2"]));
        assert_eq!(Sources::new(vec![], b"", false).hosts("localhost"), ips(&["127.0.0.1", "::1"]));
        for name in ["notlocalhost", "localhost.example", "localhos"] {
            assert_eq!(hosts(b"").hosts(name), None, "{name}");
        }
    }

    #[test]
    fn a_list_of_a_hundred_thousand_lines_is_read() {
        let lines = (0..100_000).map(|n| format!("0.0.0.0 ad{n}.example\n"));
        let hosts = hosts(lines.collect::<String>().as_bytes());
        assert_eq!(hosts.hosts.len(), 100_000);
        assert_eq!(hosts.hosts("AD99999.example"), ips(&["0.0.0.0"]));
    }

    #[test]
    fn a_name_keeps_so_many_addresses() {
        let lines = (0..100_000_u32).map(|n| format!("{} a\n", Ipv4Addr::from_bits(n)));
        let hosts = hosts(lines.collect::<String>().as_bytes());
        assert_eq!(hosts.hosts("a").unwrap().len(), ADDRESSES_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(text: Vec<u8>, name: String) {
            let servers = Sources::servers_in(&text, |_| None);
            prop_assert!((1..=RESOLV_CONF_SERVERS_MAX).contains(&servers.len()));
            if let Some(addresses) = hosts(&text).hosts(&name) {
                prop_assert!(!addresses.is_empty());
            }
        }

        #[test]
        fn what_is_written_is_found_between_any_lines(
            noise in "[^\n]*", ip: IpAddr, name in "[a-z]{1,20}\\.example"
        ) {
            let text = format!("{noise}\n{ip} {name}\n{noise}");
            let found = hosts(text.as_bytes()).hosts(&name).unwrap();
            prop_assert!(found.contains(&canonical(ip)));
        }

        #[test]
        fn localhost_never_leaves_the_host(
            lines in prop::collection::vec((any::<IpAddr>(), "(a\\.)?[lL]ocalhost\\.?"), 0..9),
            name in "([a-z]{1,9}\\.){0,2}localhost\\.?"
        ) {
            let text: String = lines.iter().map(|(ip, name)| format!("{ip} {name}\n")).collect();
            let found = hosts(text.as_bytes()).hosts(&name).unwrap();
            prop_assert!(!found.is_empty());
            prop_assert!(found.iter().all(|ip| ip.is_loopback()), "{:?}", found);
        }
    }
}
