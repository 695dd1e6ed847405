#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};

/// The networks whose packets the kernel takes for its own (the table `local`, ip-route(8)): the
/// addresses of interfaces, and what else is routed to this host. Each is there once.
pub fn local_networks() -> io::Result<Vec<IpNet>> {
    let socket = open()?;
    let mut networks = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        socket.send(&request(family as u8))?;
        receive(&socket, &mut networks)?;
    }
    networks.sort_unstable();
    networks.dedup();
    Ok(networks)
}

const HEADER_BYTES: usize = 16;
const ROUTE_BYTES: usize = 12;
/// As large as the kernel's messages get.
const BUFFER_BYTES: usize = 32 * 1024;

fn open() -> io::Result<Socket> {
    let kind = Type::RAW.cloexec();
    let protocol = Some(Protocol::from(libc::NETLINK_ROUTE));
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), kind, protocol)?;
    // The kernel answers at once; nobody waits for ever if it does not.
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    filter_strictly(&socket);
    Ok(socket)
}

/// Makes the kernel leave out what was not asked for. An old one that cannot tells of all routes.
fn filter_strictly(socket: &Socket) {
    const GET_STRICT_CHK: libc::c_int = 12;
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a live integer, and its length is given.
    unsafe {
        let (value, len) = ((&raw const on).cast(), mem::size_of_val(&on) as u32);
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, GET_STRICT_CHK, value, len);
    }
}

/// Asks for all local routes of a family (rtnetlink(7)).
fn request(family: u8) -> Vec<u8> {
    const REQUEST_DUMP: u16 = 0x301;
    let mut bytes = Vec::new();
    bytes.extend(((HEADER_BYTES + ROUTE_BYTES) as u32).to_ne_bytes());
    bytes.extend(libc::RTM_GETROUTE.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0, libc::RT_TABLE_LOCAL, 0, 0, libc::RTN_LOCAL]);
    bytes.extend([0; 4]);
    bytes
}

/// Receives the answer to one request.
fn receive(socket: &Socket, networks: &mut Vec<IpNet>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let len = io::Read::read(&mut &*socket, &mut buffer)?;
        let mut rest = &buffer[..len];
        while let Some((kind, message)) = next_message(&mut rest) {
            const ERROR: u16 = 2;
            const DONE: u16 = 3;
            match kind {
                DONE => return Ok(()),
                ERROR => return check(message),
                libc::RTM_NEWROUTE => networks.extend(read_route(message)),
                _ => {}
            }
        }
    }
}

/// A family that is switched off has no routes.
fn check(error: &[u8]) -> io::Result<()> {
    match error.first_chunk().map_or(libc::EBADMSG, |code| -i32::from_ne_bytes(*code)) {
        0 | libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// The kind of the first message (netlink(7)), and what is in it.
fn next_message<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let len = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*rest.get(4..)?.first_chunk()?);
    let message = rest.get(HEADER_BYTES..len)?;
    *rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, message))
}

/// The kind of the first attribute (rtnetlink(7)), and its value.
fn next_attribute<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let len = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
    let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
    let value = rest.get(4..len)?;
    *rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, value))
}

/// The network of a local route.
fn read_route(message: &[u8]) -> Option<IpNet> {
    let &[_, prefix, _, _, table, _, _, kind] = message.first_chunk()?;
    if (table, kind) != (libc::RT_TABLE_LOCAL, libc::RTN_LOCAL) {
        return None;
    }
    let mut attributes = message.get(ROUTE_BYTES..)?;
    while let Some((kind, value)) = next_attribute(&mut attributes) {
        if kind == libc::RTA_DST {
            let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from));
            return IpNet::new(ip.ok()?, prefix).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::local_addresses;

    #[test]
    fn this_host_is_in_its_networks() {
        let networks = local_networks().unwrap();
        assert!(networks.contains(&"127.0.0.0/8".parse().unwrap()), "{networks:?}");
        for ip in local_addresses().unwrap().into_iter().filter(IpAddr::is_loopback) {
            assert!(networks.iter().any(|network| network.contains(&ip)), "{ip}: {networks:?}");
        }
        assert!(networks.windows(2).all(|pair| pair[0] < pair[1]), "each is there once");
    }

    #[test]
    fn what_breaks_off_is_no_route() {
        let route = [
            &[libc::AF_INET as u8, 24, 0, 0, libc::RT_TABLE_LOCAL, 0, 0, libc::RTN_LOCAL][..],
            &[0; 4],
            &8u16.to_ne_bytes(),
            &libc::RTA_DST.to_ne_bytes(),
            &[192, 0, 2, 0],
        ]
        .concat();
        assert_eq!(read_route(&route), Some("192.0.2.0/24".parse().unwrap()));
        for len in 0..route.len() {
            assert_eq!(read_route(&route[..len]), None, "{len}");
        }
        for mut bytes in [&[0; 16][..], &[0xff; 16], &[0; 3]] {
            assert_eq!(next_message(&mut bytes), None);
        }
        assert_eq!(check(&(-libc::ENOENT).to_ne_bytes()).ok(), Some(()));
        assert!(check(&(-libc::EPERM).to_ne_bytes()).is_err() && check(&[]).is_err());
    }
}
