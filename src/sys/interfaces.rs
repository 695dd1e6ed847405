#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr::{self, NonNull};

/// The addresses of this host's interfaces (`getifaddrs(3)`), each once.
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    let list = Interfaces::list()?;
    let mut addresses: Vec<IpAddr> = list.iter().filter_map(address_of).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// The index of an interface (`if_nametoindex(3)`), by which a socket address names it.
pub fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a live string that ends in NUL.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// What `getifaddrs(3)` allocated.
struct Interfaces(*mut libc::ifaddrs);

impl Interfaces {
    fn list() -> io::Result<Interfaces> {
        let mut first = ptr::null_mut();
        // SAFETY: `first` is a live pointer to write the head of the list to.
        match unsafe { libc::getifaddrs(&mut first) } {
            0 => Ok(Interfaces(first)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &libc::ifaddrs> {
        // SAFETY: the head and every `ifa_next` are null or point to entries that live until the
        // list is freed, which is when `self` is dropped, and nobody writes to them.
        let entry = |at: *mut libc::ifaddrs| unsafe { at.as_ref() };
        std::iter::successors(entry(self.0), move |it| entry(it.ifa_next))
    }
}

impl Drop for Interfaces {
    fn drop(&mut self) {
        // SAFETY: the list came from `getifaddrs`, and nothing borrowed from it is left.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

/// The IP address of an entry, if it has one.
fn address_of(entry: &libc::ifaddrs) -> Option<IpAddr> {
    let address = NonNull::new(entry.ifa_addr)?;
    // SAFETY: it points to a socket address, which begins with its family and is as long as that
    // says; it need not be aligned for its type.
    unsafe {
        match i32::from(address.cast::<libc::sa_family_t>().read_unaligned()) {
            libc::AF_INET => {
                let address = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes()).into())
            }
            libc::AF_INET6 => {
                let address = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{SocketAddr, UdpSocket};

    use super::*;

    #[test]
    fn the_addresses_are_those_that_can_be_bound() {
        let addresses = local_addresses().unwrap();
        assert!(addresses.contains(&Ipv4Addr::LOCALHOST.into()), "{addresses:?}");
        // A link-local address needs its interface besides, and one that is being probed for
        // duplicates cannot be bound yet.
        let bindable = addresses.iter().filter(|ip| ip.is_ipv4() || ip.is_loopback());
        for &ip in bindable {
            UdpSocket::bind(SocketAddr::new(ip, 0)).unwrap_or_else(|it| panic!("{ip}: {it}"));
        }
        assert!(addresses.windows(2).all(|pair| pair[0] < pair[1]), "each is there once");
    }

    #[test]
    fn an_interface_has_the_index_that_the_kernel_says() {
        let said = fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        assert_eq!(interface_index("lo"), Some(said.trim().parse().unwrap()));
        assert_eq!(interface_index("none such"), None);
        assert_eq!(interface_index("lo\0"), None);
    }

    /// What the kernel says elsewhere: it takes datagrams for these itself.
    #[test]
    fn none_that_the_kernel_takes_for_its_own_is_missing() {
        let addresses = local_addresses().unwrap();
        let routes = fs::read_to_string("/proc/net/fib_trie").unwrap();
        let lines: Vec<_> = routes.lines().map(str::trim).collect();
        let is_ours = |pair: &&[&str]| pair[1] == "/32 host LOCAL";
        let v4 = lines.windows(2).filter(is_ours).map(|pair| {
            let text = pair[0].trim_start_matches(['|', '-', ' ']);
            IpAddr::V4(text.parse().unwrap())
        });
        // There is no such file without IPv6.
        let v6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let v6 = v6.lines().map(|line| {
            let digits = line.split(' ').next().unwrap();
            IpAddr::V6(Ipv6Addr::from_bits(u128::from_str_radix(digits, 16).unwrap()))
        });
        let known: Vec<_> = v4.chain(v6).collect();
        assert!(!known.is_empty());
        for ip in known {
            assert!(addresses.contains(&ip), "{ip} is not in {addresses:?}");
        }
    }
}
