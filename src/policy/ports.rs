use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use crate::config::PortRange;
use crate::logging::Throttle;

/// Ports that clients are given for a while, out of a range, and which of all ports of this host are
/// ours. Reactors share it: it is touched when a port is taken and when it is given back.
pub struct Ports {
    range: PortRange,
    /// Where in the range to look next: whoever foretells a port may race a client to it.
    next: AtomicU32,
    /// One bit a port, of IPv4 and of IPv6.
    ours: [Box<[AtomicU64]>; 2],
    refusals: Throttle,
}

/// A port of ours, for as long as it is there. Drop it before the socket: somebody may have the port
/// again as soon as that is closed.
pub struct Claim {
    ports: Arc<Ports>,
    is_v6: bool,
    port: u16,
}

/// Why no port could be taken.
#[derive(Debug)]
pub enum NoPort {
    /// All that were tried are in use.
    Full(PortRange),
    /// The first that was free could not be used.
    Unusable(io::Error),
}

impl Ports {
    /// How many ports that somebody else has are tried for one client: each costs system calls.
    const OTHERS_MAX: usize = 256;
    /// How often the kernel is asked for a port: it may choose one that is ours at another address.
    const KERNEL_CHOICES: u32 = 16;
    const PORTS: usize = 1 << 16;

    /// Ports from this range, beginning at a random place; none is taken.
    pub fn new(range: PortRange, random: u32) -> Ports {
        let none = || (0..Self::PORTS / 64).map(|_| AtomicU64::new(0)).collect();
        Ports {
            range,
            next: AtomicU32::new(random),
            ours: [none(), none()],
            refusals: Throttle::new(),
        }
    }

