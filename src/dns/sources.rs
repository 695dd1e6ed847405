use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use resolv_conf::{Config, ScopedIp};

/// Where answers come from, as this host is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The name servers, in order; never none.
    pub servers: Vec<SocketAddr>,
    /// Whether IPv6 comes first.
    pub prefers_v6: bool,
    /// By name, in small letters; each family in the order of the file.
    hosts: HashMap<Box<str>, Vec<IpAddr>>,
}

/// How many servers of resolv.conf are used, as resolv.conf(5) has it.
const SERVERS_MAX: usize = 3;
const PORT: u16 = 53;
const LOCALHOST: &str = "localhost";

impl Sources {
    /// These servers, and what the hosts file says.
    pub fn new(servers: Vec<SocketAddr>, hosts: &[u8], prefers_v6: bool) -> Sources {
        Sources { servers, prefers_v6, hosts: parse_hosts(hosts) }
    }

    /// The servers that a resolv.conf names; without any it is the one of this host.
    pub fn servers_in(resolv_conf: &[u8]) -> Vec<SocketAddr> {
        // A line that is no good must not cost the others.
        let (config, _) = Config::parse_with_errors(resolv_conf);
        let servers = config.nameservers.into_iter();
        let servers: Vec<_> = servers.filter_map(server).take(SERVERS_MAX).collect();
        match servers.is_empty() {
            true => vec![(Ipv4Addr::LOCALHOST, PORT).into()],
            false => servers,
        }
    }

    /// The addresses of a name, in small letters and without its last dot, that need no server.
    pub fn hosts(&self, name: &str) -> Option<Vec<IpAddr>> {
        let addresses = match is_localhost(name) {
            true => self.localhost(),
            false => self.hosts.get(name)?.clone(),
        };
        let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
        Some(if self.prefers_v6 { [v6, v4].concat() } else { [v4, v6].concat() })
    }

    /// This host, whatever a file or a server says (RFC 6761 section 6.3).
    fn localhost(&self) -> Vec<IpAddr> {
        let said = self.hosts.get(LOCALHOST).into_iter().flatten().copied();
        let said: Vec<IpAddr> = said.filter(IpAddr::is_loopback).collect();
        match said.is_empty() {
            true => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
            false => said,
        }
    }
}

fn is_localhost(name: &str) -> bool {
    name.strip_suffix(LOCALHOST).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn server(ip: ScopedIp) -> Option<SocketAddr> {
    match ip {
        ScopedIp::V4(ip) => Some((ip, PORT).into()),
        ScopedIp::V6(ip, None) => Some((ip, PORT).into()),
        // Only a number tells the interface without asking the system.
        ScopedIp::V6(ip, Some(scope)) => {
            Some(SocketAddrV6::new(ip, PORT, 0, scope.parse().ok()?).into())
        }
    }
}

/// hosts(5): an address and its names a line; what is no address or no text is skipped.
fn parse_hosts(file: &[u8]) -> HashMap<Box<str>, Vec<IpAddr>> {
    let mut hosts: HashMap<Box<str>, Vec<IpAddr>> = HashMap::new();
    for line in file.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut words = line.split_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else { continue };
        for name in words {
            let name = name.trim_end_matches('.').to_ascii_lowercase().into_boxed_str();
            let addresses = hosts.entry(name).or_default();
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
    }
    hosts
}
