//! What a host sends: the connections that it begins.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// packet(7), and every protocol, in the network's order of bytes.
const AF_PACKET: i32 = 17;
const ETH_P_ALL: i32 = 0x0300;

const ETHERNET_LEN: usize = 14;
const V6_HEADER_LEN: usize = 40;
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A connection that was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// When it was noticed: no sooner than it was begun.
    pub(crate) at: Instant,
}

/// Every SYN that passes any interface of the namespace it was tapped in: needs root.
pub(crate) struct Wire {
    begun: Arc<Mutex<Vec<Begun>>>,
    reading: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Wire {
    pub(crate) fn tap() -> Wire {
        let (domain, protocol) = (Domain::from(AF_PACKET), Protocol::from(ETH_P_ALL));
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("root may listen");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a deadline above zero");
        let wire = Wire { begun: Arc::default(), reading: Arc::default(), over: Arc::default() };
        let (begun, reading, over) =
            (Arc::clone(&wire.begun), Arc::clone(&wire.reading), Arc::clone(&wire.over));
        thread::spawn(move || {
            let mut buffer = [0; 128];
            while !over.load(Ordering::Relaxed) {
                match (&socket).read(&mut buffer) {
                    Ok(len) => note(&mut begun.lock().unwrap(), &buffer[..len]),
                    // Nothing waits: everything before has been noted.
                    Err(_) => reading.store(true, Ordering::SeqCst),
                }
            }
        });
        wire
    }

    /// The connections begun so far to any of these addresses, in order, and each once however
    /// often its SYN was sent.
    pub(crate) fn begun_to(&self, is_meant: impl Fn(SocketAddr) -> bool) -> Vec<Begun> {
        self.catch_up();
        let mut begun = self.begun.lock().unwrap().clone();
        begun.retain(|it| is_meant(it.to));
        begun
    }

    /// Waits until everything that has been sent is noted.
    fn catch_up(&self) {
        self.reading.store(false, Ordering::SeqCst);
        super::support::wait_until("what was sent is read", || self.reading.load(Ordering::SeqCst));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn note(begun: &mut Vec<Begun>, packet: &[u8]) {
    if let Some((from, to)) = syn_in(packet)
        && !begun.iter().any(|it| (it.from, it.to) == (from, to))
    {
        begun.push(Begun { from, to, at: Instant::now() });
    }
}

/// Who begins a connection to whom with this packet, if it begins one.
fn syn_in(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (from, to, segment) = addressed(packet.get(ETHERNET_LEN..)?)?;
    let port = |at: usize| Some(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
    let is_syn = segment.get(13)? & (SYN | ACK) == SYN;
    is_syn.then_some((SocketAddr::new(from, port(0)?), SocketAddr::new(to, port(2)?)))
}

/// The addresses of a packet, and what of TCP it carries.
fn addressed(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    match packet.first()? >> 4 {
        4 if packet.get(9) == Some(&TCP) => {
            let header = usize::from(packet[0] & 0xf) * 4;
            let (from, to) = (
                Ipv4Addr::from(octets::<4>(packet, 12)?),
                Ipv4Addr::from(octets::<4>(packet, 16)?),
            );
            Some((from.into(), to.into(), packet.get(header..)?))
        }
        6 if packet.get(6) == Some(&TCP) => {
            let (from, to) = (
                Ipv6Addr::from(octets::<16>(packet, 8)?),
                Ipv6Addr::from(octets::<16>(packet, 24)?),
            );
            Some((from.into(), to.into(), packet.get(V6_HEADER_LEN..)?))
        }
        _ => None,
    }
}

fn octets<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}
