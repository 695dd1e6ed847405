//! The facts of the running kernel that the relay, what carries datagrams and the simulation's
//! model of TCP hang on.
//!
//! Each test makes real sockets over loopback, brings one of them into the state in question, and
//! says what its calls return. Where one fails, the kernel differs from what the design assumes:
//! what uses it is to be changed, and then the model in `simulation/`.

mod support;

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6, UdpSocket};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use ringsocks::config::RelayMode;
use ringsocks::relay::{
    Buffers, Endpoint, Flow, Lane, Pumped, Readiness, Received, Sent, Socket, Work, pump,
};
use ringsocks::sys::{self, Batch, Outgoing};
use socket2::SockRef;
use support::PATIENCE;
use support::netns::Netns;

const DATA: &[u8] = b"what came before";

/// Our end of a connection, watched as a reactor watches it, and the peer's.
struct Pair {
    ours: TcpStream,
    peer: Option<net::TcpStream>,
    poll: Poll,
}

impl Pair {
    fn new() -> Pair {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nodelay(true).unwrap();
        let ours = listener.accept().unwrap().0;
        ours.set_nonblocking(true).unwrap();
        let mut ours = TcpStream::from_std(ours);
        let poll = Poll::new().unwrap();
        let interests = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        poll.registry().register(&mut ours, Token(0), interests).unwrap();
        Pair { ours, peer: Some(peer), poll }
    }

    fn peer(&mut self) -> &mut net::TcpStream {
        self.peer.as_mut().unwrap()
    }

    fn peer_sends(&mut self) {
        self.peer().write_all(DATA).unwrap();
    }

    fn peer_finishes(&mut self) {
        self.peer().shutdown(Shutdown::Write).unwrap();
    }

