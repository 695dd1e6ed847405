//! Which address of ours others are told.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::error::Problem;
use super::listen::parse_network;
use super::resolver::is_nobody;
use super::value;

/// The addresses to tell others instead of those that our sockets have, as an address translator
/// between them and us asks for; nothing is told instead if it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertise(Vec<Told>);

/// An address, and who is told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Everyone who does not come over loopback if `None`.
    to: Option<IpNet>,
    address: IpAddr,
}

impl Advertise {
    /// What to tell `who` of a socket whose own address is `own`: the first entry of that family
    /// that is for `who`, else `own` itself; never IPv4-mapped.
    pub fn address_for(&self, who: IpAddr, own: IpAddr) -> IpAddr {
        let (who, own) = (who.to_canonical(), own.to_canonical());
        let is_inside = who.is_loopback() || own.is_loopback();
        let is_for = |told: &&Told| match told.to {
            Some(network) => network.contains(&who),
            None => !is_inside,
        };
        let mut family = self.0.iter().filter(|told| told.address.is_ipv4() == own.is_ipv4());
        family.find(is_for).map_or(own, |told| told.address)
    }

    /// Refuses an entry that those before it leave nobody to.
    pub(super) fn of(entries: Vec<Told>) -> Result<Advertise, Problem> {
        for (index, late) in entries.iter().enumerate() {
            if let Some(early) = entries[..index].iter().find(|early| early.covers(late)) {
                let problem = format!("nobody would be told it: \"{early}\" stands before it");
                let hint =
                    "the first that fits counts: small networks first, addresses without last";
                return Err(Problem::new(problem).hint(hint).in_item(index));
            }
        }
        Ok(Advertise(entries))
    }

    pub(super) fn entries(&self) -> &[Told] {
        &self.0
    }
}

impl Told {
    pub(super) fn parse(text: &str) -> Result<Told, Problem> {
        let Some((network, address)) = text.split_once('=') else {
            return Ok(Told { to: None, address: parse_address(text)? });
        };
        let to = Some(parse_network(network.trim())?);
        Ok(Told { to, address: parse_address(address.trim())? })
    }

    /// Whether all who would be told `other` are told this.
    fn covers(&self, other: &Told) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && match (self.to, other.to) {
                (None, None) => true,
                (None, Some(theirs)) => !theirs.addr().is_loopback(),
                (Some(ours), Some(theirs)) => ours.contains(&theirs),
                (Some(_), None) => false,
            }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Some(network) => write!(f, "{network}={}", self.address),
            None => self.address.fmt(f),
        }
    }
}

fn parse_address(text: &str) -> Result<IpAddr, Problem> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(explain(text));
    };
    match address.to_canonical() {
        IpAddr::V4(v4) if address.is_ipv6() => {
            Err(Problem::new("this is an IPv4 address written as IPv6").hint(format!("\"{v4}\"")))
        }
        _ if is_nobody(address) => {
            Err(Problem::new("nobody can send to this address").hint(value::ADVERTISE))
        }
        _ => Ok(address),
    }
}

/// What is wrong with an address that did not parse.
fn explain(text: &str) -> Problem {
    let problem = match text.parse::<std::net::SocketAddr>() {
        Ok(_) => Problem::new("the port is not told here: it is one of `ports`"),
        Err(_) if parse_network(text).is_ok() => {
            return Problem::new("this is a network: what are those in it told?")
                .hint(value::ADVERTISE);
        }
        Err(_) => Problem::new("an IP address is needed, not a name"),
    };
    problem.hint(value::ADVERTISE)
}
