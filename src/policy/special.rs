//! Addresses that are not what they seem: special ones, and IPv6 addresses with IPv4 ones inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// The IANA IPv4 Special-Purpose Address Registry, multicast, and what is reserved.
const SPECIAL_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// All that IANA gives out to the public Internet. Loopback, unique local, link-local, site-local
/// and multicast addresses, NAT64 and the other embeddings below `::/8` are outside of it.
const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 0, 3);

/// What is special inside [`GLOBAL_UNICAST`] (IANA IPv6 Special-Purpose Address Registry):
/// protocol assignments with Teredo, documentation, 6to4.
const SPECIAL_V6: [Ipv6Net; 4] =
    [v6(0x2001, 0, 0, 23), v6(0x2001, 0xdb8, 0, 32), v6(0x2002, 0, 0, 16), v6(0x3fff, 0, 0, 20)];

const COMPATIBLE: Ipv6Net = v6(0, 0, 0, 96);
const SIIT: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96);
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);
const LOCAL_NAT64: Ipv6Net = v6(0x64, 0xff9b, 1, 48);
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 0, 16);
const TEREDO: Ipv6Net = v6(0x2001, 0, 0, 32);

/// Whether an address, in canonical form, is one of the public Internet.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !SPECIAL_V4.iter().any(|network| network.contains(&ip)),
        IpAddr::V6(ip) => {
            GLOBAL_UNICAST.contains(&ip) && !SPECIAL_V6.iter().any(|network| network.contains(&ip))
        }
    }
}

/// The IPv4 addresses that `ip` may lead to, for who knows of it by a network of `prefix` bits.
pub(super) fn embedded(ip: IpAddr, prefix: u8) -> impl Iterator<Item = Ipv4Addr> {
    let found = match ip {
        IpAddr::V4(_) => [None; 4],
        IpAddr::V6(ip) => embedded_in(ip, prefix),
    };
    found.into_iter().flatten().map(Ipv4Addr::from_bits)
}

fn embedded_in(ip: Ipv6Addr, prefix: u8) -> [Option<u32>; 4] {
    let bits = ip.to_bits();
    let last = bits as u32;
    let is_in = |network: Ipv6Net| network.contains(&ip);
    match () {
        () if ip.is_loopback() => [None; 4],
        () if is_in(COMPATIBLE) || is_in(SIIT) || is_in(NAT64) => [Some(last), None, None, None],
        () if is_in(LOCAL_NAT64) => translated(bits, prefix),
        () if is_in(SIX_TO_FOUR) => [Some((bits >> 80) as u32), None, None, None],
        // The server's, and the client's with its bits turned over (RFC 4380 section 4).
        () if is_in(TEREDO) => [Some((bits >> 64) as u32), Some(!last), None, None],
        () => [None; 4],
    }
}

