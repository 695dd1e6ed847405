#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::iter;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU16;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::c_int;

/// Room for datagrams that are received by one call (`recvmmsg(2)`), and what was received last.
pub struct Batch {
    /// Their pointers lead into `entries` and `storage`. These are vectors that never grow: what is
    /// in them stays where it is when the batch moves, and a box would claim that nobody else
    /// points there.
    headers: Vec<libc::mmsghdr>,
    entries: Vec<Entry>,
    /// Zeroed by the kernel page by page: memory that was never received into is never touched.
    storage: Vec<u8>,
    /// How many buffers hold something, from the front.
    used: usize,
    received: Vec<Received>,
    lost: Option<u32>,
}

/// What the kernel reads and writes besides a message's header and its bytes.
struct Entry {
    buffer: libc::iovec,
    source: RawAddress,
    control: Control<{ 2 * CONTROL_SPACE }>,
}

struct Received {
    source: SocketAddr,
    /// Where in the storage its bytes are.
    start: usize,
    len: usize,
    segment: Option<NonZeroU16>,
    is_truncated: bool,
}

/// One message that was received: a datagram, or several of one source that the kernel has merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who sent it.
    pub source: SocketAddr,
    /// What is in it.
    pub bytes: &'a [u8],
    /// How many bytes each datagram but the last has, if it is more than one (`UDP_GRO`).
    pub segment: Option<NonZeroU16>,
    /// Whether something of it did not fit: bytes, or what the kernel had to say of it.
    pub is_truncated: bool,
}

/// One message to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Whom it is for; nobody, if it is for whom the socket is connected to.
    pub to: Option<SocketAddr>,
    /// Its bytes, one part behind the other.
    pub parts: &'a [IoSlice<'a>],
    /// How many bytes each datagram but the last gets, if it is to be cut into several
    /// (`UDP_SEGMENT`).
    pub segment: Option<NonZeroU16>,
}

/// Sends messages by one call (`sendmmsg(2)`), at most [`Batch::LEN_MAX`], and never waits.
///
/// Returns how many the kernel has taken, at least one of one or more. An error is that of the
/// first; that of a later one is told when it is the first.
pub fn send_datagrams(socket: BorrowedFd<'_>, messages: &[Outgoing<'_>]) -> io::Result<usize> {
    // Uninitialized, for one message is not to cost as much as 64.
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; Batch::LEN_MAX];
    let mut addresses = [const { MaybeUninit::<RawAddress>::uninit() }; Batch::LEN_MAX];
    let mut controls = [const { MaybeUninit::uninit() }; Batch::LEN_MAX];
    let sides = addresses.iter_mut().zip(&mut controls);
    let mut len = 0;
    for ((message, header), (address, control)) in messages.iter().zip(&mut headers).zip(sides) {
        let mut raw = empty_header();
        let hdr = &mut raw.msg_hdr;
        if let Some(to) = message.to {
            let (bytes, len) = RawAddress::encode(to);
            hdr.msg_name = ptr::from_mut(address.write(bytes)).cast();
            hdr.msg_namelen = len as libc::socklen_t;
        }
        // The kernel only reads from these, and an IoSlice is an iovec.
        hdr.msg_iov = message.parts.as_ptr().cast_mut().cast();
        hdr.msg_iovlen = message.parts.len() as _;
        if let Some(segment) = message.segment {
            let value = segment.get().to_ne_bytes();
            let bytes = control.write(encode_control(libc::SOL_UDP, libc::UDP_SEGMENT, value));
            hdr.msg_control = ptr::from_mut(bytes).cast();
            hdr.msg_controllen = mem::size_of_val(bytes) as _;
        }
        header.write(raw);
        len += 1;
    }
    // SAFETY: the first `len` headers are written, and point to parts that are borrowed and to
    // addresses and control messages that live on this stack, each as long as the header says.
    uninterrupted(|| unsafe {
        let headers = headers.as_mut_ptr().cast::<libc::mmsghdr>();
        libc::sendmmsg(socket.as_raw_fd(), headers, len, libc::MSG_DONTWAIT)
    })
}