    /// Takes a port of the range at `ip`, of which `open` makes a socket.
    pub fn take<T>(
        self: &Arc<Ports>,
        ip: IpAddr,
        mut open: impl FnMut(u16) -> io::Result<(T, u16)>,
    ) -> Result<(T, Claim), NoPort> {
        let mut others = 0;
        for (passed, port) in self.candidates().enumerate() {
            if others == Self::OTHERS_MAX {
                self.pass_over(passed);
                break;
            }
            if port != 0 && self.is_claimed(ip, port) {
                continue;
            }
            match open(port) {
                Ok((socket, port)) => {
                    if let Some(claim) = self.claim(ip, port) {
                        self.pass_over(passed);
                        return Ok((socket, claim));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(NoPort::Unusable(error)),
            }
            others += 1;
        }
        Err(NoPort::Full(self.range))
    }

    /// Says to the operator, now and then, that a client got none; `what` it was for.
    pub fn tell(&self, refused: &NoPort, what: &str, now: Instant) {
        let Some(more) = self.refusals.allow(now) else { return };
        let more = if more > 0 { format!("; {more} times more until now") } else { String::new() };
        match refused {
            NoPort::Full(range) => log::warn!("no free port of {range} is found for {what}{more}"),
            NoPort::Unusable(error) => log::warn!("no port for {what}: {error}{more}"),
        }
    }

    /// Makes a port ours that a socket has already; `None`: it is, at another address.
    pub fn claim(self: &Arc<Ports>, ip: IpAddr, port: u16) -> Option<Claim> {
        let is_v6 = is_v6(ip);
        let (word, bit) = self.place(is_v6, port);
        let before = word.fetch_or(bit, Ordering::AcqRel);
        let claim = || Claim { ports: Arc::clone(self), is_v6, port };
        (before & bit == 0).then(claim)
    }

    /// Whether it is a port of ours, if `ip` is an address of this host.
    pub fn is_claimed(&self, ip: IpAddr, port: u16) -> bool {
        let (word, bit) = self.place(is_v6(ip), port);
        word.load(Ordering::Acquire) & bit != 0
    }

    /// The next client is not to try these again.
    fn pass_over(&self, ports: usize) {
        self.next.fetch_add(ports as u32, Ordering::Relaxed);
    }

    /// Every port of the range, each time from another one on.
    fn candidates(&self) -> impl Iterator<Item = u16> + use<> {
        let (first, count) = (self.range.first(), self.range.count() as u32);
        let tries = if self.range.is_any() { Self::KERNEL_CHOICES } else { count };
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        (0..tries)
            .map(move |n| first + ((u64::from(start) + u64::from(n)) % u64::from(count)) as u16)
    }

    fn place(&self, is_v6: bool, port: u16) -> (&AtomicU64, u64) {
        let words = &self.ours[usize::from(is_v6)];
        (&words[usize::from(port) / 64], 1 << (port % 64))
    }
}

impl Claim {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (word, bit) = self.ports.place(self.is_v6, self.port);
        word.fetch_and(!bit, Ordering::AcqRel);
    }
}

fn is_v6(ip: IpAddr) -> bool {
    ip.to_canonical().is_ipv6()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Config;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    fn ports(range: &str, random: u32) -> Arc<Ports> {
        let config = Config::parse("test", &format!("udp.ports = {range:?}")).unwrap();
        Ports::new(config.udp.ports, random).into()
    }

    fn take(ports: &Arc<Ports>, ip: IpAddr) -> Result<Claim, NoPort> {
        ports.take(ip, |port| Ok(((), port))).map(|((), claim)| claim)
    }

    #[test]
    fn each_port_is_given_once_until_it_comes_back() {
        for random in [0, 7, u32::MAX - 3] {
            let ports = ports("40000-40009", random);
            let mut claims: Vec<Claim> = (0..10).map(|_| take(&ports, V4).unwrap()).collect();
            let given: BTreeSet<u16> = claims.iter().map(Claim::port).collect();
            assert_eq!(given, (40_000..=40_009).collect());
            assert!(matches!(take(&ports, V4), Err(NoPort::Full(_))));
            assert!(take(&ports, V6).is_ok(), "IPv6 has ports of its own");
            let back = claims.remove(3).port();
            assert!(!ports.is_claimed(V4, back));
            assert_eq!(take(&ports, V4).unwrap().port(), back);
        }
    }

    #[test]
    fn it_goes_round_from_a_random_place() {
        let ports = ports("40000-40999", 123_456);
        let taken: Vec<u16> = (0..1001).map(|_| take(&ports, V4).unwrap().port()).collect();
        assert_eq!(taken[0], 40_456);
        assert_eq!(taken[1], 40_457);
        assert_eq!(taken[1000], 40_456);
    }

    #[test]
    fn what_others_have_is_passed_over() {
        let ports = ports("40000-40003", 0);
        let in_use = || io::Error::from_raw_os_error(libc::EADDRINUSE);
        let free = |port| if port == 40_002 { Ok(((), port)) } else { Err(in_use()) };
        let ((), claim) = ports.take(V4, free).unwrap();
        assert_eq!(claim.port(), 40_002);
        assert!(matches!(ports.take(V4, |_| Err::<((), u16), _>(in_use())), Err(NoPort::Full(_))));
        let broken = || io::Error::from_raw_os_error(libc::EMFILE);
        let refused = ports.take(V4, |_| Err::<((), u16), _>(broken()));
        assert!(
            matches!(refused, Err(NoPort::Unusable(error)) if error.raw_os_error() == Some(libc::EMFILE))
        );
    }

    #[test]
    fn a_crowded_range_is_given_up_in_time() {
        let ports = ports("1024-65535", 0);
        let mut tried = 0;
        let refused = ports.take(V4, |_| {
            tried += 1;
            Err::<((), u16), _>(io::Error::from_raw_os_error(libc::EADDRINUSE))
        });
        assert!(matches!(refused, Err(NoPort::Full(_))));
        assert_eq!(tried, Ports::OTHERS_MAX);
    }

    #[test]
    fn the_kernel_may_choose() {
        let ports = ports("0", 5);
        let ((), claim) = ports.take(V4, |port| Ok(((), port + 50_000))).unwrap();
        assert_eq!(claim.port(), 50_000);
        assert!(ports.is_claimed(V4, 50_000));
        assert!(ports.is_claimed("::ffff:127.0.0.1".parse().unwrap(), 50_000));
        assert!(!ports.is_claimed(V6, 50_000));
        assert!(ports.claim(V4, 50_000).is_none(), "it is ours already");
        drop(claim);
        assert!(ports.claim(V4, 50_000).is_some());
    }
}