    fn peer_resets(&mut self) {
        let peer = self.peer.take().unwrap();
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Waits until the poll has reported this.
    fn until(&mut self, condition: impl Fn(Readiness) -> bool) -> Readiness {
        let end = Instant::now() + PATIENCE;
        let mut all = Readiness::default();
        let mut events = Events::with_capacity(8);
        while !condition(all) {
            assert!(Instant::now() < end, "only {all:?} was reported");
            match self.poll.poll(&mut events, Some(Duration::from_millis(100))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled.unwrap(),
            }
            for event in &events {
                all.readable |= event.is_readable();
                all.writable |= event.is_writable();
                all.read_closed |= event.is_read_closed();
                all.urgent |= event.is_priority();
                all.error |= event.is_error();
            }
        }
        all
    }

    fn until_end(&mut self) -> Readiness {
        self.until(|all| all.read_closed)
    }

    fn until_error(&mut self) -> Readiness {
        self.until(|all| all.error)
    }

    /// Sends until neither side's kernel takes more, so that a FIN would have to wait.
    fn fill_the_way_to_the_peer(&mut self) {
        let peer = self.peer.as_ref().unwrap();
        SockRef::from(peer).set_recv_buffer_size(1).unwrap();
        SockRef::from(&self.ours).set_send_buffer_size(1).unwrap();
        let end = Instant::now() + PATIENCE;
        let mut blocked = 0;
        while blocked < 20 {
            assert!(Instant::now() < end, "the peer's kernel takes everything");
            match self.ours.write(&[0; 65536]) {
                Ok(n) => {
                    assert!(n > 0);
                    blocked = 0;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    blocked += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }

    fn recv(&mut self) -> io::Result<usize> {
        self.ours.read(&mut [0; 4096])
    }

    fn recv_errno(&mut self) -> Option<i32> {
        self.recv().expect_err("recv returned bytes or an end").raw_os_error()
    }

    fn pending_errno(&self) -> Option<i32> {
        self.ours.take_error().unwrap().and_then(|error| error.raw_os_error())
    }

    fn send_errno(&mut self) -> Option<i32> {
        self.ours.write(b"x").expect_err("send took bytes").raw_os_error()
    }

    fn assert_data(&mut self) {
        assert_eq!(self.recv().unwrap(), DATA.len());
    }

    fn assert_end(&mut self) {
        assert_eq!(self.recv().unwrap(), 0);
    }

    /// The endpoint after these events, with the socket moved into it.
    fn into_endpoint(self, readiness: Readiness) -> Endpoint<TcpStream> {
        let mut endpoint = Endpoint::new(self.ours);
        endpoint.handle_readiness(readiness);
        endpoint
    }
}

/// For endpoints that need none.
fn no_buffers() -> Buffers {
    Buffers::new(0, RelayMode::Copy, 0)
}

fn reset() -> Pair {
    let mut pair = Pair::new();
    pair.peer_sends();
    pair.until(|all| all.readable);
    pair.peer_resets();
    pair
}

fn finished_then_reset() -> Pair {
    let mut pair = Pair::new();
    pair.peer_sends();
    pair.peer_finishes();
    pair.until_end();
    pair.peer_resets();
    pair
}

/// Both have sent their FIN, but ours waits behind bytes that the peer has no room for.
fn both_finished_then_reset() -> Pair {
    let mut pair = Pair::new();
    pair.fill_the_way_to_the_peer();
    pair.peer_sends();
    pair.peer_finishes();
    pair.until_end();
    pair.ours.shutdown(Shutdown::Write).unwrap();
    pair.peer_resets();
    pair
}

fn reset_after_our_fin() -> Pair {
    let mut pair = Pair::new();
    pair.peer_sends();
    pair.until(|all| all.readable);
    pair.ours.shutdown(Shutdown::Write).unwrap();
    pair.peer_resets();
    pair
}

#[test]
fn after_a_reset_come_the_bytes_then_econnreset_once_then_0() {
    let mut pair = reset();
    let all = pair.until_error();
    assert!(all.readable && all.writable && all.read_closed, "{all:?}");
    pair.assert_data();
    assert_eq!(pair.recv_errno(), Some(libc::ECONNRESET));
    pair.assert_end();
    pair.assert_end();
}

#[test]
fn so_error_uses_a_reset_up_and_it_looks_like_an_end() {
    let mut pair = reset();
    pair.until_error();
    assert_eq!(pair.pending_errno(), Some(libc::ECONNRESET));
    assert_eq!(pair.pending_errno(), None);
    pair.assert_data();
    pair.assert_end();
}

#[test]
fn a_failed_send_uses_a_reset_up_and_it_looks_like_an_end() {
    let mut pair = reset();
    pair.until_error();
    assert_eq!(pair.send_errno(), Some(libc::ECONNRESET));
    assert_eq!(pair.send_errno(), Some(libc::EPIPE));
    pair.assert_data();
    pair.assert_end();
}

#[test]
fn a_reset_after_the_peers_fin_leaves_bytes_and_end_and_is_epipe() {
    let mut pair = finished_then_reset();
    pair.until_error();
    pair.assert_data();
    pair.assert_end();
    assert_eq!(pair.pending_errno(), Some(libc::EPIPE));
    assert_eq!(pair.pending_errno(), None);

    let mut pair = finished_then_reset();
    pair.until_error();
    assert_eq!(pair.send_errno(), Some(libc::EPIPE));
    pair.assert_data();
    pair.assert_end();
}

#[test]
fn a_reset_after_both_fins_leaves_bytes_and_end_and_is_econnreset() {
    let mut pair = both_finished_then_reset();
    pair.until_error();
    pair.assert_data();
    pair.assert_end();
    pair.assert_end();
    assert_eq!(pair.pending_errno(), Some(libc::ECONNRESET));
}

#[test]
fn a_reset_after_our_fin_alone_is_a_reset() {
    let mut pair = reset_after_our_fin();
    pair.until_error();
    pair.assert_data();
    assert_eq!(pair.recv_errno(), Some(libc::ECONNRESET));
    pair.assert_end();
}

#[test]
fn after_a_reset_the_count_of_unacknowledged_bytes_stays() {
    let mut pair = Pair::new();
    pair.fill_the_way_to_the_peer();
    let before = pair.ours.unacknowledged().unwrap();
    pair.peer_resets();
    pair.until_error();
    assert!(before > 0);
    assert!(pair.ours.unacknowledged().unwrap() > 0);
}

#[test]
fn a_fin_of_ours_counts_until_it_is_acknowledged() {
    let mut pair = Pair::new();
    pair.fill_the_way_to_the_peer();
    let before = pair.ours.unacknowledged().unwrap();
    pair.ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(pair.ours.unacknowledged().unwrap(), before + 1);
}

#[test]
fn closing_with_unread_input_sends_a_reset() {
    let mut pair = Pair::new();
    pair.ours.write_all(b"unread").unwrap();
    pair.peer().peek(&mut [0; 1]).unwrap();
    pair.peer = None;
    pair.until_error();
    assert_eq!(pair.recv_errno(), Some(libc::ECONNRESET));
}

#[test]
fn bytes_for_a_closed_socket_bring_a_reset_behind_its_fin() {
    let mut pair = Pair::new();
    pair.peer_sends();
    pair.peer = None;
    let all = pair.until_end();
    assert!(!all.error, "{all:?}");
    pair.ours.write_all(b"nobody reads this").unwrap();
    pair.until_error();
    pair.assert_data();
    pair.assert_end();
    assert_eq!(pair.pending_errno(), Some(libc::EPIPE));
}

#[test]
fn a_receive_stops_at_an_urgent_mark_and_no_edge_tells_of_the_rest() {
    let mut pair = Pair::new();
    pair.peer().write_all(b"before").unwrap();
    SockRef::from(pair.peer.as_ref().unwrap()).send_out_of_band(b"!").unwrap();
    pair.peer().write_all(b"after").unwrap();
    pair.until(|all| all.urgent);
    // All of it has arrived, so that no later arrival makes an edge.
    let end = Instant::now() + PATIENCE;
    while sys::unacknowledged(pair.peer().as_fd()).unwrap() > 0 {
        assert!(Instant::now() < end, "the peer's bytes do not arrive");
    }
    pair.poll.poll(&mut Events::with_capacity(8), Some(Duration::ZERO)).unwrap();
    assert_eq!(pair.recv().unwrap(), b"before".len());
    let mut events = Events::with_capacity(8);
    pair.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty());
    assert_eq!(pair.recv().unwrap(), b"after".len());
}

#[test]
fn a_splice_says_at_an_urgent_mark_before_a_fin_that_it_is_the_end() {
    let mut pair = urgent_then_end();
    let pipe = sys::Pipe::new(256 * 1024).unwrap();
    assert_eq!(pair.ours.splice_in(&pipe, 4096).unwrap(), b"before".len());
    assert_eq!(pair.ours.splice_in(&pipe, 4096).unwrap(), 0);
    assert_eq!(pair.recv().unwrap(), b"after".len());
    assert_eq!(pair.recv().unwrap(), 0);
}

#[test]
fn a_lane_passes_on_what_comes_after_an_urgent_mark_that_came_while_it_spliced() {
    let readable = Readiness { readable: true, ..Readiness::default() };
    let source = urgent_then_end().into_endpoint(readable);
    let mut sink = Pair::new();
    let all = sink.until(|all| all.writable);
    let mut peer = sink.peer.take().unwrap();
    let (mut source, mut sink) = (source, sink.into_endpoint(all));
    let mut lane = Lane::new(None);
    let mut buffers = Buffers::new(1, RelayMode::Splice, 1);
    let pumped = pump(&mut source, &mut lane, &mut sink, &mut buffers, &mut Work::new());
    assert_eq!((pumped, lane.flow()), (Pumped::Blocked, Flow::Closed));
    drop(sink);
    let mut arrived = Vec::new();
    peer.read_to_end(&mut arrived).unwrap();
    assert_eq!(arrived, b"beforeafter");
    assert_eq!((buffers.pipes_open(), buffers.pipes_lent()), (1, 0));
}

/// Bytes, an urgent one, more bytes and a FIN, all of which have arrived.
fn urgent_then_end() -> Pair {
    let mut pair = Pair::new();
    pair.peer().write_all(b"before").unwrap();
    SockRef::from(pair.peer.as_ref().unwrap()).send_out_of_band(b"!").unwrap();
    pair.peer().write_all(b"after").unwrap();
    pair.peer_finishes();
    pair.until(|all| all.urgent && all.read_closed);
    pair
}

#[test]
fn the_endpoint_takes_a_reset_for_a_reset() {
    for make in [reset, reset_after_our_fin] {
        for told_before in [false, true] {
            let mut pair = make();
            let all = pair.until_error();
            let told = if told_before { all } else { Readiness { error: false, ..all } };
            let mut endpoint = pair.into_endpoint(told);
            assert_eq!(
                endpoint.recv(&mut [0; 4096], &mut no_buffers()),
                Received::Bytes(DATA.len())
            );
            assert_eq!(endpoint.recv(&mut [0; 4096], &mut no_buffers()), Received::Reset);
            assert_eq!(endpoint.recv(&mut [0; 4096], &mut no_buffers()), Received::Reset);
            assert!(endpoint.is_reset());
            assert_eq!(endpoint.error().unwrap().raw_os_error(), Some(libc::ECONNRESET));
            assert_eq!(endpoint.send(b"x", &mut no_buffers()), Sent::Broken);
            assert!(endpoint.is_acknowledged());
        }
    }
}

#[test]
fn the_endpoint_that_sent_first_takes_a_reset_for_a_reset() {
    let mut pair = reset();
    let all = pair.until_error();
    let mut endpoint = pair.into_endpoint(Readiness { error: false, ..all });
    assert_eq!(endpoint.send(b"x", &mut no_buffers()), Sent::Broken);
    assert_eq!(endpoint.recv(&mut [0; 4096], &mut no_buffers()), Received::Bytes(DATA.len()));
    assert_eq!(endpoint.recv(&mut [0; 4096], &mut no_buffers()), Received::Reset);
    assert!(endpoint.is_reset());
}

#[test]
fn the_endpoint_takes_a_reset_after_the_peers_fin_for_an_end() {
    for told_before in [false, true] {
        let mut pair = finished_then_reset();
        let all = pair.until_error();
        let told = if told_before { all } else { Readiness { error: false, ..all } };
        let mut endpoint = pair.into_endpoint(told);
        assert_eq!(endpoint.recv(&mut [0; 4096], &mut no_buffers()), Received::Bytes(DATA.len()));
        assert_eq!(endpoint.recv(&mut [0; 4096], &mut no_buffers()), Received::End);
        assert!(!endpoint.is_reset());
        assert_eq!(endpoint.send(b"x", &mut no_buffers()), Sent::Broken);
        assert!(endpoint.is_broken() && !endpoint.is_reset());
    }
}

#[test]
fn the_endpoint_takes_a_reset_after_both_fins_for_an_end() {
    let mut pair = Pair::new();
    pair.fill_the_way_to_the_peer();
    pair.peer_sends();
    pair.peer_finishes();
    let mut all = pair.until_end();
    let peer = pair.peer.take();
    let Pair { ours, mut poll, .. } = pair;
    let mut endpoint = Endpoint::new(ours);
    endpoint.handle_readiness(all);
    endpoint.finish();
    SockRef::from(peer.as_ref().unwrap()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let end = Instant::now() + PATIENCE;
    let mut events = Events::with_capacity(8);
    while !all.error {
        assert!(Instant::now() < end, "no error was reported");
        poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
        all.error |= events.iter().any(|event| event.is_error());
    }
    endpoint.handle_readiness(all);
    assert_eq!(endpoint.recv(&mut [0; 4096], &mut no_buffers()), Received::Bytes(DATA.len()));
    assert_eq!(endpoint.recv(&mut [0; 4096], &mut no_buffers()), Received::End);
    assert!(!endpoint.is_reset());
}

/// A UDP socket, and the address it is bound to.
fn datagram_socket(ip: impl Into<IpAddr>) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((ip.into(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A UDP socket that the kernel refuses everybody's datagrams for: it is connected to itself.
fn refusing_socket(ip: impl Into<IpAddr>) -> (UdpSocket, SocketAddr) {
    let (socket, address) = datagram_socket(ip);
    socket.connect(address).unwrap();
    (socket, address)
}

/// What arrives next.
fn next_datagram(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 65_535];
    let (len, source) = socket.recv_from(&mut bytes).unwrap();
    bytes.truncate(len);
    (bytes, source)
}

fn assert_nothing_queued(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    assert_eq!(socket.recv_from(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    socket.set_nonblocking(false).unwrap();
}

/// Waits until the kernel has an error for a socket; it stays there.
fn until_refused(socket: &UdpSocket) {
    let mut poll = Poll::new().unwrap();
    poll.registry()
        .register(&mut SourceFd(&socket.as_raw_fd()), Token(0), Interest::WRITABLE)
        .unwrap();
    let end = Instant::now() + PATIENCE;
    let mut events = Events::with_capacity(8);
    while !events.iter().any(|event| event.is_error()) {
        assert!(Instant::now() < end, "no refusal arrives");
        match poll.poll(&mut events, Some(Duration::from_millis(100))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled.unwrap(),
        }
    }
}

/// Sends one message, to be cut into segments.
fn send_run(socket: &UdpSocket, to: SocketAddr, len: usize, segment: u16) -> io::Result<usize> {
    let bytes = vec![7; len];
    let segment = NonZeroU16::new(segment);
    let parts = [IoSlice::new(&bytes)];
    sys::send_datagrams(socket.as_fd(), &[Outgoing { to: Some(to), parts: &parts, segment }])
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn connected_to_port_0_hears_from_that_address_alone(ip: impl Into<IpAddr>, other: IpAddr) {
    let ip = ip.into();
    let (socket, address) = datagram_socket(ip);
    socket.connect((ip, 0)).unwrap();
    let (stranger, _) = datagram_socket(other);
    for _ in 0..3 {
        stranger.send_to(b"stranger", address).unwrap();
        let (one, source) = datagram_socket(ip);
        one.send_to(b"one of it", address).unwrap();
        assert_eq!(next_datagram(&socket), (b"one of it".to_vec(), source));
    }
    assert_nothing_queued(&socket);
}

#[test]
fn a_udp_socket_connected_to_port_0_hears_from_that_address_alone() {
    let other = Ipv4Addr::new(127, 0, 0, 2).into();
    connected_to_port_0_hears_from_that_address_alone(Ipv4Addr::LOCALHOST, other);
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_udp_socket_of_v6_connected_to_port_0_hears_from_that_address_alone() {
    let netns = Netns::new();
    netns.add_address("fd00::2/128", "lo");
    let other = "fd00::2".parse().unwrap();
    netns.enter(|| connected_to_port_0_hears_from_that_address_alone(Ipv6Addr::LOCALHOST, other));
}

fn connecting_anew_keeps_the_local_port(ip: impl Into<IpAddr>) {
    let ip = ip.into();
    let (socket, address) = datagram_socket(ip);
    let (peer, at) = datagram_socket(ip);
    for remote in [(ip, 0).into(), at, (ip, 0).into(), at] {
        socket.connect(remote).unwrap();
        assert_eq!(socket.local_addr().unwrap(), address, "connected to {remote}");
        peer.send_to(b"still here", address).unwrap();
        assert_eq!(next_datagram(&socket), (b"still here".to_vec(), at));
    }
}

#[test]
fn a_udp_socket_that_is_connected_anew_keeps_its_local_port() {
    connecting_anew_keeps_the_local_port(Ipv4Addr::LOCALHOST);
}

#[test]
#[ignore = "needs IPv6: tests/run"]
fn a_udp_socket_of_v6_that_is_connected_anew_keeps_its_local_port() {
    connecting_anew_keeps_the_local_port(Ipv6Addr::LOCALHOST);
}

#[test]
fn datagrams_of_strangers_from_before_a_connect_are_delivered_after_it() {
    let (socket, address) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (peer, at) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (elsewhere, stranger) = datagram_socket([127, 0, 0, 2]);
    elsewhere.send_to(b"of another address", address).unwrap();
    socket.peek(&mut [0; 1]).unwrap();
    socket.connect((at.ip(), 0)).unwrap();
    assert_eq!(next_datagram(&socket), (b"of another address".to_vec(), stranger));

    let (other, other_port) = datagram_socket(Ipv4Addr::LOCALHOST);
    other.send_to(b"of another port", address).unwrap();
    socket.peek(&mut [0; 1]).unwrap();
    socket.connect(at).unwrap();
    assert_eq!(next_datagram(&socket), (b"of another port".to_vec(), other_port));

    other.send_to(b"too late", address).unwrap();
    peer.send_to(b"of the peer", address).unwrap();
    assert_eq!(next_datagram(&socket), (b"of the peer".to_vec(), at));
}

#[test]
fn a_datagram_without_a_port_is_sent_to_port_0_and_its_refusal_fails_the_next() {
    let (socket, _) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (_peer, at) = datagram_socket(Ipv4Addr::LOCALHOST);
    socket.connect((at.ip(), 0)).unwrap();
    socket.send(b"to port 0").unwrap();
    until_refused(&socket);
    assert_eq!(errno(socket.send_to(b"healthy", at)), Some(libc::ECONNREFUSED));
    socket.send_to(b"healthy", at).unwrap();
    assert_eq!(errno(socket.send_to(b"to port 0", (at.ip(), 0))), Some(libc::EINVAL));
}

#[test]
fn a_refusal_is_returned_instead_of_sending_and_once() {
    let (socket, address) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (peer, at) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (_refusing, closed) = refusing_socket(Ipv4Addr::LOCALHOST);
    socket.connect(closed).unwrap();
    let [first, second] = [&b"first"[..], b"second"].map(|bytes| [IoSlice::new(bytes)]);
    let both = [&first, &second].map(|parts| Outgoing { to: Some(at), parts, segment: None });
    for _ in 0..2 {
        socket.send(b"refused").unwrap();
        until_refused(&socket);
        assert_eq!(errno(socket.send_to(b"not sent", at)), Some(libc::ECONNREFUSED));
        socket.send_to(b"sent", at).unwrap();
        assert_eq!(next_datagram(&peer), (b"sent".to_vec(), address));

        socket.send(b"refused").unwrap();
        until_refused(&socket);
        let sent = sys::send_datagrams(socket.as_fd(), &both);
        assert_eq!(errno(sent), Some(libc::ECONNREFUSED));
        assert_eq!(sys::send_datagrams(socket.as_fd(), &both).unwrap(), 2);
        assert_eq!(next_datagram(&peer), (b"first".to_vec(), address));
        assert_eq!(next_datagram(&peer), (b"second".to_vec(), address));
    }
}

#[test]
fn a_refusal_is_received_before_what_is_queued() {
    let (socket, address) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (peer, at) = datagram_socket(Ipv4Addr::LOCALHOST);
    socket.connect(at).unwrap();
    peer.send_to(b"queued", address).unwrap();
    socket.peek(&mut [0; 1]).unwrap();
    peer.connect(at).unwrap();
    socket.send(b"refused").unwrap();
    until_refused(&socket);
    let mut batch = Batch::new();
    let received = batch.receive(socket.as_fd(), Batch::LEN_MAX);
    assert_eq!(errno(received), Some(libc::ECONNREFUSED));
    assert_eq!(batch.receive(socket.as_fd(), Batch::LEN_MAX).unwrap(), 1);
    assert_eq!(batch.messages().next().unwrap().bytes, b"queued");
}

#[test]
fn a_udp_socket_that_is_not_connected_hears_of_no_refusal() {
    let (socket, _) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (connected, _) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (_refusing, closed) = refusing_socket(Ipv4Addr::LOCALHOST);
    connected.connect(closed).unwrap();
    for _ in 0..3 {
        socket.send_to(b"refused", closed).unwrap();
        connected.send(b"refused").unwrap();
        // What is refused later is heard of later.
        until_refused(&connected);
        assert_eq!(errno(connected.send(b"not sent")), Some(libc::ECONNREFUSED));
        assert!(socket.take_error().unwrap().is_none());
    }
}

#[test]
fn sendmmsg_counts_what_it_sent_before_a_failure_and_does_not_tell_it() {
    let (socket, _) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (peer, at) = datagram_socket(Ipv4Addr::LOCALHOST);
    let too_long = vec![0; 65_508];
    let parts = [&b"first"[..], &too_long, b"last"].map(|bytes| [IoSlice::new(bytes)]);
    let messages = parts.each_ref().map(|parts| Outgoing { to: Some(at), parts, segment: None });
    let send_from = |index| sys::send_datagrams(socket.as_fd(), &messages[index..]);
    assert_eq!(send_from(0).unwrap(), 1);
    assert!(socket.take_error().unwrap().is_none());
    assert_eq!(errno(send_from(1)), Some(libc::EMSGSIZE));
    assert_eq!(send_from(2).unwrap(), 1);
    assert_eq!(next_datagram(&peer).0, b"first");
    assert_eq!(next_datagram(&peer).0, b"last");
}

#[test]
fn a_run_has_64_datagrams_and_as_many_bytes_as_one_may_have() {
    let (socket, _) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (peer, at) = datagram_socket(Ipv4Addr::LOCALHOST);
    assert_eq!(send_run(&socket, at, 64, 1).unwrap(), 1);
    for _ in 0..64 {
        assert_eq!(next_datagram(&peer).0.len(), 1);
    }
    // Newer kernels send 128.
    assert_eq!(errno(send_run(&socket, at, 129, 1)), Some(libc::EINVAL));
    assert_eq!(send_run(&socket, at, 65_507, 1472).unwrap(), 1);
    assert_eq!(errno(send_run(&socket, at, 65_508, 1472)), Some(libc::EMSGSIZE));
    let lens: Vec<_> = (0..45).map(|_| next_datagram(&peer).0.len()).collect();
    assert!(lens[..44].iter().all(|len| *len == 1472) && lens[44] == 65_507 - 44 * 1472);
    assert_nothing_queued(&peer);
}

#[test]
fn a_message_no_longer_than_its_segments_is_one_datagram() {
    let (socket, _) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (peer, at) = datagram_socket(Ipv4Addr::LOCALHOST);
    sys::prepare_datagram_socket(peer.as_fd(), 1 << 20);
    let mut batch = Batch::new();
    for len in [0, 1, 1000] {
        assert_eq!(send_run(&socket, at, len, 1000).unwrap(), 1);
        peer.peek(&mut [0; 1]).unwrap();
        assert_eq!(batch.receive(peer.as_fd(), Batch::LEN_MAX).unwrap(), 1);
        let message = batch.messages().next().unwrap();
        assert_eq!((message.bytes.len(), message.segment), (len, None));
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn segments_beyond_the_mtu_are_emsgsize_and_such_datagrams_are_not() {
    let netns = Netns::new();
    netns.run("ip link set lo mtu 1500");
    netns.enter(|| {
        for (ip, most) in
            [(IpAddr::from(Ipv4Addr::LOCALHOST), 1472), (Ipv6Addr::LOCALHOST.into(), 1452)]
        {
            let (socket, _) = datagram_socket(ip);
            let (peer, at) = datagram_socket(ip);
            assert_eq!(send_run(&socket, at, 5000, most).unwrap(), 1);
            let too_long = most + 1;
            assert_eq!(errno(send_run(&socket, at, 5000, too_long)), Some(libc::EMSGSIZE));
            socket.send_to(&vec![7; too_long.into()], at).unwrap();
            let lens = [(); 5].map(|()| next_datagram(&peer).0.len());
            let [most, too_long] = [most, too_long].map(usize::from);
            assert_eq!(lens, [most, most, most, 5000 - 3 * most, too_long]);
            assert_nothing_queued(&peer);
        }
    });
}

#[test]
fn of_a_merged_run_a_small_buffer_gets_the_front_and_the_rest_is_lost() {
    let (socket, _) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (peer, at) = datagram_socket(Ipv4Addr::LOCALHOST);
    sys::prepare_datagram_socket(peer.as_fd(), 1 << 20);
    assert_eq!(send_run(&socket, at, 10 * 1200, 1200).unwrap(), 1);
    socket.send_to(b"behind it", at).unwrap();
    assert_eq!(peer.recv(&mut [0; 2048]).unwrap(), 2048);
    assert_eq!(next_datagram(&peer).0, b"behind it");
}

#[test]
fn a_run_that_is_lost_before_it_is_split_counts_once() {
    let (socket, _) = datagram_socket(Ipv4Addr::LOCALHOST);
    let (peer, at) = datagram_socket(Ipv4Addr::LOCALHOST);
    sys::prepare_datagram_socket(peer.as_fd(), 0);
    (0..20).for_each(|_| assert_eq!(send_run(&socket, at, 1000, 100).unwrap(), 1));
    let mut batch = Batch::new();
    let (mut sent, mut received, mut lost) = (20, 0, None);
    let end = Instant::now() + PATIENCE;
    while lost.is_none() {
        assert!(Instant::now() < end, "nothing is lost, or nobody tells");
        // Each is told what was lost of those before it.
        while lost.is_none() && batch.receive(peer.as_fd(), 1).is_ok() {
            lost = batch.lost();
            received += 1;
        }
        if lost.is_none() {
            assert_eq!(send_run(&socket, at, 1000, 100).unwrap(), 1);
            sent += 1;
        }
    }
    let lost = lost.unwrap();
    assert!(lost > 0 && lost + received <= sent, "{lost} and {received} of {sent}");
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_link_local_source_comes_with_its_interface() {
    let netns = Netns::new();
    netns.add_address("fe80::1/64", "lo");
    netns.enter(|| {
        let index = sys::interface_index("lo").unwrap();
        let ip = "fe80::1".parse().unwrap();
        let socket = UdpSocket::bind(SocketAddrV6::new(ip, 0, 0, index)).unwrap();
        let at = socket.local_addr().unwrap();
        socket.send_to(b"to itself", at).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.peek(&mut [0; 1]).unwrap();
        let mut batch = Batch::new();
        assert_eq!(batch.receive(socket.as_fd(), Batch::LEN_MAX).unwrap(), 1);
        let message = batch.messages().next().unwrap();
        assert_eq!(message.source, SocketAddrV6::new(ip, at.port(), 0, index).into());
    });
}