/// Makes room for `receive_buffer` bytes in a socket's queue, has the kernel merge datagrams that
/// arrive in a run (`UDP_GRO`) and tell how many it has lost (`SO_RXQ_OVFL`).
///
/// It goes without what this kernel does not have; without the right to more, the queue gets as
/// much as everybody may have.
pub fn prepare_datagram_socket(socket: BorrowedFd<'_>, receive_buffer: usize) {
    let receive_buffer = c_int::try_from(receive_buffer).unwrap_or(c_int::MAX);
    let set = |level, name, value| set_option(socket, level, name, value);
    let _ = set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, receive_buffer)
        .or_else(|_| set(libc::SOL_SOCKET, libc::SO_RCVBUF, receive_buffer));
    let _ = set(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    let _ = set(libc::SOL_UDP, libc::UDP_GRO, 1);
}

impl Batch {
    /// How many messages it holds at most.
    pub const LEN_MAX: usize = 64;
    /// The longest message: what is merged is no longer than one packet can be.
    const MESSAGE_MAX: usize = 65_535;
    /// Not a power of two, or the fronts of all buffers would share a few lines of the cache.
    const STRIDE: usize = 64 * 1024 + 4 * 1024 + 64;

    /// An empty one. It is large: one a reactor will do.
    pub fn new() -> Batch {
        let mut storage = vec![0_u8; Batch::LEN_MAX * Batch::STRIDE];
        let bytes = storage.as_mut_ptr();
        let mut entries: Vec<Entry> = (0..Batch::LEN_MAX)
            .map(|index| Entry {
                buffer: libc::iovec {
                    iov_base: bytes.wrapping_add(index * Batch::STRIDE).cast(),
                    iov_len: Batch::MESSAGE_MAX,
                },
                source: RawAddress([0; RawAddress::LEN_MAX]),
                control: Control([0; 2 * CONTROL_SPACE]),
            })
            .collect();
        let first = entries.as_mut_ptr();
        let headers = (0..Batch::LEN_MAX).map(|index| {
            let mut header = empty_header();
            // SAFETY: there is an entry of this index; no reference to it is made.
            unsafe {
                let entry = first.add(index);
                header.msg_hdr.msg_iov = &raw mut (*entry).buffer;
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_name = (&raw mut (*entry).source).cast();
                header.msg_hdr.msg_control = (&raw mut (*entry).control).cast();
            }
            make_ready(&mut header);
            header
        });
        let headers = headers.collect();
        let received = Vec::with_capacity(Batch::LEN_MAX);
        Batch { headers, entries, storage, used: 0, received, lost: None }
    }

