//! Where to listen, and for whom.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::auth::AuthRule;
use super::choice::Choice;
use super::error::Problem;
use super::targets::TargetRule;
use super::value;

/// One `[[listen]]`: an address, who may connect to it, to what from there, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: ListenAddress,
    /// The networks clients may come from; everyone may if it is empty.
    pub clients: Vec<IpNet>,
    /// What they may connect to, never empty; if `None`, clients on this host may connect to
    /// everything, others to what is public.
    pub targets: Option<Vec<TargetRule>>,
    /// What they may ask for, never empty and none twice; if `None`, clients on loopback may ask
    /// for everything, others for CONNECT.
    pub commands: Option<Vec<ListenCommand>>,
    /// How clients log in, by where they are, never empty; if `None`, everyone must who can
    /// ([`Config::auth_rules`](super::Config::auth_rules)).
    pub auth: Option<Vec<AuthRule>>,
}

impl Listen {
    pub(super) fn at(address: ListenAddress) -> Listen {
        Listen { address, clients: Vec::new(), targets: None, commands: None, auth: None }
    }
}

/// What clients of a listener may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenCommand {
    /// CONNECT.
    Connect,
    /// UDP ASSOCIATE.
    Udp,
    /// BIND.
    Bind,
}

impl Choice for ListenCommand {
    const KIND: &'static str = "command";
    const ALL: &'static [Self] = &[ListenCommand::Connect, ListenCommand::Udp, ListenCommand::Bind];
    const ELSEWHERE: &'static [(&'static str, Self)] =
        &[("udpassociate", ListenCommand::Udp), ("associate", ListenCommand::Udp)];

    fn word(self) -> &'static str {
        match self {
            ListenCommand::Connect => "connect",
            ListenCommand::Udp => "udp",
            ListenCommand::Bind => "bind",
        }
    }
}

/// The shapes a listen address is written in. Port 0 is the kernel's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `1080`: 127.0.0.1 and, where the host has IPv6, `[::1]`.
    Loopback(u16),
    /// `:1080`: 0.0.0.0 and, where the host has IPv6, `[::]`.
    Every(u16),
    /// `192.0.2.1:1080`, `[2001:db8::1]:1080`: just this one.
    Exact(SocketAddr),
}

impl ListenAddress {
    /// The sockets to open, each with whether it must open: one that need not is left out on a
    /// host without IPv6.
    pub fn sockets(&self) -> impl Iterator<Item = (SocketAddr, bool)> + use<> {
        let pair = |v4: Ipv4Addr, v6: Ipv6Addr, port| {
            let v4 = SocketAddr::from((v4, port));
            let v6 = SocketAddr::from((v6, port));
            [Some((v4, true)), Some((v6, false))]
        };
        let sockets = match *self {
            ListenAddress::Loopback(port) => pair(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, port),
            ListenAddress::Every(port) => pair(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, port),
            ListenAddress::Exact(address) => [Some((address, true)), None],
        };
        sockets.into_iter().flatten()
    }

    /// Whether only this host can reach it.
    pub fn is_loopback(&self) -> bool {
        self.sockets().all(|(socket, _)| socket.ip().is_loopback())
    }

    pub(super) fn parse(text: &str) -> Result<ListenAddress, Problem> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if is_number(text) {
            return parse_port(text).map(ListenAddress::Loopback);
        }
        if let Some(port) = text.strip_prefix(':').filter(|port| is_number(port)) {
            return parse_port(port).map(ListenAddress::Every);
        }
        match text.parse::<SocketAddr>() {
            Ok(address) => refuse_mapped(address).map(ListenAddress::Exact),
            Err(_) => Err(explain(text)),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Loopback(port) => write!(f, "{port}"),
            ListenAddress::Every(port) => write!(f, ":{port}"),
            ListenAddress::Exact(address) => address.fmt(f),
        }
    }
}

/// Adds a listener, unless one of its sockets is there already.
pub(super) fn add(list: &mut Vec<Listen>, new: Listen) -> Result<(), Problem> {
    let is_ours = |(socket, _): &(SocketAddr, bool)| {
        socket.port() != 0 && new.address.sockets().any(|(ours, _)| ours == *socket)
    };
    let clash = list
        .iter()
        .find_map(|other| Some((other.address, other.address.sockets().find(is_ours)?.0)));
    match clash {
        None => {
            list.push(new);
            Ok(())
        }
        Some((other, socket)) => Err(Problem::new(format!("{socket} is listened on twice"))
            .hint(format!("the listener \"{other}\" has it already"))),
    }
}

