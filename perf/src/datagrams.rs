//! Datagrams, many with each call: what load, origin and the bare forwarder have in common.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};

use mio::net::UdpSocket;
use nix::cmsg_space;
use nix::sys::socket::sockopt::{RcvBufForce, UdpGroSegment, UdpGsoSegment};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, recvmsg,
    sendmsg, setsockopt,
};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
use socket2::SockRef;

/// How many are received or sent with one call.
pub const BATCH: usize = 64;
/// The longest one that no network cuts, with a header for a proxy.
pub const LONGEST: usize = 2048;
/// The longest run that the kernel takes or gives as one.
pub const RUN_BYTES: usize = 65_535;
/// The most datagrams of a run.
pub const RUN_DATAGRAMS: usize = 64;

/// What a socket may keep until it is read: nobody who shares a CPU is there all the time.
const QUEUE_BYTES: usize = 4 << 20;

/// A socket with room for what comes while its owner is not there.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // Twice as much as the limit for everybody, if we may; else as much as everybody may.
    if setsockopt(&socket, RcvBufForce, &QUEUE_BYTES).is_err() {
        SockRef::from(&socket).set_recv_buffer_size(QUEUE_BYTES)?;
    }
    SockRef::from(&socket).set_send_buffer_size(QUEUE_BYTES)?;
    Ok(socket)
}

/// From now on what is sent is cut into datagrams of `length`.
pub fn send_runs(socket: &UdpSocket, length: usize) -> io::Result<()> {
    Ok(setsockopt(socket, UdpGsoSegment, &(length as i32))?)
}

/// From now on what came as a run is received as one.
pub fn receive_runs(socket: &UdpSocket) -> io::Result<()> {
    Ok(setsockopt(socket, UdpGroSegment, &true)?)
}

/// Datagrams that were received together.
pub struct Inbox {
    headers: MultiHeaders<SockaddrIn>,
    room: Box<[u8]>,
    /// How long each is, and who sent it.
    received: Vec<(usize, SocketAddrV4)>,
}

impl Inbox {
    /// With room for datagrams of up to `longest` bytes, as many at a time as `batch`, which is at
    /// most [`BATCH`].
    pub fn new(longest: usize, batch: usize) -> Inbox {
        let batch = batch.min(BATCH);
        Inbox {
            headers: MultiHeaders::preallocate(batch, None),
            room: vec![0; longest * batch].into(),
            received: Vec::with_capacity(batch),
        }
    }

    /// Forgets what is in it and receives what is there, nothing if nothing is; whether there may
    /// be more.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        self.received.clear();
        let batch = self.received.capacity();
        let longest = self.room.len() / batch;
        let mut places = self.room.chunks_mut(longest);
        let mut slices: [[IoSliceMut; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(places.next().unwrap_or_default())]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let slices = slices[..batch].iter_mut();
        let received = match recvmmsg(socket.as_raw_fd(), &mut self.headers, slices, flags, None) {
            Err(nix::Error::EAGAIN) => return Ok(false),
            // What an earlier datagram of ours has met.
            Err(nix::Error::ECONNREFUSED) => return Ok(true),
            received => received?,
        };
        self.received.extend(received.filter_map(|it| Some((it.bytes, it.address?.into()))));
        Ok(self.received.len() == batch)
    }

    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// What was received last, in order, and who sent it.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], SocketAddrV4)> {
        let longest = self.room.len() / self.received.capacity();
        self.room.chunks(longest).zip(&self.received).map(|(room, (length, from))| {
            let length = room.len().min(*length);
            (&room[..length], *from)
        })
    }
}