    /// Receives up to `max` messages, from one to [`Batch::LEN_MAX`], and never waits: `WouldBlock`
    /// says that there is none. What it held before is forgotten.
    ///
    /// An error is also one that a datagram sent before has caused: others may be there
    /// nevertheless.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
        loop {
            self.clear();
            self.used = self.receive_raw(socket, max.clamp(1, Batch::LEN_MAX))?;
            for index in 0..self.used {
                self.read_entry(index);
            }
            if !self.received.is_empty() {
                return Ok(self.received.len());
            }
        }
    }

    fn receive_raw(&mut self, socket: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
        let headers = self.headers.as_mut_ptr();
        // SAFETY: there are LEN_MAX headers or more, and each points to an iovec, an address and
        // control messages that live as long as the batch and are as long as the header says. The
        // iovec is of a part of the storage of its own. Nobody else refers to any of them
        // meanwhile.
        uninterrupted(|| unsafe {
            let (max, flags) = (max as libc::c_uint, libc::MSG_DONTWAIT);
            libc::recvmmsg(socket.as_raw_fd(), headers, max, flags, ptr::null_mut())
        })
    }

    /// Takes note of what the kernel says of a message. One whose source is no IP address is left
    /// out.
    fn read_entry(&mut self, index: usize) {
        let libc::mmsghdr { msg_hdr: header, msg_len } = &self.headers[index];
        let entry = &self.entries[index];
        let Some(source) = entry.source.decode(header.msg_namelen as usize) else {
            return;
        };
        let mut segment = None;
        let controls_len: usize = header.msg_controllen as _;
        let mut controls = entry.control.0.get(..controls_len).unwrap_or_default();
        while let Some((level, kind, value)) = next_control(&mut controls) {
            match (level, kind, value.first_chunk()) {
                (libc::SOL_UDP, libc::UDP_GRO, Some(&value)) => {
                    let bytes = u16::try_from(c_int::from_ne_bytes(value));
                    segment = bytes.ok().and_then(NonZeroU16::new);
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, Some(&value)) => {
                    self.lost = self.lost.max(Some(u32::from_ne_bytes(value)));
                }
                _ => {}
            }
        }
        self.received.push(Received {
            source,
            start: index * Batch::STRIDE,
            len: (*msg_len as usize).min(Batch::MESSAGE_MAX),
            segment,
            is_truncated: header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        });
    }

    /// Forgets what it holds.
    pub fn clear(&mut self) {
        self.headers[..self.used].iter_mut().for_each(make_ready);
        self.used = 0;
        self.received.clear();
        self.lost = None;
    }

    /// Adds a message as if it had been received, for models of a socket. Says whether there was
    /// room for it.
    pub fn put(&mut self, source: SocketAddr, bytes: &[u8], segment: Option<NonZeroU16>) -> bool {
        if self.used == Batch::LEN_MAX || bytes.len() > Batch::MESSAGE_MAX {
            return false;
        }
        let (start, len) = (self.used * Batch::STRIDE, bytes.len());
        self.storage[start..start + len].copy_from_slice(bytes);
        self.received.push(Received { source, start, len, segment, is_truncated: false });
        self.used += 1;
        true
    }

    /// Tells, as if the kernel did, how many messages the socket's queue has lost since it was opened.
    pub fn put_lost(&mut self, lost: u32) {
        self.lost = self.lost.max(Some(lost));
    }

    /// What was received, in this order.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = Message<'_>> {
        self.received.iter().map(|received| Message {
            source: received.source,
            bytes: &self.storage[received.start..received.start + received.len],
            segment: received.segment,
            is_truncated: received.is_truncated,
        })
    }

    /// How many messages the socket's queue has lost since it was opened, if one of these was queued
    /// behind a loss. Merged datagrams that were lost together count as one.
    pub fn lost(&self) -> Option<u32> {
        self.lost
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

// SAFETY: its pointers lead to memory that it owns and that nobody else knows of.
unsafe impl Send for Batch {}

impl<'a> Message<'a> {
    /// The datagrams that it was merged from, or itself: at least one, which may be empty.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let len = self.segment.map_or(usize::MAX, |bytes| bytes.get().into());
        let (first, rest) = self.bytes.split_at(len.min(self.bytes.len()));
        iter::once(first).chain(rest.chunks(len))
    }
}

/// A socket address as the kernel has it (ip(7), ipv6(7)).
#[repr(align(4))]
struct RawAddress([u8; RawAddress::LEN_MAX]);

impl RawAddress {
    const V4_LEN: usize = mem::size_of::<libc::sockaddr_in>();
    const LEN_MAX: usize = mem::size_of::<libc::sockaddr_in6>();

    /// The address, and how many bytes of it count.
    fn encode(address: SocketAddr) -> (RawAddress, usize) {
        let mut bytes = [0; RawAddress::LEN_MAX];
        let (family, len) = match address {
            SocketAddr::V4(address) => {
                bytes[4..8].copy_from_slice(&address.ip().octets());
                (libc::AF_INET, RawAddress::V4_LEN)
            }
            SocketAddr::V6(address) => {
                bytes[8..24].copy_from_slice(&address.ip().octets());
                bytes[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
                (libc::AF_INET6, RawAddress::LEN_MAX)
            }
        };
        bytes[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        (RawAddress(bytes), len)
    }

    /// The IP address and the port in the first `len` bytes.
    fn decode(&self, len: usize) -> Option<SocketAddr> {
        let bytes = self.0.get(..len)?;
        let family = libc::sa_family_t::from_ne_bytes(*bytes.first_chunk()?);
        let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
        match family.into() {
            libc::AF_INET => Some((*bytes.get(4..)?.first_chunk::<4>()?, port).into()),
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?);
                let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
                Some(SocketAddrV6::new(ip, port, 0, scope).into())
            }
            _ => None,
        }
    }
}

