//! Who is asked for the addresses of names.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::error::Problem;
use super::listen::refuse_mapped;
use super::show::show_list;
use super::value;

/// Who is asked for the addresses of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// The servers of resolv.conf, by us.
    ResolvConf,
    /// These servers, by us; never empty.
    Servers(Vec<SocketAddr>),
    /// Whoever the C library asks (`getaddrinfo(3)`), on threads.
    System,
}

impl Resolver {
    /// More than this are not asked in the time a name has.
    const SERVERS_MAX: usize = 8;
    const PORT: u16 = 53;

    pub(super) fn of(servers: Vec<SocketAddr>) -> Result<Resolver, Problem> {
        match servers.len() {
            0 => Err(Problem::new("there is no server in it").hint(value::RESOLVER)),
            1..=Self::SERVERS_MAX => Ok(Resolver::Servers(servers)),
            _ => Err(Problem::new(format!("more than {} servers", Self::SERVERS_MAX))
                .hint("those after the first few would never be asked")),
        }
    }

    /// Reads the address of one server.
    pub(super) fn parse_server(text: &str) -> Result<SocketAddr, Problem> {
        let with_port = |ip| SocketAddr::new(ip, Self::PORT);
        match text.parse().or_else(|_| text.parse().map(with_port)) {
            Ok(server) => check(refuse_mapped(server)?),
            Err(_) => Err(explain(text)),
        }
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resolver::ResolvConf => f.write_str("the servers of resolv.conf"),
            Resolver::Servers(servers) => f.write_str(&show_list(servers)),
            Resolver::System => f.write_str("\"system\""),
        }
    }
}

/// Refuses what no server can have.
fn check(server: SocketAddr) -> Result<SocketAddr, Problem> {
    let problem = match server {
        _ if is_nobody(server.ip()) => Problem::new("no single server has this address"),
        _ if server.port() == 0 => Problem::new("no server has port 0"),
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let hint = format!("with the interface's number: \"[{}%2]:{}\"", v6.ip(), v6.port());
            return Err(Problem::new("a link-local address needs its interface").hint(hint));
        }
        _ => return Ok(server),
    };
    Err(problem.hint(value::RESOLVER))
}

/// Whether no single host has this address.
pub(super) fn is_nobody(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    }
}

/// What is wrong with a server that did not parse.
fn explain(text: &str) -> Problem {
    if text == "system" {
        return Problem::new("\"system\" stands alone").hint("resolver = \"system\"");
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Problem::new("brackets are for an address with a port")
            .hint(format!("did you mean \"{ip}\"?"));
    }
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(_) => Problem::new("a port is a number from 1 to 65535"),
        Err(_) => Problem::new("an IP address is needed, not a name"),
    }
    .hint(value::RESOLVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_and_perhaps_a_port() {
        let parse = |text| Resolver::parse_server(text).map(|server| server.to_string());
        assert_eq!(parse("192.0.2.1").unwrap(), "192.0.2.1:53");
        assert_eq!(parse("192.0.2.1:5353").unwrap(), "192.0.2.1:5353");
        assert_eq!(parse("2001:db8::1").unwrap(), "[2001:db8::1]:53");
        assert_eq!(parse("[::1]:5353").unwrap(), "[::1]:5353");
        assert_eq!(parse("[fe80::1%2]:53").unwrap(), "[fe80::1%2]:53");
        let bad = [
            "",
            " ",
            "dns.example",
            "dns.example:53",
            "localhost",
            "192.0.2.1:0",
            "192.0.2.1:",
            "192.0.2.1:65536",
            "192.0.2.1:x",
            "[::1]",
            "[::1]:0",
            "0.0.0.0",
            "[::]:53",
            "224.0.0.1",
            "ff02::fb",
            "255.255.255.255",
            "fe80::1",
            "::ffff:192.0.2.1",
            "192.0.2.256",
            "system",
            "192.0.2.1,192.0.2.2",
            "1",
            ":53",
            "192.0.2.1/32",
            " 192.0.2.1",
        ];
        for bad in bad {
            assert!(Resolver::parse_server(bad).is_err(), "{bad:?}");
        }
    }
}