/// Sends datagrams, at most [`BATCH`], each to an address if the socket is not connected. One that
/// the kernel does not take is lost like one that a network drops.
pub fn send<'a>(
    socket: &UdpSocket,
    datagrams: impl Iterator<Item = (&'a [u8], Option<SocketAddrV4>)>,
) -> io::Result<()> {
    let (slices, addresses): (Vec<_>, Vec<_>) = datagrams
        .take(BATCH)
        .map(|(bytes, to)| ([IoSlice::new(bytes)], to.map(SocketAddrAny::from)))
        .unzip();
    let mut controls: [_; BATCH] = std::array::from_fn(|_| SendAncillaryBuffer::default());
    let message = |((slice, to), control)| match to {
        Some(to) => MMsgHdr::new_with_addr(to, slice, control),
        None => MMsgHdr::new(slice, control),
    };
    let mut messages: Vec<MMsgHdr> = slices
        .iter()
        .zip(addresses.iter().map(Option::as_ref))
        .zip(&mut controls)
        .map(|((slice, to), control)| message(((&slice[..], to), control)))
        .collect();
    let mut sent = 0;
    while sent < messages.len() {
        match sendmmsg(socket.as_fd(), &mut messages[sent..], SendFlags::DONTWAIT) {
            Ok(some) => sent += some,
            // What an earlier one has met is told to this one, which is not sent.
            Err(Errno::CONNREFUSED) => sent += 1,
            Err(Errno::AGAIN | Errno::NOBUFS) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A run as the kernel gives it: its bytes, how long each datagram but the last is, and its sender.
pub struct Run {
    pub bytes: usize,
    pub each: usize,
    pub from: SocketAddrV4,
}

/// Receives one run, or one datagram, if there is any.
pub fn receive_run(socket: &UdpSocket, room: &mut [u8]) -> io::Result<Option<Run>> {
    let mut control = cmsg_space!(i32);
    let mut slices = [IoSliceMut::new(room)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let received =
        match recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Err(nix::Error::EAGAIN) => return Ok(None),
            received => received?,
        };
    let each = received.cmsgs()?.find_map(|it| match it {
        ControlMessageOwned::UdpGroSegments(each) => usize::try_from(each).ok(),
        _ => None,
    });
    let Some(from) = received.address else { return Ok(None) };
    let bytes = received.bytes;
    Ok(Some(Run { bytes, each: each.unwrap_or(bytes), from: from.into() }))
}

/// Sends a run, or one datagram; what the kernel does not take now is lost.
pub fn send_run(socket: &UdpSocket, run: &[u8], each: usize, to: SocketAddrV4) -> io::Result<()> {
    let each = each as u16;
    let cut = [ControlMessage::UdpGsoSegments(&each)];
    let control = if run.len() > usize::from(each) { &cut[..] } else { &[] };
    let to = SockaddrIn::from(to);
    let flags = MsgFlags::MSG_DONTWAIT;
    match sendmsg(socket.as_raw_fd(), &[IoSlice::new(run)], control, flags, Some(&to)) {
        Ok(_) | Err(nix::Error::EAGAIN | nix::Error::ENOBUFS | nix::Error::ECONNREFUSED) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use super::*;

    fn socket() -> (UdpSocket, SocketAddrV4) {
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        match socket.local_addr().unwrap() {
            SocketAddr::V4(address) => (socket, address),
            SocketAddr::V6(_) => unreachable!("it was bound to another family"),
        }
    }

    /// What is received until there are so many.
    fn received(
        inbox: &mut Inbox,
        socket: &UdpSocket,
        count: usize,
    ) -> Vec<(Vec<u8>, SocketAddrV4)> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut all = Vec::new();
        while all.len() < count {
            assert!(Instant::now() < deadline, "{} of {count}", all.len());
            inbox.receive(socket).unwrap();
            all.extend(inbox.iter().map(|(bytes, from)| (bytes.to_vec(), from)));
        }
        all
    }

    #[test]
    fn datagrams_of_any_length_come_as_they_were_sent() {
        let ((ours, from), (theirs, to)) = (socket(), socket());
        let sent: Vec<Vec<u8>> = (0..BATCH).map(|it| vec![it as u8; it * 32]).collect();
        send(&ours, sent.iter().map(|it| (&it[..], Some(to)))).unwrap();
        let expected: Vec<_> = sent.into_iter().map(|it| (it, from)).collect();
        let mut inbox = Inbox::new(LONGEST, 10);
        assert_eq!(received(&mut inbox, &theirs, BATCH), expected);
        assert!(!inbox.receive(&theirs).unwrap() && inbox.is_empty());
        assert_eq!(inbox.iter().count(), 0);
    }

    #[test]
    fn a_peer_that_was_not_there_costs_one_datagram() {
        let ((ours, _), (theirs, to)) = (socket(), socket());
        drop(theirs);
        ours.connect(to.into()).unwrap();
        send(&ours, [(&b"lost"[..], None)].into_iter()).unwrap();
        let theirs = bind(to.into()).unwrap();
        let some = [b"a", b"b", b"c"];
        send(&ours, some.iter().map(|it| (&it[..], None))).unwrap();
        let texts = received(&mut Inbox::new(LONGEST, BATCH), &theirs, 2);
        assert_eq!(texts.iter().map(|(it, _)| &it[..]).collect::<Vec<_>>(), [b"b", b"c"]);
    }

    #[test]
    fn a_run_stays_one_for_who_wants_it() {
        let ((ours, from), (theirs, to)) = (socket(), socket());
        receive_runs(&theirs).unwrap();
        let run: Vec<u8> = (0..2500_u32).map(|it| it as u8).collect();
        send_run(&ours, &run, 1000, to).unwrap();
        let mut room = vec![0; RUN_BYTES];
        let whole = receive_run(&theirs, &mut room).unwrap().unwrap();
        assert_eq!((whole.bytes, whole.each, whole.from), (2500, 1000, from));
        assert_eq!(room[..2500], run);
        assert!(receive_run(&theirs, &mut room).unwrap().is_none());
    }

    #[test]
    fn a_run_comes_in_datagrams_to_everybody_else() {
        let ((ours, _), (theirs, to)) = (socket(), socket());
        ours.connect(to.into()).unwrap();
        send_runs(&ours, 1000).unwrap();
        send(&ours, [(&[7; 2500][..], None)].into_iter()).unwrap();
        let lengths: Vec<usize> = received(&mut Inbox::new(LONGEST, BATCH), &theirs, 3)
            .iter()
            .map(|(it, _)| it.len())
            .collect();
        assert_eq!(lengths, [1000, 1000, 500]);
    }
}