/// Where an IPv4 address is behind a translator's prefix depends on the length of that
/// (RFC 6052 section 2.2): around bits 64 to 71 if it is 48, 56 or 64, at the end if it is 96.
///
/// A network of /64 or longer says which. A shorter one may hold prefixes of several lengths: then
/// it is each of them, for otherwise one that the translator does not read could open the door to
/// one that it does.
fn translated(bits: u128, prefix: u8) -> [Option<u32>; 4] {
    let around = ((bits >> 64) << 64) | u128::from((bits as u64) << 8);
    let at = |start: u8, bits: u128| {
        let is_said = match prefix {
            0..64 => start >= prefix,
            64 => start == 64,
            _ => start == 96,
        };
        is_said.then_some((bits >> (96 - start)) as u32)
    };
    [at(48, around), at(56, around), at(64, around), at(96, bits)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// An address, so far from it.
    fn beside(ip: IpAddr, step: i8) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => {
                Ipv4Addr::from_bits(ip.to_bits().wrapping_add_signed(step.into())).into()
            }
            IpAddr::V6(ip) => {
                Ipv6Addr::from_bits(ip.to_bits().wrapping_add_signed(step.into())).into()
            }
        }
    }

    #[test]
    fn special_networks_begin_and_end_where_the_registries_say() {
        // Whether the addresses right before and behind it are public.
        let networks = [
            ("0.0.0.0", "0.255.255.255", false, true),
            ("10.0.0.0", "10.255.255.255", true, true),
            ("100.64.0.0", "100.127.255.255", true, true),
            ("127.0.0.0", "127.255.255.255", true, true),
            ("169.254.0.0", "169.254.255.255", true, true),
            ("172.16.0.0", "172.31.255.255", true, true),
            ("192.0.0.0", "192.0.0.255", true, true),
            ("192.0.2.0", "192.0.2.255", true, true),
            ("192.88.99.0", "192.88.99.255", true, true),
            ("192.168.0.0", "192.168.255.255", true, true),
            ("198.18.0.0", "198.19.255.255", true, true),
            ("198.51.100.0", "198.51.100.255", true, true),
            ("203.0.113.0", "203.0.113.255", true, true),
            ("224.0.0.0", "239.255.255.255", true, false),
            ("240.0.0.0", "255.255.255.255", false, false),
            ("::", "::", false, false),
            ("::1", "::1", false, false),
            ("::", "::ffff:ffff", false, false),
            ("::ffff:0:0:0", "::ffff:0:ffff:ffff", false, false),
            ("64:ff9b::", "64:ff9b::ffff:ffff", false, false),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", false, false),
            ("100::", "100::ffff:ffff:ffff:ffff", false, false),
            ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", true, false),
            ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", true, true),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true, true),
            ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true, true),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", true, true),
            ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true, false),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, false),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, false),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, false),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, false),
            ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, true),
        ];
        for (first, last, before, behind) in networks {
            assert!(!is_public(ip(first)) && !is_public(ip(last)), "{first} to {last}");
            assert_eq!(is_public(beside(ip(first), -1)), before, "before {first}");
            assert_eq!(is_public(beside(ip(last), 1)), behind, "behind {last}");
        }
        let metadata = ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192"];
        assert!(!metadata.iter().any(|text| is_public(ip(text))));
        let public = ["1.1.1.1", "8.8.8.8", "223.255.255.255", "2606:4700::1111", "2a00:1450::1"];
        assert!(public.iter().all(|text| is_public(ip(text))));
    }

    fn inside(text: &str, prefix: u8) -> Vec<String> {
        embedded(ip(text), prefix).map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn every_embedding_is_seen_through() {
        let addresses = [
            ("::192.0.2.33", &["192.0.2.33"][..]),
            ("::ffff:0:192.0.2.33", &["192.0.2.33"]),
            ("64:ff9b::192.0.2.33", &["192.0.2.33"]),
            ("2002:c000:221::1", &["192.0.2.33"]),
            // The example of RFC 4380 section 5.2.5: a server, and a client in bits turned over.
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", &["65.54.227.120", "192.0.2.45"]),
            ("::1", &[]),
            ("2001:db8::192.0.2.33", &[]),
            ("64:ff9b:2::192.0.2.33", &[]),
            ("64:ff9b:0:0:0:1:192.0.2.33", &[]),
            ("192.0.2.33", &[]),
        ];
        for (text, expected) in addresses {
            assert_eq!(inside(text, 96), expected, "{text}");
            assert_eq!(inside(text, 0), expected, "{text}");
        }
    }

    /// The examples of RFC 6052 section 2.4, in the prefix of RFC 8215.
    #[test]
    fn a_translated_address_stands_where_the_prefix_says() {
        let (of_48, of_56) = ("64:ff9b:1:c000:2:2100::", "64:ff9b:1:c0:0:221::");
        let (of_64, of_96) = ("64:ff9b:1:122:c0:2:2100::", "64:ff9b:1:122::192.0.2.33");
        assert_eq!(inside(of_64, 64), ["192.0.2.33"]);
        for prefix in [65, 96, 104, 128] {
            assert_eq!(inside(of_96, prefix), ["192.0.2.33"]);
        }
        assert_eq!(inside(of_56, 56)[0], "192.0.2.33");
        for prefix in [0, 32, 48] {
            assert_eq!(inside(of_48, prefix)[0], "192.0.2.33");
            assert_eq!(inside(of_56, prefix)[1], "192.0.2.33");
            assert_eq!(inside(of_64, prefix)[2], "192.0.2.33");
            assert_eq!(inside(of_96, prefix)[3], "192.0.2.33");
        }
        assert_eq!(inside(of_96, 56).len(), 3);
        assert_eq!(inside(of_96, 57).len(), 2);
    }
}
