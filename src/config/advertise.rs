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

#[cfg(test)]
mod tests {
    use super::*;

    fn advertise(entries: &[&str]) -> Result<Advertise, Problem> {
        Advertise::of(entries.iter().map(|text| Told::parse(text).unwrap()).collect())
    }

    fn told(entries: &[&str], who: &str, own: &str) -> String {
        let [who, own] = [who, own].map(|text| text.parse().unwrap());
        advertise(entries).unwrap().address_for(who, own).to_string()
    }

    #[test]
    fn the_first_that_is_for_somebody_is_told() {
        let entries = [
            "10.9.0.0/16=10.9.0.1",
            "10.0.0.0/8=10.0.0.1",
            "2001:db8::/32=2001:db8::1",
            "203.0.113.7",
        ];
        let cases = [
            ("10.9.1.2", "192.168.0.1", "10.9.0.1"),
            ("10.1.2.3", "192.168.0.1", "10.0.0.1"),
            ("192.0.2.1", "192.168.0.1", "203.0.113.7"),
            ("2001:db8::9", "fd00::1", "2001:db8::1"),
            // Nobody said what these are told.
            ("2001:db9::9", "fd00::1", "fd00::1"),
            // The family is that of the socket, whoever asks.
            ("10.1.2.3", "fd00::1", "fd00::1"),
            ("2001:db8::9", "192.168.0.1", "203.0.113.7"),
            // An address translator is not between us and ourselves.
            ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "192.168.0.1", "192.168.0.1"),
            ("192.168.0.1", "127.0.0.2", "127.0.0.2"),
            // An IPv4 address is one, however it is written.
            ("::ffff:10.1.2.3", "::ffff:192.168.0.1", "10.0.0.1"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"),
        ];
        for (who, own, expected) in cases {
            assert_eq!(told(&entries, who, own), expected, "{who} of {own}");
            assert_eq!(
                told(&[], who, own),
                own.parse::<IpAddr>().unwrap().to_canonical().to_string(),
                "{who} of {own}, with nothing to tell"
            );
        }
    }

    #[test]
    fn loopback_is_told_what_is_said_to_be_for_it() {
        let entries = ["203.0.113.7", "127.0.0.0/8=127.0.0.9", "::1=::2"];
        assert_eq!(told(&entries, "127.0.0.1", "127.0.0.1"), "127.0.0.9");
        assert_eq!(told(&entries, "::1", "::1"), "::2");
        assert_eq!(told(&["0.0.0.0/0=192.0.2.9"], "127.0.0.1", "127.0.0.1"), "192.0.2.9");
    }

    #[test]
    fn an_entry_that_is_for_nobody_is_refused() {
        let dead: [&[&str]; 5] = [
            &["203.0.113.7", "203.0.113.8"],
            &["203.0.113.7", "10.0.0.0/8=10.0.0.1"],
            &["10.0.0.0/8=10.0.0.1", "10.9.0.0/16=10.9.0.1"],
            &["10.0.0.0/8=10.0.0.1", "10.0.0.0/8=10.0.0.2"],
            &["::/0=2001:db8::1", "fd00::/8=fd00::1"],
        ];
        for entries in dead {
            let problem = advertise(entries).expect_err(entries[1]);
            assert_eq!(problem.item(), Some(1), "{problem:?}");
        }
        let live: [&[&str]; 4] = [
            &["203.0.113.7", "2001:db8::7"],
            &["10.9.0.0/16=10.9.0.1", "10.0.0.0/8=10.0.0.1", "203.0.113.7"],
            &["10.0.0.0/8=10.0.0.1", "10.0.0.0/8=2001:db8::1"],
            &["203.0.113.7", "127.0.0.0/8=127.0.0.1"],
        ];
        for entries in live {
            let shown: Vec<_> =
                advertise(entries).unwrap().entries().iter().map(ToString::to_string).collect();
            assert_eq!(shown, entries);
        }
    }

    #[test]
    fn what_nobody_can_be_told_is_refused() {
        let nobody = ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::1=0.0.0.0"];
        let mapped = ["::ffff:192.0.2.1", "10.0.0.0/8=::ffff:192.0.2.1", "::ffff:0.0.0.0"];
        let mapped_network = ["::ffff:10.0.0.0/104=10.0.0.1"];
        let with_port = ["192.0.2.1:1080", "[2001:db8::1]:1080", "10.0.0.0/8=192.0.2.1:0"];
        let network = ["10.0.0.0/8", "10.0.0.1=10.0.0.0/8"];
        let name = ["", "gateway.example", "10.0.0.0/8=", "::1=::2=::3", "[::1]", "192.0.2.1,::1"];
        let who = ["=10.0.0.1", "lan=10.0.0.1", "10.0.0.1/8=10.0.0.1", "::/129=::1", "="];
        let bad = [
            ("nobody can send to", &nobody[..]),
            ("IPv4 address written as IPv6", &mapped),
            ("IPv4 network written as IPv6", &mapped_network),
            ("the port is not told", &with_port),
            ("this is a network", &network),
            ("an IP address is needed", &name),
            ("", &who),
        ];
        for (expected, texts) in bad {
            for text in texts {
                let problem = format!("{:?}", Told::parse(text).expect_err(text));
                assert!(problem.contains(expected), "{text:?}: {problem}");
            }
        }
    }
}