/// Control messages (cmsg(3)).
#[repr(align(8))]
struct Control<const LEN: usize>([u8; LEN]);

const CONTROL_HEADER: usize = mem::size_of::<libc::cmsghdr>();
const CONTROL_ALIGN: usize = mem::size_of::<usize>();
/// What one takes whose value has four bytes or fewer.
const CONTROL_SPACE: usize = CONTROL_HEADER + CONTROL_ALIGN;

fn encode_control<const LEN: usize>(
    level: c_int,
    kind: c_int,
    value: [u8; LEN],
) -> Control<CONTROL_SPACE> {
    const { assert!(LEN <= CONTROL_ALIGN) };
    let mut bytes = [0; CONTROL_SPACE];
    let (header, rest) = bytes.split_at_mut(CONTROL_HEADER);
    let (len, names) = header.split_at_mut(CONTROL_ALIGN);
    len.copy_from_slice(&(CONTROL_HEADER + LEN).to_ne_bytes());
    names[..4].copy_from_slice(&level.to_ne_bytes());
    names[4..].copy_from_slice(&kind.to_ne_bytes());
    rest[..LEN].copy_from_slice(&value);
    Control(bytes)
}

/// The level and the kind of the first control message, and its value.
fn next_control<'a>(rest: &mut &'a [u8]) -> Option<(c_int, c_int, &'a [u8])> {
    let len = usize::from_ne_bytes(*rest.first_chunk()?);
    let names = rest.get(CONTROL_ALIGN..)?;
    let level = c_int::from_ne_bytes(*names.first_chunk()?);
    let kind = c_int::from_ne_bytes(*names.get(4..)?.first_chunk()?);
    let value = rest.get(CONTROL_HEADER..len)?;
    *rest = rest.get(len.next_multiple_of(CONTROL_ALIGN)..).unwrap_or_default();
    Some((level, kind, value))
}

/// Tells the kernel how much room there is: it has overwritten that with how much it used.
fn make_ready(header: &mut libc::mmsghdr) {
    header.msg_hdr.msg_namelen = RawAddress::LEN_MAX as libc::socklen_t;
    header.msg_hdr.msg_controllen = (2 * CONTROL_SPACE) as _;
    header.msg_hdr.msg_flags = 0;
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: it consists of integers, and of pointers that may be null.
    unsafe { mem::zeroed() }
}

fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let len = mem::size_of_val(&value) as libc::socklen_t;
    syscall!(setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len)).map(drop)
}

