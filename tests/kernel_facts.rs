//! The facts of the running kernel that the relay and the simulation's model of TCP hang on.
//!
//! Each test makes two real sockets over loopback, brings one of them into the state in question,
//! and says what its calls return. Where one fails, the kernel differs from what the design
//! assumes: the relay is to be changed, and then the model in `simulation/`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, Shutdown};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use ringsocks::config::RelayMode;
use ringsocks::relay::{
    Buffers, Endpoint, Flow, Lane, Pumped, Readiness, Received, Sent, Socket, Work, pump,
};
use ringsocks::sys;
use socket2::SockRef;

const PATIENCE: Duration = Duration::from_secs(10);
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
            assert_eq!(endpoint.recv(&mut [0; 4096]), Received::Bytes(DATA.len()));
            assert_eq!(endpoint.recv(&mut [0; 4096]), Received::Reset);
            assert_eq!(endpoint.recv(&mut [0; 4096]), Received::Reset);
            assert!(endpoint.is_reset());
            assert_eq!(endpoint.error().unwrap().raw_os_error(), Some(libc::ECONNRESET));
            assert_eq!(endpoint.send(b"x"), Sent::Broken);
            assert!(endpoint.is_acknowledged());
        }
    }
}

#[test]
fn the_endpoint_that_sent_first_takes_a_reset_for_a_reset() {
    let mut pair = reset();
    let all = pair.until_error();
    let mut endpoint = pair.into_endpoint(Readiness { error: false, ..all });
    assert_eq!(endpoint.send(b"x"), Sent::Broken);
    assert_eq!(endpoint.recv(&mut [0; 4096]), Received::Bytes(DATA.len()));
    assert_eq!(endpoint.recv(&mut [0; 4096]), Received::Reset);
    assert!(endpoint.is_reset());
}

#[test]
fn the_endpoint_takes_a_reset_after_the_peers_fin_for_an_end() {
    for told_before in [false, true] {
        let mut pair = finished_then_reset();
        let all = pair.until_error();
        let told = if told_before { all } else { Readiness { error: false, ..all } };
        let mut endpoint = pair.into_endpoint(told);
        assert_eq!(endpoint.recv(&mut [0; 4096]), Received::Bytes(DATA.len()));
        assert_eq!(endpoint.recv(&mut [0; 4096]), Received::End);
        assert!(!endpoint.is_reset());
        assert_eq!(endpoint.send(b"x"), Sent::Broken);
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
    assert_eq!(endpoint.recv(&mut [0; 4096]), Received::Bytes(DATA.len()));
    assert_eq!(endpoint.recv(&mut [0; 4096]), Received::End);
    assert!(!endpoint.is_reset());
}