/// Reads a network; a bare address is the network of itself.
pub(super) fn parse_network(text: &str) -> Result<IpNet, Problem> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return refuse_mapped_network(IpNet::from(address));
    }
    let Some((address, prefix)) = text.split_once('/') else {
        return Err(Problem::new("this is not an IP address").hint(value::NETWORK));
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(Problem::new("this is not an IP network").hint(value::NETWORK));
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    let network = prefix.parse().ok().filter(|_| digits).and_then(|n| IpNet::new(address, n).ok());
    let Some(network) = network else {
        return Err(
            Problem::new(format!("a prefix is a number from 0 to {most}")).hint(value::NETWORK)
        );
    };
    if network != network.trunc() {
        // Guessing the wider reading would let in more than was meant.
        return Err(Problem::new(format!("{address} is not the start of a network of /{prefix}"))
            .hint(format!("\"{}\" for the network, \"{address}\" for it alone", network.trunc())));
    }
    refuse_mapped_network(network)
}

fn parse_port(text: &str) -> Result<u16, Problem> {
    let problem = || Problem::new("a port is a number from 0 to 65535").hint(value::ADDRESS);
    text.parse().map_err(|_| problem())
}

/// Our IPv6 sockets take IPv6 only, so an IPv4-mapped address could not be bound.
pub(super) fn refuse_mapped(address: SocketAddr) -> Result<SocketAddr, Problem> {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) if address.is_ipv6() => {
            Err(Problem::new("this is an IPv4 address written as IPv6")
                .hint(format!("\"{v4}:{}\"", address.port())))
        }
        _ => Ok(address),
    }
}

/// Addresses are compared in their own family: nothing would ever be in such a network.
fn refuse_mapped_network(network: IpNet) -> Result<IpNet, Problem> {
    match network.addr().to_canonical() {
        IpAddr::V4(v4) if network.max_prefix_len() == 128 && network.prefix_len() >= 96 => {
            Err(Problem::new("this is an IPv4 network written as IPv6")
                .hint(format!("\"{v4}/{}\"", network.prefix_len() - 96)))
        }
        _ => Ok(network),
    }
}

/// What is wrong with an address that did not parse.
fn explain(text: &str) -> Problem {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => {
            return Problem::new("the port is missing").hint(format!("\"{v4}:1080\""));
        }
        Ok(IpAddr::V6(v6)) => {
            return Problem::new("the port is missing").hint(format!("\"[{v6}]:1080\""));
        }
        Err(_) => {}
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Problem::new("this is not a listen address").hint(value::ADDRESS);
    };
    if host == "*" {
        return Problem::new("this is not a listen address")
            .hint(format!("did you mean \":{port}\"?"));
    }
    let unbracketed = host.trim_start_matches('[').trim_end_matches(']');
    match unbracketed.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if port.parse::<u16>().is_ok() => {
            Problem::new("an IPv6 address stands in brackets").hint(format!("\"[{v6}]:{port}\""))
        }
        Ok(_) => Problem::new("a port is a number from 0 to 65535").hint(value::ADDRESS),
        Err(_) => Problem::new("an IP address is needed, not a name").hint(value::ADDRESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(text: &str) -> Vec<(String, bool)> {
        let address = ListenAddress::parse(text).unwrap();
        assert_eq!(address.to_string(), text);
        address.sockets().map(|(socket, required)| (socket.to_string(), required)).collect()
    }

    #[test]
    fn every_shape_opens_its_sockets() {
        let owned = |list: &[(&str, bool)]| -> Vec<(String, bool)> {
            list.iter().map(|&(socket, required)| (socket.to_owned(), required)).collect()
        };
        assert_eq!(sockets("1080"), owned(&[("127.0.0.1:1080", true), ("[::1]:1080", false)]));
        assert_eq!(sockets(":1080"), owned(&[("0.0.0.0:1080", true), ("[::]:1080", false)]));
        assert_eq!(sockets("0"), owned(&[("127.0.0.1:0", true), ("[::1]:0", false)]));
        assert_eq!(sockets("192.0.2.1:80"), owned(&[("192.0.2.1:80", true)]));
        assert_eq!(sockets("[2001:db8::1]:80"), owned(&[("[2001:db8::1]:80", true)]));
    }

    #[test]
    fn only_loopback_is_loopback() {
        let is_loopback = |text| ListenAddress::parse(text).unwrap().is_loopback();
        assert!(is_loopback("1080") && is_loopback("127.9.9.9:1") && is_loopback("[::1]:1"));
        assert!(!is_loopback(":1080") && !is_loopback("0.0.0.0:1") && !is_loopback("[::]:1"));
        assert!(!is_loopback("10.0.0.1:1") && !is_loopback("[fe80::1]:1"));
    }

    #[test]
    fn a_network_is_exact_about_its_prefix() {
        let parse = |text| parse_network(text).map(|network| network.to_string());
        assert_eq!(parse("10.0.0.0/8").unwrap(), "10.0.0.0/8");
        assert_eq!(parse("10.0.0.1").unwrap(), "10.0.0.1/32");
        assert_eq!(parse("2001:db8::1").unwrap(), "2001:db8::1/128");
        assert_eq!(parse("::/0").unwrap(), "::/0");
        for bad in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "::/129", "10/8"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in ["10.0.0.1/8", "example.com", "", "/8", "10.0.0.0/255.0.0.0", " 10.0.0.1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