/// Calls until no signal interrupts it.
fn uninterrupted(mut call: impl FnMut() -> c_int) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(n) => return Ok(n),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;
    use std::thread;
    use std::time::{Duration, Instant};

    use socket2::{SockAddr, SockRef};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn socket(ip: IpAddr) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn prepared(ip: IpAddr) -> (UdpSocket, SocketAddr) {
        let (socket, address) = socket(ip);
        prepare_datagram_socket(socket.as_fd(), 1 << 20);
        (socket, address)
    }

    /// Receives as soon as there is something.
    fn receive(batch: &mut Batch, socket: impl AsFd, max: usize) -> usize {
        let end = Instant::now() + PATIENCE;
        loop {
            match batch.receive(socket.as_fd(), max) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < end, "nothing arrives");
                    thread::yield_now();
                }
                received => return received.unwrap(),
            }
        }
    }

    fn assert_empty(batch: &mut Batch, socket: impl AsFd) {
        let error = batch.receive(socket.as_fd(), Batch::LEN_MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(batch.messages().len(), 0);
    }

    /// Sends one message that consists of a header and a payload.
    fn send(
        socket: &UdpSocket,
        to: Option<SocketAddr>,
        bytes: &[u8],
        segment: Option<u16>,
    ) -> io::Result<()> {
        let (header, payload) = bytes.split_at(bytes.len().min(10));
        let parts = [IoSlice::new(header), IoSlice::new(payload)];
        let segment = segment.and_then(NonZeroU16::new);
        send_datagrams(socket.as_fd(), &[Outgoing { to, parts: &parts, segment }])
            .map(|sent| assert_eq!(sent, 1))
    }

    fn bytes(seed: usize, len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 + seed * 7 + at / 251) as u8).collect()
    }

    fn assert_carries_whole(ip: IpAddr) {
        let (receiver, to) = prepared(ip);
        let mut batch = Batch::new();
        for (seed, len) in [0, 1, 1472, 9000, 65_507, 1, 0].into_iter().enumerate() {
            let (connected, by_connected) = socket(ip);
            connected.connect(to).unwrap();
            let (other, by_other) = socket(ip);
            let sent = bytes(seed, len);
            for (sender, to, source) in
                [(&connected, None, by_connected), (&other, Some(to), by_other)]
            {
                send(sender, to, &sent, None).unwrap();
                assert_eq!(receive(&mut batch, &receiver, Batch::LEN_MAX), 1);
                let message = batch.messages().next().unwrap();
                assert!(message.bytes == sent, "{len} bytes are others");
                assert_eq!((message.source, message.segment), (source, None));
                assert!(!message.is_truncated);
                assert_eq!(message.datagrams().collect::<Vec<_>>(), [&sent[..]]);
            }
        }
        assert_empty(&mut batch, &receiver);
    }

    #[test]
    fn datagrams_of_all_sizes_arrive_whole_and_say_whose_they_are() {
        assert_carries_whole(V4);
    }

    #[test]
    #[ignore = "needs IPv6: tests/run"]
    fn datagrams_of_v6_arrive_whole_and_say_whose_they_are() {
        assert_carries_whole(V6);
    }

    #[test]
    fn one_call_sends_64_messages_and_one_receives_as_many() {
        let (receiver, to) = prepared(V4);
        let (sender, source) = socket(V4);
        let numbers: Vec<[u8; 2]> = (0..100_u16).map(u16::to_ne_bytes).collect();
        let parts: Vec<_> = numbers.iter().map(|number| [IoSlice::new(number)]).collect();
        let messages: Vec<_> =
            parts.iter().map(|parts| Outgoing { to: Some(to), parts, segment: None }).collect();
        let mut batch = Batch::new();
        let mut lens = Vec::new();
        let end = Instant::now() + PATIENCE;
        // Unless the kernel has not delivered all of them yet.
        while lens != [64, 36] {
            assert!(Instant::now() < end, "the calls receive {lens:?}");
            assert_eq!(send_datagrams(sender.as_fd(), &messages).unwrap(), 64);
            assert_eq!(send_datagrams(sender.as_fd(), &messages[64..]).unwrap(), 36);
            lens.clear();
            let mut expected = numbers.iter();
            while expected.len() > 0 {
                lens.push(receive(&mut batch, &receiver, usize::MAX));
                for message in batch.messages() {
                    assert_eq!(message.source, source);
                    assert_eq!(message.bytes, expected.next().unwrap());
                }
            }
        }
        assert_empty(&mut batch, &receiver);
    }

    #[test]
    fn nothing_to_send_is_nothing_sent() {
        let (sender, _) = socket(V4);
        assert_eq!(send_datagrams(sender.as_fd(), &[]).unwrap(), 0);
    }

    #[test]
    fn what_is_not_asked_for_stays_and_what_was_held_is_forgotten() {
        let (receiver, to) = prepared(V4);
        let (sender, _) = socket(V4);
        for number in 0..40 {
            send(&sender, Some(to), &[number], None).unwrap();
        }
        let mut batch = Batch::new();
        let mut expected = 0..40;
        for max in (0..=3).cycle() {
            if expected.is_empty() {
                break;
            }
            let n = receive(&mut batch, &receiver, max);
            assert!((1..=max.max(1)).contains(&n), "{n} of {max}");
            assert_eq!(batch.messages().len(), n);
            for message in batch.messages() {
                assert_eq!(message.bytes, [expected.next().unwrap()]);
            }
        }
        assert_empty(&mut batch, &receiver);
    }

    #[test]
    #[ignore = "needs IPv6: tests/run"]
    fn one_batch_is_for_sockets_of_both_families() {
        let mut batch = Batch::new();
        for ip in [V4, V6, V4, V6] {
            let (receiver, to) = prepared(ip);
            let (sender, source) = socket(ip);
            send(&sender, Some(to), b"of either", None).unwrap();
            receive(&mut batch, &receiver, Batch::LEN_MAX);
            assert!(batch.messages().map(|message| message.source).eq([source]));
        }
    }

    fn assert_merged_and_split(ip: IpAddr) {
        let (receiver, to) = prepared(ip);
        let (plain, to_plain) = socket(ip);
        let (sender, source) = socket(ip);
        let mut batch = Batch::new();
        for (segment, len) in [(1200, 11 * 1200 + 700), (100, 6400), (1, 64), (9000, 65_000)] {
            let sent = bytes(len, len);
            let datagrams: Vec<_> = sent.chunks(segment.into()).collect();

            send(&sender, Some(to), &sent, Some(segment)).unwrap();
            assert_eq!(receive(&mut batch, &receiver, Batch::LEN_MAX), 1);
            let message = batch.messages().next().unwrap();
            assert_eq!((message.source, message.segment), (source, NonZeroU16::new(segment)));
            assert!(!message.is_truncated);
            assert!(message.datagrams().eq(datagrams.iter().copied()), "{len} by {segment}");

            send(&sender, Some(to_plain), &sent, Some(segment)).unwrap();
            let mut expected = datagrams.into_iter();
            while expected.len() > 0 {
                receive(&mut batch, &plain, Batch::LEN_MAX);
                for message in batch.messages() {
                    assert_eq!((message.source, message.segment), (source, None));
                    assert!(Some(message.bytes) == expected.next(), "{len} by {segment}");
                }
            }
        }
        assert_empty(&mut batch, &receiver);
        assert_empty(&mut batch, &plain);
    }

    #[test]
    fn a_run_arrives_merged_where_that_is_wanted_and_datagram_by_datagram_elsewhere() {
        assert_merged_and_split(V4);
    }

    #[test]
    #[ignore = "needs IPv6: tests/run"]
    fn a_run_of_v6_arrives_merged_where_that_is_wanted_and_datagram_by_datagram_elsewhere() {
        assert_merged_and_split(V6);
    }

    #[test]
    fn a_message_that_is_too_long_fails_alone() {
        let (receiver, to) = prepared(V4);
        let (sender, _) = socket(V4);
        let error = send(&sender, Some(to), &[0; 65_508], None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        send(&sender, Some(to), b"short", None).unwrap();
        let mut batch = Batch::new();
        receive(&mut batch, &receiver, Batch::LEN_MAX);
        assert_eq!(batch.messages().next().unwrap().bytes, b"short");
    }

    #[test]
    fn every_entry_is_as_good_as_new_when_it_is_used_again() {
        let (receiver, to) = prepared(V4);
        let (sender, _) = socket(V4);
        let mut batch = Batch::new();
        let end = Instant::now() + PATIENCE;
        let mut most = 0;
        // Unless the kernel has not delivered all of them yet.
        while most < 20 {
            assert!(Instant::now() < end, "{most} at once");
            // Of which nothing is told, so that the kernel leaves no room to tell anything.
            (0..20).for_each(|_| send(&sender, Some(to), b"one", None).unwrap());
            let mut left = 20;
            while left > 0 {
                left -= receive(&mut batch, &receiver, Batch::LEN_MAX);
            }
            (0..20).for_each(|_| send(&sender, Some(to), b"three of them", Some(5)).unwrap());
            let mut left = 20;
            while left > 0 {
                let n = receive(&mut batch, &receiver, Batch::LEN_MAX);
                (left, most) = (left - n, most.max(n));
                for message in batch.messages() {
                    assert_eq!(
                        (message.segment, message.is_truncated),
                        (NonZeroU16::new(5), false)
                    );
                }
            }
        }
    }

    #[test]
    fn what_did_not_fit_is_told() {
        let (receiver, to) = prepared(V4);
        let (sender, _) = socket(V4);
        let mut batch = Batch::new();

        batch.entries[0].buffer.iov_len = 4;
        send(&sender, Some(to), b"four and more", None).unwrap();
        receive(&mut batch, &receiver, 1);
        let message = batch.messages().next().unwrap();
        assert_eq!((message.bytes, message.is_truncated), (&b"four"[..], true));

        let mut batch = Batch::new();
        batch.headers[0].msg_hdr.msg_controllen = 0;
        send(&sender, Some(to), b"a run of these", Some(2)).unwrap();
        receive(&mut batch, &receiver, 1);
        let message = batch.messages().next().unwrap();
        assert_eq!((message.segment, message.is_truncated), (None, true));

        // The kernel had shortened that; it is as long as ever for the next.
        send(&sender, Some(to), b"a run of these", Some(2)).unwrap();
        receive(&mut batch, &receiver, 1);
        let message = batch.messages().next().unwrap();
        assert_eq!((message.segment, message.is_truncated), (NonZeroU16::new(2), false));
    }

    #[test]
    fn an_overflowing_queue_tells_what_it_has_lost_to_those_behind() {
        let (receiver, to) = socket(V4);
        prepare_datagram_socket(receiver.as_fd(), 0);
        let (sender, _) = socket(V4);
        let mut numbers = 0_u32..;
        let mut send_next = || {
            let mut bytes = [0; 1000];
            bytes[..4].copy_from_slice(&numbers.next().unwrap().to_ne_bytes());
            send(&sender, Some(to), &bytes, None).unwrap();
        };
        (0..100).for_each(|_| send_next());

        let mut batch = Batch::new();
        let (mut received, mut lost) = (0, 0);
        let end = Instant::now() + PATIENCE;
        while lost == 0 {
            assert!(Instant::now() < end, "nothing is lost, or nobody tells");
            send_next();
            while batch.receive(receiver.as_fd(), 1).is_ok() {
                let message = batch.messages().next().unwrap();
                let number = u32::from_ne_bytes(*message.bytes.first_chunk().unwrap());
                lost = batch.lost().unwrap_or(0);
                assert_eq!(received + lost, number);
                received += 1;
            }
        }

        // There is room to tell everything at once.
        send(&sender, Some(to), b"a run of these", Some(2)).unwrap();
        receive(&mut batch, &receiver, 1);
        let message = batch.messages().next().unwrap();
        assert_eq!((message.segment, message.is_truncated), (NonZeroU16::new(2), false));
        assert_eq!(batch.lost(), Some(lost));
        batch.clear();
        assert_eq!(batch.lost(), None);
    }

    #[test]
    fn a_queue_gets_the_room_it_is_to_have_or_as_much_as_there_may_be() {
        let (socket, _) = socket(V4);
        let room = || SockRef::from(&socket).recv_buffer_size().unwrap();
        prepare_datagram_socket(socket.as_fd(), 64 * 1024);
        let usual = room();
        // The kernel counts its own overhead, too.
        assert_eq!(usual, 2 * 64 * 1024);
        prepare_datagram_socket(socket.as_fd(), usize::MAX);
        assert!(room() > usual);
    }

    #[test]
    fn who_has_no_ip_address_is_left_out() {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.send(b"nameless").unwrap();
        near.send(b"nameless").unwrap();
        let mut batch = Batch::new();
        assert_empty(&mut batch, &far);
    }

    #[test]
    fn a_batch_that_has_moved_receives_as_before() {
        let (receiver, to) = prepared(V4);
        let (sender, source) = socket(V4);
        let mut batches = vec![Batch::new()];
        let mut batch = Box::new(batches.pop().unwrap());
        send(&sender, Some(to), b"moved", None).unwrap();
        let batch = thread::spawn(move || {
            receive(&mut batch, &receiver, 1);
            batch
        });
        let batch = batch.join().unwrap();
        let message = batch.messages().next().unwrap();
        assert_eq!((message.source, message.bytes), (source, &b"moved"[..]));
    }

    #[test]
    fn what_is_put_is_as_if_it_had_been_received() {
        let (receiver, to) = prepared(V4);
        let (sender, source) = socket(V4);
        let (mut real, mut model) = (Batch::new(), Batch::new());
        for (sent, segment) in [(&b""[..], None), (b"one", None), (b"three of them", Some(5))] {
            send(&sender, Some(to), sent, segment).unwrap();
            receive(&mut real, &receiver, 1);
            model.clear();
            assert!(model.put(source, sent, segment.and_then(NonZeroU16::new)));
            assert!(real.messages().eq(model.messages()), "{sent:?}");
            assert_eq!(real.lost(), model.lost());
        }
        // The kernel finds it as it was.
        send(&sender, Some(to), b"received after all", None).unwrap();
        receive(&mut model, &receiver, Batch::LEN_MAX);
        assert!(model.messages().map(|message| message.bytes).eq([b"received after all"]));
    }

    #[test]
    fn what_could_not_be_received_cannot_be_put() {
        let (_, source) = socket(V4);
        let mut batch = Batch::new();
        assert!(!batch.put(source, &[0; 65_536], None));
        for number in 0..Batch::LEN_MAX {
            assert!(batch.put(source, &bytes(number, 65_535), None));
        }
        assert!(!batch.put(source, b"", None));
        assert_eq!(batch.messages().len(), Batch::LEN_MAX);
        for (number, message) in batch.messages().enumerate() {
            assert!(message.bytes == bytes(number, 65_535), "{number}");
        }
        batch.put_lost(7);
        assert_eq!(batch.lost(), Some(7));
        batch.clear();
        assert_eq!(batch.lost(), None);
    }

    #[test]
    fn a_message_is_at_least_one_datagram() {
        let datagrams = |bytes: &'static [u8], segment| {
            let source = SocketAddr::from((V4, 1));
            let segment = NonZeroU16::new(segment);
            let message = Message { source, bytes, segment, is_truncated: false };
            message.datagrams().collect::<Vec<_>>()
        };
        assert_eq!(datagrams(b"", 0), [b""]);
        assert_eq!(datagrams(b"", 3), [b""]);
        assert_eq!(datagrams(b"abcdef", 0), [b"abcdef"]);
        assert_eq!(datagrams(b"abcdef", 9), [b"abcdef"]);
        assert_eq!(datagrams(b"abcdef", 3), [b"abc", b"def"]);
        assert_eq!(datagrams(b"abcdef", 4), [&b"abcd"[..], b"ef"]);
    }

    #[test]
    fn addresses_are_those_of_the_c_library() {
        let addresses = [
            "192.0.2.1:53".parse().unwrap(),
            "[2001:db8::1]:65535".parse().unwrap(),
            SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 7).into(),
        ];
        for address in addresses {
            let (raw, len) = RawAddress::encode(address);
            let expected = SockAddr::from(address);
            assert_eq!(len, expected.len() as usize);
            // SAFETY: as many bytes of it are written.
            let expected = unsafe { std::slice::from_raw_parts(expected.as_ptr().cast(), len) };
            assert_eq!(&raw.0[..len], expected);
            assert_eq!(raw.decode(len), Some(address));
            for short in 0..8 {
                assert_eq!(raw.decode(short), None, "{address} in {short} bytes");
            }
        }
        for (family, len) in [(libc::AF_UNIX, 28), (libc::AF_INET, 29), (libc::AF_INET6, 27)] {
            let mut raw = RawAddress([0; RawAddress::LEN_MAX]);
            raw.0[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
            assert_eq!(raw.decode(len), None, "{family}");
        }
    }

    #[test]
    fn what_breaks_off_is_no_control_message() {
        let control = encode_control(libc::SOL_UDP, libc::UDP_GRO, 1200_u32.to_ne_bytes());
        let whole = [&control.0[..], &control.0].concat();
        let value = 1200_u32.to_ne_bytes();
        let mut rest = &whole[..];
        for _ in 0..2 {
            let expected = (libc::SOL_UDP, libc::UDP_GRO, &value[..]);
            assert_eq!(next_control(&mut rest), Some(expected));
        }
        assert_eq!(next_control(&mut rest), None);
        for len in 0..CONTROL_HEADER + 4 {
            assert_eq!(next_control(&mut &whole[..len]), None, "{len}");
        }
        for bytes in [[0; 48], [0xff; 48]] {
            assert_eq!(next_control(&mut &bytes[..]), None);
        }
    }
}
